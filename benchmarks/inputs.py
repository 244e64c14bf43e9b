"""Make what the benchmarks read: photographs, an arrays file or a model, all of random numbers.

python benchmarks/inputs.py photographs FOLDER CLASSES EACH
python benchmarks/inputs.py arrays FILE SIZE EXAMPLES
python benchmarks/inputs.py model FILE
"""

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from classifier import backend  # noqa: E402
from classifier.data import arrays as arrays_file  # noqa: E402
from classifier.data.arrays import Description, Example  # noqa: E402
from classifier.processor import cores  # noqa: E402
from classifier.workers import ordered_map  # noqa: E402

CLASSES = [f"class_{number:03}" for number in range(101)]


def photographs(folder: Path, classes: int, each: int) -> None:
    """Write FOLDER/train/<class>/*.jpg: pictures of 300x200 in about 14 kB, as Caltech-101's."""
    for name in CLASSES[:classes]:
        (folder / "train" / name).mkdir(parents=True)
    numbers = [(number, i) for number in range(classes) for i in range(each)]
    for _ in ordered_map(functools.partial(_write, folder), numbers, cores()):
        pass


def _write(folder, numbers):
    random = np.random.default_rng(numbers)
    shapes = Image.fromarray(random.integers(0, 256, (6, 9, 3), np.uint8))
    pixels = np.asarray(shapes.resize((300, 200), Image.Resampling.BICUBIC)).astype(np.int16)
    texture = np.asarray(
        Image.fromarray(random.integers(0, 41, (100, 150), np.uint8)).resize((300, 200))
    )
    pixels = (pixels + texture[..., None] - 20).clip(0, 255).astype(np.uint8)
    path = folder / "train" / CLASSES[numbers[0]] / f"image_{numbers[1]:04}.jpg"
    Image.fromarray(pixels).save(path, quality=85)


def arrays(path: Path, size: int, examples: int) -> None:
    """Write an arrays file with so many training examples, and 101 each for val and test."""
    counts = {"train": examples, "val": 101, "test": 101}
    plan = {split: [Example(i % 101, 0, i % 101) for i in range(n)] for split, n in counts.items()}
    description = Description(CLASSES, size, "clean", False, 0, 0, 50)
    random = np.random.default_rng(0)
    hashes = np.zeros((101, 2, 32), np.uint8)
    with arrays_file.create(path, plan, CLASSES, hashes, description) as writer:
        for split, n in counts.items():
            for start in range(0, n, 1024):
                shape = (min(1024, n - start), size, size, 3)
                writer.write(split, start, random.integers(0, 256, shape, np.uint8))


def model(path: Path) -> None:
    """Write a model file of train.py: 101 classes, 64 pixels, weights random."""
    backend.start_keras()
    from classifier.prediction import model_file

    info = model_file.ModelInfo(CLASSES, 64, "clean")
    model_file.save(path, model_file.build(info), info)


if __name__ == "__main__":
    make = {"photographs": photographs, "arrays": arrays, "model": model}[sys.argv[1]]
    make(Path(sys.argv[2]), *map(int, sys.argv[3:]))
