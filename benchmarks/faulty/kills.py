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
from pathlib import Path

from classifier.data.download import md5
from classifier.errors import UserError
from classifier.prediction import model_file
from classifier.training.run import checkpoint_folder
from faulty.row import Ended, Row, run, start
from faulty.small import small_network
from faulty.whole import debris, not_whole

INPUTS, SMALL = "benchmarks/inputs.py", "benchmarks/faulty/small.py"
SMALL_TRAIN = (SMALL, "train.py")
REPORT = ("report.html", "report.json", "classes.csv", "mistakes.csv")
LIMIT = 300  # seconds for a command, on a machine with other things to do
# Two ways to train that have between them all state there is: momentum and Adam's moments, the
# schedule, order, crops, mixing, dropout, sizes of images, patience, and both regressions.
TRAININGS = {
    "scratch": ("--num-epochs", 7, "--dropout", 0.2, "--crop", 0.5, "--patience", 2),
    "finetune": ("--recipe", "finetune", "--init", "scratch.h5", "--freeze-stages", 2,
                 "--enlarge-to", 0, "--num-epochs", 6, "--optimizer", "adam", "-lr", 0.001,
                 "--mixup", 0.2),
}  # fmt: skip
TRAINING = ("--data", "arrays.h5", "--batch-size", 8, "--deterministic", "--tensorboard-vis",
            "--save-every-minutes")  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """When a process is killed: so many seconds after its start, or as a file is being written.

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
        seen, there = 0, False
        while self.file and seen < self.times:
            if process.poll() is not None:
                return False
            before, there = there, os.path.exists(self.file)  # noqa: PTH110 - every 0.2 ms
            seen += there and not before
            time.sleep(0.0002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.seconds)
        return process.poll() is None


def moment(chance: random.Random, seconds: float, *files: Path) -> Moment:
    """Draw a moment: at random within so many seconds, or while one of the files is written."""
    if files and chance.random() < 0.5:
        file = chance.choice(files)
        times = chance.randint(1, 3) if file.name.endswith("latest.h5") else 1  # written often
        return Moment(chance.uniform(0, 0.004), str(file), times)
    return Moment(chance.uniform(0, seconds))


def part(path: Path) -> Path:
    """Return where a file is written before it takes its name."""
    return path.with_name(f".part.{path.name}")


def killed(words: tuple, folder: Path, when: Moment) -> bool:
    """Start a command and kill it at a moment; return False if it was done before."""
    with tempfile.TemporaryFile() as out:
        process = start(*words, folder=folder, stdout=out, stderr=out)
        there = when.wait(process)
        process.kill()
        process.wait()
        while there and _group_lives(process.pid):  # its workers, which end by themselves
            time.sleep(0.01)
        return process.returncode == -signal.SIGKILL


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


def prepro(row: Row, folder: Path, seed: int, count: int = 40) -> None:
    """Kill prepro.py as it unpacks, decodes, augments and writes over older arrays."""
    prepare(folder)
    words = ("prepro.py", "--dataset-path", "unpacked", "--archive", "set.tar.gz", "--output",
             "again.h5", "--workers", 2, "--target-per-class", 400)  # fmt: skip
    places = [part(folder / "again.h5"), folder / ".again.h5.photographs",
              folder / "unpacked/.unpacking"]  # fmt: skip
    again(row, folder, seed, count, words, [folder / "unpacked", folder / "again.h5"], places)


def evaluation(row: Row, folder: Path, seed: int, count: int = 12) -> None:
    """Kill the evaluation as it writes its report and its list of mistakes over older ones."""
    made(run(INPUTS, "arrays", "arrays.h5", 64, 101, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    words = ("-m", "classifier.evaluation", "arrays.h5", "--model", "model.h5", "--report",
             "report", "--mistakes", "mistakes.csv")  # fmt: skip
    written = [folder / "mistakes.csv", *(folder / "report" / name for name in REPORT)]
    again(row, folder, seed, count, words, [folder / "report", folder / "mistakes.csv"],
          [part(path) for path in written])  # fmt: skip


def explain(row: Row, folder: Path, seed: int, count: int = 18) -> None:
    """Kill predict.py as it draws pictures over older ones."""
    made(run(INPUTS, "photographs", "set", 2, 8, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    words = ("predict.py", "set", "--model", "model.h5", "--explain", "why")
    names = [path.relative_to(folder / "set/train") for path in folder.glob("set/train/*/*")]
    places = [part(folder / "why" / f"{name}.png") for name in names]
    again(row, folder, seed, count, words, [folder / "why"], places)


def again(row, folder, seed, count, words, products, places):
    """Kill a command `count` times; after each it must do what an undisturbed one did.

    Every other time nothing is there of an earlier one.
    """
    chance = random.Random(seed)
    undisturbed = made(run(*words, folder=folder, limit=LIMIT))
    whole = content(products)
    while row.tried < count:
        for product in products if row.tried % 2 else ():
            shutil.rmtree(product) if product.is_dir() else product.unlink()
        when = moment(chance, undisturbed.seconds, *places)
        if not killed(words, folder, when):
            continue
        problem = not_whole(folder)
        last = run(*words, folder=folder, limit=LIMIT)
        if last.status:
            problem = problem or f"failed when run again: {last.err.strip()[-300:]}"
        elif content(products) != whole:
            problem = problem or "what it left is not what an undisturbed run leaves"
        row.add(str(when), problem or debris(folder), last)


def content(products: list[Path]) -> dict[str, bytes]:
    """Return the digest of each file below some paths, by its path."""
    files = [path for product in products for path in (product, *product.rglob("*"))]
    return {str(path): md5(path) for path in files if path.is_file()}


# --- training ------------------------------------------------------------------------------------


def train(row: Row, folder: Path, seed: int, count: int = 30) -> None:
    """Kill trainings of a small network, two side by side, and go on until they end."""
    stopped_and_resumed(row, folder, seed, count, killed)


def stop(row: Row, folder: Path, seed: int, count: int = 8) -> None:
    """Stop trainings by SIGINT and SIGTERM: at the step, with the command to go on."""
    stopped_and_resumed(row, folder, seed, count, signalled)


def resnet50(row: Row, folder: Path, seed: int, count: int = 2) -> None:
    """Kill a training of ResNet-50 itself, and go on until it ends."""
    prepare(folder)
    words = ("train.py", *TRAINING, 0.05, "--num-epochs", 2, "--no-progressive", "--mixup", 0.2)
    undisturbed = made(run(*words, "--model", "whole.h5", folder=folder, limit=LIMIT))
    whole, chance = outcome(folder / "whole.h5"), random.Random(seed)
    while row.tried < count:
        most = min(count - row.tried, 4)
        chain(row, folder, words, undisturbed.seconds, whole, chance, most, killed)
        shutil.rmtree(folder / "checkpoints")


@functools.cache
def undisturbed_trainings() -> tuple[tempfile.TemporaryDirectory, dict[str, dict]]:
    """Train in each of the ways; return the folder with arrays and models, and the outcomes."""
    place, whole = tempfile.TemporaryDirectory(prefix="trainings-"), {}
    folder = Path(place.name)
    prepare(folder)
    for name, flags in TRAININGS.items():  # in turn: the second starts from the first's model
        words = (*SMALL_TRAIN, *TRAINING, 0.003, *flags, "--model", f"{name}.h5")
        made(run(*words, folder=folder, limit=LIMIT))
        whole[name] = outcome(folder / f"{name}.h5")
    return place, whole


def stopped_and_resumed(row, folder, seed, count, how):
    with small_network(), ThreadPoolExecutor(2) as pool:
        undisturbed, whole = undisturbed_trainings()

        def lane(number):
            chance, done = random.Random(f"{seed} {number}"), 0
            while done < count // 2:
                name = chance.choice(list(TRAININGS))
                place = folder / f"lane{number}"
                place.mkdir()
                for file in ("arrays.h5", "scratch.h5"):
                    shutil.copy(Path(undisturbed.name, file), place)
                words, most = (*SMALL_TRAIN, *TRAINING, 0.003, *TRAININGS[name]), count // 2 - done
                done += chain(row, place, words, 16, whole[name], chance, most, how)
                shutil.rmtree(place)

        list(pool.map(lane, range(2)))


def chain(row, folder, words, seconds, whole, chance, most, how):
    """Stop one training up to `most` times, then let it end; return how often it was stopped."""
    model, cases, resume, had = folder / "cut.h5", {}, (), False
    words = (*words, "--model", model.name)
    checkpoints = checkpoint_folder(model)
    places = [part(path) for path in (checkpoints / "latest.h5", checkpoints / "best.h5", model)]
    while len(cases) < most:
        when = moment(chance, seconds, *places)
        found = how((*words, *resume), folder, when)
        resume = ("--resume",)
        if found is False:  # it was done before
            break
        lost = had and not (checkpoints / "latest.h5").exists()
        had = had or (checkpoints / "latest.h5").exists()
        found = "the checkpoint is gone" if lost else found
        case = f"{' '.join(map(str, words))}: stop {len(cases) + 1}, {when}"
        cases[case] = ("" if found is True else found) or not_whole(folder)
    kept = (checkpoints / "latest.h5").exists()
    last = run(*words, "--resume", folder=folder, limit=LIMIT)
    end = f"--resume failed: {last.err.strip()[-300:]}" if last.status else ""
    if kept != ("resuming run" in last.out):
        end = end or "it did not go on from its checkpoint"
    end = end or differs(outcome(model), whole) or debris(folder)
    for case, problem in cases.items():
        row.add(case, problem or end)
    return len(cases)


def signalled(words: tuple, folder: Path, when: Moment) -> bool | str:
    """Stop a training by SIGINT or SIGTERM at a moment: False, True or what was lost."""
    with tempfile.TemporaryFile("w+") as err:
        process = start(*words, folder=folder, stdout=subprocess.DEVNULL, stderr=err)
        if not when.wait(process):
            return False
        process.send_signal(signal.SIGTERM if int(when.seconds * 1e6) % 2 else signal.SIGINT)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return "not stopped within 60 s"
        err.seek(0)
        told = err.read()
    if status == 0:  # the signal came too late to be heard
        return False
    if status != 130 and status not in (-signal.SIGINT, -signal.SIGTERM):
        return f"status {status}: {told[-300:]}"
    if "Traceback" in told:
        return f"traceback: {told[-300:]}"
    places = re.search(r"stopped after (.*) \(.*; (?:.* is from )?(.*)\. To go on:", told)
    if places and places[1].startswith("step") and places[1] != places[2]:
        return f"it was at {places[1]}, and kept is: {places[2]}"
    return True


def outcome(model: Path) -> dict:
    """Return what a training leaves but for times and names: weights, and all figures."""
    weights, info = model_file.load_weights(model)
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
