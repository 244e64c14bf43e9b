"""A learning-rate range test (Smith 2017, arXiv:1506.01186): how high the rate may be.

What is suggested is a highest rate, for a schedule with a warm-up. The rate of the lowest loss is
lower, and told less surely, for the curve is flat there: docs/results.md has figures of both.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.evaluation import pictures
from classifier.files import atomic_write
from classifier.prediction.runtime import images_a_step
from classifier.training.fit import compiled, known_errors, training_batches
from classifier.training.head import regression_head
from classifier.training.optimizer import make_optimizer
from classifier.training.recipes import Recipe, image_sides

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 120  # 20 steps for each tenfold
FIRST, LAST = 15, 5  # steps whose mean loss is compared: it diverges where it has doubled
WINDOW = 7  # steps before and after one whose losses smooth its own


def suggest(
    network: keras.Model, arrays: Arrays, recipe: Recipe, batch_size: int, seed: int, picture: Path
) -> float:
    """Return the rate that `suggestion` finds; draw the loss by rate.

    Args:
        network: `resnet50`, with the weights that a run starts from; they change.
        arrays: an open Arrays.
        recipe: Recipe, of at least one epoch.
        batch_size: images a step.
        seed: of the batches.
        picture: PNG file to be written.

    Raises:
        UserError: no such rate can be told, or a batch is too large for the memory.
    """
    steps = losses_by_rate(network, arrays, recipe, batch_size, seed)
    tried = list(tqdm(steps, total=STEPS, desc="Trying rates", unit=" steps", disable=None))
    rates, losses = np.array(tried).T
    rate = suggestion(rates, losses)
    figure = pictures.loss_by_rate(rates, losses, smoothed(losses), limit(losses), rate)
    with atomic_write(picture) as temporary:
        pictures.save_png(temporary, figure)
    print(f"loss by learning rate, {len(rates)} steps up to {rates[-1]:.2g}: {picture}")
    if rate is None:
        raise UserError(
            f"--find-lr: these losses suggest no rate, see {picture}; keep the recipe's"
        )
    print(
        f"suggested: -lr {rate:g}, half the highest at which the loss is not above that at the "
        f"start (now: {recipe.learning_rate:g})"
    )
    return rate


def losses_by_rate(
    network: keras.Model, arrays: Arrays, recipe: Recipe, batch_size: int, seed: int
) -> Iterator[tuple[float, float]]:
    """Take a step with each rate from LOWEST to HIGHEST; yield the rate and its batch's loss.

    But for the rate, steps are those of the recipe's first epoch. They end where the loss diverges.
    The arguments are those of `suggest`.
    """
    own_side = arrays.image_size
    largest = max(own_side, recipe.enlarge_to)
    batches = training_batches(arrays, recipe, batch_size, seed)
    batches.side = image_sides(own_side, recipe)[0]
    optimizer = make_optimizer(replace(recipe, schedule="constant"), STEPS)
    losses = []
    with known_errors(batch_size, largest):
        model = compiled(network, recipe, batch_size, optimizer)
        if recipe.head == "regression":
            regression_head(model, arrays, min(batch_size, images_a_step(largest)), None)
        if batches.side != own_side:
            model = compiled(network, recipe, batch_size, model.optimizer, batches.side)
        for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS)):
            epoch, number = divmod(step, batches.steps)
            if number == 0:
                batches.start(epoch)
            model.optimizer.learning_rate = rate
            model.reset_metrics()  # else the loss is the mean of those so far
            losses.append(float(model.train_on_batch(*batches[number], return_dict=True)["loss"]))
            if not np.isfinite(losses[-1]):
                if step <= FIRST:
                    raise UserError(
                        f"--find-lr: the loss is not a number at {rate:.2g}; try --precision "
                        "float32, or other weights"
                    )
                return
            yield float(rate), losses[-1]
            if step >= FIRST and np.mean(losses[-LAST:]) > 2 * np.mean(losses[:FIRST]):
                return


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Return for each of FIRST or more losses the mean of those around it, the nearer the more."""
    weights = np.bartlett(2 * WINDOW + 3)[1:-1]
    sums = (np.convolve(values, weights, "same") for values in (losses, np.ones(len(losses))))
    return np.divide(*sums)


def limit(losses: np.ndarray) -> float:
    """Return the loss at the start and its noise: a higher one is a worse one."""
    return float(losses[:FIRST].mean() + losses[:FIRST].std())


def suggestion(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Return half the highest rate, after that of the lowest loss, up to which `limit` holds.

    Args:
        rates: float array (N,), rising.
        losses: float array (N,), of a step with each; the smoothed ones are compared.

    Returns:
        None if the loss never diverged, N being STEPS, or is above from the lowest rates on.
    """
    curve = smoothed(losses)
    lowest = int(curve.argmin())
    above = np.flatnonzero(curve[lowest:] > limit(losses))
    last = lowest + above[0] - 1 if len(above) else len(rates) - 1
    return float(f"{rates[last] / 2:.2g}") if last >= FIRST and len(rates) < STEPS else None
