import numpy as np
import pytest

from classifier.evaluation.unknown import FEWEST, PER_CLASS, REJECTED, fit_known, some_of_each
from classifier.prediction.verdict import Head


def test_some_of_each_class_are_taken():
    labels = np.repeat([0, 1, 2, 0], [100, 5, PER_CLASS, 3])
    rows = np.flatnonzero(np.arange(len(labels)) != 101)
    chosen = some_of_each(labels, rows, 0)
    assert np.bincount(labels[chosen]).tolist() == [PER_CLASS, 4, PER_CLASS]
    assert (np.diff(chosen) > 0).all()
    assert 101 not in chosen
    np.testing.assert_array_equal(chosen, some_of_each(labels, rows, 0))
    assert chosen.tolist() != some_of_each(labels, rows, 1).tolist()


@pytest.mark.parametrize("features", [1, 3, 50])
@pytest.mark.parametrize("present", [[0, 1], [0, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_fits_few_classes_few_features_and_ones_that_do_not_differ(features, present, spread):
    random = np.random.default_rng(0)
    centres = random.uniform(0, 2, (5, features))
    labels = np.repeat(present, 10)
    known, val = (
        np.abs(centres[labels] + random.normal(0, spread, (len(labels), features))).astype("f4")
        for _ in range(2)
    )
    head = Head(random.normal(size=(features, 5)), np.zeros(5))
    found = fit_known(head, known, labels, val)
    assert found.projection.shape == (features, min(features, len(present) - 1))
    assert found.means.shape == (len(present), min(features, len(present) - 1))
    for array in (found.centre, found.projection, found.means, found.spread):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    scores = Head(head.kernel, head.bias, 1.0, found).scores(val)
    assert np.isfinite(scores).all()
    assert (scores >= found.threshold - 1e-3).mean() >= 1 - REJECTED


@pytest.mark.parametrize("count", [FEWEST, 40, 300])
def test_of_new_known_photographs_few_are_below_the_threshold(count):
    random = np.random.default_rng(0)
    assert FEWEST == 19
    train, labels = np.abs(random.normal(1, 0.5, (200, 4))), np.repeat([0, 1], 100)
    head = Head(random.normal(size=(4, 2)), np.zeros(2))
    below = []
    for _ in range(200):
        val, new = np.abs(random.normal(1, 0.5, (2, count, 4)))
        known = fit_known(head, train, labels, val)
        below.append((Head(head.kernel, head.bias, 1.0, known).unknown(new)).mean())
    assert 0.02 < np.mean(below) < 0.055


def test_rounding_does_not_decide_about_the_photograph_that_the_threshold_is_taken_from():
    random = np.random.default_rng(0)
    train, val = np.abs(random.normal(1, 0.5, (2, 200, 4)))
    head = Head(random.normal(size=(4, 2)), np.zeros(2))
    known = fit_known(head, train, np.repeat([0, 1], 100), val)
    scores = np.sort(Head(head.kernel, head.bias, 1.0, known).scores(val))
    place = int(REJECTED * 201)
    assert scores[place - 1] - 1e-4 > known.threshold > scores[place - 2]
