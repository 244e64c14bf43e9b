"""NumPy or Keras: which of them is taken for how many images."""

import pytest

from classifier import backend
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.runtime import images_a_step, quicker

AVX512 = {"fpu", "avx2", "avx512f"}


def info(size=64, **options):
    return ModelInfo(["a", "b"], size, "clean", **options)


@pytest.mark.parametrize("model", [info(256), info(64, enlarge_to=256)])
def test_few_large_images_are_sooner_done_by_numpy_and_many_by_keras(model):
    assert quicker(model, 1, AVX512) == quicker(model, 600, AVX512) == "numpy"
    assert quicker(model, 800, AVX512) == "keras"


def test_the_smaller_the_images_the_more_are_sooner_done_by_numpy():
    assert quicker(info(160), 1000, AVX512) == "numpy"
    assert quicker(info(160), 2000, AVX512) == "keras"


@pytest.mark.parametrize(
    ("flags", "model"),
    [
        (AVX512, info()),
        ({"fpu", "avx2"}, info()),
        ({"fpu", "avx2"}, info(256)),
        (set(), info(256)),
    ],
)
def test_numpy_is_sooner_with_any_number_of_small_images_and_without_avx512(flags, model):
    assert quicker(model, 1_000_000, flags) == "numpy"


def test_mirror_images_are_work_too():
    assert quicker(info(256), 500, AVX512) == "numpy"
    assert quicker(info(256, mirror=True), 500, AVX512) == "keras"


@pytest.mark.parametrize(("name", "value"), [("lacking", "no Keras"), ("chosen", "jax")])
def test_where_keras_cannot_start_or_is_not_on_tensorflow_numpy_does_all(monkeypatch, name, value):
    monkeypatch.setattr(backend, name, lambda: value)
    assert quicker(info(256), 1_000_000, AVX512) == "numpy"


@pytest.fixture(autouse=True)
def tensorflow(monkeypatch):
    """Keras can be started, on TensorFlow, whatever is installed."""
    monkeypatch.setattr(backend, "lacking", lambda: "")
    monkeypatch.setattr(backend, "chosen", lambda: "tensorflow")


def test_a_step_is_bounded_in_images_and_pixels():
    assert [images_a_step(side) for side in (32, 224, 256, 448, 1024, 4096)] == [
        64, 64, 49, 16, 3, 1,
    ]  # fmt: skip
