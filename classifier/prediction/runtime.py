"""Which of two runtimes names images sooner: NumPy starts at once, Keras may compute faster.

And how many images each of them is given at a time.
"""

from collections.abc import Collection

from classifier import backend
from classifier.architecture import multiply_adds
from classifier.prediction.model_file import ModelInfo

# 64 images of 1,024 pixels would take about 13 GB.
MAX_IMAGES, MAX_PIXELS = 64, 64 * 224 * 224
# 16 images of 64x64 a thread, one of 256x256: larger batches are 2% faster, and want more memory.
PIXELS_A_THREAD = 16 * 64 * 64
SIDES = (64, 256)  # pixels of the images that the rates below are of
# Seconds to start, and images/s of both sides: float32, 2 cores.
RATES = {
    # An AMD EPYC; Keras was measured before the memory of arrays was kept for it too.
    "avx2": {"numpy": (0.2, 230, 14.7), "keras": (7.8, 171, 14.4)},
    # An Intel Xeon without AMX.
    "avx512": {"numpy": (0.2, 260, 16.5), "keras": (9.2, 252, 21)},
}


def images_a_step(side: int) -> int:
    """Return how many images of `side` pixels, after enlarging, Keras computes at a time."""
    return max(1, min(MAX_IMAGES, MAX_PIXELS // side**2))


def images_a_thread(side: int) -> int:
    """Return how many images of `side` pixels, after enlarging, NumPy computes at a time."""
    return max(1, PIXELS_A_THREAD // side**2)


def quicker(info: ModelInfo, count: int, flags: Collection[str]) -> str:
    """Return "numpy" or "keras": what names this many images sooner, in float32.

    Args:
        info: of the model.
        count: number of images.
        flags: of the processor, as `processor.cpu_flags` returns them.
    """
    if backend.lacking() or backend.chosen() != "tensorflow":  # the rates are TensorFlow's
        return "numpy"
    near = info.side > 128  # which of SIDES
    work = multiply_adds(info.side) / multiply_adds(SIDES[near])
    images = count * (2 if info.mirror else 1) * work
    rates = RATES["avx512" if "avx512f" in flags else "avx2"]
    return min(rates, key=lambda name: rates[name][0] + images / rates[name][1 + near])
