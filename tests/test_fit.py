"""How a network is trained: traced once, and one line where the memory does not suffice."""

import errno
import sys
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
from small import small_network

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training import fit as training
from classifier.training.batches import Batches
from classifier.training.fit import compiled, fit
from classifier.training.optimizer import make_optimizer
from classifier.training.recipes import RECIPES, Recipe
from classifier.training.run import Run
from resnet50 import resnet50

ARGUMENTS = {**asdict(Recipe()), "recipe": "scratch", "seed": 0, "batch_size": 8, "patience": 0}


@pytest.fixture
def network():
    with small_network():
        return resnet50((32, 32, 3), 3, dropout=0.5)


@pytest.fixture(params=["float32", "mixed_float16"])
def policy(request):
    """A number format; in float16 Keras puts a second optimizer around the first."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def test_the_step_is_traced_once_and_the_rate_falls_to_0_at_the_last(policy, network, monkeypatch):
    traced = []
    step = keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda *words: traced.append(1) or step(*words))
    recipe = replace(RECIPES["scratch"], warmup=0.0)
    model = compiled(network, recipe, batch_size=2, optimizer=make_optimizer(recipe, steps=2))
    images = np.zeros((4, 32, 32, 3), np.uint8)
    model.fit(images, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], batch_size=2, verbose=0)
    assert len(traced) == (2 if keras.backend.backend() == "torch" else 1)  # it traces none
    if policy == "float32":  # in float16 Keras leaves steps out until it has found a loss scale
        assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_forms_for_other_sides_have_the_same_variables_and_optimizer(policy):
    with small_network():
        network = resnet50((48, 48, 3), 3, dropout=0.5)
    full = compiled(network, Recipe(), 2, make_optimizer(Recipe(), 4))
    state = list(full.optimizer.variables)
    less = compiled(network, Recipe(), 2, full.optimizer, side=32)
    assert less.input_shape == (None, 32, 32, 3)
    assert all(a is b for a, b in zip(less.optimizer.variables, state, strict=True))
    for kind in ("variables", "trainable_variables"):
        one, other = getattr(full, kind), getattr(less, kind)
        assert all(a is b for a, b in zip(one, other, strict=True))
    assert less.optimizer is full.optimizer
    if policy == "float32":  # in float16 Keras leaves steps out until it has found a loss scale
        for size, model in ((32, less), (48, full)):
            images = np.zeros((2, size, size, 3), np.uint8)
            model.fit(images, np.eye(3, dtype=np.float32)[:2], batch_size=2, verbose=0)
        assert int(full.optimizer.iterations) == 2


@pytest.mark.usefixtures("eager")
def test_images_that_the_network_enlarges_are_never_smaller(larger_arrays, tmp_path, capsys):
    recipe = replace(Recipe(), num_epochs=2, enlarge_to=64)
    run = Run({**ARGUMENTS, "num_epochs": 2, "batch_size": 48}, "print")
    with small_network(), Arrays(larger_arrays) as arrays:
        fit(resnet50((48, 48, 3), 3, 0, enlarge_to=64), arrays, recipe, run, tmp_path)
    told = capsys.readouterr().out
    assert "images of" not in told
    assert "Epoch 2/2" in told


@pytest.mark.usefixtures("eager")
def test_val_is_judged_at_the_arrays_own_size_whatever_an_epochs_is(
    larger_arrays, tmp_path, monkeypatch, capsys
):
    seen = []
    read = Batches.__getitem__

    def watched(batches, index):
        images, labels = read(batches, index)
        seen.append((batches.split, images.shape[1]))
        return images, labels

    monkeypatch.setattr(Batches, "__getitem__", watched)
    recipe = replace(Recipe(), num_epochs=3)
    run = Run({**ARGUMENTS, "num_epochs": 3, "batch_size": 48}, "print")
    with small_network(), Arrays(larger_arrays) as arrays:
        network = resnet50((48, 48, 3), 3, dropout=0)
        fit(network, arrays, recipe, run, tmp_path)
        val = compiled(network, recipe, 48, "sgd").evaluate(
            Batches(arrays, "val", 48), return_dict=True, verbose=0
        )
    assert [side for split, side in dict.fromkeys(seen) if split == "train"] == [32, 36, 48]
    assert {side for split, side in seen if split == "val"} == {48}
    told = capsys.readouterr().out
    assert "images of 36 pixels from epoch 2 on\nEpoch 2/3\n" in told
    assert len(run.history["val_loss"]) == 3
    assert run.history["val_loss"][-1] == pytest.approx(val["loss"], rel=1e-5)


@pytest.mark.usefixtures("eager")
def test_a_run_whose_batches_processes_make_ends_alike(larger_arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)  # with a bar
    used, histories, use = [], [], Batches.use
    monkeypatch.setattr(Batches, "use", lambda self, *how: used.append(how[1]) or use(self, *how))
    recipe = replace(Recipe(), num_epochs=2)
    for count in (0, 2):
        monkeypatch.setattr(training, "reading_processes", lambda count=count: count)
        keras.utils.set_random_seed(0)
        run = Run({**ARGUMENTS, "num_epochs": 2}, "print")
        with small_network(), Arrays(larger_arrays) as arrays:
            network = resnet50((48, 48, 3), 3, dropout=0)
            training.fit(network, arrays, recipe, run, tmp_path)
        histories.append(run.history["loss"])
    assert used == [2]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


@pytest.mark.parametrize(
    ("gpus", "cores", "count"), [([], 16, 0), (["gpu:0"], 1, 1), (["gpu:0"], 4, 3), (["a"], 99, 8)]
)
def test_processes_make_batches_where_a_gpu_would_wait(monkeypatch, gpus, cores, count):
    monkeypatch.setattr(training, "gpus", lambda: gpus)
    monkeypatch.setattr(training, "cores", lambda: cores)
    assert training.reading_processes() == count


@pytest.mark.parametrize(
    "error",
    [
        None,  # the backend's own
        "RESOURCE_EXHAUSTED: Out of memory allocating 96 bytes.",
        "CUDA out of memory. Tried to allocate 2.00 MiB.",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 96 bytes.",
    ],
    ids=["its own", "JAX", "PyTorch, GPU", "PyTorch, CPU"],
)
def test_a_batch_too_large_for_the_memory_is_one_line(
    network, tiny_arrays, tmp_path, monkeypatch, error
):
    fails = raising(RuntimeError(error)) if error else lambda *_, **__: keras.ops.zeros((1 << 50,))
    monkeypatch.setattr(keras.Model, "fit", fails)
    run = Run(ARGUMENTS, "print")
    with (
        Arrays(tiny_arrays) as arrays,
        pytest.raises(UserError, match=r"--batch-size 8: too little memory .* 32 pixels; lower it"),
    ):
        fit(network, arrays, Recipe(), run, tmp_path)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("division by zero"), ZeroDivisionError),
        (FileNotFoundError(2, "No such file", "a.h5"), FileNotFoundError),
        (OSError(errno.ENOSPC, "No space left on device", "best.h5"), OSError),
    ],
)
def test_other_errors_are_not_taken_for_want_of_memory(
    network, tiny_arrays, tmp_path, monkeypatch, error, kind
):
    monkeypatch.setattr(keras.Model, "fit", raising(error))
    with Arrays(tiny_arrays) as arrays, pytest.raises(kind) as caught:
        fit(network, arrays, Recipe(), Run(ARGUMENTS, "print"), tmp_path)
    assert caught.value is error


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it
