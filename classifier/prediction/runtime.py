"""Which of two runtimes names images sooner: NumPy starts at once, Keras may compute faster."""

import importlib.util
import os
from collections.abc import Collection

from classifier.architecture import multiply_adds
from classifier.prediction.model_file import ModelInfo

BACKENDS = ("tensorflow", "jax", "torch")
# Seconds to start, and for 10^9 multiply-adds, of which a 64x64 image has 0.31 and one enlarged to
# 256 has 5.04: the mean of both sizes. 2 cores; in float32 unless another format is named.
COSTS = {
    # An AMD EPYC without AVX-512: 230 and 14.7 images/s in NumPy, 171 and 14.4 in Keras, measured
    # before the memory of arrays was kept for it too.
    "avx2": {"numpy": (0.2, 0.0138), "keras": (7.8, 0.0162)},
    # An Intel Xeon with it: 260 and 16.5 images/s in NumPy, 252 and 21 in Keras.
    "avx512": {"numpy": (0.2, 0.0122), "keras": (9.2, 0.0111)},
}
# Keras in bfloat16 on an AMD EPYC with AVX512-BF16: 457 and 38 images/s.
KERAS_BFLOAT16 = (5.5, 0.0061)


def quicker(info: ModelInfo, count: int, flags: Collection[str], precision: str = "float32") -> str:
    """Return "numpy" or "keras": what names this many images sooner.

    Args:
        info: of the model.
        count: number of images.
        flags: of the processor, as `processor.cpu_flags` returns them.
        precision: what Keras would compute in, "float32" or "bfloat16"; NumPy is in float32.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS or not all(map(importlib.util.find_spec, ("keras", backend))):
        return "numpy"
    side = max(info.image_size, info.enlarge_to)
    work = count * (2 if info.mirror else 1) * multiply_adds(side) / 1e9
    costs = dict(COSTS["avx512" if "avx512f" in flags else "avx2"])
    if precision == "bfloat16":
        if not any("bf16" in flag for flag in flags):  # it would be emulated
            return "numpy"
        costs["keras"] = KERAS_BFLOAT16
    return min(costs, key=lambda name: costs[name][0] + costs[name][1] * work)
