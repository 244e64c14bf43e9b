"""The arrays file between prepro.py and train.py: one HDF5 file that describes itself.

Groups train, val and test, each with
    X       uint8 (N, size, size, 3), RGB
    Y       uint8 (N, classes), one-hot
    source  (N,) UTF-8: the photograph's path below the dataset path
    copy    uint16 (N,): 0 for the photograph itself, k for its k-th augmented copy
    hash    uint8 (N, 2, 32): the photograph's perceptual hash and that of its mirror image
and attributes classes, image_size, protocol, seed, version, target_per_class, near_duplicate_bits,
left_out (JSON: files not used, with the reason) and near_duplicates (JSON: groups of paths).
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from classifier import cli
from classifier.data.duplicates import HASH_BYTES
from classifier.data.splits import SPLITS
from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import dataset, open_hdf5

VERSION = 1


@dataclass(frozen=True)
class Example:
    """One row to be: photograph number, copy number, class number."""

    photograph: int
    copy: int
    label: int


@contextlib.contextmanager
def create(path, plan, sources, hashes, classes, image_size, **attributes):
    """Create an arrays file with X still to be filled; it appears at `path` when the block ends.

    Args:
        path: where the file goes.
        plan: {"train": [Example, ...], "val": ..., "test": ...}.
        sources: paths below the dataset path, indexed by Example.photograph.
        hashes: uint8 array (photographs, 2, 32) of `perceptual_hash`, indexed likewise.
        classes: sorted class names, indexed by Example.label.
        image_size: pixels.
        attributes: further attributes of the file.

    Yields:
        the open h5py.File.
    """
    encoded = [source.encode("utf-8", "surrogateescape") for source in sources]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    names = np.array(encoded, dtype=text)
    rows = sum(map(len, plan.values()))
    row = image_size**2 * 3 + len(classes) + text.itemsize + hashes[0].nbytes + 2
    texts = sum(len(value) for value in attributes.values() if isinstance(value, str))
    with atomic_write(path) as aside, h5py.File(aside, "w") as file:
        file.flush()
        reserve(aside, rows * row + texts + 64 * len(classes) + 65_536)
        file.attrs["version"] = VERSION
        file.attrs["classes"] = np.array(classes, dtype=h5py.string_dtype())
        file.attrs["image_size"] = image_size
        for name, value in attributes.items():
            file.attrs[name] = value
        for split in SPLITS:
            examples = plan[split]
            group = file.create_group(split)
            group.create_dataset("X", (len(examples), image_size, image_size, 3), np.uint8)
            labels = np.fromiter((e.label for e in examples), np.int64, len(examples))
            one_hot = group.create_dataset("Y", (len(examples), len(classes)), np.uint8)
            for start in range(0, len(examples), 4096):
                part = labels[start : start + 4096]
                one_hot[start : start + len(part)] = part[:, None] == np.arange(len(classes))
            photographs = np.fromiter((e.photograph for e in examples), np.int64, len(examples))
            group.create_dataset("source", data=names[photographs].astype(text))
            group.create_dataset("hash", data=hashes[photographs])
            group.create_dataset("copy", data=np.array([e.copy for e in examples], np.uint16))
        yield file


class Arrays:
    """An arrays file opened for reading; nothing is held in memory but the labels asked for.

    Attributes:
        classes (list of str), image_size (pixels), protocol (str), seed (int),
        near_duplicate_bits (int), path (Path).

    Raises:
        UserError: the file is missing, damaged or not of this layout.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.file = open_hdf5(path, "arrays file of prepro.py")
        try:
            self.classes = [str(name) for name in self.file.attrs["classes"]]
            self.image_size = int(self.file.attrs["image_size"])
            self.protocol = str(self.file.attrs["protocol"])
            self.seed = int(self.file.attrs["seed"])
            self.near_duplicate_bits = int(self.file.attrs["near_duplicate_bits"])
            version = int(self.file.attrs["version"])
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise self._error("it lacks its attributes") from error
        if version != VERSION:
            raise self._error(f"it is of version {version}, this program reads {VERSION}")
        for split in SPLITS:
            self._check(split)

    def _error(self, reason):
        return UserError(f"{self.path}: not an arrays file of prepro.py: {reason}; make it again")

    def _check(self, split):
        names = ("X", "Y", "source", "copy", "hash")
        parts = {name: dataset(self.file, f"{split}/{name}") for name in names}
        for name, part in parts.items():
            if part is None:
                raise self._error(f"{split}/{name} is missing or not stored in the file itself")
        count, size = len(parts["X"]), self.image_size
        wanted = {
            "X": (count, size, size, 3),
            "Y": (count, len(self.classes)),
            "source": (count,),
            "copy": (count,),
            "hash": (count, 2, HASH_BYTES),
        }
        for name, part in parts.items():
            if part.shape != wanted[name]:
                raise self._error(f"{split}/{name} has shape {part.shape}, not {wanted[name]}")
            if name in ("X", "Y", "hash") and part.dtype != np.uint8:
                raise self._error(f"{split}/{name} is {part.dtype}, not uint8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def count(self, split):
        """Return the number of examples of a split."""
        return len(self.file[split]["X"])

    def read(self, split, rows):
        """Read examples.

        Args:
            split: "train", "val" or "test".
            rows: int array (n,) of row numbers, each at most once, or a slice.

        Returns:
            X uint8 (n, size, size, 3) and Y uint8 (n, classes), in the order asked for.
        """
        X, Y = self.file[split]["X"], self.file[split]["Y"]
        if isinstance(rows, slice):
            return X[rows], Y[rows]
        order = np.argsort(rows)  # HDF5 reads rising row numbers only
        back = np.argsort(order)
        rising = rows[order]
        return X[rising][back], Y[rising][back]

    def labels(self, split):
        """Return the class numbers of a split, int64 (N,)."""
        Y = self.file[split]["Y"]
        parts = [Y[i : i + 4096].argmax(axis=1) for i in range(0, len(Y), 4096)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def sources(self, split):
        """Return the photographs' paths below the dataset path, a list of N str."""
        return list(self.file[split]["source"].asstr(errors="surrogateescape")[:])

    def copies(self, split):
        """Return the copy numbers, uint16 (N,): 0 for a photograph itself."""
        return self.file[split]["copy"][:]

    def hashes(self, split):
        """Return the photographs' perceptual hashes, uint8 (N, 2, 32)."""
        return self.file[split]["hash"][:]

    def held_out(self):
        """Return the path of a test photograph that is still where prepro.py found it, or None."""
        folder = self.path.with_suffix("")
        return next((folder / s for s in self.sources("test") if (folder / s).is_file()), None)

    def left_out(self):
        """Return the files that prepro.py could not use, a list of {"file", "reason"}."""
        return json.loads(self.file.attrs["left_out"])


def main():
    """Print what an arrays file holds."""
    parser = cli.Parser(prog="python -m classifier.data.arrays", description=main.__doc__)
    parser.add_argument("file", type=Path, help="arrays of prepro.py")
    parser.add_argument("--held-out", action="store_true", help="print a test photograph's path")
    args = parser.parse_args()
    with Arrays(args.file) as finished:
        if args.held_out:
            path = finished.held_out()
            if path is None:
                raise UserError(f"{args.file}: its test photographs are not where they were")
            print(path)
            return 0
        print(f"protocol {finished.protocol}, seed {finished.seed}, {finished.image_size} px")
        print(", ".join(f"{split} {finished.count(split)}" for split in SPLITS))
        print(f"{len(finished.classes)} classes: {', '.join(finished.classes)}")
        print(f"left out: {len(finished.left_out())} files that could not be used")
    return 0


if __name__ == "__main__":
    cli.run(main)
