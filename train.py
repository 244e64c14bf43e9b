"""Train ResNet-50 on the arrays of prepro.py and save the model that is best on val.

arrays -> fit, with checkpoints -> evaluate the best epoch -> model
"""

import argparse
import math
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from classifier import cli
from classifier.errors import UserError

# How a network is trained, as data. A flag given on the command line goes before its recipe.
RECIPES = {
    # The original's: Adam at a constant rate, dropout inside every block.
    "original": {
        "num_epochs": 50, "optimizer": "adam", "learning_rate": 0.005, "schedule": "constant",
        "warmup": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "dropout": 0.5,
        "originals": False, "crop": 0.0, "mixup": 0.0, "zero_init": False, "enlarge_to": 0,
        "head": "random", "norm": "batch", "freeze_stages": 0, "mirror": False,
    },
    # Goyal et al. 2017 (0.1 for 256 images, so 0.0125 for 32) with the label smoothing of
    # Szegedy et al. 2016; the augmented copies take the place of dropout. On the digits, 3 epochs
    # give 95% of val with zero_init and 79% without.
    "scratch": {
        "num_epochs": 50, "optimizer": "sgd", "learning_rate": 0.0125, "schedule": "cosine",
        "warmup": 0.05, "weight_decay": 5e-4, "label_smoothing": 0.1, "dropout": 0.0,
        "originals": False, "crop": 0.0, "mixup": 0.0, "zero_init": True, "enlarge_to": 0,
        "head": "random", "norm": "batch", "freeze_stages": 0, "mirror": True,
    },
    # From pretrained weights: at a low rate from the best head for their features on, BatchNorms as
    # they were pretrained; small pictures are enlarged, as the filters know large objects.
    "finetune": {
        "num_epochs": 4, "optimizer": "sgd", "learning_rate": 0.001, "schedule": "cosine",
        "warmup": 0.05, "weight_decay": 0.0, "label_smoothing": 0.1, "dropout": 0.0,
        "originals": True, "crop": 0.5, "mixup": 0.0, "zero_init": True, "enlarge_to": 256,
        "head": "regression", "norm": "frozen", "freeze_stages": 1, "mirror": True,
    },
}  # fmt: skip


def parse_args():
    parser = cli.Parser(description=__doc__.splitlines()[0])

    add = parser.add_argument

    def add_recipe(*flags, **options):
        action = parser.add_argument(*flags, **options)
        shown = ", ".join(f"{recipe} {values[action.dest]}" for recipe, values in RECIPES.items())
        action.help += f" (default: {shown})"

    add(
        "--data",
        type=Path,
        default=Path("datasets/caltech_101.h5"),
        metavar="FILE",
        help="arrays of prepro.py",
    )
    add(
        "--model",
        type=Path,
        default=Path("models/resnet50.h5"),
        metavar="FILE",
        help="where the trained model goes",
    )
    add(
        "--init",
        default="scratch",
        metavar="{scratch,imagenet,FILE.h5}",
        help="weights to start from: none, Keras' ImageNet weights (downloaded), or a file",
    )
    add(
        "--recipe",
        choices=RECIPES,
        help="how to train (default: scratch with --init scratch, else finetune)",
    )
    add_recipe("-lr", "--learning-rate", type=cli.real(0, 100, low_open=True), help="highest rate")
    add_recipe("--optimizer", choices=("sgd", "adam"), help="sgd has Nesterov momentum 0.9")
    add_recipe("--schedule", choices=("cosine", "constant"), help="of the learning rate")
    add_recipe("--warmup", type=cli.real(0, 0.9), help="fraction of the steps with a rising rate")
    add_recipe("--weight-decay", type=cli.real(0, 1), help="decoupled, times the learning rate")
    add_recipe("--label-smoothing", type=cli.real(0, 0.9), help="of the training labels")
    add_recipe("--dropout", type=cli.real(0, 0.95), help="in the blocks and before the head")
    add_recipe(
        "--originals",
        action=argparse.BooleanOptionalAction,
        help="train on the photographs themselves, without their stored copies",
    )
    add_recipe("--crop", type=cli.real(0, 1), help="random crops of this area or more; 0: none")
    add_recipe("--mixup", type=cli.real(0, 100), help="blend pairs: beta distribution; 0: none")
    add_recipe(
        "--zero-init",
        action=argparse.BooleanOptionalAction,
        help="start every block as its shortcut alone",
    )
    add_recipe(
        "--enlarge-to", type=cli.integer(0, 4096), help="pixels the network enlarges images to"
    )
    add_recipe(
        "--head", choices=("random", "regression"), help="regression: on the pretrained features"
    )
    add_recipe("--norm", choices=("batch", "frozen"), help="frozen: BatchNorms as pretrained")
    add_recipe("--freeze-stages", type=cli.integer(0, 5), help="first stages that stay as they are")
    add_recipe(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="judge an image together with its mirror image",
    )
    add_recipe("--num-epochs", type=cli.integer(1, 100_000), help="passes over the arrays")
    add("--batch-size", type=cli.integer(2, 65_536), default=32, help="images a step")
    add("--save-every", type=cli.integer(1, 100_000), default=1, help="epochs between checkpoints")
    add(
        "--patience",
        type=cli.integer(0),
        default=10,
        help="stop after so many epochs without a better val loss; 0: never",
    )
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="number format; auto takes what the processor or GPU does fast",
    )
    add("--seed", type=cli.integer(0, 2**32 - 1), default=0, help="of weights, order and dropout")
    add("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    add("--restart", action="store_true", help="discard the checkpoint of an unfinished run")
    add("--tensorboard-vis", action="store_true", help="write curves and pictures for it")
    add("--logs", type=Path, default=Path("logs"), metavar="DIR", help="a folder for each run here")
    add("--print-summary", action="store_true", help="print the layers before training")
    args = parser.parse_args()

    if args.recipe is None:
        args.recipe = "scratch" if args.init == "scratch" else "finetune"
    for name, value in RECIPES[args.recipe].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.model.suffix != ".h5":
        parser.error(f"argument --model: {args.model} does not end in .h5")
    if args.init not in ("scratch", "imagenet") and not Path(args.init).is_file():
        parser.error(f"argument --init: {args.init}: no such file; or give scratch or imagenet")
    if args.init == "scratch":
        for name, value in (("head", "random"), ("norm", "batch"), ("freeze_stages", 0)):
            if getattr(args, name) != value:
                flag = name.replace("_", "-")
                parser.error(f"argument --{flag}: {getattr(args, name)} needs weights: give --init")
    if args.resume and args.restart:
        parser.error("argument --restart: not allowed with --resume")
    return args


def main():
    args = parse_args()
    from classifier.data.arrays import Arrays
    from classifier.data.splits import LEAK_WARNING
    from classifier.files import make_folder

    with Arrays(args.data) as data:
        for split in ("train", "test"):
            if data.count(split) == 0:
                raise UserError(f"{args.data}: {split} is empty; make it again with prepro.py")
        rows = (data.copies("train") == 0).sum() if args.originals else data.count("train")
        if rows < args.batch_size:
            raise UserError(
                f"--batch-size {args.batch_size}: lower it, {args.data} has {rows} to train on"
            )
        checkpoints = args.model.parent / "checkpoints" / args.model.stem
        for folder in (checkpoints, args.logs):
            make_folder(folder)
        state = starting_state(args, checkpoints / "latest.h5")
        if data.protocol == "original":
            print(f"warning: {LEAK_WARNING}")
        train(args, data, checkpoints, state)
        evaluate(args, data, checkpoints, state)
        if data.protocol == "original":
            print(f"warning: {LEAK_WARNING}")
        held_out = data.held_out()
    print(f"model: {args.model}")
    if args.tensorboard_vis:
        print(f"curves: tensorboard --logdir={args.logs}   (run {state['run']})")
    print(f"next: python predict.py --model {args.model} {held_out or 'images/test.jpg'}")
    return 0


def starting_state(args, latest):
    """Return the state of the run to begin or to go on with, as a checkpoint keeps it."""
    from classifier.training import checkpoint

    decisive = (
        "data",
        "init",
        "recipe",
        *RECIPES[args.recipe],
        "batch_size",
        "patience",
        "precision",
        "seed",
    )
    arguments = {name: _plain(getattr(args, name)) for name in decisive}
    fresh = {
        "arguments": arguments,
        "run": time.strftime("%Y%m%d-%H%M%S-") + args.recipe,
        "history": {},
        "minutes": 0.0,
        "finished": False,
    }
    if not latest.exists():
        if args.resume:
            print("no checkpoint yet: starting with the first epoch")
        return fresh
    state = None if args.restart else checkpoint.load_state(latest)
    if args.restart or (state["finished"] and not args.resume):
        latest.unlink()  # so that a later --resume cannot take the old run for this one
        return fresh
    done = epochs_done(state)
    if not args.resume:
        raise UserError(
            f"{latest}: an unfinished run ({done} of {state['arguments']['num_epochs']} epochs): "
            "--resume goes on with it, --restart discards it, --model FILE keeps both"
        )
    for name, value in arguments.items():
        if state["arguments"].get(name) != value:
            raise UserError(
                f"--{name.replace('_', '-')} is {value}, the run to resume has "
                f"{state['arguments'].get(name)}: give the same, or --restart"
            )
    print(f"resuming run {state['run']} after epoch {done}")
    return state


def train(args, data, checkpoints, state):
    """Fit the network, from the state's last epoch on; its best epoch is kept in best.h5."""
    keras = cli.start_keras()
    from classifier.training import checkpoint, precision, pretrained
    from classifier.training.batches import Batches
    from classifier.training.fused import fuse
    from resnet50 import resnet50

    latest, done = checkpoints / "latest.h5", epochs_done(state)
    if state["finished"]:
        return
    keras.utils.set_random_seed(args.seed)
    chosen, why = precision.choose(args.precision)
    keras.config.set_dtype_policy(precision.POLICIES[chosen])
    devices = ", ".join(keras.distribution.list_devices())
    print(f"{keras.backend.backend()} on {devices}, {chosen} ({why})")

    size = data.image_size
    whole = resnet50(
        (size, size, 3), len(data.classes), args.dropout, args.zero_init, args.enlarge_to
    )
    if args.print_summary:
        whole.summary()
    if not done and args.init != "scratch":
        if args.init == "imagenet":
            taken = pretrained.load_imagenet(whole)
        else:
            taken = pretrained.load_file(whole, args.init, data.classes)
        print(f"{taken} layers start from {args.init}")

    model = fuse(whole, args.batch_size, args.norm, args.freeze_stages)
    batches = Batches(
        data, "train", args.batch_size, args.seed, epoch=done,
        originals=args.originals, crop=args.crop, mixup=args.mixup,
    )  # fmt: skip
    val = Batches(data, "val", args.batch_size) if data.count("val") else None
    model.compile(
        make_optimizer(keras, args, len(batches) * args.num_epochs),
        keras.losses.CategoricalCrossentropy(label_smoothing=args.label_smoothing),
        metrics=["accuracy"],
    )
    if done:
        checkpoint.restore(latest, model)
    elif args.head == "regression":
        state["start"] = regression_head(model, data, val, args.batch_size)
        state["minutes"] = state["start"]["minutes"]

    keeper = make_keeper(keras, args, data, checkpoints, state, whole)
    callbacks = [keeper]
    if args.tensorboard_vis:
        from classifier.training.tensorboard import TensorBoard

        callbacks.append(TensorBoard(args.logs / state["run"], batches))
    try:
        model.fit(
            batches,
            validation_data=val,
            epochs=args.num_epochs,
            initial_epoch=done,
            shuffle=False,  # the batches have an order of their own for each epoch
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        done = epochs_done(state)
        kept = f"{latest} holds it" if latest.exists() else "no checkpoint was due yet"
        print(
            f"\nstopped after {done} of {args.num_epochs} epochs; {kept}. To go on:\n"
            f"  {shlex.join(['python', *sys.argv])}"
            f"{'' if args.resume else ' --resume'}",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    if keeper.diverged:
        best = checkpoints / "best.h5"
        kept = f"best model so far: {best}" if state["history"] else "no model yet"
        raise UserError(
            f"the loss is not a number after {epochs_done(state)} epochs ({kept}): lower "
            f"--learning-rate (now {args.learning_rate:g}) and --restart"
        )
    state["finished"] = True
    checkpoint.save(latest, model, state)


def regression_head(model, data, val, batch_size):
    """Start the head from a logistic regression; return its figures and minutes, and print them."""
    from classifier.training.batches import Batches
    from classifier.training.head import start_head

    start = time.monotonic()
    photographs = Batches(data, "train", batch_size, originals=True)
    labels = data.labels("train")[photographs.rows]
    figures = {"accuracy": start_head(model, photographs, labels)}
    line = f"head: logistic regression, accuracy {figures['accuracy']:.2%}"
    if val is not None:
        figures["val_accuracy"] = model.evaluate(val, verbose=0, return_dict=True)["accuracy"]
        line += f", on val {figures['val_accuracy']:.2%}"
    figures["minutes"] = (time.monotonic() - start) / 60
    print(f"{line}, {figures['minutes']:.1f} minutes")
    return figures


def make_optimizer(keras, args, steps):
    """Return the Keras optimizer of the recipe; `steps` is the run's whole number of steps."""
    rate = args.learning_rate
    warmup = round(args.warmup * steps)
    if args.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    decay = args.weight_decay or None
    if args.optimizer == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)


def make_keeper(keras, args, data, checkpoints, state, whole):
    """Return the callback that keeps the best epoch and the checkpoints, and knows when to stop.

    `whole` is the network whose training form is trained.

    All it decides follows from the history, so a resumed run decides as the first would have.
    """
    from classifier.prediction import model_file
    from classifier.training import checkpoint

    history = state["history"]

    class Keeper(keras.callbacks.Callback):
        diverged = False

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
            if logs and not math.isfinite(logs["loss"]):
                self.diverged = self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            if self.diverged:
                return
            for name, value in logs.items():
                history.setdefault(name, []).append(float(value))
            state["minutes"] += (time.monotonic() - self.start) / 60
            history.setdefault("minutes", []).append(round(state["minutes"], 3))
            losses = history.get("val_loss")
            if losses is None or losses[-1] == min(losses):
                model_file.save(checkpoints / "best.h5", whole, describe(args, data, state))
            best = losses.index(min(losses)) if losses else epoch
            if args.patience and epoch - best >= args.patience:
                print(f"no better val loss for {args.patience} epochs: stopping")
                self.model.stop_training = True
            if (epoch + 1) % args.save_every == 0:
                checkpoint.save(checkpoints / "latest.h5", self.model, state)

    return Keeper()


def evaluate(args, data, checkpoints, state):
    """Print the figures of the best epoch and save it, with them, as the model."""
    cli.start_keras()
    from classifier.evaluation import metrics
    from classifier.prediction import model_file
    from classifier.training.batches import Batches

    model, _ = model_file.load(checkpoints / "best.h5")
    info = describe(args, data, state)
    print(f"best epoch: {info.training['best_epoch']} of {epochs_done(state)}")
    for split in ("val", "test"):
        if data.count(split):
            batches = Batches(data, split, 64)
            outputs = [
                model_file.probabilities(model, batches[i][0], info.mirror)
                for i in range(len(batches))
            ]
            figures = metrics.summary(np.concatenate(outputs), data.labels(split))
            info.training[split] = figures
            name, accuracy = split.capitalize(), figures["accuracy"]
            print(f"{name} Loss = {figures['loss']:.4f}")
            print(f"{name} Accuracy = {accuracy:.2%} ({accuracy:.4f})")
            print(
                f"{name} 95% interval = {figures['low']:.2%} to {figures['high']:.2%}, "
                f"n = {figures['n']}, mean per class = {figures['mean_per_class']:.2%}, "
                f"top 5 = {figures['top5']:.2%}"
            )
    model_file.save(args.model, model, info)


def describe(args, data, state):
    """Return the ModelInfo that goes into the model file."""
    from importlib.metadata import version

    import keras

    from classifier.prediction.model_file import ModelInfo
    from classifier.training import precision

    losses = state["history"].get("val_loss")
    training = {
        "arguments": state["arguments"],
        "run": state["run"],
        "start": state.get("start"),
        "history": state["history"],
        "best_epoch": losses.index(min(losses)) + 1 if losses else epochs_done(state),
        "minutes": round(state["minutes"], 2),
        "data_seed": data.seed,
        "device": precision.device(),
        "versions": {
            name: version(name) for name in ("keras", keras.backend.backend(), "numpy", "pillow")
        },
    }
    return ModelInfo(
        data.classes, data.image_size, data.protocol, training, args.enlarge_to, args.mirror
    )


def epochs_done(state):
    """Return the number of epochs a run has behind it."""
    return len(state["history"].get("loss", []))


def _plain(value):
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    cli.run(main, product="file")
