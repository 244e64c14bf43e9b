"""The arrays between prepro.py and train.py: one HDF5 file that describes itself, or shards of it.

Groups train, val and test, each with
    X       uint8 (N, size, size, 3), RGB
    Y       uint8 (N, classes), one-hot
    source  (N,) UTF-8: the photograph's path below the dataset path
    copy    uint16 (N,): 0 for the photograph itself, k for its k-th augmented copy
    hash    uint8 (N, 2, 32): the photograph's perceptual hash and that of its mirror image
and a dataset `description`, the JSON text of a Description. Of a set of shards each is such a file,
with a part of each split.
"""

import contextlib
import fnmatch
import functools
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, get_origin, get_type_hints

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
MOST_SHARDS = 200  # all are open at a time, of the 256 files that some systems allow
NUMBER = re.compile(r"-\d{5}-of-\d{5}$")  # at the end of a shard's name
KIND = "arrays file of prepro.py"
DAMAGED = "damaged, it has changed since it was made; make it again"
PARTS = ("X", "Y", "source", "copy", "hash")  # of a split


class Example(NamedTuple):
    """One row to be: photograph number, copy number, class number."""

    photograph: int
    copy: int
    label: int


EXAMPLE = np.dtype([("photograph", np.int32), ("copy", np.uint16), ("label", np.int32)])


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
        shard: number of this file in its set, from 1.
        shards: how many files the set has.
        set_digest: of all their fingerprints; "" where there is one file.
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
    shard: int = 1
    shards: int = 1
    set_digest: str = ""


class _Writer:
    """An arrays file that is being filled."""

    def __init__(self, file):
        self.file = file
        self.digest = hashlib.blake2b(digest_size=16)  # of the rows of X
        self.fingerprint = ""

    def write(self, split: str, start: int, images: np.ndarray) -> None:
        """Write rows of X, uint8 (n, size, size, 3); calls come in the order of the rows."""
        self.file[split]["X"][start : start + len(images)] = images
        self.digest.update(np.ascontiguousarray(images))


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


def split_digest(plan: dict, sources: Sequence[str], leaks: bool) -> str:
    """Return the digest of which photograph is in which split; see `create` for the arguments."""
    digest = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        rows = _examples(plan[split]).copy()
        if not leaks:
            rows["copy"] = 0
        rows = np.unique(rows[["photograph", "copy"]])
        chosen = sorted((_encoded(sources[photograph]), copy) for photograph, copy in rows.tolist())
        digest.update(repr((split, chosen)).encode())
    return digest.hexdigest()


def _examples(rows):
    return rows if isinstance(rows, np.ndarray) else np.array(list(rows), EXAMPLE)


def _encoded(source):
    return source.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def create(
    path: Path, plan: dict, sources: Sequence[str], hashes: np.ndarray, description: Description
) -> Iterator[_Writer]:
    """Create an arrays file with X still to be filled; it appears at `path` when the block ends.

    Args:
        path: where the file goes.
        plan: {"train": Examples, "val": ..., "test": ...}, as sequences or arrays of type EXAMPLE.
        sources: paths below the dataset path, indexed by Example.photograph.
        hashes: uint8 array (photographs, 2, 32) of `perceptual_hash`, indexed likewise.
        description: without digests, which are added here.

    Yields:
        what X is to be written to, from the first row of train to the last of test.
    """
    with atomic_write(path) as temporary:
        with fill(temporary, plan, sources, hashes, description) as out:
            yield out
        digest = split_digest(plan, sources, description.leaks)
        describe(temporary, replace(description, split_digest=digest, fingerprint=out.fingerprint))


@contextlib.contextmanager
def fill(
    path: Path, plan: dict, sources: Sequence[str], hashes: np.ndarray, description: Description
) -> Iterator[_Writer]:
    """Create a file as `create` does, but at `path` itself, and for `describe` to be made whole.

    Its fingerprint stands in what is yielded once the block has ended.
    """
    size, classes = description.image_size, len(description.classes)
    encoded = [_encoded(source) for source in sources]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    names = np.array(encoded, dtype=text)
    row = size**2 * 3 + classes + text.itemsize + hashes[0].nbytes + 2
    room = sum(map(len, plan.values())) * row + 2 * len(str(asdict(description))) + 65_536
    with h5py.File(path, "w") as file:
        file.flush()
        reserve(path, room)
        writer = _Writer(file)
        for split in SPLITS:
            examples = _examples(plan[split])
            group = file.create_group(split)
            group.create_dataset("X", (len(examples), size, size, 3), np.uint8)
            labels = examples["label"]
            one_hot = group.create_dataset("Y", (len(examples), classes), np.uint8)
            for start in range(0, len(examples), 4096):
                part = labels[start : start + 4096]
                one_hot[start : start + len(part)] = part[:, None] == np.arange(classes)
            group.create_dataset("source", data=names[examples["photograph"]].astype(text))
            group.create_dataset("hash", data=hashes[examples["photograph"]])
            group.create_dataset("copy", data=examples["copy"])
        yield writer
        writer.fingerprint = _fingerprint(file, description.classes, writer.digest)


def describe(path: Path, description: Description) -> None:
    """Write the description into a file of `fill`, which makes it an arrays file."""
    # Worker processes may have inherited the lock of who filled it.
    with h5py.File(path, "r+", locking=False) as file:
        write_json(file, "description", {"version": VERSION, **asdict(description)})


def digest_of_set(fingerprints: Iterable[str]) -> str:
    """Return the digest of a set of shards, from their fingerprints in order."""
    text = ascii(list(fingerprints))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def _damage(told: str) -> Iterator[None]:
    """Tell a UserError where HDF5 finds what it reads damaged; leave the system's own errors."""
    try:
        yield
    except (KeyError, OSError, RuntimeError) as error:
        if getattr(error, "errno", None) or "errno =" in str(error):
            raise
        raise UserError(told) from error


class _Shard:
    """One arrays file, opened for reading."""

    def __init__(self, path):
        self.path = path
        with open_hdf5(path, KIND) as file:
            self.description = self._describe(file)
            for split in SPLITS:
                self._check(file, split)
        self.file = open_hdf5(path, KIND, looked_at=True)

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
        kinds = [get_origin(kind) or kind for kind in get_type_hints(Description).values()]
        for kind, (name, value) in zip(kinds, vars(description).items(), strict=True):
            if type(value) is not kind:
                raise self._error(f"{name} in its description is no {kind.__name__}")
        if not MIN_SIZE <= description.image_size <= MAX_SIZE:
            raise self._error(f"image_size is {description.image_size}")
        numbers = (description.seed, description.target_per_class, description.near_duplicate_bits)
        if not 1 <= description.shard <= description.shards <= MOST_SHARDS:
            raise self._error(f"it is shard {description.shard} of {description.shards}")
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
        count, size = len(parts["X"]), self.description.image_size
        wanted = {
            "X": (count, size, size, 3),
            "Y": (count, len(self.description.classes)),
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

    def digest(self, seen):
        """Return the digest of everything in it that counts; `seen` is told each block's size."""
        digest = hashlib.blake2b(digest_size=16)
        with _damage(f"{self.path}: {DAMAGED}"):
            for split in SPLITS:
                for block in _blocks(self.file[split]["X"]):
                    digest.update(block)
                    seen(len(block))
            return _fingerprint(self.file, self.description.classes, digest)

    def rows(self, split, name, rows):
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

    def part(self, split, name, rows=slice(None)):
        with _damage(f"{self.path}: {split}/{name} is damaged; make it again"):
            return self.file[split][name][rows]


class Arrays:
    """An arrays file, or a set of shards, opened for reading.

    Nothing is held in memory but what is asked for.

    Args:
        path: of the file; of a folder that holds the shards, or a pattern as "arrays-*.h5".
        files: those that it led to before, where it is opened once more.

    Attributes:
        path: as given.
        files: of all shards, in order.
        description: Description; its parts are attributes of the Arrays too.

    Raises:
        UserError: a file is missing, damaged, not of this layout or not of the others' set.
    """

    def __init__(self, path: Path, files: Sequence[Path] = ()):
        self.path = Path(path)
        self._shards = []
        try:
            for file in files or files_of(self.path):
                self._shards.append(_Shard(file))
            self._shards.sort(key=lambda shard: shard.description.shard)
            self.description = self._common()
        except BaseException:
            self.__exit__()
            raise
        self.files = tuple(shard.path for shard in self._shards)
        lengths = {s: [len(shard.file[s]["X"]) for shard in self._shards] for s in SPLITS}
        self._bounds = {split: [0, *itertools.accumulate(lengths[split])] for split in SPLITS}

    def __getattr__(self, name):
        if name in Description.__dataclass_fields__:
            return getattr(self.description, name)
        raise AttributeError(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for shard in self._shards:
            shard.file.close()

    def _common(self):
        """Return the description of all shards together."""
        first, missing = self._shards[0], set(range(1, self._shards[0].description.shards + 1))
        for shard in self._shards:
            about, own = shard.description, first.description
            alike = replace(about, fingerprint=own.fingerprint, shard=own.shard)
            if alike != own or about.shard not in missing:
                raise UserError(
                    f"{shard.path}: not of the set of {first.path}; give one set alone, or make "
                    "it again"
                )
            missing.remove(about.shard)
        if missing:
            raise UserError(
                f"{self.path}: shard {min(missing)} of {own.shards} is missing; give all of them, "
                "or make them again"
            )
        if own.shards == 1:
            return own
        if digest_of_set(s.description.fingerprint for s in self._shards) != own.set_digest:
            raise UserError(f"{self.path}: its shards are not of one set; make it again")
        return replace(own, fingerprint=own.set_digest)

    def check_content(self, index: int = 0, count: int = 1) -> None:
        """Read every row, 1 GB in about 1.7 s, to see that none has changed since it was written.

        Args:
            index: of `count` processes, each of which reads its part of the shards alone.
            count: of the processes.

        Raises:
            UserError: one has.
        """
        shards = self._shards[index::count]
        total = sum(shard.file[split]["X"].nbytes for shard in shards for split in SPLITS)
        with tqdm(total=total, desc="Checking", unit="B", unit_scale=True, disable=None) as bar:
            for shard in shards:
                if shard.digest(bar.update) != shard.description.fingerprint:
                    raise UserError(f"{shard.path}: {DAMAGED}")

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""
        return self._bounds[split][-1]

    def read(self, split: str, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Read examples.

        Args:
            split: "train", "val" or "test".
            rows: int array (n,) of row numbers, or a slice without a step.

        Returns:
            X uint8 (n, size, size, 3) and Y uint8 (n, classes), in the order asked for.
        """
        if isinstance(rows, slice):
            return self._part(split, "X", rows), self._part(split, "Y", rows)
        if len(self._shards) == 1:
            return self._shards[0].rows(split, "X", rows), self._shards[0].rows(split, "Y", rows)
        size, classes = self.image_size, len(self.classes)
        X = np.empty((len(rows), size, size, 3), np.uint8)
        Y = np.empty((len(rows), classes), np.uint8)
        shards = np.searchsorted(self._bounds[split], rows, "right") - 1
        for number in np.unique(shards):
            shard, mine = self._shards[number], shards == number
            first = self._bounds[split][number]
            X[mine], Y[mine] = (shard.rows(split, name, rows[mine] - first) for name in "XY")
        return X, Y

    def _part(self, split, name, rows=slice(None)):
        start, stop, _ = rows.indices(self.count(split))
        parts = []
        for shard, (first, end) in zip(
            self._shards, itertools.pairwise(self._bounds[split]), strict=True
        ):
            low, high = max(start, first), min(stop, end)
            if low < high or not parts:
                parts.append(shard.part(split, name, slice(low - first, max(low, high) - first)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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

    def hashes(self, split: str, rows: slice = slice(None)) -> np.ndarray:
        """Return the perceptual hashes of photographs, all or a slice, uint8 (n, 2, 32)."""
        return self._part(split, "hash", rows)

    @property
    def folder(self) -> Path:
        """Where prepro.py's defaults have the photographs: beside the file, of the same name."""
        path = self.files[0]
        return path.with_name(NUMBER.sub("", path.stem) or path.stem)

    def held_out(self) -> Path | None:
        """Return the path of a test photograph that is still where prepro.py found it, or None."""
        for source in self.sources("test"):
            if source.startswith("train/") and "/../" not in source:  # else it leads elsewhere
                with contextlib.suppress(OSError):  # too long a name
                    if (self.folder / source).is_file():
                        return self.folder / source
        return None


@functools.lru_cache(maxsize=1)
def opened(path: Path, files: tuple[Path, ...], fingerprint: str) -> Arrays:
    """Return Arrays that a worker process opens once, and keeps open.

    Raises:
        UserError: the files are others by now.
    """
    arrays = Arrays(path, files)
    if arrays.fingerprint != fingerprint:
        raise UserError(f"{path} was replaced")
    return arrays


def shard_paths(output: Path, count: int) -> list[Path]:
    """Return the paths of so many shards; the file's own where there is only one."""
    if count == 1:
        return [output]
    names = (f"{output.stem}-{k:05}-of-{count:05}.h5" for k in range(1, count + 1))
    return [output.with_name(name) for name in names]


def shard_pattern(output: Path, count: int) -> Path:
    """Return what `Arrays` is given to open them."""
    if count == 1:
        return output
    return output.with_name(f"{glob.escape(output.stem)}-?????-of-{count:05}.h5")


def remove_unfinished(output: Path) -> None:
    """Remove the shards that a killed run has left unfinished, of however many."""
    for path in output.parent.glob(f".part.{glob.escape(output.stem)}-?????-of-?????.h5"):
        path.unlink()


def files_of(path: Path) -> list[Path]:
    """Return the files of an arrays file, a folder or a pattern, sorted; `path` where none is."""
    if path.is_file():
        return [path]
    folder, pattern = (path, "*.h5") if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        return [path]
    found = (file for file in folder.iterdir() if fnmatch.fnmatchcase(file.name, pattern))
    files = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
    return files or [path]


def main():
    """Print what an arrays file holds."""
    parser = cli.Parser(prog="python -m classifier.data.arrays", description=main.__doc__)
    parser.add_argument("file", type=Path, help="arrays of prepro.py, or a pattern of shards")
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
