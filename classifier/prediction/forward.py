"""The network in NumPy: what a `resnet50` computes, without the seconds that Keras takes to start.

Every BatchNorm is folded into the convolution before it, and every convolution is one matrix
product, or for many images sixteen small ones, in float32.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from classifier import architecture
from classifier.workers import threaded_map

# From RGB pixels 0..255, (N, height, width, 3), to what the head is given, float32 (N, features):
# the mean of each of the last feature maps.
Compute = Callable[[np.ndarray], np.ndarray]

# Makes of a kernel of 3 values the 4 by which sums of 4 pixels are multiplied: two outputs take 4
# multiplications then, not 6. F(2, 3) of Lavin and Gray 2015, arXiv:1509.09308.
WINOGRAD = np.float32([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


class Network:
    """A trained `resnet50` but for its head, which is in verdict.py.

    Args:
        weights: {layer: {"kernel": ...}} as in `architecture.weight_shapes`, float32; the kernels
            are changed in place, for a second copy of them would cost 94 MB.
        enlarge_to: side in pixels to which smaller images are enlarged; 0 for none.
        many: prepare for many images: 3x3 convolutions by `convolved_in_tiles`, from kernels that
            take 0.05 s to make and 80 MB. Images are computed 1.15 times as fast then.
    """

    def __init__(
        self,
        weights: dict[str, dict[str, np.ndarray]],
        enlarge_to: int = 0,
        many: bool = False,
    ):
        self.enlarge_to = enlarge_to
        self.layers = {
            conv: folded(**weights[conv], **weights[norm])
            for conv, norm, _, _ in architecture.convolutions(architecture.MIN_SIZE)
        }
        if many:
            self.layers |= {
                name: (for_tiles(kernel), bias)
                for name, (kernel, bias) in self.layers.items()
                if len(kernel) == 3
            }

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the features, (N, 2048), of RGB pixels 0..255, (N, height, width, 3)."""
        return self.feature_maps(images).mean(axis=(1, 2))

    def feature_maps(self, images: np.ndarray) -> np.ndarray:
        """Return the last feature maps, (N, rows, columns, 2048), for such pixels."""
        x = images.astype(np.float32)
        if self.enlarge_to > max(images.shape[1:3]):
            x = enlarged(x, self.enlarge_to)
        x -= np.float32(architecture.IMAGENET_MEAN)
        x = self._relu(self._convolve(x, "conv1", 2))
        x = max_pooled(padded(x, 1))
        for name, _, stride in architecture.blocks():
            shortcut = self._convolve(x, f"res{name}_branch1", stride) if stride else x
            x = self._relu(self._convolve(x, f"res{name}_branch2a", stride or 1))
            x = self._relu(self._convolve(x, f"res{name}_branch2b"))
            x = self._convolve(x, f"res{name}_branch2c")
            x += shortcut
            x = self._relu(x)
        return x

    def _convolve(self, x, name, stride=1):
        kernel, bias = self.layers[name]
        side = len(kernel)
        if side == 4:
            return convolved_in_tiles(x, kernel, bias)
        if side == 1:
            x = x[:, ::stride, ::stride]
            count, height, width, _ = x.shape
        else:
            x = padded(x, side // 2)
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


def for_tiles(kernel: np.ndarray) -> np.ndarray:
    """Return a (3, 3, channels, filters) kernel as `convolved_in_tiles` takes it: (4, 4, ...)."""
    both = np.kron(WINOGRAD, WINOGRAD) @ kernel.reshape(9, -1)
    return both.reshape(4, 4, *kernel.shape[2:]).swapaxes(0, 1)


def convolved_in_tiles(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolve (N, height, width, channels), zeros around it, with a 3x3 kernel of `for_tiles`.

    Each tile of 2x2 outputs is computed from 4x4 inputs, along the rows and along the columns as
    WINOGRAD has it.
    """
    count, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    x = padded(x, 1, height % 2, width % 2)
    sums = np.empty((4, count, rows, 2 * columns + 2, channels), np.float32)
    _tile_sums([x[:, i : i + 2 * rows - 1 : 2] for i in range(4)], sums)
    tiles = np.empty((4, 4, count, rows, columns, channels), np.float32)
    _tile_sums([sums[:, :, :, i : i + 2 * columns - 1 : 2] for i in range(4)], tiles)
    products = tiles.reshape(4, 4, -1, channels) @ kernel
    products[1, 1] += bias  # which is part of all four outputs
    halves = np.empty((2, *products.shape[1:]), np.float32)
    _outputs(products, *halves)
    y = np.empty((count, rows, 2, columns, 2, len(bias)), np.float32)
    halves = halves.reshape(2, 4, count, rows, columns, -1)
    for column in range(2):
        _outputs(halves[column], y[:, :, 0, :, column], y[:, :, 1, :, column])
    return y.reshape(count, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _tile_sums(x, out):
    """Make of a tile's four rows, or columns, the sums that are multiplied."""
    np.subtract(x[0], x[2], out=out[0])
    np.add(x[1], x[2], out=out[1])
    np.subtract(x[2], x[1], out=out[2])
    np.subtract(x[1], x[3], out=out[3])


def _outputs(products, first, second):
    """Make of the four products the two outputs."""
    np.add(products[0], products[1], out=first)
    first += products[2]
    np.subtract(products[1], products[2], out=second)
    second -= products[3]


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


def padded(images: np.ndarray, margin: int, below: int = 0, right: int = 0) -> np.ndarray:
    """Put a margin of zeros around (N, height, width, channels), some more below and right."""
    count, height, width, channels = images.shape
    shape = (count, height + 2 * margin + below, width + 2 * margin + right, channels)
    x = np.zeros(shape, images.dtype)
    x[:, margin : margin + height, margin : margin + width] = images
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


def of_views(
    compute: Callable, images: np.ndarray, mirror: bool, threads: int = 1
) -> list[np.ndarray]:
    """Return what `compute` makes of images and, with `mirror`, of their mirror images.

    Args:
        compute: takes RGB pixels 0..255, (N, size, size, 3).
        images: such pixels.
        mirror: whether to compute their mirror images too.
        threads: 2 to compute both at a time.
    """
    views = [images, images[:, :, ::-1]] if mirror else [images]
    return list(threaded_map(compute, views, threads))


def averaged(compute: Compute, images: np.ndarray, mirror: bool, threads: int = 1) -> np.ndarray:
    """Return the features of a batch of images, float32 (N, features).

    Args:
        compute: the network.
        images: RGB pixels 0..255, (N, size, size, 3).
        mirror: take the mean of those of the images and of their mirror images; their logits are
            the means of both then, too.
        threads: 2 to compute both at a time.
    """
    return np.mean(of_views(compute, images, mirror, threads), axis=0)
