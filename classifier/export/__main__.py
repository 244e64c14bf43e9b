"""Export a model of train.py for another runtime, and compare it there with predict.py."""

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# As in predict.py: images are computed side by side, each product by one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from classifier import __version__, backend, cli
from classifier.data.arrays import Arrays, files_of
from classifier.errors import UserError
from classifier.evaluation.evaluate import Judge, check_fit
from classifier.export import check, graph
from classifier.export.formats import FORMATS
from classifier.files import locked, made_aside, make_folder, same_file
from classifier.prediction import forward, model_file
from classifier.prediction.runtime import images_a_thread
from classifier.processor import cores

NAME = "classifier.export"
DATA = Path("datasets/caltech_101.h5")
# On a GPU float32 may be less.
PROCESSOR = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}
CALIBRATION = 100  # photographs of val, by which the ranges of int8 are chosen


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(prog=f"python -m {NAME}", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model of train.py")
    add("--to", choices=FORMATS, required=True, help="format")
    add(
        "--output",
        type=Path,
        metavar="PATH",
        help="file, or folder of savedmodel and openvino, to write (default: beside the model, "
        "under its name)",
    )
    quantized = ", ".join(name for name, form in FORMATS.items() if form.quantizer)
    add(
        "--int8",
        action="store_true",
        help=f"compute convolutions in 8-bit integers ({quantized}), in ranges taken from "
        f"{CALIBRATION} photographs of val; it may cost {100 * check.DROP:.0f} point of accuracy",
    )
    add(
        "--data",
        type=Path,
        metavar="ARRAYS",
        help=f"arrays of prepro.py; of shards, their folder or a pattern (default: {DATA})",
    )
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help=f"before it is written, compare {check.MOST} photographs' results with predict.py's "
        "(default: where the arrays are there)",
    )
    args = parser.parse_args(words)
    form = FORMATS[args.to]
    if args.int8 and not form.quantizer:
        parser.error(f"argument --int8: there is no tool for --to {args.to}; leave it out")
    if args.data and args.verify is False and not args.int8:
        parser.error("argument --data: nothing is done with them after --no-verify; leave one out")
    if args.model.name in ("", ".."):
        parser.error(f"argument MODEL: {args.model}: is a folder; give a file")
    word = "-int8" if args.int8 else ""
    args.output = args.output or args.model.with_name(f"{args.model.stem}{word}{form.suffix}")
    if form.folder and (args.output.suffix == ".xml" or args.output.name in ("", "..")):
        parser.error(f"argument --output: {args.output}: give the name of a new folder")
    if not form.folder and args.output.suffix != form.suffix:
        parser.error(f"argument --output: {args.output}: give a name that ends in {form.suffix}")
    for path in (args.model, *files_of(args.data or DATA)):
        if same_file(args.output, path):
            parser.error(f"argument --output: {path} would be lost; give another")
    return args


def main() -> int:
    args = parse_args()
    form, output = FORMATS[args.to], args.output
    weights, info = model_file.load_weights(args.model)
    head = model_file.head_of(weights, info)
    network = forward.Network(weights, info.enlarge_to)
    with contextlib.ExitStack() as stack:
        arrays = opened(args, info, stack)
        start_keras(args.to, args.int8)
        if not form.may_stand_at(output):
            raise UserError(
                f"--output {cli.printable(output)}: something else is there; give another"
            )
        make_folder(output.parent)
        stack.enter_context(locked(output))
        wanted = photographs = found = None
        if arrays and args.verify is not False:
            judge = Judge(network, info, images_a_thread(info.side), cores())
            wanted = check.expected(arrays, judge, head, args.model)
        if args.int8:
            photographs = calibration(arrays)
        place = stack.enter_context(made_aside(output))
        needed = args.model.stat().st_size
        with full_disk_told(place, needed), drafts_beside(place), quiet():
            model = graph.whole(network, head, info)
            form.write(model, place, metadata_of(info, args.int8), photographs)
            run = form.load(place)
        cli.raise_if_interrupted()  # a library may have caught it
        if wanted:
            found = check.agreement(run, wanted)
            check.accept(found, args.int8, args.to)
        blank = np.zeros((1, info.image_size, info.image_size, 3), np.uint8)
        taken, size = check.milliseconds(run, blank), size_of(place)
    print(f"{cli.printable(output)}: {size / 1e6:.1f} MB")
    if found:
        show(found, wanted.split, args.int8)
    print(f"one photograph: {taken:.1f} ms, the median of {check.TURNS} ({form.runtime()})")
    return 0


def calibration(arrays: Arrays) -> np.ndarray:
    """Return photographs of val, uint8 (CALIBRATION or fewer, size, size, 3)."""
    return arrays.read("val", check.spread(arrays.count("val"), CALIBRATION))[0]


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())


def opened(
    args: argparse.Namespace, info: model_file.ModelInfo, stack: contextlib.ExitStack
) -> Arrays | None:
    """Open the arrays that are asked for, or are there; None where they are not wanted, or unfit.

    Raises:
        UserError: there are none where they are needed, or they are not for the model.
    """
    if args.verify is False and not args.int8:
        return None
    try:
        arrays = stack.enter_context(Arrays(args.data or DATA))
        check_fit(arrays, info, args.model)
        if args.verify is not False and not arrays.count("test") + arrays.count("val"):
            raise UserError(f"{arrays.path}: test and val are empty; give other arrays")
    except UserError as error:
        if args.int8 or args.verify or args.data:
            raise
        print(f"note: not compared with predict.py: {error}", file=sys.stderr)
        return None
    if args.int8 and not arrays.count("val"):
        raise UserError(f"--int8: val is empty in {arrays.path}; give other arrays")
    return arrays


def start_keras(to: str, int8: bool) -> None:
    """Start Keras on the processor, for a format of a name, with nothing else on the terminal.

    Raises:
        UserError: it, or what else the format wants, is not installed or does not start.
    """
    form, remedy = FORMATS[to], "pip install -r requirements-export.txt"
    if "tensorflow" in form.needs:  # which converts
        if missing := form.lacks(int8):
            raise UserError(f"--to {to}: {missing} is not installed: {remedy}")
        os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ |= PROCESSOR
    backend.start_keras()
    cli.part_from_compiled_code(silent=os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3")
    with quiet():
        for name in form.packages(int8):
            try:
                importlib.import_module(name)
            except Exception as error:
                raise UserError(f"--to {to}: {name} does not start: {error}; {remedy}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what libraries print in Python, their warnings too."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def drafts_beside(place: Path) -> Iterator[None]:
    """Have libraries' temporary files beside `place`, where none stays after a kill."""
    before, tempfile.tempdir = tempfile.tempdir, str(place.parent)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def full_disk_told(place: Path, size: int) -> Iterator[None]:
    """Raise OSError for whatever a library makes of a disk without room.

    Args:
        place: in the folder that is written to.
        size: bytes, of which there are fewer left on such a disk.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        if shutil.disk_usage(place.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def metadata_of(info: model_file.ModelInfo, int8: bool) -> str:
    """Return what an exported file says of itself, as JSON."""
    size = info.image_size
    known = info.known
    said = {
        "classes": info.classes,
        "image_size": size,
        "input": f"uint8 (N, {size}, {size}, 3), RGB, each the whole photograph, upright, "
        "resized by a bicubic filter with antialiasing",
        "probabilities": "float32 (N, classes), calibrated",
        "temperature": info.temperature,
        "temperature_applied": True,
        "mirror": info.mirror,
        "enlarge_to": info.enlarge_to,
        "score": "float32 (N); below the threshold a photograph is none of these" if known else "",
        "threshold": known.threshold if known else None,
        "precision": "int8" if int8 else "float32",
        "protocol": info.protocol,
        "leak": info.leak,
        "version": __version__,
    }
    return json.dumps(said)


def show(found: check.Agreement, split: str, int8: bool) -> None:
    """Print how an exported network compares with predict.py."""
    scores = "" if found.score is None else f", scores by {found.score:.1e}"
    print(
        f"compared with predict.py on {found.count} photographs of {split}: probabilities differ "
        f"by {found.probability:.1e} at most{scores}; {found.renamed} named otherwise, "
        f"{found.unknown} unknown to one alone"
    )
    if int8:
        right, before = (count / found.count for count in (found.right, found.before))
        print(f"accuracy on these: {right:.2%}, of predict.py {before:.2%}")


if __name__ == "__main__":
    cli.run(main, product="file", name=NAME)
