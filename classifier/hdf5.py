"""HDF5 files, read so that none leads elsewhere or fills the memory, whatever it claims."""

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from classifier.errors import UserError

DAMAGE = (KeyError, OSError, RuntimeError, ValueError)  # what h5py raises for damaged files
MAX_JSON = 64 << 20  # bytes; Caltech-101's arrays have 0.1 MB of it


def open_hdf5(path: Path, what: str) -> h5py.File:
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


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what stands at `name` (parts joined by /) in an HDF5 group, or None.

    Only what lies in the file itself counts: soft and external links lead nowhere.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        try:
            if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
                return None
            group = group[part]
        except DAMAGE:
            return None
    return group


def dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """Return the HDF5 dataset at `name` below a group, or None.

    Only numbers and texts of fixed length count, stored in the file itself in full: no virtual
    datasets, none kept in other files, no filters, whose output can be of any size, and no shape
    larger than what is stored.
    """
    found = member(group, name)
    return found if isinstance(found, h5py.Dataset) and _stored_in_full(found) else None


def _stored_in_full(found):
    try:
        if found.is_virtual or found.external:
            return False
        if found.dtype.kind not in "fiuS" or found.id.get_create_plist().get_nfilters():
            return False
        return found.id.get_storage_size() >= found.nbytes
    except (*DAMAGE, TypeError):
        return False


def write_json(group: h5py.Group, name: str, value: Any) -> None:
    """Write a JSON value as a dataset of bytes: an attribute holds 64 KiB at most."""
    group[name] = np.frombuffer(json.dumps(value).encode("ascii"), np.uint8)


def read_json(group: h5py.Group, name: str) -> Any:
    """Read what `write_json` wrote.

    Raises ValueError if it is missing, over MAX_JSON or not JSON.
    """
    found = dataset(group, name)
    if found is None or found.dtype != np.uint8 or found.ndim != 1 or found.size > MAX_JSON:
        raise ValueError(f"{name} is missing, or no JSON text stored in the file itself")
    try:
        return json.loads(found[()].tobytes())
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{name} is damaged") from error


def find_datasets(
    group: h5py.Group, depth: int = 4, seen: set[h5py.Group] | None = None
) -> dict[str, h5py.Dataset]:
    """Return the datasets in and below a group, {last part of the path: dataset}.

    Names that are not UTF-8 do not count. A group is searched once (those in `seen` were): one
    that holds itself 64 times would else take hours.

    No attribute is read: where texts of variable length are damaged, three bytes are enough, HDF5
    follows them without end.
    """
    found, seen = {}, set() if seen is None else seen
    if not _first_time(group, seen):
        return found
    try:
        names = [name for name in itertools.islice(group, 64) if isinstance(name, str)]
    except DAMAGE:
        names = []
    for name in names:
        part = member(group, name)
        if isinstance(part, h5py.Group):
            found |= find_datasets(part, depth - 1, seen) if depth else {}
        elif part is not None:
            found[name] = part if isinstance(part, h5py.Dataset) and _stored_in_full(part) else None
    return found


def _first_time(group, seen):
    """Note that a group was seen; return whether it was not before."""
    before = len(seen)
    with contextlib.suppress(TypeError):  # damaged: it cannot tell where it stands
        seen.add(group)
    return len(seen) > before
