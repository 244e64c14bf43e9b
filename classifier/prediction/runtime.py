"""Which of two runtimes names images sooner: NumPy starts at once, Keras may compute faster.

And how many images Keras is given at a time.
"""

import importlib.util
import os
from collections.abc import Collection

from classifier.architecture import multiply_adds
from classifier.prediction.model_file import ModelInfo

# 64 images of 1,024 pixels would take about 13 GB.
MAX_IMAGES, MAX_PIXELS = 64, 64 * 224 * 224
BACKENDS = ("tensorflow", "jax", "torch")
SIDES = (64, 256)  # pixels of the images that the rates below are of
# Seconds to start, and images/s of both sides: float32, 2 cores.
RATES = {
    # An AMD EPYC; Keras was measured before the memory of arrays was kept for it too.
    "avx2": {"numpy": (0.2, 230, 14.7), "keras": (7.8, 171, 14.4)},
    # An Intel Xeon without AMX.
    "avx512": {"numpy": (0.2, 260, 16.5), "keras": (9.2, 252, 21)},
}


def images_a_step(side: int) -> int:
    """Return how many images of `side` pixels, after enlarging, are computed at a time."""
    return max(1, min(MAX_IMAGES, MAX_PIXELS // side**2))


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
    near = side > 128  # which of SIDES
    images = count * (2 if info.mirror else 1) * multiply_adds(side) / multiply_adds(SIDES[near])
    rates = RATES["avx512" if "avx512f" in flags else "avx2"]
    return min(rates, key=lambda name: rates[name][0] + images / rates[name][1 + near])
