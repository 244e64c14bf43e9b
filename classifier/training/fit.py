"""Training itself: the network's fused forms, compiled, through the epochs of a run."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from classifier import cli
from classifier.data.arrays import Arrays
from classifier.data.batch import Share
from classifier.errors import UserError
from classifier.prediction.runtime import images_a_step
from classifier.processor import cores
from classifier.training.batches import Batches
from classifier.training.callback import Callbacks, Keeper
from classifier.training.distribute import ONE_DEVICE, Devices
from classifier.training.fused import fuse
from classifier.training.head import figures_of, regression_head
from classifier.training.optimizer import make_optimizer
from classifier.training.precision import gpus
from classifier.training.recipes import Recipe, image_sides
from classifier.training.run import Run, describe, in_words
from classifier.workers import processes

MOST_READING = 8  # processes, each of which crops and mixes 6,000 images of 64 pixels a second
# TensorFlow, JAX and PyTorch have errors of their own for it; these words stand in all of them.
OUT_OF_MEMORY = re.compile("OOM when|out of memory|tried to allocate", re.IGNORECASE)


def fit(
    network: keras.Model,
    arrays: Arrays,
    recipe: Recipe,
    run: Run,
    folder: Path,
    save_every: int = 1,
    save_every_minutes: float = 10,
    logs: Path | None = None,
    devices: Devices = ONE_DEVICE,
) -> None:
    """Train from the run's last step on until it is finished; best.h5 and latest.h5 keep it.

    Args:
        network: `resnet50`, with the weights that a fresh run starts from.
        arrays: an open Arrays, with a train split.
        recipe: Recipe.
        run: Run; each epoch's figures are added to it, and those of its heads' regressions.
        folder: of best.h5 and latest.h5; for a run that goes on, latest.h5 lies there.
        save_every: epochs between checkpoints.
        save_every_minutes: most minutes between checkpoints.
        logs: the run's folder for TensorBoard, or None.
        devices: Devices, within whose scope the network was built.

    Raises:
        UserError: the loss diverged, or a batch is too large for the memory.
        OSError: a disk is full.
        KeyboardInterrupt: a signal came; once steps are taken, after a checkpoint is kept.
    """
    batch_size, own_side = run.arguments["batch_size"], arrays.image_size
    largest = max(own_side, recipe.enlarge_to)
    batches = training_batches(arrays, recipe, batch_size, run.arguments["seed"], devices.share)
    val = None
    if arrays.count("val"):
        val = Batches(arrays, "val", batch_size, share=devices.share)
    sides = image_sides(own_side, recipe)
    optimizer = make_optimizer(recipe, batches.steps * recipe.num_epochs)
    seen = devices.seen(batch_size)
    model = compiled(network, recipe, seen, optimizer)
    models = {own_side: model}  # by the side of the images
    keeper = Keeper(
        run,
        folder,
        network,
        lambda: describe(run, arrays, recipe, devices.count),
        batches.steps,
        save_every,
        save_every_minutes,
        run.arguments["patience"],
        patient_after=sum(side < own_side for side in sides),
        resumes=run.begun,
        devices=devices,
    )

    def judge(epoch, figures):  # at the size of the arrays, whatever the epoch's is
        rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)  # computed on all devices
        if logs is not None:
            board.rate = float(rate)
        if val is None:
            return
        outputs = devices.outputs(model, val)
        figures |= figures_of(model, val, outputs, devices)
        if logs is not None:
            board.show_confusion(epoch, arrays.labels("val"), outputs.argmax(axis=1))

    def pause(epoch, figures):  # where the next epoch has more batches, or larger images
        if batches.first or sides[epoch + 1 : epoch + 2] != [batches.side]:
            models[batches.side].stop_training = True

    callbacks = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: batches.start(epoch, run.step), on_epoch_end=judge
        ),
        keeper,
        keras.callbacks.LambdaCallback(on_epoch_end=pause),
    ]
    if logs is not None:
        from classifier.training.tensorboard import TensorBoard

        board = TensorBoard(logs, batches, run.epochs_done)
        callbacks.insert(1, board)  # for the Keeper may end the epoch's hooks

    def regression():
        step = devices.whole(min(batch_size, images_a_step(largest)))
        figures = regression_head(model, arrays, step, val, devices)
        if devices.interrupted():
            raise KeyboardInterrupt
        run.minutes += figures["minutes"]
        run.images += 2 * int((arrays.copies("train") == 0).sum())  # mirror images too
        print(
            f"head: logistic regression, accuracy {figures['accuracy']:.2%}{in_words(figures)}, "
            f"{figures['minutes']:.1f} minutes"
        )
        return {**figures, "minutes": run.minutes}

    with known_errors(batch_size, largest), made_ahead(batches):
        if recipe.head == "regression" and not run.begun:
            run.start = regression()
        while not (run.finished or keeper.diverged):
            batches.side = side = sides[run.epochs_done] if sides else own_side
            batches.start(run.epochs_done, run.step)
            if len(set(sides)) > 1:
                print(f"images of {side} pixels from epoch {run.epochs_done + 1} on")
            with cli.interrupts_wait(devices.interrupted):
                if side not in models:
                    models[side] = compiled(network, recipe, seen, model.optimizer, side)
                models[side].fit(
                    batches,
                    epochs=recipe.num_epochs,
                    initial_epoch=run.epochs_done,
                    shuffle=False,  # the batches have an order of their own for each epoch
                    callbacks=Callbacks(
                        callbacks,
                        add_history=True,
                        add_progbar=devices.first,
                        model=models[side],
                        verbose=1 if sys.stdout.isatty() else 2,
                        epochs=recipe.num_epochs,
                        steps=len(batches),
                    ),
                )
        if not (run.over or keeper.diverged):
            keeper.set_model(model)  # which Keras did only if an epoch was to come
            keeper.restore()
            figures = regression()
            with cli.interrupts_wait(devices.interrupted):
                keeper.add_end(figures)
    if keeper.diverged:
        best = folder / "best.h5"
        raise UserError(
            f"the loss is not a number after {run.epochs_done} epochs "
            f"({f'best model so far: {best}' if best.exists() else 'no model yet'}): lower "
            f"--learning-rate (now {recipe.learning_rate:g}) and --restart"
        )


def training_batches(
    arrays: Arrays, recipe: Recipe, batch_size: int, seed: int, share: Share | None = None
) -> Batches:
    """Return the batches that a recipe trains on."""
    return Batches(
        arrays,
        "train",
        batch_size,
        seed,
        copies=recipe.copies,
        crop=recipe.crop,
        mixup=recipe.mixup,
        share=share,
    )


@contextlib.contextmanager
def made_ahead(batches: Batches) -> Iterator[None]:
    """Have batches made by processes of their own in the block, where a GPU would wait for them."""
    count = reading_processes()
    if not count:
        yield
        return
    with processes(count) as pool:
        batches.use(pool, count)
        yield


def reading_processes() -> int:
    """Return how many make batches; none on a processor alone, which trains slower than one."""
    return min(MOST_READING, max(1, cores() - 1)) if gpus() else 0


@contextlib.contextmanager
def known_errors(batch_size: int, side: int) -> Iterator[None]:
    """Tell of too little memory in one line, whatever the backend calls it.

    Args:
        batch_size: of the steps in this block.
        side: of their images, after enlarging, pixels.
    """
    try:
        yield
    except Exception as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        raise UserError(
            f"--batch-size {batch_size}: too little memory for so many images of {side} pixels; "
            "lower it"
        ) from error


def compiled(
    network: keras.Model,
    recipe: Recipe,
    batch_size: int,
    optimizer: keras.Optimizer,
    side: int | None = None,
) -> keras.Model:
    """Return the form of a `resnet50` that is trained, compiled as the recipe asks.

    Args:
        network: `resnet50`.
        recipe: Recipe.
        batch_size: of every training batch.
        optimizer: of `make_optimizer`, or a compiled form's, to go on with.
        side: of the images, pixels; None for those of the network.
    """
    model = fuse(network, batch_size, recipe.norm, recipe.freeze_stages, side)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    # With these variables and the metric's there before the first step, TensorFlow traces it once,
    # not twice: it was done after 12 s instead of 22 (2 cores).
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    # Nor would Keras know the metric's before, which a checkpoint within an epoch holds.
    none = np.zeros((1, model.output_shape[-1]), np.float32)
    model.compute_metrics(None, none, none)
    model.reset_metrics()
    return model
