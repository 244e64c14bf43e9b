"""The network in NumPy: what a `resnet50` computes, without the seconds that Keras takes to start.

Every BatchNorm is folded into the convolution before it, and every convolution is one matrix
product, in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from classifier import architecture
from classifier.workers import threaded_map

Predict = Callable[[np.ndarray], np.ndarray]  # from images to probabilities


class Outputs(NamedTuple):
    """What the network makes of N images, as float32 arrays.

    Attributes:
        probabilities: (N, classes).
        logits: (N, classes), what the probabilities are the softmax of.
        features: (N, height, width, 2048), the last feature map, whose mean the head is given.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    features: np.ndarray


class Network:
    """A trained `resnet50`.

    Args:
        weights: {layer: {"kernel": ...}} as in `architecture.weight_shapes`, float32; the kernels
            are changed in place, for a second copy of them would cost 94 MB.
        enlarge_to: side in pixels to which smaller images are enlarged; 0 for none.
    """

    def __init__(self, weights: dict[str, dict[str, np.ndarray]], enlarge_to: int = 0):
        self.enlarge_to = enlarge_to
        *_, self.head = weights.values()
        self.layers = {
            conv: folded(**weights[conv], **weights[norm])
            for conv, norm, _, _ in architecture.convolutions(architecture.MIN_SIZE)
        }

    def __call__(self, images: np.ndarray) -> Outputs:
        """Compute the network for RGB pixels 0..255, (N, height, width, 3)."""
        x = images.astype(np.float32)
        if self.enlarge_to > max(images.shape[1:3]):
            x = enlarged(x, self.enlarge_to)
        x -= np.float32(architecture.IMAGENET_MEAN)
        x = self._relu(self._convolve(padded(x, 3), "conv1", 2))
        x = max_pooled(padded(x, 1))
        for name, _, stride in architecture.blocks():
            shortcut = self._convolve(x, f"res{name}_branch1", stride) if stride else x
            x = self._relu(self._convolve(x, f"res{name}_branch2a", stride or 1))
            x = self._relu(self._convolve(padded(x, 1), f"res{name}_branch2b"))
            x = self._convolve(x, f"res{name}_branch2c")
            x += shortcut
            x = self._relu(x)
        logits = x.mean(axis=(1, 2)) @ self.head["kernel"] + self.head["bias"]
        return Outputs(softmax(logits), logits, x)

    def _convolve(self, x, name, stride=1):
        kernel, bias = self.layers[name]
        side = kernel.shape[0]
        if side == 1:
            x = x[:, ::stride, ::stride]
            count, height, width, _ = x.shape
        else:
            x = sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]
            count, height, width, *_ = x.shape
            x = x.transpose(0, 1, 2, 4, 5, 3)  # the channels last, as in the kernel
        y = x.reshape(count * height * width, -1) @ kernel.reshape(-1, len(bias))
        y += bias
        return y.reshape(count, height, width, -1)

    @staticmethod
    def _relu(x):
        return np.maximum(x, 0, out=x)


def folded(kernel, bias, gamma, beta, moving_mean, moving_variance):
    """Return the kernel and bias of a convolution followed by a BatchNorm, the kernel in place."""
    scale = gamma / np.sqrt(moving_variance + np.float32(architecture.BN_EPSILON))
    kernel *= scale
    return kernel, (bias - moving_mean) * scale + beta


def enlarged(images: np.ndarray, side: int) -> np.ndarray:
    """Enlarge (N, height, width, channels) to a square of `side`, bilinear, as Keras' Resizing."""
    rows, columns = (_interpolation(size, side) for size in images.shape[1:3])
    count, _, width, channels = images.shape
    x = rows @ images.reshape(count, -1, width * channels)
    return columns @ x.reshape(count, side, width, channels)


def _interpolation(size, side):
    """Return the (side, size) matrix that takes pixels at `size` points to `side` points."""
    place = ((np.arange(side) + 0.5) * (size / side) - 0.5).clip(0, size - 1)
    return np.maximum(0, 1 - abs(place[:, None] - np.arange(size))).astype(np.float32)


def padded(images: np.ndarray, margin: int) -> np.ndarray:
    """Put a margin of zeros around (N, height, width, channels)."""
    count, height, width, channels = images.shape
    x = np.zeros((count, height + 2 * margin, width + 2 * margin, channels), images.dtype)
    x[:, margin:-margin, margin:-margin] = images
    return x


def max_pooled(x: np.ndarray) -> np.ndarray:
    """Take the maximum of 3x3 windows, two pixels apart, of (N, height, width, channels)."""
    rows, columns = ((size - 3) // 2 * 2 + 1 for size in x.shape[1:3])  # from first to last start
    x = np.maximum.reduce([x[:, i : i + rows : 2] for i in range(3)])
    return np.maximum.reduce([x[:, :, i : i + columns : 2] for i in range(3)])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits (N, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def probabilities(
    predict: Predict, images: np.ndarray, mirror: bool, threads: int = 1
) -> np.ndarray:
    """Return a network's probabilities for a batch of images.

    Args:
        predict: the network, from images to probabilities.
        images: RGB pixels 0..255, (N, size, size, 3).
        mirror: take the mean of those for the images and for their mirror images.
        threads: 2 to compute both at a time.

    Returns:
        float32 array (N, classes).
    """
    views = [images, images[:, :, ::-1]] if mirror else [images]
    return np.mean(list(threaded_map(predict, views, threads)), axis=0)
