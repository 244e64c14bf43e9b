"""None of these: what is known, and the score below which a photograph is taken for unknown."""

import math
from dataclasses import replace

import numpy as np

from classifier.prediction.verdict import Head, Known
from classifier.seeds import generator

# Chosen on val with 10 of the 101 classes held out (docs/results.md): how well the photographs of
# these are told from the others, as AUROC.
PER_CLASS = 40  # 20 gave 0.890, 40 gave 0.893, all 0.894
SHRINKAGE = 0.3  # of the covariance towards a sphere; 0.1 and 0.6 were within 0.003
UNCUT = 0.95  # share of the features below the ceiling
REJECTED = 0.05  # share of known photographs that the threshold does not let pass, at most
# The threshold is this much below the val photograph that it is taken from, in the scores' own
# deviations: else another runtime's rounding would decide about that very photograph.
MARGIN = 1e-3
FEWEST = math.ceil(1 / REJECTED) - 1  # photographs that a threshold for so few can be taken from


def some_of_each(labels: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return PER_CLASS rows of each class, or all it has, rising.

    Args:
        labels: int array (N,), class numbers of all rows.
        rows: int array (n,), those to choose from, at least one.
        seed: of the choice.
    """
    rows = generator("known", seed).permutation(rows)
    of_class = labels[rows]
    return np.sort(np.concatenate([rows[of_class == c][:PER_CLASS] for c in np.unique(of_class)]))


def fit_known(
    head: Head, features: np.ndarray, labels: np.ndarray, val_features: np.ndarray
) -> Known:
    """Return the Known of a network, from known photographs alone.

    Args:
        head: the network's; its own Known is not used.
        features: float array (N, features) of training photographs.
        labels: int array (N,), their class numbers; at least 2 different ones.
        val_features: float array (M, features) of photographs not trained on, at least FEWEST.
    """
    ceiling = float(np.quantile(features, UNCUT))
    roots = np.sqrt(np.maximum(features, 0).astype(np.float64))
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([roots[places == number].mean(axis=0) for number in range(len(counts))])
    centre = roots.mean(axis=0)

    apart = roots - means[places]
    within = apart.T @ apart / len(apart)
    # Training photographs that are known by heart hardly differ within a class.
    sphere = max(np.trace(within), 1e-3 * roots.var(axis=0).sum(), 1e-12) / len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * sphere * np.eye(len(within))
    # The directions of linear discriminant analysis: all in which the distance from a class and
    # that from all photographs differ by other than a constant.
    root = np.linalg.cholesky(within)
    between = (means - centre) * np.sqrt(counts / counts.sum())[:, None]
    directions, lengths, _ = np.linalg.svd(np.linalg.solve(root, between.T), full_matrices=False)
    directions, lengths = directions[:, : len(counts) - 1], lengths[: len(counts) - 1]
    projection = np.linalg.solve(root.T, directions)

    arrays = (centre, projection, (means - centre) @ projection, lengths**2)
    arrays = [array.astype(np.float32) for array in arrays]
    known = Known(*arrays, ceiling, (0.0, 1.0), (0.0, 1.0), 0.0)
    known = replace(
        known,
        energy=_mean_and_deviation(head.energies(val_features, ceiling)),
        distance=_mean_and_deviation(known.relative_distances(val_features)),
    )
    scores = np.sort(replace(head, known=known).scores(val_features))
    # Another known photograph is as likely to come between any two of these as anywhere else: one
    # in M + 1 is below the lowest, and so on.
    place = int(REJECTED * (len(scores) + 1) + 1e-9)
    return replace(known, threshold=float(scores[place - 1]) - MARGIN)


def _mean_and_deviation(values):
    mean = float(values.mean())
    return mean, max(float(values.std()), 1e-3 * abs(mean), 1e-6)
