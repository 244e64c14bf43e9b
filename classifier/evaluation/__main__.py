"""Judge a model on finished arrays, or on a folder of class folders."""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

# As in predict.py: images are computed side by side, each product by one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from classifier import cli
from classifier.data.archive import BACKGROUND
from classifier.data.arrays import Arrays, files_of
from classifier.data.images import files_below
from classifier.data.splits import SPLITS
from classifier.errors import UserError
from classifier.evaluation import report
from classifier.evaluation.evaluate import (
    Judge,
    about,
    check_finite,
    check_fit,
    figures,
    leak_on,
    unknown_figures,
)
from classifier.evaluation.unknown import FEWEST
from classifier.files import make_folder, same_file
from classifier.prediction import forward, model_file
from classifier.prediction.runtime import images_a_thread
from classifier.processor import cores

NAME = "classifier.evaluation"


def parse_args(words: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(prog=f"python -m {NAME}", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "data",
        type=Path,
        nargs="?",
        metavar="ARRAYS",
        help="arrays of prepro.py; of shards, their folder or a pattern",
    )
    add("--model", type=Path, default=Path("models/resnet50.h5"), metavar="FILE",
        help="a model of train.py")  # fmt: skip
    add("--split", choices=SPLITS, help="of the arrays (default: test)")
    add("--folder", type=Path, metavar="DIR",
        help="judge on the images in DIR/<class>/ instead of arrays")  # fmt: skip
    add("--unknown", type=Path, metavar="DIR",
        help="images of none of the classes (default: BACKGROUND_Google in the folder of the "
        "arrays' name beside them, or in that of --folder, if it is there)")  # fmt: skip
    add("--mistakes", type=Path, metavar="FILE",
        help="write the files that were named wrongly as CSV, those first of which the model is "
        "surest")  # fmt: skip
    add("--report", type=Path, metavar="DIR",
        help="where the report goes (default: a folder in logs/ named after the model and what it "
        "is judged on)")  # fmt: skip
    add("--json", action="store_true", help="print the figures as JSON, shares from 0 to 1")
    args = parser.parse_args(words)
    if (args.data is None) == (args.folder is None):
        parser.error("give either ARRAYS or --folder DIR")
    if args.split and args.folder:
        parser.error("argument --split: a folder has none; leave it")
    args.split = args.split or "test"
    if args.mistakes and args.mistakes.is_dir():
        parser.error(f"argument --mistakes: {args.mistakes} is a folder; give a file")
    given = files_of(args.data) if args.data else []
    for path in (*given, args.model):
        if args.mistakes and same_file(args.mistakes, path):
            parser.error(f"argument --mistakes: {path} would be lost; give another file")
    if args.report is None:
        judged = args.split if args.data else args.folder.resolve().name
        args.report = Path("logs", f"{args.model.stem}-{judged}")
    return args


def main() -> int:
    args = parse_args()
    weights, info = model_file.load_weights(args.model)
    head = model_file.head_of(weights, info)
    asked = unknown_files(args.unknown, args.model, info) if args.unknown else []
    if args.mistakes:
        make_folder(args.mistakes.parent)
    network = forward.Network(weights, info.enlarge_to, many=True)
    judge = Judge(network, info, images_a_thread(info.side), cores())
    cli.keep_freed_memory()
    with contextlib.ExitStack() as stack:
        if args.data:
            arrays = stack.enter_context(Arrays(args.data))
            leak = check(arrays, args.split, args.model, info)
            # Copies are no photographs of their own, but in a test split that has them by design.
            rows = None if args.split != "train" else np.flatnonzero(arrays.copies("train") == 0)
            known, labels = judge.of_arrays(arrays, args.split, rows), arrays.labels(args.split)
            labels = labels if rows is None else labels[rows]
            check_finite(head, known.features, args.model)
            judged, (data, overlap) = f"{args.split} of {args.data}", about(arrays)
            leak, place = leak or overlap, arrays.folder
        else:
            files, labels = class_folders(args.folder, info.classes, args.unknown)
            known, read = judge.of_files(files, str(args.folder))
            check_finite(head, known.features, args.model)
            labels, judged, leak = labels[read], str(args.folder), info.leak
            place = args.folder
            data = {"folder": judged, "trained on before": "not known of these photographs"}
        found = figures(head, known.features, labels)
        folder, others = args.unknown or place / BACKGROUND, None
        if asked:
            others, _ = judge.of_files(asked, str(folder))
        elif info.known:
            others = judge.of_folder(folder)
        if others:
            found |= unknown_figures(head, known.features, others.features)
            data["none of the classes"] = f"{len(others.names):,} photographs in {folder}"
        made = report.Report(
            f"{args.model} on {judged}", info, head, known, labels, found, others, leak, data,
            cli.shown("-m", NAME, *sys.argv[1:]),
        )  # fmt: skip
        page = report.write(args.report, made)
    said = {"model": str(args.model), "judged": judged, **found}
    if others:
        said["unknown"] = str(folder)
    if args.mistakes:
        rows = report.mistakes(made)
        report.write_csv(args.mistakes, report.COLUMNS, rows)
        print(f"mistakes: {args.mistakes}, {len(rows)} files", file=sys.stderr)
    print(json.dumps(said)) if args.json else show(said)
    print(f"report: {page}", file=sys.stderr)
    return 0


def unknown_files(folder: Path, model: Path, info: model_file.ModelInfo) -> list[Path]:
    """Return the files in the folder of --unknown.

    Raises:
        UserError: there are none, or the model cannot tell.
    """
    if not info.known:
        raise UserError(
            f"--unknown: {model} cannot tell, for it is of an earlier version, or val had fewer "
            f"than {FEWEST} photographs; train it again"
        )
    files = files_below(folder) if folder.is_dir() else []
    if not files:
        raise UserError(f"--unknown: {folder}: no such folder, or no files in it; give another")
    return files


def check(arrays: Arrays, split: str, model: Path, info: model_file.ModelInfo) -> str:
    """Warn if figures on arrays are too good, and return why; "" if nothing is known.

    Raises:
        UserError: the arrays are not for the model, or the split is empty.
    """
    check_fit(arrays, info, model)
    if arrays.count(split) == 0:
        raise UserError(f"--split {split}: empty in {arrays.path}; give another")
    leak = (
        leak_on(arrays, info, f"{model}, the model judged")
        or {
            "train": f"{model} was trained on train",
            "val": f"{model} was chosen on val, and its temperature and threshold are fitted to it",
            "test": "",
        }[split]
    )
    if leak:
        print(f"warning: {leak}", file=sys.stderr)
    return leak


def class_folders(
    folder: Path, classes: list[str], unknown: Path | None
) -> tuple[list[Path], np.ndarray]:
    """Return the files in folders named as classes, and their class numbers, int64 (N,).

    Args:
        folder: with the class folders.
        classes: of the model.
        unknown: folder of images of none of them, which may lie among them, or None.

    Raises:
        UserError: no such folder, one that is no class, or no files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --folder needs DIR/<class>/ below it")
    files, labels = [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if place.name.startswith(".") or place.name == BACKGROUND:
            continue
        if unknown and same_file(place, unknown):
            continue
        if place.name not in classes:
            raise UserError(
                f"{place}: not a class of the model; rename it, or move it away and give --unknown"
            )
        found = files_below(place)
        files += found
        labels += [classes.index(place.name)] * len(found)
    if not files:
        raise UserError(f"{folder}: no images; --folder needs DIR/<class>/ with images below it")
    return files, np.array(labels)


def show(found: dict) -> None:
    """Print figures for people."""

    def row(name, key, more="", low=None, high=None):
        span = f"{found[low or key + '_low']:.2%} to {found[high or key + '_high']:.2%}"
        print(f"{name:19} {found[key]:7.2%}   ({span}{more})")

    print(f"{found['model']} on {found['judged']}: n = {found['n']}, with 95% intervals")
    row("accuracy", "accuracy", low="low", high="high")
    row("mean per class", "mean_per_class")
    print(f"{'top 5':19} {found['top5']:7.2%}")
    print(f"{'loss':19} {found['loss']:7.4f}   (uncalibrated {found['uncalibrated_loss']:.4f})")
    row("calibration error", "ece",
        f"; of a calibrated model {found['ece_by_chance']:.2%}; uncalibrated "
        f"{found['uncalibrated_ece']:.2%}")  # fmt: skip
    row("in adaptive bins", "adaptive_ece",
        f"; of a calibrated model {found['adaptive_ece_by_chance']:.2%}")  # fmt: skip
    if "accepted" in found:
        row("known, accepted", "accepted")
    if "auroc" in found:
        print(f"on {found['unknown']}: n = {found['unknown_n']}, which show none of the classes")
        row("AUROC", "auroc")
        row("unknown, rejected", "rejected")


if __name__ == "__main__":
    cli.run(main, name=NAME)
