"""Near-duplicates: the hash, the pairs and the groups they make."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from classifier.data.duplicates import HASH_BYTES, HASH_SIZE, MAX_BITS, groups, near_pairs
from classifier.data.duplicates import perceptual_hash as hash_of
from classifier.data.images import square


def picture(seed):
    """Return a random picture with soft shapes, as photographs have."""
    cells = np.random.default_rng(seed).integers(30, 200, (8, 8, 3), np.uint8)
    return Image.fromarray(cells).resize((200, 150), Image.Resampling.BICUBIC)


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
        one = hash_of(square(picture(seed), HASH_SIZE))
        other = hash_of(square(CHANGES[change](picture(seed)), HASH_SIZE))
        mirrored = hash_of(square(ImageOps.mirror(CHANGES[change](picture(seed))), HASH_SIZE))
        assert distance(one[0], other[0]) <= MAX_BITS
        assert distance(one[0], mirrored[1]) <= MAX_BITS
        assert len(near_pairs(np.stack([one, other, mirrored]))) == 3


def test_other_pictures_are_far_apart():
    hashes = np.stack([hash_of(square(picture(seed), HASH_SIZE)) for seed in range(20)])
    assert hashes.shape == (20, 2, HASH_BYTES)
    assert hashes.dtype == np.uint8
    assert near_pairs(hashes, 2 * MAX_BITS) == []


def test_the_second_hash_is_that_of_the_mirror_image():
    pixels = square(picture(0), HASH_SIZE)
    np.testing.assert_array_equal(hash_of(pixels[:, ::-1].copy()), hash_of(pixels)[::-1])


@st.composite
def planted(draw):
    """Random hashes, some of them copies of earlier ones with a few bits changed or mirrored."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    hashes = random.integers(0, 256, (draw(st.integers(0, 25)), 2, HASH_BYTES), np.uint8)
    for i in range(1, len(hashes)):
        if draw(st.booleans()):
            bits = np.unpackbits(hashes[random.integers(i)], axis=1)
            for side in bits:
                side[random.permutation(256)[: draw(st.integers(0, 30))]] ^= 1
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
@given(planted(), st.integers(0, 40), st.integers(1, 30))
def test_pairs_are_those_of_the_naive_loop(hashes, max_bits, block):
    assert near_pairs(hashes, max_bits, block) == naive_pairs(hashes, max_bits)


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
    assert groups(count, pairs) == expected
    assert groups(count, [(j, i) for i, j, _ in reversed(pairs)]) == expected


def test_no_photographs_make_no_groups():
    assert groups(0, []) == []
    assert near_pairs(np.zeros((0, 2, HASH_BYTES), np.uint8)) == []
