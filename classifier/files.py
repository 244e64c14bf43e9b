"""Files that are whole or not there."""

import contextlib
import os
from pathlib import Path

from classifier.errors import UserError


@contextlib.contextmanager
def atomic_write(path):
    """Give a path to write to; after the block the finished file stands at `path` in one step.

    Whatever stood at `path` stays until then, and stays if the block raises or the process is
    killed. The file aside has a fixed name, so that what a killed run left is overwritten.
    """
    path = Path(path)
    aside = path.with_name(f".part.{path.name}")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def reserve(path, size):
    """Take `size` bytes of disk for the file at `path` now, where the system can.

    HDF5 ends the process where it meets a full disk while it closes a file; here it is an OSError.
    """
    if hasattr(os, "posix_fallocate"):
        with Path(path).open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def make_folder(folder):
    """Create `folder` (a Path) with its parents, now rather than after hours of work.

    Raises UserError if that is not possible or the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot create this folder ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: this folder is not writable; choose another")
