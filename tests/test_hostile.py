"""Files from strangers: each is refused in one line, nothing of it run and no other file read.

The files are those of benchmarks/faulty/hostile.py, smaller; there the commands are put to them.
"""

import shutil
import sys

import h5py
import keras
import numpy as np
import pytest
from small import small_network

import prepro
import train
from benchmarks.faulty import hostile
from benchmarks.faulty.hostile import ARRAYS, CHECKPOINTS, CLASSES, HARMLESS, MODELS, ODD
from classifier import backend
from classifier.data.arrays import Arrays
from classifier.data.splits import SPLITS
from classifier.errors import UserError
from classifier.prediction import model_file
from classifier.training import pretrained
from classifier.training.run import load

# Too large for a test; or what is wrong shows only in what the network computes, or in the command.
LEFT_OUT = ("a header of 3 GB", "100,000,000 bytes", "10,000,000 lists", "2,000,000 keys",
            f"{hostile.MANY:,} names in the root", "weights of 1e38", "a head of 1e38",
            "a recipe of two lines")  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with model.h5, of the small network, arrays.h5 and the checkpoint of a run."""
    folder = tmp_path_factory.mktemp("sound")
    with small_network():
        hostile.sound_model(folder / "models.h5", CLASSES)
    hostile.sound_arrays(folder / "arrays.h5", CLASSES)
    words = ["--data", str(folder / "arrays.h5"), "--model", str(folder / "x.h5")]
    hostile.sound_run(folder / "checkpoints.h5", folder / "arrays.h5", words)
    return folder


@pytest.fixture
def bait(tmp_path):
    """What hostile files are after."""
    made = hostile.Bait(tmp_path / "bait")
    made.lay()
    return made


@pytest.fixture
def spoiled(sound, tmp_path, bait, monkeypatch):
    """Return what writes the hostile file of a kind and name; the network is the small one."""
    monkeypatch.setattr(hostile, "MANY", 1000)

    def write(kind, name):
        path = tmp_path / "hostile.h5"
        shutil.copy(sound / f"{kind}.h5", path)
        hostile.ALL[kind][name](path, bait)
        return path

    with small_network():
        yield write


def names(table):
    return [name for name in table if not name.endswith(LEFT_OUT)]


def assert_refused(read, path, bait):
    """Assert that a file is refused in one line, and has had nothing done."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert bait.taken(str(caught.value)) == ""
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", names(MODELS))
def test_a_hostile_model_is_refused_whatever_reads_it(name, spoiled, bait):
    path = spoiled("models", name)
    assert_refused(model_file.load_weights, path, bait)
    assert_refused(lambda path: list(pretrained.read_file(path, CLASSES)), path, bait)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_hostile_beside_sound_weights_is_never_looked_at(name, spoiled, bait, sound):
    weights, info = model_file.load_weights(spoiled("models", name))
    expected, info_expected = model_file.load_weights(sound / "models.h5")
    assert info == info_expected
    for layer, values in expected.items():
        for part, value in values.items():
            np.testing.assert_array_equal(weights[layer][part], value)
    assert bait.taken("") == ""


@pytest.mark.parametrize("name", names(ARRAYS))
def test_hostile_arrays_are_refused(name, spoiled, bait):
    assert_refused(Arrays, spoiled("arrays", name), bait)


@pytest.mark.parametrize("name", ODD)
def test_arrays_of_odd_content_are_read_and_judged_in_order(name, spoiled, bait, capsys):
    path = spoiled("arrays", name)
    with Arrays(path) as arrays:
        for split in SPLITS:
            count = arrays.count(split)
            images, _ = arrays.read(split, slice(0, count))
            assert len(images) == len(arrays.labels(split)) == len(arrays.sources(split)) == count
        assert arrays.held_out() is None
    assert prepro.audit(path, None, 1, False) in (0, 1)
    printed = capsys.readouterr()
    assert bait.taken(printed.out + printed.err) == ""


def test_damage_that_shows_only_as_texts_are_read_is_told_in_one_line(sound, tmp_path, bait):
    """Texts filled up in a way that HDF5 does not know."""
    path = tmp_path / "arrays.h5"
    with h5py.File(sound / "arrays.h5") as file:
        (length,) = {file[f"{split}/source"].dtype.itemsize for split in SPLITS}
    text = bytes(
        [0x13, 0x11, 0, 0, length, 0, 0, 0]
    )  # version and class, UTF-8 and filled with zeros, bytes
    data = (sound / "arrays.h5").read_bytes()
    assert data.count(text) == len(SPLITS)
    path.write_bytes(data.replace(text, bytes([0x13, 0x13]) + text[2:]))
    for split in SPLITS:
        with Arrays(path) as arrays:
            assert_refused(lambda _, a=arrays, s=split: a.sources(s), path, bait)
            assert_refused(lambda _, a=arrays: a.check_content(), path, bait)


@pytest.mark.parametrize("name", names(CHECKPOINTS))
def test_a_hostile_checkpoint_is_refused(name, spoiled, bait):
    assert_refused(load, spoiled("checkpoints", name), bait)


def test_weights_to_start_from_are_looked_at_before_keras_starts_and_a_run_is_lost(
    spoiled, bait, sound, tmp_path, monkeypatch
):
    path = spoiled("models", "weights of NaN")
    with h5py.File(path, "r+") as file:
        del file["classifier"]  # as weights of Keras, whose description is not read first
    own = tmp_path / "models/checkpoints/model"
    own.mkdir(parents=True)
    shutil.copy(sound / "checkpoints.h5", own / "latest.h5")
    words = ("--data", sound / "arrays.h5", "--init", path, "--batch-size", 2,
             "--model", tmp_path / "models/model.h5", "--logs", tmp_path / "logs")  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
    monkeypatch.setattr(backend, "start_keras", lambda: pytest.fail("Keras was started"))
    (tmp_path / "logs").mkdir()
    assert_refused(lambda _: train.main(), path, bait)


def test_the_best_epoch_is_looked_at_before_keras_starts(spoiled, bait, sound, monkeypatch):
    path = spoiled("models", "weights of NaN")
    path = path.rename(path.with_name("best.h5"))
    monkeypatch.setattr(backend, "start_keras", lambda: pytest.fail("Keras was started"))
    run = load(sound / "checkpoints.h5")
    assert_refused(lambda _: train.finish(None, None, run, path.parent), path, bait)


# --- the files are no duds: what is asked to run or to follow them does ---


@pytest.mark.parametrize("form", ["in a .keras file", "in an .h5 file (CVE-2025-9905)"])
def test_keras_asked_to_trust_the_file_runs_its_bytecode(form, spoiled, bait, tmp_path):
    path = spoiled("models", f"CVE-2024-3660, bytecode in a Lambda, {form}")
    path = path.rename(tmp_path / ("model.keras" if "keras" in form.split()[2] else "model.h5"))
    assert bait.taken("") == ""
    keras.models.load_model(path, compile=False, safe_mode=False)
    assert "code was run" in bait.taken("")


def test_pickle_runs_the_pickle(spoiled, bait):
    import pickle

    pickle.loads(spoiled("models", "a pickle").read_bytes())  # noqa: S301 - the point of it
    assert "code was run" in bait.taken("")


def test_h5py_follows_the_links_and_finds_the_secrets(spoiled, bait):
    with h5py.File(spoiled("models", "classifier: an external link")) as file:
        assert bait.taken(file["classifier"][()].tobytes().decode()) == "a secret was read"
    storage = "classifier: CVE-2026-1669, external storage"
    with h5py.File(spoiled("models", storage)) as file:
        assert bait.taken(file["classifier"][()].tobytes().decode()) == "a secret was read"
