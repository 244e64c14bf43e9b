"""Measure how far this program goes: backends, processes, very many examples, other runtimes.

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
from functools import partial
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from speed import OURS, examples_in, made, paced, run, said, scratch, trainer  # noqa: E402
from turns import contestant, interleave  # noqa: E402

from classifier import backend, cli  # noqa: E402
from classifier.data.arrays import Arrays, shard_pattern  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.evaluation.evaluate import Judge  # noqa: E402
from classifier.export import check, graph  # noqa: E402
from classifier.export.formats import FORMATS  # noqa: E402
from classifier.prediction import model_file  # noqa: E402
from classifier.prediction.forward import Network, averaged  # noqa: E402
from classifier.prediction.runtime import images_a_thread  # noqa: E402
from classifier.processor import cores  # noqa: E402

RESULTS = ROOT / "benchmarks/results/reach.json"
PACKAGES = ("tensorflow", "keras", "numpy")
PYTHONS = {
    "tensorflow": sys.executable,
    "jax": str(ROOT / ".venv-jax/bin/python"),
    "torch": str(ROOT / ".venv-torch/bin/python"),
}
SIDE, EPOCHS = 64, 4
MODEL = Path("models/resnet50.h5")
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


def exports() -> dict:
    """Return what models/resnet50.h5 is in each format and its runtime, on photographs of test."""
    with mock.patch.dict(os.environ):  # what is set here is not for the programs of other rows
        return _exports()


def _exports():
    from threadpoolctl import threadpool_limits  # which scikit-learn has

    from classifier.export import __main__ as export

    weights, info = model_file.load_weights(MODEL)
    head, network = model_file.head_of(weights, info), Network(weights, info.enlarge_to)
    judge = Judge(network, info, images_a_thread(info.side), cores())
    found, runs = {}, {"predict.py": partial(averaged, network, mirror=info.mirror, threads=2)}
    os.environ |= {"KERAS_BACKEND": "tensorflow", **export.PROCESSOR}
    with (
        Arrays(export.DATA) as arrays,
        tempfile.TemporaryDirectory(dir=scratch()) as folder,
        threadpool_limits(1, "blas"),  # as predict.py has it
    ):
        some = check.expected(arrays, judge, head, MODEL)
        every = check.expected(arrays, judge, head, MODEL, arrays.count("test"))
        backend.start_keras()
        whole = graph.whole(network, head, info)
        for name, form in FORMATS.items():
            for int8 in (False, True) if form.quantizer else (False,):
                side = f"{name}, {'int8' if int8 else 'float32'}"
                place = Path(folder, side, f"model{form.suffix}")
                place.parent.mkdir()
                with export.quiet():
                    photographs = export.calibration(arrays) if int8 else None
                    form.write(whole, place, export.metadata_of(info, int8), photographs)
                    runs[side] = form.load(place)
                agreed = check.agreement(runs[side], every if int8 else some)
                found[side] = {"bytes": export.size_of(place), **agreed._asdict()}
                found[side]["runtime"] = form.runtime()
        (image,), _ = arrays.read("test", slice(0, 1))
        turns = {side: partial(check.milliseconds, run, image[None]) for side, run in runs.items()}
        taken = interleave(turns)
    model = {"code": info.training["code"], "recipe": info.training["arguments"]["recipe"]}
    model |= {"bytes": MODEL.stat().st_size, "image_size": info.image_size, "side": info.side}
    return {"formats": found, "milliseconds": taken, "model": model}


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
    return "\n".join([*lines, "", records.in_words(row["machine"], ["keras"])])


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
            records.in_words(row["machine"], ["keras"]),
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
    return "\n".join([*lines, "", records.in_words(row["machine"], ["keras"])])


def table_of_exports(row: dict) -> str:
    """Return the row as a Markdown table, with the machine below."""
    lines = [
        "| format: runtime | in | MB | one photograph, ms | probabilities differ by at most "
        "| named otherwise | accuracy (`predict.py`'s) | photographs |",
        "|---|---|---|---|---|---|---|---|",
        f"| `predict.py` | float32 | {row['model']['bytes'] / 1e6:.1f} "
        f"| {statistics.median(row['milliseconds']['predict.py']):.0f} |  |  |  |  |",
    ]
    for side, found in row["formats"].items():
        name, precision = side.split(", ")
        lines.append(
            f"| {name}: {found['runtime']} | {precision} | {found['bytes'] / 1e6:.1f} "
            f"| {statistics.median(row['milliseconds'][side]):.0f} | {found['probability']:.1e} "
            f"| {found['renamed']} | {share(found, 'right')} ({share(found, 'before')}) "
            f"| {found['count']:,} |"
        )
    return "\n".join([*lines, "", records.in_words(row["machine"], ["keras"])])


def exports_in_words(row: dict) -> str:
    """Return what the README says of the row."""
    formats, taken = row["formats"], row["milliseconds"]
    whole = [found for side, found in formats.items() if side.endswith("float32")]
    int8 = [found for side, found in formats.items() if side.endswith("int8")]
    least, most = (choose(int8, key=lambda found: found["right"]) for choose in (min, max))
    times = [
        f"{statistics.median(taken[side]):.0f} ms in {side.split(', ')[0]}"
        for side in formats
        if side.endswith("int8")
    ]
    return (
        f"In float32 probabilities of {whole[0]['count']} test photographs differ by "
        f"{max(found['probability'] for found in whole):.6f} at most, and "
        f"{sum(found['renamed'] for found in whole) or 'none'} are named otherwise. In int8 "
        f"{share(least, 'right')} to {share(most, 'right')} of {least['count']:,} are named "
        f"rightly, by `predict.py` {share(least, 'before')}, and a photograph takes {times[0]}, "
        f"{times[1]} and {times[2]}, instead of {statistics.median(taken['predict.py']):.0f} ms."
    )


def share(found: dict, name: str) -> str:
    """Return a count of photographs as a share of all."""
    return f"{found[name] / found['count']:.2%}"


ROWS = {"backends": backends, "processes": processes, "shards": shards, "exports": exports}
TABLES = {
    "backends": table_of_backends,
    "processes": table_of_processes,
    "shards": table_of_shards,
    "exports": table_of_exports,
}

if __name__ == "__main__":
    cli.run(main)
