import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from classifier.evaluation.metrics import mean_per_class_interval, summary, wilson_interval


def test_figures_equal_scikit_learns():
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 400)
    outputs = random.random((400, 9)) + np.eye(9)[labels] * 0.5
    outputs /= outputs.sum(axis=1, keepdims=True)
    figures = summary(outputs, labels)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, outputs.argmax(axis=1)))
    assert figures["mean_per_class"] == pytest.approx(
        balanced_accuracy_score(labels, outputs.argmax(axis=1))
    )
    assert figures["top5"] == pytest.approx(top_k_accuracy_score(labels, outputs, k=5))
    assert figures["loss"] == pytest.approx(log_loss(labels, outputs))
    assert figures["low"] < figures["accuracy"] < figures["high"]
    assert figures["n"] == 400


def test_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20)[0] == 0
    assert wilson_interval(20, 20)[1] == pytest.approx(1)
    assert wilson_interval(0, 0) == (0, 1)


def test_mean_per_class_interval_covers_the_truth():
    random = np.random.default_rng(0)
    rates = random.uniform(0.6, 1.0, 40)
    labels = np.repeat(np.arange(40), 12)
    covered = 0
    for _ in range(400):
        right = random.random(len(labels)) < rates[labels]
        mean, low, high = mean_per_class_interval(right, labels)
        assert low < mean < high
        covered += low <= rates.mean() <= high
    assert 0.93 <= covered / 400 <= 0.995
