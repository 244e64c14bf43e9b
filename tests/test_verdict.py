import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from classifier.evaluation.unknown import SHRINKAGE, fit_known
from classifier.prediction.verdict import Head, Verdict, verdicts

RANDOM = np.random.default_rng(0)
CLASSES, FEATURES = 4, 12


def features_of(centres, count, random=RANDOM):
    """Features around a centre each, and the centres' numbers."""
    labels = np.repeat(np.arange(len(centres)), count)
    return np.abs(centres[labels] + random.normal(0, 0.2, (len(labels), FEATURES))), labels


@pytest.fixture(scope="module")
def fitted():
    centres = RANDOM.uniform(0, 3, (CLASSES, FEATURES))
    train, labels = features_of(centres, 40)
    val, _ = features_of(centres, 30)
    head = Head(RANDOM.normal(size=(FEATURES, CLASSES)), RANDOM.normal(size=CLASSES))
    known = fit_known(head, train, labels, val)
    return Head(head.kernel, head.bias, 2.0, known), train, labels, val


def test_probabilities_are_of_the_logits_over_the_temperature(fitted):
    head, *_, val = fitted
    logits = val @ head.kernel + head.bias
    np.testing.assert_allclose(head.logits(val), logits)
    np.testing.assert_allclose(head.probabilities(val), softmax(logits / 2, axis=1))


def test_energies_are_of_features_cut_at_the_ceiling(fitted):
    head, *_, val = fitted
    for ceiling in (1.5, np.inf):
        logits = np.minimum(val, ceiling) @ head.kernel + head.bias
        np.testing.assert_allclose(head.energies(val, ceiling), logsumexp(logits, axis=1))


def test_relative_distances_are_those_of_the_whole_space(fitted):
    """Ren et al. 2021: Mahalanobis distance from the nearest class less that from all together."""
    head, train, labels, val = fitted
    roots, queries = np.sqrt(train), np.sqrt(val)
    means = np.stack([roots[labels == c].mean(axis=0) for c in range(CLASSES)])
    within = np.cov(roots - means[labels], rowvar=False, bias=True)
    sphere = np.trace(within) / FEATURES * np.eye(FEATURES)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * sphere
    apart = means - roots.mean(axis=0)
    total = within + apart.T @ apart / CLASSES

    def distance(place, covariance):
        away = queries - place
        return (away @ np.linalg.inv(covariance) * away).sum(axis=1)

    wanted = np.min([distance(mean, within) for mean in means], axis=0)
    wanted -= distance(roots.mean(axis=0), total)
    np.testing.assert_allclose(head.known.relative_distances(val), wanted, rtol=1e-3, atol=1e-3)


def test_the_score_is_both_in_standard_deviations(fitted):
    head, *_, val = fitted
    energy = head.energies(val, head.known.ceiling)
    distance = head.known.relative_distances(val)
    wanted = (energy - energy.mean()) / energy.std() - (distance - distance.mean()) / distance.std()
    np.testing.assert_allclose(head.scores(val), wanted, atol=1e-5)


def test_what_is_far_from_all_classes_is_unknown(fitted):
    head, *_, val = fitted
    far, _ = features_of(np.random.default_rng(5).uniform(0, 3, (3, FEATURES)), 20)
    assert head.unknown(val).mean() == pytest.approx(0.05, abs=0.01)
    assert head.unknown(far).mean() > 0.8
    said = verdicts(head, np.concatenate([val[:2], far[:1]]))
    assert [verdict.unknown for verdict in said] == [*head.unknown(val[:2]).tolist(), True]
    np.testing.assert_array_equal(said[1].logits, head.logits(val[:2])[1])


def test_without_known_photographs_nobody_can_say():
    head = Head(np.eye(2), np.zeros(2))
    (said,) = verdicts(head, np.array([[1.0, 0.0]]))
    assert isinstance(said, Verdict)
    assert said.unknown is None
    assert not head.unknown(np.ones((3, 2))).any()
