"""HDF5 files from anyone, read so that none leads elsewhere, fills the memory or takes hours."""

import io
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5, h5d, h5i, h5l

from classifier.errors import UserError

DAMAGE = (KeyError, OSError, RuntimeError, ValueError)  # what h5py raises for damaged files
MAX_JSON = 32 << 20  # bytes; Caltech-101's arrays have 0.1 MB of it
MAX_VALUES = 1 << 20  # in it: an empty list of two bytes becomes 64 in memory
MOST_MEMBERS = 64  # looked at to find the weights of a layer, which has 2 or 4

# Control characters, which could command a terminal; line ends, changes of direction, surrogates.
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST_NAME = 255  # characters, of a folder


class _Metered(io.FileIO):
    """A file of which HDF5 may read so much beside the data that it is asked for, and no more.

    HDF5 reads the whole header of an object, or all names of a group, as it opens it, and both may
    be as large as the file: of 2 GB it made 4 GB in 26 s.
    """

    MOST, TOTAL = 4 << 20, 64 << 20  # bytes at a time, and in all; our files have 0.5 MB

    data = False  # whether data are being read
    taken = 0

    def seek(self, place, whence=0):
        try:
            return super().seek(place, whence)
        except (OverflowError, OSError) as error:
            raise OSError("no such place") from error  # of no number, which is the system's word

    def readinto(self, buffer):
        if not self.data:
            self.taken += len(buffer)
            if len(buffer) > self.MOST or self.taken > self.TOTAL:
                raise OSError("too much beside the data")
        if super().readinto(buffer) != len(buffer):
            raise OSError("cut off")  # else HDF5 would take what the memory held before
        return len(buffer)


class _File(h5py.File):
    """An HDF5 file from anyone, opened for reading."""

    def __init__(self, path):
        self.source = _Metered(path)
        try:
            super().__init__(self.source, "r")
        except BaseException:
            self.source.close()
            raise

    def close(self):
        super().close()
        self.source.close()


def open_hdf5(path: Path, what: str, looked_at: bool = False) -> h5py.File:
    """Open an HDF5 file for reading, to be closed by `with`.

    Args:
        path: of the file.
        what: names its kind in the error.
        looked_at: whether it is one whose datasets `dataset` has returned before: it is read twice
            as fast then, by HDF5's own means.

    Raises:
        UserError: the file is missing or not HDF5.
        OSError: the system cannot read it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such {what}")
    try:
        return h5py.File(path, "r") if looked_at else _File(path)
    except DAMAGE as error:
        if getattr(error, "errno", None):
            raise  # the system's word
        raise UserError(f"{path}: not a {what}, or damaged; make it again") from error


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what stands at `name` (parts joined by /) in an HDF5 group, or None.

    Only what lies in the file itself counts: soft and external links lead nowhere.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        try:
            if group.id.links.get_info(part.encode()).type != h5l.TYPE_HARD:
                return None
            group = group[part]
        except DAMAGE:
            return None
    return group


def has(group: h5py.Group, name: str) -> bool:
    """Return whether anything stands at a name in a group, be it a link that leads nowhere."""
    try:
        return group.id.links.exists(name.encode())
    except DAMAGE:
        return True


def dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """Return the HDF5 dataset at `name` below a group, or None.

    Only numbers and texts of fixed length count, stored in the file itself in one piece: no
    virtual datasets, none kept in other files, no chunks, whose filters make output of any size
    and whose index may take hours, and no shape larger than what is stored.
    """
    found = member(group, name)
    return found if isinstance(found, h5py.Dataset) and _stored_in_full(found) else None


def _stored_in_full(found):
    try:
        plan = found.id.get_create_plist()
        layout, size = plan.get_layout(), found.nbytes
        if found.dtype.kind not in "fiuS" or plan.get_external_count():
            return False
        end = (found.id.get_offset() or 0) + size if layout == h5d.CONTIGUOUS else 0
        return (
            layout in (h5d.CONTIGUOUS, h5d.COMPACT)
            and found.id.get_storage_size() >= size
            and end <= h5i.get_file_id(found.id).get_filesize()
        )
    except (*DAMAGE, TypeError):
        return False


def read(file: h5py.File, found: h5py.Dataset) -> np.ndarray:
    """Return what a dataset of `dataset` holds.

    Args:
        file: that it lies in, of `open_hdf5`.
        found: whose size the caller has looked at.

    Raises:
        those of DAMAGE.
    """
    source = getattr(file, "source", None)
    if source is None:
        return found[()]
    source.data = True
    try:
        return found[()]
    finally:
        source.data = False


def write_json(group: h5py.Group, name: str, value: Any) -> None:
    """Write a JSON value as a dataset of bytes: an attribute holds 64 KiB at most."""
    group[name] = np.frombuffer(json.dumps(value).encode("ascii"), np.uint8)


def read_json(file: h5py.File, name: str) -> Any:
    """Read what `write_json` wrote.

    Raises ValueError if it is missing, over MAX_JSON or MAX_VALUES, or not JSON.
    """
    found = dataset(file, name)
    if found is None or found.dtype != np.uint8 or found.ndim != 1 or found.size > MAX_JSON:
        raise ValueError(f"{name} is missing, or no JSON text stored in the file itself")
    try:
        text = read(file, found).tobytes()
        if sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ValueError(f"{name} has too many values")
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{name} is damaged") from error


def is_name(value: Any) -> bool:
    """Return whether a JSON value is a text that may be printed as a name, of a class say."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and not NO_NAME.search(value)


def find_datasets(group: h5py.Group) -> dict[str, h5py.Dataset | None]:
    """Return the datasets in and below a group, {last part of the path: dataset}.

    None stands for those that `dataset` does not count. Names that are not UTF-8 are passed over.
    The search ends after MOST_MEMBERS members: groups can hold themselves, or millions.

    No attribute is read: where texts of variable length are damaged, three bytes are enough, HDF5
    follows them without end.
    """
    found, groups, left = {}, [group], MOST_MEMBERS
    while groups and left:
        group = groups.pop(0)
        names = _names(group, left)
        left -= len(names)
        for name in names:
            part = member(group, name)
            if isinstance(part, h5py.Group):
                groups.append(part)
            elif part is not None:
                plain = isinstance(part, h5py.Dataset) and _stored_in_full(part)
                found[name] = part if plain else None
    return found


def _names(group, most):
    """Return the names of at most so many members of a group, whatever their order."""
    names = []

    def take(name):
        names.append(name)
        return len(names) == most or None  # what is not None ends it

    try:
        group.id.links.iterate(take, order=h5.ITER_NATIVE)  # in another order all would be read
    except DAMAGE:
        return []
    return [name.decode("utf-8", "surrogateescape") for name in names]
