"""train.py on a small residual network, which starts in seconds; its flags are train.py's."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import train  # noqa: E402
from classifier import architecture, cli  # noqa: E402

# Strides as large as ResNet-50's all together, few blocks and filters.
STAGES = {2: ((8, 8, 32), 1, 2), 5: ((8, 8, 32), 2, 4)}

if __name__ == "__main__":
    architecture.STAGES = STAGES
    cli.run(train.main, product="file")
