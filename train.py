"""Train ResNet-50 on the arrays of prepro.py and save the model that is best on val.

arrays -> fit, with checkpoints -> judge the best epoch -> model, report and model card
"""

import argparse
import shlex
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from classifier import backend, cli
from classifier.data.arrays import Arrays, files_of
from classifier.errors import UserError
from classifier.evaluation import card, report
from classifier.files import locked, make_folder, same_file
from classifier.prediction import model_file
from classifier.training import distribute, precision
from classifier.training.pretrained import leak_of, read_file
from classifier.training.recipes import RECIPES, Recipe
from classifier.training.run import (
    Run,
    checkpoint_folder,
    code_version,
    discard,
    in_words,
    load,
    same_run,
    start_or_resume,
)

if TYPE_CHECKING:
    import keras

SETTINGS = [setting.name for setting in fields(Recipe)]
# The flags that decide what comes out, which a run to resume must have had.
RUN_SETTINGS = ("batch_size", "patience", "precision", "seed", "deterministic")
DECISIVE = ("init", "recipe", *SETTINGS, *RUN_SETTINGS)


def make_parser(recipe: str) -> cli.Parser:
    """Return the parser of the command line; the values of the recipe named are its defaults."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.set_defaults(recipe=recipe, **asdict(RECIPES[recipe]))  # before the flags: see `setting`
    switch = argparse.BooleanOptionalAction
    # fmt: off

    add = parser.add_argument_group("arrays and model").add_argument
    add("--data", type=Path, default=Path("datasets/caltech_101.h5"), metavar="FILE",
        help="arrays of prepro.py; of shards, their folder or a pattern")
    add("--model", type=Path, default=Path("models/resnet50.h5"), metavar="FILE",
        help="where the trained model goes")
    add("--init", default="scratch", metavar="{scratch,imagenet,FILE.h5}",
        help="weights to start from: none, Keras' ImageNet weights (downloaded), or a file")

    group = parser.add_argument_group("recipe")

    def setting(*flags, help, **options):
        action = group.add_argument(*flags, default=argparse.SUPPRESS, **options)
        values = {name: getattr(kept, action.dest) for name, kept in RECIPES.items()}
        shown = ", ".join(
            f"{name} {('no', 'yes')[value] if isinstance(value, bool) else value}"
            for name, value in values.items()
        )
        action.help = f"{help} (default: {shown})"

    group.add_argument("--recipe", choices=RECIPES, default=argparse.SUPPRESS,
        help="how to train (default: scratch with --init scratch, else head)")
    setting("--num-epochs", type=cli.integer(0, 100_000),
        help="passes over the training images; 0: none after the head's regression")
    setting("--optimizer", choices=("sgd", "adam"), help="sgd has Nesterov momentum 0.9")
    setting("-lr", "--learning-rate", type=cli.real(0, 100, low_open=True), help="highest rate")
    setting("--schedule", choices=("cosine", "constant"), help="of the learning rate")
    setting("--warmup", type=cli.real(0, 0.9), help="fraction of the steps with a rising rate")
    setting("--weight-decay", type=cli.real(0, 1), help="decoupled, times the learning rate")
    setting("--label-smoothing", type=cli.real(0, 0.9), help="of the training labels")
    setting("--dropout", type=cli.real(0, 0.95), help="rate in the blocks and before the head")
    setting("--copies", action=switch, help="train on the stored augmented copies too")
    setting("--crop", type=cli.real(0, 1),
        help="random crops of this part of the area or more, and flips; 1: flips alone; 0: neither")
    setting("--mixup", type=cli.real(0, 100), metavar="ALPHA",
        help="mix images, and labels, with each other, in shares of a Beta distribution; 0: do not")
    setting("--progressive", action=switch,
        help="train a third of the epochs each on 1/2, 3/4 and all of the images' side, 32 pixels "
        "or more, unless the network enlarges them")
    setting("--zero-init", action=switch, help="initialise each block's last BatchNorm scale to 0")
    setting("--enlarge-to", type=cli.integer(0, model_file.MAX_SIZE), metavar="PIXELS",
        help="size to which the network enlarges smaller images; 0: it does not")
    setting("--head", choices=("random", "regression"),
        help="regression: start the head from a logistic regression on the pretrained features")
    setting("--refit", action=switch,
        help="after the last epoch, fit the head anew: a logistic regression on what was learned")
    setting("--norm", choices=("batch", "frozen"),
        help="frozen: BatchNorms stay as they were pretrained")
    setting("--freeze-stages", type=cli.integer(0, 5), metavar="STAGES",
        help="number of first stages whose weights stay as they were pretrained")
    setting("--mirror", action=switch, help="average predictions over image and mirror image")

    add = parser.add_argument_group("run").add_argument
    add("--batch-size", type=cli.integer(2, 65_536), default=32, help="images a step")
    add("--patience", type=cli.integer(0), default=10, metavar="EPOCHS",
        help="stop after so many epochs without a better one on val, those of smaller images not "
        "counted; 0: never")
    add("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto",
        help="number format; auto takes what the processor or GPU does fast")
    add("--seed", type=cli.integer(0, 2**32 - 1), default=0, help="of weights, order and dropout")
    add("--deterministic", action="store_true",
        help="train to the same weights, bit for bit, on one machine, stopped and resumed or not; "
        "auto is float32 on a processor then, for no trial of speed may decide")
    add("--save-every", type=cli.integer(1, 100_000), default=1, metavar="EPOCHS",
        help="epochs between checkpoints")
    add("--save-every-minutes", type=cli.real(0, 10_000, low_open=True), default=10,
        metavar="MINUTES", help="most minutes between checkpoints, which may fall within an epoch")
    add("--find-lr", action="store_true",
        help="do not train: try rates from low to high, a step each, draw the loss by rate into "
        "--logs, suggest a rate and print the command to go on with")
    add("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    add("--restart", action="store_true", help="discard the checkpoint of an unfinished run")

    add = parser.add_argument_group("many devices").add_argument
    add("--distribute", action="store_true",
        help="train on all devices of this machine, each on its part of a batch; and where the "
        "flags below, SLURM, Open MPI or a Kubernetes job tell of other processes, on theirs too")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens for the others")
    add("--num-processes", type=cli.integer(1), metavar="N",
        help="how many there are; the same command is run for each, but for --process-id")
    add("--process-id", type=cli.integer(0), metavar="ID",
        help="number of this one, from 0; process 0 alone writes files")
    add("--coordinator-timeout", type=cli.integer(1, 86_400), default=300, metavar="SECONDS",
        help="most seconds to wait for all processes")

    add = parser.add_argument_group("output").add_argument
    add("--tensorboard-vis", action="store_true", help="log curves and images for TensorBoard")
    add("--logs", type=Path, default=Path("logs"), metavar="DIR",
        help="folder in which each run gets a folder, for its report and for TensorBoard")
    add("--print-summary", action="store_true", help="print the layers before training")
    # fmt: on
    return parser


def parse_args(words: list[str] | None = None) -> tuple[argparse.Namespace, Recipe]:
    """Return the flags and the Recipe they ask for."""
    first = cli.Parser(add_help=False)
    first.add_argument("--init", default="scratch")
    first.add_argument("--recipe")
    known, _ = first.parse_known_args(words)
    name = known.recipe
    if name not in RECIPES:
        name = "scratch" if known.init == "scratch" else "head"
    parser = make_parser(name)
    args = parser.parse_args(words)
    recipe = Recipe(**{name: getattr(args, name) for name in SETTINGS})

    if args.model.suffix != ".h5" or args.model.is_dir():
        parser.error(f"argument --model: {args.model} is no file whose name ends in .h5")
    if not card.may_stand_at(args.model.with_suffix(".md")):
        parser.error(
            f"argument --model: {args.model.with_suffix('.md')}, where its card goes, is something "
            "else; give another name"
        )
    if any(same_file(file, args.model) for file in files_of(args.data)):
        parser.error(f"argument --model: {args.model} is the file of --data; give another")
    if args.init == "scratch":
        for name, value in (("head", "random"), ("norm", "batch"), ("freeze_stages", 0)):
            if getattr(recipe, name) != value:
                flag = name.replace("_", "-")
                parser.error(f"argument --{flag}: {getattr(recipe, name)} needs weights: --init")
    elif args.init != "imagenet":
        if not Path(args.init).is_file():
            parser.error(f"argument --init: {args.init}: no such file; or give scratch or imagenet")
        own = checkpoint_folder(args.model)
        if same_file(args.init, own / "best.h5") or same_file(args.init, own / "latest.h5"):
            parser.error(f"argument --init: a new run removes {args.init}; copy it elsewhere first")
    if recipe.num_epochs == 0 and recipe.head != "regression":
        parser.error("argument --num-epochs: 0 trains nothing; give more, or --head regression")
    if args.resume and args.restart:
        parser.error("argument --restart: not allowed with --resume")
    if args.find_lr and (args.resume or args.restart):
        parser.error("argument --find-lr: it starts no run to --resume or --restart")
    told = (args.coordinator, args.num_processes, args.process_id)
    if not args.distribute and told != (None, None, None):
        parser.error("argument --distribute: give it too, with flags that tell of processes")
    if args.find_lr and args.distribute:
        parser.error("argument --find-lr: not allowed with --distribute; one device finds it too")
    if args.find_lr and recipe.num_epochs == 0:
        parser.error("argument --find-lr: no step is taken with --num-epochs 0; give more")
    return args, recipe


def main() -> int:
    args, recipe = parse_args()
    folder = checkpoint_folder(args.model)
    member = distribute.Member()
    if args.distribute:
        member = distribute.member_of(args.coordinator, args.num_processes, args.process_id)
    with Arrays(args.data) as arrays:
        check_size(arrays, recipe.copies, args.batch_size)
        report.check_packages()
        if member.first:
            make_folder(args.logs)
        fresh = Run(
            {name: getattr(args, name) for name in DECISIVE},
            arrays.fingerprint,
            code=code_version(),
            leak=leak_of(args.init, arrays),
        )
        if args.init not in ("scratch", "imagenet"):
            for _ in read_file(args.init, arrays.classes):  # before Keras starts, and a run is lost
                pass
        if member.count == 1:
            arrays.check_content()
        if not member.first:
            train(args, recipe, arrays, fresh, member)
            return 0
        if args.find_lr:
            find_rate(args, arrays, recipe, fresh)
            return 0
        make_folder(folder)
        with locked(args.model):
            run = train(args, recipe, arrays, fresh, member)
            try:
                cli.raise_if_interrupted()  # by what came as the processes parted
                finish(args, arrays, run, folder)
            except KeyboardInterrupt:
                stopped(run, folder)
        photograph = arrays.held_out() or "images/test.jpg"  # for a first prediction
    if args.tensorboard_vis:
        print(f"curves: tensorboard --logdir={shlex.quote(str(args.logs))}   (run {run.id})")
    print(f"next: {cli.shown('predict.py', '--model', args.model, photograph)}")
    return 0


def train(
    args: argparse.Namespace,
    recipe: Recipe,
    arrays: Arrays,
    fresh: Run,
    member: distribute.Member,
) -> Run:
    """Return the run that is begun or gone on with, once it is over."""
    folder, devices = checkpoint_folder(args.model), distribute.ONE_DEVICE
    if args.distribute:
        devices = distribute.join(member, args.coordinator_timeout)
        if args.batch_size != devices.whole(args.batch_size):
            raise UserError(
                f"--batch-size {args.batch_size}: {devices.count} devices share it; give a multiple"
            )
    with devices.scope():
        run = fresh
        if member.first:
            run = start_or_resume(fresh, folder, args.resume, args.restart)
        told = devices.told({"code": fresh.code, "run": run.to_json()})
        if not member.first:
            run = same_run(told, fresh)
        elif run.leak:
            print(f"warning: {run.leak}", file=sys.stderr)
        if member.count > 1:  # once all have met, for it may take long
            arrays.check_content(member.index, member.count)
        if run.over:
            return run
        start_backend(run, devices)
        from classifier.training.fit import fit

        network = build(arrays, recipe, args.init, not run.begun, devices)
        if run is fresh and member.first:  # not before all that may fail is done
            discard(folder)
        if args.print_summary and member.first:
            network.summary()
        logs = args.logs / run.id if args.tensorboard_vis and member.first else None
        try:
            if devices.interrupted():
                raise KeyboardInterrupt
            fit(
                network, arrays, recipe, run, folder,
                args.save_every, args.save_every_minutes, logs, devices,
            )  # fmt: skip
        except KeyboardInterrupt:
            stopped(run, folder, member.first)
    return run


def check_size(arrays: Arrays, copies: bool, batch_size: int) -> None:
    """Raise UserError where there is too little to train or to test on."""
    for split in ("train", "test"):
        if arrays.count(split) == 0:
            raise UserError(f"{arrays.path}: {split} is empty; make it again with prepro.py")
    rows = arrays.count("train") if copies else (arrays.copies("train") == 0).sum()
    if rows < batch_size:
        raise UserError(
            f"--batch-size {batch_size}: lower it, {arrays.path} has {rows} to train on"
        )


def start_backend(run: Run, devices: distribute.Devices = distribute.ONE_DEVICE) -> None:
    """Start Keras, seeded and in the run's number format, which a fresh one chooses; print it."""
    name, why = backend.chosen(), "as the run began"
    run.backend = run.backend or name
    if run.backend != name:
        raise UserError(
            f"KERAS_BACKEND: it is {cli.printable(name)}, the run to resume began with "
            f"{run.backend}: give that, or --restart"
        )
    keras = backend.start_keras()
    deterministic = run.arguments["deterministic"]
    if not run.precision:
        chosen = precision.choose(run.arguments["precision"], deterministic)
        run.precision, why = devices.told(chosen)
    keras.utils.set_random_seed(run.arguments["seed"])
    if deterministic:
        precision.make_deterministic()
    keras.config.set_dtype_policy(precision.POLICIES[run.precision])
    on = ", ".join(precision.devices()[: devices.count])
    if devices.processes > 1:
        on = f"{devices.count} devices of {devices.processes} processes"
    print(f"{name} on {on}, {run.precision} ({why})")


def build(
    arrays: Arrays,
    recipe: Recipe,
    init: str,
    fresh: bool,
    devices: distribute.Devices = distribute.ONE_DEVICE,
) -> "keras.Model":
    """Return the network for these arrays; a fresh run's with the weights of --init."""
    from classifier.training import pretrained
    from resnet50 import resnet50

    shape = (arrays.image_size, arrays.image_size, 3)
    network = resnet50(
        shape, len(arrays.classes), recipe.dropout, recipe.zero_init, recipe.enlarge_to
    )
    if fresh and init != "scratch":
        taken = pretrained.load(network, init, arrays.classes, devices)
        print(f"{taken} layers start from {init}")
    return network


def find_rate(args: argparse.Namespace, arrays: Arrays, recipe: Recipe, run: Run) -> None:
    """Suggest a learning rate for what a fresh run starts from, and the command to go on with."""
    start_backend(run)
    from classifier.training import range_test

    network = build(arrays, recipe, args.init, fresh=True)
    picture = args.logs / f"{run.id}-learning-rate.png"
    rate = range_test.suggest(network, arrays, recipe, args.batch_size, args.seed, picture)
    words = lasting_words()
    for flag in ("-lr", "--learning-rate"):
        if flag in words:
            del words[words.index(flag) : words.index(flag) + 2]
    print(f"next: {cli.shown('train.py', *words, '-lr', f'{rate:g}')}")


def lasting_words() -> list[str]:
    """Return the words of the command line but for --resume, --restart and --find-lr."""
    return [word for word in sys.argv[1:] if not word.startswith(("--res", "--fi"))]


def stopped(run: Run, folder: Path, first: bool = True) -> NoReturn:
    """End a run that a signal stopped: say what is kept of it."""
    if first:
        print(advice(run, folder / "latest.h5"), file=sys.stderr)
    raise SystemExit(130)


def advice(run: Run, latest: Path) -> str:
    """Return what to tell who stopped a run: what is kept of it, and how to go on."""
    kept = "no checkpoint was due yet"
    if latest.exists():
        kept = f"{latest} is from {load(latest).place}"
    return (
        f"\nstopped after {run.place} (--num-epochs {run.arguments['num_epochs']}); {kept}. "
        f"To go on:\n  {cli.shown(sys.argv[0], *lasting_words(), '--resume')}"
    )


def finish(args: argparse.Namespace, arrays: Arrays, run: Run, folder: Path) -> None:
    """Calibrate and judge the best epoch's network; save it, then write its report and card."""
    weights, info = load_best(run, folder)
    backend.start_keras()
    from classifier.training import assess

    network = model_file.filled(weights, info)
    info.training["command"] = cli.shown("train.py", *lasting_words())
    judge = assess.judge_of(network, info)
    head, test = assess.calibrate(judge, arrays, network)
    if run.leak:
        print(f"warning: {run.leak}")
    model_file.save(args.model, network, info)
    args.model.with_suffix(".md").unlink(missing_ok=True)  # an earlier model's card
    print(f"model: {args.model}")
    title = f"{args.model.name} on test of {args.data.absolute().name}"
    made = assess.report_on(judge, arrays, head, test, title)
    page = report.write(args.logs / run.id, made)
    card.write(args.model.with_suffix(".md"), args.model, made, page)
    if args.tensorboard_vis:
        from classifier.training.tensorboard import write_end

        write_end(page.parent, made)
    print(f"report: {page}")


def load_best(run: Run, folder: Path) -> tuple[model_file.Weights, model_file.ModelInfo]:
    """Return the weights of the run's best epoch and its ModelInfo; print the epoch's figures."""
    best = folder / "best.h5"
    weights, info = model_file.load_weights(best)
    if info.training.get("run") != run.id:
        raise UserError(f"{best}: not of run {run.id}, whose best epoch is lost; use --restart")
    epoch = info.training.get("best_epoch", 0)
    # Where a run was killed, best.h5 can be of an epoch that was trained again since.
    kept = {name: info.training.get(name, {}) for name in ("start", "history", "end")}
    told = in_words(replace(run, **kept).figures_of(epoch))
    if epoch > run.epochs_done:
        print(f"best: the regression after epoch {run.epochs_done}{told}")
    elif run.epochs_done:
        print(f"best epoch: {epoch} of {run.epochs_done}{told}")
    if epoch and run.start:
        print(f"epoch 0, the regression before any step{in_words(run.start)}")

    info.training |= run.progress()
    return weights, info


if __name__ == "__main__":
    cli.run(main, product="file")
