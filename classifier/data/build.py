"""From photographs to arrays: decode, gather near-duplicates, split, augment, write.

photographs -> decode -> group -> plan -> write -> arrays
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.data import arrays
from classifier.data.archive import BACKGROUND
from classifier.data.augment import augmented
from classifier.data.duplicates import HASH_BYTES, Groups, near_rows, perceptual_hash, same_shots
from classifier.data.images import ImageError, files_below, read_rgb, square
from classifier.data.splits import SPLITS, Protocol, assign_splits
from classifier.errors import UserError
from classifier.files import named
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
) -> dict[str, list[arrays.Example]]:
    """Decide every row of the arrays: {"train": [Example, ...], "val": ..., "test": ...}.

    Raises:
        UserError: a class has too few photographs for the protocol.
    """
    labels = photographs.labels
    missing = sorted(set(photographs.classes) - set(labels))
    if missing:
        raise UserError(f"class {missing[0]!r} has no usable image: mend or remove its folder")
    number = {name: i for i, name in enumerate(photographs.classes)}

    def examples(pairs):
        return [arrays.Example(i, k, number[labels[i]]) for i, k in pairs]

    if protocol.leaks:
        rows = examples(copies(labels, range(len(labels)), target_per_class, seed))
        names = [photographs.classes[row.label] for row in rows]
        drawn = assign_splits(names, range(len(rows)), protocol, seed)
        return {
            split: [row for row, other in zip(rows, drawn, strict=True) if other == split]
            for split in SPLITS
        }
    drawn = assign_splits(labels, groups.of.tolist(), protocol, seed)
    chosen = {split: [i for i, other in enumerate(drawn) if other == split] for split in SPLITS}
    return {
        "train": examples(copies(labels, chosen["train"], target_per_class, seed)),
        **{split: examples((i, 0) for i in chosen[split]) for split in ("val", "test")},
    }


def copies(
    labels: Sequence[str], chosen: Sequence[int], target_per_class: int, seed: int
) -> list[tuple[int, int]]:
    """Return (photograph, copy) pairs: each photograph, and copies up to the target per class.

    The copies are spread evenly; which photographs get one more is drawn by seed.
    """
    members = {}
    for i in chosen:
        members.setdefault(labels[i], []).append(i)
    pairs = []
    for label, photos in members.items():
        each, rest = divmod(max(target_per_class - len(photos), 0), len(photos))
        more = set(generator("copies", seed, label).permutation(len(photos))[:rest].tolist())
        for position, photo in enumerate(photos):
            pairs += [(photo, k) for k in range(1 + each + (position in more))]
    return pairs


def write(
    path: Path,
    plan: dict[str, list[arrays.Example]],
    photographs: Photographs,
    description: arrays.Description,
    workers: int = 1,
    progress: Callable[[int], object] = int,
) -> None:
    """Augment and write the arrays; the file appears whole when all rows are in it."""
    sources = photographs.sources
    tasks = []
    for split in SPLITS:
        for start in range(0, len(plan[split]), CHUNK):
            rows = plan[split][start : start + CHUNK]
            wanted = [(row.photograph, row.copy, sources[row.photograph]) for row in rows]
            task = (split, start, wanted, photographs.spool, photographs.size, description.seed)
            tasks.append(task)
    with arrays.create(path, plan, sources, photographs.hashes, description) as out:
        for task, X in zip(tasks, ordered_map(_augment_chunk, tasks, workers), strict=True):
            split, start = task[:2]
            out.write(split, start, X)
            progress(len(X))


def _augment_chunk(task):
    """Return the pixels of a task's rows, uint8 (n, size, size, 3)."""
    _, _, wanted, spool, size, seed = task
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
