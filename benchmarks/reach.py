"""Measure how far this program goes beyond its default: backends, processes, very many examples.

python benchmarks/reach.py            all rows; make reach does it with what they need installed
python benchmarks/reach.py ROW ...    these rows; the others stay as they were measured here
python benchmarks/reach.py --table    the tables kept in benchmarks/results/reach.json

Each row is shown with the machine and commit that it was measured on.
"""

import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from speed import OURS, examples_in, made, paced, run, said, scratch, trainer  # noqa: E402
from turns import contestant, interleave  # noqa: E402

from classifier import cli  # noqa: E402
from classifier.data.arrays import shard_pattern  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.prediction import model_file  # noqa: E402

RESULTS = ROOT / "benchmarks/results/reach.json"
PACKAGES = ("tensorflow", "keras", "numpy")
PYTHONS = {
    "tensorflow": sys.executable,
    "jax": str(ROOT / ".venv-jax/bin/python"),
    "torch": str(ROOT / ".venv-torch/bin/python"),
}
SIDE, EPOCHS = 64, 4
FORMS = {"ours": [], "Keras'": ["plain"]}
SHARDS, EXAMPLES, SHARD_SIDE = 16, (10_000, 100_000, 1_000_000), 32


def main() -> int:
    args = records.parse_args(__doc__, ROWS)
    if args.table:
        kept = records.kept(RESULTS, "make reach")
        print("\n\n".join(TABLES[row["name"]](row) for row in kept))
        return 0
    os.chdir(ROOT)
    machine = records.environment(PACKAGES)
    for name in args.rows:
        began = time.perf_counter()
        record = {"name": name, **ROWS[name]()}
        records.keep(RESULTS, name, record, machine, order=list(ROWS), of_any=True)
        print(f"{name}: {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    return 0


def backends() -> dict:
    """Return the images/s of training on each backend, float32, in our form and in Keras'."""
    with ExitStack() as stack:
        sides = {
            f"{name}, {form}": stack.enter_context(trainer(SIDE, "float32", *how, python=python))
            for name, python in PYTHONS.items()
            for form, how in FORMS.items()
        }
        rates = interleave({side: paced(who, 4) for side, who in sides.items()})
        return {"images_per_second": rates, "sides": said(sides)}


def processes() -> dict:
    """Return the images/s of train.py on JAX in one process on all cores, and in one on each."""
    arrays, all_cores = made("arrays", SIDE, 808), sorted(os.sched_getaffinity(0))
    return {
        "one": rates_of(arrays, [all_cores]),
        "many": rates_of(arrays, [[core] for core in all_cores]),
        "cores": len(all_cores),
    }


def rates_of(arrays: str, shares: list[list[int]]) -> list[float]:
    """Train in a process on each share of the cores; return the images/s of the later epochs."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        with socket.create_server(("", 0)) as server:
            coordinator = f"localhost:{server.getsockname()[1]}"
        model = Path(folder, "model.h5")
        words = [
            PYTHONS["jax"], "train.py", "--data", arrays, "--model", str(model), "--logs", folder,
            "--num-epochs", str(EPOCHS), "--precision", "float32", "--crop", "0", "--mixup", "0",
            "--no-progressive", "--patience", "0", "--save-every", str(EPOCHS),
        ]  # fmt: skip
        if len(shares) > 1:
            words += ["--distribute", "--coordinator", coordinator]
            words += ["--num-processes", str(len(shares))]
        started = []
        for index, share in enumerate(shares):
            own = ["--process-id", str(index)] if len(shares) > 1 else []
            process = subprocess.Popen(words + own, stdout=subprocess.DEVNULL)
            os.sched_setaffinity(process.pid, share)  # before it has threads
            started.append(process)
        if any([process.wait() for process in started]):
            raise UserError("train.py failed: see above")
        training = model_file.load_info(model).training
    images = training["images"] / EPOCHS
    minutes = training["history"]["minutes"]
    return [images / 60 / (end - start) for start, end in itertools.pairwise(minutes)]


def shards() -> dict:
    """Return what prepro.py, one epoch of a small network and the input pipeline take by size."""
    photographs = made("photographs", 101, 10)
    return {"sizes": [of_size(photographs, count) for count in EXAMPLES]}


def of_size(photographs: str, count: int) -> dict:
    """Make about so many examples in shards, train on each once, and read at random on one core."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        output = Path(folder, "set.h5")
        made_of = run(
            "prepro.py", "--dataset-path", photographs, "--output", output,
            "--image-size", SHARD_SIDE, "--target-per-class", count // 101, "--shards", SHARDS,
            watched=True,
        )  # fmt: skip
        arrays = shard_pattern(output, SHARDS)
        trained = run(OURS, "epoch", arrays)
        audited = run("prepro.py", "--audit", "--output", arrays, watched=True)
        with contestant(OURS, "pipeline", arrays, 32) as pipeline:
            turn = paced(pipeline, 2)
            read = [turn() for _ in range(3)]
    epoch = json.loads(trained.output.splitlines()[-1])
    return {
        "examples": examples_in(made_of.output),
        "prepro": {"seconds": made_of.seconds, "memory": made_of.memory},
        "audit": {"seconds": audited.seconds, "memory": audited.memory},
        "epoch": {"seconds_per_example": epoch["seconds_per_example"], "peak": trained.peak},
        "pipeline": read,
    }


def table_of_backends(row: dict) -> str:
    """Return the row as a Markdown table, with the machine below."""
    # What is tested is what tests/test_backends.py does with each, and test_processes.py with JAX.
    lines = [
        "| backend | trains | resumes | predicts | distributes | images/s | in Keras' own form |",
        "|---|---|---|---|---|---|---|",
    ]
    distributes = {"tensorflow": "tested, in one process", "jax": "tested", "torch": "no"}
    for name in PYTHONS:
        medians = (statistics.median(row["images_per_second"][f"{name}, {form}"]) for form in FORMS)
        version = row["sides"][f"{name}, ours"]["version"]
        figures = " | ".join(f"{median:.0f}" for median in medians)
        tested = " | ".join(["tested"] * 3 + [distributes[name]])
        lines.append(f"| {name} {version} | {tested} | {figures} |")
    return "\n".join([*lines, "", measured_on(row)])


def table_of_processes(row: dict) -> str:
    """Return the row as a Markdown table, with the machine below."""
    one, many = (statistics.median(row[name]) for name in ("one", "many"))
    cores, share = row["cores"], share_of_speed(row)
    return "\n".join(
        [
            f"| one process on {cores} cores | {cores} processes of one core each | ratio |",
            "|---|---|---|",
            f"| {one:.1f} images/s | {many:.1f} images/s | {share:.2f}x |",
            "",
            measured_on(row),
        ]
    )


def share_of_speed(row: dict) -> float:
    """Return what part of one process' images/s the several have."""
    return statistics.median(row["many"]) / statistics.median(row["one"])


def table_of_shards(row: dict) -> str:
    """Return the row as a Markdown table, with the machine below."""
    lines = [
        "| examples | prepro.py, images/s | memory | input pipeline on one core, images/s "
        "| training, images/s | memory | the audit, images/s | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in row["sizes"]:
        count = size["examples"]
        figures = [
            f"{count:,}",
            f"{count / size['prepro']['seconds']:,.0f}",
            f"{size['prepro']['memory']:.0f} MB",
            f"{statistics.median(size['pipeline']):,.0f}",
            f"{1 / size['epoch']['seconds_per_example']:,.0f}",
            f"{size['epoch']['peak']:.0f} MB",
            f"{count / size['audit']['seconds']:,.0f}",
            f"{size['audit']['memory']:.0f} MB",
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join([*lines, "", measured_on(row)])


def measured_on(row: dict) -> str:
    """Return a row's machine in a line."""
    machine = row["machine"]
    return (
        f"{machine['cores']} cores of {machine['processor']}; python {machine['python']}, "
        f"keras {machine['keras']}; commit {machine['commit']}; {machine['date']}."
    )


ROWS = {"backends": backends, "processes": processes, "shards": shards}
TABLES = {
    "backends": table_of_backends,
    "processes": table_of_processes,
    "shards": table_of_shards,
}

if __name__ == "__main__":
    cli.run(main)
