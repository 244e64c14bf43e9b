import keras
import numpy as np
import pytest

from classifier.architecture import STAGES
from classifier.training.pretrained import applications_name
from resnet50 import convolutional_block, identity_block, resnet50

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def network():
    return resnet50()


@pytest.fixture(scope="module")
def other():
    return resnet50(dropout=0, zero_init=True)


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


def test_number_of_parameters_is_the_originals(network):
    assert network.count_params() == 23_794_661
    assert count(network.trainable_weights) == 23_741_541
    assert count(network.non_trainable_weights) == 53_120


def test_layers_have_the_originals_names(network):
    names = [layer.name for layer in network.layers]
    for name in ("conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a", "res2a_branch1",
                 "res3d_branch2c", "bn4f_branch2b", "res5c_branch2c", "fc101"):  # fmt: skip
        assert name in names
    blocks = {name[3:5] for name in names if name.startswith("res")}
    assert blocks == {f"{s}{c}" for s, (_, n, _) in STAGES.items() for c in "abcdef"[:n]}


def test_dropout_stands_in_every_block_and_before_the_head(network, other):
    dropouts = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert len(dropouts) == 2 * sum(n for _, n, _ in STAGES.values()) + 1
    assert {layer.rate for layer in dropouts} == {0.5}
    assert not [layer for layer in other.layers if isinstance(layer, keras.layers.Dropout)]


def test_equals_keras_applications_with_equal_weights():
    ours = resnet50((64, 64, 3), 7, dropout=0)
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7)
    random = np.random.default_rng(0)
    for layer in ours.layers:
        if layer.weights:
            values = [
                random.normal(0, 0.05, w.shape) if "var" not in w.name else np.full(w.shape, 0.8)
                for w in layer.weights
            ]
            layer.set_weights(values)
            if layer.name == "conv1":  # Keras' network takes BGR, ours RGB
                values[0] = values[0][:, :, ::-1, :]
            theirs.get_layer(applications_name(layer.name)).set_weights(values)
    images = random.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    expected = theirs.predict_on_batch(
        keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    )
    assert np.ptp(expected) > 0.01  # not all the same: the comparison says something
    np.testing.assert_allclose(ours.predict_on_batch(images), expected, atol=1e-4)


@pytest.mark.parametrize(("size", "classes"), [(32, 2), (75, 5)])
def test_any_size_and_number_of_classes(size, classes):
    network = resnet50((size, size, 3), classes)
    outputs = network.predict_on_batch(np.zeros((2, size, size, 3), np.uint8))
    assert outputs.shape == (2, classes)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)


def test_zero_init_starts_every_block_as_its_shortcut(other):
    scales = {
        layer.name: layer.get_weights()[0] for layer in other.layers if layer.name.startswith("bn")
    }
    last = {name for name in scales if name.endswith("branch2c")}
    assert len(last) == sum(n for _, n, _ in STAGES.values())
    for name, scale in scales.items():
        assert (scale == (0 if name in last else 1)).all()


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="32 pixels"):
        resnet50((31, 64, 3))
    with pytest.raises(ValueError, match="2 classes"):
        resnet50(classes=1)


def test_blocks_keep_and_change_the_shape():
    x = keras.Input((9, 9, 16))
    assert convolutional_block(x, (4, 4, 16), "2a", stride=2).shape == (None, 5, 5, 16)
    assert identity_block(x, (4, 4, 16), "2b").shape == (None, 9, 9, 16)


def test_identity_block_adds_its_input():
    x = keras.Input((4, 4, 16))
    block = keras.Model(x, identity_block(x, (4, 4, 16), "2b"))
    gamma, *rest = block.get_layer("bn2b_branch2c").get_weights()
    block.get_layer("bn2b_branch2c").set_weights([gamma * 0, *rest])  # main path gives 0
    images = np.random.default_rng(0).random((1, 4, 4, 16)).astype(np.float32)
    np.testing.assert_allclose(block.predict_on_batch(images), images, atol=1e-6)
