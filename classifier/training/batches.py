"""Batches for Keras, read from the arrays file as they are needed."""

import keras
import numpy as np

from classifier.data.augment import cropped, mixed
from classifier.seeds import generator


class Batches(keras.utils.PyDataset):
    """One split of an arrays file in batches; in memory stands one batch, whatever N.

    Each item is (images, labels): uint8 (B, size, size, 3) and float32 (B, classes).

    Args:
        arrays: an open Arrays.
        split: "train", "val" or "test".
        batch_size: examples a batch; without `shuffle_seed` the last one may be smaller.
        shuffle_seed: None for the file's order; else an int, and each epoch has an order and an
            augmentation of its own that depend on this and the epoch's number alone. What is over
            at the end of an epoch, less than a batch, is left to the next.
        epoch: number of the first epoch, 0-based.
        originals: only the photographs themselves, without their stored copies.
        crop: crop each picture at random, to this fraction of its area or more; 0 for none.
        mixup: blend pictures, weights from a beta distribution of this parameter; 0 for none.
    """

    def __init__(
        self, arrays, split, batch_size, shuffle_seed=None, epoch=0, *,
        originals=False, crop=0.0, mixup=0.0,
    ):  # fmt: skip
        super().__init__()
        self.arrays, self.split, self.batch_size = arrays, split, batch_size
        self.shuffle_seed, self.epoch = shuffle_seed, epoch
        self.crop, self.mixup = crop, mixup
        self.rows = np.arange(arrays.count(split))
        if originals:
            self.rows = self.rows[arrays.copies(split) == 0]
        self._shuffle()

    def _shuffle(self):
        self.order = self.rows.copy()
        if self.shuffle_seed is not None:
            generator("order", self.shuffle_seed, self.epoch).shuffle(self.order)

    def __len__(self):
        if self.shuffle_seed is not None:
            return len(self.rows) // self.batch_size
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        images, labels = self.arrays.read(self.split, self.order[start : start + self.batch_size])
        labels = labels.astype(np.float32)
        random = generator("augmentation", self.shuffle_seed, self.epoch, index)
        if self.crop:
            images = np.stack([cropped(image, self.crop, random) for image in images])
        if self.mixup:
            images, labels = mixed(images, labels, self.mixup, random)
        return images, labels

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()
