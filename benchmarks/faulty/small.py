"""A script or module of this program on a small residual network, which starts in seconds.

python benchmarks/faulty/small.py train.py FLAGS
python benchmarks/faulty/small.py classifier.evaluation FLAGS
"""

import contextlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from classifier import architecture  # noqa: E402

# Strides as large as ResNet-50's all together, few blocks and filters.
STAGES = {2: ((8, 8, 32), 1, 2), 5: ((8, 8, 32), 2, 4)}


@contextlib.contextmanager
def small_network() -> Iterator[None]:
    """Have the small network built, and its files read, in this block."""
    before, architecture.STAGES = architecture.STAGES, STAGES
    try:
        yield
    finally:
        architecture.STAGES = before


if __name__ == "__main__":
    name = sys.argv.pop(1)
    with small_network():
        if name.endswith(".py"):
            sys.argv[0] = str(ROOT / name)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
