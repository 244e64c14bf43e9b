"""Whether files are whole, and what is left behind."""

import contextlib
import csv
import json
from pathlib import Path

import h5py
from PIL import Image

from classifier.data.arrays import Arrays
from classifier.prediction import model_file
from faulty.small import small_network


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
            small = "model_weights" in file and "res3a_branch1" not in file["model_weights"]
            file.visititems(lambda _, found: found[()] if isinstance(found, h5py.Dataset) else None)
        if "classifier" in kinds:
            with small_network() if small else contextlib.nullcontext():
                model_file.load_weights(path)
        elif "description" in kinds:
            with Arrays(path) as arrays:
                arrays.check_content()
        elif "run" not in kinds:
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
    elif path.stat().st_size == 0:
        raise ValueError("empty")


def debris(folder: Path) -> str:
    """Return the temporary files left below a folder, in words; "" if there are none."""
    left = [path.name for path in folder.rglob(".*")]
    return f"left behind: {', '.join(left)}" if left else ""
