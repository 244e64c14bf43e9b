"""Files that are whole or not there, and written by one process at a time."""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from classifier.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to; after the block the finished file stands at `path` in one step.

    Whatever stood at `path` stays until then, and stays if the block raises or the process is
    killed. The temporary file has a fixed name, so that what a killed run left is overwritten.
    Errors are `named`.
    """
    path = Path(path)
    temporary = path.with_name(f".part.{path.name}")
    try:
        with named(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def made_aside(path: Path) -> Iterator[Path]:
    """Give a path of the same name in a folder of its own, which is removed after the block.

    What is made there, a file or a folder, then stands at `path` in one step: `atomic_write` for
    makers of folders, and for those that leave drafts beside what they make. Where the system
    cannot let two folders change places, one is replaced in two steps. Errors are `named`.
    """
    path = Path(path)
    aside = path.with_name(f".part.{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with named(path):
            aside.mkdir()
            made = aside / path.name
            yield made
            for file in (made, *made.rglob("*")):
                if file.is_file():
                    with file.open("rb+") as opened:
                        os.fsync(opened.fileno())
            _take_place(made, path, aside / ".older")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _take_place(made: Path, path: Path, older: Path) -> None:
    """Let a file or folder take the place of what is at `path`, which a folder leaves at `older`.

    On Linux two folders change places instead; the older one is where the new one was then.
    """
    replaces = made.is_dir() and path.is_dir()
    if replaces and _exchange(made, path):
        return
    if replaces:
        path.replace(older)
    try:
        made.replace(path)
    except OSError:
        if replaces:
            older.replace(path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; return False where the system cannot."""
    if sys.platform != "linux":
        return False
    rename = ctypes.CDLL(None).renameat2
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Give the path to an OSError of the block that names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:  # else its text would be lost
            error.filename = str(path)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing `path` in the block; its folder must exist.

    The lock is an flock, so that none is left behind by a process that was killed.

    Raises UserError if another process holds it.
    """
    lock = Path(path).with_name(f".{Path(path).name}.lock")
    while True:
        with lock.open("a") as file:
            if not _flock(file):
                raise UserError(
                    f"{path}: another process is writing it: wait for its end, or give another path"
                )
            if not _is_at(file, lock):
                continue  # its last holder has just removed it
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _flock(file) -> bool:
    """Take an flock; return False if another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # others: no locks there
    return True


def _is_at(file, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def reserve(path: Path, size: int) -> None:
    """Take `size` bytes of disk for the file at `path` now, where the file system can.

    HDF5 ends the process where it meets a full disk while it closes a file; here it is an OSError.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(number, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    finally:
        os.close(number)


def may_replace(path: Path, mark: str) -> bool:
    """Return whether a file may be written to `path`: nothing is there, or one with our mark.

    Args:
        path: of the file.
        mark: a text that stands in the first 1,000 characters of every file of this kind.
    """
    if not path.is_file():
        return not path.exists()
    try:
        with path.open("rb") as file:
            return mark in file.read(4000).decode(errors="replace")[:1000]
    except OSError:
        return False


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, links included; neither needs to exist."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with contextlib.suppress(OSError):
        return Path(one).samefile(other)
    return False


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents, now rather than after hours of work.

    Raises UserError if that is not possible or the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot create this folder ({error.strerror}); choose another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: this folder is not writable; choose another")
