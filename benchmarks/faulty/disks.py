"""Full and read-only disks: one line, and what was good before still is, whichever write fails.

A case is a command in a folder that is a file system of its own, a tmpfs with older artefacts and
so much room, or none at all. Where none can be mounted, files may not grow beyond a size instead.
"""

import functools
import hashlib
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faulty.archives import photographs, tar
from faulty.kills import SMALL
from faulty.row import Ended, Row, not_refused, run
from faulty.whole import read

PAGE = 4096


def script(first: str = "", before: str = "", command: str = '"$@"', behind: str = "") -> str:
    """Return a script that runs a command in a folder with what is to be there before.

    It is given the folder, older artefacts, a folder for all that is there at the end, bytes of
    room, and the command's words.

    Args:
        first: done first of all.
        before: done before the command.
        command: that runs it.
        behind: done behind it.
    """
    return f"""
place=$1 old=$2 after=$3 room=$4; shift 4
{first or ":"} && cp -a "$old/." "$place" && cd "$place" || exit 99
{before}
{command}
status=$?
{behind}
cp -a . "$after"; exit $status
"""


MOUNT = 'mount -t tmpfs -o size=1g none "$place"'
# What lies in the folder "roomy" has a disk of its own.
SHRINK = """
[ -d roomy ] && mount -t tmpfs none roomy && cp -a "$old/roomy/." roomy
if [ "$room" ]; then
    used=$(df -B1 --output=used . | tail -1)
    mount -o remount,size=$((used + room > 0 ? used + room : 4096)) "$place" || exit 99
fi
"""
FULL = script(MOUNT, SHRINK)
LIMITED = script(command='(trap "" XFSZ; [ "$room" ] && ulimit -f $((room / 1024 + 4)); "$@")')
READ_ONLY = script(MOUNT, 'mount -o remount,ro "$place" || exit 99')
PLAIN = script()
NOWHERE_TO_PRINT = script(command='"$@" > /dev/full')
MOUNTED_OVER = script(before='mount --bind "$old/X.h5" X.h5 || exit 99', behind="umount X.h5")
IMMUTABLE = script(before="chattr +i X.h5 || exit 99", behind="chattr -i X.h5")
DANGLING = script(before="ln -sf nowhere/X.h5 X.h5")


@dataclass
class Command:
    """A command that writes.

    Attributes:
        name: of it.
        words: of its command line, run in the folder that is filled.
        old: folder of what is there before.
        most: cases of it.
        beyond: bytes of room, in its one case, beyond all that it leaves; 0: not so.
    """

    name: str
    words: tuple
    old: Path
    most: int
    beyond: int = 0


@functools.cache
def can_mount() -> bool:
    """Return whether file systems can be mounted here, as root can."""
    mount = "mount -t tmpfs none /mnt"
    return not subprocess.run(
        ["unshare", "-m", "bash", "-c", mount], capture_output=True
    ).returncode


def can_be_immutable(folder: Path) -> bool:
    """Return whether files there can be made so, as by root on most file systems."""
    (folder / "immutable").touch()
    turns = [["chattr", turn, folder / "immutable"] for turn in ("+i", "-i")]
    return not any(subprocess.run(words, capture_output=True).returncode for words in turns)


@dataclass
class Made:
    """What there is before: photographs, arrays, a model and its card, a report."""

    folder: Path

    def __post_init__(self):
        self.photos, self.arrays = self.folder / "photos", self.folder / "arrays.h5"
        self.archive, self.model = self.folder / "archive", self.folder / "model.h5"
        self.report = self.folder / "report"
        self.archive.write_bytes(tar(*photographs()))
        self._run("benchmarks/inputs.py", "photographs", self.photos, 3, 12)
        self._run("prepro.py", "--dataset-path", self.photos, "--output", self.arrays,
                  "--image-size", 32, "--target-per-class", 24)  # fmt: skip
        self._run(SMALL, "train.py", *self.training(self.model, self.folder / "logs"))
        self._run(SMALL, *self.judging(self.report))

    def _run(self, *words):
        ended = run(*words, folder=self.folder, limit=120)
        if ended.status:
            raise RuntimeError(f"{words[2:4]}: {ended.err[-500:]}")

    def training(self, model: Path | str, logs: Path | str) -> tuple:
        """Return the flags of a short training."""
        return (
            "--data", self.arrays, "--model", model, "--logs", logs, "--batch-size", 24,
            "--num-epochs", 1, "--precision", "float32", "--tensorboard-vis",
        )  # fmt: skip

    def judging(self, report: Path | str) -> tuple:
        """Return the words by which the model is judged."""
        return "classifier.evaluation", self.arrays, "--model", self.model, "--report", report

    def old(self, name: str, **files: Path | bytes) -> Path:
        """Return a new folder with these files and folders in it; _ stands for a dot."""
        place = self.folder / "old" / name
        place.mkdir(parents=True)
        for file, content in files.items():
            target = place / file.replace("_", ".")
            if isinstance(content, bytes):
                target.write_bytes(content)
            elif content.is_dir():
                shutil.copytree(content, target)
            else:
                shutil.copy(content, target)
        return place

    @functools.cached_property
    def printers(self) -> list[Command]:
        """The commands that write nothing but what they print."""
        nothing = self.old("nothing")
        photo = next(self.photos.rglob("*.jpg"))
        predict = (SMALL, "predict.py", "--model", self.model, photo)
        return [
            Command(name, words, nothing, 1)
            for name, words in {
                "predict.py": predict,
                "predict.py --json": (*predict, "--json"),
                "predict.py --csv": (*predict, "--csv"),
                "predict.py --help": ("predict.py", "--help"),
                "prepro.py --audit": ("prepro.py", "--audit", "--output", self.arrays),
                "classifier.data.arrays": ("-m", "classifier.data.arrays", self.arrays),
            }.items()
        ]

    def printing(self) -> list[Command]:
        """Return the commands whose print is put to the test."""
        some = ("prepro.py", "evaluation", "predict.py --explain", "train.py")
        return [command for command in self.commands if command.name in some] + self.printers

    def in_the_way(self) -> Iterator[tuple[str, Command]]:
        """Yield commands where something else stands at the place of a file or folder."""
        train = (SMALL, "train.py", *self.training("model.h5", "logs"))
        prepro = ("prepro.py", "--output", "X.h5", "--image-size", 32, "--dataset-path")
        judging = (SMALL, *self.judging("report"), "--mistakes", "m.csv")
        predict = (SMALL, "predict.py", next(self.photos.rglob("*.jpg")), "--model",
                   self.model, "--explain")  # fmt: skip
        folder, file = self.report, b"something else"
        for number, (name, words, files) in enumerate((
            ("prepro.py: arrays", (*prepro, self.photos), {"X_h5": folder}),
            ("prepro.py: data set", (*prepro, "set", "--archive", self.archive), {"set": file}),
            ("evaluation: report", judging, {"report": file}),
            ("evaluation: mistakes", judging, {"m_csv": folder}),
            ("predict.py: no picture of ours", (*predict, "a.png"), {"a_png": file}),
            ("predict.py: folder", (*predict, "out"), {"out": file}),
            ("train.py: model", train, {"model_h5": folder}),
            ("train.py: card", train, {"model_md": file}),
            ("train.py: logs", train, {"logs": file}),
            ("train.py: checkpoints", train, {"checkpoints": file}),
        )):  # fmt: skip
            yield (
                f"{name}: something is in the way",
                Command(name, words, self.old(f"in the way {number}", **files), 1),
            )

    @functools.cached_property
    def commands(self) -> list[Command]:
        """All commands that write files."""
        photo, *more = list(self.photos.rglob("*.jpg"))[:4]
        prepro = ("prepro.py", "--output", "X.h5", "--image-size", 32, "--workers", 1)
        small, report = ("--target-per-class", 0), self.report
        judging = (SMALL, *self.judging("report"), "--mistakes", "m.csv")
        predict = (SMALL, "predict.py", "--model", self.model, photo)
        export = (SMALL, "classifier.export", self.model, "--no-verify", "--to")
        training = lambda *places: (SMALL, "train.py", *self.training(*places))  # noqa: E731
        models = self.old("models", model_h5=self.model, model_md=self.model.with_suffix(".md"))
        beside = self.old("beside", roomy=models)
        (models / "roomy").mkdir()
        nothing = self.old("first of all")
        found = {
            "prepro.py": (14, self.old("prepro", X_h5=b"older arrays"),
                          (*prepro, "--dataset-path", self.photos, "--target-per-class", 24)),
            "prepro.py --archive": (
                10, self.old("archive", X_h5=b"older arrays"),
                (*prepro, *small, "--archive", self.archive, "--dataset-path", "set")),
            "prepro.py --sample": (3, self.old("sample", X_h5=b"older arrays"),
                                   (*prepro, *small, "--sample", "--dataset-path", "set")),
            "evaluation": (7, nothing, judging),
            "evaluation, again": (
                4, self.old("report", report=report, m_csv=report / "mistakes.csv"), judging),
            "predict.py --explain": (3, nothing, (*predict, "--explain", "a.png")),
            "predict.py --explain, many": (5, nothing, (*predict, *more, "--explain", "out")),
            "export": (4, nothing, (*export, "keras", "--output", "m.keras")),
            "export, a folder": (4, nothing, (*export, "savedmodel", "--output", "m")),
            "train.py": (3, models, training("model.h5", "roomy/logs")),
            "train.py, a second epoch": (
                1, models, (*training("model.h5", "roomy/logs"), "--num-epochs", 2), 700_000),
            "train.py, its logs": (4, beside, training("roomy/model.h5", "logs")),
            "train.py --find-lr": (1, models, (*training("model.h5", "logs"), "--find-lr")),
        }  # fmt: skip
        return [
            Command(name, words, old, most, *beyond)
            for name, (most, old, words, *beyond) in found.items()
        ]


class Try:
    """A command run in a folder of its own, with what was there before and after.

    Attributes:
        ended: Ended.
        before, after: {path: content's digest}.
        left: folder with what is there after.
    """

    def __init__(self, folder: Path, command: Command, script: str, room: int | str = ""):
        place, self.left = folder / "place", folder / "after"
        for made in (folder, place, self.left):
            made.mkdir(parents=True)
        shell = "bash", "-c", script, "bash"
        program = ("unshare", "-m", *shell) if can_mount() else shell
        where = (str(place), str(command.old), str(self.left), str(room))
        self.ended = run(
            *command.words,
            folder=folder,
            limit=120,
            program=(*program, *where),
            env={"PYTHONUNBUFFERED": ""},
        )
        self.before, self.after = digests(command.old), digests(self.left)

    @property
    def files(self) -> set[str]:
        """Names of what is there after, without dates."""
        return undated(self.after)

    @property
    def changed(self) -> set[str]:
        """Names of what is new or has other content after, without dates."""
        return undated(n for n, digest in self.after.items() if digest != self.before.get(n))

    def problem(self, usual: "Try | None", writes: bool = True) -> str:
        """Return what was lost, "" if nothing was.

        Args:
            usual: how it goes where nothing is wrong; None: it cannot but fail.
            writes: whether anything may be new.
        """
        ended, hidden = self.ended, [n for n in self.after if "/." in f"/{n}"]
        if hidden:
            return f"left behind: {hidden[:3]}"
        if ended.status == 0 and usual:
            missing = usual.files - self.files or usual.changed - self.changed
            if missing:
                return f"status 0, but there is no new {sorted(missing)[:3]}"
            return next((f"{n} is half written" for n in self.after if not self._is_whole(n)), "")
        told = set(usual.ended.err.splitlines()) if usual else set()
        lines = "\n".join(line for line in ended.err.strip().splitlines() if line not in told)
        refused = not_refused(Ended(ended.status, "", lines, 0, 0, ended.hung))
        return refused or self._damage(writes)

    def _damage(self, writes):
        for name, digest in self.before.items():
            if name not in self.after:
                if name.endswith(".md") and self._is_new(name.replace(".md", ".h5")):
                    continue  # the card of a model that was replaced
                return f"{name} is lost"
            if self.after[name] != digest and not (writes and self._is_whole(name)):
                return f"{name} is changed"
        new = set(self.after) - set(self.before)
        for name in sorted(new):
            if not writes:
                return f"{name} is new"
            if not self._is_whole(name):
                return f"{name} is half written"
        return ""

    def _is_new(self, name):
        return self.after.get(name) != self.before.get(name)

    def _is_whole(self, name):
        try:
            return read(self.left / name) is None
        except Exception:  # whatever a reader makes of half a file
            return False


def digests(folder: Path) -> dict[str, str]:
    """Return {name: digest of its content} of the files below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def undated(names: Iterable[str]) -> set[str]:
    """Return names of files without the date of their run; without TensorBoard's logs."""
    run = r"\d{8}-\d{6}-\w+-\w{4}"
    return {re.sub(run, "RUN", name) for name in names if "events" not in name}


def rooms(command: Command, usual: Try, draw: random.Random) -> list[int]:
    """Return bytes of room with which one write after the other fails: a page too few for each."""
    most = command.most
    new = [name for name, digest in usual.after.items() if digest != usual.before.get(name)]
    new = [name for name in new if not name.startswith("roomy/")]
    new.sort(key=lambda name: (usual.left / name).stat().st_mtime_ns)
    found, total = [0], 0
    for name in new:
        total += -(-(usual.left / name).stat().st_size // PAGE) * PAGE
        found.append(max(total - PAGE, 0))
    found += [draw.randrange(total * 5 // 4) for _ in range(most - len(set(found)))]
    found = sorted(set(found))
    if command.beyond:  # room for the first checkpoints, not for the next, written beside them
        return [total + command.beyond]
    return found if len(found) <= most else sorted(draw.sample(found, most))


def full_disk(row: Row, folder: Path, seed: int) -> None:
    """Run each command with ever more room, two at a time, and with nowhere to print to."""
    draw, made = random.Random(seed), Made(folder)
    script = FULL if can_mount() else LIMITED
    commands = made.commands
    with ThreadPoolExecutor(2) as pool:
        tries = [(folder / f"usual {n}", command, script) for n, command in enumerate(commands)]
        usual = list(pool.map(lambda words: Try(*words), tries))
        cases = []
        for command, first in zip(commands, usual, strict=True):
            if first.ended.status:
                row.add(command.name, f"fails where there is room: {first.ended.err[-300:]}")
                continue
            for room in rooms(command, first, draw):
                name = f"{command.name}, {room:,} bytes of room"
                cases.append((name, first, (command, script, room)))
        for command in made.printing():
            first = next((f for c, f in zip(commands, usual, strict=True) if c is command), None)
            cases.append((f"{command.name} > /dev/full", first, (command, NOWHERE_TO_PRINT)))
        _try_all(row, folder, pool, cases)


def read_only(row: Row, folder: Path, seed: int) -> None:
    """Run each command where it cannot write, or where something else stands in the way."""
    made = Made(folder)
    commands = {command.name: command for command in made.commands}
    first = commands["prepro.py"]
    cases = [(f"{name}, read-only", None, (c, READ_ONLY)) for name, c in commands.items()]
    cases += [("prepro.py, onto a mount point", None, (first, MOUNTED_OVER))]
    if not can_mount():
        cases = []
    if can_be_immutable(folder):
        cases += [("prepro.py, onto an immutable file", None, (first, IMMUTABLE))]
    cases += [(name, None, (command, PLAIN)) for name, command in made.in_the_way()]
    with ThreadPoolExecutor(2) as pool:
        _try_all(row, folder, pool, cases, writes=False)
        usual = Try(folder / "usual", first, PLAIN)
        cases = [("prepro.py, onto a link to nowhere", usual, (first, DANGLING))]
        _try_all(row, folder / "links", pool, cases)


def _try_all(row, folder, pool, cases, writes=True):
    def one(numbered):
        number, (_, _, words) = numbered
        return Try(folder / f"case {number}", *words)

    for (name, usual, _), tried in zip(cases, pool.map(one, enumerate(cases)), strict=True):
        row.add(name, tried.problem(usual, writes), tried.ended)
