"""HDF5 files, read without following them elsewhere."""

from pathlib import Path

import h5py

from classifier.errors import UserError


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
