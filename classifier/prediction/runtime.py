"""Which of two runtimes names images sooner: NumPy starts at once, Keras may compute faster."""

import importlib.util
import os
from collections.abc import Collection

from classifier.architecture import multiply_adds
from classifier.prediction.model_file import ModelInfo

BACKENDS = ("tensorflow", "jax", "torch")
# Seconds to start, and for 10^9 multiply-adds, of which a 64x64 image has 0.31 and one enlarged to
# 256 has 5.04: the mean of both sizes. Float32, 2 cores.
COSTS = {
    # An AMD EPYC without AVX-512: 230 and 14.7 images/s in NumPy, 171 and 14.4 in Keras, measured
    # before the memory of arrays was kept for it too.
    "avx2": {"numpy": (0.2, 0.0138), "keras": (7.8, 0.0162)},
    # One with it: 289 and 20.5 images/s in Keras, 165 and 8 in NumPy, which was measured there
    # as it was at first; on the EPYC without it became 1.4 times as fast.
    "avx512": {"numpy": (0.2, 0.0158), "keras": (5.5, 0.0103)},
}


def quicker(info: ModelInfo, count: int, flags: Collection[str]) -> str:
    """Return "numpy" or "keras": what names this many images sooner, in float32.

    Args:
        info: of the model.
        count: number of images.
        flags: of the processor, as `processor.cpu_flags` returns them.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS or not all(map(importlib.util.find_spec, ("keras", backend))):
        return "numpy"
    side = max(info.image_size, info.enlarge_to)
    work = count * (2 if info.mirror else 1) * multiply_adds(side) / 1e9
    costs = COSTS["avx512" if "avx512f" in flags else "avx2"]
    return min(costs, key=lambda name: costs[name][0] + costs[name][1] * work)
