"""The repository's own side of the benchmarks: contestants for speed.py.

python benchmarks/ours.py train ARRAYS RECIPE BATCH_SIZE
        [frozen] [deterministic] [float32] [plain] [augmented]
                                                    "fit N"; on TensorFlow "bare N", without fit
python benchmarks/ours.py pipeline ARRAYS BATCH_SIZE                 on one core
python benchmarks/ours.py matmul FORMAT
python benchmarks/ours.py epoch ARRAYS              no turns: an epoch of a small network
"""

import importlib.metadata
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from faulty.small import STAGES  # noqa: E402
from turns import Turns  # noqa: E402

from classifier import architecture, backend  # noqa: E402
from classifier.data.arrays import Arrays  # noqa: E402
from classifier.training import precision  # noqa: E402
from classifier.training.recipes import RECIPES  # noqa: E402
from classifier.training.run import Run  # noqa: E402

WARM = 3  # steps before the first turn; the first is traced
EPOCH_BATCH, SKIPPED = 128, 20  # of `epoch`: batch size, first steps that its time leaves out
PLAIN = {"crop": 0.0, "mixup": 0.0, "progressive": False}  # images as they are, all of one size
PIPELINE_CROP = 0.5  # as for --crop 0.5: crops and mirror images


def train(path: str, recipe_name: str, batch_size: str, *how: str) -> None:
    """Train as train.py does, pausing between turns.

    "frozen" is as in rivals.py, "plain" in Keras' own form, "augmented" on the recipe's crops and
    mixtures instead of images as they are.
    """
    keras = backend.start_keras()
    from classifier.training import fit
    from classifier.training.callback import Keeper

    # The regressions for the head come before and after the steps, and are not what is measured.
    plain = {"progressive": False} if "augmented" in how else PLAIN
    recipe = replace(RECIPES[recipe_name], head="random", refit=False, enlarge_to=0, **plain)
    if "frozen" in how:
        recipe = replace(recipe, norm="frozen", freeze_stages=1, learning_rate=0.001)
    if "deterministic" in how:
        keras.utils.set_random_seed(0)
        precision.make_deterministic()
    asked = "float32" if "float32" in how else "auto"
    chosen, why = precision.choose(asked, "deterministic" in how)
    keras.config.set_dtype_policy(precision.POLICIES[chosen])
    turns, size = Turns(), int(batch_size)

    class Paced(Keeper):
        """The Keeper of a run, which waits for the next turn where one is at its end."""

        left, turn_began = WARM, 0.0

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            self.left -= 1
            if self.left:
                return
            float(logs["loss"])  # the turn ends when a GPU has computed its last step
            if self.turn_began:
                turns.answer(time.perf_counter() - self.turn_began)
            else:
                if keras.backend.backend() == "tensorflow":
                    self.batches = batches_in_memory(arrays, size)
                    bare(self.model, self.batches, WARM)
                turns.ready(
                    version=importlib.metadata.version(keras.backend.backend()),
                    batch=size,
                    format=chosen,
                    why=why,
                    device=precision.device(),
                    flops=size
                    * training_flops(arrays.image_size, len(arrays.classes), recipe.freeze_stages),
                )
            word, self.left = turns.wait()
            while word == "bare":
                turns.answer(bare(self.model, self.batches, self.left))
                word, self.left = turns.wait()
            self.turn_began = time.perf_counter()

    fit.Keeper = Paced
    if "plain" in how:
        fit.fuse = lambda network, *_: network
    with Arrays(path) as arrays, tempfile.TemporaryDirectory() as folder:
        fit.fit(network_for(arrays, recipe), arrays, recipe, run_of(recipe, size), Path(folder))


def network_for(arrays, recipe):
    from resnet50 import resnet50

    shape = (arrays.image_size, arrays.image_size, 3)
    return resnet50(shape, len(arrays.classes), recipe.dropout, recipe.zero_init)


def run_of(recipe, batch_size):
    arguments = {"recipe": "speed", "seed": 0, "batch_size": batch_size, "patience": 0}
    return Run({**asdict(recipe), **arguments}, "speed")


def batches_in_memory(arrays, batch_size):
    """Return an endless iterator over four batches, of the kind that `fit` makes of Batches."""
    import tensorflow as tf

    from classifier.training.batches import Batches

    batches = [Batches(arrays, "train", batch_size, 0)[i] for i in range(4)]
    kind = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0])
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=kind)
    return iter(dataset.cache().repeat())


def bare(model, batches, steps):
    """Return the seconds that steps of the compiled step alone take."""
    began = time.perf_counter()
    for _ in range(steps):
        float(model.train_function(batches)["loss"])
    return time.perf_counter() - began


def training_flops(size: int, classes: int, freeze_stages: int = 0) -> int:
    """Return the FLOPs of a training step for one image, two for each multiplication and addition.

    Counted are the convolutions' and the head's: the products forward, for the gradient of the
    weights unless they are frozen, and for that of the input where something before it is trained.
    """
    from classifier.training.fused import stage

    total = 0
    for name, products in layer_products(size, classes).items():
        number = 6 if name.startswith("fc") else stage(name)
        first = "conv1" if not freeze_stages else f"res{freeze_stages + 1}a_branch"
        starts = name == first or (freeze_stages and name in (first + "1", first + "2a"))
        trained = number > freeze_stages
        total += products * (1 + trained + (trained and not starts))
    return 2 * total


def layer_products(size: int, classes: int) -> dict[str, int]:
    """Return {name: multiplications for one image} of the convolutions and the head."""
    products = {
        conv: math.prod(kernel) * side**2
        for conv, _, kernel, side in architecture.convolutions(size)
    }
    head = f"fc{classes}"
    return products | {head: math.prod(architecture.weight_shapes(classes)[head]["kernel"])}


def pipeline(path: str, batch_size: str) -> None:
    """Read, crop and mirror batches on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    backend.start_keras()
    from classifier.training.batches import Batches

    turns = Turns()
    with Arrays(path) as arrays:
        batches = Batches(arrays, "train", int(batch_size), 0, crop=PIPELINE_CROP)
        numbers = (i for _ in iter(int, 1) for i in range(len(batches)))
        turns.serve(lambda: batches[next(numbers)], batch=int(batch_size), crop=PIPELINE_CROP)


def matmul(name: str) -> None:
    """Multiply large square matrices; the side is the one, and the form, with most FLOP/s."""
    backend.start_keras()
    import tensorflow as tf

    turns, end = Turns(), time.perf_counter() + 5
    best = (0.0,)
    for side in (1024, 2048, 4096):
        if time.perf_counter() > end:
            break
        x = tf.cast(tf.random.normal((side, side)), name)
        for form, product in (("eager", tf.matmul), ("function", tf.function(tf.matmul))):
            product(x, x).numpy()
            for _ in range(3):
                began = time.perf_counter()
                product(x, x).numpy()
                rate = 2 * side**3 / (time.perf_counter() - began)
                if rate > best[0]:
                    best = rate, side, form, product, x
    _, side, form, product, x = best
    # What a turn counts, elsewhere the images of a batch, are a product's FLOPs.
    turns.serve(lambda: product(x, x).numpy(), format=name, side=side, form=form, batch=2 * side**3)


def epoch(path: str) -> None:
    """Print the seconds an example of one real epoch of `fit`, from step 20 to its last."""
    backend.start_keras()
    from classifier.training import fit
    from classifier.training.callback import Keeper

    architecture.STAGES = STAGES
    recipe = replace(RECIPES["scratch"], num_epochs=1, **PLAIN)
    ends = []

    class Timed(Keeper):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            ends.append(time.perf_counter())

    fit.Keeper = Timed
    with Arrays(path) as arrays, tempfile.TemporaryDirectory() as folder:
        network = network_for(arrays, recipe)
        fit.fit(network, arrays, recipe, run_of(recipe, EPOCH_BATCH), Path(folder))
    seconds = (ends[-1] - ends[SKIPPED - 1]) / (EPOCH_BATCH * (len(ends) - SKIPPED))
    print(json.dumps({"seconds_per_example": seconds, "examples": EPOCH_BATCH * len(ends)}))


if __name__ == "__main__":
    contestants = {"train": train, "pipeline": pipeline, "matmul": matmul, "epoch": epoch}
    contestants[sys.argv[1]](*sys.argv[2:])
