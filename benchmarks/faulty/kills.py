"""SIGKILL at any moment, and the signals that stop: nothing is half written, and it goes on.

After each kill every file must be whole: the older one, the newer one, or none. Then the same
command is run again, a training with --resume. What it leaves must be what an undisturbed run
leaves: of a training on a processor with --deterministic, the same weights, bit for bit.
"""

import contextlib
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import h5py

from classifier.data.download import md5
from classifier.errors import UserError
from classifier.hdf5 import read_json, write_json
from classifier.training.run import checkpoint_folder
from faulty.row import Ended, Row, run, start
from faulty.whole import EXPORTS, debris, not_whole, said_by, weights_of

INPUTS, SMALL = "benchmarks/inputs.py", "benchmarks/faulty/small.py"
SMALL_TRAIN = (SMALL, "train.py")
REPORT = ("report.html", "report.json", "classes.csv", "mistakes.csv")
LIMIT = 300  # seconds for a command, on a machine with other things to do
# Two ways to train that have between them all state there is: momentum and Adam's moments, the
# schedule, order, crops, mixing, dropout, sizes of images, patience, and both regressions.
TRAININGS = {
    "scratch": ("--num-epochs", 7, "--dropout", 0.2, "--crop", 0.5, "--patience", 1),
    "finetune": ("--recipe", "finetune", "--init", "scratch.h5", "--freeze-stages", 2,
                 "--enlarge-to", 0, "--num-epochs", 6, "--optimizer", "adam", "-lr", 0.001,
                 "--mixup", 0.2),
}  # fmt: skip
TRAINING = ("--data", "arrays.h5", "--batch-size", 8, "--deterministic", "--tensorboard-vis")


@dataclass(frozen=True)
class Moment:
    """When a process is stopped: so many seconds after its start, or as a file is being written.

    Attributes:
        seconds: after the start, or after the file was seen.
        file: path of a temporary file, "" for none.
        times: how often it must have appeared.
    """

    seconds: float
    file: str = ""
    times: int = 1

    def __str__(self):
        if self.file:
            return f"{1000 * self.seconds:.1f} ms into {Path(self.file).name} for time {self.times}"
        return f"after {self.seconds:.2f} s"

    def wait(self, process: subprocess.Popen) -> bool:
        """Wait for the moment; return whether the process was still there."""
        began, seen, there = time.time(), 0, False
        while self.file and seen < self.times:
            if process.poll() is not None:
                return False
            before, there = there, _is_written_since(self.file, began)
            seen += there and not before
            time.sleep(0.0002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.seconds)
        return process.poll() is None


def _is_written_since(file: str, began: float) -> bool:
    """Return whether a file is there, and not one that an earlier process left half written."""
    try:
        return os.stat(file).st_mtime >= began  # noqa: PTH116 - every 0.2 ms
    except FileNotFoundError:
        return False


def moment(chance: random.Random, first: float, last: float, *files: Path) -> Moment:
    """Draw a moment: at random from a first to a last second, or while a file is written."""
    if files and chance.random() < 0.5:
        file = chance.choice(files)
        times = chance.randint(1, 3) if file.name.endswith("latest.h5") else 1  # written often
        return Moment(chance.uniform(0, 0.004), str(file), times)
    return Moment(chance.uniform(first, last))


def part(path: Path) -> Path:
    """Return where a file is written before it takes its name."""
    return path.with_name(f".part.{path.name}")


class End(Enum):
    """How a command ended that was to be stopped."""

    DONE = "it was done before"
    EARLY = "it was stopped before it had begun to train"
    STOPPED = "it was stopped"


def killed(words: tuple, folder: Path, when: Moment) -> tuple[End, str]:
    """Start a command and kill it at a moment; return how it ended, and what was wrong."""
    with tempfile.TemporaryFile("w+") as out:
        process = start(*words, folder=folder, stdout=out, stderr=out)
        there = when.wait(process)
        process.kill()
        status = process.wait()
        while there and _group_lives(process.pid):  # its workers, which end by themselves
            time.sleep(0.01)
        out.seek(0)
        return _ended(status, (-signal.SIGKILL,), out.read())


def _ended(status, stopped, told):
    if status == 0:
        return End.DONE, ""
    return End.STOPPED, "" if status in stopped else f"status {status}: {told[-300:]}"


def _group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def made(ended: Ended) -> Ended:
    """Return a command's end; raise UserError if it failed."""
    if ended.status:
        raise UserError(f"a command failed without a fault: {ended.err.strip()[-300:]}")
    return ended


def prepare(folder: Path) -> None:
    """Make photographs, an archive of them, and their arrays in `folder`."""
    made(run(INPUTS, "photographs", "set", 4, 25, folder=folder, limit=LIMIT))
    with tarfile.open(folder / "set.tar.gz", "w:gz") as tar:
        tar.add(folder / "set/train", "101_ObjectCategories")
    made(run("prepro.py", "--dataset-path", "set", "--image-size", 48, "--target-per-class", 40,
             "--output", "arrays.h5", folder=folder, limit=LIMIT))  # fmt: skip


# --- prepro, evaluation, explanations ------------------------------------------------------------


def prepro(row: Row, folder: Path, seed: int, count: int = 46) -> None:
    """Kill prepro.py as it unpacks, decodes, augments and writes over older arrays."""
    prepare(folder)
    words = ("prepro.py", "--dataset-path", "unpacked", "--archive", "set.tar.gz", "--output",
             "again.h5", "--workers", 2, "--target-per-class", 400)  # fmt: skip
    places = [part(folder / "again.h5"), folder / ".again.h5.photographs",
              folder / "unpacked/.unpacking"]  # fmt: skip
    other = (*words, "--seed", 1)
    again(row, folder, seed, count, words, other, [folder / "unpacked", folder / "again.h5"],
          places)  # fmt: skip


def evaluation(row: Row, folder: Path, seed: int, count: int = 12) -> None:
    """Kill the evaluation as it writes its report and its list of mistakes over older ones."""
    made(run(INPUTS, "arrays", "arrays.h5", 64, 101, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    words = ("-m", "classifier.evaluation", "arrays.h5", "--model", "model.h5", "--report",
             "report", "--mistakes", "mistakes.csv")  # fmt: skip
    made(run(INPUTS, "arrays", "other.h5", 64, 60, folder=folder, limit=LIMIT))
    other = (*words[:2], "other.h5", *words[3:])
    written = [folder / "mistakes.csv", *(folder / "report" / name for name in REPORT)]
    again(row, folder, seed, count, words, other, [folder / "report", folder / "mistakes.csv"],
          [part(path) for path in written])  # fmt: skip


def explain(row: Row, folder: Path, seed: int, count: int = 18) -> None:
    """Kill predict.py as it draws pictures over older ones."""
    made(run(INPUTS, "photographs", "set", 2, 8, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    words = ("predict.py", "set", "--model", "model.h5", "--explain", "why")
    other_temperature(folder / "model.h5", folder / "other.h5")
    other = ("predict.py", "set", "--model", "other.h5", "--explain", "why")
    names = [path.relative_to(folder / "set/train") for path in folder.glob("set/train/*/*")]
    places = [part(folder / "why" / f"{name}.png") for name in names]
    again(row, folder, seed, count, words, other, [folder / "why"], places)


def export(row: Row, folder: Path, seed: int, count: int = 12) -> None:
    """Kill the export as it writes over an older file, and an older folder."""
    prepare(folder)
    made(run(*SMALL_TRAIN, *TRAINING, "--num-epochs", 1, "--model", "model.h5", folder=folder,
             limit=LIMIT))  # fmt: skip
    other_temperature(folder / "model.h5", folder / "other.h5")
    for tried, to, product in ((count // 2, "onnx", "out.onnx"), (count, "openvino", "out")):
        words = (SMALL, "classifier.export", "model.h5", "--to", to, "--output", product,
                 "--data", "arrays.h5")  # fmt: skip
        other = (*words[:2], "other.h5", *words[3:])
        again(row, folder, seed, tried, words, other, [folder / product],
              [part(folder / product)])  # fmt: skip


def again(row, folder, seed, count, words, other, products, places):
    """Kill a command until the row has `count` tries; each must end as an undisturbed one does.

    Every other time there are the older files that another command has left, else none.
    """
    chance = random.Random(seed)
    made(run(*other, folder=folder, limit=LIMIT))
    old = content(products)
    with tempfile.TemporaryDirectory(prefix="older-") as kept:
        for product in products:
            shutil.move(product, kept)
        undisturbed = made(run(*words, folder=folder, limit=LIMIT))
        new = content(products)
        if new == old:
            raise UserError("the older files are to be told from the newer")
        while row.tried < count:
            older = old if row.tried % 2 else {}
            put_back(products, Path(kept), bool(older))
            when = moment(chance, 0, undisturbed.seconds, *places)
            end, problem = killed(words, folder, when)
            if end is End.DONE:
                continue
            problem = problem or not_whole(folder) or neither(content(products), older, new)
            last = run(*words, folder=folder, limit=LIMIT)
            if last.status:
                problem = problem or f"failed when run again: {last.err.strip()[-300:]}"
            elif content(products) != new:
                problem = problem or "what it left is not what an undisturbed run leaves"
            row.add(str(when), problem or debris(folder), last)


def other_temperature(model: Path, other: Path) -> None:
    """Write a model that differs from another by its temperature."""
    shutil.copy(model, other)
    with h5py.File(other, "r+") as file:
        info = read_json(file, "classifier")
        del file["classifier"]
        write_json(file, "classifier", info | {"temperature": 0.1})


def put_back(products: list[Path], kept: Path, older: bool) -> None:
    """Remove the products, and put the older ones in their place if there are to be any."""
    for product in products:
        if product.is_dir():
            shutil.rmtree(product)
        else:
            product.unlink(missing_ok=True)
        if older:
            source = kept / product.name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, product)


def content(products: list[Path]) -> dict[str, bytes | str]:
    """Return the digest of each file below some paths, by its path, but for temporary files.

    Of an exported network it is what that says, for its parts stand in another order each time.
    """
    return {
        str(path): said_by(path) if path.suffix in EXPORTS else md5(path)
        for product in products
        for path in (product, *product.rglob("*"))
        if path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(product).parts)
        and path.name != "model.bin"  # which belongs to model.xml
    }


def neither(found: dict[str, bytes], older: dict[str, bytes], newer: dict[str, bytes]) -> str:
    """Return which file is neither the older nor the newer one, or gone; "" if none is."""
    for name in older.keys() - found.keys():
        return f"{name} is gone"
    for name, digest in found.items():
        if digest not in (older.get(name), newer.get(name)):
            return f"{name} is neither the older nor the newer one"
    return ""


# --- training ------------------------------------------------------------------------------------


def train(row: Row, folder: Path, seed: int, count: int = 24) -> None:
    """Kill trainings of a small network, two side by side, and go on until they end."""
    stopped_and_resumed(row, folder, seed, count, killed)


def stop(row: Row, folder: Path, seed: int, count: int = 8) -> None:
    """Stop trainings by SIGINT and SIGTERM: at the step, with the command to go on."""
    stopped_and_resumed(row, folder, seed, count, signalled)


def resnet50(row: Row, folder: Path, seed: int, count: int = 2) -> None:
    """Kill a training of ResNet-50 itself, and go on until it ends."""
    prepare(folder)
    words = ("train.py", *TRAINING, "--num-epochs", 2, "--no-progressive", "--mixup", 0.2,
             "--save-every-minutes", 0.05)  # fmt: skip
    undisturbed = made(run(*words, "--model", "whole.h5", folder=folder, limit=LIMIT))
    whole, chance = outcome(folder / "whole.h5"), random.Random(seed)
    while row.tried < count:
        most = min(count - row.tried, 4)
        chain(row, folder, words, undisturbed.seconds, whole, chance, most, killed)
        shutil.rmtree(folder / "checkpoints")


@functools.cache
def undisturbed_trainings() -> tuple[tempfile.TemporaryDirectory, dict[str, tuple]]:
    """Train in each way; return the folder with arrays and models, the seconds and outcomes."""
    place, whole = tempfile.TemporaryDirectory(prefix="trainings-"), {}
    folder = Path(place.name)
    prepare(folder)
    for name, flags in TRAININGS.items():  # in turn: the second starts from the first's model
        ended = made(run(*small_training(name), "--model", f"{name}.h5", folder=folder,
                         limit=LIMIT))  # fmt: skip
        whole[name] = ended.seconds, outcome(folder / f"{name}.h5")
        if "--patience" in flags and "stopping" not in ended.out:
            raise UserError(f"{name}: it was to be stopped by its patience")
    return place, whole


def small_training(name):
    return (*SMALL_TRAIN, *TRAINING, "--save-every-minutes", 0.003, *TRAININGS[name])


def stopped_and_resumed(row, folder, seed, count, how):
    undisturbed, whole = undisturbed_trainings()

    def lane(number):
        chance, done = random.Random(f"{seed} {number}"), 0
        while done < count // 2:
            name = chance.choice(list(TRAININGS))
            place = folder / f"lane{number}"
            place.mkdir()
            for file in ("arrays.h5", "scratch.h5"):
                shutil.copy(Path(undisturbed.name, file), place)
            words, most = small_training(name), count // 2 - done
            done += chain(row, place, words, *whole[name], chance, most, how)
            shutil.rmtree(place)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lane, range(2)))


def chain(row, folder, words, seconds, whole, chance, most, how):
    """Stop one training up to `most` times, then let it end; return how often it was stopped.

    A stop counts if there is a checkpoint to go on from; by a signal, if the training told where
    it was.
    """
    model, cases, resume, had = folder / "cut.h5", {}, (), False
    words = (*words, "--model", model.name)
    checkpoints = checkpoint_folder(model)
    latest = checkpoints / "latest.h5"
    places = [part(path) for path in (latest, checkpoints / "best.h5", model)]
    while len(cases) < most:
        when = moment(chance, 0.4 * seconds, seconds, *places)
        end, problem = how((*words, *resume), folder, when)
        resume = ("--resume",)
        if end is End.DONE:
            break
        if had and not latest.exists():
            problem = problem or "the checkpoint is gone"
        had = had or latest.exists()
        problem = problem or not_whole(folder)
        if problem or (had and end is End.STOPPED):
            cases[f"{' '.join(map(str, words))}: stop {len(cases) + 1}, {when}"] = problem
    last = run(*words, "--resume", folder=folder, limit=LIMIT)
    end = f"--resume failed: {last.err.strip()[-300:]}" if last.status else ""
    if had and "resuming run" not in last.out:
        end = end or "it did not go on from its checkpoint"
    end = end or differs(outcome(model), whole) or debris(folder)
    for case, problem in cases.items():
        row.add(case, problem or end)
    return len(cases)


def signalled(words: tuple, folder: Path, when: Moment) -> tuple[End, str]:
    """Stop a training by SIGINT or SIGTERM at a moment; return how it ended, and what was lost."""
    with tempfile.TemporaryFile("w+") as err:
        process = start(*words, folder=folder, stdout=subprocess.DEVNULL, stderr=err)
        if when.wait(process):
            process.send_signal(signal.SIGTERM if int(when.seconds * 1e6) % 2 else signal.SIGINT)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return End.STOPPED, "not stopped within 60 s"
        err.seek(0)
        told = err.read()
    end, problem = _ended(status, (130, -signal.SIGINT, -signal.SIGTERM), told)
    if "Traceback" in told:
        problem = f"traceback: {told[-300:]}"
    if end is End.DONE or problem:
        return end, problem
    at = re.search(r"stopped after (.*) \(.*; (?:.* is from )?(.*)\. To go on:", told)
    if not at or not at[1].startswith(("step", "the end of epoch")):
        return End.EARLY, ""
    return end, "" if at[1] == at[2] else f"it was at {at[1]}, and kept is: {at[2]}"


def outcome(model: Path) -> dict:
    """Return what a training leaves but for times and names: weights, and all figures."""
    weights, info = weights_of(model)
    training = info.training
    kept = {name: training[name] for name in ("start", "history", "end", "val", "test")}
    for figures in kept.values():
        figures.pop("minutes", None)
    return {
        "weights": {f"{a} {b}": v for a, layer in weights.items() for b, v in layer.items()},
        "figures": [kept, training["best_epoch"], training["images"], info.temperature],
    }


def differs(left: dict, whole: dict) -> str:
    """Return in what an outcome differs from an undisturbed run's, "" if in nothing."""
    other = [
        name
        for name, value in whole["weights"].items()
        if value.tobytes() != left["weights"][name].tobytes()
    ]
    if other:
        return f"{len(other)} of {len(whole['weights'])} weights differ, {other[0]} first"
    return "" if left["figures"] == whole["figures"] else "the figures differ"
