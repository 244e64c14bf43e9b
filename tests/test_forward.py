"""The network in NumPy computes what the one in Keras does."""

import threading

import keras
import numpy as np
import pytest
from small import random_network, small_network, weights_of

from classifier import architecture
from classifier.prediction import forward
from classifier.prediction.verdict import Head

pytestmark = pytest.mark.usefixtures("eager")

RANDOM = np.random.default_rng(0)


def pictures(count, size):
    return RANDOM.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "classes", "enlarge_to"),
    [(32, 2, 0), (64, 101, 0), (97, 5, 0), (224, 101, 0), (33, 3, 75)],
)
@pytest.mark.parametrize("many", [False, True])
def test_the_outputs_are_those_of_keras(size, classes, enlarge_to, many):
    network = random_network(size, classes, enlarge_to)
    images = pictures(2, size)
    pooled = network.get_layer("avg_pool")
    inside = keras.Model(
        network.input, [network.output, network.layers[-2].output, pooled.output, pooled.input]
    )

    def compare(images, features, maps=None):
        wanted = inside.predict_on_batch(images)
        found = (head.probabilities(features), head.logits(features), features, maps)
        assert wanted[0].max() < 0.99  # else the comparison says little
        assert np.ptp(wanted[0], axis=0).max() > 1e-3
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
        for one, other in [*zip(found, wanted, strict=True)][1 : None if maps is not None else 3]:
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
            assert one.dtype == np.float32
        return wanted

    weights = weights_of(network)
    head = Head(*network.layers[-2].get_weights())
    ours = forward.Network(weights, enlarge_to, many)
    wanted = compare(images, ours(images), ours.feature_maps(images))
    mirrored = compare(images[:, :, ::-1], ours(images[:, :, ::-1]))
    assert np.abs(mirrored[0] - wanted[0]).max() > 1e-4  # the mirror images count
    for threads in (1, 2):
        both = forward.averaged(ours, images, True, threads)
        mean = (wanted[1] + mirrored[1]) / 2
        np.testing.assert_allclose(head.logits(both), mean, atol=1e-4 * np.abs(mean).max())
    np.testing.assert_array_equal(forward.averaged(ours, images, False), ours(images))


def test_images_as_large_as_asked_for_are_not_enlarged():
    with small_network():
        network = random_network(48, 2, enlarge_to=48)
        images = pictures(2, 48)
        for enlarge_to in (32, 48):
            features = forward.Network(weights_of(network), enlarge_to)(images)
            found = Head(*network.layers[-2].get_weights()).probabilities(features)
            np.testing.assert_allclose(found, network.predict_on_batch(images), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (2, 5), (7, 4), (8, 8)])
def test_tiles_give_what_a_convolution_gives(height, width):
    x = RANDOM.normal(size=(3, height, width, 5)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 3, 5, 4)).astype(np.float32)
    bias = RANDOM.normal(size=4).astype(np.float32)
    wanted = keras.ops.convert_to_numpy(keras.ops.conv(x, kernel, padding="same")) + bias
    found = forward.convolved_in_tiles(x, forward.for_tiles(kernel), bias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_image_and_mirror_image_can_be_computed_at_a_time():
    together = threading.Barrier(2, timeout=10)
    images = pictures(2, 4)

    def predict(views):  # the left column
        together.wait()
        return views[:, :, 0].mean(axis=(1, 2), keepdims=True)[..., 0]

    found = forward.averaged(predict, images, mirror=True, threads=2)
    np.testing.assert_allclose(found, images[:, :, [0, -1]].mean(axis=(1, 2, 3))[:, None])


@pytest.mark.parametrize(("size", "side"), [(32, 33), (32, 64), (64, 160), (97, 256)])
def test_images_are_enlarged_as_keras_does(size, side):
    images = RANDOM.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    wanted = keras.layers.Resizing(side, side, "bilinear")(images)
    np.testing.assert_allclose(forward.enlarged(images, side), wanted, atol=1e-3)


@pytest.mark.parametrize("side", [3, 4, 7, 16])
def test_maxima_are_taken_as_keras_does(side):
    x = RANDOM.normal(size=(2, side, side, 3)).astype(np.float32)
    wanted = keras.ops.max_pool(x, 3, strides=2, padding="valid")
    np.testing.assert_array_equal(forward.max_pooled(x), wanted)


def test_large_logits_do_not_overflow():
    found = forward.softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32))
    np.testing.assert_array_equal(found, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("classes", [2, 101])
def test_the_table_has_the_weights_of_the_network(classes):
    with small_network():
        small = random_network(32, classes)
        shapes = architecture.weight_shapes(classes)
        assert shapes == {
            layer.name: {weight.name: tuple(weight.shape) for weight in layer.weights}
            for layer in small.layers
            if layer.weights
        }
        for layer, parts in shapes.items():  # in the order in which Keras sets them
            assert list(parts) == [weight.name for weight in small.get_layer(layer).weights]


def test_the_number_of_weights_and_of_multiply_adds():
    shapes = architecture.weight_shapes(101)
    sizes = [np.prod(shape) for parts in shapes.values() for shape in parts.values()]
    assert sum(sizes) == 23_794_661
    # He et al. 2015 count 3.8 billion for 224 pixels.
    assert architecture.multiply_adds(224) / 1e9 == pytest.approx(3.8, abs=0.06)


@pytest.mark.parametrize("size", [32, 64, 97, 224])
def test_the_table_has_the_sides_of_the_feature_maps(size):
    with small_network():
        network = random_network(size, 2)
        for conv, norm, kernel, side in architecture.convolutions(size):
            assert tuple(network.get_layer(conv).output.shape[1:]) == (side, side, kernel[-1])
            assert network.get_layer(norm).input is network.get_layer(conv).output
