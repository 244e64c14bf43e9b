"""The head of a network, from a logistic regression on its features."""

import time

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from tqdm import trange

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training.batches import Batches
from classifier.training.distribute import ONE_DEVICE, Devices

# On val of earlier splits (clean, 64x64 arrays enlarged to 256) 0.02 gave 91.3% and 0.1 gave 91.7%,
# without the mirror images 91.0%; 0.03 and 0.1 were within 0.2 of each other.
INVERSE_PENALTY = 0.1
MAX_ITERATIONS = 200


def fit_head(model: keras.Model, batches: Batches, devices: Devices = ONE_DEVICE) -> float:
    """Set the last Dense layer of a network to the regression from its features to the labels.

    The features are those of the photographs and of their mirror images.

    Args:
        model: a network with layers "avg_pool" and a Dense one named fc...
        batches: Batches of the training photographs, in order; of at least 2 classes.
        devices: Devices to compute the features on; the first process fits the regression.

    Returns:
        the regression's accuracy on these pictures, 0..1.

    Raises:
        UserError: the features are no finite numbers, for the steps before were too large.
    """
    features = keras.Model(model.input, model.get_layer("avg_pool").output)
    compute, found = devices.compute(features), []
    for index in trange(len(batches), desc="Features", unit=" batches", disable=None):
        images = batches[index][0]
        both = [compute(x) for x in (images, images[:, :, ::-1])]
        if devices.first:
            found.append(both)
    (head,) = (layer for layer in model.layers if layer.name.startswith("fc"))
    kernel, bias = (np.zeros(w.shape, np.float32) for w in head.weights)
    accuracy = 0.0
    if devices.first:
        views = (np.concatenate(view)[: batches.count] for view in zip(*found, strict=True))
        found = np.concatenate(list(views)).astype(np.float32)
        accuracy = _regress(found, np.tile(batches.labels(), 2), kernel, bias)
    head.set_weights([devices.told_array(kernel), devices.told_array(bias)])
    return devices.told(accuracy)


def _regress(features, labels, kernel, bias):
    """Fill in the weights of the regression, and return its accuracy."""
    if not np.isfinite(features).all():
        raise UserError("--learning-rate: the features are not finite numbers; lower it, --restart")
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS).fit(features, labels)
    weights, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn gives the one logit between the two
        weights = np.concatenate([-weights, weights]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel[:, fitted.classes_] = weights.T
    bias[fitted.classes_] = intercepts
    return float(fitted.score(features, labels))


def regression_head(
    model: keras.Model,
    arrays: Arrays,
    batch_size: int,
    val: Batches | None,
    devices: Devices = ONE_DEVICE,
) -> dict[str, float]:
    """Make the head of a compiled network the regression on the training photographs.

    Args:
        model: as in `fit_head`, compiled with the metric accuracy.
        arrays: an open Arrays.
        batch_size: photographs whose features are computed at a time.
        val: Batches of the val split, or None.
        devices: Devices.

    Returns:
        accuracy on the training photographs, minutes it took, and val_accuracy and val_loss.
    """
    began = time.monotonic()
    photographs = Batches(arrays, "train", batch_size, copies=False, share=devices.share)
    figures = {"accuracy": fit_head(model, photographs, devices)}
    if val is not None:
        outputs = devices.outputs(model, val)
        figures |= figures_of(model, val, outputs, devices)
    return {**figures, "minutes": (time.monotonic() - began) / 60}


def figures_of(
    model: keras.Model, val: Batches, outputs: np.ndarray, devices: Devices = ONE_DEVICE
) -> dict[str, float]:
    """Return val_accuracy and val_loss, by a compiled network's loss, of its probabilities.

    The first process has the labels, and tells the others.
    """
    figures = None
    if devices.first:
        labels = val.labels()
        one_hot = np.eye(outputs.shape[1], dtype=np.float32)[labels]
        losses = model.loss.call(one_hot, outputs)  # Keras' mean would be scaled by the devices
        figures = {
            "val_accuracy": float((outputs.argmax(axis=1) == labels).mean()),
            "val_loss": float(keras.ops.convert_to_numpy(losses).mean()),
        }
    return devices.told(figures)
