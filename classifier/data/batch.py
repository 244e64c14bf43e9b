"""One batch of an arrays file, or part of one, read and augmented, here or in another process."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classifier.data.arrays import Arrays, opened
from classifier.data.augment import cropped, mixup, random_crop, resized
from classifier.seeds import generator


class Share(NamedTuple):
    """Part number `index`, from 0, of `count` parts, as equal as can be."""

    index: int
    count: int

    def of(self, size: int) -> slice:
        """Return which of `size` rows are in it."""
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Wanted:
    """What a batch is made of, and which part of it is wanted.

    Attributes:
        split: "train", "val" or "test".
        rows: int array (B,), row numbers.
        side: of the images, pixels.
        crop: as in `Batches`.
        mixup: as in `Batches`.
        key: of the generator of what is random in it.
        share: Share; it must divide the rows.
    """

    split: str
    rows: np.ndarray
    side: int
    crop: float
    mixup: float
    key: tuple
    share: Share = Share(0, 1)


def made(arrays: Arrays, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (B / shares, side, side, 3) and labels float32 (B / shares, classes).

    They are those of the whole batch, bit for bit, of which only what is needed is read.
    """
    size = len(wanted.rows)
    own = wanted.share.of(size)
    before = int(bool(wanted.mixup) and wanted.share.count > 1)  # that the first is mixed with
    places = np.arange(own.start - before, own.stop)  # of which -1 is the last
    images, labels = arrays.read(wanted.split, wanted.rows[places])
    if wanted.crop or wanted.mixup:
        random = generator(*wanted.key)
    if wanted.crop:
        crops = [random_crop(arrays.image_size, wanted.crop, random) for _ in range(size)]
        views = zip(images, (crops[place] for place in places), strict=True)
        images = np.stack([cropped(image, crop, wanted.side) for image, crop in views])
    elif wanted.side != arrays.image_size:
        images = np.stack([resized(image, wanted.side) for image in images])
    labels = labels.astype(np.float32)
    if wanted.mixup:
        images, labels = mixup(images, labels, wanted.mixup, random)
    return images[before:], labels[before:]


def made_apart(
    path: Path, files: tuple[Path, ...], fingerprint: str, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `made` does, in a process that opens the files itself; see `arrays.opened`."""
    return made(opened(path, files, fingerprint), wanted)
