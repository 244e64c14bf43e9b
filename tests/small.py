"""Trainings that take seconds: a residual network of few blocks and filters."""

import os
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT

import train
from resnet50 import resnet50

sys.path.insert(0, str(ROOT / "benchmarks"))

from faulty.small import small_network


def run_train(*words):
    """Run train.py's main in this process, on the small network."""
    with small_network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, words)])
        try:
            return train.main()
        finally:
            keras.config.set_dtype_policy("float32")


def formats(int8=False):
    """Parametrize by the formats, without those whose packages are missing."""
    from classifier.export.formats import FORMATS

    names = [name for name, form in FORMATS.items() if form.quantizer or not int8]
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.skipif(bool(lack), reason=f"no {lack}"))
            for name in names
            for lack in [FORMATS[name].lacks(int8)]
        ],
    )


def run_export(*words):
    """Run classifier.export's main in this process, on the small network."""
    from classifier import cli
    from classifier.export import __main__ as export

    with small_network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export", *map(str, words)])
        patch.setattr(cli, "part_from_compiled_code", lambda silent: None)
        for name in ("KERAS_BACKEND", *export.PROCESSOR):  # as they are, afterwards too
            patch.setenv(name, os.environ.get(name, ""))
            if not os.environ[name]:
                patch.delenv(name)
        return export.main()


def weights_in(path):
    """Return the weights in a model file of the small network, {name: array}."""
    from classifier.prediction import model_file

    with small_network():
        network, _ = model_file.load(path)
    return {weight.path: weight.numpy() for weight in network.weights}


def starting_model(path, data):
    """Write a model of the small network, with random weights, as if trained on these arrays."""
    from classifier.data.arrays import Arrays
    from classifier.prediction import model_file

    keras.utils.set_random_seed(3)
    with small_network(), Arrays(data) as arrays:
        size, training = arrays.image_size, {"split_digest": arrays.split_digest}
        info = model_file.ModelInfo(arrays.classes, size, arrays.protocol, training)
        network = resnet50((size, size, 3), len(arrays.classes), zero_init=True)
        model_file.save(path, network, info)
    return path


def random_network(size, classes, enlarge_to=0, seed=0):
    """A `resnet50` whose BatchNorms are not at their first values, nor its biases at zero."""
    keras.utils.set_random_seed(seed)
    network = resnet50((size, size, 3), classes, dropout=0.0, enlarge_to=enlarge_to)
    random = np.random.default_rng(seed)
    for layer in network.layers:
        for weight in layer.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            elif weight.name != "kernel":
                weight.assign(random.normal(0, 0.1, weight.shape))
    head = network.layers[-2].kernel
    head.assign(random.normal(0, 0.002, head.shape))  # probabilities not near 0 and 1
    return network


def weights_of(network):
    return {
        layer.name: {weight.name: np.array(weight) for weight in layer.weights}
        for layer in network.layers
        if layer.weights
    }
