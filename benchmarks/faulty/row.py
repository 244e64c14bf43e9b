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
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        given = subprocess.PIPE if stdin else subprocess.DEVNULL
        process = start(*words, folder=folder, program=program, stdin=given, stdout=out,
                        stderr=err, **options)  # fmt: skip
        killed = threading.Event()

        def kill():
            killed.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, kill)
        timer.start()
        try:
            if stdin:
                process.stdin.write(stdin)
                process.stdin.close()
        except BrokenPipeError:
            pass
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        for stream in (out, err):
            stream.seek(0)
        return Ended(
            process.returncode, out.read().decode(errors="replace"),
            err.read().decode(errors="replace"), seconds, usage.ru_maxrss * 1024 / 1e6,
            killed.is_set(),
        )  # fmt: skip


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

    It should: with status 2, or 1 where it is a finding, one line on stderr (notes do not count),
    in time.
    """
    lines = [line for line in ended.err.strip().splitlines() if not line.startswith("note: ")]
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
