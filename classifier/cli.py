"""Command lines that fail in one line: the flag or file at fault, cause and remedy."""

import argparse
import errno
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from classifier.errors import UserError


class _Help(argparse.HelpFormatter):
    """Shows each default, where there is one to show."""

    def _get_help_string(self, action):
        shown = action.default not in (None, False, argparse.SUPPRESS)
        return action.help + " (default: %(default)s)" if shown else action.help


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows each default in the help and reports a mistake in one line."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(**kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def integer(low, high=None):
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


def real(low, high, low_open=False):
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


def start_keras():
    """Import Keras and its backend without the backend's start-up notes on the terminal.

    They come from compiled code before any Python setting is read, hence by file descriptor; where
    the import fails they are shown. KERAS_BACKEND chooses the backend, as always in Keras.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import keras

            keras.distribution.list_devices()  # the first look at the devices has notes of its own
        except BaseException:
            notes.seek(0)
            os.write(shown, notes.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
    return keras


def interrupt_on_sigterm():
    """Make SIGTERM stop a script as Ctrl-C does: through its clean-up, never in the middle."""

    def stop(_signal, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def run(main):
    """Call `main()` and exit: status 0, or 2 with one line on stderr for what a user can mend."""
    name = Path(sys.argv[0]).name
    try:
        interrupt_on_sigterm()
        sys.stdout.reconfigure(errors="backslashreplace")  # file names can be of any bytes
        sys.exit(main())
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno is None and "errno =" not in str(error):
            raise  # not the system's word: a mistake of ours, to be seen whole
        place = f"{error.filename}: " if error.filename else ""
        within = re.search(r"errno = (\d+)", str(error))  # HDF5 tells it in many lines
        number = int(within[1]) if within else error.errno
        reason = os.strerror(number) if within else error.strerror or str(error).splitlines()[0]
        full = number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        remedy = "free some disk space" if full else "choose a place you may read and write"
        print(
            f"{name}: error: {place}{reason}; {remedy}; nothing was left half written",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; nothing was left half written", file=sys.stderr)
        sys.exit(130)
