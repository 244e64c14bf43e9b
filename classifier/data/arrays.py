"""The arrays file between prepro.py and train.py: one HDF5 file that describes itself.

Groups train, val and test, each with
    X       uint8 (N, size, size, 3), RGB
    Y       uint8 (N, classes), one-hot
    source  (N,) UTF-8: the photograph's path below the dataset path
    copy    uint16 (N,): 0 for the photograph itself, k for its k-th augmented copy
    hash    uint8 (N, 2, 32): the photograph's perceptual hash and that of its mirror image
and a dataset `description`, the JSON text of a Description.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from classifier import cli
from classifier.architecture import MAX_CLASSES
from classifier.data.duplicates import HASH_BYTES
from classifier.data.splits import SPLITS
from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import DAMAGE, dataset, is_name, open_hdf5, read_json, write_json

VERSION = 4
BLOCK = 16 << 20  # bytes read at a time to be digested
MIN_SIZE, MAX_SIZE = 32, 1024  # pixels
LONGEST_PATH = 4096  # bytes
PARTS = ("X", "Y", "source", "copy", "hash")  # of a split


@dataclass(frozen=True)
class Example:
    """One row to be: photograph number, copy number, class number."""

    photograph: int
    copy: int
    label: int


@dataclass(frozen=True)
class Description:
    """What an arrays file says of itself.

    Attributes:
        classes: sorted class names, indexed by class number.
        image_size: pixels.
        protocol: of the splits.
        leaks: whether splits were drawn after augmentation.
        seed: of splits and augmentation.
        target_per_class: training examples that each class was augmented to; 0: not at all.
        near_duplicate_bits: bits in which the hashes of near-duplicates may differ.
        left_out: files not used, {"file": ..., "reason": ...}.
        near_duplicates: groups of two paths or more that stand in one split.
        split_digest: of which photograph is in which split; the same at any size and augmentation.
        fingerprint: digest of all rows and the class names.
    """

    classes: list[str]
    image_size: int
    protocol: str
    leaks: bool
    seed: int
    target_per_class: int
    near_duplicate_bits: int
    left_out: list[dict] = field(default_factory=list)
    near_duplicates: list[list[str]] = field(default_factory=list)
    split_digest: str = ""
    fingerprint: str = ""


class _Writer:
    """An arrays file that is being filled."""

    def __init__(self, file):
        self.file = file
        self.digest = hashlib.blake2b(digest_size=16)  # of the rows of X

    def write(self, split: str, start: int, images: np.ndarray) -> None:
        """Write rows of X, uint8 (n, size, size, 3); calls come in the order of the rows."""
        self.file[split]["X"][start : start + len(images)] = images
        self.digest.update(np.ascontiguousarray(images))

    def fingerprint(self, classes: list[str]) -> str:
        """Return the fingerprint of all rows, once they are written."""
        return _fingerprint(self.file, classes, self.digest)


def _fingerprint(file, classes, digest):
    """Return the digest of everything in an arrays file that counts: see Arrays.check_content.

    Args:
        file: open h5py.File.
        classes: class names.
        digest: hashlib's, of the rows of X, train first and test last.
    """
    for split, name in itertools.product(SPLITS, PARTS):
        part = file[split][name]
        digest.update(repr((split, name, part.shape)).encode())
        for block in _blocks(part) if name != "X" else ():
            digest.update(block)
    digest.update(repr(classes).encode())
    return digest.hexdigest()


def _blocks(part):
    """Yield the bytes of a dataset, some rows at a time."""
    step = max(1, BLOCK * len(part) // max(1, part.nbytes))
    for start in range(0, len(part), step):
        yield part[start : start + step].tobytes()


@contextlib.contextmanager
def create(
    path: Path, plan: dict, sources: Sequence[str], hashes: np.ndarray, description: Description
) -> Iterator[_Writer]:
    """Create an arrays file with X still to be filled; it appears at `path` when the block ends.

    Args:
        path: where the file goes.
        plan: {"train": [Example, ...], "val": ..., "test": ...}.
        sources: paths below the dataset path, indexed by Example.photograph.
        hashes: uint8 array (photographs, 2, 32) of `perceptual_hash`, indexed likewise.
        description: without digests, which are added here.

    Yields:
        what X is to be written to, from the first row of train to the last of test.
    """
    size, classes = description.image_size, len(description.classes)
    encoded = [source.encode("utf-8", "surrogateescape") for source in sources]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    names = np.array(encoded, dtype=text)
    row = size**2 * 3 + classes + text.itemsize + hashes[0].nbytes + 2
    texts = asdict(description)
    room = sum(map(len, plan.values())) * row + 2 * len(str(texts)) + 65_536
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.flush()
        reserve(temporary, room)
        writer = _Writer(file)
        splits = hashlib.blake2b(digest_size=16)
        for split in SPLITS:
            examples = plan[split]
            group = file.create_group(split)
            group.create_dataset("X", (len(examples), size, size, 3), np.uint8)
            labels = np.fromiter((e.label for e in examples), np.int64, len(examples))
            one_hot = group.create_dataset("Y", (len(examples), classes), np.uint8)
            for start in range(0, len(examples), 4096):
                part = labels[start : start + 4096]
                one_hot[start : start + len(part)] = part[:, None] == np.arange(classes)
            photographs = np.fromiter((e.photograph for e in examples), np.int64, len(examples))
            copies = np.array([e.copy for e in examples], np.uint16)
            group.create_dataset("source", data=names[photographs].astype(text))
            group.create_dataset("hash", data=hashes[photographs])
            group.create_dataset("copy", data=copies)
            rows = zip(photographs, copies if description.leaks else 0 * copies, strict=True)
            chosen = sorted({(encoded[photograph], int(copy)) for photograph, copy in rows})
            splits.update(repr((split, chosen)).encode())
        yield writer
        texts["split_digest"] = splits.hexdigest()
        texts["fingerprint"] = writer.fingerprint(description.classes)
        write_json(file, "description", {"version": VERSION, **texts})


@contextlib.contextmanager
def _damage(told: str) -> Iterator[None]:
    """Tell a UserError where HDF5 finds what it reads damaged; leave the system's own errors."""
    try:
        yield
    except (KeyError, OSError, RuntimeError) as error:
        if getattr(error, "errno", None) or "errno =" in str(error):
            raise
        raise UserError(told) from error


class Arrays:
    """An arrays file opened for reading; nothing is held in memory but the labels asked for.

    Attributes:
        path: of the file.
        description: Description; its parts are attributes of the Arrays too.

    Raises:
        UserError: the file is missing, damaged or not of this layout.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with open_hdf5(path, "arrays file of prepro.py") as file:
            self.description = self._describe(file)
            for split in SPLITS:
                self._check(file, split)
        self.file = open_hdf5(path, "arrays file of prepro.py", looked_at=True)

    def __getattr__(self, name):
        if name in Description.__dataclass_fields__:
            return getattr(self.description, name)
        raise AttributeError(name)

    def _error(self, reason):
        return UserError(f"{self.path}: not an arrays file of prepro.py: {reason}; make it again")

    def _describe(self, file):
        try:
            if "version" in file.attrs:
                raise self._error(f"it is of version 1, this program reads {VERSION}")
            kept = read_json(file, "description")
            version = kept.pop("version")
            if version != VERSION:
                raise self._error(f"it is of version {version!a:.20}, this program reads {VERSION}")
            description = Description(**kept)
        except (AttributeError, TypeError, *DAMAGE) as error:
            raise self._error("it lacks its description") from error
        kinds = (list, int, str, bool, int, int, int, list, list, str, str)  # the fields' order
        for kind, (name, value) in zip(kinds, vars(description).items(), strict=True):
            if type(value) is not kind:
                raise self._error(f"{name} in its description is no {kind.__name__}")
        if not MIN_SIZE <= description.image_size <= MAX_SIZE:
            raise self._error(f"image_size is {description.image_size}")
        numbers = (description.seed, description.target_per_class, description.near_duplicate_bits)
        if not all(0 <= number < 1 << 63 for number in numbers):
            raise self._error("a number in its description is out of range")
        if not all(isinstance(group, list) for group in description.near_duplicates):
            raise self._error("near_duplicates in its description are no lists")
        classes = description.classes
        if not 2 <= len(classes) <= MAX_CLASSES:
            raise self._error(f"it has {len(classes)} classes")
        if not all(map(is_name, (*classes, description.protocol))):
            raise self._error("a name in its description is no text of one line")
        return description

    def _check(self, file, split):
        parts = {name: dataset(file, f"{split}/{name}") for name in PARTS}
        for name, part in parts.items():
            if part is None:
                raise self._error(
                    f"{split}/{name} is missing or not stored in the file itself in one piece"
                )
        if parts["X"].ndim != 4:
            raise self._error(f"{split}/X has shape {parts['X'].shape}")
        count, size = len(parts["X"]), self.image_size
        wanted = {
            "X": (count, size, size, 3),
            "Y": (count, len(self.classes)),
            "source": (count,),
            "copy": (count,),
            "hash": (count, 2, HASH_BYTES),
        }
        kinds = {"X": "uint8", "Y": "uint8", "source": "text", "copy": "uint16", "hash": "uint8"}
        for name, part in parts.items():
            if part.shape != wanted[name]:
                raise self._error(f"{split}/{name} has shape {part.shape}, not {wanted[name]}")
            kind = "text" if part.dtype.kind == "S" else part.dtype.name
            if kind != kinds[name]:
                raise self._error(f"{split}/{name} is {kind}, not {kinds[name]}")
        if parts["source"].dtype.itemsize > LONGEST_PATH:
            raise self._error(f"{split}/source has texts of {parts['source'].dtype.itemsize} bytes")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def check_content(self) -> None:
        """Read every row, 1 GB in about 1.7 s, to see that none has changed since it was written.

        Raises:
            UserError: one has.
        """
        damaged = f"{self.path}: damaged, it has changed since it was made; make it again"
        digest = hashlib.blake2b(digest_size=16)
        total = sum(self.file[split]["X"].nbytes for split in SPLITS)
        with _damage(damaged):
            with tqdm(total=total, desc="Checking", unit="B", unit_scale=True, disable=None) as bar:
                for split in SPLITS:
                    for block in _blocks(self.file[split]["X"]):
                        digest.update(block)
                        bar.update(len(block))
            found = _fingerprint(self.file, self.classes, digest)
        if found != self.fingerprint:
            raise UserError(damaged)

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(self.file[split]["X"])

    def read(self, split: str, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Read examples.

        Args:
            split: "train", "val" or "test".
            rows: int array (n,) of row numbers, or a slice.

        Returns:
            X uint8 (n, size, size, 3) and Y uint8 (n, classes), in the order asked for.
        """
        if isinstance(rows, slice):
            return self._part(split, "X", rows), self._part(split, "Y", rows)
        return self._rows(split, "X", rows), self._rows(split, "Y", rows)

    def _rows(self, split, name, rows):
        """Read rows past HDF5, whose selection of single ones took 25 times as long."""
        with _damage(f"{self.path}: {split}/{name} is damaged; make it again"):
            part = self.file[split][name]
            place, size = part.id.get_offset(), part.nbytes // max(1, len(part))
            if place is None:  # few bytes, which stand in its header
                return part[()][rows]
            file = self.file.id.get_vfd_handle()
            read = bytearray().join(os.pread(file, size, place + size * int(r)) for r in rows)
            if len(read) < size * len(rows):
                raise OSError("the file has become shorter")
            return np.frombuffer(read, part.dtype).reshape(len(rows), *part.shape[1:])

    def _part(self, split, name, rows=slice(None)):
        with _damage(f"{self.path}: {split}/{name} is damaged; make it again"):
            return self.file[split][name][rows]

    def labels(self, split: str) -> np.ndarray:
        """Return the class numbers of a split, int64 (N,)."""
        step = max(1, (1 << 24) // len(self.classes))  # rows of 16 MB
        starts = range(0, self.count(split), step)
        parts = [self._part(split, "Y", slice(i, i + step)).argmax(axis=1) for i in starts]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def sources(self, split: str) -> list[str]:
        """Return the photographs' paths below the dataset path, a list of N str."""
        return [name.decode("utf-8", "surrogateescape") for name in self._part(split, "source")]

    def copies(self, split: str) -> np.ndarray:
        """Return the copy numbers, uint16 (N,): 0 for a photograph itself."""
        return self._part(split, "copy")

    def hashes(self, split: str) -> np.ndarray:
        """Return the photographs' perceptual hashes, uint8 (N, 2, 32)."""
        return self._part(split, "hash")

    @property
    def folder(self) -> Path:
        """Where prepro.py's defaults have the photographs: beside the file, of the same name."""
        return self.path.with_suffix("")

    def held_out(self) -> Path | None:
        """Return the path of a test photograph that is still where prepro.py found it, or None."""
        for source in self.sources("test"):
            if source.startswith("train/") and "/../" not in source:  # else it leads elsewhere
                with contextlib.suppress(OSError):  # too long a name
                    if (self.folder / source).is_file():
                        return self.folder / source
        return None


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
                raise UserError(
                    f"{args.file}: no folder of this name beside it has its test photographs; "
                    "put it there"
                )
            print(path)
            return 0
        print(f"protocol {finished.protocol}, seed {finished.seed}, {finished.image_size} px")
        print(", ".join(f"{split} {finished.count(split)}" for split in SPLITS))
        print(f"{len(finished.classes)} classes: {', '.join(finished.classes)}")
        print(f"left out: {len(finished.left_out)} files that could not be used")
    return 0


if __name__ == "__main__":
    cli.run(main)
