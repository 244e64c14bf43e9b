"""One batch of an arrays file, read and augmented, here or in a process of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.data.arrays import Arrays, opened
from classifier.data.augment import cropped, mixup, resized
from classifier.seeds import generator


@dataclass(frozen=True)
class Wanted:
    """What a batch is made of.

    Attributes:
        split: "train", "val" or "test".
        rows: int array (B,), row numbers.
        side: of the images, pixels.
        crop: as in `Batches`.
        mixup: as in `Batches`.
        key: of the generator of what is random in it.
    """

    split: str
    rows: np.ndarray
    side: int
    crop: float
    mixup: float
    key: tuple


def made(arrays: Arrays, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (B, side, side, 3) and labels float32 (B, classes)."""
    images, labels = arrays.read(wanted.split, wanted.rows)
    if wanted.crop or wanted.mixup:
        random = generator(*wanted.key)
    if wanted.crop:
        images = np.stack([cropped(image, wanted.crop, random, wanted.side) for image in images])
    elif wanted.side != arrays.image_size:
        images = np.stack([resized(image, wanted.side) for image in images])
    labels = labels.astype(np.float32)
    if wanted.mixup:
        images, labels = mixup(images, labels, wanted.mixup, random)
    return images, labels


def made_apart(
    path: Path, files: tuple[Path, ...], fingerprint: str, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `made` does, in a process that opens the files itself; see `arrays.opened`."""
    return made(opened(path, files, fingerprint), wanted)
