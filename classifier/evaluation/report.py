"""The report of a model: one HTML page that needs nothing else, with its figures beside it.

report.html    for people; the template beside this file
report.json    the figures
classes.csv    precision, recall and support of each class
mistakes.csv   the photographs named wrongly, the surest mistakes first
"""

import base64
import csv
import importlib.util
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from classifier import backend
from classifier.data.images import scaled
from classifier.errors import UserError
from classifier.evaluation import metrics, pictures
from classifier.evaluation.evaluate import Photographs
from classifier.evaluation.unknown import REJECTED
from classifier.files import atomic_write, locked, make_folder
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.verdict import Head

PHOTOS = 24  # shown of mistakes, and of each kind of unknown ones
SIDE = 160  # pixels of a photograph shown
PAIRS = 20  # of classes taken for each other
MOST_ORDERED = 300  # classes for which the best order of the leaves is sought: seconds
CELL = 11  # of the confusion matrix, in its own units
LETTER, MOST_MARGIN = 5, 110  # of the names beside it
COLUMNS = ("file", "label", "label_probability", "predicted", "probability", "unknown")


@dataclass(frozen=True)
class Report:
    """All that a report is made of.

    Attributes:
        title: "resnet50.h5 on test of datasets/caltech_101.h5".
        info: of the model.
        head: its Head.
        known: Photographs of its classes.
        labels: int array (N,), their class numbers.
        figures: of `evaluate.figures`, and of `evaluate.unknown_figures` where there are unknown.
        unknown: Photographs of none of its classes, or None.
        leak: why its figures are too good, in words.
        data: what the photographs are, {"protocol": "clean", ...}.
        command: that made it.
    """

    title: str
    info: ModelInfo
    head: Head
    known: Photographs
    labels: np.ndarray
    figures: dict[str, float]
    unknown: Photographs | None = None
    leak: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of the photographs of its classes: float array (N, classes), calibrated."""
        return self.head.probabilities(self.known.features)

    @cached_property
    def matrix(self) -> np.ndarray:
        """The confusion matrix, int (classes, classes), rows the true classes."""
        said = self.probabilities.argmax(axis=1)
        return metrics.confusion(self.labels, said, len(self.info.classes))

    @cached_property
    def order(self) -> np.ndarray:
        """The classes' numbers, in the order of `similar_order`."""
        return similar_order(self.matrix)

    @cached_property
    def wrong(self) -> np.ndarray:
        """Numbers of the photographs named wrongly, those first of which the model is surest."""
        rows = np.flatnonzero(self.probabilities.argmax(axis=1) != self.labels)
        return rows[np.argsort(-self.probabilities[rows].max(axis=1), kind="stable")]


def write(folder: Path, report: Report) -> Path:
    """Write a report and its figures; each file appears whole. Return the page's path."""
    make_folder(folder)
    classes = per_class(report)
    text = page(report, classes)
    figures = {
        "title": report.title,
        "command": report.command,
        "figures": report.figures,
        "leak": report.leak,
        "data": report.data,
        "temperature": report.info.temperature,
        "training": report.info.training,
        "confused": confused(report),
        "classes": classes,
    }
    with locked(folder / "report.html"):
        write_csv(folder / "mistakes.csv", COLUMNS, mistakes(report))
        write_csv(folder / "classes.csv", classes[0], classes)
        with atomic_write(folder / "report.json") as path:
            finite = json.loads(json.dumps(figures), parse_constant=lambda _: None)
            path.write_text(json.dumps(finite, indent=1) + "\n")
        with atomic_write(folder / "report.html") as path:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder / "report.html"


def check_packages() -> None:
    """Raise UserError where a package is missing that a report needs, hours before it is made."""
    for name in ("jinja2", "matplotlib", "scipy", "sklearn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is not installed: {backend.remedy()}")


def confused(report: Report) -> list[dict]:
    """Return the pairs of classes that were taken for each other most often, at most PAIRS."""
    counts, classes = report.matrix.copy(), report.info.classes
    support = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    places = np.argwhere(counts > 0)
    places = sorted(map(tuple, places), key=lambda p: (-counts[p], -counts[p] / support[p[0]], p))
    return [
        {
            "true": classes[true],
            "predicted": classes[said],
            "count": int(counts[true, said]),
            "of": int(support[true]),
        }
        for true, said in places[:PAIRS]
    ]


def per_class(report: Report) -> list[dict]:
    """Return a row a class: precision and recall with 95% intervals, in 0..1, and support.

    Precision is None where nothing was named so, recall where there are no photographs of a class.
    """
    counts = report.matrix
    rows = []
    for number, name in enumerate(report.info.classes):
        right, said, support = (
            int(n) for n in (counts[number, number], counts[:, number].sum(), counts[number].sum())
        )
        row = {"class": name, "support": support, "named": said}
        for figure, count in (("precision", said), ("recall", support)):
            low, high = metrics.wilson_interval(right, count)
            row |= {
                figure: right / count if count else None,
                f"{figure}_low": low,
                f"{figure}_high": high,
            }
        rows.append(row)
    return rows


def mistakes(report: Report) -> list[dict]:
    """Return what is said of the photographs named wrongly, a row each, in the order of `wrong`."""
    classes, labels, probabilities = report.info.classes, report.labels, report.probabilities
    unknown = report.head.unknown(report.known.features)
    return [
        {
            "file": report.known.names[row],
            "label": classes[labels[row]],
            "label_probability": f"{probabilities[row, labels[row]]:.6f}",
            "predicted": classes[probabilities[row].argmax()],
            "probability": f"{probabilities[row].max():.6f}",
            "unknown": ("false", "true")[int(unknown[row])] if report.head.known else "",
        }
        for row in report.wrong
    ]


def write_csv(path: Path, columns: Iterable[str], rows: list[dict]) -> None:
    """Write rows as CSV with a line of their keys; it appears whole."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def similar_order(counts: np.ndarray) -> np.ndarray:
    """Return an order of the classes in which those that are confused stand together.

    Average-linkage clustering by the share of photographs confused, leaves in the best order
    (Bar-Joseph et al. 2001).
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return np.arange(len(counts))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    best = len(counts) <= MOST_ORDERED
    return leaves_list(linkage(squareform(distance), "average", optimal_ordering=best))


def template(name: str):
    """Return a Jinja2 template of this folder; in an HTML page all texts are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent)
    escape = name.endswith(".html")
    return Environment(
        loader=templates, autoescape=escape, undefined=StrictUndefined, keep_trailing_newline=True
    ).get_template(name)


def page(report: Report, classes: list[dict]) -> str:
    """Return the HTML page."""
    training = report.info.training
    curves = learning_curves(training)
    return template("report.html").render(
        title=report.title,
        subtitle=f"{len(report.labels):,} photographs, {len(report.info.classes)} classes",
        sections=[
            ("figures", "Figures"),
            *([("curves", "Learning curves")] if curves else []),
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            ("mistakes", "Surest mistakes"),
            ("calibration", "Calibration"),
            ("unknown", "None of these"),
            ("data", "Data"),
            ("run", "How it was made"),
        ],
        leak=report.leak,
        tiles=headlines(report.figures),
        curves=curves,
        curves_note=curves_note(training),
        map=confusion_map(report),
        pairs=confused(report),
        class_columns=["class", "photographs", "precision", "95%", "recall", "95%"],
        class_rows=[class_row(row) for row in classes],
        **mistakes_shown(report),
        **calibration_shown(report),
        **unknown_shown(report),
        data_rows=[(name, text_of(value)) for name, value in report.data.items()],
        commands=dict.fromkeys(filter(None, [training.get("command"), report.command])),
        run_rows=run_rows(report.info),
    )


def headlines(figures: dict[str, float]) -> list[dict[str, str]]:
    """Return the figures that matter most: name, value, 95% interval, and a word more."""

    def line(name, key, more="", low=None, high=None):
        span = f"{figures[low or key + '_low']:.1%} to {figures[high or key + '_high']:.1%}"
        return {"name": name, "value": f"{figures[key]:.1%}", "span": span, "more": more}

    found = [
        line("accuracy", "accuracy", f"n = {figures['n']:,}", "low", "high"),
        line("mean per class", "mean_per_class"),
        {"name": "top 5", "value": f"{figures['top5']:.1%}", "span": "", "more": ""},
        {"name": "loss", "value": f"{figures['loss']:.3f}", "span": "", "more": ""},
        line("calibration error", "ece", f"uncalibrated {figures['uncalibrated_ece']:.1%}"),
    ]
    if "accepted" in figures:
        found.append(line("known, accepted", "accepted"))
    if "auroc" in figures:
        found.append(line("AUROC of unknown", "auroc", f"n = {figures['unknown_n']:,}"))
        found.append(line("unknown, rejected", "rejected"))
    return found


def learning_curves(training: dict) -> list[str]:
    """Return the curves of accuracy and loss as base64 SVG; none of a run without an epoch."""
    history, start, end = (training.get(part, {}) for part in ("history", "start", "end"))
    if not history.get("loss"):
        return []
    return [svg(pictures.curves(history, start, end, name)) for name in ("accuracy", "loss")]


def curves_note(training: dict) -> str:
    """Return what stands below the curves."""
    history, best = training.get("history", {}), training.get("best_epoch")
    epochs = len(history.get("loss", []))
    kept = f"epoch {best}"
    if best == 0:
        kept = "the regression before the first epoch"
    elif best is not None and best > epochs:
        kept = "the regression after the last epoch"
    notes = [f"The model is that of {kept}."]
    if training.get("start") or training.get("end"):
        notes.append("Diamonds are the heads fitted by regression.")
    if "val_loss" in history:
        notes.append("Val is judged without mirror images here, and uncalibrated.")
    if training.get("arguments", {}).get("label_smoothing"):
        notes.append("The losses are of smoothed labels.")
    return " ".join(notes)


def confusion_map(report: Report) -> dict:
    """Return the confusion matrix as squares: {"side", "margin", "cell", "names", "cells"}."""
    classes, order = report.info.classes, report.order
    counts = report.matrix[np.ix_(order, order)]
    names = [classes[number] for number in order]
    support = counts.sum(axis=1)
    margin = min(MOST_MARGIN, 8 + LETTER * max(map(len, names)))
    cells = []
    for row, column in np.argwhere(counts > 0):
        share = counts[row, column] / support[row]
        word = "right" if row == column else f"taken for {names[column]}"
        cells.append(
            {
                "x": margin + CELL * int(column),
                "y": margin + CELL * int(row),
                "kind": "right" if row == column else "wrong",
                "share": f"{0.3 + 0.7 * share:.2f}",
                "title": f"{names[row]}: {counts[row, column]} of {support[row]} {word}",
            }
        )
    side = margin + CELL * len(classes)
    return {"side": side, "margin": margin, "cell": CELL, "names": names, "cells": cells}


def class_row(row: dict) -> list[dict]:
    """Return the cells of a class in the table: what they show, and what they are sorted by."""
    cells = [
        {"text": row["class"], "sort": row["class"]},
        {"text": row["support"], "sort": row["support"]},
    ]
    for name, count in (("precision", row["named"]), ("recall", row["support"])):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        cells += [
            {
                "text": f"{row[name]:.1%}" if count else "-",
                "sort": f"{row[name]:.4f}" if count else -1,
            },
            {"text": f"{low:.0%} to {high:.0%}", "sort": f"{high - low:.4f}"},
        ]
    return cells


def mistakes_shown(report: Report) -> dict:
    """Return the photographs of the surest mistakes, and the words above them."""
    rows = mistakes(report)
    shown = [
        {
            **row,
            "probability": f"{float(row['probability']):.1%}",
            "jpeg": jpeg(report.known.pixels(int(number))),
        }
        for row, number in zip(rows[:PHOTOS], report.wrong, strict=False)
    ]
    note = (
        f"{len(rows)} of {len(report.labels):,} photographs were named wrongly; "
        f"the {len(shown)} of which the model was surest, as it sees them. mistakes.csv has all."
    )
    return {"mistakes": shown, "mistakes_note": note}


def calibration_shown(report: Report) -> dict:
    """Return the reliability diagrams before and after calibration, and the words above them."""
    figures, head = report.figures, report.head
    shown = {"not calibrated": replace(head, temperature=1.0)}
    note = (
        "Accuracy by confidence in 15 bins; a dot grows with its share of the photographs, the "
        "line is its distance from calibrated. Expected calibration error: "
    )
    if head.temperature != 1:
        shown[f"temperature {head.temperature:.3f}"] = head
        note += f"uncalibrated {figures['uncalibrated_ece']:.2%}, calibrated "
    note += (
        f"{figures['ece']:.2%} ({figures['ece_low']:.2%} to {figures['ece_high']:.2%}); in "
        f"adaptive bins {figures['adaptive_ece']:.2%}. A calibrated model would show "
        f"{figures['ece_by_chance']:.2%} by chance."
    )
    features, labels = report.known.features, report.labels
    diagrams = [
        svg(pictures.reliability(which.probabilities(features), labels, title))
        for title, which in shown.items()
    ]
    return {"reliability": diagrams, "calibration_note": note}


def unknown_shown(report: Report) -> dict:
    """Return what the model takes for unknown, and what of the unknown for known."""
    head = report.head
    if head.known is None:
        note = (
            "The model names a class whatever it is shown: its val split was too small to fit more "
            "to, or its file is of an earlier version."
        )
        return {"unknown_note": note, "histogram": "", "unknown_groups": []}
    scores = head.scores(report.known.features)
    threshold = head.known.threshold
    low = np.argsort(scores, kind="stable")
    rejected = [row for row in low if scores[row] < threshold]
    note = (
        f"Below a score of {threshold:.2f}, as at most {REJECTED:.0%} of val's photographs are, a "
        f"photograph is taken for none of the classes: {len(rejected)} of these {len(scores):,}."
    )
    groups = [("The least known of these photographs:", report.known, rejected)]
    others = None
    if report.unknown:
        others = head.scores(report.unknown.features)
        accepted = [row for row in np.argsort(-others, kind="stable") if others[row] >= threshold]
        note += (
            f" Of {len(others):,} photographs that show none of them, "
            f"{len(others) - len(accepted):,} were."
        )
        groups.append(("Taken for known though they should not be:", report.unknown, accepted))
    return {
        "unknown_note": note,
        "histogram": svg(pictures.score_histogram(scores, others, threshold)),
        "unknown_groups": [
            {"title": title, "photos": [named(report, photos, row) for row in rows[:PHOTOS]]}
            for title, photos, rows in groups
        ],
    }


def named(report: Report, photos: Photographs, row: int) -> dict[str, str]:
    """Return a photograph to show, with the class it is nearest to."""
    (probabilities,) = report.head.probabilities(photos.features[row : row + 1])
    return {
        "file": photos.names[row],
        "predicted": report.info.classes[probabilities.argmax()],
        "probability": f"{probabilities.max():.1%}",
        "jpeg": jpeg(photos.pixels(int(row))),
    }


def run_rows(info: ModelInfo) -> list[tuple[str, str]]:
    """Return what the model's file says of how it was trained, for a table."""
    training = info.training
    arguments = training.get("arguments", {})
    rows = {
        "code": training.get("code"),
        "device": training.get("device"),
        "number format": training.get("precision"),
        "minutes of training": training.get("minutes"),
        "images trained on": training.get("images"),
        "versions": training.get("versions"),
        "images": f"{info.image_size} pixels"
        + (f", enlarged to {info.enlarge_to}" if info.enlarge_to > info.image_size else ""),
        "averaged over mirror images": info.mirror,
        **{name.replace("_", " "): value for name, value in arguments.items()},
    }
    return [(name, text_of(value)) for name, value in rows.items() if value is not None]


def text_of(value: Any) -> str:
    """Return a value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def svg(figure) -> str:
    """Return a figure of `pictures` as base64 SVG."""
    return base64.b64encode(pictures.as_svg(figure)).decode()


def jpeg(pixels: np.ndarray) -> str:
    """Return a photograph as a small base64 JPEG; small ones are enlarged."""
    file = io.BytesIO()
    scaled(Image.fromarray(pixels), SIDE).save(file, "JPEG", quality=82)
    return base64.b64encode(file.getvalue()).decode()
