"""Which number format the network computes in."""

import os
from collections import Counter

from classifier import processor
from classifier.errors import UserError
from classifier.processor import cores, cpu_flags

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# What a processor's flags call its units for bfloat16, and people do.
UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
JAX_FLAG = "--xla_gpu_deterministic_ops=true"
# How many times as fast as float32 bfloat16 has to be for its rounding to be worth it.
WORTH = 1.1


def choose(precision: str, deterministic: bool = False) -> tuple[str, str]:
    """Return (name, why) for --precision: `auto` takes what the device does fast.

    A GPU's compute capability tells; for a processor that may have units for bfloat16, a trial.

    Args:
        precision: "auto" or a key of POLICIES.
        deterministic: whether a second run must choose the same, so that no trial can.

    Returns:
        a key of POLICIES, and the reason in a few words.
    """
    if precision != "auto":
        return precision, "as asked"
    if found := gpus():
        gpu, capability = found[0], _gpu(0)[1]
        if capability is None or capability >= 8:
            return "bfloat16", f"{gpu} has bfloat16 units"
        if capability >= 7:
            return "float16", f"{gpu} has float16 units"
        return "float32", f"{gpu} has no 16-bit units"
    if deterministic:
        return "float32", "on a processor, with --deterministic"
    return _choose_for_cpu()


def _choose_for_cpu():
    import keras

    flags = cpu_flags()
    # Without instructions for it each bfloat16 is computed as a float32, after a conversion: 7.6
    # images/s against 51 (64x64, batch 32, 2 cores of an EPYC with AVX2, TensorFlow 2.21).
    if flags and not any("bf16" in flag for flag in flags):
        return "float32", "the processor has no bfloat16 units"
    if keras.backend.backend() != "tensorflow":  # no trial; AMX pays for sure
        if "amx_bf16" in flags:
            return "bfloat16", "the processor has bfloat16 matrix units"
        return "float32", "the processor has no bfloat16 matrix units"
    from classifier.training.trial import bfloat16_speed

    speed = bfloat16_speed()
    if speed >= WORTH:
        return "bfloat16", f"{speed:.1f}x as fast as float32 here"
    return "float32", f"bfloat16 is {speed:.2f}x as fast here"


def make_deterministic() -> None:
    """Have the backend compute the same bits each time, from the same seeds on the same machine.

    Raises:
        UserError: JAX is on a GPU, and was not told so before it started.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which it asks for on a GPU
        torch.use_deterministic_algorithms(True)
    elif gpus() and JAX_FLAG not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(f"--deterministic: for JAX on a GPU set XLA_FLAGS={JAX_FLAG}")


def devices() -> list[str]:
    """Return the names of the devices the backend computes on: "cpu:0", "gpu:0", "cuda:0" ..."""
    import keras

    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    import torch  # for which Keras has no list

    kind = keras.ops.zeros(()).device.type
    count = torch.cuda.device_count() if kind == "cuda" else 1
    return [f"{kind}:{number}" for number in range(count)]


def gpus() -> list[str]:
    """Return the names of the GPUs among them."""
    return [name for name in devices() if name.startswith(("gpu", "cuda"))]


def device(count: int = 1) -> str:
    """Return what the network is computed on, the first so many of the devices, in words."""
    if any(name.startswith("cpu") for name in devices()):
        flags = cpu_flags()
        units = next((f" with {name}" for flag, name in UNITS.items() if flag in flags), "")
        name = f"{cores()} cores of {processor.name()}{units}"
        return name if count == 1 else f"{count} devices, each on {name}"
    if found := gpus()[:count]:
        names = [_gpu(number)[0] or name for number, name in enumerate(found)]
    else:
        names = devices()[:count]
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in Counter(names).items())


def _gpu(number):
    """Return the name of a GPU's model and its compute capability (major); None for what is none.

    The capability is NVIDIA's, the name is there where the backend knows it.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpu = tf.config.list_physical_devices("GPU")[number]
        details = tf.config.experimental.get_device_details(gpu)
        return details.get("device_name"), details.get("compute_capability", (None,))[0]
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)[0]
    import jax

    gpu = jax.devices()[number]
    version = getattr(gpu, "compute_capability", None)  # "9.0"
    return gpu.device_kind, version and int(version.split(".")[0])
