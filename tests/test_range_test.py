"""The learning-rate range test: which rates it tries, when it ends and what it suggests."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image
from small import small_network

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training import range_test
from classifier.training.fit import compiled, training_batches
from classifier.training.recipes import RECIPES, Recipe
from resnet50 import resnet50

pytestmark = pytest.mark.usefixtures("eager")

RECIPE = Recipe(crop=0.0, mixup=0.0)


@pytest.fixture
def arrays(tiny_arrays):
    with Arrays(tiny_arrays) as opened:
        yield opened


@pytest.fixture
def network():
    with small_network():
        return resnet50((32, 32, 3), 3, dropout=0)


@pytest.fixture
def scripted(monkeypatch):
    """Make training give losses of a function of the rate and the step; returns the rates seen."""

    def script(loss):
        seen = []

        def train_on_batch(images, labels, return_dict):
            seen.append(model.optimizer.learning_rate)
            return {"loss": loss(seen[-1], len(seen) - 1)}

        model = SimpleNamespace(
            optimizer=SimpleNamespace(), train_on_batch=train_on_batch, reset_metrics=lambda: None
        )
        monkeypatch.setattr(range_test, "compiled", lambda *_: model)
        return seen

    return script


def valley(rate, step=0):
    """A loss that falls from 1.9 to 1 at 0.01, is 1.9 again at 0.05, and doubles after 0.15."""
    away = np.log10(rate / 0.01)
    return 1 + away**2 * (1.9 if away > 0 else 0.1) + 0.01 * (-1) ** step


def suggest(network, arrays, picture, recipe=RECIPE):
    return range_test.suggest(network, arrays, recipe, 8, 0, picture)


def test_half_the_rate_is_suggested_at_which_the_loss_is_back(
    network, arrays, scripted, tmp_path, capsys
):
    seen = scripted(valley)
    rate = suggest(network, arrays, tmp_path / "lr.png")
    assert 0.015 < rate < 0.025
    np.testing.assert_allclose(np.diff(np.log(seen)), np.log(1e6) / (range_test.STEPS - 1))
    assert seen[0] == range_test.LOWEST
    assert 0.1 < seen[-1] < 0.3  # where it ended, although rates up to 10 were left
    told = capsys.readouterr().out
    assert f"{len(seen)} steps up to {seen[-1]:.2g}: {tmp_path}/lr.png\n" in told
    assert f"suggested: -lr {rate:g}, half the highest at which" in told
    assert "(now: 0.0125)\n" in told
    with Image.open(tmp_path / "lr.png") as drawn:
        assert drawn.format == "PNG"
        orange = (np.asarray(drawn.convert("RGB")) == (0xD9, 0x82, 0x2B)).all(axis=2)
    assert orange.sum(axis=0).max() > 200  # the suggestion's line


@pytest.mark.parametrize("loss", [lambda rate, _: 1 + 1e4 * rate, lambda rate, _: 5.0])
def test_where_the_losses_suggest_no_rate_it_says_so(network, arrays, scripted, tmp_path, loss):
    scripted(loss)
    with pytest.raises(
        UserError, match=r"^--find-lr: these losses suggest no rate, see .*lr\.png;"
    ):
        suggest(network, arrays, tmp_path / "lr.png")
    assert (tmp_path / "lr.png").is_file()


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("fall", [0.0, 0.5])
def test_noise_does_not_move_the_suggestion_far(noise, fall):
    """A loss that stays or falls, and then rises from 0.01 on, is 1.5 times as high at 0.03."""
    random = np.random.default_rng(0)
    rates = np.geomspace(range_test.LOWEST, range_test.HIGHEST, range_test.STEPS)[:80]
    found = []
    for _ in range(200):
        losses = 1 - fall * np.clip(np.log10(rates / 1e-4) / 2, 0, 1)
        losses += np.clip(np.log10(rates / 0.01), 0, None) + noise * random.normal(size=80)
        found.append(range_test.suggestion(rates, losses) or np.nan)
    assert np.isfinite(found).mean() > 0.9
    assert 0.001 < np.nanquantile(found, 0.05) <= np.nanquantile(found, 0.95) < 0.06


def test_a_network_that_is_dead_at_higher_rates_does_not_count():
    """The loss is back at that of the start, which a network has that knows nothing."""
    rates = np.geomspace(range_test.LOWEST, range_test.HIGHEST, range_test.STEPS)[:115]
    losses = np.interp(
        np.log10(rates), [-5, -4, -2, -1.7, -1, -0.5, 0.6], [2.3, 2.3, 1, 2.3, 3.6, 2.3, 2.3]
    )
    losses += 0.01 * (-1) ** np.arange(115)
    assert 0.005 < range_test.suggestion(rates, losses) < 0.015


def test_it_ends_where_the_loss_is_no_number(network, arrays, scripted, tmp_path):
    seen = scripted(lambda rate, _: np.nan if rate > 0.001 else 1 - rate)
    assert 0.0003 < suggest(network, arrays, tmp_path / "lr.png") <= 0.0005
    assert seen[-2] < 0.001 < seen[-1]
    scripted(lambda rate, step: np.inf if step == range_test.FIRST else 1.0)
    with pytest.raises(
        UserError, match="^--find-lr: the loss is not a number at .*; try --precision"
    ):
        suggest(network, arrays, tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_want_of_memory_is_one_line(network, arrays, scripted, tmp_path):
    def fail(rate, step):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    scripted(fail)
    with pytest.raises(UserError, match=r"^--batch-size 8: too little memory"):
        suggest(network, arrays, tmp_path / "lr.png")


def test_each_loss_is_that_of_its_batch_alone(network, arrays, monkeypatch):
    monkeypatch.setattr(range_test, "LOWEST", 1e-12)
    monkeypatch.setattr(range_test, "HIGHEST", 2e-12)  # nothing is learned
    monkeypatch.setattr(range_test, "STEPS", 8)
    found = [*range_test.losses_by_rate(network, arrays, RECIPE, 8, seed=3)]
    batches = training_batches(arrays, RECIPE, 8, 3)
    model = compiled(network, RECIPE, 8, "sgd")
    assert batches.steps == 6
    for number, (_, loss) in enumerate(found):
        if number in (0, 6):
            batches.start(number // 6)
        images, labels = batches[number % 6]
        expected = model.loss(labels, model(images, training=True))
        assert loss == pytest.approx(float(keras.ops.convert_to_numpy(expected)), rel=1e-4)
    assert len(found) == 8


def test_steps_are_those_of_the_recipe(larger_arrays, monkeypatch):
    """Their size is that of the first epoch, and the head begins with the regression, if asked."""
    sides, heads = [], []
    monkeypatch.setattr(range_test, "STEPS", 3)
    monkeypatch.setattr(range_test, "regression_head", lambda *_: heads.append(1))
    build = range_test.compiled
    monkeypatch.setattr(
        range_test, "compiled", lambda *args: sides.append(args[4:]) or build(*args)
    )
    with small_network(), Arrays(larger_arrays) as arrays:
        for recipe in (RECIPE, replace(RECIPES["finetune"], enlarge_to=64, freeze_stages=0)):
            network = resnet50((48, 48, 3), 3, 0, enlarge_to=recipe.enlarge_to)
            before = [weight.numpy() for weight in network.trainable_weights]
            assert len([*range_test.losses_by_rate(network, arrays, recipe, 8, 0)]) == 3
            assert any(
                (a != b).any() for a, b in zip(before, network.trainable_weights, strict=True)
            )
    assert sides == [(), (32,), ()]
    assert heads == [1]


def test_smoothing_leaves_straight_lines_as_they_are():
    for losses in (np.full(40, 3.0), np.arange(40.0)):
        inner = slice(range_test.WINDOW, -range_test.WINDOW)
        np.testing.assert_allclose(range_test.smoothed(losses)[inner], losses[inner])
    spike = np.zeros(range_test.FIRST)
    spike[7] = 8
    assert range_test.smoothed(spike)[7] == 1
    assert (range_test.smoothed(np.full(range_test.FIRST, 2.0)) == 2).all()
