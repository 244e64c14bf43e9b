"""Contestants that take turns: each a process of its own, idle while the others work.

A contestant warms up, prints "ready" and a JSON text of its details, then answers each line
"WORD N" on its standard input with the seconds that N steps took.
"""

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from classifier.errors import UserError

ROUNDS = 5


def interleave(sides: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list]:
    """Let the sides take turns, every other round in reverse; return {side: figures, one a round}.

    Args:
        sides: {name: function that takes one turn and returns its figure}.
        rounds: turns of each.
    """
    figures = {name: [None] * rounds for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            figures[name][number] = sides[name]()
    return figures


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the rounds' ratios: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


class Contestant:
    """A process that waits for its turns.

    Args:
        command: words of the command line.
        limit: seconds it may take until it is ready.
        env: environment variables it has beside this process'.

    Attributes:
        details: what it said of itself when it was ready.

    Raises:
        UserError: it ended, or was not ready in time.
    """

    def __init__(self, command: list[str], limit: float = 300, env: dict[str, str] | None = None):
        self.notes = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.notes, text=True,
            start_new_session=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
        self.name = " ".join([Path(command[1]).name, *command[2:]])
        self.idle = {"seconds": 0.0, "cpu": 0.0}
        try:
            self.details = json.loads(self._answer(limit).removeprefix("ready"))
        except BaseException:
            self.close()
            raise
        self.since = time.perf_counter(), self._cpu()

    def turn(self, word: str, steps: int) -> float:
        """Return the seconds that it took for its steps."""
        self.idle["seconds"] += time.perf_counter() - self.since[0]
        self.idle["cpu"] += self._cpu() - self.since[1]
        self.process.stdin.write(f"{word} {steps}\n")
        self.process.stdin.flush()
        seconds = float(self._answer(600))
        self.since = time.perf_counter(), self._cpu()
        return seconds

    @property
    def idle_cpu(self) -> float:
        """Cores it kept busy while it was not its turn; 0 where it was really idle."""
        return round(self.idle["cpu"] / (self.idle["seconds"] or 1), 3)

    def close(self) -> None:
        """End it, with the processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.notes):
            with contextlib.suppress(OSError):
                stream.close()

    def _answer(self, limit):
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise UserError(f"{self.name}: no answer in {limit:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"{self.name}: ended: {last_line(self.notes)}")
        return line

    def _cpu(self):
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        user, system = stat.read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def contestant(
    *command: str,
    limit: float = 300,
    python: str = sys.executable,
    env: dict[str, str] | None = None,
) -> Iterator[Contestant]:
    """Start a Contestant, and end it after the block."""
    started = Contestant([python, *map(str, command)], limit, env)
    try:
        yield started
    finally:
        started.close()


def last_line(file) -> str:
    """Return the last line of a file's text that is not empty."""
    file.seek(0)
    return next((line for line in file.read().splitlines()[::-1] if line.strip()), "no word why")


class Turns:
    """A contestant's own end: says that it is ready, waits for its turns and answers them."""

    def __init__(self):
        self.stream = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed is no answer

    def ready(self, **details: object) -> None:
        self._say(f"ready {json.dumps(details)}")

    def wait(self) -> tuple[str, int]:
        """Return the next turn's word and number of steps; end the process if none is to come."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        word, steps = line.split()
        return word, int(steps)

    def answer(self, seconds: float) -> None:
        self._say(repr(seconds))

    def serve(
        self,
        step: Callable[[], object],
        wait: Callable[[object], object] = lambda _: None,
        **details: object,
    ) -> None:
        """Take turns of `step` to the end; each is over when `wait` has its last step's result."""
        self.ready(**details)
        while True:
            _, steps = self.wait()
            began = time.perf_counter()
            for _ in range(steps):
                last = step()
            wait(last)
            self.answer(time.perf_counter() - began)

    def _say(self, text):
        print(text, file=self.stream, flush=True)
