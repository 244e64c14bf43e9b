"""Measure training on this machine's GPU against plain PyTorch on the same one.

python benchmarks/gpu.py            all rows, in some minutes; Keras' backend and PyTorch are there
python benchmarks/gpu.py ROW ...    these rows; the others stay as they were measured here
python benchmarks/gpu.py --table    the README's table, from benchmarks/results/gpu.json

The sides take turns (see turns.py), in bfloat16: ours reads real arrays and is `fit`, callbacks and
all; PyTorch has one batch in the GPU's memory, and is the fastest of eager, compile and compile for
reduced overhead; a product of large matrices tells what the GPU can do.
"""

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from speed import COMPILE_LIMIT, OURS, RIVALS, made, paced, said  # noqa: E402
from turns import contestant, interleave, ratio  # noqa: E402

from classifier import backend, cli  # noqa: E402
from classifier.errors import UserError  # noqa: E402

RESULTS = ROOT / "benchmarks/results/gpu.json"
PACKAGES = ("tensorflow", "jax", "torch", "keras", "numpy")
EXAMPLES = {64: 80_800, 224: 16_160}  # in the arrays, by their size in pixels
MODES = ("eager", "compile", "reduce-overhead")
PRODUCT = 8192  # side of the matrices
SECONDS = 2  # of a turn


@dataclass(frozen=True)
class Row:
    """What is trained on: pixels, images a step, and whether they are cropped and mixed."""

    size: int
    batch: int
    augmented: bool = False


ROWS = {
    "train-64": Row(64, 32),
    "train-64-augmented": Row(64, 32, augmented=True),
    "train-64-batch-256": Row(64, 256),
    "train-224": Row(224, 32),
    "train-224-batch-256": Row(224, 256),
}


def main() -> int:
    args = records.parse_args(__doc__, ROWS)
    if args.table:
        print(table(records.kept(RESULTS, "benchmarks/gpu.py")))
        return 0
    os.chdir(ROOT)
    machine = records.environment(PACKAGES)
    # The sides share the GPU's memory; what was compiled for one row is there for the next.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        for name in args.rows:
            began = time.perf_counter()
            record = {"name": name, **measured(ROWS[name])}
            records.keep(RESULTS, name, record, machine, order=list(ROWS))
            print(f"{line(record)}  {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    return 0


def measured(row: Row) -> dict:
    """Return the images/s (of the product: FLOP/s) of each side in each round, and what they said.

    Raises:
        UserError: there is no GPU.
    """
    words = ["train", made("arrays", row.size, EXAMPLES[row.size]), "scratch", row.batch]
    with ExitStack() as stack:
        who = {}

        def start(side, *command):
            began = time.perf_counter()
            who[side] = stack.enter_context(contestant(*command, limit=COMPILE_LIMIT))
            who[side].details["start_seconds"] = round(time.perf_counter() - began, 1)

        start("ours", OURS, *words, *["augmented"] * row.augmented)
        if "cores of" in who["ours"].details["device"]:
            raise UserError(f"no GPU: {backend.chosen()} computes on a processor here")
        for mode in MODES:
            start(mode, RIVALS, "train", row.size, row.batch, "bfloat16", mode)
        start("product", RIVALS, "matmul", PRODUCT)
        rates = interleave({side: paced(one, SECONDS) for side, one in who.items()})
        sides = said(who)
    return {"backend": backend.chosen(), "rates": rates, "sides": sides}


def figures(record: dict) -> dict:
    """Return a row's ours and rival's images/s, mode, ratio, and share of the product's FLOP/s."""
    rates, ours = record["rates"], record["sides"]["ours"]
    mode = max(MODES, key=lambda mode: statistics.median(rates[mode]))
    flops = [rate * ours["flops"] / ours["batch"] for rate in rates["ours"]]
    return {
        "ours": statistics.median(rates["ours"]),
        "rival": statistics.median(rates[mode]),
        "mode": mode,
        "ratio": ratio(rates["ours"], rates[mode]),
        "share": ratio(flops, rates["product"]),
    }


def line(record: dict) -> str:
    """Return a row as a line of the table."""
    found = figures(record)
    return (
        f"| `{record['name']}` | {found['ours']:,.0f} | {found['rival']:,.0f} ({found['mode']}) "
        f"| {found['ratio']:.2f}x | {found['share']:.1%} |"
    )


def table(rows: list[dict]) -> str:
    """Return the rows kept as a Markdown table, with the machine below."""
    machine, one = rows[-1]["machine"], rows[-1]
    name = one["backend"]
    return "\n".join(
        [
            "| row | images/s | plain PyTorch, images/s | ratio | of the GPU's bfloat16 product |",
            "|---|---|---|---|---|",
            *map(line, rows),
            "",
            f"{one['sides']['ours']['device']}, {machine['cores']} cores; python "
            f"{machine['python']}, {name} {machine[name]}, keras {machine['keras']}, torch "
            f"{machine['torch']}; commit {machine['commit']}; {machine['date']}.",
        ]
    )


if __name__ == "__main__":
    cli.run(main)
