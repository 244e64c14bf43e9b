"""The network in the form it is trained in: the same variables and outputs, in less time.

Keras computes a BatchNorm in about ten passes over its input, and oneDNN the filter gradient of
small feature maps image by image. Images/s at batch 32, bfloat16, on 2 cores of a Xeon with AMX
(TensorFlow 2.21), before and after:

                                                      64x64   192x192
    as Keras computes it                                 66        10
    BatchNorm in one kernel                              92        20
    and small maps by matrix products                   134
    BatchNorms frozen and folded into convolutions                 38

In float32 at 64x64, on a Xeon without AMX, the first two took TensorFlow 2.21 from 47 to 76,
PyTorch 2.13 from 37 to 48, and JAX 0.10, whose 1x1 convolutions are slow on a processor whatever
their size, from 13 to 46 (`make reach`).
"""

import keras
import numpy as np
from keras import layers, ops

from classifier import architecture
from classifier.prediction.forward import Compute
from classifier.training.precision import gpus

# Side in pixels of the largest output that a convolution of this size computes as a matrix product,
# on a processor; 3x3 ones at most 2. (For a GPU, XLA took 208 s to compile them, instead of 114.)
PRODUCT_SIDE = {
    "tensorflow": {1: 12, 3: 2},
    "jax": {1: 1024, 3: 2},
    "torch": {1: 12, 3: 2},
}


def fuse(
    model: keras.Model,
    batch_size: int,
    norm: str = "batch",
    freeze_stages: int = 0,
    side: int | None = None,
) -> keras.Model:
    """Build the form of a `resnet50` to be trained; training it trains the model.

    Args:
        model: `resnet50`.
        batch_size: of every training batch; others are for evaluation only.
        norm: "batch", BatchNorms as usual, or "frozen": at the statistics, scale and shift they
            have, which makes each a constant that is folded into the convolution before it.
        freeze_stages: number of first stages whose variables stay as they are, BatchNorms and all;
            conv1 is stage 1.
        side: of the images that it is for, pixels; None for those of the model.

    Returns:
        keras.Model of the same outputs, made of the same variables. Which of them are
        trainable is set in both.
    """
    by_name = {layer.name: layer for layer in model.layers}
    table = architecture.convolutions(architecture.MIN_SIZE)
    norm_of = {conv: norm_name for conv, norm_name, _, _ in table}
    conv_of = {norm_name: conv for conv, norm_name in norm_of.items()}

    def constant(conv_name):
        return norm == "frozen" or stage(conv_name) <= freeze_stages

    def replace(layer):
        name = layer.name
        if isinstance(layer, layers.Conv2D):
            after = by_name[norm_of[name]]
            layer.trainable = stage(name) > freeze_stages
            after.trainable = not constant(name)
            folded = after if constant(name) else None
            return Convolution(layer, folded, use_bias=constant(name), name=name)
        if isinstance(layer, layers.BatchNormalization):
            conv = conv_of[name]
            if not constant(conv):
                return FusedBatchNorm(layer, by_name[conv], name=name)
        # Dropout has no weights but a random state, which belongs to the model as these do.
        return layer if layer.variables else type(layer).from_config(layer.get_config())

    first = model.layers[1].name

    def call(layer, x, *_, **__):
        if layer.name == first:
            x = FixedBatch(batch_size, name="fixed_batch")(x)
        norms = isinstance(layer, layers.BatchNormalization)
        return x if norms and constant(conv_of[layer.name]) else layer(x)

    inputs = keras.Input((side, side, 3), name="image") if side else None
    return keras.models.clone_model(model, inputs, clone_function=replace, call_function=call)


def features_of(model: keras.Model, batch_size: int) -> Compute:
    """Return what computes the features of a `resnet50` in its fused form, for its head.

    Args:
        model: `resnet50`.
        batch_size: as in `fuse`.
    """
    fused = fuse(model, batch_size, "frozen")
    features = keras.Model(fused.input, fused.get_layer("avg_pool").output)
    return lambda images: np.asarray(features.predict_on_batch(images), np.float32)


def stage(name: str) -> int:
    """Return the stage that a convolution belongs to: conv1 -> 1, res3b_branch2a -> 3."""
    return 1 if name == "conv1" else int(name[3])


class FixedBatch(keras.layers.Layer):
    """Tell TensorFlow the size of training batches: 38 images/s instead of 32 (192x192, frozen)."""

    def __init__(self, batch_size: int, **options):
        super().__init__(dtype="uint8", autocast=False, **options)
        self.batch_size = batch_size

    def call(self, x, training=False):
        return ops.reshape(x, (self.batch_size, *x.shape[1:])) if training else x

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "batch_size": self.batch_size}


class Convolution(keras.layers.Layer):
    """A Conv2D, followed by a frozen BatchNorm where `norm` is given.

    Args:
        conv: the Conv2D whose variables it uses, with square kernel, and bias.
        norm: BatchNormalization to be folded in, or None.
        use_bias: False where a FusedBatchNorm follows, which knows what to do with it.
    """

    def __init__(
        self,
        conv: layers.Conv2D,
        norm: layers.BatchNormalization | None = None,
        use_bias: bool = True,
        **options,
    ):
        super().__init__(dtype=conv.dtype_policy, **options)
        self.trainable = conv.trainable  # before the two are its own, whose state Keras would set
        self.conv, self.norm, self.use_bias = conv, norm, use_bias

    def call(self, x):
        kernel, bias = self.conv.kernel, self.conv.bias
        if self.norm is not None:
            scale = self.norm.gamma * ops.rsqrt(self.norm.moving_variance + self.norm.epsilon)
            kernel = kernel * ops.cast(scale, kernel.dtype)
            bias = (ops.cast(bias, scale.dtype) - self.norm.moving_mean) * scale + self.norm.beta
        y = convolve(x, kernel, self.conv.strides[0], self.conv.padding)
        return add_bias(y, ops.cast(bias, y.dtype)) if self.use_bias else y

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def get_config(self):
        return {**super().get_config(), "conv": self.conv.name}  # for TensorBoard's graph


def convolve(
    x: keras.KerasTensor, kernel: keras.KerasTensor, stride: int, padding: str
) -> keras.KerasTensor:
    """Convolve (N, H, W, C) with (k, k, C, filters); small feature maps by a matrix product."""
    size, side = kernel.shape[0], -(-max(x.shape[1:3]) // stride)
    small = side <= PRODUCT_SIDE[keras.backend.backend()].get(size, 0) and padding == "same"
    if not small or gpus():
        return ops.conv(x, kernel, strides=stride, padding=padding)
    if stride > 1:  # as x[:, ::stride, ::stride] is, whose gradient took five times as long
        x = ops.average_pool(x, 1, stride)
    height, width, channels = x.shape[1:]
    if size == 1:
        y = ops.matmul(ops.reshape(x, (-1, channels)), ops.reshape(kernel, (channels, -1)))
        return ops.reshape(y, (-1, height, width, kernel.shape[-1]))
    # Of a 3x3 kernel each pixel of so small a map takes other parts, and none of the zeros around:
    # at 2x2 the 4 times 4 pixels take 16 products, of 36 with those zeros.
    rows, columns = (np.eye(3)[1 + np.arange(n) - np.arange(n)[:, None]] for n in (height, width))
    parts = np.einsum("aip,bjq->abijpq", rows, columns).reshape(-1, size * size)
    kernels = ops.matmul(ops.cast(parts, kernel.dtype), ops.reshape(kernel, (size * size, -1)))
    pixels = height * width
    y = ops.matmul(
        ops.reshape(x, (1, -1, pixels * channels)),
        ops.reshape(kernels, (pixels, pixels * channels, kernel.shape[-1])),
    )
    return ops.reshape(ops.transpose(y, (1, 0, 2)), (-1, height, width, kernel.shape[-1]))


def add_bias(x: keras.KerasTensor, bias: keras.KerasTensor) -> keras.KerasTensor:
    """Add (C,) to (N, H, W, C); in TensorFlow in a form it computes along with the convolution."""
    if keras.backend.backend() != "tensorflow":
        return x + bias
    import tensorflow as tf

    return tf.nn.bias_add(x, bias)


def batch_norm(
    x: keras.KerasTensor, scale: keras.KerasTensor, offset: keras.KerasTensor, epsilon: float
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
    """Return (N, H, W, C) normalised, its mean and variance, by one kernel where there is one.

    On several devices they are those of the whole batch.
    """
    synchronized = False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if keras.backend.backend() == "tensorflow" and not synchronized:
        y, mean, variance = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
        )[:3]
        count = tf.cast(tf.size(x) // x.shape[-1], variance.dtype)
        return y, mean, variance * ((count - 1) / count)  # it returns the unbiased one
    if keras.backend.backend() == "torch":
        import torch

        y, mean, inverse = torch.native_batch_norm(
            x.permute(0, 3, 1, 2), scale, offset, None, None, True, 0.0, epsilon
        )
        return y.permute(0, 2, 3, 1), mean, ops.relu(inverse**-2 - epsilon)
    wide = ops.cast(x, "float32")  # XLA makes one kernel of it
    mean, variance = ops.moments(wide, (0, 1, 2), synchronized=synchronized)
    y = ops.batch_normalization(wide, mean, variance, -1, offset, scale, epsilon)
    return ops.cast(y, x.dtype), mean, variance


class FusedBatchNorm(keras.layers.Layer):
    """A convolution's bias and a BatchNormalization, computed in one kernel.

    A batch's mean is taken off, and the bias with it: in training it counts in the moving mean
    alone.

    Args:
        norm: the BatchNormalization whose variables it uses.
        conv: the Conv2D before it, for its bias.
    """

    def __init__(self, norm: layers.BatchNormalization, conv: layers.Conv2D, **options):
        super().__init__(dtype=norm.dtype_policy, **options)
        self.norm, self.conv = norm, conv
        self.trainable = norm.trainable

    def call(self, x, training=False):
        norm, bias = self.norm, self.conv.bias
        if not (training and self.trainable):
            return norm(add_bias(x, ops.cast(bias, x.dtype)), training=False)
        bias = ops.cast(bias, norm.beta.dtype)
        offset = norm.beta + 0 * bias  # its gradient is 0, and no warning that it has none
        y, mean, variance = batch_norm(x, norm.gamma, offset, norm.epsilon)
        for moving, value in ((norm.moving_mean, mean + bias), (norm.moving_variance, variance)):
            moving.assign(moving * norm.momentum + value * (1 - norm.momentum))
        return y

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "norm": self.norm.name}  # for TensorBoard's graph
