"""What the rows of benchmarks/faults.py share: a count of cases, and commands put to the test."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Runs a command and tells its status and memory. What Linux tells of a child counts the memory that
# its parent had as it was started, so the parent is this small one.
MEASURE = """
import os, sys
usage, *command = sys.argv[1:]
_, status, used = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
with open(usage, "w") as file:
    file.write(f"{status} {used.ru_maxrss}")
"""
MEASURED = (sys.executable, "-I", "-S", "-c", MEASURE)


@dataclass
class Ended:
    """A command that has ended.

    Attributes:
        status: its exit status; below 0, the signal that ended it.
        out, err: what it printed.
        seconds: that it took.
        megabytes: the most memory that it, or a child of it that it waited for, had.
        hung: whether it was killed at its limit.
    """

    status: int
    out: str
    err: str
    seconds: float
    megabytes: float
    hung: bool = False


@dataclass
class Row:
    """How many cases were tried, and what was lost in them, in words; the dearest ones' figures."""

    name: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0

    def add(self, case: str, problem: str = "", ended: Ended | None = None) -> None:
        """Count a case; `problem` is what was lost in it, "" where nothing was."""
        self.tried += 1
        if problem:
            self.lost.append(f"{case}: {problem}")
        if ended:
            self.seconds = max(self.seconds, ended.seconds)
            self.megabytes = max(self.megabytes, ended.megabytes)


def run(*words: object, folder: Path, limit: float = 60, stdin: bytes | None = None,
        program: tuple[str, ...] = (), **options) -> Ended:  # fmt: skip
    """Run one of this program's scripts to its end, or to its limit.

    Args:
        words: of its command line: "predict.py" or "-m", "classifier.evaluation", and its flags.
        folder: to run it in.
        limit: seconds after which it is killed with its children.
        stdin: its standard input; None: none.
        program: words that run it, before its own.
        options: of subprocess.Popen.
    """
    with tempfile.TemporaryDirectory(prefix="run-") as place:
        out, err, usage = (Path(place, name) for name in ("out", "err", "usage"))
        began, killed = time.monotonic(), threading.Event()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = start(
                *words, folder=folder, program=(*MEASURED, str(usage), *program), stdout=stdout,
                stderr=stderr, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, **options,
            )  # fmt: skip

            def kill():
                killed.set()
                os.killpg(process.pid, signal.SIGKILL)

            timer = threading.Timer(limit, kill)
            timer.start()
            process.communicate(stdin)
            timer.cancel()
        seconds = time.monotonic() - began
        status, kilobytes = map(int, usage.read_text().split()) if usage.exists() else (9, 0)
        return Ended(
            os.waitstatus_to_exitcode(status),
            out.read_text(errors="replace"),
            err.read_text(errors="replace"),
            seconds,
            kilobytes * 1024 / 1e6,
            killed.is_set(),
        )


def start(
    *words: object, folder: Path, program: tuple[str, ...] = (), **options
) -> subprocess.Popen:
    """Start one of this program's scripts, in a process group of its own; see `run`."""
    first, *rest = map(str, words)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    script = [first] if first.startswith("-") else [str(ROOT / first)]
    return subprocess.Popen(
        [*program, sys.executable, *script, *rest], cwd=folder, start_new_session=True,
        env=environment, **options,
    )  # fmt: skip


def not_refused(ended: Ended, seconds: float = 5, megabytes: float = 500) -> str:
    """Return why a command did not refuse as it should, "" where it did.

    It should: with status 2, or 1 where it is a finding, in time, with one line on stderr, beside
    notes and warnings.
    """
    lines = ended.err.strip().splitlines()
    lines = [line for line in lines if not line.startswith(("note: ", "warning: "))]
    if ended.hung:
        return f"hung for {ended.seconds:.0f} s"
    if "Traceback" in ended.err:
        return f"traceback: {lines[-1]}"
    if ended.status not in (1, 2):
        return f"status {ended.status}: {ended.err[-300:]}"
    if len(lines) != 1:
        return f"{len(lines)} lines on stderr: {lines[:3]}"
    return too_dear(ended, seconds, megabytes)


def too_dear(ended: Ended, seconds: float, megabytes: float) -> str:
    """Return what a command took too much of, "" where it did not."""
    if ended.seconds > seconds:
        return f"{ended.seconds:.1f} s"
    if ended.megabytes > megabytes:
        return f"{ended.megabytes:.0f} MB"
    return ""
