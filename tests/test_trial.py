"""The trial that measures how fast this processor trains in bfloat16."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import small_network

from classifier.training import trial


class Clock:
    """Stands in for the module time; so many seconds lie between two looks at it."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0

    def perf_counter(self):
        self.now += self.seconds
        return self.now


def states():
    """Names and numbers that a network built next would get."""
    return [
        keras.config.dtype_policy().name,
        keras.layers.Dense(1).name.removeprefix("dense").removeprefix("_") or "0",
        keras.random.normal((2,)).numpy().tolist(),
        tf.random.normal((2,)).numpy().tolist(),
        np.random.random(),  # noqa: NPY002
        random.random(),
    ]


def test_it_measures_and_leaves_policy_names_and_random_states_as_they_were():
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    wanted = states()
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    assert trial.bfloat16_speed() > 0
    assert states() == wanted


def test_a_slow_processor_ends_it_after_the_first_block(monkeypatch):
    steps = []
    monkeypatch.setattr(trial, "_seconds", lambda x, _: steps.append(x.dtype) or 1.0)
    monkeypatch.setattr(trial, "time", Clock(2 * trial.SECONDS))
    with small_network():
        assert trial.bfloat16_speed() == 1.0
    assert steps == ["bfloat16", "float32"]


def test_a_fast_one_ends_it_after_some_rounds_and_the_least_times_count(monkeypatch):
    # bfloat16 and float32 of stage 2, which has 1 block, then of stage 5, which has 2.
    times = iter([9.0, 4.0, 1.0, 2.0, 2.0, 9.0, 9.0, 9.0, *[9.0] * 4 * (trial.ROUNDS - 2)])
    monkeypatch.setattr(trial, "_seconds", lambda *_: next(times))
    monkeypatch.setattr(trial, "time", Clock(0))
    with small_network():
        assert trial.bfloat16_speed() == (4.0 + 2 * 2.0) / (2.0 + 2 * 1.0)
    assert next(times, None) is None


def test_what_cannot_be_computed_is_not_fast(monkeypatch):
    def fails(*_):
        raise tf.errors.UnimplementedError(None, None, "no bfloat16 here")

    monkeypatch.setattr(trial, "_seconds", fails)
    with small_network():
        assert trial.bfloat16_speed() == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_has_a_gradient_for_each_weight(dtype, monkeypatch):
    taken = []
    gradient = tf.GradientTape.gradient
    monkeypatch.setattr(
        tf.GradientTape, "gradient", lambda *a: taken.append(gradient(*a)) or taken[-1]
    )
    x = tf.random.stateless_normal((2, 4, 4, 8), (0, 1))
    shapes = (1, 1, 8, 4), (3, 3, 4, 4), (1, 1, 4, 8)
    weights = [(tf.ones(shape), tf.ones(shape[-1])) for shape in shapes]
    assert trial._seconds(tf.cast(x, dtype), weights) > 0
    of_x, of_weights = taken[0]
    assert of_x.dtype == dtype
    for weight, found in zip(tf.nest.flatten(weights), tf.nest.flatten(of_weights), strict=True):
        assert found.dtype == "float32"
        assert found.shape == weight.shape
