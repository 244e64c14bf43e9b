"""Figures of a classifier, with their uncertainty."""

import math

import numpy as np


def wilson_interval(correct, count, z=1.96):
    """Return the 95% interval of a proportion (Wilson 1927), (low, high) in 0..1."""
    if count == 0:
        return 0.0, 1.0
    p = correct / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_per_class_interval(right, labels):
    """Return the mean over the classes present of the class's accuracy, and its 95% interval.

    The classes are strata, each with the variance of its own proportion, estimated with one more
    photograph on either side so that a class without errors is not taken for certain (Laplace).

    Args:
        right: bool array (N,), whether a photograph was named rightly.
        labels: int array (N,), class numbers.

    Returns:
        (mean, low, high) in 0..1.
    """
    classes = [right[labels == c] for c in np.unique(labels)]
    mean = float(np.mean([part.mean() for part in classes]))
    smoothed = [(part.sum() + 1) / (len(part) + 2) for part in classes]
    variances = [p * (1 - p) / len(part) for p, part in zip(smoothed, classes, strict=True)]
    half = 1.96 * math.sqrt(sum(variances)) / len(classes)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def summary(probabilities, labels):
    """Return the figures of one split.

    Args:
        probabilities: float array (N, classes).
        labels: int array (N,), class numbers.

    Returns:
        dict of floats: loss (cross-entropy, nats), accuracy, top5, mean_per_class (mean over the
        classes present of the class's accuracy) in 0..1, low and high (95% interval of the
        accuracy), mean_per_class_low and _high (that of the mean), and n.
    """
    rows = np.arange(len(labels))
    chosen = probabilities[rows, labels]
    right = probabilities.argmax(axis=1) == labels
    rank = (probabilities > chosen[:, None]).sum(axis=1)
    mean, mean_low, mean_high = mean_per_class_interval(right, labels)
    low, high = wilson_interval(int(right.sum()), len(labels))
    return {
        "loss": float(-np.log(np.clip(chosen, 1e-7, 1)).mean()),
        "accuracy": float(right.mean()),
        "top5": float((rank < 5).mean()),
        "mean_per_class": mean,
        "mean_per_class_low": mean_low,
        "mean_per_class_high": mean_high,
        "low": low,
        "high": high,
        "n": len(labels),
    }
