"""Shared by the tests: the real command lines, and a tiny data set to run them on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# Imports of keras in the tests themselves stay quiet and are as fast, as those of the scripts are.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
sys.path.insert(0, str(ROOT))

from classifier import backend  # noqa: E402

os.environ["KERAS_BACKEND"] = backend.chosen()


# Of the `network`: its classes, with names of many kinds, and images to compare outputs on.
CLASSES = ["cat", "d\u00f6g", "o'wl"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)

# The files that take longest go first, so that no process is left with one at the end.
FIRST = ("test_whole_way.py", "test_real_photographs.py", "test_train.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else 9)


def command(script, *args):
    """Return the command that runs a script of the repository, from any folder."""
    return [sys.executable, str(ROOT / script), *map(str, args)]


def run(script, *args, cwd, **options):
    """Run a script to its end; return subprocess.CompletedProcess with text output."""
    return subprocess.run(
        command(script, *args), cwd=cwd, capture_output=True, text=True, timeout=300, **options
    )


def assert_one_line_error(result, *parts):
    """Assert that a script failed as it should: status 2, one line on stderr with these parts."""
    assert result.returncode == 2, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert str(part) in lines[0]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with datasets/tiny: 3 classes of 12 photographs, easily told apart."""
    folder = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    for label, colour in {
        "red": (200, 30, 30),
        "green": (30, 200, 30),
        "blue": (30, 30, 200),
    }.items():
        target = folder / "datasets/tiny/train" / label
        target.mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(0, 40, (8, 8, 3)) + colour
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.resize((48, 40)).save(target / f"image_{number:04}.jpg")
    return folder


@pytest.fixture(scope="session")
def tiny_arrays(tiny):
    """The arrays of the tiny folder at 32 px: 48 train, 6 val and 6 test; returns their path."""
    made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
               "--target-per-class", 16, cwd=tiny)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return tiny / "datasets/tiny.h5"


@pytest.fixture(scope="session")
def larger_arrays(tiny):
    """The arrays of the tiny folder at 48 px, where epochs of smaller images come first."""
    made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 48,
               "--target-per-class", 16, "--output", "larger.h5", cwd=tiny)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return tiny / "larger.h5"


@pytest.fixture(scope="module")
def eager():
    """Have TensorFlow compute step by step, which saves the seconds to trace each network."""
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def network():
    """The whole ResNet-50 for CLASSES and 32 pixels, weights random; no test changes it."""
    import keras

    from resnet50 import resnet50

    keras.utils.set_random_seed(1)
    return resnet50((32, 32, 3), len(CLASSES), dropout=0.5)
