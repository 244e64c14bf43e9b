"""From photographs to arrays: decode, gather near-duplicates, split, augment, write.

photographs -> decode -> group -> plan -> write -> arrays
"""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classifier.data import arrays
from classifier.data.archive import BACKGROUND
from classifier.data.augment import augmented
from classifier.data.batch import Share
from classifier.data.duplicates import HASH_BYTES, Groups, near_rows, perceptual_hash, same_shots
from classifier.data.images import ImageError, files_below, read_rgb, square
from classifier.data.splits import SPLITS, Protocol, assign_splits
from classifier.errors import UserError
from classifier.files import atomic_write, named
from classifier.hdf5 import is_name
from classifier.seeds import generator
from classifier.workers import ordered_map

CHUNK = 64  # pictures a task: large enough that handing over costs nothing, small for the bar


@dataclass(frozen=True)
class Photographs:
    """Decoded photographs; their pixels lie in the file `spool`, in the same order.

    Attributes:
        sources: paths below the dataset path.
        classes: sorted class names.
        hashes: uint8 array (N, 2, 32) of `perceptual_hash`.
        left_out: files that cannot be used, {"file": ..., "reason": ...}.
        spool: raw uint8 file, (N, size, size, 3).
        size: pixels.
    """

    sources: list[str]
    classes: list[str]
    hashes: np.ndarray
    left_out: list[dict]
    spool: Path
    size: int

    @property
    def labels(self) -> list[str]:
        """The class name of each photograph."""
        return [Path(source).parts[1] for source in self.sources]


def find(dataset_path: Path) -> list[Path]:
    """Return the files below `dataset_path`/train/<category>/, sorted.

    Raises:
        UserError: no such folder, fewer than two classes, or one without files.
    """
    train = dataset_path / "train"
    if not train.is_dir():
        raise UserError(
            f"{train}: no such folder; --dataset-path needs train/<category>/*.jpg below it, or "
            "use --download, --archive FILE or --sample"
        )
    files = []
    for category in sorted(train.iterdir()):
        if not category.is_dir() or category.name.startswith(".") or category.name == BACKGROUND:
            continue
        if not is_name(category.name):
            raise UserError(
                f"{str(category)!a}: its name is not UTF-8, or has control characters; rename it"
            )
        found = files_below(category)
        if not found:
            raise UserError(f"{category}: no images in this class; add some or remove it")
        files += found
    if len({file.relative_to(train).parts[0] for file in files}) < 2:
        raise UserError(f"{train}: fewer than 2 classes; it needs train/<category>/*.jpg below it")
    return files


def decode(
    files: Sequence[Path],
    dataset_path: Path,
    size: int,
    spool: Path,
    workers: int = 1,
    progress: Callable[[int], object] = int,
) -> Photographs:
    """Decode photographs into the file `spool`: memory does not grow with their number.

    Args:
        files: of `find`.
        dataset_path: folder that their names are told from.
        size: pixels.
        spool: file to be written; the caller removes it.
        workers: processes.
        progress: called with the number of files done since the last call.

    Raises:
        OSError: a file cannot be read (one that is read but is no image is left out).
    """
    sources, hashes, left_out = [], [], []
    tasks = [(files[i : i + CHUNK], size) for i in range(0, len(files), CHUNK)]
    with named(spool), spool.open("wb") as out:
        for task, results in zip(tasks, ordered_map(_decode_chunk, tasks, workers), strict=True):
            for file, result in zip(task[0], results, strict=True):
                name = file.relative_to(dataset_path).as_posix()
                if isinstance(result, str):
                    left_out.append({"file": name, "reason": result})
                else:
                    pixels, code = result
                    out.write(pixels)
                    sources.append(name)
                    hashes.append(code)
            progress(len(results))
    classes = sorted({file.relative_to(dataset_path).parts[1] for file in files})
    hashes = np.array(hashes, np.uint8).reshape(-1, 2, HASH_BYTES)
    return Photographs(sources, classes, hashes, left_out, spool, size)


def _decode_chunk(task):
    """Decode a task's files: (pixels, hashes) of each, or the reason why it cannot be used."""
    files, size = task
    results = []
    for file in files:
        try:
            rgb = read_rgb(file)
            results.append((square(rgb, size), perceptual_hash(rgb)))
        except ImageError as error:
            results.append(str(error))
    return results


def group(photographs: Photographs, max_bits: int) -> Groups:
    """Gather the photographs that must stand in one split.

    Near-duplicates by hash, mirror images included, and the shots that the data set is known to
    hold twice.
    """
    groups = Groups(len(photographs.sources))
    groups.join(near_rows(photographs.hashes, max_bits))
    return groups.join(same_shots(photographs.sources))


def make_plan(
    photographs: Photographs,
    groups: Groups,
    protocol: Protocol,
    target_per_class: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Decide every row of the arrays: {"train": array of type EXAMPLE, "val": ..., "test": ...}.

    Raises:
        UserError: a class has too few photographs for the protocol.
    """
    labels = photographs.labels
    missing = sorted(set(photographs.classes) - set(labels))
    if missing:
        raise UserError(f"class {missing[0]!r} has no usable image: mend or remove its folder")
    number = {name: i for i, name in enumerate(photographs.classes)}

    numbers = np.array([number[label] for label in labels], np.int32)

    def examples(photographs, copies):
        rows = np.empty(len(photographs), arrays.EXAMPLE)
        rows["photograph"], rows["copy"], rows["label"] = photographs, copies, numbers[photographs]
        return rows

    if protocol.leaks:
        rows = examples(*copies(labels, range(len(labels)), target_per_class, seed))
        names = [photographs.classes[label] for label in rows["label"]]
        drawn = np.array(assign_splits(names, range(len(rows)), protocol, seed))
        return {split: rows[drawn == split] for split in SPLITS}
    drawn = np.array(assign_splits(labels, groups.of.tolist(), protocol, seed))
    chosen = {split: np.flatnonzero(drawn == split) for split in SPLITS}
    return {
        "train": examples(*copies(labels, chosen["train"].tolist(), target_per_class, seed)),
        **{split: examples(chosen[split], 0) for split in ("val", "test")},
    }


def copies(
    labels: Sequence[str], chosen: Sequence[int], target_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of photographs and of copies: each itself, 0, and up to the target.

    The copies are spread evenly; which photographs get one more is drawn by seed.
    """
    members = {}
    for i in chosen:
        members.setdefault(labels[i], []).append(i)
    rows, numbers = [np.zeros(0, np.int32)], [np.zeros(0, np.uint16)]
    for label, photos in members.items():
        each, rest = divmod(max(target_per_class - len(photos), 0), len(photos))
        count = np.full(len(photos), 1 + each)
        count[generator("copies", seed, label).permutation(len(photos))[:rest]] += 1
        rows.append(np.repeat(np.array(photos, np.int32), count))
        numbers += [np.arange(n, dtype=np.uint16) for n in count]
    return np.concatenate(rows), np.concatenate(numbers)


def write(
    paths: Sequence[Path],
    plan: dict[str, np.ndarray],
    photographs: Photographs,
    description: arrays.Description,
    workers: int = 1,
    progress: Callable[[int], object] = int,
) -> None:
    """Augment and write the arrays, a part of each split to each path.

    They appear once all are whole; a set of which some are of an earlier one is none to `Arrays`.

    Raises:
        OSError: the disk has too little room.
    """
    sources, count = photographs.sources, len(paths)
    parts = [
        {split: rows[Share(k, count).of(len(rows))] for split, rows in plan.items()}
        for k in range(count)
    ]
    tasks = (
        (_wanted(rows, sources), photographs.spool, photographs.size, description.seed)
        for part in parts
        for _, _, rows in _chunks(part)
    )
    row = 3 * photographs.size**2 + len(photographs.classes)
    # At once, not after hours of shards; some file systems say that they have nothing free.
    if 0 < shutil.disk_usage(paths[0].parent).free < row * sum(map(len, plan.values())):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0]))
    results, found = ordered_map(_augment_chunk, tasks, workers), {}
    with contextlib.closing(results), contextlib.ExitStack() as stack:
        for path, part in zip(paths, parts, strict=True):
            temporary = stack.enter_context(atomic_write(path))
            with arrays.fill(temporary, part, sources, photographs.hashes, description) as out:
                for split, start, rows in _chunks(part):
                    out.write(split, start, next(results))
                    progress(len(rows))
            found[temporary] = out.fingerprint
        about = replace(
            description,
            split_digest=arrays.split_digest(plan, sources, description.leaks),
            shards=count,
            set_digest=arrays.digest_of_set(found.values()) if count > 1 else "",
        )
        for shard, (temporary, fingerprint) in enumerate(found.items(), 1):
            arrays.describe(temporary, replace(about, fingerprint=fingerprint, shard=shard))


def _chunks(plan):
    """Yield (split, number of the first row, rows) of some rows at a time."""
    for split in SPLITS:
        for start in range(0, len(plan[split]), CHUNK):
            yield split, start, plan[split][start : start + CHUNK]


def _wanted(rows, sources):
    """Return (photograph, copy, source) of each row."""
    pairs = zip(rows["photograph"].tolist(), rows["copy"].tolist(), strict=True)
    return [(photograph, copy, sources[photograph]) for photograph, copy in pairs]


def _augment_chunk(task):
    """Return the pixels of a task's rows, uint8 (n, size, size, 3)."""
    wanted, spool, size, seed = task
    photos = np.memmap(spool, np.uint8, "r").reshape(-1, size, size, 3)
    pixels = []
    for photo, rows in itertools.groupby(wanted, key=lambda row: row[0]):
        pixels += copies_of(photos[photo], [(source, copy) for _, copy, source in rows], seed)
    return np.stack(pixels)


def copies_of(photo: np.ndarray, wanted: Sequence[tuple[str, int]], seed: int) -> list[np.ndarray]:
    """Return a photograph's rows: (source, 0) is the photograph itself, (source, k) its k-th copy.

    Args:
        photo: uint8 array (size, size, 3).
        wanted: (source, copy) of each row.
        seed: of the augmentation.

    Returns:
        uint8 arrays (size, size, 3).
    """
    made = augmented(photo, [generator("augment", seed, s, k) for s, k in wanted if k])
    return [next(made) if k else photo for _, k in wanted]
