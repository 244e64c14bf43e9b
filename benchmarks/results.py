"""Run a row of the README's table of results by its name, and keep its figures.

python benchmarks/results.py clean-64-imagenet --archive FILE --imagenet FILE.h5
python benchmarks/results.py --table

A row is one command of prepro.py and one of train.py for each seed. The arrays are made anew, the
same each time; a training that was stopped goes on where it stopped. The figures go to
benchmarks/results/ROW.json: "test" and "val" hold means over the seeds, "runs" each seed's own.
"""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from classifier import cli  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.evaluation.metrics import wilson_interval  # noqa: E402
from classifier.files import atomic_write, make_folder  # noqa: E402
from classifier.prediction import model_file  # noqa: E402

RESULTS = ROOT / "benchmarks/results"


@dataclass(frozen=True)
class Row:
    """A row of the table: its two commands, and the goals it is measured by."""

    arrays: str  # name of the file in datasets/
    prepro: str
    train: str
    seeds: tuple = (0,)
    goals: dict = field(default_factory=dict)  # figure on test: (floor, goal), fractions


# With --val-per-class 0 val's photographs are trained on too: what was chosen was chosen without.
ROWS = {
    "clean-64-imagenet": Row(
        "clean-64", "--target-per-class 0", "--init imagenet",
        goals={"accuracy": (0.93, 0.95)},
    ),
    "clean-224-imagenet": Row(
        "clean-224", "--image-size 224 --target-per-class 0", "--init imagenet",
        goals={"accuracy": (0.96, 0.975), "mean_per_class": (0.955, 0.97)},
    ),
    "paper-224-imagenet": Row(
        "paper-224", "--protocol paper --val-per-class 0 --image-size 224 --target-per-class 0",
        "--init imagenet",
        goals={"mean_per_class": (0.945, 0.96)},
    ),
}  # fmt: skip


def main() -> int:
    parser = cli.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("row", nargs="?", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--archive", type=Path, help="of Caltech-101 (default: download it)")
    parser.add_argument(
        "--imagenet", type=Path, metavar="FILE.h5", help="Keras' weights (default: download them)"
    )
    parser.add_argument("--table", action="store_true", help="print the table of all rows kept")
    args = parser.parse_args()
    if args.table == bool(args.row):
        parser.error("give a ROW, or --table")
    sources = {
        k: v and v.resolve() for k, v in (("archive", args.archive), ("imagenet", args.imagenet))
    }
    os.chdir(ROOT)
    if args.row:
        keep(args.row, run(args.row, **sources))
    print(table([args.row] if args.row else ROWS))
    return 0


def commands(
    name: str, seed: int = 0, archive: Path | None = None, imagenet: Path | None = None
) -> tuple[list[str], list[str]]:
    """Return a row's commands, for prepro.py and for train.py, as lists of words."""
    row = ROWS[name]
    arrays = f"datasets/{row.arrays}.h5"
    source = ["--archive", str(archive)] if archive else ["--download"]
    prepro = ["prepro.py", *source, *row.prepro.split(), "--output", arrays]
    words = [str(imagenet) if imagenet and w == "imagenet" else w for w in row.train.split()]
    model = f"models/{name}-{seed}.h5"
    return prepro, ["train.py", "--data", arrays, *words, "--seed", str(seed), "--model", model]


def run(name: str, **sources: Path | None) -> list[dict]:
    """Make a row's arrays, train on them with each seed, and return the runs' figures."""
    call(commands(name, **sources)[0])
    runs = []
    for seed in ROWS[name].seeds:
        _, train = commands(name, seed, **sources)
        call([*train, "--resume"])
        runs.append(figures_of(model_file.load_info(train[-1]), seed))
    return runs


def figures_of(info: model_file.ModelInfo, seed: int) -> dict:
    """Return what is kept of a run from what its model file says of itself."""
    training = info.training
    history, start = training["history"], training["start"]
    curve = [[start["minutes"], start["val_accuracy"]]] if "val_accuracy" in start else []
    curve += zip(history["minutes"], history.get("val_accuracy", []), strict=False)
    return {
        "seed": seed,
        "test": training["test"],
        "val": training.get("val"),
        "minutes": training["minutes"],
        "epochs": len(history["loss"]),
        "val_accuracy_by_minute": curve,
        "leak": info.leak,
        "code": training["code"],
        "versions": training["versions"],
        "device": training["device"],
    }


def call(command: list[str]) -> None:
    print("$", shlex.join(["python", *command]), flush=True)
    if subprocess.run([sys.executable, *command]).returncode:
        raise UserError(f"{command[0]} failed (see above)")


def keep(name: str, runs: list[dict]) -> None:
    """Write a row's JSON file from its runs.

    Raises:
        UserError: the figures of one of them are known to be too good.
    """
    for part in runs:
        if part["leak"]:
            raise UserError(f"{name}, seed {part['seed']}: not kept, for {part['leak']}")
    figures = {"row": name, "command": [shlex.join(["python", *c]) for c in commands(name)]}
    for split in ("test", "val"):
        parts = [part[split] for part in runs if part[split]]
        if not parts:
            continue
        mean = {key: statistics.mean(part[key] for part in parts) for key in parts[0]}
        for key in ("accuracy", "mean_per_class"):
            values = [part[key] for part in parts]
            mean[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
        # All seeds are read on the same photographs: more seeds do not make the interval narrower.
        mean["low"], mean["high"] = wilson_interval(mean["accuracy"] * mean["n"], mean["n"])
        figures[split] = mean
    figures |= {
        "minutes": statistics.mean(part["minutes"] for part in runs),
        "seeds": [part["seed"] for part in runs],
        "goals": ROWS[name].goals,
        "python": platform.python_version(),
        "runs": runs,
    }
    make_folder(RESULTS)
    path = RESULTS / f"{name}.json"
    with atomic_write(path) as temporary:
        Path(temporary).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"figures: {path.relative_to(ROOT)}")


def table(names: Iterable[str]) -> str:
    """Return the rows kept so far as a Markdown table."""
    lines = [
        "| row | seeds | minutes | test accuracy (95% interval) | mean per class (95% interval) "
        "| n | floor, goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        kept = json.loads(path.read_text())
        test = kept["test"]
        goals = "; ".join(
            f"{'accuracy' if key == 'accuracy' else 'per class'} "
            + ", ".join("-" if value is None else f"{100 * value:g}" for value in pair)
            for key, pair in kept["goals"].items()
        )
        lines.append(
            f"| `{name}` | {len(kept['runs'])} | {kept['minutes']:.0f} "
            f"| {percent(test, 'accuracy', 'low', 'high')} "
            f"| {percent(test, 'mean_per_class', 'mean_per_class_low', 'mean_per_class_high')} "
            f"| {test['n']:.0f} | {goals} |"
        )
    return "\n".join(lines)


def percent(figures: dict, key: str, low: str, high: str) -> str:
    """Return a figure as text: mean, standard deviation over the seeds, interval."""
    deviation = figures[f"{key}_std"]
    text = f"{100 * figures[key]:.2f}"
    if deviation is not None:
        text += f" ± {100 * deviation:.2f}"
    return f"{text} ({100 * figures[low]:.1f} to {100 * figures[high]:.1f})"


if __name__ == "__main__":
    cli.run(main)
