import h5py
import keras
import numpy as np
import pytest
from small import small_network

from classifier import hdf5
from classifier.errors import UserError
from classifier.training import checkpoint
from resnet50 import resnet50

RUN = {"history": {"loss": [1.0]}, "finished": False}


def compiled():
    with small_network():
        model = resnet50((32, 32, 3), 3, dropout=0.5)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy")
    return model


@pytest.fixture
def path(tmp_path):
    """A sound checkpoint."""
    checkpoint.save(tmp_path / "latest.h5", compiled(), RUN)
    return tmp_path / "latest.h5"


def test_a_checkpoint_holds_every_variable_and_the_run(tmp_path):
    path = tmp_path / "latest.h5"
    first, second = compiled(), compiled()
    first.optimizer.build(first.trainable_variables)
    for variable in first.optimizer.variables:
        if variable.dtype == "float32":
            variable.assign(np.random.default_rng(0).random(variable.shape))
    checkpoint.save(path, first, RUN)
    assert checkpoint.load_run(path) == RUN
    checkpoint.restore(path, second)
    for one, other in (
        (first.variables, second.variables),
        (first.optimizer.variables, second.optimizer.variables),
    ):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    seeds = [v for v in first.variables if "seed" in v.path]
    assert len(seeds) == 2 * 3 + 1  # of each Dropout


def test_a_long_history_fits(tmp_path):
    long = {"history": {"loss": [0.123456789] * 20_000}}
    checkpoint.save(tmp_path / "latest.h5", compiled(), long)
    assert checkpoint.load_run(tmp_path / "latest.h5") == long


def damage(path, how):
    if how == "text":
        path.write_text("no HDF5")
        return
    if how == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
        return
    with h5py.File(path, "r+") as file:
        if how == "no run":
            del file["run"]
        elif how == "attribute":  # as it was stored once
            del file["run"]
            file.attrs["state"] = "{}"
        elif how == "no JSON":
            file["run"][0] = ord("x")
        elif how == "list":
            del file["run"]
            hdf5.write_json(file, "run", [1])
        elif how == "version":
            del file["run"]
            hdf5.write_json(file, "run", {"version": checkpoint.VERSION + 1, **RUN})


@pytest.mark.parametrize(
    "how", ["text", "cut", "no run", "attribute", "no JSON", "list", "version"]
)
def test_what_is_no_sound_checkpoint_is_refused_in_one_line(path, how):
    damage(path, how)
    with pytest.raises(UserError, match=r"latest\.h5") as caught:
        checkpoint.load_run(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["shape", "missing", "text", "fixed text", "link"])
def test_variables_that_do_not_fit_are_refused(path, how):
    with h5py.File(path, "r+") as file:
        shape = file["model/0"].shape
        del file["model/0"]
        if how == "shape":
            file["model/0"] = np.zeros(3)
        elif how == "text":
            file.create_dataset("model/0", shape, h5py.string_dtype())
        elif how == "fixed text":
            file["model/0"] = np.full(shape, b"1")
        elif how == "link":
            file["model/0"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(UserError, match="--restart"):
        checkpoint.restore(path, compiled())


def test_nothing_is_left_of_a_checkpoint_that_could_not_be_written(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(
        checkpoint, "reserve", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match="full"):
        checkpoint.save(path, compiled(), RUN)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
