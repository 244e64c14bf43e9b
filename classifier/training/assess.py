"""Once the best epoch is known: calibrate its network on val, judge it, and report."""

import keras
import numpy as np

from classifier.data.archive import BACKGROUND
from classifier.data.arrays import Arrays
from classifier.evaluation.calibration import fit_temperature
from classifier.evaluation.evaluate import (
    Judge,
    Photographs,
    about,
    figures,
    show,
    show_unknown,
    unknown_figures,
)
from classifier.evaluation.report import Report
from classifier.evaluation.unknown import FEWEST, fit_known, some_of_each
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.runtime import images_a_step
from classifier.prediction.verdict import Head
from classifier.training.fused import features_of


def judge_of(network: keras.Model, info: ModelInfo) -> Judge:
    """Return what computes photographs with a `resnet50`."""
    step = images_a_step(info.side)
    return Judge(features_of(network, step), info, step)


def calibrate(judge: Judge, arrays: Arrays, network: keras.Model) -> tuple[Head, Photographs]:
    """Calibrate a network on val, and print its figures on val and test; add all to its ModelInfo.

    Args:
        judge: of the network.
        arrays: an open Arrays with a test split.
        network: `resnet50`.

    Returns:
        its Head, and the photographs of test.
    """
    info, kernel, bias = judge.info, *network.layers[-2].get_weights()
    head = Head(kernel, bias)
    splits = [split for split in ("val", "test") if arrays.count(split)]
    known = {split: judge.of_arrays(arrays, split) for split in splits}
    if "val" in known:
        val = known["val"].features
        info.temperature = fit_temperature(head.logits(val), arrays.labels("val"))
    originals = np.flatnonzero(arrays.copies("train") == 0)
    if arrays.count("val") >= FEWEST and len(originals):
        labels = arrays.labels("train")
        rows = some_of_each(labels, originals, arrays.seed)
        # One view is enough, and half the time: AUROC 0.893 on val, with mirror images 0.895.
        some = judge.of_arrays(arrays, "train", rows, mirror=False).features
        info.known = fit_known(head, some, labels[rows], val)
    else:
        print(f"too few photographs in val (below {FEWEST}): predict.py never says none of these")
    head = Head(kernel, bias, info.temperature, info.known)
    for split, photographs in known.items():
        info.training[split] = figures(head, photographs.features, arrays.labels(split))
        show(split, info.training[split])
    return head, known["test"]


def report_on(judge: Judge, arrays: Arrays, head: Head, test: Photographs, title: str) -> Report:
    """Return the Report on test, and on pictures of none of the classes that stand beside.

    Args:
        judge: of the network.
        arrays: an open Arrays.
        head: of the network.
        test: photographs of the test split.
        title: of the report.
    """
    info, found = judge.info, dict(judge.info.training["test"])
    data, overlap = about(arrays)
    folder = arrays.folder / BACKGROUND
    unknown = judge.of_folder(folder) if info.known else None
    if unknown:
        found |= unknown_figures(head, test.features, unknown.features)
        data["none of the classes"] = f"{len(unknown.names):,} photographs in {folder}"
        show_unknown(found)
    labels = arrays.labels("test")
    return Report(title, info, head, test, labels, found, unknown, info.leak or overlap, data)
