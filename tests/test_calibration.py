import numpy as np
import pytest
from scipy.special import softmax

from classifier.evaluation.calibration import HIGHEST, LOWEST, fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_finds_the_temperature_that_logits_were_multiplied_by(temperature):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 5))
    chances = softmax(logits, axis=1).cumsum(axis=1)
    labels = (random.random((len(logits), 1)) > chances).sum(axis=1).clip(0, 4)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.03)


def test_a_few_photographs_do_not_make_it_extreme():
    logits, labels = 5 * np.eye(3, dtype=np.float32), np.arange(3)
    assert 0.5 < fit_temperature(logits, labels) < 1
    assert 1 < fit_temperature(logits, (labels + 1) % 3) < HIGHEST
    many = np.tile(logits, (2000, 1)), np.tile(labels, 2000)
    assert LOWEST <= fit_temperature(*many) < 0.5
    assert LOWEST <= fit_temperature(1e6 * logits, labels) <= HIGHEST


def test_of_no_photographs_it_is_1():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
