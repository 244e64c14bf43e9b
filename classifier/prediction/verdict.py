"""What is made of a network's features: probabilities, and whether a photograph is none of these.

Both follow from the features alone, in NumPy, whatever computed them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from classifier.prediction.forward import softmax

LOWEST, HIGHEST = 0.05, 20.0  # temperatures


@dataclass(frozen=True, eq=False)
class Known:
    """What the features of known photographs are like, by which unknown ones are told.

    The score of a photograph is the sum of two, each in standard deviations of known photographs:
    the energy of its logits (Liu et al. 2020, arXiv:2010.03759), from features that are cut where
    they are uncommonly large (ReAct, Sun et al. 2021, arXiv:2111.12797), less its relative
    Mahalanobis distance (Ren et al. 2021, arXiv:2106.09022): how much farther it is from the
    nearest class than from all photographs together. For distances the square roots of the
    features are taken, and of them the directions in which the classes differ.

    Attributes:
        centre: float32 (features,), mean of the square roots.
        projection: float32 (features, directions); the classes have variance 1 in each direction.
        means: float32 (classes, directions), the mean of each class.
        spread: float32 (directions,), the variance of these means.
        ceiling: where features are cut.
        energy: mean and standard deviation of the energy of known photographs.
        distance: mean and standard deviation of their relative distance.
        threshold: a photograph of a lower score is none of the classes.
    """

    centre: np.ndarray
    projection: np.ndarray
    means: np.ndarray
    spread: np.ndarray
    ceiling: float
    energy: tuple[float, float]
    distance: tuple[float, float]
    threshold: float

    def relative_distances(self, features: np.ndarray) -> np.ndarray:
        """Return the relative Mahalanobis distances of (N, features), float (N,)."""
        places = (np.sqrt(np.maximum(features, 0)) - self.centre) @ self.projection
        products = places @ self.means.T
        squares = (places**2).sum(axis=1, keepdims=True)
        nearest = (squares - 2 * products + (self.means**2).sum(axis=1)).min(axis=1)
        return nearest - (places**2 / (1 + self.spread)).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer, and what the model file says of its outputs.

    Attributes:
        kernel: float32 (features, classes).
        bias: float32 (classes,).
        temperature: which logits are divided by.
        known: Known, or None where nothing was fitted; no photograph is unknown then.
    """

    kernel: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0
    known: Known | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logits of features, as the network has them: (N, classes)."""
        return features @ self.kernel + self.bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, (N, classes)."""
        return softmax(self.logits(features) / self.temperature)

    def energies(self, features: np.ndarray, ceiling: float) -> np.ndarray:
        """Return log sum exp of the logits of features that are cut at `ceiling`: (N,)."""
        logits = self.logits(np.minimum(features, ceiling))
        highest = logits.max(axis=1)
        return highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return how well photographs fit what is known, higher is better: (N,); see Known."""
        mean, deviation = self.known.energy
        energy = (self.energies(features, self.known.ceiling) - mean) / deviation
        mean, deviation = self.known.distance
        return energy - (self.known.relative_distances(features) - mean) / deviation

    def unknown(self, features: np.ndarray) -> np.ndarray:
        """Return which photographs are none of the classes, bool (N,)."""
        if self.known is None:
            return np.zeros(len(features), bool)
        return self.scores(features) < self.known.threshold


class Verdict(NamedTuple):
    """What is said of one photograph.

    Attributes:
        probabilities: (classes,), calibrated.
        logits: (classes,).
        unknown: whether it is none of the classes; None where nobody can say.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    unknown: bool | None


def verdicts(head: Head, features: np.ndarray) -> list[Verdict]:
    """Return the Verdict on each photograph, from its features (N, features)."""
    unknown = head.unknown(features).tolist() if head.known else [None] * len(features)
    return [*map(Verdict, head.probabilities(features), head.logits(features), unknown)]
