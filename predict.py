"""Name what photographs show, with the model that train.py saved."""

import argparse
import csv
import glob
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from classifier import cli
from classifier.data.images import MAX_BYTES, ImageError, decode, files_below
from classifier.errors import UserError
from classifier.evaluation.evaluate import images_a_step

Predictions = list[tuple[str, float]]  # (label, probability), best first


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    add = parser.add_argument
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, folders or globs; - reads one image from standard input",
    )
    add(
        "--model",
        type=Path,
        default=Path("models/resnet50.h5"),
        metavar="FILE",
        help="a model of train.py",
    )
    add("--top", type=cli.integer(1), default=5, help="how many classes to print")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help='a line an image: {"file": ..., "predictions": [{"label": ..., '
        '"probability": ...}, ...]}',
    )
    form.add_argument("--csv", action="store_true", help="file, rank, label, probability")
    add("--strict", action="store_true", help="fail if any image cannot be read")
    return parser.parse_args(words)


def main() -> int:
    args = parse_args()
    files = find(args.images)
    from classifier.prediction import model_file

    info = model_file.load_info(args.model)
    step = images_a_step(max(info.image_size, info.enlarge_to))
    model = None
    write = write_json if args.json else csv_writer() if args.csv else write_text
    failed = 0
    for start in range(0, len(files), step):
        names, images = [], []
        for name in files[start : start + step]:
            try:
                images.append(read_image(name, info.image_size))
                names.append(name)
            except UserError as error:
                if args.strict or len(files) == 1:
                    raise
                failed += 1
                print(f"skipped: {error}", file=sys.stderr)
        if images:
            if model is None:  # Keras starts slowly: not before there is something to predict
                cli.start_keras()
                model, _ = model_file.load(args.model)
            outputs = model_file.probabilities(model, np.stack(images), info.mirror)
            for name, row in zip(names, outputs, strict=True):
                best = np.argsort(-row, kind="stable")[: args.top]
                write(name, [(info.classes[i], float(row[i])) for i in best])
            sys.stdout.flush()  # what ends a later batch does not cost these results
    if failed == len(files):
        raise UserError(f"none of the {failed} files can be read as an image (listed above)")
    if failed:
        print(
            f"skipped {failed} of {len(files)} files, which cannot be read as images",
            file=sys.stderr,
        )
    return 0


def find(patterns: list[str]) -> list[str]:
    """Return the image files that paths, folders and globs name, in the order given.

    Raises:
        UserError: one of them names nothing.
    """
    files = []
    for pattern in patterns:
        path = Path(pattern)
        if pattern == "-" or is_file_or_unreachable(path):
            found = [pattern]
        elif path.is_dir():
            found = [str(file) for file in files_below(path)]
        else:
            names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute too
            found = [name for name in names if Path(name).is_file()]
        if not found:
            raise UserError(f"{pattern}: no such image; give a file, a folder of images or a glob")
        files += found
    return files


def is_file_or_unreachable(path: Path) -> bool:
    """Return whether `path` is a file, or may be one: reading it tells why it cannot be reached."""
    try:
        return path.is_file()
    except OSError:
        return True


def read_image(name: str, size: int) -> np.ndarray:
    """Decode the image of a name, '-' for standard input: uint8 (size, size, 3).

    Raises:
        UserError: it cannot be read, or is no image.
    """
    shown = "standard input" if name == "-" else name if name.isprintable() else repr(name)
    try:
        return decode(standard_input() if name == "-" else name, size)
    except ImageError as error:
        raise UserError(
            f"{shown}: {error}; give a JPEG, PNG, GIF, BMP, TIFF or WebP image"
        ) from error
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror or error}; make it readable") from error


def standard_input() -> io.BytesIO:
    """Return the bytes of standard input, at most MAX_BYTES; raise ImageError if there are none."""
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if sys.stdin else b""
    if not data:
        raise ImageError("it is empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"more than {MAX_BYTES:,} bytes")
    return io.BytesIO(data)


def write_text(name: str, predictions: Predictions) -> None:
    print(name)
    for label, probability in predictions:
        print(f"  {probability:7.2%}  {label}")


def write_json(name: str, predictions: Predictions) -> None:
    rows = [{"label": label, "probability": probability} for label, probability in predictions]
    print(json.dumps({"file": name, "predictions": rows}))


def csv_writer() -> Callable[[str, Predictions], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    started = False

    def write_csv(name, predictions):
        nonlocal started
        if not started:
            writer.writerow(("file", "rank", "label", "probability"))
            started = True
        for rank, (label, probability) in enumerate(predictions, 1):
            writer.writerow((name, rank, label, f"{probability:.6f}"))

    return write_csv


if __name__ == "__main__":
    cli.run(main)
