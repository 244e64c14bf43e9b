"""Command lines that fail in one line: the flag or file at fault, cause and remedy."""

import argparse
import contextlib
import ctypes
import errno
import math
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from classifier.errors import UserError


class _Help(argparse.HelpFormatter):
    """Shows each default, where there is one to show."""

    def _get_help_string(self, action):
        hidden = action.default is None or action.default is False  # 0 is shown
        shown = not hidden and action.default != argparse.SUPPRESS
        return action.help + " (default: %(default)s)" if shown else action.help


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows each default in the help and reports a mistake in one line."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(**kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return an argparse type: a whole number from `low` to `high` (no upper bound if None)."""

    def whole_number(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be {span}, not {value}")
        return value

    return whole_number


def real(low: float, high: float, low_open: bool = False) -> Callable[[str], float]:
    """Return an argparse type: a finite number from `low` (excluded if `low_open`) to `high`."""

    def number(text):
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (low < value if low_open else low <= value) or not value <= high:
            above = "above" if low_open else "from"
            raise argparse.ArgumentTypeError(f"must be {above} {low:g} and at most {high:g}")
        return value

    return number


def shown(script: str, *args) -> str:
    """Return the command that runs a script, to be copied into a shell."""
    return shlex.join(["python", script, *map(str, args)])


def printable(path: str | Path) -> str:
    """Return a path as it is told in one line, whatever its characters."""
    return str(path) if str(path).isprintable() else repr(str(path))


def keep_freed_memory() -> None:
    """Have the C library, where it is glibc, keep what large arrays give back for the next ones.

    It would return it to the system and be given other pages, zeroed, for every layer: 9% of a
    training step at 64x64, 7% of the network in NumPy. Threads started later share one heap, for
    their own are given back whole whatever the thresholds.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 32 << 20)  # the most there is
        mallopt(arena_max, 1)


def give_back_memory() -> None:
    """Have the C library, where it is glibc, give back what it kept, before much more is taken."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Counter:
    """A line at the foot of a terminal that tells how far long work is, and its rate.

    It is for work in predict.py, which runs where tqdm is not installed. At the end of a `with`
    block the line is gone.

    Args:
        total: number of units.
        unit: "images".
    """

    EVERY = 0.2  # seconds between two drawings

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.done = total, unit, 0
        self.began = None  # when the first units were done; the rate is that of those after them
        self.visible = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clear()

    def advance(self, count: int) -> None:
        """Count so many units as done, and draw the line anew where that is due."""
        self.done += count
        now = time.monotonic()
        if self.began is None:
            self.began = self.drawn = now
            self.first = self.done
            return
        if now - self.drawn < self.EVERY or not sys.stderr.isatty():
            return
        rate = (self.done - self.first) / (now - self.began)
        print(
            f"\r\033[K{self.done:,} of {self.total:,} {self.unit}, {rate:.1f} a second, "
            f"{(self.total - self.done) / rate:.0f} s left",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip
        self.drawn, self.visible = now, True

    def clear(self) -> None:
        """Take the line away, for something else to be printed; the next `advance` draws it."""
        if self.visible:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self.drawn, self.visible = -math.inf, False


_interrupted = False
_waits = False


def interrupt_on_sigterm() -> None:
    """Make SIGTERM stop a script as Ctrl-C does: through its clean-up, never in the middle."""

    def stop(_signal, _frame):
        global _interrupted
        again, _interrupted = _interrupted, True
        if again or not _waits:
            raise KeyboardInterrupt
        text = b"\nstopping soon, with a checkpoint; a second signal stops at once\n"
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), text)

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else: not to be heard
        signal.signal(signal.SIGINT, stop)


def interrupted() -> bool:
    """Return whether a signal came that asks the script to stop."""
    return _interrupted


@contextlib.contextmanager
def interrupts_wait(came: Callable[[], bool] = interrupted) -> Iterator[None]:
    """Let a signal wait for the block to stop or to end; a second one stops it at once.

    Args:
        came: returns whether one came, as the block ends.
    """
    global _waits
    before, _waits = _waits, True
    try:
        yield
    finally:
        _waits = before
    if came():
        raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt where a signal came but none was raised, or it was swallowed.

    Python drops exceptions that are raised in finalizers, and libraries catch all in places.
    """
    if _interrupted:
        raise KeyboardInterrupt


_last_act = None


def end_at_once(last_act: Callable[[], None]) -> None:
    """Have the script end without what libraries do as Python ends, which may take for ever.

    Args:
        last_act: called before.
    """
    global _last_act
    _last_act = last_act


def end_as_usual() -> None:
    """Take `end_at_once` back."""
    global _last_act
    _last_act = None


def _leave(status):
    """End the process now, after `end_at_once`'s last act."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if _last_act is not None:
        _last_act()
    os._exit(status)


class _Output:
    """Standard output of a script, which says that it is what is full.

    Where the script's product is a file, it goes on though nobody reads on.
    """

    def __init__(self, stream, product):
        self._stream, self._product = stream, product

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with self._errors():
            self._stream.write(text)
        return len(text)

    def flush(self):
        with self._errors():
            self._stream.flush()

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError) and self._product == "file":
                _drop_output()
                return
            error.filename = "standard output"
            raise


def part_from_compiled_code(silent: bool) -> None:
    """Print to descriptors of our own, and leave 1 and 2 to compiled code from now on.

    Args:
        silent: whether what it writes to them is left out.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        stream.flush()
        own = os.fdopen(os.dup(number), "w", encoding=stream.encoding, errors="backslashreplace")
        if isinstance(stream, _Output):
            own = _Output(own, stream._product)
        else:
            own.reconfigure(line_buffering=True)
        setattr(sys, name, own)
        if silent:
            os.dup2(nothing, number)
    os.close(nothing)


def _drop_output():
    """Let what is printed go nowhere: Python would try again as it ends, and tell in its words."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams():
    """Open what stands closed of standard input, output and error, on nothing.

    Else the next file opened takes the place of one, and what is printed goes into it.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            stream = os.fdopen(number, mode)
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)


def run(main: Callable[[], int], product: str = "output", name: str = "") -> NoReturn:
    """Call `main()` and exit: status 0, or 2 with one line on stderr for what a user can mend.

    Args:
        main: function without arguments, returning the exit status.
        product: "file" where the script's product is a file, which is finished although nobody
            reads what it prints; "output" where it is what it prints, and a reader that ends, as
            `head` does, ends it with status 141, as SIGPIPE would.
        name: of the script, for its errors; the file's if it is not given.
    """
    try:
        _run(main, product, name or Path(sys.argv[0]).name)
    except BaseException as error:
        if _last_act is None:
            raise
        if isinstance(error, SystemExit):
            _leave(error.code)
        traceback.print_exc()
        _leave(1)


def _run(main, product, name):
    try:
        _open_streams()
        interrupt_on_sigterm()
        sys.stdout.reconfigure(errors="backslashreplace")  # file names can be of any bytes
        sys.stdout = _Output(sys.stdout, product)
        try:
            status = main()
        except SystemExit as end:  # of --help
            status = end.code
        sys.stdout.flush()
        sys.exit(status)
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        _drop_output()
        sys.exit(128 + signal.SIGPIPE)
    except MemoryError as error:
        print(
            f"{name}: error: {str(error) or 'out of memory'}; close other programs or work on "
            "less at a time (--workers, --batch-size); nothing was left half written",
            file=sys.stderr,
        )
        sys.exit(2)
    except OSError as error:
        if error.errno is None and "errno =" not in str(error):
            raise  # not the system's word: a mistake of ours, to be seen whole
        place = error.filename2 or error.filename  # the first where it was to replace that
        place = f"{place}: " if place else ""
        within = re.search(r"errno = (\d+)", str(error))  # HDF5 tells it in many lines
        number = int(within[1]) if within else error.errno
        reason = os.strerror(number) if within else error.strerror or str(error).splitlines()[0]
        full = number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        denied = number in (errno.EACCES, errno.EPERM, errno.EROFS)
        remedy = "choose a place you may read and write" if denied else "try again"
        remedy = "free some disk space" if full else remedy
        print(
            f"{name}: error: {place}{reason}; {remedy}; nothing was left half written",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; nothing was left half written", file=sys.stderr)
        sys.exit(130)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
