"""Proof that no photograph stands in two splits of finished arrays."""

import hashlib
from collections import defaultdict
from itertools import combinations

import numpy as np

from classifier.data.duplicates import near_pairs, perceptual_hash
from classifier.data.splits import SPLITS

# Hashes of one photograph at two sizes differ by a few bits, those of two photographs by about 128.
SAME_PICTURE_BITS = 96


def overlaps(arrays, max_bits, block=1024):
    """Find photographs of one split that stand, or all but stand, in another.

    Two splits overlap where they name the same source, hold the same pixels, or hold near-duplicate
    photographs (mirror images included). The hashes are those in the file, and each photograph's
    is checked against its pixels, so that neither can be mended without the other.

    Args:
        arrays: an open Arrays.
        max_bits: distance of hashes up to which two photographs count as one.
        block: rows read at a time.

    Returns:
        list of (split, source, other split, other source, why), sorted; empty if clean.
    """
    named, pixels, hash_of = defaultdict(set), defaultdict(set), {}
    found = {}
    for split in SPLITS:
        sources, copies, hashes = arrays.sources(split), arrays.copies(split), arrays.hashes(split)
        for start in range(0, len(sources), block):
            X, _ = arrays.read(split, slice(start, start + block))
            for row, image in enumerate(X, start):
                place = (split, sources[row])
                named[sources[row]].add(place)
                hash_of[place] = hashes[row]
                pixels[hashlib.blake2b(image, digest_size=16).digest()].add(place)
                if copies[row] == 0:
                    seen = perceptual_hash(image)[0]
                    bits = int(np.unpackbits(seen ^ hashes[row, 0]).sum())
                    if bits > SAME_PICTURE_BITS:
                        found[(*place, *place)] = "its hash is not that of its pixels"

    for why, groups in (("same photograph", named), ("same pixels", pixels)):
        for places in groups.values():
            for one, other in combinations(sorted(places), 2):
                if one[0] != other[0]:
                    found.setdefault((*one, *other), why)
    owners = sorted(hash_of)
    if owners:
        for i, j, bits in near_pairs(np.stack([hash_of[owner] for owner in owners]), max_bits):
            one, other = owners[i], owners[j]
            if one[0] != other[0]:
                found.setdefault((*one, *other), f"near-duplicates, {bits} of 256 bits apart")
    return sorted((*pair, why) for pair, why in found.items())
