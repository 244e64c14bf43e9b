"""Near-duplicates: the hash, the pairs and the groups they make."""

import io
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from classifier.data.duplicates import (
    COSINES,
    HASH_BITS,
    HASH_BYTES,
    MAX_BITS,
    SAME_SHOTS,
    Groups,
    near_rows,
    same_shots,
)
from classifier.data.duplicates import distance as bits_apart
from classifier.data.duplicates import perceptual_hash as hash_of


def near_pairs(hashes, max_bits=MAX_BITS, **options):
    """Return the pairs of near_rows as a list of (i, j, bits)."""
    return [
        (i, int(j), int(bits))
        for i, others, distances in near_rows(hashes, max_bits, **options)
        for j, bits in zip(others, distances, strict=True)
    ]


def picture(seed):
    """Return a random picture with contrast at every scale, as photographs have."""
    random = np.random.default_rng(seed)
    pixels = np.full((150, 200, 3), 128.0)
    for cells in (3, 6, 12, 24, 48):
        layer = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        layer = layer.resize((200, 150), Image.Resampling.BICUBIC)
        pixels += (np.asarray(layer) - 128.0) * 1.5 / np.sqrt(cells)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def reencoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return Image.open(file)


def distance(one, other):
    """Return the bits in which two packed hashes differ, one by one."""
    return sum(bin(a ^ b).count("1") for a, b in zip(one.tolist(), other.tolist(), strict=True))


CHANGES = {
    "brighter": lambda image: image.point(lambda v: min(255, round(v * 1.1 + 5))),
    "less contrast": lambda image: image.point(lambda v: round(v * 0.8)),
    "JPEG quality 50": lambda image: reencoded(image, quality=50),
    "smaller": lambda image: image.resize((100, 75)),
    "other aspect": lambda image: image.resize((160, 160)),
    "greyscale": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_small_changes_stay_near_duplicates(change):
    for seed in range(5):
        one = hash_of(picture(seed))
        other = hash_of(CHANGES[change](picture(seed)))
        mirrored = hash_of(ImageOps.mirror(CHANGES[change](picture(seed))))
        assert distance(one[0], other[0]) <= MAX_BITS
        assert distance(one[0], mirrored[1]) <= MAX_BITS
        assert len(near_pairs(np.stack([one, other, mirrored]))) == 3


def test_other_pictures_are_far_apart():
    hashes = np.stack([hash_of(picture(seed)) for seed in range(20)])
    assert hashes.shape == (20, 2, HASH_BYTES)
    assert hashes.dtype == np.uint8
    assert near_pairs(hashes, MAX_BITS + 20) == []


def test_the_second_hash_is_that_of_the_mirror_image():
    for seed in range(5):
        one, mirrored = hash_of(picture(seed)), hash_of(ImageOps.mirror(picture(seed)))
        for view in (0, 1):
            assert distance(mirrored[view], one[1 - view]) <= 6  # boxes are rounded to grey levels


def test_a_mirror_image_is_as_near_as_the_picture_itself():
    one, mirrored = hash_of(picture(0)), hash_of(ImageOps.mirror(picture(0)))
    assert bits_apart(one, one) == bits_apart(one, one[::-1]) == bits_apart(one[::-1], one) == 0
    assert bits_apart(one, mirrored) <= 6
    assert bits_apart(one, hash_of(picture(1))) > MAX_BITS


def test_the_bits_are_the_signs_of_the_lowest_frequencies():
    """One plain cosine of each frequency: its bit is set, and no other but for rounding."""
    pixel = (2 * np.arange(64) + 1) * np.pi / 128
    for down, right in ((0, 1), (3, 0), (15, 15), (7, 4)):
        wave = 128 + 100 * np.outer(np.cos(down * pixel), np.cos(right * pixel))
        straight, mirrored = np.unpackbits(
            hash_of(Image.fromarray(wave.round().astype(np.uint8))), axis=1, count=HASH_BITS
        )
        assert straight[16 * down + right - 1] == 1
        assert mirrored[16 * down + right - 1] == (right % 2 == 0)


def test_half_of_the_bits_are_set_whatever_the_signs():
    """All frequencies of a point in the corner are positive: they are compared with the median."""
    corner = np.zeros((64, 64), np.uint8)
    corner[0, 0] = 255
    assert np.unpackbits(hash_of(Image.fromarray(corner))[0]).sum() == 127


def test_the_cosines_are_orthonormal():
    np.testing.assert_allclose(COSINES @ COSINES.T, np.eye(16), atol=1e-12)


def test_what_cancels_out_between_neighbouring_pixels_changes_no_bit():
    random = np.random.default_rng(0)
    plain = np.asarray(picture(0).convert("L").resize((64, 64))).clip(20, 235)
    signs = random.permuted(np.tile(np.repeat([-20, 20], 8), (64, 64, 1)), axis=2)
    grain = signs.reshape(64, 64, 4, 4).swapaxes(1, 2).reshape(256, 256)
    grainy = plain.repeat(4, 0).repeat(4, 1) + grain
    codes = [hash_of(Image.fromarray(pixels.astype(np.uint8))) for pixels in (plain, grainy)]
    np.testing.assert_array_equal(*codes)


def test_flat_pictures_have_one_hash():
    hashes = [
        hash_of(Image.new("RGB", (size, 70), (v, v, v))) for size in (60, 99) for v in (9, 200)
    ]
    assert len({code.tobytes() for code in hashes}) == 1


@st.composite
def planted(draw):
    """Random hashes, some of them copies of earlier ones with a few bits changed or mirrored."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    hashes = random.integers(0, 256, (draw(st.integers(0, 25)), 2, HASH_BYTES), np.uint8)
    hashes[:, :, -1] &= 0xFE  # there are 255 bits
    for i in range(1, len(hashes)):
        if draw(st.booleans()):
            bits = np.unpackbits(hashes[random.integers(i)], axis=1)
            for view in bits:
                view[random.permutation(HASH_BITS)[: draw(st.integers(0, 60))]] ^= 1
            hashes[i] = np.packbits(bits, axis=1)[:: draw(st.sampled_from([1, -1]))]
    return hashes


def naive_pairs(hashes, max_bits):
    found = []
    for i in range(len(hashes)):
        for j in range(i + 1, len(hashes)):
            (one, one_mirrored), (other, other_mirrored) = hashes[i], hashes[j]
            bits = min(
                distance(one, other),
                distance(one, other_mirrored),
                distance(one_mirrored, other),
            )
            if bits <= max_bits:
                found.append((i, j, bits))
    return found


@settings(max_examples=40, deadline=None)
@given(planted(), st.integers(0, 80), st.integers(1, 30))
def test_pairs_are_those_of_the_naive_loop(hashes, max_bits, block):
    assert near_pairs(hashes, max_bits, block=block) == naive_pairs(hashes, max_bits)


@settings(max_examples=30, deadline=None)
@given(planted(), st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order(hashes, random):
    order = random.sample(range(len(hashes)), len(hashes))
    back = [
        (*sorted((order[i], order[j])), bits) for i, j, bits in near_pairs(hashes[order], block=4)
    ]
    assert sorted(back) == near_pairs(hashes)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 30))
def test_groups_are_the_connected_parts(data, count):
    photo = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(photo, photo, st.just(7)), max_size=40))
    expected = list(range(count))  # the lowest photograph that can be reached from each
    for _ in range(count):
        for i, j, _bits in pairs:
            expected[i] = expected[j] = min(expected[i], expected[j])
    assert Groups(count).join((i, [j]) for i, j, _ in pairs).of.tolist() == expected
    turned = Groups(count).join((j, [i]) for i, j, _ in reversed(pairs))
    assert turned.of.tolist() == expected
    assert turned.joined == [len(pairs)]
    members = {root: [i for i in range(count) if expected[i] == root] for root in set(expected)}
    assert turned.multiples() == [members[r] for r in sorted(members) if len(members[r]) > 1]


def test_no_photographs_make_no_groups():
    assert Groups(0).of.tolist() == []
    assert Groups(0).multiples() == []
    assert near_pairs(np.zeros((0, 2, HASH_BYTES), np.uint8)) == []


def test_memory_does_not_grow_with_the_number_of_pairs():
    """1,500 flat pictures are 1.1 million pairs, of which no list is made."""
    hashes = np.zeros((1500, 2, HASH_BYTES), np.uint8)
    tracemalloc.start()
    groups = Groups(len(hashes)).join(near_rows(hashes, 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert groups.joined == [1500 * 1499 // 2]
    assert not groups.of.any()
    assert peak < 20e6


def test_known_shots_are_joined_by_their_names():
    sources = [
        "train/Faces/image_0001.jpg", "train/Faces/image_0002.jpg", "train/Faces/image_0003.jpg",
        "train/Faces_easy/image_0002.jpg", "train/Faces_easy/image_0003.png",
        "train/crocodile/image_0036.jpg", "train/crocodile_head/image_0034.jpg",
        "train/stegosaurus/image_0011.jpg", "train/stegosaurus/image_0023.jpg",
    ]  # fmt: skip
    assert list(same_shots(sources)) == [(1, [3]), (2, [4]), (5, [6]), (7, [8])]
    assert list(same_shots(sources[:3])) == []


def test_every_line_of_the_table_of_known_shots_is_read():
    lines = [line for line in SAME_SHOTS.read_text().splitlines() if line and line[0] != "#"]
    names = {name for line in lines for name in line.partition(":")[0].split()}
    sources = [f"train/{name}/image_{n:04}.jpg" for name in names for n in range(1, 151)]
    found = Counter(Path(sources[i]).parent.name for i, _ in same_shots(sources))
    assert found.pop("Faces") == 150
    assert sum(found.values()) == sum(line.count("=") for line in lines) == 130
