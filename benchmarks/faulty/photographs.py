"""Bad photographs: thousands of damaged files and bombs through predict.py and prepro.py.

Each file must be used or skipped with one line, in 5 s and 600 MB, whatever its name; and nothing
of the good ones beside it may change.
"""

import json
import os
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from classifier.cli import printable
from faulty.row import Ended, Row, run, too_dear

COUNT = 3000  # damaged files
GROUP = 200  # that predict.py is given at a time
SECONDS, MEGABYTES = 5, 600  # a file, a process
LONG = 300  # seconds after which a process of many files hangs
SLOWEST = 40  # of all files, that are given to predict.py alone
CLASSES, EACH = 6, 20  # of the good photographs of prepro.py
PICTURES = "benchmarks/faulty/pictures.py"


def photographs_predict(row: Row, folder: Path, seed: int) -> None:
    """Put predict.py to damaged files and bombs, among good ones and alone, and to odd names."""
    make(folder, seed)
    bad, bombs, good = (sorted((folder / part).iterdir()) for part in ("bad", "bombs", "good"))
    made = run("benchmarks/inputs.py", "model", folder / "model.h5", folder=folder, limit=LONG)
    row.add("a model is made", made.err[-300:] if made.status else "")

    slowest = decoded(row, folder, [*bad, *bombs])[:SLOWEST]
    alone = {file.name: predict(folder, file) for file in good}
    expected = {name: one.get(str(folder / "good" / name)) for name, (_, one) in alone.items()}
    for name, (ended, _) in alone.items():
        row.add(f"{name} alone", _alone(ended) or ("" if expected[name] else "not told"), ended)

    with ThreadPoolExecutor(2) as pool:
        groups = pool.map(lambda files: _group(folder, files, good), _groups(folder, bad, bombs))
        for files, beside, ended, told in groups:
            problems = _problems(files, ended, told)
            for file in files:
                row.add(file.name, problems.get(file, ""))
            for file in beside:
                changed = _changed(told.get(str(file)), expected[file.name])
                row.add(f"{file.name} beside bad ones", changed)
            problem = too_dear(ended, LONG, MEGABYTES) or problems.get(None, "")
            row.add("a group of files", problem, replace(ended, seconds=0))
        tried = pool.map(lambda file: predict(folder, file), slowest)
        for file, (ended, _) in zip(slowest, tried, strict=True):
            row.add(f"{file.name} alone", _alone(ended), ended)
        _names(row, folder, good[0], expected[good[0].name], pool)


def photographs_prepro(row: Row, folder: Path, seed: int) -> None:
    """Put prepro.py to damaged files and bombs in the class folders of good photographs."""
    make(folder, seed)
    words = "benchmarks/inputs.py", "photographs", folder / "data", CLASSES, EACH
    run(*words, folder=folder, limit=LONG)
    before = prepro(folder, "before.h5")
    row.add("good photographs", before.err if before.status else "", replace(before, seconds=0))
    good = rows_of(folder / "before.h5")

    classes = sorted((folder / "data" / "train").iterdir())
    bad = []
    for number, file in enumerate(sorted([*folder.glob("bad/*"), *folder.glob("bombs/*")])):
        bad.append(classes[number % CLASSES] / file.name)
        file.rename(bad[-1])
    ended = prepro(folder, "after.h5")
    problem = ended.err[-300:] if ended.status else too_dear(ended, LONG, MEGABYTES)
    row.add("good photographs beside bad ones", problem, replace(ended, seconds=0))
    if problem:
        return
    rows = rows_of(folder / "after.h5")
    lines = ended.err.splitlines()
    skipped = Counter()
    for line in lines:
        if found := re.match(r"skipped: (('|\").*?\2): \S", line):
            skipped[literal_eval(found[1])] += 1
        elif not re.fullmatch(r"skipped \d+ files that cannot be used|.*photographs/s.*", line):
            row.add("what is told", f"another line: {line}")
    for file in bad:
        name = file.relative_to(folder / "data").as_posix()
        told = skipped[name] + (name in rows)
        row.add(file.name, "" if told == 1 else f"told {told} times")
    for name, values in good.items():
        row.add(f"{name} beside bad ones", "" if rows.get(name) == values else "other values")


def make(folder: Path, seed: int) -> None:
    """Write the files, in a process of its own: see pictures.py."""
    made = run(PICTURES, "make", folder, seed, COUNT, folder=folder, limit=LONG)
    if made.status:
        raise RuntimeError(made.err)


def decoded(row: Row, folder: Path, files: list[Path]) -> list[Path]:
    """Decode each file under a timer; return the files, the slowest first."""
    seconds = {}
    with ThreadPoolExecutor(2) as pool:
        halves = [files[0::2], files[1::2]]
        for results in pool.map(lambda half: list(_decoded(folder, half)), halves):
            for file, problem, ended in results:
                row.add(f"{file.name} decoded", problem, ended)
                seconds[file] = ended.seconds
    return sorted(files, key=seconds.get, reverse=True)


def _decoded(folder: Path, files: list[Path]) -> Iterator[tuple[Path, str, Ended]]:
    """Yield each file with what is lost in decoding it, and what that took."""
    while files:
        names = json.dumps([str(file) for file in files]).encode()
        ended = run(PICTURES, "decode", folder=folder, stdin=names, limit=LONG)
        done = [json.loads(line) for line in ended.out.splitlines()]
        for file, (_, seconds, megabytes, said) in zip(files, done, strict=False):
            cost = Ended(0, "", "", seconds, megabytes)
            problem = "" if said.isprintable() else f"not one line: {said!r}"
            yield file, problem or too_dear(cost, SECONDS, MEGABYTES), cost
        if ended.err:
            yield files[0], f"told on standard error: {ended.err[-300:]}", replace(ended, seconds=0)
        files = files[len(done) :]
        if files:  # the process ended, or was ended, at the next one
            yield files[0], "hung" if ended.hung else f"status {ended.status}", ended
            files = files[1:]


def predict(folder: Path, *words: object, cwd: Path | None = None) -> tuple[Ended, dict]:
    """Run predict.py; return how it ended, and {file: {label: probability}}."""
    words = "--model", folder / "model.h5", "--json", "--top", 3, *words
    ended = run("predict.py", *words, folder=cwd or folder, limit=LONG)
    told = {}
    for line in ended.out.splitlines():
        one = json.loads(line)
        told[one["file"]] = {p["label"]: p["probability"] for p in one["predictions"]}
    return ended, told


def _groups(folder: Path, bad: list[Path], bombs: list[Path]) -> Iterator[list[Path]]:
    """Yield folders' worth of damaged files, with a few of the bombs among each."""
    count = -(-len(bad) // GROUP)
    for number in range(count):
        yield bad[number::count] + bombs[number::count]


def _group(folder, files, good):
    """Run predict.py on a folder of files; return them there, good ones there, and what it told."""
    place = folder / f"group of {files[0].stat().st_ino}"
    place.mkdir()
    for file in (*files, *good):
        os.link(file, place / file.name)
    there = [place / file.name for file in files]
    beside = [place / file.name for file in good]
    return there, beside, *predict(folder, place)


def _problems(files, ended, told):
    """Return what is lost of the files of a group, {file: problem}; None: of the group itself."""
    problems = {}
    if ended.status or ended.hung or "Traceback" in ended.err:
        problems[None] = f"status {ended.status}: {ended.err[-300:]}"
    lines = ended.err.splitlines()
    expected = {f"skipped: {printable(file)}: ": file for file in files}
    skipped = Counter(
        file for start, file in expected.items() for line in lines if line.startswith(start)
    )
    for file in files:
        count = skipped[file] + (str(file) in told)
        if count != 1:
            problems[file] = f"told {count} times"
    other = [line for line in lines if not line.startswith("skipped")]
    if other:
        problems[None] = f"another line: {other[0]}"
    return problems


def _alone(ended):
    """Return what is lost where predict.py is given one file."""
    lines = ended.err.splitlines()
    if ended.hung or ended.status not in (0, 2) or len(lines) != (ended.status == 2):
        return f"status {ended.status}, {len(lines)} lines: {ended.err[-300:]}"
    return too_dear(ended, SECONDS, MEGABYTES)


def _changed(told, expected):
    """Return how a good file's prediction differs from what it is alone, "" where it does not."""
    if not told or not expected:
        return "not told"
    if list(told) != list(expected):
        return f"{list(told)}, not {list(expected)}"
    apart = max(abs(told[label] - expected[label]) for label in told)
    return f"probabilities {apart:.2g} apart" if apart > 1e-4 else ""


def _names(row, folder, good, expected, pool):
    """Give predict.py a good file under every odd name, one by one, and all of them as a glob."""
    from faulty.pictures import NAMES, odd_name

    place = folder / "names"
    place.mkdir()
    names = {odd_name(number, good.suffix) for number in range(len(NAMES) + 3)}
    for name in names:
        os.link(good, place / name)
    tried = pool.map(lambda name: predict(folder, "--", name, cwd=place), sorted(names))
    for name, (ended, told) in zip(sorted(names), tried, strict=True):
        row.add(f"named {name!a}", ended.err[-300:] or _changed(told.get(name), expected), ended)
    ended, told = predict(folder, "--", "*", cwd=place)
    row.add(
        "names in a glob", "" if set(told) == names and not ended.err else ended.err[-300:], ended
    )


def prepro(folder: Path, output: str) -> Ended:
    """Make arrays of the photographs in folder/data."""
    words = "--dataset-path", "data", "--output", output, "--image-size", 32, "--workers", 2
    return run("prepro.py", *words, "--target-per-class", 0, folder=folder, limit=LONG)


def rows_of(path: Path) -> dict[str, tuple[bytes, bytes, bytes]]:
    """Return the rows of an arrays file, {photograph: (pixels, one-hot label, hashes)}."""
    from classifier.data.arrays import Arrays
    from classifier.data.splits import SPLITS

    rows = {}
    with Arrays(path) as arrays:
        for split in SPLITS:
            X, Y = arrays.read(split, slice(None))
            for name, *values in zip(
                arrays.sources(split), X, Y, arrays.hashes(split), strict=True
            ):
                rows[name] = tuple(value.tobytes() for value in values)
    return rows
