"""Measure how far this program goes beyond its default: Keras' other backends.

python benchmarks/reach.py            all rows; make reach does it with what they need installed
python benchmarks/reach.py ROW ...    these rows; the others stay as they were measured here
python benchmarks/reach.py --table    the README's table, from benchmarks/results/reach.json
"""

import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from speed import paced, said, trainer  # noqa: E402
from turns import interleave  # noqa: E402

from classifier import cli  # noqa: E402

RESULTS = ROOT / "benchmarks/results/reach.json"
PACKAGES = ("tensorflow", "keras", "numpy")
PYTHONS = {
    "tensorflow": sys.executable,
    "jax": str(ROOT / ".venv-jax/bin/python"),
    "torch": str(ROOT / ".venv-torch/bin/python"),
}
SIDE = 64
FORMS = {"ours": [], "Keras'": ["plain"]}


def main() -> int:
    args = records.parse_args(__doc__, ROWS)
    if args.table:
        print(table(records.kept(RESULTS, "make reach")))
        return 0
    os.chdir(ROOT)
    machine = records.environment(PACKAGES)
    for name in args.rows:
        began = time.perf_counter()
        record = {"name": name, **ROWS[name]()}
        records.keep(RESULTS, name, record, machine, order=list(ROWS))
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


def table(rows: list[dict]) -> str:
    """Return the rows kept as Markdown tables, with the machine below."""
    (row,) = rows
    # What is tested is what tests/test_backends.py does with each.
    lines = [
        "| backend | trains | resumes | predicts | images/s | in Keras' own form |",
        "|---|---|---|---|---|---|",
    ]
    for name in PYTHONS:
        medians = (statistics.median(row["images_per_second"][f"{name}, {form}"]) for form in FORMS)
        version = row["sides"][f"{name}, ours"]["version"]
        figures = " | ".join(f"{median:.0f}" for median in medians)
        lines.append(f"| {name} {version} | tested | tested | tested | {figures} |")
    machine = row["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"{machine['cores']} cores of {machine['processor']}; python {machine['python']}, "
            f"keras {machine['keras']}; commit {machine['commit']}; {machine['date']}.",
        ]
    )


ROWS = {"backends": backends}

if __name__ == "__main__":
    cli.run(main)
