"""Which number format the network computes in."""

import os
import platform
from pathlib import Path

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose(precision: str) -> tuple[str, str]:
    """Return (name, why) for --precision: `auto` takes what the device does fast.

    Args:
        precision: "auto" or a key of POLICIES.

    Returns:
        a key of POLICIES, and the reason in a few words.
    """
    if precision != "auto":
        return precision, "as asked"
    gpus = [name for name in devices() if name.startswith(("gpu", "cuda"))]
    if gpus:
        capability = _compute_capability()
        if capability is None or capability >= 8:
            return "bfloat16", f"{gpus[0]} has bfloat16 units"
        if capability >= 7:
            return "float16", f"{gpus[0]} has float16 units"
        return "float32", f"{gpus[0]} has no 16-bit units"
    # avx512_bf16 alone does not pay: 33 images/s against 50 in float32 (64x64, batch 32, 2 cores
    # of a Xeon, TensorFlow 2.21), for all but the convolutions is slower.
    if "amx_bf16" in cpu_flags():
        return "bfloat16", "the processor has bfloat16 matrix units"
    return "float32", "the processor has no bfloat16 matrix units"


def devices() -> list[str]:
    """Return the names of the devices the backend computes on: "cpu:0", "gpu:0", "cuda:0" ..."""
    import keras

    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    import torch  # for which Keras has no list

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu:0"]


def device() -> str:
    """Return what the network is computed on, in words."""
    if any(name.startswith("cpu") for name in devices()):
        lines = (
            Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        )
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        units = " with AMX" if "amx_bf16" in cpu_flags() else ""
        return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}{units}"
    return ", ".join(devices())


def cpu_flags(path: str | Path = "/proc/cpuinfo") -> set[str]:
    """Return the processor's feature flags, a set of str; empty where the system does not tell."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split() for line in lines if line.startswith("flags")), []))


def _compute_capability():
    """Return the first NVIDIA GPU's compute capability (major), or None if the backend hides it."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        return details.get("compute_capability", (None,))[0]
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_capability()[0]
    return None
