"""Training itself: the network's fused form, compiled, through the epochs of a run."""

import errno
import os
import re
import sys
from pathlib import Path

import keras
import numpy as np

from classifier import cli
from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.evaluation.evaluate import images_a_step
from classifier.training.batches import Batches
from classifier.training.callback import Keeper
from classifier.training.fused import fuse
from classifier.training.head import regression_head
from classifier.training.optimizer import make_optimizer
from classifier.training.recipes import Recipe
from classifier.training.run import Run, describe, in_words

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

    Raises:
        UserError: the loss diverged, or a batch is too large for the memory.
        OSError: a disk is full.
        KeyboardInterrupt: a signal came; once steps are taken, after a checkpoint is kept.
    """
    batch_size, side = run.arguments["batch_size"], max(arrays.image_size, recipe.enlarge_to)
    batches = Batches(
        arrays,
        "train",
        batch_size,
        run.arguments["seed"],
        copies=recipe.copies,
        crop=recipe.crop,
    )
    val = Batches(arrays, "val", batch_size) if arrays.count("val") else None
    model = compiled(network, recipe, batch_size, batches.steps * recipe.num_epochs)
    keeper = Keeper(
        run,
        folder,
        network,
        lambda: describe(run, arrays, recipe),
        batches.steps,
        save_every,
        save_every_minutes,
        run.arguments["patience"],
        resumes=run.begun,
    )
    begin = keras.callbacks.LambdaCallback(lambda epoch, logs: batches.start(epoch, run.step))
    callbacks = [begin, keeper]
    if logs is not None:
        from classifier.training.tensorboard import TensorBoard

        callbacks.insert(1, TensorBoard(logs, batches))  # for the Keeper may end the epoch's hooks

    def regression():
        figures = regression_head(model, arrays, min(batch_size, images_a_step(side)), val)
        cli.raise_if_interrupted()
        run.minutes += figures["minutes"]
        run.images += 2 * int((arrays.copies("train") == 0).sum())  # mirror images too
        print(
            f"head: logistic regression, accuracy {figures['accuracy']:.2%}{in_words(figures)}, "
            f"{figures['minutes']:.1f} minutes"
        )
        return {**figures, "minutes": run.minutes}

    try:
        if recipe.head == "regression" and not run.begun:
            run.start = regression()
        while not (run.finished or keeper.diverged):
            # What remains of an epoch that was stopped goes first, alone.
            batches.start(run.epochs_done, run.step)
            until = run.epochs_done + 1 if run.step else recipe.num_epochs
            with cli.interrupts_wait():
                model.fit(
                    batches,
                    validation_data=val,
                    epochs=until,
                    initial_epoch=run.epochs_done,
                    shuffle=False,  # the batches have an order of their own for each epoch
                    callbacks=callbacks,
                    verbose=1 if sys.stdout.isatty() else 2,
                )
        if not (run.over or keeper.diverged):
            keeper.set_model(model)  # which Keras did only if an epoch was to come
            keeper.restore()
            figures = regression()
            with cli.interrupts_wait():
                keeper.add_end(figures)
    except Exception as error:
        full = os.strerror(errno.ENOSPC)
        if full in str(error):  # which TensorFlow says in an error of its own
            raise OSError(errno.ENOSPC, full, str(logs or folder)) from error
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        raise UserError(
            f"--batch-size {batch_size}: too little memory for so many images of {side} pixels; "
            "lower it"
        ) from error
    if keeper.diverged:
        best = folder / "best.h5"
        raise UserError(
            f"the loss is not a number after {run.epochs_done} epochs "
            f"({f'best model so far: {best}' if best.exists() else 'no model yet'}): lower "
            f"--learning-rate (now {recipe.learning_rate:g}) and --restart"
        )


def compiled(network: keras.Model, recipe: Recipe, batch_size: int, steps: int) -> keras.Model:
    """Return the form of a `resnet50` that is trained, compiled as the recipe asks.

    Args:
        network: `resnet50`.
        recipe: Recipe.
        batch_size: of every training batch.
        steps: the run's whole number of steps.
    """
    model = fuse(network, batch_size, recipe.norm, recipe.freeze_stages)
    model.compile(
        make_optimizer(recipe, steps),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    # With these variables and the metric's there before the first step, TensorFlow traces it once,
    # not twice: it was done after 12 s instead of 22 (2 cores).
    model.optimizer.build(model.trainable_variables)
    # Nor would Keras know the metric's before, which a checkpoint within an epoch holds.
    none = np.zeros((1, model.output_shape[-1]), np.float32)
    model.compute_metrics(None, none, none)
    model.reset_metrics()
    return model
