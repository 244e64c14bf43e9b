"""Batches for Keras, read from the arrays file as they are needed."""

import keras
import numpy as np

from classifier.seeds import generator


class Batches(keras.utils.PyDataset):
    """One side of an arrays file in batches; in memory stands one batch, whatever N.

    Each item is (images, labels): uint8 (B, size, size, 3) and float32 (B, classes).

    Args:
        arrays: an open Arrays.
        side: "train", "val" or "test".
        batch_size: examples a batch; the last one may be smaller.
        shuffle_seed: None for the file's order; else an int, and each epoch has an order of its own
            that depends on this and the epoch's number alone.
        epoch: number of the first epoch, 0-based.
    """

    def __init__(self, arrays, side, batch_size, shuffle_seed=None, epoch=0):
        super().__init__()
        self.arrays, self.side, self.batch_size = arrays, side, batch_size
        self.shuffle_seed = shuffle_seed
        self.count = arrays.count(side)
        self.epoch = epoch
        self._shuffle()

    def _shuffle(self):
        self.order = np.arange(self.count)
        if self.shuffle_seed is not None:
            generator("order", self.shuffle_seed, self.epoch).shuffle(self.order)

    def __len__(self):
        return -(-self.count // self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        if self.shuffle_seed is None:
            rows = slice(start, start + self.batch_size)
        else:
            rows = self.order[start : start + self.batch_size]
        X, Y = self.arrays.read(self.side, rows)
        return X, Y.astype(np.float32)

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()
