"""What speaks for a class: the maps that logits are made of, and the picture that shows them."""

import os

import numpy as np
import pytest
from PIL import Image
from small import random_network, small_network, weights_of

from classifier.evaluation import explain
from classifier.prediction.forward import Network, averaged
from classifier.prediction.verdict import Head

pytestmark = pytest.mark.usefixtures("eager")

HEAT = np.eye(32, dtype=np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    """A small network that enlarges 32 pixels to 96, whose last maps have 3x3 places; its head."""
    with small_network():
        weights = weights_of(random_network(32, 4, enlarge_to=96))
        yield Network(weights, enlarge_to=96), Head(**weights["fc4"])


@pytest.mark.parametrize(("mirror", "threads"), [(False, 1), (True, 1), (True, 2)])
def test_the_mean_of_what_the_places_add_is_the_logits(network, mirror, threads):
    network, head = network
    maps = explain.feature_maps(network, IMAGES, mirror, threads)
    assert maps.shape == (2, 3, 3, 32)
    logits = (maps @ head.kernel).mean(axis=(1, 2)) + head.bias
    expected = head.logits(averaged(network, IMAGES, mirror))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_maps_of_the_mirror_image_are_turned_back(network):
    network, _ = network
    maps = explain.feature_maps(network, IMAGES, mirror=True)
    mirrored = explain.feature_maps(network, IMAGES[:, :, ::-1], mirror=True)
    np.testing.assert_allclose(mirrored, maps[:, :, ::-1], atol=1e-6)
    one = explain.feature_maps(network, IMAGES, mirror=False)
    assert np.abs(one - maps).max() > 1e-3


def test_a_place_looks_at_the_pixel_that_the_heat_map_has_it_at():
    """The heat map of what changes in the maps, where a few pixels change, is hottest there."""
    with small_network():
        weights = weights_of(random_network(128, 4, seed=1))
        network = Network(weights)
        plain = np.full((1, 128, 128, 3), 120, np.uint8)
        for mirror in (False, True):
            maps = explain.feature_maps(network, plain, mirror)
            for row, column in ((32, 64), (64, 32), (64, 64)):
                image = plain.copy()
                image[0, row - 2 : row + 3, column - 2 : column + 3] = 255
                change = explain.feature_maps(network, image, mirror) - maps
                heat = explain.heat_map(np.square(change[0]).sum(axis=2), 128, mirror)
                hottest = np.unravel_index(heat.argmax(), heat.shape)
                assert abs(hottest[0] - row) <= 4
                assert abs(hottest[1] - column) <= (16 if mirror else 4)


@pytest.mark.parametrize(("side", "places"), [(224, 7), (97, 4), (64, 2), (33, 2), (32, 1)])
def test_places_are_32_pixels_apart_from_the_first_pixel_on(side, places):
    evidence = np.random.default_rng(0).normal(size=(places, places))
    pixels = 32 * np.arange(places)
    heat = explain.heat_map(evidence, side, mirror=False)
    assert heat.shape == (side, side)
    np.testing.assert_allclose(heat[np.ix_(pixels, pixels)], evidence, atol=1e-5)
    heat = explain.heat_map(evidence, side, mirror=True)
    turned = explain.heat_map(evidence[:, ::-1], side, mirror=True)
    np.testing.assert_allclose(turned, heat[:, ::-1], atol=1e-5)


def test_red_is_where_the_most_speaks_for_it_and_grey_where_nothing_does():
    photograph = Image.new("RGB", (90, 60), (0, 200, 0))
    heat = np.zeros((32, 32), np.float32)
    heat[24:, 24:], heat[:8, :8] = 5, -5
    pixels = np.asarray(explain.overlay(photograph, heat)).astype(int)
    assert pixels.shape == (60, 90, 3)
    red, green, blue = pixels[55, 85]
    assert red > 150 > 100 > max(green, blue)
    for place in ((2, 2), (2, 85), (55, 2)):
        assert np.ptp(pixels[place]) == 0
    nothing = np.asarray(explain.overlay(photograph, np.full((32, 32), -1, np.float32)))
    assert (nothing == nothing[0, 0, 0]).all()


def colours(picture, box):
    return {colour for _, colour in picture.crop(box).getcolors(maxcolors=1 << 20)}


def test_the_bars_are_as_long_as_the_probabilities():
    photograph = Image.new("RGB", (40, 40), "red")
    ranked = [("one", 0.75), ("two", 0.25), ("three", 0.0)]
    for unknown, colour in ((False, explain.BLUE), (None, explain.BLUE), (True, explain.GREY)):
        drawn = explain.picture(photograph, "a.png", HEAT, ranked, unknown)
        pixels = np.asarray(drawn)
        left = 3 * explain.GAP + 2 * explain.SIDE
        for number, (_, probability) in enumerate(ranked):
            row = explain.GAP + explain.CAPTION + number * explain.ROW + 22 + explain.BAR // 2
            bar = pixels[row, left : left + explain.COLUMN]
            assert (bar == colour).all(axis=1).mean() == pytest.approx(probability, abs=0.01)
            assert ((bar == colour) | (bar == explain.EMPTY)).all()
        top = explain.GAP + explain.CAPTION
        assert colours(drawn, (explain.GAP, top, explain.GAP + 360, top + 360)) == {(255, 0, 0)}


def test_a_picture_says_none_of_these():
    photograph = Image.new("RGB", (40, 40), "red")
    said = [
        explain.picture(photograph, "a.png", HEAT, [("one", 1.0)], unknown)
        .crop((3 * explain.GAP + 2 * explain.SIDE, 0, 1100, explain.GAP + explain.CAPTION))
        .tobytes()
        for unknown in (None, False, True)
    ]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5000, 3000)])
@pytest.mark.parametrize("name", ["", "two\nlines", "\udcff\u4e2d" * 100, "W" * 255])
def test_any_size_and_any_name_can_be_drawn(size, name):
    drawn = explain.picture(Image.new("RGB", size), name, HEAT, [(name, 0.5)] * 5, False)
    assert drawn.mode == "RGB"
    assert drawn.width <= 1100
    assert drawn.height <= 500
    right = drawn.width - explain.GAP + 1  # nothing stands in the margin
    assert colours(drawn, (right, 0, drawn.width, drawn.height)) == {(255, 255, 255)}


def test_a_text_is_cut_where_there_is_no_room():
    assert explain.fitting("abc", len, 3) == "abc"
    assert explain.fitting("abcdefgh", len, 6) == "abc..."
    assert explain.fitting("a\tb\x00", len, 9) == "a?b?"
    assert explain.fitting("M\u00fcller caf\u00e9 \u72ac", len, 99) == "Muller cafe ?"
    assert explain.fitting("abcd", len, 2) == "..."


def test_a_picture_takes_the_place_of_nothing_but_an_earlier_one(tmp_path):
    path = tmp_path / "folder/why.png"
    path.parent.mkdir()
    assert explain.may_stand_at(path)
    explain.save(path, Image.new("RGB", (4, 4), "red"))
    assert explain.may_stand_at(path)
    explain.save(path, Image.new("RGB", (4, 4), "blue"))
    with Image.open(path) as drawn:
        assert (drawn.format, drawn.getpixel((0, 0))) == ("PNG", (0, 0, 255))
    assert [*path.parent.iterdir()] == [path]
    other = tmp_path / "photo.png"
    Image.new("RGB", (4, 4)).save(other)
    os.mkfifo(tmp_path / "pipe")
    for taken in (other, tmp_path, tmp_path / "pipe"):
        assert not explain.may_stand_at(taken)
