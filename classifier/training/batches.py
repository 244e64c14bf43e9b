"""Batches for Keras, read from the arrays file as they are needed."""

import sys
from concurrent.futures import Executor

import keras
import numpy as np

from classifier.cli import printable
from classifier.data.arrays import Arrays
from classifier.data.batch import Share, Wanted, made, made_apart
from classifier.seeds import Order

# Batches that a process has made or is to make before they are taken, and most bytes of all.
AHEAD, AHEAD_BYTES = 4, 256 << 20


class Batches(keras.utils.PyDataset):
    """One split of an arrays file in batches; few are in memory at a time, whatever N.

    Each item is (images, labels): uint8 (B, side, side, 3) and float32 (B, classes).

    Args:
        arrays: an open Arrays.
        split: "train", "val" or "test".
        batch_size: examples a batch; without `shuffle_seed` the last one may be smaller.
        shuffle_seed: None for the file's order; else an int, and each epoch has an order and an
            augmentation of its own that depend on this and the epoch's number alone. What remains
            at the end of an epoch, less than a batch, is left out of it: other examples each time.
        copies: the stored augmented copies too; else the photographs themselves alone.
        crop: crop each picture at random, to this part of its area or more, and flip half of them;
            1 for flips alone, 0 for neither.
        mixup: alpha of the shares by which the images of a batch are mixed; 0: they are not.
        share: Share of each batch that is read; the last one is filled up with the first rows then.
            None for all of it.

    Attributes:
        side: of the images, pixels; the arrays' unless it is set to another.
    """

    def __init__(
        self,
        arrays: Arrays,
        split: str,
        batch_size: int,
        shuffle_seed: int | None = None,
        *,
        copies: bool = True,
        crop: float = 0.0,
        mixup: float = 0.0,
        share: Share | None = None,
    ):
        super().__init__()
        self.arrays, self.split, self.batch_size = arrays, split, batch_size
        self.shuffle_seed, self.crop, self.mixup = shuffle_seed, crop, mixup
        self.share = share
        self.side = arrays.image_size
        self.rows, self.count = None, arrays.count(split)  # None: all of them
        if not copies and (numbers := arrays.copies(split)).any():
            self.rows = np.flatnonzero(numbers == 0)
            self.count = len(self.rows)
        self.order, self.pool, self.ahead, self.coming = None, None, 0, {}
        self.start()

    def use(self, pool: Executor, processes: int) -> None:
        """Have batches made ahead of time by the processes of a pool, for items read in order.

        Where one is killed, or the pool breaks otherwise, they are made by this process again.
        """
        shares = self.share.count if self.share else 1
        largest = self.batch_size // shares * self.arrays.image_size**2 * 3
        self.pool, self.ahead = pool, min(AHEAD * processes, AHEAD_BYTES // largest)

    def start(self, epoch: int = 0, first: int = 0) -> None:
        """Begin an epoch, number `epoch`, with its batch number `first`, both 0-based.

        Keras' own on_epoch_end would not do: it is called before the first epoch too.
        """
        self.epoch, self.first = epoch, first
        if self.shuffle_seed is not None and self.count:
            self.order = Order(self.count, "order", self.shuffle_seed, epoch)
        for future in self.coming.values():
            future.cancel()
        self.coming = {}  # {number of the batch: its Future}

    def __len__(self):
        return self.steps - self.first

    @property
    def steps(self) -> int:
        """Number of batches of a whole epoch."""
        if self.shuffle_seed is not None:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    def labels(self) -> np.ndarray:
        """Return the class numbers of all examples in the file's order, int64 (N,)."""
        labels = self.arrays.labels(self.split)
        return labels if self.rows is None else labels[self.rows]

    def __getitem__(self, index):
        index += self.first
        if self.pool is not None:
            try:
                return self._made_ahead(index)
            except Exception as error:  # whatever it is, the file is open here, and has the batch
                self.pool = None
                reason = printable(str(error) or type(error).__name__)
                print(f"note: batches are made one by one from now on: {reason}", file=sys.stderr)
        return made(self.arrays, self._wanted(index))

    def _made_ahead(self, index):
        coming = self.coming  # an epoch may begin while another thread still reads of the last
        for later in range(index, min(index + 1 + self.ahead, self.steps)):
            if later not in coming:
                about = self.arrays.path, self.arrays.files, self.arrays.fingerprint
                coming[later] = self.pool.submit(made_apart, *about, self._wanted(later))
        return coming.pop(index).result()

    def _wanted(self, index):
        start = index * self.batch_size
        rows = np.arange(start, start + self.batch_size)
        rows = rows[rows < self.count] if self.share is None else rows % self.count
        rows = rows if self.order is None else self.order(rows)
        rows = rows if self.rows is None else self.rows[rows]
        key = ("augmentation", self.shuffle_seed, self.epoch, index)
        share = self.share or Share(0, 1)
        return Wanted(self.split, rows, self.side, self.crop, self.mixup, key, share)
