"""The figures of a network on one split of the arrays, in bounded memory."""

from collections.abc import Callable

import numpy as np

from classifier.data.arrays import Arrays
from classifier.evaluation import metrics

# 64 images of 1,024 pixels would take about 13 GB.
MAX_IMAGES, MAX_PIXELS = 64, 64 * 224 * 224


def images_a_step(side: int) -> int:
    """Return how many images of `side` pixels, after enlarging, are computed at a time."""
    return max(1, min(MAX_IMAGES, MAX_PIXELS // side**2))


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray], arrays: Arrays, split: str, batch_size: int
) -> dict[str, float]:
    """Return the figures of `metrics.summary` for a split.

    Args:
        predict: from RGB pixels, uint8 (n, size, size, 3), to probabilities, float (n, classes).
        arrays: an open Arrays.
        split: "train", "val" or "test", not empty.
        batch_size: images given to `predict` at a time.
    """
    count = arrays.count(split)
    outputs = [
        predict(arrays.read(split, slice(start, start + batch_size))[0])
        for start in range(0, count, batch_size)
    ]
    return metrics.summary(np.concatenate(outputs), arrays.labels(split))


def show(split: str, figures: dict[str, float]) -> None:
    """Print the figures of a split; the first lines are the original repository's."""
    name, accuracy = split.capitalize(), figures["accuracy"]
    print(f"{name} Loss = {figures['loss']:.4f}")
    print(f"{name} Accuracy = {accuracy:.2%} ({accuracy:.4f})")
    print(
        f"{name} 95% interval = {figures['low']:.2%} to {figures['high']:.2%}, "
        f"n = {figures['n']}, mean per class = {figures['mean_per_class']:.2%}, "
        f"top 5 = {figures['top5']:.2%}"
    )
