"""The head of a network, from a logistic regression on its features."""

import time

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from tqdm import trange

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training.batches import Batches

# On val of earlier splits (clean, 64x64 arrays enlarged to 256) 0.02 gave 91.3% and 0.1 gave 91.7%,
# without the mirror images 91.0%; 0.03 and 0.1 were within 0.2 of each other.
INVERSE_PENALTY = 0.1
MAX_ITERATIONS = 200


def fit_head(model: keras.Model, batches: keras.utils.PyDataset, labels: np.ndarray) -> float:
    """Set the last Dense layer of a network to the regression from its features to the labels.

    The features are those of the photographs and of their mirror images.

    Args:
        model: a network with layers "avg_pool" and a Dense one named fc...
        batches: keras.utils.PyDataset of the training photographs, in order.
        labels: int array (N,), their class numbers; at least 2 different ones.

    Returns:
        the regression's accuracy on these pictures, 0..1.

    Raises:
        UserError: the features are no finite numbers, for the steps before were too large.
    """
    features = keras.Model(model.input, model.get_layer("avg_pool").output)
    found = []
    for index in trange(len(batches), desc="Features", unit=" batches", disable=None):
        images = batches[index][0]
        found.append([features.predict_on_batch(x) for x in (images, images[:, :, ::-1])])
    found = np.concatenate([np.concatenate(view) for view in zip(*found, strict=True)])
    found, labels = found.astype(np.float32), np.tile(labels, 2)
    if not np.isfinite(found).all():
        raise UserError("--learning-rate: the features are not finite numbers; lower it, --restart")
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS).fit(found, labels)
    (head,) = (layer for layer in model.layers if layer.name.startswith("fc"))
    kernel, bias = (np.zeros(w.shape, np.float32) for w in head.weights)
    weights, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn gives the one logit between the two
        weights = np.concatenate([-weights, weights]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel[:, fitted.classes_] = weights.T
    bias[fitted.classes_] = intercepts
    head.set_weights([kernel, bias])
    return fitted.score(found, labels)


def regression_head(
    model: keras.Model, arrays: Arrays, batch_size: int, val: Batches | None
) -> dict[str, float]:
    """Make the head of a compiled network the regression on the training photographs.

    Args:
        model: as in `fit_head`, compiled with the metric accuracy.
        arrays: an open Arrays.
        batch_size: photographs whose features are computed at a time.
        val: Batches of the val split, or None.

    Returns:
        accuracy on the training photographs, minutes it took, and val_accuracy and val_loss.
    """
    began = time.monotonic()
    photographs = Batches(arrays, "train", batch_size, copies=False)
    accuracy = fit_head(model, photographs, photographs.labels())
    figures = {"accuracy": accuracy, **val_figures(model, val)}
    return {**figures, "minutes": (time.monotonic() - began) / 60}


def val_figures(model: keras.Model, val: Batches | None) -> dict[str, float]:
    """Return val_accuracy and val_loss of a compiled network; none where `val` is None."""
    return {} if val is None else figures_of(model, val, outputs_of(model, val))


def outputs_of(model: keras.Model, batches: Batches) -> np.ndarray:
    """Return a network's probabilities of all images in order, float32 (N, classes)."""
    return model.predict(batches, verbose=0)


def figures_of(model: keras.Model, val: Batches, outputs: np.ndarray) -> dict[str, float]:
    """Return val_accuracy and val_loss, by a compiled network's loss, of its probabilities."""
    labels = val.labels()
    one_hot = np.eye(outputs.shape[1], dtype=np.float32)[labels]
    return {
        "val_accuracy": float((outputs.argmax(axis=1) == labels).mean()),
        "val_loss": float(model.loss(one_hot, outputs)),
    }
