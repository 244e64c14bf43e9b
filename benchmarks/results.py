"""Run a row of the README's table of results by its name, and keep its figures.

python benchmarks/results.py clean-64-head --archive FILE --imagenet FILE.h5
python benchmarks/results.py --leak --archive FILE
python benchmarks/results.py --curve
python benchmarks/results.py --table

A row is one command of prepro.py and one of train.py for each seed, which is that of the splits as
well as of the training. The arrays are made anew, the same each time; a training that was stopped
goes on at its step. The figures go to benchmarks/results/ROW.json, until all seeds are there to
ROW.part.json: "test" and "val" hold means over the seeds, "runs" each seed's own. Minutes are those
of training, val included; images/s are those trained on, in a head's regression with their mirror
images, over these minutes. KERAS_BACKEND chooses the backend.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import prepro  # noqa: E402
from classifier import cli  # noqa: E402
from classifier.data import build  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.evaluation.metrics import wilson_interval  # noqa: E402
from classifier.files import atomic_write, make_folder  # noqa: E402
from classifier.prediction import model_file  # noqa: E402

HEADER = (
    "| row | seeds | minutes | images/s | test accuracy (95% interval) "
    "| mean per class (95% interval) | n | floor, goal |",
    "|---|---|---|---|---|---|---|---|",
)
RESULTS, PICTURES = ROOT / "benchmarks/results", ROOT / "docs"


@dataclass(frozen=True)
class Row:
    """A row of the table: its two commands, and the goals it is measured by."""

    arrays: str  # name of the files in datasets/, without the seed
    prepro: str
    train: str
    hours: float  # for a seed, on 2 cores of an AMD EPYC with AVX512-BF16; but for heads estimated
    seeds: tuple = (0, 1, 2)
    goals: dict = field(default_factory=dict)  # figure on test: (floor, goal), fractions
    leaks: bool = False  # by design, for comparison
    anew: bool = False  # it is trained anew each time, whatever there is of it


CLEAN_64 = ("clean-64", "--target-per-class 0")
CLEAN_224 = ("clean-224", "--image-size 224 --target-per-class 0")
# With --val-per-class 0 val's photographs are trained on too: what was chosen was chosen without.
PAPER_224 = (
    "paper-224",
    "--protocol paper --val-per-class 0 --image-size 224 --target-per-class 0",
)
HEAD = "--init imagenet --recipe head"
FINETUNE = "--init imagenet --recipe finetune"
ROWS = {
    "clean-64-head": Row(*CLEAN_64, HEAD, 0.1),
    "clean-224-head": Row(*CLEAN_224, HEAD, 0.1),
    "paper-224-head": Row(*PAPER_224, HEAD, 0.1),
    "clean-64-imagenet": Row(
        *CLEAN_64, FINETUNE, 0.5,
        goals={"accuracy": (0.93, 0.95)},
    ),
    "clean-224-imagenet": Row(
        *CLEAN_224, FINETUNE, 0.5,
        goals={"accuracy": (0.96, 0.975), "mean_per_class": (0.955, 0.97)},
    ),
    "paper-224-imagenet": Row(
        *PAPER_224, FINETUNE, 0.3,
        goals={"mean_per_class": (0.946, 0.96)},
    ),
    "clean-64-scratch": Row(
        "clean-64-800", "", "--recipe scratch", 5,
        goals={"accuracy": (0.62, 0.75)},
    ),
    "paper-64-scratch": Row(
        "paper-64-800", "--protocol paper --val-per-class 0", "--recipe scratch", 5,
        goals={"mean_per_class": (0.465, 0.65)},
    ),
    # 40 of each class's 840 go to val and test: as many steps as clean-64-scratch takes.
    "original-64-scratch": Row(
        "original-64-800", "--protocol original --target-per-class 840", "--recipe scratch", 5,
        goals={"accuracy": (0.9297, 0.9297)}, leaks=True,
    ),
    # A minute, nothing to download: to try a machine or a backend with.
    "digits": Row(
        "digits-32", "--sample --image-size 32 --target-per-class 0",
        "--recipe scratch --num-epochs 1 --crop 0 --mixup 0 --no-mirror", 0.02,
        seeds=(0,), anew=True,
    ),
}  # fmt: skip

# The leak at a short budget: ten classes, and arrays of both protocols that take as many steps.
TEN = "datasets/ten_classes"
LEAK = {
    "original": "--protocol original --target-per-class 440",
    "clean": "--target-per-class 400",
}
# In so few steps the copies alone, as the original has them, are best.
LEAK_TRAIN = "--recipe scratch --num-epochs 10 --crop 0 --mixup 0"
LEAK_LONG = {"original": "original-64-scratch", "clean": "clean-64-scratch"}


def main() -> int:
    parser = cli.Parser(description=__doc__.splitlines()[0])
    hours = ", ".join(f"{name} ({row.hours:g})" for name, row in ROWS.items())
    parser.add_argument(
        "row",
        nargs="?",
        choices=ROWS,
        metavar="ROW",
        help=f"(in brackets the hours a seed takes on 2 cores without a GPU) {hours}",
    )
    parser.add_argument("--archive", type=Path, help="of Caltech-101 (default: download it)")
    parser.add_argument(
        "--imagenet", type=Path, metavar="FILE.h5", help="Keras' weights (default: download them)"
    )
    parser.add_argument(
        "--leak",
        action="store_true",
        help="train on arrays that leak and on clean ones, and draw both figures",
    )
    parser.add_argument(
        "--curve", action="store_true", help="draw val accuracy by minute for the rows kept"
    )
    parser.add_argument("--table", action="store_true", help="print the table of all rows kept")
    args = parser.parse_args()
    if (bool(args.row), args.leak, args.curve, args.table).count(True) != 1:
        parser.error("give one of ROW, --leak, --curve and --table")
    archive = args.archive and args.archive.resolve()
    imagenet = args.imagenet and args.imagenet.resolve()
    os.chdir(ROOT)
    if args.row:
        run(args.row, archive, imagenet)
    elif args.leak:
        leak(archive)
    elif args.curve:
        draw_curve()
    else:
        print(table(ROWS))
    return 0


def commands(
    name: str, seed: int, archive: Path | None = None, imagenet: Path | None = None
) -> tuple[list[str], list[str]]:
    """Return a row's commands, for prepro.py and for train.py, as lists of words."""
    row = ROWS[name]
    arrays = f"datasets/{row.arrays}-{seed}.h5"
    source = ["--archive", str(archive)] if archive else ["--download"]
    source = [] if "--sample" in row.prepro else source
    prepare = ["prepro.py", *source, *row.prepro.split(), "--seed", str(seed), "--output", arrays]
    words = [str(imagenet) if imagenet and w == "imagenet" else w for w in row.train.split()]
    model = f"models/{name}-{seed}.h5"
    return prepare, ["train.py", "--data", arrays, *words, "--seed", str(seed), "--model", model]


def run(name: str, archive: Path | None, imagenet: Path | None) -> None:
    """Make a row's arrays and train on them with each seed; keep and print the figures."""
    row, runs = ROWS[name], []
    print(
        f"{name}: {len(row.seeds)} seeds, about {row.hours:g} hours each on 2 cores without a GPU",
        flush=True,
    )
    for seed in row.seeds:
        trained = train(commands(name, seed, archive, imagenet), row.anew)
        # The commands in the form that any machine can repeat.
        runs.append({"seed": seed, "command": shown(commands(name, seed)), **trained})
        figures = keep(name, runs)
        print("\n".join([*HEADER, line(figures)]), flush=True)


def train(scripts: tuple[list[str], list[str]], anew: bool = False) -> dict:
    """Run prepro.py and train.py, which goes on where it was stopped, and return the figures."""
    prepare, fit = scripts
    call(prepare)
    call([*fit, "--restart" if anew else "--resume"])
    return figures_of(fit[-1])


def shown(scripts: tuple[list[str], list[str]]) -> list[str]:
    """Return the commands of prepro.py and train.py as lines of a shell."""
    return [cli.shown(*words) for words in scripts]


def figures_of(model: str) -> dict:
    """Return what is kept of a run from what its model file says of itself."""
    info = model_file.load_info(Path(model))
    training = info.training
    history = training["history"]
    start, end = (
        [(part["minutes"], part["val_accuracy"])] if "val_accuracy" in part else []
        for part in (training["start"], training["end"])
    )
    epochs = zip(history.get("minutes", []), history.get("val_accuracy", []), strict=False)
    return {
        "test": training["test"],
        "val": training.get("val"),
        "minutes": training["minutes"],
        "images": training["images"],
        "images_per_second": training["images"] / (60 * training["minutes"]),
        "epochs": len(history.get("loss", [])),
        "best_epoch": training["best_epoch"],
        "val_accuracy_by_minute": [*start, *epochs, *end],
        "leak": info.leak,
        "code": training["code"],
        "versions": training["versions"],
        "precision": training["precision"],
        "device": training["device"],
    }


def call(command: list[str]) -> None:
    """Run a script to its end; a signal that stops this program is passed on to it.

    Raises:
        UserError: it failed.
        SystemExit: a signal stopped it, once it had kept what it did.
    """
    print("$", cli.shown(*command), flush=True)
    # In a session of its own no Ctrl-C reaches it but from here: two would stop it at once.
    script = subprocess.Popen([sys.executable, *command], start_new_session=True)
    stopped = False
    while script.returncode is None:
        try:
            script.wait()
        except KeyboardInterrupt:
            stopped = True
            script.terminate()
    if stopped:
        raise SystemExit(130)
    if script.returncode:
        raise UserError(f"{command[0]} failed (see above)")


def keep(name: str, runs: list[dict]) -> dict:
    """Write the figures of a row's runs, and return them; ROW.part.json until all seeds are there.

    Raises:
        UserError: the figures of one of them are known to be too good, and not by design.
    """
    for part in runs:
        if part["leak"] and not ROWS[name].leaks:
            raise UserError(f"{name}, seed {part['seed']}: not kept, for {part['leak']}")
    figures = {"row": name, "command": f"python benchmarks/results.py {name}"}
    for split in ("test", "val"):
        parts = [part[split] for part in runs if part[split]]
        if not parts:
            continue
        mean = {key: statistics.mean(part[key] for part in parts) for key in parts[0]}
        for key in ("accuracy", "mean_per_class"):
            values = [part[key] for part in parts]
            mean[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
        # All seeds are of one data set: more of them do not make the interval narrower.
        mean["low"], mean["high"] = wilson_interval(mean["accuracy"] * mean["n"], mean["n"])
        figures[split] = mean
    figures |= {
        "minutes": statistics.mean(part["minutes"] for part in runs),
        "images_per_second": statistics.mean(part["images_per_second"] for part in runs),
        "seeds": [part["seed"] for part in runs],
        "goals": ROWS[name].goals,
        "python": platform.python_version(),
        "runs": runs,
    }
    unfinished = f"{name}.part.json"
    if len(runs) < len(ROWS[name].seeds):
        write(unfinished, figures)
    else:
        write(f"{name}.json", figures)
        (RESULTS / unfinished).unlink(missing_ok=True)
    return figures


def write(name: str, figures: dict) -> None:
    make_folder(RESULTS)
    path = RESULTS / name
    with atomic_write(path) as temporary:
        Path(temporary).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"figures: {path.relative_to(ROOT)}")


def kept(name: str) -> dict | None:
    """Return the figures of a row, or None where not all of its seeds were run yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def table(names: Iterable[str]) -> str:
    """Return the rows kept so far as a Markdown table."""
    return "\n".join([*HEADER, *(line(kept(name)) for name in names if kept(name))])


def line(figures: dict) -> str:
    """Return a row as a line of the table."""
    test = figures["test"]
    goals = "; ".join(
        f"{'accuracy' if key == 'accuracy' else 'per class'} "
        + ", ".join(f"{100 * value:g}" for value in pair)
        for key, pair in figures["goals"].items()
    )
    return (
        f"| `{figures['row']}` | {len(figures['runs'])} | {figures['minutes']:.1f} "
        f"| {figures['images_per_second']:.0f} "
        f"| {percent(test, 'accuracy', 'low', 'high')} "
        f"| {percent(test, 'mean_per_class', 'mean_per_class_low', 'mean_per_class_high')} "
        f"| {test['n']:.0f} | {goals or '-'} |"
    )


def percent(figures: dict, key: str, low: str, high: str) -> str:
    """Return a figure as text: mean, standard deviation over the seeds, interval."""
    deviation = figures[f"{key}_std"]
    text = f"{100 * figures[key]:.2f}"
    if deviation is not None:
        text += f" ± {100 * deviation:.2f}"
    return f"{text} ({100 * figures[low]:.1f} to {100 * figures[high]:.1f})"


def leak(archive: Path | None) -> None:
    """Train one recipe for the same number of steps on arrays that leak and on clean ones."""
    photographs = Path("datasets/caltech_101")
    prepro.fetch(photographs, archive is None, archive, False)
    classes = sorted({path.parent.name for path in build.find(photographs)})[::10][:10]
    for name in classes:
        link = Path(TEN, "train", name)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path("../../caltech_101/train", name))
    figures = {"command": "python benchmarks/results.py --leak", "classes": classes}
    for protocol in LEAK:
        scripts = leak_commands(protocol)
        figures[protocol] = {"command": shown(scripts), **train(scripts)}
    counts = {figures[protocol]["images"] for protocol in LEAK}
    if len(counts) > 1:
        raise UserError(f"{TEN}: the two runs took unequal numbers of images: {counts}")
    write("leak.json", figures)
    for protocol in LEAK:
        test = figures[protocol]["test"]
        print(
            f"{protocol}: test accuracy {test['accuracy']:.2%} "
            f"({test['low']:.2%} to {test['high']:.2%}, n = {test['n']})"
        )
    draw_leak()


def leak_commands(protocol: str) -> tuple[list[str], list[str]]:
    """Return the commands of the leak's short budget, for prepro.py and for train.py."""
    arrays = f"datasets/ten-{protocol}.h5"
    return (
        ["prepro.py", "--dataset-path", TEN, *LEAK[protocol].split(), "--output", arrays],
        ["train.py", "--data", arrays, *LEAK_TRAIN.split(), "--model", f"models/ten-{protocol}.h5"],
    )


def draw_leak() -> None:
    """Draw the leak's figures with their intervals; the full data set's too, where they are."""
    pairs = {"10 classes, 1,250 steps": json.loads((RESULTS / "leak.json").read_text())}
    long = {protocol: kept(name) for protocol, name in LEAK_LONG.items()}
    if all(long.values()):
        pairs["101 classes"] = long
    figure, axes = new_picture()
    for place, (protocol, colour) in enumerate((("original", "#c44"), ("clean", "#27a"))):
        for number, pair in enumerate(pairs.values()):
            test = pair[protocol]["test"]
            middle, low, high = (100 * test[key] for key in ("accuracy", "low", "high"))
            x = number + (-0.15, 0.15)[place]
            axes.bar(
                x, middle, 0.28, color=colour,
                yerr=[[middle - low], [high - middle]], capsize=4,
                label=f"{protocol} splits" if number == 0 else None,
            )  # fmt: skip
            axes.annotate(f"{middle:.1f}", (x, 2), ha="center", color="white")
    axes.set_xticks(range(len(pairs)), pairs)
    axes.set(ylim=(0, 100), ylabel="test accuracy, %", xlim=(-0.6, len(pairs) - 0.4))
    axes.legend(loc="upper right", frameon=False)
    save_picture(figure, "leak.svg")


def draw_curve() -> None:
    """Draw val accuracy by minute for the rows kept; a row without val has none."""
    figure, axes = new_picture()
    rows = [kept(name) for name, row in ROWS.items() if not row.leaks]
    for number, figures in enumerate(filter(None, rows)):
        label = figures["row"]
        for run in figures["runs"]:
            if curve := run["val_accuracy_by_minute"]:
                minutes, accuracy = zip(*curve, strict=True)
                percents = [100 * value for value in accuracy]
                axes.plot(minutes, percents, "o-", color=f"C{number}", markersize=4, label=label)
                label = None  # one entry a row
    axes.set(xscale="log", xlabel="minutes of training", ylabel="val accuracy, %")
    low, high = axes.get_xlim()
    places = [unit * 10.0**power for power in range(-2, 5) for unit in (1, 2, 5)]
    axes.set_xlim(max(p for p in places if p < low), min(p for p in places if p > high))
    axes.set_xticks([p for p in places if axes.get_xlim()[0] <= p <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_picture(figure, "accuracy_by_minute.svg")


def new_picture() -> tuple:
    """Return matplotlib's figure and axes, for a picture that is the same each time."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "results"
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(6, 4), layout="constrained")


def save_picture(figure, name: str) -> None:
    make_folder(PICTURES)
    path = PICTURES / name
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    print(f"picture: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    cli.run(main)
