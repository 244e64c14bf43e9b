"""Draw the README's pictures of measured figures from benchmarks/results/*.json.

python benchmarks/curves.py

images/time_to_accuracy.svg   accuracy on val against minutes of training, of two recipes
images/leak.svg               one recipe under the original protocol and under clean
"""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
RECIPES = {
    "clean-64-imagenet": "regression, then all stages with frozen BatchNorms (--recipe finetune)",
    "clean-64-naive": "all stages at once from a random head",
}
LEVELS = (85, 90, 92, 93)  # percent


def kept(row):
    """Return a row's figures, as benchmarks/results.py keeps them."""
    return json.loads((ROOT / f"benchmarks/results/{row}.json").read_text())


def minutes_to(curve, level):
    """Return the first minutes of a curve [(minutes, accuracy), ...] at a level, or None."""
    return next((minutes for minutes, accuracy in curve if accuracy >= level), None)


def time_to_accuracy():
    """Draw accuracy on val against minutes; print the minutes to each level as a table."""
    figure, axes = plt.subplots(figsize=(7, 4))
    print("| recipe | " + " | ".join(f"{level}%" for level in LEVELS) + " |")
    print("|---|" + "---|" * len(LEVELS))
    for row, name in RECIPES.items():
        curve = kept(row)["runs"][0]["val_accuracy_by_minute"]
        minutes, accuracies = zip(*curve, strict=True)
        axes.plot(minutes, [100 * a for a in accuracies], marker="o", markersize=3, label=name)
        found = [minutes_to(curve, level / 100) for level in LEVELS]
        print(f"| {name} | " + " | ".join("-" if m is None else f"{m:.1f}" for m in found) + " |")
    for level in LEVELS:
        axes.axhline(level, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlabel="minutes of training, 2 cores", ylabel="accuracy on val, %", xlim=(0, None))
    axes.legend(loc="lower right", frameon=False)
    save(figure, "time_to_accuracy.svg")


def save(figure, name):
    """Write a picture on white, so that it serves GitHub's dark mode as well."""
    mpl.rcParams["svg.hashsalt"] = name  # the same bytes for the same figures
    figure.tight_layout()
    figure.savefig(IMAGES / name, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    time_to_accuracy()
