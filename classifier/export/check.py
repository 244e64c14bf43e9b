"""Whether an exported network says what predict.py does, of the same photographs."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.evaluation.evaluate import Judge, check_finite
from classifier.evaluation.unknown import MARGIN, REJECTED
from classifier.export.formats import Run
from classifier.export.graph import PROBABILITIES, SCORE
from classifier.prediction.runtime import images_a_step
from classifier.prediction.verdict import Head

MOST = 500  # photographs that an exported network is compared on
# What may differ in float32: probabilities, and scores, by what the threshold keeps from val's.
WITHIN, SCORES = 1e-4, MARGIN
# What int8 may cost: accuracy, and the share of photographs that are unknown to one alone, which
# the threshold rejects wrongly as it is.
DROP, UNKNOWN = 0.01, REJECTED
STEP, TURNS = 8, 30  # photographs computed at a time; alone, to be timed


class Expected(NamedTuple):
    """What predict.py makes of photographs.

    Attributes:
        arrays: an open Arrays that they are in.
        split: theirs.
        rows: int array (N,), their rows.
        labels: int array (N,), their class numbers.
        probabilities: (N, classes).
        scores: (N,), or None where unknown photographs cannot be told.
        threshold: of the scores.
        step: photographs that may be computed at a time.
    """

    arrays: Arrays
    split: str
    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray | None
    threshold: float
    step: int


class Agreement(NamedTuple):
    """How an exported network compares.

    Attributes:
        count: photographs.
        probability: largest difference of a probability.
        score: largest difference of a score, None where there are none.
        renamed: photographs whose likeliest class is another.
        unknown: photographs that are taken for none of the classes by one of both alone.
        right: photographs named rightly.
        before: photographs that predict.py names rightly.
    """

    count: int
    probability: float
    score: float | None
    renamed: int
    unknown: int
    right: int
    before: int


def spread(count: int, most: int) -> np.ndarray:
    """Return at most so many of `count` rows, int64 (N,), from all over them."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def expected(arrays: Arrays, judge: Judge, head: Head, model: Path, most: int = MOST) -> Expected:
    """Return what predict.py makes of at most so many photographs of test, or of val without them.

    Raises:
        UserError: the model gives no probabilities.
    """
    split = "test" if arrays.count("test") else "val"
    rows = spread(arrays.count(split), most)
    features = judge.of_arrays(arrays, split, rows).features
    check_finite(head, features, model)
    known = head.known
    return Expected(
        arrays,
        split,
        rows,
        arrays.labels(split)[rows],
        head.probabilities(features),
        head.scores(features) if known else None,
        known.threshold if known else -np.inf,
        min(STEP, images_a_step(judge.info.side)),
    )


def agreement(run: Run, wanted: Expected) -> Agreement:
    """Compare what a runtime computes with what predict.py does."""
    found = []
    steps = range(0, len(wanted.rows), wanted.step)
    for start in tqdm(steps, desc="Comparing", unit=" batches", disable=None):
        rows = wanted.rows[start : start + wanted.step]
        found.append(run(wanted.arrays.read(wanted.split, rows)[0]))
    probabilities = np.concatenate([part[PROBABILITIES] for part in found])
    said, before = probabilities.argmax(axis=1), wanted.probabilities.argmax(axis=1)
    score, unknown = None, 0
    if wanted.scores is not None:
        scores = np.concatenate([part[SCORE] for part in found])
        score = float(abs(scores - wanted.scores).max())
        unknown = int(((scores < wanted.threshold) != (wanted.scores < wanted.threshold)).sum())
    return Agreement(
        len(said),
        float(abs(probabilities - wanted.probabilities).max()),
        score,
        int((said != before).sum()),
        unknown,
        int((said == wanted.labels).sum()),
        int((before == wanted.labels).sum()),
    )


def accept(found: Agreement, int8: bool, name: str) -> None:
    """Raise UserError where a network does not say what predict.py does.

    Args:
        found: Agreement.
        int8: whether it is in int8.
        name: of the format.
    """
    count, score = found.count, found.score or 0.0
    if not np.isfinite((found.probability, score)).all():
        raise UserError(
            f"--to {name}: gives no numbers for some of {count} photographs; give another format"
        )
    if int8 and found.before - found.right > DROP * count:
        raise UserError(
            f"--int8: {name} names {found.right} of {count} photographs rightly, predict.py "
            f"{found.before}; leave --int8 out, or add --no-verify"
        )
    if int8 and found.unknown > UNKNOWN * count:
        raise UserError(
            f"--int8: {name} tells {found.unknown} of {count} photographs otherwise from unknown "
            "ones; leave --int8 out, or add --no-verify"
        )
    if not int8 and (found.probability > WITHIN or score > SCORES):
        raise UserError(
            f"--to {name}: of {count} photographs, probabilities differ from predict.py's by up to "
            f"{found.probability:.2g}, scores by {score:.2g}, more than {WITHIN} and {SCORES}; "
            "give another format, or add --no-verify"
        )


def milliseconds(run: Run, image: np.ndarray) -> float:
    """Return how long one image, uint8 (1, size, size, 3), takes: the median of TURNS."""
    taken = []
    for _ in range(TURNS + 2):
        began = time.perf_counter()
        run(image)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[2:])
