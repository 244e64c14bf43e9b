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


def test_each_interval_is_that_of_its_figure():
    labels = np.repeat([0, 1, 2], [30, 6, 4])
    outputs = np.eye(3)[np.where(np.arange(40) % 4, labels, (labels + 1) % 3)]
    figures, right = summary(outputs, labels), np.arange(40) % 4 > 0
    assert (figures["low"], figures["high"]) == wilson_interval(30, 40)
    names = ("mean_per_class", "mean_per_class_low", "mean_per_class_high")
    assert tuple(figures[name] for name in names) == mean_per_class_interval(right, labels)
    # A wrong answer that is certain costs 1e-7, as in Keras, and not infinity.
    assert figures["loss"] == pytest.approx(-np.log(1e-7) / 4)


# Newcombe 1998, table I, method 3; the last by scipy.stats.binomtest's proportion_ci.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (1000, 1223, 0.7950, 0.8383),
    ],
)
def test_interval_is_wilsons(correct, count, low, high):
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(count - correct, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_intervals_stay_between_0_and_1():
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(0, 20)[0] == 0
    assert wilson_interval(20, 20)[1] == pytest.approx(1)
    labels = np.repeat(np.arange(5), 4)
    assert mean_per_class_interval(labels < 9, labels)[::2] == pytest.approx((1, 1))
    assert mean_per_class_interval(labels > 9, labels)[:2] == pytest.approx((0, 0))
    mean, low, high = mean_per_class_interval(np.zeros(0, bool), np.zeros(0, int))
    assert np.isnan(mean)
    assert (low, high) == (0, 1)


def test_mean_per_class_interval_of_one_class_is_nearly_wilsons():
    right = np.arange(50) < 40
    mean, low, high = mean_per_class_interval(right, np.full(50, 7))
    assert mean == 0.8
    assert (low, high) == pytest.approx(wilson_interval(40 * 49 / 50, 49))


@pytest.mark.parametrize(
    ("classes", "smallest", "largest", "beta"),
    [
        (101, 6, 20, (9, 1)),  # mean 0.9, most classes near 1
        (101, 6, 20, (45, 5)),  # mean 0.9, the classes alike
        (101, 6, 20, (4.5, 5.5)),  # mean 0.45
        (101, 6, 20, (99, 1)),  # mean 0.99
        (101, 1, 3, (9, 1)),
        (3, 4, 4, (9, 1)),
    ],
)
def test_mean_per_class_interval_covers_the_truth(classes, smallest, largest, beta):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), random.integers(smallest, largest + 1, classes))
    rates = random.beta(*beta, classes)
    covered = 0
    for _ in range(2000):
        right = random.random(len(labels)) < rates[labels]
        mean, low, high = mean_per_class_interval(right, labels)
        assert low <= mean <= high
        covered += low <= rates.mean() <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_a_class_of_one_photograph_has_the_variance_of_the_others():
    right = np.array([True, False] * 10 + [True])
    labels = np.repeat([0, 1, 2], [10, 10, 1])
    mean, low, high = mean_per_class_interval(right, labels)
    assert mean == pytest.approx(2 / 3)
    variance = (0.25 / 9 + 0.25 / 9 + 0.25 * 10 / 9) / 9
    effective = mean * (1 - mean) / variance
    assert (low, high) == pytest.approx(wilson_interval(mean * effective, effective))


@pytest.mark.parametrize("label", range(9))
def test_ties_count_against_the_model(label):
    labels = np.array([label])
    equal = summary(np.full((1, 9), 1 / 9), labels)
    assert (equal["accuracy"], equal["top5"]) == (0, 0)
    saturated = summary(np.ones((1, 9)), labels)
    assert (saturated["accuracy"], saturated["top5"]) == (0, 0)

    others = np.delete(np.arange(9), label)
    for tied, hit in ((4, 1), (5, 0)):  # as many other classes as probable as the label
        row = np.full((1, 9), 0.01)
        row[0, [label, *others[:tied]]] = 0.15
        assert summary(row, labels)["top5"] == hit, tied
        assert summary(row, labels)["accuracy"] == 0
    row[0, label] = 0.16
    assert summary(row, labels)["accuracy"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_wrong_and_shows_in_the_loss(value):
    labels = np.array([0, 1, 2])
    good = np.eye(6)[labels] * 0.4 + 0.1
    assert summary(good, labels)["accuracy"] == 1
    for place in ([0], [1], [0, 1, 2, 3, 4, 5]):  # the label's, another class's, all
        outputs = good.copy()
        outputs[0, place] = value
        figures = summary(outputs, labels)
        assert figures["accuracy"] == pytest.approx(2 / 3)
        assert figures["top5"] == pytest.approx(2 / 3)
        assert np.isnan(figures["loss"])
