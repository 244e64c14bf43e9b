"""The pictures of a report, drawn by matplotlib: figures to be saved as SVG or PNG."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.evaluation import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMES = 150  # classes whose names are legible beside a matrix
BLUE, ORANGE, GREY = "#2b6ca3", "#d9822b", "#9aa5ad"


def new_figure(width: float, height: float) -> tuple["Figure", object]:
    """Return matplotlib's figure and axes; the size is in inches."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # of its cache, once
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@contextlib.contextmanager
def _no_warnings():
    """Let matplotlib draw a box for a letter that its font lacks, and say nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def as_svg(figure: "Figure") -> bytes:
    """Return a figure as an SVG file, its text as text; of equal figures it is the same."""
    import matplotlib

    with _no_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def as_pixels(figure: "Figure") -> np.ndarray:
    """Return a figure as RGB pixels, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with _no_warnings():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def save_png(path: Path, figure: "Figure") -> None:
    """Write a figure as a PNG file, whatever the path ends in."""
    with _no_warnings():
        figure.savefig(path, format="png", dpi=144)


def loss_by_rate(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    limit: float,
    suggested: float | None,
) -> "Figure":
    """Draw a learning-rate range test.

    Args:
        rates: float array (N,).
        losses: float array (N,), of a step with each rate.
        smoothed: float array (N,), the same without their noise.
        limit: the loss at the start and its noise.
        suggested: the rate to point at, or None.
    """
    figure, axes = new_figure(6.4, 3.8)
    axes.plot(rates, losses, ".", color=GREY, ms=4, label="a step")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    axes.axhline(limit, ls="--", color=GREY, lw=1, label="at the start, and noise")
    if suggested is not None:
        axes.axvline(suggested, color=ORANGE, label=f"suggested: {suggested:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch",
             ylim=(0, 2.2 * limit))  # fmt: skip
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def curves(history: dict[str, list[float]], start: dict, end: dict, name: str) -> "Figure":
    """Draw a figure of train and val by epoch; the regressions before and after are points.

    Args:
        history: {figure: [in epoch 1, ...]} of a run.
        start: figures before the first epoch, or {}.
        end: figures of the head fitted anew after the last epoch, or {}.
        name: "accuracy" or "loss".
    """
    figure, axes = new_figure(4.6, 3.2)
    for key, label, colour in ((name, "train", ORANGE), (f"val_{name}", "val", BLUE)):
        values = history.get(key, [])
        epochs = range(1, len(values) + 1)
        if values:
            axes.plot(
                epochs, values, "o-" if len(values) < 20 else "-", color=colour, ms=3, label=label
            )
        for figures, epoch in ((start, 0), (end, len(values) + 1)):
            if key in figures:
                axes.plot(epoch, figures[key], "D", color=colour, ms=5,
                          label=None if values else label)  # fmt: skip
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure


def reliability(probabilities: np.ndarray, labels: np.ndarray, title: str) -> "Figure":
    """Draw accuracy by confidence in bins, and how many photographs each bin has.

    Args:
        probabilities: float array (N, classes).
        labels: int array (N,), class numbers.
        title: of the diagram.
    """
    figure, axes = new_figure(3.6, 3.4)
    bins = metrics.calibration_bins(*metrics.confidences(probabilities, labels))
    counts, confidence, accuracy = (np.array(part) for part in zip(*bins, strict=True))
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
    axes.vlines(confidence, np.minimum(confidence, accuracy), np.maximum(confidence, accuracy),
                color=ORANGE, lw=2)  # fmt: skip
    axes.scatter(confidence, accuracy, 12 + 300 * counts / counts.sum(), color=BLUE, zorder=3)
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.04), xlabel="confidence", ylabel="accuracy")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    return figure


def score_histogram(known: np.ndarray, unknown: np.ndarray | None, threshold: float) -> "Figure":
    """Draw the scores of known photographs, and of unknown ones if there are any."""
    figure, axes = new_figure(5.4, 3.2)
    parts = [known] if unknown is None else [known, unknown]
    low, high = np.quantile(np.concatenate(parts), (0.005, 1))
    bins = np.linspace(low, max(high, low + 1), 50)
    for scores, label, colour in zip(parts, ("known", "unknown"), (BLUE, ORANGE), strict=False):
        axes.hist(scores.clip(low), bins, density=True, color=colour, alpha=0.6, label=label)
    axes.axvline(threshold, color="black", lw=1)
    axes.annotate(" threshold", (threshold, axes.get_ylim()[1]), va="top", fontsize=9)
    axes.set(xlabel="score, higher where a photograph fits what is known", yticks=[])
    axes.legend(frameon=False)
    return figure


def confusion(matrix: np.ndarray, classes: list[str], title: str) -> "Figure":
    """Draw a confusion matrix as shares of each true class.

    Args:
        matrix: int array (classes, classes), rows the true classes.
        classes: names in the order of the rows.
        title: of the picture.
    """
    side = min(15, max(3.5, 0.12 * len(classes) + 1.5))
    figure, axes = new_figure(side, side)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    size = 8 if len(classes) <= 20 else 5
    if len(classes) <= MOST_NAMES:
        numbers, how = range(len(classes)), {"fontsize": size, "parse_math": False}
        axes.set_xticks(numbers, classes, rotation=90, **how)
        axes.set_yticks(numbers, classes, **how)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize=10)
    return figure
