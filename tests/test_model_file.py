import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import CLASSES, IMAGES
from small import small_network

from classifier import hdf5
from classifier.errors import UserError
from classifier.prediction import model_file

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    info = model_file.ModelInfo(CLASSES, 32, "clean", {"history": {"loss": [1.5, 0.5]}})
    model_file.save(path, network, info)
    return path


def test_what_is_saved_is_loaded(network, saved):
    loaded, info = model_file.load(saved)
    assert info == model_file.ModelInfo(CLASSES, 32, "clean", {"history": {"loss": [1.5, 0.5]}})
    np.testing.assert_array_equal(loaded.predict_on_batch(IMAGES), network.predict_on_batch(IMAGES))
    assert [file.name for file in saved.parent.iterdir()] == ["model.h5"]


def test_keras_reads_it_too(network, saved):
    theirs = keras.models.load_model(saved, compile=False)
    np.testing.assert_allclose(
        theirs.predict_on_batch(IMAGES), network.predict_on_batch(IMAGES), atol=1e-6
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model file of the small network, which is sooner built."""
    path = tmp_path_factory.mktemp("small") / "model.h5"
    info = model_file.ModelInfo(CLASSES, 32, "clean")
    with small_network():
        model_file.save(path, model_file.build(info), info)
    return path


@pytest.fixture
def path(small, tmp_path):
    """A copy of it to be changed; what is loaded in the test is the small network."""
    shutil.copy(small, tmp_path / "model.h5")
    with small_network():
        yield tmp_path / "model.h5"


def test_configuration_in_the_file_is_never_used(path):
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = "import os; this is no configuration"
    model_file.load(path)


CHANGES = {
    "one class": {"classes": ["one"]},
    "classes": {"classes": [1, 2, 3]},
    "size": {"image_size": "32"},
    "huge": {"enlarge_to": 1 << 40},
    "training": {"training": []},
    "version": {"version": 1},
    "unknown": {"command": "rm"},
    "small": {"image_size": 31},
}


def damage(path, how):
    with h5py.File(path, "r+") as file:
        conv1 = file["model_weights/conv1"]
        name = conv1.attrs["weight_names"][0]  # "resnet50/conv1/kernel"
        if how == "no description":
            del file["classifier"]
        elif how in CHANGES:
            kept = hdf5.read_json(file, "classifier")
            del file["classifier"]
            hdf5.write_json(file, "classifier", {**kept, **CHANGES[how]})
        elif how == "no JSON":
            file["classifier"][0] = ord("x")
        elif how == "nested":
            del file["classifier"]
            file["classifier"] = np.full(1_000_000, ord("["), np.uint8)
        elif how == "variable length":
            del file["classifier"]
            file["classifier"] = np.array(["{}"], h5py.string_dtype())
        elif how == "layer":
            del file["model_weights/res5a_branch2a"]
        elif how == "nan":
            conv1[name][0, 0, 0, 0] = np.nan
        elif how == "shape":
            del conv1[name]
            conv1[name] = np.zeros((7, 7, 1, 64), np.float32)
        elif how == "text":
            del conv1[name]
            conv1.create_dataset(name, (7, 7, 3, 64), h5py.string_dtype())
        elif how == "integers":
            del conv1[name]
            conv1[name] = np.zeros((7, 7, 3, 64), np.int32)
        elif how == "link":
            del conv1[name]
            conv1[name] = h5py.ExternalLink("other.h5", "/x")
        elif how == "layer link":
            del file["model_weights/conv1"]
            file["model_weights/conv1"] = h5py.SoftLink("/model_weights/bn_conv1")


@pytest.mark.parametrize(
    "how",
    [
        *CHANGES,
        "no description",
        "no JSON",
        "nested",
        "variable length",
        "layer",
        "nan",
        "shape",
        "text",
        "integers",
        "link",
        "layer link",
    ],
)
def test_a_file_that_is_no_sound_model_is_refused_in_one_line(path, how):
    damage(path, how)
    with pytest.raises(UserError) as caught:
        model_file.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_are_float32_whatever_the_file_has(path, dtype):
    with h5py.File(path, "r+") as file:
        conv1 = file["model_weights/conv1"]
        name = conv1.attrs["weight_names"][0]
        kernel = conv1[name][()]
        del conv1[name]
        conv1[name] = kernel.astype(dtype)
    weights, _ = model_file.load_weights(path)
    found = weights["conv1"]["kernel"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, kernel, atol=1e-3)


def test_a_network_computes_by_the_policy_asked_for_and_no_other_does(path):
    before = keras.config.dtype_policy()
    loaded, _ = model_file.load(path, "mixed_bfloat16")
    assert loaded.get_layer("conv1").compute_dtype == "bfloat16"
    assert model_file.load(path)[0].get_layer("conv1").compute_dtype == "float32"
    assert keras.config.dtype_policy() == before


def test_no_file_and_no_hdf5_file_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    for name in ("none.h5", "text.h5"):
        with pytest.raises(UserError, match=name):
            model_file.load(tmp_path / name)
