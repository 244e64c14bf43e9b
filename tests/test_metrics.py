from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from classifier.evaluation import metrics
from classifier.evaluation.metrics import (
    auroc,
    auroc_interval,
    calibration,
    calibration_bins,
    calibration_error,
    calibration_interval,
    confidences,
    mean_per_class_interval,
    summary,
    wilson_interval,
)


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


CONFIDENCE = np.array([0.31, 0.32, 0.34, 0.9, 0.95, 1.0])
RIGHT = np.array([True, False, False, True, True, False])


def test_calibration_error_is_the_mean_gap_of_the_bins():
    # 0.31 and 0.32 are in (4/15, 5/15], 0.34 in the next, 0.9 in (13/15, 14/15], the rest above.
    bins = calibration_bins(CONFIDENCE, RIGHT)
    assert [(n, round(c, 4), r) for n, c, r in bins] == [
        (2, 0.315, 0.5), (1, 0.34, 0), (1, 0.9, 1), (2, 0.975, 0.5),
    ]  # fmt: skip
    wanted = (2 * 0.185 + 0.34 + 0.1 + 2 * 0.475) / 6
    assert calibration_error(CONFIDENCE, RIGHT) == pytest.approx(wanted)
    assert calibration_error(np.zeros(3), np.zeros(3, bool)) == 0
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_adaptive_bins_have_equal_counts():
    random = np.random.default_rng(0)
    confidence = random.beta(8, 1, 155)
    bins = calibration_bins(confidence, random.random(155) < 0.5, adaptive=True)
    assert {n for n, _, _ in bins} == {10, 11}
    means = [c for _, c, _ in bins]
    assert means == sorted(means)
    # With fewer photographs than bins each has its own.
    assert calibration_error(CONFIDENCE, RIGHT, adaptive=True) == pytest.approx(
        np.abs(CONFIDENCE - RIGHT).mean()
    )


@pytest.mark.parametrize("temperature", [1.0, 0.8, 0.5])
def test_calibration_interval_covers_the_truth(temperature, monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 200)
    random = np.random.default_rng(0)

    def draw(count):
        confidence = random.beta(4, 0.4, count).clip(0.01, 1 - 1e-9)
        odds = (confidence / (1 - confidence)) ** temperature
        return confidence, odds / (1 + odds)

    confidence, chance = draw(500_000)
    truth = calibration_error(confidence, chance)
    covered, by_chance = 0, []
    for seed in range(60):
        confidence, chance = draw(1223)
        right = random.random(1223) < chance
        low, high, mean = calibration_interval(confidence, right, seed=seed)
        assert low <= calibration_error(confidence, right) <= high < low + 0.1
        covered += low <= truth <= high
        by_chance.append(mean)
    assert covered / 60 >= 0.85
    assert 0.01 < np.mean(by_chance) < 0.04  # what a calibrated model shows of 1,223 photographs


def test_calibration_is_of_the_highest_probability():
    labels = np.array([0, 1, 1, 2])
    outputs = np.array([[0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]])
    found = calibration(outputs, labels)
    assert found["ece"] == pytest.approx((0.4 + 0.8 + 0.3 + 0.6) / 4)
    assert found["ece_low"] <= found["ece"] <= found["ece_high"]
    assert found["adaptive_ece"] == found["ece"]
    outputs[2, 0] = np.nan
    assert np.isnan([*calibration(outputs, labels).values()]).all()
    assert np.isnan(calibration_error(*confidences(outputs, labels)))


def test_auroc_is_how_often_a_positive_is_above_a_negative():
    random = np.random.default_rng(0)
    positive, negative = random.integers(3, 9, 40), random.integers(0, 7, 30)
    apart = positive[:, None] - negative
    assert auroc(positive, negative) == pytest.approx(((apart > 0) + 0.5 * (apart == 0)).mean())


@pytest.mark.parametrize(("shift", "counts"), [(0.5, (60, 40)), (2, (200, 90)), (3, (40, 40))])
def test_auroc_interval_covers_the_truth(shift, counts):
    random = np.random.default_rng(0)
    truth = NormalDist().cdf(shift / 2**0.5)
    covered = 0
    for _ in range(500):
        positive, negative = random.normal(shift, 1, counts[0]), random.normal(0, 1, counts[1])
        low, high = auroc_interval(positive, negative)
        assert low <= auroc(positive, negative) <= high
        covered += low <= truth <= high
    assert (0.88 if min(counts) == 40 and shift == 3 else 0.92) <= covered / 500 <= 0.985


def test_auroc_interval_of_scores_that_do_not_overlap_is_not_a_point():
    assert auroc_interval(np.arange(30) + 100, np.arange(20)) == wilson_interval(20, 20)
    low, high = auroc_interval(np.ones(1), np.zeros(1))
    assert (low, high) == wilson_interval(1, 1)


@pytest.mark.parametrize("tied", [True, False])
def test_auroc_interval_has_delongs_variance(tied):
    """Against the mean over all pairs of placements, written out."""
    random = np.random.default_rng(0)
    positive, negative = random.normal(1, 1, 30), random.normal(0, 1, 20)
    if tied:
        positive, negative = positive.round(), negative.round()
    above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = above.mean(axis=1).var(ddof=1) / 30 + above.mean(axis=0).var(ddof=1) / 20
    area = above.mean()
    effective = area * (1 - area) / variance
    assert auroc_interval(positive, negative) == pytest.approx(
        wilson_interval(area * effective, effective)
    )
