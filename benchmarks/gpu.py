"""Measure training on this machine's GPU against plain PyTorch on the same one.

python benchmarks/gpu.py            all rows, in some minutes; Keras' backend and PyTorch are there
python benchmarks/gpu.py ROW ...    these rows; the others stay as they were measured here
python benchmarks/gpu.py --table    the README's table, from benchmarks/results/gpu.json

The sides take turns (see turns.py), in bfloat16. Ours is `fit`, callbacks and all, on arrays that
it reads; PyTorch has one batch in the GPU's memory, and the fastest of eager, compile and compile
for reduced overhead counts. A product of large matrices tells what the GPU can do. All sides of a
row compile at the same time.
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from speed import COMPILE_LIMIT, OURS, RIVALS, made, paced  # noqa: E402
from turns import contestant, interleave, ratio  # noqa: E402

from classifier import backend, cli  # noqa: E402
from classifier.errors import UserError  # noqa: E402

RESULTS = ROOT / "benchmarks/results/gpu.json"
PACKAGES = ("tensorflow", "jax", "torch", "keras", "numpy")
EXAMPLES = {64: 80_800, 224: 16_160}  # in the arrays, by their size in pixels
MODES = ("eager", "compile", "reduce-overhead")
PRODUCT = 8192  # side of the matrices
SECONDS = 1  # of a turn
ROWS = {  # pixels, images a step
    "train-64": (64, 32),
    "train-224": (224, 32),
    "train-64-batch-256": (64, 256),
    "train-224-batch-256": (224, 256),
}
# Our sides, with their words for ours.py and their environment.
OURS_TOO = {
    "ours": ((), {}),
    "augmented": (("augmented",), {}),  # the recipe's crops and mixtures of images
    "as JAX has it": ((), {"XLA_FLAGS": f"{backend.GRAPHS.split('=')[0]}=+FUSION"}),
}


def main() -> int:
    args = records.parse_args(__doc__, ROWS)
    if args.table:
        print(table(records.kept(RESULTS, "benchmarks/gpu.py")))
        return 0
    os.chdir(ROOT)
    machine = records.environment(PACKAGES)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the sides share the GPU's memory
    for name in args.rows:
        began = time.perf_counter()
        record = {"name": name, **measured(*ROWS[name])}
        records.keep(RESULTS, name, record, machine, order=list(ROWS))
        print(f"{line(record)}  {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    return 0


def measured(size: int, batch: int) -> dict:
    """Return the images/s (of the product: FLOP/s) of each side in each round, and what they said.

    Raises:
        UserError: there is no GPU.
    """
    arrays, chosen = made("arrays", size, EXAMPLES[size]), backend.chosen()
    commands = {
        side: ([OURS, "train", arrays, "scratch", batch, *words], env)
        for side, (words, env) in OURS_TOO.items()
        if chosen == "jax" or side != "as JAX has it"
    }
    for mode in MODES:
        commands[mode] = [RIVALS, "train", size, batch, "bfloat16", mode], {}
    commands["product"] = [RIVALS, "matmul", PRODUCT], {}

    def start(side):
        command, env = commands[side]
        began = time.perf_counter()
        try:
            one = stack.enter_context(contestant(*command, limit=COMPILE_LIMIT, env=env))
        except UserError as error:
            if side not in MODES[1:]:
                raise
            left_out[side] = str(error)
            return None
        one.details["start_seconds"] = round(time.perf_counter() - began, 1)
        return one

    left_out = {}
    with ExitStack() as stack, ThreadPoolExecutor(len(commands)) as pool:
        started = zip(commands, pool.map(start, commands), strict=True)
        who = {side: one for side, one in started if one}
        if "cores of" in who["ours"].details["device"]:
            raise UserError(f"no GPU: {chosen} computes on a processor here")
        rates = interleave({side: paced(one, SECONDS) for side, one in who.items()})
        sides = {side: one.details | {"idle_cores": one.idle_cpu} for side, one in who.items()}
        return {"backend": chosen, "rates": rates, "sides": sides, "left_out": left_out}


def figures(record: dict) -> dict:
    """Return a row's median of each side, the best mode, and ours by its and by the product's."""
    rates, ours = record["rates"], record["sides"]["ours"]
    median = {side: statistics.median(values) for side, values in rates.items()}
    mode = max(median.keys() & MODES, key=median.get)
    flops = [rate * ours["flops"] / ours["batch"] for rate in rates["ours"]]
    return {
        **median,
        "rival": median[mode],
        "mode": mode,
        "ratio": ratio(rates["ours"], rates[mode]),
        "share": ratio(flops, rates["product"]),
    }


def line(record: dict) -> str:
    """Return a row as a line of the table."""
    found = figures(record)
    rates = [f"{found[name]:,.0f}" for name in ("ours", "augmented", "rival")]
    return (
        f"| `{record['name']}` | {' | '.join(rates)} ({found['mode']}) "
        f"| {found['ratio']:.2f}x | {found['share']:.1%} |"
    )


def table(rows: list[dict]) -> str:
    """Return the rows kept as a Markdown table, with the machine below."""
    machine, last = rows[-1]["machine"], rows[-1]
    name = last["backend"]
    return "\n".join(
        [
            "| row | images/s | with crops and mixtures | plain PyTorch's | ratio "
            "| of a bfloat16 product's FLOP/s |",
            "|---|---|---|---|---|---|",
            *map(line, rows),
            "",
            f"{last['sides']['ours']['device']}, {machine['cores']} cores; python "
            f"{machine['python']}, {name} {machine[name]}, keras {machine['keras']}, torch "
            f"{machine['torch']}; commit {machine['commit']}; {machine['date']}.",
        ]
    )


if __name__ == "__main__":
    cli.run(main)
