"""Random numbers that depend on names alone, never on the order in which work is done."""

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """Return a numpy Generator seeded by `key` (ints and strings): same key, same numbers."""
    digest = hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


class Order:
    """The numbers below `count` in a random order, of which any part is had without the rest.

    A Feistel network that is walked until it is back among them (Black and Rogaway 2002, "Ciphers
    with arbitrary finite domains").

    Args:
        count: 1 or more.
        key: as of `generator`: the same key, the same order.
    """

    ROUNDS = 6

    def __init__(self, count: int, *key: int | str):
        self.count = count
        self.bits = max(1, -(-(count - 1).bit_length() // 2))  # of each half of a number
        self.keys = generator(*key).integers(1 << 64, size=self.ROUNDS, dtype=np.uint64)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers at places, int arrays (n,) both."""
        found = self._walked(places.astype(np.uint64))
        while (outside := found >= self.count).any():
            found[outside] = self._walked(found[outside])
        return found.astype(np.int64)

    def _walked(self, numbers):
        bits, mask = np.uint64(self.bits), np.uint64((1 << self.bits) - 1)
        left, right = numbers >> bits, numbers & mask
        for key in self.keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        return left << bits | right
