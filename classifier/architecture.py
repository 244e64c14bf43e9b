"""ResNet-50 as data: what the network in Keras and the one in NumPy are both made from."""

from collections.abc import Iterator

# Stage: filters of a block's three convolutions, blocks, stride of the first block.
STAGES = {
    2: ((64, 64, 256), 3, 1),
    3: ((128, 128, 512), 4, 2),
    4: ((256, 256, 1024), 6, 2),
    5: ((512, 512, 2048), 3, 2),
}
# Mean of ImageNet's pixels, RGB on 0..255: what Keras' ResNet-50 weights were trained with.
IMAGENET_MEAN = (123.68, 116.779, 103.939)
# The epsilon of Keras' ResNet-50 weights; with the default 1e-3 their outputs differ.
BN_EPSILON = 1.001e-5
MIN_SIZE = 32  # pixels: what stage 5 leaves of it is 1x1
MAX_CLASSES = 100_000  # whose weights take 0.8 GB


def blocks() -> Iterator[tuple[str, tuple[int, int, int], int]]:
    """Yield each residual block, in order: name, filters, stride.

    Its name is stage and letter, "2a". The stride is 0 for an identity block, whose shortcut is the
    input itself.
    """
    for stage, (filters, count, stride) in STAGES.items():
        for number in range(count):
            yield f"{stage}{'abcdef'[number]}", filters, 0 if number else stride


def convolutions(side: int) -> Iterator[tuple[str, str, tuple[int, int, int, int], int]]:
    """Yield each convolution of a network for images of `side` pixels.

    Yields:
        its name, its BatchNorm's, the shape of its kernel (height, width, channels, filters), and
        the side of what comes out of it, in pixels.
    """
    side = _halved(side)
    yield "conv1", "bn_conv1", (7, 7, 3, 64), side
    side, channels = _halved(side), 64  # pool1
    for name, (inner, middle, outer), stride in blocks():
        if stride:
            side = -(-side // stride)
            yield f"res{name}_branch1", f"bn{name}_branch1", (1, 1, channels, outer), side
        yield f"res{name}_branch2a", f"bn{name}_branch2a", (1, 1, channels, inner), side
        yield f"res{name}_branch2b", f"bn{name}_branch2b", (3, 3, inner, middle), side
        yield f"res{name}_branch2c", f"bn{name}_branch2c", (1, 1, middle, outer), side
        channels = outer


def _halved(side):
    return (side + 1) // 2


def weight_shapes(classes: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of all weights, {layer: {"kernel": (7, 7, 3, 64), "bias": (64,)}, ...}.

    A layer's weights stand in Keras' order.
    """
    shapes = {}
    for conv, norm, kernel, _ in convolutions(MIN_SIZE):
        filters = kernel[-1:]
        shapes[conv] = {"kernel": kernel, "bias": filters}
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        shapes[norm] = dict.fromkeys(names, filters)
    shapes[f"fc{classes}"] = {"kernel": (*filters, classes), "bias": (classes,)}
    return shapes


def multiply_adds(side: int) -> int:
    """Return the multiply-adds of all convolutions for one image of `side` pixels."""
    return sum(
        height * width * channels * filters * out**2
        for _, _, (height, width, channels, filters), out in convolutions(side)
    )
