"""What speaks for a class: the maps that logits are made of, and the picture that shows them."""

import numpy as np
import pytest
from PIL import Image
from small import random_network, small_network, weights_of

from classifier.evaluation import explain
from classifier.prediction.forward import Network, averaged
from classifier.prediction.verdict import Head

pytestmark = pytest.mark.usefixtures("eager")

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


def test_red_is_where_the_most_speaks_for_it_and_grey_where_nothing_does():
    photograph = Image.new("RGB", (90, 60), (0, 200, 0))
    evidence = np.zeros((2, 3))
    evidence[1, 2], evidence[0, 0] = 5, -5
    pixels = np.asarray(explain.overlay(photograph, evidence)).astype(int)
    assert pixels.shape == (60, 90, 3)
    red, green, blue = pixels[50, 85]
    assert red > 150 > 100 > max(green, blue)
    for place in ((2, 2), (2, 85), (55, 2)):
        assert np.ptp(pixels[place]) == 0
    nothing = np.asarray(explain.overlay(photograph, np.full((2, 3), -1.0)))
    assert (nothing == nothing[0, 0, 0]).all()


def colours(picture, box):
    return {colour for _, colour in picture.crop(box).getcolors(maxcolors=1 << 20)}


def test_the_bars_are_as_long_as_the_probabilities():
    photograph = Image.new("RGB", (40, 40), "red")
    ranked = [("one", 0.75), ("two", 0.25), ("three", 0.0)]
    for unknown, colour in ((False, explain.BLUE), (None, explain.BLUE), (True, explain.GREY)):
        drawn = explain.picture(photograph, "a.png", np.eye(2), ranked, unknown)
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
        explain.picture(photograph, "a.png", np.eye(2), [("one", 1.0)], unknown)
        .crop((3 * explain.GAP + 2 * explain.SIDE, 0, 1100, explain.GAP + explain.CAPTION))
        .tobytes()
        for unknown in (None, False, True)
    ]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5000, 3000)])
@pytest.mark.parametrize("name", ["", "two\nlines", "\udcff\u4e2d" * 100, "W" * 255])
def test_any_size_and_any_name_can_be_drawn(size, name):
    drawn = explain.picture(Image.new("RGB", size), name, np.eye(7), [(name, 0.5)] * 5, False)
    assert drawn.mode == "RGB"
    assert drawn.width <= 1100
    assert drawn.height <= 500
    right = drawn.width - explain.GAP + 1  # nothing stands in the margin
    assert colours(drawn, (right, 0, drawn.width, drawn.height)) == {(255, 255, 255)}


def test_a_text_is_cut_where_there_is_no_room():
    assert explain.fitting("abc", len, 3) == "abc"
    assert explain.fitting("abcdefgh", len, 6) == "abc..."
    assert explain.fitting("a\tb\x00", len, 9) == "a?b?"
    assert explain.fitting("abcd", len, 2) == "..."
