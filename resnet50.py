"""ResNet-50: the identity and convolutional blocks, and the network made of them.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015 (arXiv:1512.03385), in the
layout of Keras' ResNet-50 v1 (biases in the convolutions, stride in a stage's first 1x1 one) with
Dropout inside the blocks. Its stages stand in classifier/architecture.py. Only Keras is used, so it
runs on each of its backends.
"""

import keras
from keras import layers

from classifier.architecture import BN_EPSILON, IMAGENET_MEAN, MIN_SIZE, blocks

# Keras' default of 0.99 lags 100 steps behind weights that still move fast: after the first epoch
# from scratch it gave a val loss of 412, with a train loss of 4.5.
BN_MOMENTUM = 0.9


def resnet50(
    input_shape: tuple[int, int, int] = (64, 64, 3),
    classes: int = 101,
    dropout: float = 0.5,
    zero_init: bool = False,
    enlarge_to: int = 0,
) -> keras.Model:
    """Build the network.

    Args:
        input_shape: (height, width, 3), each side at least 32 pixels.
        classes: number of classes, at least 2.
        dropout: rate inside the blocks and before the head; 0 for none.
        zero_init: initialise the scale of each block's last BatchNorm to 0, so that every block
            starts as its shortcut alone (Goyal et al. 2017, arXiv:1706.02677); the original starts
            with 1.
        enlarge_to: side in pixels to which smaller pictures are enlarged inside the graph, so that
            filters learned on large objects fit; 0 for none.

    Returns:
        keras.Model from RGB pixels 0..255, (N, height, width, 3), to float32 probabilities,
        (N, classes). Pixels are scaled inside the graph.

    Raises:
        ValueError: a side below 32 pixels, or fewer than 2 classes.
    """
    if min(input_shape[:2]) < MIN_SIZE:
        raise ValueError(f"ResNet-50 needs images of {MIN_SIZE} pixels or more, not {input_shape}")
    if classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes, not {classes}")

    inputs = keras.Input(input_shape, name="image")
    x = inputs
    if enlarge_to > max(input_shape[:2]):
        x = layers.Resizing(enlarge_to, enlarge_to, "bilinear", dtype="float32", name="enlarge")(x)
    x = layers.Rescaling(1.0, [-mean for mean in IMAGENET_MEAN], name="subtract_mean")(x)
    x = layers.ZeroPadding2D(3, name="pad_conv1")(x)
    x = layers.Conv2D(64, 7, strides=2, kernel_initializer="glorot_normal", name="conv1")(x)
    x = _batch_norm("bn_conv1")(x)
    x = layers.ReLU(name="relu_conv1")(x)
    x = layers.ZeroPadding2D(1, name="pad_pool1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)

    for name, filters, stride in blocks():
        if stride:
            x = convolutional_block(x, filters, name, stride, dropout, zero_init)
        else:
            x = identity_block(x, filters, name, dropout, zero_init)

    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="drop_fc")(x)
    x = layers.Dense(classes, kernel_initializer="glorot_normal", name=f"fc{classes}")(x)
    # Probabilities need float32's precision, whatever the rest is computed in.
    outputs = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="resnet50")


def identity_block(
    x: keras.KerasTensor,
    filters: tuple[int, int, int],
    name: str,
    dropout: float = 0.5,
    zero_init: bool = False,
) -> keras.KerasTensor:
    """Add a block whose shortcut is the input itself.

    Args:
        x: Keras tensor (N, height, width, filters[2]).
        filters: filters of the 1x1, 3x3 and 1x1 convolutions.
        name: stage and block, such as "2b"; layers are named res2b_branch2a, bn2b_branch2a ...
        dropout: rate after the first two activations; 0 for none.
        zero_init: initialise the last BatchNorm's scale to 0.

    Returns:
        Keras tensor of the same shape.
    """
    shortcut = x

    x = _conv(filters[0], 1, f"res{name}_branch2a")(x)
    x = _batch_norm(f"bn{name}_branch2a")(x)
    x = layers.ReLU(name=f"relu{name}_branch2a")(x)
    if dropout:
        x = layers.Dropout(dropout, name=f"drop{name}_branch2a")(x)

    x = _conv(filters[1], 3, f"res{name}_branch2b")(x)
    x = _batch_norm(f"bn{name}_branch2b")(x)
    x = layers.ReLU(name=f"relu{name}_branch2b")(x)
    if dropout:
        x = layers.Dropout(dropout, name=f"drop{name}_branch2b")(x)

    x = _conv(filters[2], 1, f"res{name}_branch2c")(x)
    x = _batch_norm(f"bn{name}_branch2c", zero_init)(x)

    x = layers.Add(name=f"add{name}")([x, shortcut])
    return layers.ReLU(name=f"relu{name}")(x)


def convolutional_block(
    x: keras.KerasTensor,
    filters: tuple[int, int, int],
    name: str,
    stride: int = 2,
    dropout: float = 0.5,
    zero_init: bool = False,
) -> keras.KerasTensor:
    """Add a block that changes the shape, with a 1x1 convolution in its shortcut.

    Args:
        x: Keras tensor (N, height, width, channels).
        filters: filters of the 1x1, 3x3 and 1x1 convolutions.
        name: stage and block, such as "2a".
        stride: of the first convolution and of the shortcut.
        dropout: rate after the first two activations; 0 for none.
        zero_init: initialise the last BatchNorm's scale to 0.

    Returns:
        Keras tensor (N, ceil(height / stride), ceil(width / stride), filters[2]).
    """
    shortcut = _conv(filters[2], 1, f"res{name}_branch1", stride)(x)
    shortcut = _batch_norm(f"bn{name}_branch1")(shortcut)

    x = _conv(filters[0], 1, f"res{name}_branch2a", stride)(x)
    x = _batch_norm(f"bn{name}_branch2a")(x)
    x = layers.ReLU(name=f"relu{name}_branch2a")(x)
    if dropout:
        x = layers.Dropout(dropout, name=f"drop{name}_branch2a")(x)

    x = _conv(filters[1], 3, f"res{name}_branch2b")(x)
    x = _batch_norm(f"bn{name}_branch2b")(x)
    x = layers.ReLU(name=f"relu{name}_branch2b")(x)
    if dropout:
        x = layers.Dropout(dropout, name=f"drop{name}_branch2b")(x)

    x = _conv(filters[2], 1, f"res{name}_branch2c")(x)
    x = _batch_norm(f"bn{name}_branch2c", zero_init)(x)

    x = layers.Add(name=f"add{name}")([x, shortcut])
    return layers.ReLU(name=f"relu{name}")(x)


def _conv(filters, size, name, stride=1):
    return layers.Conv2D(
        filters, size, stride, "same", kernel_initializer="glorot_normal", name=name
    )


def _batch_norm(name, zero_init=False):
    return layers.BatchNormalization(
        momentum=BN_MOMENTUM,
        epsilon=BN_EPSILON,
        gamma_initializer="zeros" if zero_init else "ones",
        name=name,
    )


if __name__ == "__main__":
    resnet50().summary()
