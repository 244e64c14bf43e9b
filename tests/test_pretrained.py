"""Weights to start from, and what they give away of the test photographs."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from conftest import CLASSES, IMAGES
from small import small_network

from classifier.data.splits import LEAK_WARNING
from classifier.errors import UserError
from classifier.prediction import model_file
from classifier.training import pretrained
from resnet50 import resnet50

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    model_file.save(path, network, model_file.ModelInfo(CLASSES, 32, "clean"))
    return path


def test_init_takes_our_own_model_with_its_head(network, saved):
    fresh = resnet50((32, 32, 3), 3, dropout=0)
    assert pretrained.load(fresh, saved, CLASSES) == 107
    np.testing.assert_array_equal(fresh.predict_on_batch(IMAGES), network.predict_on_batch(IMAGES))
    assert pretrained.load(fresh, saved, ["x", "y", "z"]) == 106


def test_init_takes_keras_files_and_turns_them_to_rgb(tmp_path):
    theirs = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    theirs.save(tmp_path / "whole.h5")
    # The layout of the official file: groups by layer, with their weights' names.
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for layer in theirs.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
            group.attrs["weight_names"] = np.array(names, "S")
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value
    scaled = keras.applications.resnet50.preprocess_input(IMAGES.astype(np.float32))
    wanted = theirs.predict_on_batch(scaled)
    ours = resnet50((32, 32, 3), 5, dropout=0)
    features = keras.Model(ours.input, ours.get_layer("avg_pool").output)
    for name in ("whole.h5", "weights.h5"):
        ours.set_weights([np.zeros_like(weight) for weight in ours.get_weights()])
        assert pretrained.load(ours, tmp_path / name, list("abcde")) == 106
        np.testing.assert_allclose(
            features.predict_on_batch(IMAGES), wanted, atol=1e-4, err_msg=name
        )


def test_init_refuses_a_network_that_is_no_resnet50(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.h5")
    with small_network():
        ours = resnet50((32, 32, 3), 2)
    with pytest.raises(UserError, match=r"other\.h5: no ResNet-50"):
        pretrained.load(ours, tmp_path / "other.h5", ["a", "b"])


def test_a_model_without_its_description_is_not_taken_for_keras_weights(network, tmp_path):
    path = model_of(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        file["classifier"][0] = ord("x")
    for read in (
        lambda: pretrained.load(network, path, CLASSES),
        lambda: pretrained.leak_of(path, arrays()),
    ):
        with pytest.raises(UserError, match=r"model\.h5"):
            read()


def arrays(leaks=False):
    return SimpleNamespace(leaks=leaks, split_digest="these")


def model_of(path, protocol="clean", leak="", **training):
    """Write a model that says this of itself."""
    with small_network():
        info = model_file.ModelInfo(CLASSES, 32, protocol, training, leak=leak)
        model_file.save(path, resnet50((32, 32, 3), 3, dropout=0), info)
    return path


def test_weights_that_know_nothing_of_these_photographs_are_no_leak(tmp_path):
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file.create_group("conv1_conv")
    same = model_of(tmp_path / "same.h5", split_digest="these")
    for init in ("scratch", "imagenet", tmp_path / "keras.h5", same):
        assert pretrained.leak_of(init, arrays()) == ""


def test_a_model_of_another_split_may_know_the_test_photographs(tmp_path):
    for training in ({"split_digest": "others"}, {}):
        leak = pretrained.leak_of(model_of(tmp_path / "model.h5", **training), arrays())
        assert "model.h5" in leak
        assert "another split" in leak
        assert "\n" not in leak


def test_a_leak_is_told_in_one_line_whatever_the_file_is_called(tmp_path):
    leak = pretrained.leak_of(model_of(tmp_path / "two\nlines.h5"), arrays())
    assert "two\\nlines.h5" in leak
    assert "\n" not in leak


def test_a_leak_is_inherited(tmp_path):
    known = model_of(tmp_path / "known.h5", leak="it has seen them", split_digest="these")
    assert "it has seen them" in pretrained.leak_of(known, arrays())
    original = model_of(tmp_path / "original.h5", "original", split_digest="these")
    assert LEAK_WARNING in pretrained.leak_of(original, arrays())
    for init in ("scratch", "imagenet", known):
        assert pretrained.leak_of(init, arrays(leaks=True)) == LEAK_WARNING
