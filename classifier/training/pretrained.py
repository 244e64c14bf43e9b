"""Weights to start from: Keras' ImageNet weights, or a Keras ResNet-50 .h5 file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.architecture import weight_shapes
from classifier.cli import printable
from classifier.data.arrays import Arrays
from classifier.data.splits import LEAK_WARNING
from classifier.errors import UserError
from classifier.evaluation.evaluate import leak_on
from classifier.hdf5 import has, open_hdf5
from classifier.prediction.model_file import layer_weights, load_info
from classifier.training.distribute import ONE_DEVICE, Devices

if TYPE_CHECKING:
    import keras


def load(
    network: "keras.Model", init: str | Path, classes: list[str], devices: Devices = ONE_DEVICE
) -> int:
    """Put weights to start from, which the first process reads, into a `resnet50`.

    Args:
        network: `resnet50`.
        init: "imagenet", or the path of what `read_file` reads.
        classes: class names.
        devices: Devices that the network was built for.

    Returns:
        number of layers filled; the head only where the file has one for these very classes.

    Raises:
        UserError: the download failed, or the file is missing, damaged, or no ResNet-50.
    """
    layers = {}
    if devices.first:
        with devices.apart():
            layers = dict(read_imagenet() if init == "imagenet" else read_file(init, classes))
    names = devices.told(list(layers))
    for name in names:
        layer = network.get_layer(name)
        values = layers.get(name) or layer.get_weights()  # for their shapes
        layer.set_weights([devices.told_array(value) for value in values])
    return len(names)


def read_imagenet() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield each layer but the head, with Keras' own ImageNet weights, which Keras downloads.

    Raises:
        UserError: the download failed.
    """
    import keras

    try:
        source = keras.applications.ResNet50(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises plain Exception, with urllib's in its text
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--init imagenet: {reason}; where there is no network, give a file: --init FILE.h5"
        ) from error
    for layer in weight_shapes(1):
        if not layer.startswith("fc"):
            yield layer, _to_rgb(layer, source.get_layer(applications_name(layer)).get_weights())


def read_file(path: Path, classes: list[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield each layer that a .h5 file has weights for, with them.

    Args:
        path: a model of train.py, or ResNet-50 weights or a whole model of Keras, with layers
            named res2a_branch2a or conv2_block1_1_conv; Keras' expect BGR and are turned to RGB.
        classes: class names; the head is taken where the file has one for these very classes.

    Raises:
        UserError: missing, damaged, or not a ResNet-50.
    """
    with open_hdf5(path, "weights file") as file:
        ours = has(file, "classifier")
        same_head = ours and load_info(path).classes == list(classes)
        for layer, shapes in weight_shapes(len(classes)).items():
            if layer.startswith("fc") and not same_head:
                continue
            values = layer_weights(file, layer, shapes)
            if isinstance(values, str):
                other = layer_weights(file, applications_name(layer), shapes)
                if isinstance(other, str):
                    reason = other if other.startswith("layer") else values
                    raise UserError(f"{path}: no ResNet-50 weights this program reads: {reason}")
                values = other
            yield layer, values if ours else _to_rgb(layer, values)


def leak_of(path: str, arrays: Arrays) -> str:
    """Return why the figures of a network that starts from a file will be too good, in words.

    Args:
        path: what `read_file` reads; or "scratch" or "imagenet".
        arrays: what the network is trained and judged on.

    Returns:
        "" if nothing is known against them: arrays that do not leak, and a file that is no model
        of train.py, or one that was trained on these very splits.
    """
    if arrays.leaks:
        return LEAK_WARNING
    if path in ("scratch", "imagenet"):
        return ""
    with open_hdf5(path, "weights file") as file:
        if not has(file, "classifier"):
            return ""
    return leak_on(arrays, load_info(path), f"{printable(path)}, which it starts from")


def applications_name(name: str) -> str:
    """Return the name keras.applications gives a layer: res3b_branch2a -> conv3_block2_1_conv."""
    if name == "conv1":
        return "conv1_conv"
    if name == "bn_conv1":
        return "conv1_bn"
    if name.startswith("fc"):
        return "predictions"
    kind, rest = ("bn", name[2:]) if name.startswith("bn") else ("conv", name[3:])
    block, branch = rest.split("_branch")
    number = {"1": 0, "2a": 1, "2b": 2, "2c": 3}[branch]
    return f"conv{block[0]}_block{'abcdef'.index(block[1]) + 1}_{number}_{kind}"


def _to_rgb(name, values):
    """Turn the first convolution from Keras' BGR to our RGB; leave other layers as they are."""
    return [values[0][:, :, ::-1, :], *values[1:]] if name == "conv1" else values
