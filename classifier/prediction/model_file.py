"""The model file between train.py and predict.py: one .h5 file that describes itself.

It is a Keras model in HDF5, so `keras.models.load_model` reads it too, with a dataset more,
`classifier`, the JSON text of a ModelInfo, and the arrays of its Known in a group, `known`. This
program reads nothing of the Keras part but the weights, as plain arrays, into its own network: no
code or configuration of the file is ever used.
"""

import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from classifier.architecture import MAX_CLASSES, MIN_SIZE, weight_shapes
from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import (
    DAMAGE,
    NO_NAME,
    dataset,
    find_datasets,
    is_name,
    member,
    open_hdf5,
    read,
    read_json,
    write_json,
)
from classifier.prediction.verdict import HIGHEST, LOWEST, Head, Known

if TYPE_CHECKING:
    import keras

VERSION = 3
READ = (2, VERSION)  # 2 had no temperature and no Known
KNOWN_ARRAYS = ("centre", "projection", "means", "spread")
Weights = dict[str, dict[str, np.ndarray]]  # {layer: {"kernel": ...}}
MAX_SIZE = 1024  # pixels: an image of 4096 would take 4.5 GB and a minute
MOST = 1 << 62  # of whole numbers in a file: JSON has them of thousands of digits


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
        temperature: which its logits are divided by for calibrated probabilities.
        known: by which unknown photographs are told; None where nothing was fitted.
    """

    classes: list[str]
    image_size: int
    protocol: str
    training: dict = field(default_factory=dict)
    enlarge_to: int = 0
    mirror: bool = False
    leak: str = ""
    temperature: float = 1.0
    known: Known | None = None

    @property
    def side(self) -> int:
        """Side of the images that the network computes, pixels, after enlarging."""
        return max(self.image_size, self.enlarge_to)


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
            known = sum(getattr(info.known, name).nbytes for name in KNOWN_ARRAYS if info.known)
            reserve(temporary, 4 * network.count_params() + known + 1_500_000)
            network.save(temporary, include_optimizer=False)
            with h5py.File(temporary, "r+") as file:
                kept = {"version": VERSION, **asdict(info)}
                for name in KNOWN_ARRAYS if info.known else ():
                    file[f"known/{name}"] = kept["known"].pop(name)
                write_json(file, "classifier", kept)
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


def head_of(weights: Weights, info: ModelInfo) -> Head:
    """Return the Head of a model, from what `load_weights` returns."""
    *_, last = weights.values()
    return Head(**last, temperature=info.temperature, known=info.known)


def load(path: Path) -> tuple["keras.Model", ModelInfo]:
    """Read a model file into a network of Keras, float32.

    Raises:
        UserError: as `load_weights`.
    """
    weights, info = load_weights(path)
    return filled(weights, info), info


def filled(weights: Weights, info: ModelInfo, policy: str = "float32") -> "keras.Model":
    """Return the network of Keras with weights of `load_weights`, computed by a dtype policy."""
    model = build(info, policy)
    for name, values in weights.items():
        model.get_layer(name).set_weights(list(values.values()))
    return model


def _info(path, file):
    try:
        kept = read_json(file, "classifier")
        if kept.pop("version") not in READ:
            raise UserError(f"{path}: a model file of another version; train it again")
        info = ModelInfo(**kept)
        if info.known is not None:
            arrays = {name: dataset(file, f"known/{name}") for name in KNOWN_ARRAYS}
            info.known = _known(file, info, arrays)
    except (AttributeError, TypeError, *DAMAGE) as error:
        raise UserError(
            f"{path}: not a model file of train.py; train.py --init reads other ResNet-50 weights"
        ) from error
    if not (_sound(info) and _sound_training(info.training)):
        raise UserError(f"{path}: a model file this program does not read; train it again")
    return info


def _sound(info):
    kinds = (list, int, str, dict, int, bool, str, float)  # of the first fields, in their order
    values = [getattr(info, part.name) for part in fields(info)][: len(kinds)]
    return (
        all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
        and LOWEST <= info.temperature <= HIGHEST
        and 2 <= len(info.classes) <= MAX_CLASSES
        and all(map(is_name, info.classes))
        and is_name(info.protocol)
        and not NO_NAME.search(info.leak)
        and MIN_SIZE <= info.image_size <= MAX_SIZE
        and 0 <= info.enlarge_to <= MAX_SIZE
    )


def _sound_training(training):
    """Return whether what the program itself uses of it is of the kind that it should be."""
    best, command = training.get("best_epoch", 0), training.get("command", "")
    parts = (training.get(name, {}) for name in ("start", "history", "end"))
    return (
        are_figures(*parts)
        and type(best) is int
        and 0 <= best < MOST
        and isinstance(command, str)
        and isinstance(training.get("arguments", {}), dict)
    )


def are_figures(start: Any, history: Any, end: Any) -> bool:
    """Return whether JSON values are the figures of a run, as in `training.run.Run`."""
    if not all(isinstance(part, dict) for part in (start, history, end)):
        return False
    columns = history.values()
    return (
        all(isinstance(column, list) for column in columns)
        and len({len(column) for column in columns}) <= 1
        and all(_is_number(value) for column in columns for value in column)
        and all(_is_number(value) for part in (start, end) for value in part.values())
        and all(("val_loss" in part) == ("val_accuracy" in part) for part in (start, history, end))
    )


def _is_number(value):
    return type(value) is float or (type(value) is int and abs(value) < MOST)


def _known(file, info, parts):
    """Return the Known of a file's JSON and arrays; raise ValueError if they are none."""
    if any(part is None or part.dtype != np.float32 for part in parts.values()):
        raise ValueError("arrays are missing")
    *_, head = weight_shapes(len(info.classes)).values()
    directions, features = parts["spread"].shape, head["kernel"][0]
    shapes = (features,), (features, *directions), (len(parts["means"]), *directions), directions
    small = len(directions) == 1 and directions[0] < len(parts["means"]) <= len(info.classes)
    if not small or tuple(part.shape for part in parts.values()) != shapes:
        raise ValueError("arrays do not fit")
    arrays = {name: read(file, part) for name, part in parts.items()}
    known = Known(**arrays, **info.known)
    numbers = [known.ceiling, *known.energy, *known.distance, known.threshold]
    sound = (
        len(known.energy) == len(known.distance) == 2
        and all(type(number) is float for number in numbers)
        and all(np.isfinite(part).all() for part in (numbers, *arrays.values()))
        and min(known.energy[1], known.distance[1]) > 0
        and known.spread.min() >= 0
    )
    if not sound:
        raise ValueError("numbers are no numbers")
    return known


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
            return f"layer {layer}: {name} is missing or not stored in the file itself in one piece"
        if part.shape != tuple(shape) or part.dtype.kind != "f":
            return f"layer {layer}: {name} is {part.dtype} {part.shape}, not float {tuple(shape)}"
        try:
            with np.errstate(over="ignore"):  # of float64
                value = read(file, part).astype(np.float32, copy=False)
        except DAMAGE:
            return f"layer {layer}: {name} is damaged"
        if not np.isfinite(value).all():
            return f"layer {layer}: {name} holds NaN or infinity"
        if name == "moving_variance" and (value < 0).any():
            return f"layer {layer}: {name} is below 0"
        values.append(value)
    return values
