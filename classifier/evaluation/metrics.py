"""Figures of a classifier, with their uncertainty."""

import math

import numpy as np

Z = 1.96  # standard errors on either side of a 95% interval


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
