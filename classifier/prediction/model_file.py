"""The model file between train.py and predict.py: one .h5 file that describes itself.

It is a Keras model in HDF5, so `keras.models.load_model` reads it too, with a dataset more,
`classifier`: the JSON text of a ModelInfo. This program reads nothing of the Keras part but the
weights, as plain arrays, into its own network: no code or configuration of the file is ever used.
"""

import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from classifier.architecture import MIN_SIZE, weight_shapes
from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import DAMAGE, find_datasets, member, open_hdf5, read_json, write_json

if TYPE_CHECKING:
    import keras

VERSION = 2
Weights = dict[str, dict[str, np.ndarray]]  # {layer: {"kernel": ...}}
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
        mirror: whether predictions are averaged over image and mirror image.
        leak: why its figures are too good, in words; "" if nothing is known against them.
    """

    classes: list[str]
    image_size: int
    protocol: str
    training: dict = field(default_factory=dict)
    enlarge_to: int = 0
    mirror: bool = False
    leak: str = ""


def build(info: ModelInfo, policy: str = "float32") -> "keras.Model":
    """Build our network for a model's classes and image size, weights fresh.

    Args:
        info: ModelInfo.
        policy: Keras' dtype policy that it computes by.
    """
    import keras

    from resnet50 import resnet50

    shape = (info.image_size, info.image_size, 3)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return resnet50(shape, len(info.classes), dropout=0.0, enlarge_to=info.enlarge_to)
    finally:
        keras.config.set_dtype_policy(before)


def save(path: Path, network: "keras.Model", info: ModelInfo) -> None:
    """Write a model file; it appears whole.

    Args:
        path: ends in .h5.
        network: of `build`; it is made trainable as a whole.
        info: ModelInfo.
    """
    for layer in network.layers:  # to set it on the network alone leaves them as they are
        layer.trainable = True
    absl = logging.getLogger("absl")  # where Keras advises its newer format; ours is .h5 by design
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with atomic_write(path) as temporary:
            reserve(temporary, 4 * network.count_params() + 1_500_000)
            network.save(temporary, include_optimizer=False)
            with h5py.File(temporary, "r+") as file:
                write_json(file, "classifier", {"version": VERSION, **asdict(info)})
    finally:
        absl.setLevel(level)


def load_info(path: Path) -> ModelInfo:
    """Read what a model file says of itself.

    Raises:
        UserError: missing, damaged, or not a model file of train.py.
    """
    with open_hdf5(path, "model file") as file:
        return _info(path, file)


def load_weights(path: Path) -> tuple[Weights, ModelInfo]:
    """Read a model file: its weights, as in `architecture.weight_shapes`, and what it says.

    Raises:
        UserError: missing, damaged, not a model file of train.py, or its weights do not fit.
    """
    with open_hdf5(path, "model file") as file:
        info = _info(path, file)
        weights = {}
        for layer, shapes in weight_shapes(len(info.classes)).items():
            values = layer_weights(file, layer, shapes)
            if isinstance(values, str):
                raise UserError(f"{path}: {values}; train it again")
            weights[layer] = dict(zip(shapes, values, strict=True))
    return weights, info


def load(path: Path, policy: str = "float32") -> tuple["keras.Model", ModelInfo]:
    """Read a model file into a network of Keras that computes by this dtype policy.

    Raises:
        UserError: as `load_weights`.
    """
    weights, info = load_weights(path)
    model = build(info, policy)
    for name, values in weights.items():
        model.get_layer(name).set_weights(list(values.values()))
    return model, info


def _info(path, file):
    try:
        kept = read_json(file, "classifier")
        if kept.pop("version") != VERSION:
            raise UserError(f"{path}: a model file of another version; train it again")
        info = ModelInfo(**kept)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"{path}: not a model file of train.py; train.py --init reads other ResNet-50 weights"
        ) from error
    if not _sound(info):
        raise UserError(f"{path}: a model file this program does not read; train it again")
    return info


def _sound(info):
    kinds = (list, int, str, dict, int, bool, str)  # of the fields, in their order
    values = [getattr(info, part.name) for part in fields(info)]
    return (
        all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
        and 2 <= len(info.classes) <= MAX_CLASSES
        and all(isinstance(name, str) for name in info.classes)
        and MIN_SIZE <= info.image_size <= MAX_SIZE
        and 0 <= info.enlarge_to <= MAX_SIZE
    )


def layer_weights(
    file: h5py.File, layer: str, shapes: dict[str, tuple[int, ...]]
) -> list[np.ndarray] | str:
    """Read the weights of one layer from a Keras .h5 file, as plain arrays.

    Args:
        file: open h5py.File, of a whole model or of weights alone.
        layer: the layer's name.
        shapes: {"kernel": (7, 7, 3, 64), ...}: names and shapes expected, in the layer's order.

    Returns:
        list of float32 arrays; or a str: why there are none.
    """
    group = member(file, f"model_weights/{layer}") or member(file, layer)
    if not isinstance(group, h5py.Group):
        return f"no layer {layer}"
    parts = {name.removesuffix(":0"): part for name, part in find_datasets(group).items()}
    if len(parts) != len(shapes):
        return f"layer {layer} has {len(parts)} weights, not {len(shapes)}"
    values = []
    for name, shape in shapes.items():
        part = parts.get(name)
        if part is None:
            return f"layer {layer}: {name} is missing or not stored in the file itself"
        if part.shape != tuple(shape) or part.dtype.kind != "f":
            return f"layer {layer}: {name} is {part.dtype} {part.shape}, not float {tuple(shape)}"
        try:
            value = part[()].astype(np.float32, copy=False)
        except DAMAGE:
            return f"layer {layer}: {name} is damaged"
        if not np.isfinite(value).all():
            return f"layer {layer}: {name} holds NaN or infinity"
        values.append(value)
    return values
