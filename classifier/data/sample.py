"""The embedded sample: scikit-learn's handwritten digits, written out as photographs."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from classifier.files import named

SIZE = 64  # pixels; the digits themselves are 8x8


def write_digits(dataset_path: Path) -> None:
    """Write the 1,797 digits as `dataset_path`/train/<class>/image_NNNN.jpg, if not there yet.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, as
    shipped in scikit-learn (real scans, 10 classes).
    """
    train = Path(dataset_path) / "train"
    if train.is_dir():
        return
    from sklearn.datasets import load_digits

    temporary = train.with_name(".train.part")
    shutil.rmtree(temporary, ignore_errors=True)
    digits = load_digits()
    try:
        with named(train):
            for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
                folder = temporary / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = (image * (255 / 16)).round().astype(np.uint8)
                picture = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                picture.save(folder / f"image_{number:04}.jpg", quality=95)
            temporary.replace(train)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
