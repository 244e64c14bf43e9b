"""What finished arrays alone can show: that their splits share no photograph.

The splits were drawn by hashes of whole photographs. Here the pixels in the arrays are compared as
well, by a measure of another kind, and every augmented row is made again from its photograph.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from classifier.data.arrays import Arrays, opened
from classifier.data.build import copies_of
from classifier.data.duplicates import distance, near_rows, perceptual_hash, rows_above, same_shots
from classifier.data.splits import SPLITS
from classifier.workers import ordered_map

# Hashes of one photograph at two sizes differ by a few bits, those of two photographs by about 128.
SAME_PICTURE_BITS = 96
THUMBNAIL = 24  # pixels
# Of Caltech-101's pairs of photographs 181 correlate by 0.99 or more, every one within 40 bits; at
# 0.98 the first pairs of two motorbikes in the same pose come in.
MIN_CORRELATION = 0.99
ALIKE_BITS = 96  # of their hashes, which such pictures must share as well
# Grey levels by which a copy made again may differ on average, for another release of Pillow.
SAME_COPY = 4.0
MOST = 10_000  # overlaps listed
CHUNK = 512  # rows a task


def overlaps(
    arrays: Arrays,
    max_bits: int,
    workers: int = 1,
    progress: Callable[[int], object] = int,
) -> list[tuple[str, str, str, str, str]]:
    """Find photographs of one split that stand, or all but stand, in another.

    Two splits overlap where they name one source or one known shot, hold the same pixels, or hold
    photographs that are near-duplicates by hash or by the correlation of their thumbnails (mirror
    images included). In protocols that do not leak, val and test may hold no augmented copies, and
    those in train are made again from their photograph. The hashes are those in the file, each
    checked against its photograph's pixels.

    What it cannot see: a photograph that was rotated, cropped, or cut out of another.

    Args:
        arrays: an open Arrays.
        max_bits: distance of hashes up to which two photographs count as one.
        workers: processes.
        progress: called with the number of rows done since the last call.

    Returns:
        list of (split, source, other split, other source, why), sorted, at most MOST; empty if
        nothing was found.
    """
    found = {}

    def add(one, other, why):
        if len(found) < MOST:
            found.setdefault((*min(one, other), *max(one, other)), why)

    named, pixels = defaultdict(set), defaultdict(set)
    hashes, thumbnails = {}, {}
    tasks = [task for split in SPLITS for task in _tasks(arrays, split)]
    for task, rows in zip(tasks, ordered_map(_inspect, tasks, workers), strict=True):
        for source, digest, code, thumbnail, fault in rows:
            place = (task[1], source)
            named[source].add(place)
            pixels[digest].add(place)
            if hashes.setdefault(place, code).tobytes() != code.tobytes():
                add(place, place, "its rows have several hashes")
            if thumbnail is not None:
                thumbnails[place] = thumbnail
            if fault:
                add(place, place, fault)
        progress(len(rows))
    opened.cache_clear()  # where this process did the work

    for why, shared in (("same photograph", named), ("same pixels", pixels)):
        for places in shared.values():
            for one, other in itertools.combinations(sorted(places), 2):
                if one[0] != other[0]:
                    add(one, other, why)
    for one, other, why in _alike(hashes, thumbnails, max_bits):
        if one[0] != other[0]:
            add(one, other, why)
    return sorted((*pair, why) for pair, why in found.items())


def _tasks(arrays, split):
    """Yield what `_inspect` takes: path, split, and of each row source, copy and own.

    `own` is the row of a copy's photograph itself; None where there is not just one.
    """
    sources, copies = arrays.sources(split), arrays.copies(split).tolist()
    own = {}
    for row, (source, copy) in enumerate(zip(sources, copies, strict=True)):
        if copy == 0:
            own[source] = None if source in own else row
    for start in range(0, len(sources), CHUNK):
        chunk = slice(start, start + CHUNK)
        owns = [own.get(source) for source in sources[chunk]]
        about = arrays.path, arrays.files, arrays.fingerprint
        yield about, split, chunk, sources[chunk], copies[chunk], owns


def _inspect(task):
    """Return (source, digest of pixels, hash, thumbnail or None, fault or None) of a task's rows.

    Only photographs themselves, not their copies, have a thumbnail; with it comes the hash of the
    pixels in the arrays.
    """
    about, split, chunk, sources, copies, owns = task
    arrays = opened(*about)
    X, _ = arrays.read(split, chunk)
    hashes, faults = arrays.hashes(split, chunk), {}
    for own, rows in itertools.groupby(range(len(X)), key=lambda row: owns[row]):
        rows = [row for row in rows if copies[row]]
        if arrays.leaks or not rows:
            continue
        if split != "train":
            faults |= dict.fromkeys(rows, "an augmented copy")
        elif own is None:
            faults |= dict.fromkeys(rows, "its photograph is not in train once")
        else:
            photo = arrays.read(split, slice(own, own + 1))[0][0]
            again = copies_of(photo, [(sources[i], copies[i]) for i in rows], arrays.seed)
            for i, copy in zip(rows, again, strict=True):
                if np.abs(X[i].astype(np.int16) - copy).mean() > SAME_COPY:
                    faults[i] = "not the copy of its photograph that it says"
    results = []
    for row, image in enumerate(X):
        digest = hashlib.blake2b(image, digest_size=16).digest()
        thumbnail = None
        if copies[row] == 0:
            picture = Image.fromarray(image)
            seen = perceptual_hash(picture)
            if np.unpackbits(seen ^ hashes[row], axis=1).sum(axis=1).max() > SAME_PICTURE_BITS:
                faults[row] = "its hash is not that of its pixels"
            small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
            thumbnail = np.asarray(small), seen
        results.append((sources[row], digest, hashes[row], thumbnail, faults.get(row)))
    return results


def _alike(hashes: dict, thumbnails: dict, max_bits: int) -> Iterator[tuple]:
    """Yield (place, other place, why) of the photographs that are one by any measure."""
    if not thumbnails:
        return
    places = sorted(hashes)
    for i, others in same_shots([source for _, source in places]):
        yield from ((places[i], places[j], "known to be one shot") for j in others)
    codes = np.stack([hashes[place] for place in places])
    for i, others, bits in near_rows(codes, max_bits):
        for j, apart in zip(others, bits, strict=True):
            yield places[i], places[j], f"near-duplicates, {apart} of 255 bits apart"
    places = sorted(thumbnails)
    pixels = np.stack([thumbnails[place][0] for place in places])
    for i, others, correlations in correlated_rows(pixels):
        for j, correlation in zip(others, correlations, strict=True):
            if distance(*(thumbnails[places[k]][1] for k in (i, j))) > ALIKE_BITS:
                continue  # a background that both share, say
            yield places[i], places[j], f"thumbnails correlate by {correlation:.3f}"


def correlated_rows(thumbnails: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Find the thumbnails after each that show the same, mirror images included.

    Args:
        thumbnails: uint8 array (N, THUMBNAIL, THUMBNAIL, 3).

    Returns:
        iterator of (i, others, correlations) for each thumbnail i that has any: numbers above i,
        rising, and their correlations over all pixels and channels, MIN_CORRELATION to 1. Flat
        thumbnails correlate with none.
    """
    straight, mirrored = (
        view.reshape(len(view), -1) - view.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]
        for view in (thumbnails, thumbnails[:, :, ::-1])
    )
    length = np.maximum(np.linalg.norm(straight, axis=1, keepdims=True), 1.0)
    straight, mirrored = straight / length, mirrored / length
    return rows_above(((straight, straight), (straight, mirrored)), MIN_CORRELATION)
