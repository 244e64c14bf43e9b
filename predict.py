"""Name what photographs show, with the model that train.py saved."""

import argparse
import contextlib
import csv
import glob
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

# Whole images are computed side by side, each product by one thread: up to 1.3 times as fast as one
# image after the other on all cores. NumPy reads this as it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from classifier import backend, cli
from classifier.data.images import MAX_BYTES, ImageError, files_below, read_rgb, square
from classifier.errors import UserError
from classifier.files import make_folder, same_file
from classifier.prediction import forward, model_file
from classifier.prediction.runtime import images_a_step, images_a_thread, quicker
from classifier.prediction.verdict import Head, Verdict, verdicts
from classifier.processor import cores, cpu_flags
from classifier.workers import threaded_map

# Names of images, each with its pixels, its features or the verdict on it; or why it has none.
Batch = list[tuple[str, np.ndarray | Verdict | UserError]]
Ranked = list[tuple[str, float, float]]  # (label, probability, logit), best first

MANY = 32  # files for which the network's preparation for many images pays
BARS, LONGEST_NAME = 5, 249  # classes in a picture of --explain, and bytes of its file's name
OTHER_PICTURES = (".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg", ".pdf")


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
    add(
        "--runtime",
        choices=("auto", "numpy", "keras"),
        default="auto",
        help="what computes the network; auto: NumPy, or Keras for so many images that it is "
        "sooner done on this processor, although it takes seconds to start; keras uses a GPU",
    )
    add(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="number format that Keras computes in, where it is used; NumPy's is float32",
    )
    add("--top", type=cli.integer(1), default=5, help="how many classes to print")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help='a line an image: {"file": ..., "unknown": ..., "predictions": [{"label": ..., '
        '"probability": ..., "logit": ...}, ...]}; unknown is true for an image of none of the '
        "classes, null with --always or where the model cannot tell; logits are those before the "
        "temperature that calibrates the probabilities",
    )
    form.add_argument("--csv", action="store_true", help="file, rank, label, probability, unknown")
    add("--always", action="store_true", help='name the likeliest class, never say "none of these"')
    add(
        "--explain",
        type=destination,
        metavar="OUT",
        help="draw why each image is named so, as a heat map and bars: into OUT if that ends in "
        ".png, else below the folder OUT, as photo.jpg.png for photo.jpg; nothing but earlier "
        "pictures of this kind is replaced",
    )
    add("--strict", action="store_true", help="fail if any image cannot be read")
    args = parser.parse_args(words)
    if args.precision == "bfloat16" and args.runtime == "numpy":
        parser.error("argument --precision: NumPy has no bfloat16; use --runtime keras")
    if args.explain and (args.runtime == "keras" or args.precision == "bfloat16"):
        parser.error("argument --explain: NumPy computes it; leave --runtime and --precision out")
    return args


def destination(text: str) -> Path:
    """Return the path of a picture or folder of --explain."""
    if text in ("", "-") or Path(text).suffix.lower() in OTHER_PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r}: give a name that ends in .png, or a folder")
    if len(os.fsencode(Path(text).name)) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"{text!r}: too long a name; give a shorter one")
    return Path(text)


def main() -> int:
    args = parse_args()
    files = find(args.images)
    weights, info = model_file.load_weights(args.model)
    head = model_file.head_of(weights, info)
    if args.always:
        head = replace(head, known=None)
    runtime = "numpy" if args.explain else args.runtime
    if runtime == "auto":
        runtime = quicker(info, len(files), cpu_flags())
    if args.explain:
        computed = with_pictures(weights, info, head, files, pictures(files, args.explain))
    elif runtime == "numpy":
        computed = with_numpy(weights, info, files)
    else:
        computed = with_keras(weights, info, files, args.precision)
    write = write_json if args.json else csv_writer() if args.csv else write_text
    failed = 0
    with (
        contextlib.closing(computed),
        cli.Counter(len(files), "images") as counter,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # which `decode` cannot do for itself in threads
        for batch in computed:
            if sys.stdout.isatty():
                counter.clear()
            for name, result in judged(batch, partial(verdicts, head)):
                if isinstance(result, UserError):
                    if args.strict or len(files) == 1:
                        raise result
                    failed += 1
                    counter.clear()
                    print(f"skipped: {result}", file=sys.stderr)
                elif np.isfinite(result.probabilities).all():
                    write(name, ranked(result, info.classes, args.top), result.unknown)
                else:
                    raise UserError(f"{args.model}: gives no probabilities; train it again")
            sys.stdout.flush()  # what ends a later batch does not cost these results
            counter.advance(len(batch))
    if failed == len(files):
        raise UserError(f"none of the {failed} files can be read as an image (listed above)")
    if failed:
        print(
            f"skipped {failed} of {len(files)} files, which cannot be read as images",
            file=sys.stderr,
        )
    return 0


def with_numpy(
    weights: model_file.Weights, info: model_file.ModelInfo, files: list[str]
) -> Iterator[Batch]:
    """Yield the features of all files, in order, computed by NumPy."""
    network = numpy_network(weights, info, len(files))
    fair = -(-len(files) // cores())
    step = min(fair, images_a_thread(info.side))
    threads = 2 if len(files) == 1 else 1
    features = partial(forward.averaged, network, mirror=info.mirror, threads=threads)

    def compute(names):
        return judged(read(names, info.image_size), features)

    yield from in_batches(compute, files, step)


def with_pictures(
    weights: model_file.Weights,
    info: model_file.ModelInfo,
    head: Head,
    files: list[str],
    places: dict[str, Path],
) -> Iterator[Batch]:
    """Yield the features of all files, in order, once their pictures stand at their places.

    Args:
        weights: of the model.
        info: of the model.
        head: of the model.
        files: names of images.
        places: by name, where a picture goes. They are taken out as pictures are drawn.
    """
    from classifier.evaluation import explain  # predict.py starts 4 ms sooner without

    network = numpy_network(weights, info, len(files))
    threads = 2 if len(files) == 1 else 1

    def compute(names):
        (name,) = names
        try:
            photograph = read_image(name)
        except UserError as error:
            return [(name, error)]
        pixels = square(photograph, info.image_size)[None]
        maps = explain.feature_maps(network, pixels, info.mirror, threads)
        features = maps.mean(axis=(1, 2))
        (verdict,) = verdicts(head, features)
        place = places.pop(name, None)  # none is left of a file that is named twice
        if place and np.isfinite(verdict.probabilities).all():
            evidence = maps[0] @ head.kernel[:, verdict.probabilities.argmax()]
            heat = explain.heat_map(evidence, info.side, info.mirror)
            bars = [(label, p) for label, p, _ in ranked(verdict, info.classes, BARS)]
            drawn = explain.picture(photograph, Path(name).name, heat, bars, verdict.unknown)
            explain.save(place, drawn)
        return [(name, features[0])]

    yield from in_batches(compute, files, 1)


def numpy_network(
    weights: model_file.Weights, info: model_file.ModelInfo, count: int
) -> forward.Network:
    """Return the network in NumPy, prepared for so many files."""
    many = count >= MANY
    if many:
        cli.keep_freed_memory()
    return forward.Network(weights, info.enlarge_to, many)


def with_keras(
    weights: model_file.Weights, info: model_file.ModelInfo, files: list[str], precision: str
) -> Iterator[Batch]:
    """Yield the features of all files, in order, computed by Keras.

    Raises:
        UserError: Keras or its backend is not installed.
    """
    try:
        backend.start_keras()
    except UserError as error:
        raise UserError(f"{error}, or use --runtime numpy") from error
    from classifier.training.fused import features_of
    from classifier.training.precision import POLICIES

    network = model_file.filled(weights, info, POLICIES[precision])
    step = min(len(files), images_a_step(info.side))
    compute = features_of(network, step)

    def whole(images):
        full = np.resize(images, (step, *images.shape[1:]))  # another size would be traced anew
        return compute(full)[: len(images)]

    for batch in in_batches(partial(read, size=info.image_size), files, step):
        yield judged(batch, partial(forward.averaged, whole, mirror=info.mirror))


def in_batches(
    function: Callable[[list[str]], Batch], files: list[str], step: int
) -> Iterator[Batch]:
    """Yield what `function` makes of each batch of `step` files, in order, on all cores."""
    batches = [files[start : start + step] for start in range(0, len(files), step)]
    # Standard input may have to be waited for, and Ctrl-C ends that in the main thread alone.
    threads = 1 if "-" in files else min(cores(), len(batches))
    return threaded_map(function, batches, threads)


def read(names: list[str], size: int) -> Batch:
    """Decode a batch of images: uint8 (size, size, 3) each."""
    batch = []
    for name in names:
        try:
            batch.append((name, square(read_image(name), size)))
        except UserError as error:
            batch.append((name, error))
    return batch


def pictures(files: list[str], out: Path) -> dict[str, Path]:
    """Return where the picture of each file goes, by name, and make the folders.

    One file's is `out` if that ends in .png, else they lie below `out` as the files do below the
    folder that all of them are in. A file that is named twice has one.

    Raises:
        UserError: `out` cannot be, or something else lies where a picture would.
    """
    from classifier.evaluation.explain import may_stand_at

    if out.suffix.lower() == ".png" and not out.is_dir():
        if len(files) > 1:
            raise UserError(f"--explain {out}: there are {len(files)} images; give a folder")
        names = {out: files[0]}
    else:
        names = {}
        whole = [
            os.path.normpath(Path.cwd() / ("stdin" if name == "-" else name)) for name in files
        ]
        above = os.path.commonpath([Path(path).parent for path in whole])
        for path, name in zip(whole, files, strict=True):
            place = out / f"{os.path.relpath(path, above)}.png"
            if not same_file(names.setdefault(place, name), name):
                raise UserError(
                    f"--explain {cli.printable(place)}: is the place of two; draw one at a time"
                )
    for folder in sorted({place.parent for place in names}):
        make_folder(folder)
    for place, name in names.items():
        if len(os.fsencode(place.name)) > LONGEST_NAME:
            raise UserError(
                f"--explain {cli.printable(place)}: too long a name; rename {cli.printable(name)}"
            )
        if not may_stand_at(place):
            raise UserError(
                f"--explain {cli.printable(place)}: something else is there; give another place"
            )
    return {name: place for place, name in names.items()}


def judged(batch: Batch, judge: Callable[[np.ndarray], Sequence]) -> Batch:
    """Return a batch with what `judge` makes of the arrays in it, stacked, in their places."""
    arrays = [array for _, array in batch if not isinstance(array, UserError)]
    if not arrays:
        return batch
    results = iter(judge(np.stack(arrays)))
    return [(name, r if isinstance(r, UserError) else next(results)) for name, r in batch]


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


def read_image(name: str) -> Image.Image:
    """Read the image of a name, '-' for standard input: RGB.

    Raises:
        UserError: it cannot be read, or is no image.
    """
    shown = "standard input" if name == "-" else cli.printable(name)
    try:
        return read_rgb(standard_input() if name == "-" else name)
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


def ranked(verdict: Verdict, classes: list[str], top: int) -> Ranked:
    """Return the classes of the highest probabilities, of equal ones the first."""
    best = np.argsort(-verdict.probabilities, kind="stable")[:top]
    return [(classes[i], float(verdict.probabilities[i]), float(verdict.logits[i])) for i in best]


def write_text(name: str, predictions: Ranked, unknown: bool | None) -> None:
    print(name)
    if unknown:
        print(f"  none of these (closest: {predictions[0][0]})")
        return
    for label, probability, _ in predictions:
        print(f"  {probability:7.2%}  {label}")


def write_json(name: str, predictions: Ranked, unknown: bool | None) -> None:
    rows = [
        {"label": label, "probability": round(probability, 6), "logit": round(logit, 4)}
        for label, probability, logit in predictions
    ]
    print(json.dumps({"file": name, "unknown": unknown, "predictions": rows}))


def csv_writer() -> Callable[[str, Ranked, bool | None], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    started = False

    def write_csv(name, predictions, unknown):
        nonlocal started
        if not started:
            writer.writerow(("file", "rank", "label", "probability", "unknown"))
            started = True
        said = {True: "true", False: "false", None: ""}[unknown]
        for rank, (label, probability, _) in enumerate(predictions, 1):
            writer.writerow((name, rank, label, f"{probability:.6f}", said))

    return write_csv


if __name__ == "__main__":
    cli.run(main)
