"""Runs as people start them: two at once, on other arrays, on odd data; and one answer each way."""

import json
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from classifier.hdf5 import read_json, write_json
from faulty.kills import INPUTS, LIMIT, SMALL, SMALL_TRAIN, made, prepare
from faulty.row import Row, not_refused, run, start
from faulty.whole import debris, not_whole

TRAIN = ("--data", "arrays.h5", "--batch-size", 8, "--precision", "float32")
TOLERANCE = 1e-5  # of probabilities


# --- two at once ---------------------------------------------------------------------------------


def two_at_once(row: Row, folder: Path, seed: int) -> None:
    """Start a command while another one writes the same file, and several at the same time."""
    prepare(folder)
    made(run(INPUTS, "arrays", "judged.h5", 64, 202, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    train = (*SMALL_TRAIN, *TRAIN, "--num-epochs", 2, "--restart", "--model")
    commands = {
        ".one.h5.lock": (*train, "one.h5"),
        ".two.h5.lock": ("prepro.py", "--dataset-path", "set", "--target-per-class", 4000,
                         "--output", "two.h5"),
        "new/.train.lock": ("prepro.py", "--dataset-path", "new", "--archive", "set.tar.gz"),
    }  # fmt: skip
    for lock, words in commands.items():
        for _ in range(3):
            shutil.rmtree(folder / "new", ignore_errors=True)
            row.add(f"{words[0]} while another one has {lock}", second(folder, lock, words))
        for count in (2, 3):
            shutil.rmtree(folder / "new", ignore_errors=True)
            row.add(f"{count} times {words[0]} at once", at_once(folder, [words] * count))
    others = [(*train, f"{name}.h5") for name in ("three", "four")]
    row.add("two models at once", at_once(folder, others, refuse=False))
    judge = ("-m", "classifier.evaluation", "judged.h5", "--model", "model.h5", "--report", "page")
    row.add("two evaluations into one report", at_once(folder, [judge] * 2))


def second(folder, lock, words):
    """Start a command once another one holds the lock: it must refuse, and the first go on."""
    with tempfile.TemporaryFile() as out:
        first = start(*words, folder=folder, stdout=out, stderr=out)
        while first.poll() is None and not (folder / lock).exists():
            time.sleep(0.0005)
        seen = first.poll() is None
        ended = run(*words, folder=folder, limit=LIMIT)
        meanwhile = first.poll() is not None
        status = first.wait(LIMIT)
    if not seen or status:
        return f"no lock was seen, or the first one ended with status {status}"
    if ended.status == 0:
        problem = "" if meanwhile else "it wrote what another one was writing"
    else:
        problem = not_refused(ended, seconds=LIMIT, megabytes=math.inf)
        if "another process is writing it" not in ended.err:
            problem = problem or f"refused for another reason: {ended.err}"
    return problem or not_whole(folder) or debris(folder)


def at_once(folder, commands, refuse=True):
    """Start commands at the same time: at least one does its work, the others may refuse."""
    with tempfile.TemporaryFile("w+") as out:
        running = [
            start(*words, folder=folder, stdout=subprocess.DEVNULL, stderr=out)
            for words in commands
        ]
        statuses = [process.wait(LIMIT) for process in running]
        out.seek(0)
        told = out.read()
    if not set(statuses) <= ({0, 2} if refuse else {0}) or 0 not in statuses or "Traceback" in told:
        return f"statuses {statuses}: {told[-300:]}"
    return not_whole(folder) or debris(folder)


# --- other arrays --------------------------------------------------------------------------------


def other_arrays(row: Row, folder: Path, seed: int) -> None:
    """Go on with a training on arrays that are not the ones it began with, and on those it did."""
    prepare(folder)
    words = (*SMALL_TRAIN, *TRAIN, "--model", "one.h5", "--num-epochs", 3, "--patience", 0)
    running = start(*words, "--save-every-minutes", 0.001, folder=folder,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    latest = folder / "checkpoints/one/latest.h5"
    while running.poll() is None and not latest.exists():
        time.sleep(0.01)
    running.kill()
    running.wait()
    made(run("prepro.py", "--dataset-path", "set", "--image-size", 48, "--target-per-class", 40,
             "--seed", 1, "--output", "seed.h5", folder=folder, limit=LIMIT))  # fmt: skip
    before = latest.read_bytes()
    for name, change in changes(np.random.default_rng(seed)):
        other = folder / "other.h5"
        shutil.copy(folder / ("seed.h5" if change is None else "arrays.h5"), other)
        if change:
            with h5py.File(other, "r+") as file:
                change(file)
        ended = run(*words, "--resume", "--data", "other.h5", folder=folder, limit=LIMIT)
        problem = not_refused(ended) or ("" if latest.read_bytes() == before else "checkpoint lost")
        row.add(name, problem, ended)
    shutil.move(folder / "arrays.h5", folder / "moved.h5")
    ended = run(*words, "--resume", "--data", "moved.h5", folder=folder, limit=LIMIT)
    row.add("the same arrays elsewhere", ended.err[-300:] if ended.status else "")


def changes(chance: np.random.Generator) -> Iterator[tuple[str, Callable | None]]:
    """Yield (what is done to arrays, in words; function that does it; None: another seed's)."""
    yield "another seed", None
    for split in ("train", "val", "test"):
        for part in ("X", "Y", "source", "copy", "hash"):
            yield f"one byte of {split}/{part}", one_byte(split, part, chance)
    yield "one pixel, fingerprint forged", forged


def one_byte(split, part, chance):
    def change(file):
        values = file[split][part][()]
        flat = values.view(np.uint8).reshape(-1)
        flat[chance.integers(flat.size)] ^= 1 << chance.integers(8)
        file[split][part][...] = values

    return change


def forged(file):
    file["train/X"][0, 0, 0, 0] ^= 1
    kept = read_json(file, "description")
    del file["description"]
    write_json(file, "description", {**kept, "fingerprint": "0" * 32})


# --- odd data, and numbers that explode ----------------------------------------------------------


def odd_data(row: Row, folder: Path, seed: int) -> None:
    """Take data of odd shapes all the way from prepro.py to predict.py."""
    chance = np.random.default_rng(seed)
    few = {f"class_{n}": n for n in (1, 2, 3, 4, 9, 30)}
    two, many = {"a": 12, "b": 12}, {f"{n:03}": 5 for n in range(1000)}
    cases = {
        "classes of 1, 2, 3, 4, 9 and 30 photographs": (few, 32, True),
        "the same, none held for val": (few, 32, True, "--val-per-class", 0),
        "2 classes": (two, 32, True),
        "1,000 classes": (many, 32, True),
        "512 pixels": (two, 512, True),
        "512 pixels, ResNet-50 itself": (two, 512, False),
    }
    for number, (name, (classes, size, small, *words)) in enumerate(cases.items()):
        place = folder / str(number)
        photographs(place, classes, chance)
        program = (SMALL,) if small else ()
        commands = [
            ("prepro.py", "--dataset-path", "set", "--image-size", size, "--target-per-class", 0,
             *words),
            (*program, "train.py", "--data", "set.h5", "--num-epochs", 1, "--batch-size", 4,
             "--model", "model.h5", "--crop", 0, "--mixup", 0),
            (*program, "predict.py", f"set/train/{next(iter(classes))}",
             "--model", "model.h5", "--json"),
        ]  # fmt: skip
        if classes is few:
            tuned = ("--recipe", "finetune", "--init", "model.h5", "--enlarge-to", 0)
            commands += [
                (SMALL, "train.py", "--data", "set.h5", "--num-epochs", 1, "--batch-size", 4,
                 "--model", "tuned.h5", *tuned),
                (SMALL, "classifier.evaluation", "set.h5", "--model", "tuned.h5"),
            ]  # fmt: skip
        problem = ""
        for command in commands:
            ended = run(*command, folder=place, limit=LIMIT)
            if ended.status or "Traceback" in ended.err:
                problem = f"{command[:3]}: {ended.err.strip()[-300:]}"
                break
        row.add(name, problem)


def photographs(folder: Path, classes: dict[str, int], chance: np.random.Generator) -> None:
    """Write FOLDER/set/train/<class>/*.png, so many of each class, of random numbers."""
    for name, count in classes.items():
        place = folder / "set/train" / name
        place.mkdir(parents=True)
        for number in range(count):
            pixels = chance.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")


def explosions(row: Row, folder: Path, seed: int) -> None:
    """Train at rates at which the loss explodes: advice in one line, the best model kept."""
    prepare(folder)
    train = (*SMALL_TRAIN, *TRAIN, "--model", "one.h5")
    made(run(*train, "--num-epochs", 1, folder=folder, limit=LIMIT))
    older, best = (folder / "one.h5").read_bytes(), folder / "checkpoints/one/best.h5"
    late = ("--num-epochs", 60, "--warmup", 0.9, "-lr", 100, "--weight-decay", 1, "--patience", 0)
    cases = {
        "at once": ("--num-epochs", 2, "-lr", 100, "--weight-decay", 1, "--schedule", "constant"),
        "at once, bfloat16": ("--num-epochs", 2, "-lr", 100, "--weight-decay", 1, "--precision",
                              "bfloat16"),
        "late": late,
        "late, Adam": (*late, "--optimizer", "adam"),
    }  # fmt: skip
    for name, words in cases.items():
        ended = run(*train, *words, "--restart", folder=folder, limit=LIMIT)
        problem = not_refused(ended, seconds=LIMIT, megabytes=4000)
        if "--learning-rate" not in ended.err:
            problem = problem or "no advice"
        if name.startswith("late") and not best.exists():
            problem = problem or "the best model is not kept"
        if (folder / "one.h5").read_bytes() != older:
            problem = problem or "the older model is lost"
        row.add(name, problem or not_whole(folder))


# --- the same answer -----------------------------------------------------------------------------


def same_answer(row: Row, folder: Path, seed: int) -> None:
    """Name photographs alone, among others, from standard input, in NumPy and in Keras."""
    made(run(INPUTS, "photographs", "set", 4, 5, folder=folder, limit=LIMIT))
    made(run(INPUTS, "model", "model.h5", folder=folder, limit=LIMIT))
    files = sorted(str(path.relative_to(folder)) for path in folder.glob("set/train/*/*"))
    alone = {name: named(folder, name)[name] for name in files}
    others = {
        "among others": named(folder, "set"),
        "among others, in Keras": named(folder, "set", "--runtime", "keras"),
        "alone, in Keras": {n: named(folder, n, "--runtime", "keras")[n] for n in files[:3]},
        "on standard input": {
            n: named(folder, "-", stdin=(folder / n).read_bytes())["-"] for n in files
        },
    }
    for way, found in others.items():
        for name, answer in found.items():
            row.add(f"{name} {way}", other_answer(answer, alone[name]))


def named(folder: Path, *words: object, stdin: bytes | None = None) -> dict[str, dict]:
    """Return what predict.py says of images: {file: {label: probability}}, likeliest first."""
    ended = made(run("predict.py", *words, "--json", "--top", 101, "--model", "model.h5",
                     folder=folder, limit=LIMIT, stdin=stdin))  # fmt: skip
    answers = map(json.loads, ended.out.splitlines())
    return {
        answer["file"]: {part["label"]: part["probability"] for part in answer["predictions"]}
        for answer in answers
    }


def other_answer(found: dict[str, float], expected: dict[str, float]) -> str:
    """Return how an answer differs from the expected one by more than TOLERANCE, "" where not."""
    if next(iter(found)) != next(iter(expected)):
        return f"named {next(iter(found))}, not {next(iter(expected))}"
    largest = max(abs(found[label] - value) for label, value in expected.items())
    return f"probabilities differ by {largest:.1e}" if largest > TOLERANCE else ""
