"""Random numbers that depend on names alone, never on the order in which work is done."""

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """Return a numpy Generator seeded by `key` (ints and strings): same key, same numbers."""
    digest = hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))
