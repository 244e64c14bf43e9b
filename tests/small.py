"""Trainings that take seconds: a residual network of few blocks and filters."""

import contextlib
import sys

import keras
import pytest

import train
from classifier import architecture

# Two stages: a block that changes the shape in each, and in the last another, which keeps it.
# Strides as large as ResNet-50's all together: 32 pixels become 1.
STAGES = {2: ((8, 8, 32), 1, 2), 5: ((8, 8, 32), 2, 4)}


@contextlib.contextmanager
def small_network():
    """Make `resnet50` build the small network, in NumPy as in Keras, in this block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture, "STAGES", STAGES)
        yield


def run_train(*words):
    """Run train.py's main in this process, on the small network."""
    with small_network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, words)])
        try:
            return train.main()
        finally:
            keras.config.set_dtype_policy("float32")


def weights_in(path):
    """Return the weights in a model file of the small network, {name: array}."""
    from classifier.prediction import model_file

    with small_network():
        network, _ = model_file.load(path)
    return {weight.path: weight.numpy() for weight in network.weights}
