"""Figures of a classifier, with their uncertainty."""

import math

import numpy as np

Z = 1.96  # standard errors on either side of a 95% interval
BINS = 15  # of the calibration error, as Guo et al. 2017
RESAMPLES = 1000  # of a bootstrap interval


def wilson_interval(correct: float, count: float, z: float = Z) -> tuple[float, float]:
    """Return the 95% interval of a proportion (Wilson 1927), (low, high) in 0..1."""
    if count == 0:
        return 0.0, 1.0
    p = correct / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    # Rounding must not leave p itself outside: at 0 and 1 it is an end of the interval.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def mean_per_class_interval(right: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over the classes present of the class's accuracy, and its 95% interval.

    The classes are strata: the variance of their mean is the sum of p(1-p)/(n-1) over the squared
    number of classes. A class of one photograph, which shows no variance, has that of the others'
    mean p(1-p) n/(n-1). The interval is Wilson's for as many photographs as would give that
    variance in one draw (the effective sample size of Korn and Graubard 1998): a normal interval
    fails near 1, where it covers 89 to 94% of the time.

    Coverage in 2,000 to 4,000 simulated test sets a case: 94.0 to 95.7% for 101 classes of 6 to 20
    photographs, from a mean accuracy of 45% to 99.5%; 93.3 to 96.5% for 3 classes of 4, for 10 of
    10 to 40, and for 101 of 1 to 3.

    Args:
        right: bool array (N,), whether a photograph was named rightly.
        labels: int array (N,), class numbers.

    Returns:
        (mean, low, high) in 0..1; (NaN, 0, 1) of no photographs.
    """
    if len(labels) == 0:
        return math.nan, 0.0, 1.0
    _, strata = np.unique(labels, return_inverse=True)
    n = np.bincount(strata)
    p = np.bincount(strata, weights=right) / n
    mean = float(p.mean())
    # All photographs in one pot, each weighted for its class: the most that can be said of them
    # where each class is all right or all wrong.
    effective = len(n) ** 2 / (1 / n).sum()
    several = n > 1
    if several.any():
        spread = p * (1 - p) * n / np.maximum(n - 1, 1)
        spread[~several] = spread[several].mean()
        variance = (spread / n).sum() / len(n) ** 2
        if variance > 0:
            effective = mean * (1 - mean) / variance
    low, high = wilson_interval(mean * effective, effective)
    return mean, low, high


def summary(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the figures of one split.

    A photograph is named rightly if its label's probability is above those of all other classes,
    and its label is among the first 5 if fewer than 5 others are as probable: ties count against
    the model, whatever the order of the classes. A row that holds NaN or infinity is wrong, and
    makes the loss NaN.

    Args:
        probabilities: float array (N, classes).
        labels: int array (N,), class numbers.

    Returns:
        dict of floats: loss (cross-entropy, nats), accuracy, top5, mean_per_class (mean over the
        classes present of the class's accuracy) in 0..1, low and high (95% interval of the
        accuracy), mean_per_class_low and _high (that of the mean), and n.
    """
    finite = np.isfinite(probabilities).all(axis=1)
    chosen = np.where(finite, probabilities[np.arange(len(labels)), labels], np.nan)
    as_probable = (probabilities >= chosen[:, None]).sum(axis=1) - 1  # other classes
    right = finite & (as_probable == 0)
    mean, mean_low, mean_high = mean_per_class_interval(right, labels)
    low, high = wilson_interval(int(right.sum()), len(labels))
    return {
        "loss": float(-np.log(np.clip(chosen, 1e-7, 1)).mean()),
        "accuracy": float(right.mean()),
        "top5": float((finite & (as_probable < 5)).mean()),
        "mean_per_class": mean,
        "mean_per_class_low": mean_low,
        "mean_per_class_high": mean_high,
        "low": low,
        "high": high,
        "n": len(labels),
    }


def confusion(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix, int (classes, classes), rows the true classes.

    Args:
        labels: int array (N,), class numbers.
        said: int array (N,), those that a model gave.
        classes: number of classes.
    """
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, said, labels=range(classes))


def confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each photograph's highest probability, and whether it is that of its label.

    Args:
        probabilities: float array (N, classes).
        labels: int array (N,), class numbers.

    Returns:
        float array (N,), NaN where a row is not finite, and bool array (N,).
    """
    finite = np.isfinite(probabilities).all(axis=1)
    highest = np.where(finite, probabilities.max(axis=1), np.nan)
    return highest, finite & (probabilities.argmax(axis=1) == labels)


def calibration_bins(
    confidence: np.ndarray, right: np.ndarray, adaptive: bool = False
) -> list[tuple[int, float, float]]:
    """Gather photographs of like confidence: (count, mean confidence, accuracy) of each bin.

    Args:
        confidence: float array (N,), the highest probability of each photograph, 0..1.
        right: bool array (N,), whether it was named rightly.
        adaptive: BINS bins of equal counts (Nguyen and O'Connor 2015) instead of equal width.

    Returns:
        the bins that are not empty, rising.
    """
    count = len(confidence)
    if adaptive:
        number = np.empty(count, int)
        number[np.argsort(confidence, kind="stable")] = np.arange(count) * BINS // max(count, 1)
    else:
        number = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)
    counts = np.bincount(number, minlength=BINS)
    sums = (np.bincount(number, weights=x, minlength=BINS) for x in (confidence, right))
    return [(int(n), c / n, r / n) for n, c, r in zip(counts, *sums, strict=True) if n]


def calibration_error(confidence: np.ndarray, right: np.ndarray, adaptive: bool = False) -> float:
    """Return the expected calibration error (Naeini et al. 2015), 0..1; NaN where there is none.

    It is the mean over all photographs of how far their bin's mean confidence is from its accuracy.
    Even of a calibrated model it is above 0, for few photographs far: see `calibration_interval`.

    Args:
        confidence: as in `calibration_bins`.
        right: as there.
        adaptive: as there.
    """
    if not np.isfinite(confidence).all():
        return math.nan
    bins = calibration_bins(confidence, right, adaptive)
    return float(sum(n * abs(c - r) for n, c, r in bins) / len(confidence)) if bins else math.nan


def calibration_interval(
    confidence: np.ndarray, right: np.ndarray, adaptive: bool = False, seed: int = 0
) -> tuple[float, float, float]:
    """Return the 95% interval of the calibration error, and what a calibrated model would show.

    The interval is the bootstrap's, reversed (2 x - quantile), for chance makes the error of
    samples larger than that of what they are drawn from; its low end is 0 where a model whose
    confidence is its chance to be right would show as much 1 time in 40. Of 1,223 photographs it
    covered errors of 0, 0.6, 1.2, 2.7, 3.3 and 9.6 points in 98, 96, 90, 90, 92 and 96% of 200
    simulated test sets each; the bootstrap's quantiles themselves in 0 to 88%.

    Args:
        confidence: as in `calibration_bins`.
        right: as there.
        adaptive: as there.
        seed: of the samples.

    Returns:
        (low, high, mean error of calibrated models with these confidences), all in 0..1.
    """
    random, count = np.random.default_rng(seed), len(confidence)
    error = calibration_error(confidence, right, adaptive)
    samples, calibrated = [], []
    for _ in range(RESAMPLES):
        rows = random.integers(0, count, count)
        samples.append(calibration_error(confidence[rows], right[rows], adaptive))
        chance = random.random(count) < confidence
        calibrated.append(calibration_error(confidence, chance, adaptive))
    least, most = np.quantile(samples, (0.025, 0.975))
    low = 0.0 if error <= np.quantile(calibrated, 0.975) else max(0.0, 2 * error - most)
    high = min(1.0, max(error, 2 * error - least))
    return float(low), float(high), float(np.mean(calibrated))


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return how well the highest probability tells how often a prediction is right.

    Args:
        probabilities: float array (N, classes).
        labels: int array (N,), class numbers.

    Returns:
        dict of floats, in 0..1: ece, the calibration error in bins of equal width, with its 95%
        interval ece_low to ece_high, and ece_by_chance, what a calibrated model would show;
        adaptive_ece, in bins of equal counts, and likewise. NaN where a row is not finite.
    """
    confidence, right = confidences(probabilities, labels)
    found = {}
    for name, adaptive in (("ece", False), ("adaptive_ece", True)):
        error = low = high = chance = math.nan
        if np.isfinite(confidence).all():
            error = calibration_error(confidence, right, adaptive)
            low, high, chance = calibration_interval(confidence, right, adaptive)
        found |= {
            name: error,
            f"{name}_low": low,
            f"{name}_high": high,
            f"{name}_by_chance": chance,
        }
    return found


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive's score is above a negative's.

    Args:
        positive: float array (N,), scores; ties count half.
        negative: float array (M,).
    """
    from sklearn.metrics import roc_auc_score

    labels = np.repeat((1, 0), (len(positive), len(negative)))
    return float(roc_auc_score(labels, np.concatenate([positive, negative])))


def auroc_interval(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the area under the ROC curve.

    Its variance is that of DeLong et al. 1988; the interval is Wilson's for as many pairs as would
    give that variance, or where nothing overlaps, for the smaller of both numbers. It covered 0.64,
    0.92 and 0.98 in 90% of simulated cases or more, of 40 scores each and upwards.

    Args:
        positive: as in `auroc`.
        negative: as there.
    """

    def above(scores, others):  # share of `others` that each score is above
        others = np.sort(others)
        ends = (np.searchsorted(others, scores, side) for side in ("left", "right"))
        return sum(ends) / (2 * len(others))

    area = auroc(positive, negative)
    variance = sum(
        shares.var(ddof=1) / len(shares) if len(shares) > 1 else area * (1 - area)
        for shares in (above(positive, negative), above(negative, positive))
    )
    effective = min(len(positive), len(negative))
    if variance > 0:
        effective = area * (1 - area) / variance
    return wilson_interval(area * effective, effective)
