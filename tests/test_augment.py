"""Augmentation: the original's ranges, nearest fill, and numbers that depend on names alone."""

import itertools
import math

import numpy as np
import pytest

from classifier.data.augment import (
    ROTATION,
    SHEAR,
    SHIFT,
    ZOOM,
    augmented,
    cropped,
    mixup,
    random_affine,
    random_crop,
)
from classifier.seeds import generator


def picture(size, low=0, high=256):
    return np.random.default_rng(size).integers(low, high, (size, size, 3), np.uint8)


class Chosen:
    """Stands in for a numpy Generator: fixed places in each range, 0 low, 0.5 middle, 1 high."""

    def __init__(self, angle=0.5, shift=(0.5, 0.5), shear=0.5, zoom=(0.5, 0.5), flip=False):
        self.places = iter([angle, np.array(shift), shear, np.array(zoom)])
        self.flip = flip

    def uniform(self, low, high, _size=None):
        return low + (high - low) * next(self.places)

    def random(self):
        return 0.0 if self.flip else 0.999


@pytest.mark.parametrize("size", [32, 64, 97])
def test_shape_dtype_and_numbers_by_key(size):
    image = picture(size)
    before = image.copy()
    keys = [("augment", 0, "train/ant/1.jpg", k) for k in range(1, 6)]
    first = list(augmented(image, map(generator, *zip(*keys, strict=True))))
    assert [(copy.shape, copy.dtype) for copy in first] == [((size, size, 3), np.uint8)] * 5
    alone = [next(augmented(image, [generator(*key)])) for key in reversed(keys)]
    np.testing.assert_array_equal(first, alone[::-1])
    assert len({copy.tobytes() for copy in first}) == 5
    np.testing.assert_array_equal(image, before)


def test_the_middle_of_every_range_is_the_picture_itself():
    image = picture(32)
    np.testing.assert_array_equal(*augmented(image, [Chosen()]), image)
    np.testing.assert_array_equal(*augmented(image, [Chosen(flip=True)]), image[:, ::-1])


def test_a_shift_repeats_the_edge():
    image = picture(40)
    right_and_up = next(augmented(image, [Chosen(shift=(1, 0))]))  # by 8 pixels
    expected = np.pad(image, ((8, 0), (0, 8), (0, 0)), mode="edge")[:40, 8:]
    np.testing.assert_array_equal(right_and_up, expected)


def test_zoom_and_rotation_are_about_the_middle():
    size = 64
    image = np.zeros((size, size, 3), np.uint8)
    image[28:36, 28:36] = 200
    for change in ({"zoom": (0, 0)}, {"zoom": (1, 1)}, {"angle": 0}, {"angle": 1}, {"shear": 1}):
        (seen,) = augmented(image, [Chosen(**change)])
        weight = seen[:, :, 0].astype(float)
        rows, columns = np.mgrid[:size, :size] + 0.5
        for place in (rows, columns):
            assert (place * weight).sum() / weight.sum() == pytest.approx(size / 2, abs=0.1)
    area = [
        int((next(augmented(image, [Chosen(zoom=zoom)])) > 100).sum())
        for zoom in ((0, 0), (0.5, 0.5), (1, 1))
    ]
    assert area[0] > area[1] > area[2]


def parts(matrix, size):
    """Take a transform apart: angle, shift (of the size), shear, zoom x and y, flip."""
    linear = matrix[:, :2]
    flip = np.linalg.det(linear) < 0
    along_x = linear[:, 0] * (-1 if flip else 1)
    angle = math.atan2(along_x[1], along_x[0])
    cos, sin = math.cos(angle), math.sin(angle)
    upright = np.array([[cos, sin], [-sin, cos]])
    shift = upright @ (matrix @ (size / 2, size / 2, 1) - size / 2) / size
    slanted = upright @ linear[:, 1]
    shear = math.atan2(-slanted[0], slanted[1])
    zoom = np.hypot(*along_x), np.hypot(*slanted)
    return math.degrees(angle), *shift, math.degrees(shear), *zoom, flip


def test_ranges_are_kept_and_used():
    size = 48
    drawn = np.array(
        [parts(random_affine(size, generator("test", k)), size) for k in range(400)], float
    )
    ranges = [
        (-ROTATION, ROTATION),
        *[(-SHIFT, SHIFT)] * 2,
        (-SHEAR, SHEAR),
        *[(1 - ZOOM, 1 + ZOOM)] * 2,
    ]
    for values, (low, high) in zip(drawn.T, ranges, strict=False):
        span = high - low
        assert low - 1e-9 <= values.min() < low + 0.05 * span
        assert high - 0.05 * span < values.max() <= high + 1e-9
        assert abs(values.mean() - (low + high) / 2) < 0.08 * span
    flips = drawn[:, -1]
    assert 160 <= flips.sum() <= 240
    # Independent of one another.
    assert np.abs(np.corrcoef(drawn.T) - np.eye(7)).max() < 0.2


@pytest.mark.parametrize("size", [32, 65])
def test_a_plain_picture_stays_plain_in_every_corner_of_the_ranges(size):
    image = np.full((size, size, 3), (255, 7, 130), np.uint8)
    corners = itertools.product((0, 1), itertools.product((0, 1), (0, 1)), (0, 1), (0, 1))
    chosen = [
        Chosen(angle, shift, shear, (zoom, zoom), flip)
        for angle, shift, shear, zoom in corners
        for flip in (False, True)
    ]
    for copy in augmented(image, chosen):
        np.testing.assert_array_equal(copy, image)


def test_no_colour_comes_from_outside_the_picture():
    image = np.full((32, 32, 3), 120, np.uint8)
    image[0], image[-1], image[:, 0], image[:, -1] = (
        (90, 150, 110), (150, 90, 110), (100, 100, 180), (180, 140, 60),
    )  # fmt: skip
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    seen = set()
    for copy in augmented(image, (generator("test", k) for k in range(100))):
        assert (copy >= low).all()
        assert (copy <= high).all()
        seen |= set(map(tuple, copy.reshape(-1, 3)))
    for edge in (image[0, 5], image[-1, 5], image[5, 0], image[5, -1]):
        assert tuple(edge) in seen


def random_view(image, smallest, seed):
    return cropped(image, random_crop(len(image), smallest, np.random.default_rng(seed)))


def test_crops_are_parts_of_the_picture_at_its_size():
    ramp = np.arange(64, dtype=np.uint8)
    image = np.stack(
        [*np.broadcast_arrays(ramp[:, None], ramp[None, :])] + [np.zeros((64, 64))], -1
    )
    image = image.astype(np.uint8)
    areas, flips = [], 0
    for number in range(300):
        view = random_view(image, 0.25, number).astype(float)
        assert view.shape == image.shape
        steps = np.diff(view, axis=1)[:, 8:-8, 1].mean(), np.diff(view, axis=0)[8:-8, :, 0].mean()
        flips += steps[0] < 0
        areas.append(abs(steps[0]) * steps[1])
    assert 120 < flips < 180
    assert 0.2 < min(areas) < 0.32
    assert 0.93 < max(areas) <= 1.05
    same = [random_view(image, 0.5, 7) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_a_crop_has_the_area_it_should_and_of_all_is_the_picture_or_its_mirror_image():
    ramp = np.arange(128, dtype=np.uint8)
    image = np.stack([*np.broadcast_arrays(ramp[:, None], ramp[None, :])] * 2, -1)[:, :, :3]
    areas = []
    for number in range(200):
        view = random_view(image, 0.8, number).astype(float)
        across = abs(np.diff(view, axis=1)[:, 8:-8, 1].mean())
        areas.append(across * np.diff(view, axis=0)[8:-8, :, 0].mean())
    assert 0.79 < min(areas) < 0.83
    flips = 0
    for number in range(40):
        view = random_view(image, 1.0, number)
        flipped = view[0, 0, 1] > view[0, -1, 1]
        flips += flipped
        np.testing.assert_array_equal(view, image[:, ::-1] if flipped else image)
    assert 10 < flips < 30


def test_crops_have_many_shapes_and_places():
    """Of a ramp, the steps between pixels tell a crop's sides, its middle the place."""
    ramp = np.arange(128, dtype=np.uint8)
    image = np.stack([*np.broadcast_arrays(ramp[:, None], ramp[None, :])] * 2, -1)[:, :, :3]
    ratios, places = [], []
    for number in range(300):
        view = random_view(image, 0.25, number).astype(float)
        across = abs(np.diff(view, axis=1)[:, 8:-8, 1].mean())
        ratios.append(across / np.diff(view, axis=0)[8:-8, :, 0].mean())
        places.append(view[:, :, :2].mean(axis=(0, 1)) / 127)
    assert 0.72 < min(ratios) < 0.80
    assert 1.25 < max(ratios) < 1.37
    assert np.median(ratios) == pytest.approx(1, abs=0.05)  # as often high as wide
    assert (np.min(places, axis=0) < 0.35).all()
    assert (np.max(places, axis=0) > 0.65).all()
    assert np.mean(places, axis=0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert abs(np.corrcoef(np.transpose(places))[0, 1]) < 0.2


def test_mixup_adds_shares_of_the_image_before_and_of_its_label():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    labels, kept = np.eye(3, dtype=np.float32), images.copy()
    shares = []
    for seed in range(300):
        mixed, given = mixup(images, labels, 0.2, np.random.default_rng(seed))
        assert (mixed.dtype, given.dtype) == (np.uint8, np.float32)
        share = given[1, 0]
        np.testing.assert_allclose(
            given, (1 - share) * labels + share * np.roll(labels, 1, 0), atol=1e-6
        )
        wanted = (1 - share) * images + share * images[[2, 0, 1]]
        np.testing.assert_allclose(mixed, wanted, atol=0.51)
        shares.append(share)
    np.testing.assert_array_equal(images, kept)
    # Beta(0.2, 0.2) has the mean 1/2 and the variance 1 / (4 (2 * 0.2 + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / 5.6, rel=0.1)
