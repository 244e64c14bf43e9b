"""Whether files are whole, and what is left behind."""

import contextlib
import csv
import json
import threading
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from classifier.data.arrays import Arrays
from classifier.export.formats import FORMATS
from classifier.prediction import model_file
from faulty.small import small_network

ONNX, OPENVINO = FORMATS["onnx"], FORMATS["openvino"]
EXPORTS = (".onnx", ".xml")
LOADING = threading.Lock()  # small_network is of the whole process, and rows go two at a time


def not_whole(folder: Path) -> str:
    """Return which file below a folder is not whole, and why; "" if each is.

    Names that start with a dot are temporary, and TensorBoard's logs are appended to.
    """
    for path in sorted(folder.rglob("*")):
        hidden = any(name.startswith(".") for name in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        try:
            read(path)
        except Exception as error:  # whatever a reader makes of half a file
            return f"{path.name} is not whole: {type(error).__name__}: {str(error)[:200]}"
    return ""


def read(path: Path) -> None:
    """Read a file to its end, by what its name says it is; raise any exception if it is damaged."""
    if ".tfevents." in path.name:
        return
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            kinds = set(file)
            file.visititems(_read_dataset)
        if "classifier" in kinds:
            weights_of(path)
        elif "description" in kinds:
            with Arrays(path) as arrays:
                arrays.check_content()
        elif not {"run", "model", "optimizer", "metrics"} <= kinds:
            raise ValueError("neither a model nor arrays nor a checkpoint")
    elif path.suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".html":
        if not path.read_text().rstrip().endswith("</html>"):
            raise ValueError("cut off")
    elif path.suffix == ".csv":
        rows = list(csv.reader(path.read_text().splitlines()))
        if not path.read_text().endswith("\n") or len(set(map(len, rows))) > 1:
            raise ValueError("cut off")
    elif path.suffix in EXPORTS:
        said_by(path)
    elif path.stat().st_size == 0:
        raise ValueError("empty")


def said_by(path: Path) -> str:
    """Return what an exported file says of itself, and of a picture, rounded."""
    form, place = (ONNX, path) if path.suffix == ".onnx" else (OPENVINO, path.parent)
    metadata = form.metadata(place)
    size = json.loads(metadata)["image_size"]
    picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    found = form.load(place)(picture)
    return metadata + str({name: np.round(part, 3) for name, part in sorted(found.items())})


def _read_dataset(name: str, found: h5py.Group | h5py.Dataset) -> None:
    """Read what h5py visits; it goes on to the next as long as it is given None."""
    if isinstance(found, h5py.Dataset):
        found[()]


def weights_of(path: Path) -> tuple[model_file.Weights, model_file.ModelInfo]:
    """Return the weights of a model file, be it of ResNet-50 or of the small network."""
    with h5py.File(path) as file:
        small = "res3a_branch1" not in file["model_weights"]
    with LOADING, small_network() if small else contextlib.nullcontext():
        return model_file.load_weights(path)


def debris(folder: Path) -> str:
    """Return the temporary files left below a folder, in words; "" if there are none."""
    left = [path.name for path in folder.rglob(".*")]
    return f"left behind: {', '.join(left)}" if left else ""
