"""How a network is trained: traced once, and one line where the memory does not suffice."""

from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import small_network

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training.fit import compiled, fit
from classifier.training.recipes import RECIPES, Recipe
from classifier.training.run import Run
from resnet50 import resnet50


@pytest.fixture
def network():
    with small_network():
        return resnet50((32, 32, 3), 3, dropout=0.5)


def test_the_step_is_traced_once_and_the_rate_falls_to_0_at_the_last(network, monkeypatch):
    traced = []
    step = keras.Model.train_step
    monkeypatch.setattr(
        keras.Model, "train_step", lambda self, data: traced.append(1) or step(self, data)
    )
    model = compiled(network, replace(RECIPES["scratch"], warmup=0.0), batch_size=2, steps=2)
    images = np.zeros((4, 32, 32, 3), np.uint8)
    model.fit(images, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], batch_size=2, verbose=0)
    assert len(traced) == 1
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "fails",
    [
        lambda: tf.zeros(1 << 50),
        lambda: (_ for _ in ()).throw(RuntimeError("RESOURCE_EXHAUSTED: Out of memory")),
    ],
    ids=["TensorFlow", "JAX"],
)
def test_a_batch_too_large_for_the_memory_is_one_line(
    network, tiny_arrays, tmp_path, monkeypatch, fails
):
    arguments = {**asdict(Recipe()), "recipe": "scratch", "seed": 0, "batch_size": 8, "patience": 0}
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: fails())
    run = Run(arguments, "print")
    with (
        Arrays(tiny_arrays) as arrays,
        pytest.raises(UserError, match=r"--batch-size 8: too little memory .* 32 pixels; lower it"),
    ):
        fit(network, arrays, Recipe(), run, tmp_path)


def test_other_errors_are_not_taken_for_want_of_memory(network, tiny_arrays, tmp_path, monkeypatch):
    arguments = {**asdict(Recipe()), "recipe": "scratch", "seed": 0, "batch_size": 8, "patience": 0}
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: 1 / 0)
    with Arrays(tiny_arrays) as arrays, pytest.raises(ZeroDivisionError):
        fit(network, arrays, Recipe(), Run(arguments, "print"), tmp_path)
