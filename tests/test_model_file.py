import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import CLASSES, IMAGES
from small import small_network

from classifier import hdf5
from classifier.errors import UserError
from classifier.evaluation.unknown import fit_known
from classifier.prediction import model_file
from classifier.prediction.verdict import Head

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


@pytest.fixture
def knowing(path):
    """A model file of the small network that knows its known photographs."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 2], 5)  # of the class between there was none to train on
    features = random.random((10, 32), np.float32) + labels[:, None]
    head = Head(random.random((32, 3), np.float32), np.zeros(3, np.float32))
    known = fit_known(head, features, labels, features)
    info = model_file.ModelInfo(CLASSES, 32, "clean", temperature=1.25, known=known)
    model_file.save(path, model_file.build(info), info)
    return path, info


def test_what_is_known_is_kept_and_the_head_has_it(knowing):
    path, info = knowing
    weights, found = model_file.load_weights(path)
    head = model_file.head_of(weights, found)
    assert head.temperature == found.temperature == 1.25
    for name, value in vars(info.known).items():
        np.testing.assert_array_equal(getattr(found.known, name), value)
    assert head.known is found.known
    assert head.kernel.shape == (32, 3)
    keras.models.load_model(path, compile=False)


UNSOUND = {
    "no numbers": {"known": {"ceiling": "1"}},
    "too few": {"known": {"energy": [1.0]}},
    "moved": {"known": {"energy": [1.0], "distance": [0.0, 1.0, 2.0]}},
    "text": {"known": {"energy": "12"}},
    "none": {"known": {"threshold": None}},
    "not finite": {"known": {"threshold": float("nan")}},
    "no deviation": {"known": {"distance": [1.0, 0.0]}},
    "another part": {"known": {"command": "rm"}},
    "a list": {"known": [1]},
}
ARRAYS = {
    "negative": ("spread", np.full(1, -1, np.float32)),
    "nan": ("spread", np.full(1, np.nan, np.float32)),
    "float64": ("spread", np.ones(1)),
    "no array": ("means", np.float32(1)),
    "directions": ("means", np.ones((2, 2), np.float32)),
    "classes": ("means", np.ones((4, 1), np.float32)),
    "features": ("centre", np.ones(31, np.float32)),
    "no features": ("centre", np.float32(1)),
    "transposed": ("projection", np.ones((1, 32), np.float32)),
    "missing": ("projection", None),
    "link": ("projection", h5py.ExternalLink("other.h5", "/x")),
}


@pytest.mark.parametrize("how", [*UNSOUND, *ARRAYS])
def test_what_is_known_must_be_sound(knowing, how):
    path, _ = knowing
    with h5py.File(path, "r+") as file:
        if how in UNSOUND:
            kept = hdf5.read_json(file, "classifier")
            del file["classifier"]
            ((name, value),) = UNSOUND[how].items()
            kept[name] = {**kept[name], **value} if isinstance(value, dict) else value
            hdf5.write_json(file, "classifier", kept)
        else:
            name, value = ARRAYS[how]
            del file[f"known/{name}"]
            if value is not None:
                file[f"known/{name}"] = value
    with pytest.raises(UserError, match=r"model\.h5") as caught:
        model_file.load_info(path)
    assert "\n" not in str(caught.value)


def test_a_file_from_before_calibration_is_read(path):
    with h5py.File(path, "r+") as file:
        kept = hdf5.read_json(file, "classifier")
        del file["classifier"], kept["temperature"], kept["known"]
        hdf5.write_json(file, "classifier", {**kept, "version": 2})
    info = model_file.load_info(path)
    assert (info.temperature, info.known) == (1.0, None)


CHANGES = {
    "one class": {"classes": ["one"]},
    "size": {"image_size": "32"},
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
        elif how == "layer":
            del file["model_weights/res5a_branch2a"]
        elif how == "shape":
            del conv1[name]
            conv1[name] = np.zeros((7, 7, 1, 64), np.float32)


@pytest.mark.parametrize("how", [*CHANGES, "no description", "layer", "shape"])
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
    loaded = model_file.filled(*model_file.load_weights(path), "mixed_bfloat16")
    assert loaded.get_layer("conv1").compute_dtype == "bfloat16"
    assert model_file.load(path)[0].get_layer("conv1").compute_dtype == "float32"
    assert keras.config.dtype_policy() == before


def test_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.h5: no such model file"):
        model_file.load(tmp_path / "none.h5")
