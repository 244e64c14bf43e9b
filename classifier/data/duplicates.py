"""Near-duplicate photographs, found with a perceptual hash and gathered in groups."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

HASH_SIZE = 64  # pixels: every photograph is hashed at this size, whatever the size of the arrays
FREQUENCIES = 16  # the lowest in each direction
HASH_BITS = FREQUENCIES**2 - 1
HASH_BYTES = 32
# Photographs within this many of the 255 bits of each other count as one. By eye, of Caltech-101's
# pairs up to 45 bits more than 85% are one shot or another shot of the same object; 46 to 50 bits
# still hold ten of one shot (of garfield, in colour and as a drawing) among 179. From 51 on it is
# one in 80 motorbikes and aeroplanes, whose likeness joins 137 photographs in one group at 60 bits.
MAX_BITS = 50
SAME_SHOTS = Path(__file__).with_name("same_shots.txt")


def _cosines():
    """Return the lowest rows of the orthonormal DCT-II, float64 (FREQUENCIES, HASH_SIZE)."""
    frequency, pixel = np.arange(FREQUENCIES)[:, None], np.arange(HASH_SIZE)
    rows = np.cos(np.pi * frequency * (2 * pixel + 1) / (2 * HASH_SIZE)) * np.sqrt(2 / HASH_SIZE)
    rows[0] /= np.sqrt(2)
    return rows


COSINES = _cosines()


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Hash a picture by its lowest frequencies (pHash, Zauner 2010).

    The bits are the coefficients of the discrete cosine transform of its brightness, without the
    constant one, each compared with their median.

    Args:
        image: PIL image of any mode and size.

    Returns:
        uint8 array (2, HASH_BYTES): the hash of the picture and that of its mirror image.
    """
    grey = image.convert("L").resize((HASH_SIZE, HASH_SIZE), Image.Resampling.BOX)
    straight = COSINES @ np.asarray(grey, np.float64) @ COSINES.T
    mirrored = straight * np.where(np.arange(FREQUENCIES) % 2, -1, 1)
    hashes = []
    for view in (straight, mirrored):
        # Rounded, so that flat pictures have one hash and not that of their rounding errors.
        coefficients = view.ravel()[1:].round(3)
        hashes.append(np.packbits(coefficients > np.median(coefficients)))
    return np.stack(hashes)


def distance(one: np.ndarray, other: np.ndarray) -> int:
    """Return the bits in which two hashes, uint8 (2, HASH_BYTES), differ, mirrored or not."""
    views = ((one[0], other[0]), (one[0], other[1]), (one[1], other[0]))
    return min(int(np.unpackbits(a ^ b).sum()) for a, b in views)


def near_rows(
    hashes: np.ndarray, max_bits: int, block: int = 512
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find the near-duplicates of each photograph among those after it, mirror images included.

    The Hamming distances come from products of +-1 vectors, which are exact in float32.

    Args:
        hashes: uint8 array (N, 2, HASH_BYTES) of `perceptual_hash`.
        max_bits: the largest distance that counts.
        block: rows of the distance matrix held at a time.

    Yields:
        (i, others, bits) for each photograph i that has any: int arrays of the numbers above i,
        rising, and of their distances.
    """
    straight, mirrored = (
        np.unpackbits(hashes[:, view], axis=1, count=HASH_BITS).astype(np.float32) * 2 - 1
        for view in (0, 1)
    )
    views = ((straight, straight), (straight, mirrored), (mirrored, straight))
    for i, others, agreement in rows_above(views, HASH_BITS - 2 * max_bits, block):
        yield i, others, ((HASH_BITS - agreement) / 2).astype(int)


def rows_above(
    views: Sequence[tuple[np.ndarray, np.ndarray]], least: float, block: int = 512
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find the rows after each row whose product with it is `least` or more in any view.

    Args:
        views: pairs of float arrays (N, D); the products are of the first with the second.
        least: the smallest product that counts.
        block: rows of the matrix of products held at a time: memory grows with N, not N squared.

    Yields:
        (i, others, products) for each row i that has any: numbers above i, rising, and the largest
        product of each.
    """
    for start in range(0, len(views[0][0]), block):
        product = views[0][0][start : start + block] @ views[0][1][start:].T
        for one, other in views[1:]:
            np.maximum(product, one[start : start + block] @ other[start:].T, out=product)
        near = product >= least
        for row in np.flatnonzero(np.triu(near, 1).any(axis=1)):
            others = row + 1 + np.flatnonzero(near[row, row + 1 :])
            yield int(start + row), start + others, product[row, others]


def same_shots(sources: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
    """Find the photographs that are known to show one shot, from the table in same_shots.txt.

    Args:
        sources: paths of the photographs, .../category/image_NNNN.jpg.

    Yields:
        (i, [j]) for each pair, photograph numbers; more than one j where names differ by suffix.
    """
    categories = defaultdict(dict)  # {category: {name without suffix: [photograph number]}}
    for i, source in enumerate(sources):
        path = PurePosixPath(source)
        categories[path.parent.name].setdefault(path.stem, []).append(i)
    for line in SAME_SHOTS.read_text(encoding="utf-8").splitlines():
        names, _, pairs = line.partition(": ")
        if line.startswith("#") or not pairs:
            continue
        first, last = (categories.get(name, {}) for name in (names.split()[0], names.split()[-1]))
        if pairs == "*":
            twins = [(name, name) for name in first]
        else:
            twins = [[f"image_{int(n):04}" for n in pair.split("=")] for pair in pairs.split()]
        for one, other in twins:
            if one in first and other in last:
                yield from ((i, last[other]) for i in first[one])


class Groups:
    """Photographs joined into groups: near-duplicates of near-duplicates stand together.

    Args:
        count: number of photographs.

    Attributes:
        of: int array (count,), the group of each photograph, named by its lowest member.
        joined: number of pairs in each call of `join`.
    """

    def __init__(self, count: int):
        self.of = np.arange(count)
        self.joined = []

    def join(self, near: Iterable[tuple]) -> "Groups":
        """Join (i, others, ...) as they come, and return the groups; no pair is kept."""
        self.joined.append(0)
        for i, others, *_ in near:
            self.joined[-1] += len(others)
            joined = np.unique(self.of[[i, *others]])
            if len(joined) > 1:
                self.of[np.isin(self.of, joined)] = joined[0]
        return self

    def multiples(self) -> list[list[int]]:
        """Return the groups of two photographs or more, each a list of photograph numbers."""
        order = np.argsort(self.of, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(self.of[order])) + 1)
        return [part.tolist() for part in parts if len(part) > 1]
