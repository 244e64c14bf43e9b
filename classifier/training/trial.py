"""How fast a processor trains in bfloat16: a trial of a second, in TensorFlow.

Its flags do not tell. Of two with avx512_bf16 an EPYC trained 111 images/s in bfloat16 and 72 in
float32, a Xeon 33 and 50 in the form that Keras computes (64x64, batch 32, TensorFlow 2.21).
"""

import time

import numpy as np
import tensorflow as tf

from classifier import architecture
from classifier.training.fused import add_bias, batch_norm, convolve

BATCH, SIDE = 32, 16  # of the maps that enter stage 2 where images have 64 pixels
ROUNDS, SECONDS = 5, 1.0


def bfloat16_speed() -> float:
    """Return how many times as fast as float32 bfloat16 is; 0.0 where it cannot be computed.

    A block of each stage is taken forward and back, first in bfloat16, so that starting up is not
    held against float32; of each the least time counts. After ROUNDS it ends, or after SECONDS and
    the block under way. The operations are not traced, which took seconds more: TensorFlow has the
    same kernels for convolutions, products and BatchNorms either way. On 2 cores with AVX2 alone
    the whole network, traced, was 0.15 times as fast in bfloat16; trials found 0.22 to 0.27.
    """
    end = time.perf_counter() + SECONDS
    random = np.random.default_rng(0)
    blocks, side = [], SIDE
    for (a, b, c), count, stride in architecture.STAGES.values():
        side = -(-side // stride)
        x = tf.constant(random.random((BATCH, side, side, c), np.float32))
        weights = [
            (tf.constant(random.random(shape, np.float32) - 0.5), tf.ones(shape[-1]))
            for shape in ((1, 1, c, a), (3, 3, a, b), (1, 1, b, c))
        ]
        blocks.append((count, tf.cast(x, "bfloat16"), x, weights))

    least = np.full((len(blocks), 2), np.inf)
    for number in [*range(len(blocks))] * ROUNDS:
        count, *formats, weights = blocks[number]
        try:
            times = [count * _seconds(x, weights) for x in formats]
        except tf.errors.OpError:
            return 0.0
        least[number] = np.minimum(least[number], times)
        if time.perf_counter() > end:
            break
    bfloat16, float32 = least[np.isfinite(least[:, 0])].sum(axis=0)
    return float(float32 / bfloat16)


def _seconds(x, weights):
    """Take a block forward and back in the format of x; the weights are float32, as in training."""
    began = time.perf_counter()
    with tf.GradientTape() as tape:
        tape.watch((x, weights))
        y = x
        for number, (kernel, vector) in enumerate(weights):  # for bias, scale and offset
            y = convolve(tf.nn.relu(y) if number else y, tf.cast(kernel, x.dtype), 1, "same")
            y, *_ = batch_norm(add_bias(y, tf.cast(vector, x.dtype)), vector, vector, 1e-3)
        y = tf.nn.relu(y + x)
    tape.gradient(y, (x, weights))
    return time.perf_counter() - began
