"""NumPy or Keras: which of them is taken for how many images."""

import importlib.util

import pytest

from classifier.prediction.model_file import ModelInfo
from classifier.prediction.runtime import quicker

AVX512 = {"fpu", "avx2", "avx512f"}


def info(size=64, **options):
    return ModelInfo(["a", "b"], size, "clean", **options)


@pytest.mark.parametrize(
    ("flags", "model", "count"),
    [
        (AVX512, info(), 10_000),
        (AVX512, info(256), 600),
        (AVX512, info(64, enlarge_to=256), 600),
    ],
)
def test_few_images_are_sooner_done_by_numpy_and_many_by_keras(flags, model, count):
    assert quicker(model, 1, flags) == quicker(model, count, flags) == "numpy"
    assert quicker(model, 5 * count, flags) == "keras"


@pytest.mark.parametrize("flags", [{"fpu", "avx2"}, set()])
def test_without_avx512_numpy_is_sooner_with_any_number(flags):
    assert quicker(info(), 1_000_000, flags) == quicker(info(256), 1_000_000, flags) == "numpy"


def test_mirror_images_are_work_too():
    assert quicker(info(), 20_000, AVX512) == "numpy"
    assert quicker(info(mirror=True), 20_000, AVX512) == "keras"


def test_bfloat16_pays_from_fewer_images_on_and_only_with_units_for_it():
    units = AVX512 | {"avx512_bf16"}
    assert quicker(info(), 2000, units, "bfloat16") == "numpy"
    assert quicker(info(), 4000, units, "bfloat16") == "keras"
    assert quicker(info(), 4000, units) == "numpy"
    assert quicker(info(), 4000, AVX512, "bfloat16") == "numpy"


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_where_keras_is_not_installed_numpy_does_all(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    assert quicker(info(256), 1_000_000, AVX512) == "numpy"


def test_the_backend_chosen_is_the_one_looked_for(monkeypatch):
    looked = []
    monkeypatch.setattr(importlib.util, "find_spec", looked.append)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    quicker(info(), 1, AVX512)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: looked.append(name) or name)
    quicker(info(), 1, AVX512)
    assert looked == ["keras", "keras", "jax"]


@pytest.mark.parametrize("backend", ["none", "a.b", ".", "openvino"])
def test_a_backend_that_is_none_leaves_all_to_numpy(monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert quicker(info(256), 1_000_000, AVX512) == "numpy"
