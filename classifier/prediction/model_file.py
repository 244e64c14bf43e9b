"""The model file between train.py and predict.py: one .h5 file that describes itself.

It is a Keras model in HDF5, so `keras.models.load_model` reads it too, with further attributes:
classes, image_size, protocol, and how it was trained (JSON). This program reads nothing of the
Keras part but the weights, as plain arrays, into its own network: no code or configuration of the
file is ever used.
"""

import json
import logging
from dataclasses import dataclass, field

import h5py
import numpy as np

from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import dataset, member, open_hdf5

VERSION = 1
MAX_CLASSES, MAX_SIZE = 100_000, 4096


@dataclass
class ModelInfo:
    """What a model file says of itself.

    Attributes:
        classes: class names, in the order of the outputs.
        image_size: pixels.
        protocol: of the splits it was trained on.
        training: how it was trained: arguments, history, figures (plain JSON values).
        enlarge_to: pixels to which the network enlarges its input; 0: it does not.
        mirror: whether an image is judged together with its mirror image.
    """

    classes: list
    image_size: int
    protocol: str
    training: dict = field(default_factory=dict)
    enlarge_to: int = 0
    mirror: bool = False


def build(info):
    """Build our network for a model's classes and image size, weights fresh."""
    from resnet50 import resnet50

    shape = (info.image_size, info.image_size, 3)
    return resnet50(shape, len(info.classes), dropout=0.0, enlarge_to=info.enlarge_to)


def save(path, model, info):
    """Write a model file, aside and then renamed.

    Args:
        path: ends in .h5.
        model: a `resnet50`; saved as float32, without dropout and all of it trainable, whatever
            it was trained with.
        info: ModelInfo.
    """
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        plain = build(info)
    finally:
        keras.config.set_dtype_policy(policy)
    plain.set_weights(model.get_weights())
    absl = logging.getLogger("absl")  # where Keras advises its newer format; ours is .h5 by design
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with atomic_write(path) as aside:
            reserve(aside, 4 * plain.count_params() + 1_500_000)
            plain.save(aside, include_optimizer=False)
            with h5py.File(aside, "r+") as file:
                file.attrs["version"] = VERSION
                file.attrs["classes"] = np.array(info.classes, dtype=h5py.string_dtype())
                file.attrs["image_size"] = info.image_size
                file.attrs["enlarge_to"] = info.enlarge_to
                file.attrs["mirror"] = info.mirror
                file.attrs["protocol"] = info.protocol
                file.attrs["training"] = json.dumps(info.training)
    finally:
        absl.setLevel(level)


def load_info(path):
    """Read what a model file says of itself.

    Raises:
        UserError: missing, damaged, or not a model file of train.py.
    """
    with open_hdf5(path, "model file") as file:
        return _info(path, file)


def load(path):
    """Read a model file: (keras.Model, ModelInfo).

    Raises:
        UserError: missing, damaged, not a model file of train.py, or its weights do not fit.
    """
    with open_hdf5(path, "model file") as file:
        info = _info(path, file)
        model = build(info)
        for layer in model.layers:
            if layer.weights:
                values = layer_weights(file, layer.name, [w.shape for w in layer.weights])
                if isinstance(values, str):
                    raise UserError(f"{path}: {values}; train it again")
                layer.set_weights(values)
    return model, info


def probabilities(model, images, mirror):
    """Return a network's probabilities for a batch of images.

    Args:
        model: a `resnet50`.
        images: RGB pixels 0..255, (N, size, size, 3).
        mirror: take the mean of those for the images and for their mirror images.

    Returns:
        float32 array (N, classes).
    """
    outputs = np.asarray(model.predict_on_batch(images))
    if mirror:
        outputs = (outputs + np.asarray(model.predict_on_batch(images[:, :, ::-1]))) / 2
    return outputs


def _info(path, file):
    try:
        info = ModelInfo(
            [str(name) for name in file.attrs["classes"]],
            int(file.attrs["image_size"]),
            str(file.attrs["protocol"]),
            json.loads(file.attrs["training"]),
            int(file.attrs.get("enlarge_to", 0)),
            bool(file.attrs.get("mirror", False)),
        )
        version = int(file.attrs["version"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: not a model file of train.py; train.py --init reads other ResNet-50 weights"
        ) from error
    sound = 2 <= len(info.classes) <= MAX_CLASSES and 32 <= info.image_size <= MAX_SIZE
    sound = sound and 0 <= info.enlarge_to <= MAX_SIZE
    if version != VERSION or not sound:
        raise UserError(f"{path}: a model file this program does not read; train it again")
    return info


def layer_weights(file, layer, shapes):
    """Read the weights of one layer from a Keras .h5 file, as plain arrays.

    Args:
        file: open h5py.File, of a whole model or of weights alone.
        layer: the layer's name.
        shapes: the shapes expected, in the layer's order.

    Returns:
        list of float32 arrays; or a str: why there are none.
    """
    group = member(file, f"model_weights/{layer}") or member(file, layer)
    if group is None or "weight_names" not in group.attrs:
        return f"no layer {layer}"
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
    if len(names) != len(shapes):
        return f"layer {layer} has {len(names)} weights, not {len(shapes)}"
    values = []
    for name, shape in zip(names, shapes, strict=True):
        part = dataset(group, name)
        if part is None:
            return f"layer {layer}: {name} is not stored in the file itself"
        if part.shape != tuple(shape) or part.dtype.kind != "f":
            return f"layer {layer}: {name} is {part.dtype} {part.shape}, not float {tuple(shape)}"
        value = part[()].astype(np.float32)
        if not np.isfinite(value).all():
            return f"layer {layer}: {name} holds NaN or infinity"
        values.append(value)
    return values
