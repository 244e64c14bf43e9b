import contextlib

import keras
import numpy as np
import pytest
from keras import ops
from small import small_network

from classifier.training.fused import batch_norm, convolve, fuse
from resnet50 import resnet50

pytestmark = pytest.mark.usefixtures("eager")

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
LABELS = np.eye(3)[[0, 1, 2, 0]]


def network(whole=False):
    """A network whose BatchNorms and biases are not at their first values; small, or the whole."""
    keras.utils.set_random_seed(0)
    with contextlib.nullcontext() if whole else small_network():
        model = resnet50((64, 64, 3), 3, dropout=0.0)
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    random.uniform(0.5, 1.0, gamma.shape),
                    random.normal(0, 0.1, beta.shape),
                    random.normal(0, 0.1, mean.shape),
                    random.uniform(0.5, 2.0, variance.shape),
                ]
            )
        elif layer.weights:
            layer.bias.assign(random.normal(0, 0.1, layer.bias.shape))
    return model


def test_the_outputs_are_the_models():
    model = network(whole=True)
    wanted = model.predict_on_batch(IMAGES)
    for norm, freeze_stages in (("batch", 0), ("frozen", 0), ("batch", 3)):
        outputs = fuse(model, 4, norm, freeze_stages).predict_on_batch(IMAGES)
        np.testing.assert_allclose(outputs, wanted, atol=1e-5, err_msg=f"{norm} {freeze_stages}")


def after_a_step(model, trained):
    trained.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.CategoricalCrossentropy(),
    )
    loss = trained.train_on_batch(IMAGES, LABELS)
    return loss, {w.path: w.numpy() for layer in model.layers for w in layer.weights}


def test_a_step_with_batch_statistics_is_kerass_own():
    plain, other = network(), network()
    loss, wanted = after_a_step(plain, plain)
    form_loss, got = after_a_step(other, fuse(other, 4))
    assert form_loss == pytest.approx(loss, rel=1e-4)
    before = {w.path: w.numpy() for layer in network().layers for w in layer.weights}
    for name, value in wanted.items():
        change = np.linalg.norm(value - before[name])
        assert np.linalg.norm(got[name] - value) <= 0.1 * change + 1e-3, name
        if "moving" in name:
            np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
        if "res" in name and name.endswith("bias"):  # a BatchNorm follows
            np.testing.assert_array_equal(got[name], before[name], err_msg=name)


def test_a_step_with_frozen_norms_is_that_of_keras_with_untrainable_ones():
    plain, other = network(), network()
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    loss, wanted = after_a_step(plain, plain)
    form_loss, got = after_a_step(other, fuse(other, 4, "frozen"))
    assert form_loss == pytest.approx(loss, rel=1e-4)
    before = {w.path: w.numpy() for layer in network().layers for w in layer.weights}
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
        if name.startswith("bn"):
            np.testing.assert_array_equal(got[name], before[name], err_msg=name)


def test_frozen_stages_stay_and_the_others_take_kerass_step():
    plain, model = network(), network()
    before = {w.path: w.numpy() for layer in model.layers for w in layer.weights}
    frozen = [
        layer for layer in plain.layers if layer.name.endswith("conv1") or "2a_" in layer.name
    ]
    for layer in frozen:
        layer.trainable = False
    loss, wanted = after_a_step(plain, plain)
    form = fuse(model, 4, "batch", freeze_stages=3)
    assert [layer.name[2] for layer in form.layers if layer.name.startswith("bn")] == 7 * ["5"]
    form_loss, after = after_a_step(model, form)
    assert form_loss == pytest.approx(loss, rel=1e-4)
    stay = {weight.path for layer in frozen for weight in layer.weights}
    assert any("moving" in path for path in stay)
    for path, value in after.items():
        if path in stay:
            np.testing.assert_array_equal(value, before[path], err_msg=path)
        else:
            change = np.linalg.norm(wanted[path] - before[path])
            assert np.linalg.norm(value - wanted[path]) <= 0.1 * change + 1e-3, path
            followed = "res" in path and path.endswith("bias")  # by a BatchNorm
            assert (value != before[path]).any() != followed, path


@pytest.mark.parametrize(
    ("dtype", "rounding"), [("float32", 1e-4), ("float16", 1e-2), ("bfloat16", 0.1)]
)
def test_batches_are_normalised_and_their_statistics_have_float32s_precision(dtype, rounding):
    x = RANDOM.normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
    x[..., 0] = 1.5  # a channel of no variance
    x = ops.cast(x, dtype)
    scale, offset = (RANDOM.uniform(0.5, 1.5, 7).astype(np.float32) for _ in range(2))
    y, *moments = batch_norm(x, *map(ops.convert_to_tensor, (scale, offset)), 1e-5)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    x, y, mean, variance = (ops.convert_to_numpy(ops.cast(z, "float32")) for z in (x, y, *moments))
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1, 2)), rtol=1e-5, atol=1e-9)
    assert (variance >= 0).all()
    wanted = (x - mean) / np.sqrt(variance + 1e-5) * scale + offset
    np.testing.assert_allclose(y, wanted, atol=rounding)


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding"),
    [(2, 3, 1, "same"), (1, 3, 1, "same"), (8, 1, 1, "same"), (7, 1, 2, "same"), (9, 3, 1, "same")],
)
def test_matrix_products_are_convolutions(side, size, stride, padding):
    x = RANDOM.normal(size=(2, side, max(1, side - 1), 5)).astype(np.float32)
    kernel = RANDOM.normal(size=(size, size, 5, 7)).astype(np.float32)
    wanted = ops.conv(x, kernel, strides=stride, padding=padding)
    got = convolve(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel), stride, padding)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_the_random_states_of_dropout_are_the_networks_own():
    with small_network():
        model = resnet50((64, 64, 3), 3, dropout=0.5)
    form = fuse(model, 4)
    states = [
        [layer.seed_generator.state for layer in one.layers if "drop" in layer.name]
        for one in (model, form)
    ]
    assert len(states[0]) == 2 * 3 + 1
    assert all(one is other for one, other in zip(*states, strict=True))
