"""Files that are whole or not there, and HDF5 files read without following them elsewhere."""

import contextlib
import os
from pathlib import Path

import h5py

from classifier.cli import UserError


@contextlib.contextmanager
def written_aside(path):
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


def open_hdf5(path, what):
    """Open an HDF5 file for reading; `what` names its kind in the error.

    Raises UserError if the file is missing or not HDF5.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such {what}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a {what}, or damaged; make it again") from error


def member(group, name):
    """Return what stands at `name` (parts joined by /) in an HDF5 group, or None.

    Only what lies in the file itself counts: soft and external links lead nowhere.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return None
        group = group[part]
    return group


def dataset(group, name):
    """Return the HDF5 dataset at `name` below a group, or None.

    Only raw numbers in the file itself count: no virtual datasets, none kept in other files, and no
    filters, whose output can be of any size.
    """
    found = member(group, name)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        return None
    return found if found.id.get_create_plist().get_nfilters() == 0 else None
