"""The optimizer that a recipe describes, and its learning rate."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from classifier.training.optimizer import WarmupCosine, make_optimizer
from classifier.training.recipes import RECIPES, Recipe


def test_the_rate_rises_for_the_warmup_and_falls_to_nothing():
    recipe = Recipe(learning_rate=0.5, warmup=0.1)
    rate = make_optimizer(recipe, 200)._learning_rate
    assert [float(rate(step)) for step in (0, 10, 20, 110, 200, 300)] == pytest.approx(
        [0, 0.25, 0.5, 0.25, 0, 0], abs=1e-6
    )
    rate = make_optimizer(replace(recipe, warmup=0), 200)._learning_rate
    assert [float(rate(step)) for step in (0, 100, 200)] == pytest.approx([0.5, 0.25, 0], abs=1e-6)


@pytest.mark.parametrize("warmup", [0, 7])
def test_the_rates_are_those_of_kerass_schedule(warmup):
    ours = WarmupCosine(0.3, warmup, 50)
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else 0.3, 50 - warmup, warmup_target=0.3 if warmup else None,
        warmup_steps=warmup,
    )  # fmt: skip
    steps = range(60)
    np.testing.assert_allclose([ours(i) for i in steps], [theirs(i) for i in steps], atol=1e-7)
    assert WarmupCosine.from_config(ours.get_config())(9) == ours(9)


def test_the_constant_rate_stays_and_the_optimizer_is_the_recipes():
    adam = make_optimizer(RECIPES["original"], 200)
    assert isinstance(adam, keras.optimizers.Adam)
    assert float(adam.learning_rate) == pytest.approx(0.005)
    assert adam.weight_decay is None
    sgd = make_optimizer(replace(RECIPES["scratch"], schedule="constant"), 200)
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.9, True, 5e-4)
    assert float(sgd.learning_rate) == pytest.approx(0.0125)


def test_steps_of_sgd_are_kerass_own():
    random = np.random.default_rng(0)
    first = random.normal(size=(3, 5)).astype(np.float32)
    ours = make_optimizer(Recipe(schedule="constant", learning_rate=0.1, weight_decay=0.02), 9)
    theirs = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.02)
    variables = [keras.Variable(first), keras.Variable(first)]
    for _ in range(4):
        gradient = keras.ops.convert_to_tensor(random.normal(size=(3, 5)).astype(np.float32))
        for optimizer, variable in zip((ours, theirs), variables, strict=True):
            optimizer.apply([gradient], [variable])
    ours, theirs = map(keras.ops.convert_to_numpy, variables)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.abs(ours - first).min() > 1e-3
