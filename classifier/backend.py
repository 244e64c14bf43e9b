"""The backend that Keras computes on: TensorFlow, JAX or PyTorch."""

import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType

from classifier.cli import keep_freed_memory, printable
from classifier.errors import UserError

# The first that is installed is taken, unless KERAS_BACKEND says otherwise.
REQUIREMENTS = {
    "tensorflow": "requirements.txt",
    "jax": "requirements-jax.txt",
    "torch": "requirements-torch.txt",
}

# For JAX on a GPU: convolutions too are launched with all that is between them, as CUDA graphs.
GRAPHS = "--xla_gpu_enable_command_buffer=+CONVOLUTION"
SINCE = (0, 10)  # JAX's version that knows it


def chosen() -> str:
    """Return the name of the backend that Keras is started on, installed or not."""
    first = next(filter(importlib.util.find_spec, REQUIREMENTS), "tensorflow")
    return os.environ.get("KERAS_BACKEND") or first


def remedy() -> str:
    """Return the command that installs what the scripts need on this backend."""
    return f"pip install -r {REQUIREMENTS.get(chosen(), 'requirements.txt')}"


def lacking() -> str:
    """Return why Keras cannot be started, and the remedy, in a line; "" where it can."""
    name = chosen()
    if name not in REQUIREMENTS:
        return f"KERAS_BACKEND: {printable(name)} is none of {', '.join(REQUIREMENTS)}"
    for package in ("keras", name):
        if not importlib.util.find_spec(package):
            return f"{package} is not installed: {remedy()}"
    return ""


def start_keras(before_devices: Callable[[], None] | None = None) -> ModuleType:
    """Import and return Keras and its backend without the backend's start-up notes on the terminal.

    They come from compiled code before any Python setting is read, hence by file descriptor; where
    the import fails they are shown.

    Args:
        before_devices: called once all is imported, and before the first look at the devices.

    Raises:
        UserError: it is not installed or does not start, or KERAS_BACKEND names none.
    """
    if reason := lacking():
        raise UserError(reason)
    os.environ["KERAS_BACKEND"] = chosen()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow itself takes oneDNN's kernels only where AVX-512 has units for networks; with
    # AVX2 alone training was 2.3 times as fast with them (64x64, 2 cores of an AMD EPYC).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if chosen() == "jax":
        _ask_for_graphs()
    keep_freed_memory()
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import keras

            if before_devices is not None:
                before_devices()
            if keras.backend.backend() != "torch":  # for which Keras has no list
                keras.distribution.list_devices()  # the first look at them has notes of its own
        except UserError:
            raise
        except Exception as error:
            notes.seek(0)
            os.write(shown, notes.read())
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            reason = f"{chosen()} does not start: {printable(reason)}"
            raise UserError(f"{reason}; {remedy()}") from error
        finally:
            os.dup2(shown, 2)
            os.close(shown)
    return keras


def _ask_for_graphs():
    """Add GRAPHS to JAX's settings, unless the user has settings of them."""
    version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("jax"))
    known = version is not None and tuple(map(int, version.groups())) >= SINCE
    flags = os.environ.get("XLA_FLAGS", "")
    if known and GRAPHS.split("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {GRAPHS}".strip()
