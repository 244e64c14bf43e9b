"""The whole of what predict.py computes as one network of Keras' own layers, to be converted.

Scaling, enlargement, mirror images, temperature and the score by which unknown photographs are told
are all inside, so that no program around it can do one of them otherwise.
"""

from typing import TYPE_CHECKING

import numpy as np

from classifier.prediction import forward, model_file
from classifier.prediction.verdict import Head, Known

if TYPE_CHECKING:
    import keras

IMAGE, FEATURES = "image", "features"
OUTPUTS = PROBABILITIES, SCORE = "probabilities", "score"


def whole(network: forward.Network, head: Head, info: model_file.ModelInfo) -> "keras.Model":
    """Return the network from pixels to probabilities, with BatchNorms folded as in NumPy.

    Args:
        network: of the model, not prepared for many images.
        head: of the model.
        info: of the model.

    Returns:
        keras.Model from "image", uint8 (N, size, size, 3), RGB, to a dict of "probabilities",
        float32 (N, classes), calibrated, and, where unknown photographs can be told, "score",
        float32 (N,): see `Known`.
    """
    import keras
    from keras import layers, ops

    image = keras.Input((info.image_size, info.image_size, 3), dtype="uint8", name=IMAGE)
    x = ops.cast(image, "float32")
    if info.mirror:
        x = ops.concatenate([x, ops.flip(x, axis=2)], axis=0)
    x = _convolutions(network, info)(x)
    if info.mirror:
        x = ops.mean(ops.reshape(x, (2, -1, x.shape[-1])), axis=0)
    last = _dense(f"fc{len(info.classes)}", head.kernel, head.bias)
    calibrated = layers.Rescaling(1 / head.temperature, name="temperature")(last(x))
    outputs = {PROBABILITIES: layers.Softmax(name=PROBABILITIES)(calibrated)}
    if head.known:
        outputs[SCORE] = _score(x, last, head.known)
    model = keras.Model(image, outputs, name="resnet50")
    model.trainable = False
    return model


def _convolutions(network, info):
    """Return the layers before the head, from pixels, (N, size, size, 3), to features."""
    import keras
    from keras import layers

    def call(layer, x, *_, **__):
        return x if isinstance(layer, layers.BatchNormalization) else layer(x)

    fresh = model_file.build(info)
    features = keras.Model(fresh.input, fresh.get_layer("avg_pool").output, name=FEATURES)
    model = keras.models.clone_model(features, call_function=call)
    for name, folded in network.layers.items():
        model.get_layer(name).set_weights(folded)
    return model


def _score(x, last, known: Known):
    """Return the score of features, as `Head.scores` has it, each sum of products a Dense."""
    from keras import layers, ops

    energy = ops.logsumexp(last(ops.minimum(x, known.ceiling)), axis=1)
    roots = ops.sqrt(ops.relu(x))
    place = _dense("projection", known.projection, -known.centre @ known.projection)(roots)
    squares = (known.means**2).sum(axis=1)
    nearest = ops.min(_dense("nearest", -2 * known.means.T, squares)(place), axis=1)
    spread = known.spread / (1 + known.spread)
    apart = _dense("apart", spread[:, None], np.zeros(1))(ops.square(place))
    distance = nearest + ops.squeeze(apart, axis=1)
    parts = [
        layers.Rescaling(1 / deviation, -mean / deviation, name=name)(part)
        for name, part, (mean, deviation) in (
            ("energy", energy, known.energy),
            ("distance", distance, known.distance),
        )
    ]
    return layers.Subtract(name=SCORE)(parts)


def _dense(name, kernel, bias):
    """Return a Dense with weights."""
    from keras import layers

    layer = layers.Dense(kernel.shape[1], name=name)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, bias])
    return layer
