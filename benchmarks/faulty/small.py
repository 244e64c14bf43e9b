"""A script of this program on a small residual network, which starts in seconds.

python benchmarks/faulty/small.py train.py FLAGS
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from classifier import architecture  # noqa: E402

# Strides as large as ResNet-50's all together, few blocks and filters.
STAGES = {2: ((8, 8, 32), 1, 2), 5: ((8, 8, 32), 2, 4)}

if __name__ == "__main__":
    architecture.STAGES = STAGES
    script = ROOT / sys.argv.pop(1)
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")
