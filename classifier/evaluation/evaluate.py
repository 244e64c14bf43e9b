"""What a model makes of photographs, and its figures on them."""

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from classifier.cli import printable
from classifier.data.arrays import Arrays
from classifier.data.audit import MOST, overlaps
from classifier.data.duplicates import MAX_BITS
from classifier.data.images import ImageError, decode, files_below
from classifier.data.splits import LEAK_WARNING, SPLITS
from classifier.errors import UserError
from classifier.evaluation import metrics
from classifier.prediction.forward import Compute, averaged
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.verdict import Head
from classifier.workers import threaded_map


def leak_on(arrays: Arrays, info: ModelInfo, name: str) -> str:
    """Return why figures of a model on arrays are too good, in words; "" if nothing is known.

    Args:
        arrays: an open Arrays.
        info: of the model.
        name: what it is called in the words.
    """
    if arrays.leaks:
        return LEAK_WARNING
    if info.leak or info.protocol == "original":
        return f"{name}: {info.leak or LEAK_WARNING}"
    if info.training.get("split_digest") != arrays.split_digest:
        return (
            f"{name}, was trained on another split: "
            "test photographs may be among those it has learned"
        )
    return ""


def check_fit(arrays: Arrays, info: ModelInfo, model: Path) -> None:
    """Raise UserError where arrays are not for a model.

    Args:
        arrays: an open Arrays.
        info: of the model.
        model: its path.
    """
    if arrays.classes != info.classes:
        raise UserError(f"{arrays.path}: its classes are not those of {model}; give its own arrays")
    if arrays.image_size != info.image_size:
        raise UserError(
            f"{arrays.path}: images of {arrays.image_size} pixels, {model} takes "
            f"{info.image_size}: prepro.py --image-size {info.image_size} makes them"
        )


def check_finite(head: Head, features: np.ndarray, model: Path) -> None:
    """Raise UserError where a head gives no probabilities."""
    with np.errstate(all="ignore"):
        if not np.isfinite(head.probabilities(features)).all():
            raise UserError(f"{model}: gives no probabilities; train it again")


@dataclass(frozen=True)
class Photographs:
    """Photographs that a model was given.

    Attributes:
        names: of their files.
        features: float32 array (N, features), of the network.
        pixels: returns one by its number: uint8 (size, size, 3).
    """

    names: list[str]
    features: np.ndarray
    pixels: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Judge:
    """A model's network, and how it is to be computed.

    Attributes:
        compute: the network, without its head.
        info: of the model.
        step: images given to `compute` at a time.
        threads: that do so side by side.
    """

    compute: Compute
    info: ModelInfo
    step: int
    threads: int = 1

    def of_arrays(
        self, arrays: Arrays, split: str, rows: np.ndarray | None = None, mirror: bool | None = None
    ) -> Photographs:
        """Return the photographs of a split of open Arrays, those of `rows` or all.

        Args:
            arrays: an open Arrays; it must be open too where `pixels` is called.
            split: "train", "val" or "test".
            rows: int array of row numbers, at least one, each once; None for all.
            mirror: whether to take the mean of images and mirror images; None: as the model does.
        """

        def load(part):
            return arrays.read(split, part if rows is None else rows[part])[0]

        count = arrays.count(split) if rows is None else len(rows)
        features, _ = self._features(load, count, split, mirror)
        rows, sources = range(count) if rows is None else rows, arrays.sources(split)
        return Photographs(
            [sources[row] for row in rows],
            features,
            lambda number: arrays.read(split, slice(rows[number], rows[number] + 1))[0][0],
        )

    def of_files(self, files: list[Path], title: str) -> tuple[Photographs, np.ndarray]:
        """Return the photographs in files, and the numbers of those that could be read.

        What cannot be read is listed on stderr.

        Raises:
            UserError: none can be read.
        """
        size = self.info.image_size
        features, read = self._features(
            lambda part: [_decoded(file, size) for file in files[part]], len(files), title
        )
        files = [files[row] for row in read]
        pixels = lambda number: decode(files[number], size)  # noqa: E731
        return Photographs([*map(str, files)], features, pixels), read

    def of_folder(self, folder: Path) -> Photographs | None:
        """Return the photographs in a folder that nobody asked for, None where there are none.

        What is wrong with it is told on stderr.
        """
        if not folder.is_dir():
            return None
        try:
            return self.of_files(files_below(folder), str(folder))[0]
        except (UserError, OSError) as error:
            print(f"note: {error}", file=sys.stderr)
            return None

    def _features(self, load, count, title, mirror=None):
        """Return the features of what `load` returns for slices, and which are no str."""
        mirror = self.info.mirror if mirror is None else mirror

        def compute(start):
            images = load(slice(start, min(start + self.step, count)))
            good = [image for image in images if not isinstance(image, str)]
            return images, averaged(self.compute, np.stack(good), mirror) if good else None

        found, read = [], []
        computed = threaded_map(compute, range(0, count, self.step), self.threads)
        with (
            contextlib.closing(computed),
            warnings.catch_warnings(),
            tqdm(total=count, desc=f"Features of {title}", unit=" images", disable=None) as bar,
        ):
            warnings.simplefilter("ignore")  # which `decode` cannot do for itself in threads
            for images, features in computed:
                read += [not isinstance(image, str) for image in images]
                found += [] if features is None else [features]
                for reason in images:
                    if isinstance(reason, str):
                        tqdm.write(f"skipped: {reason}", sys.stderr)
                bar.update(len(images))
        if not found:
            raise UserError(f"{title}: no file in it can be read as an image; give another folder")
        if not all(read):
            print(f"skipped {read.count(False)} of {count} files in {title}", file=sys.stderr)
        features = np.concatenate(found)
        if not np.isfinite(features).all():
            raise UserError(f"{title}: the model gives no finite numbers; train it again")
        return features, np.flatnonzero(read)


def _decoded(file, size):
    """Decode a file: uint8 (size, size, 3), or why it cannot be read."""
    try:
        return decode(file, size)
    except (ImageError, OSError) as error:
        return f"{printable(file)}: {getattr(error, 'strerror', None) or error}"


def about(arrays: Arrays) -> tuple[dict[str, str], str]:
    """Return what arrays are, in words, and why figures on them are too good, after an audit.

    Args:
        arrays: an open Arrays.

    Returns:
        {"protocol": "clean, seed 0", ...}, and "" where the audit finds nothing.
    """
    counts = []
    for split in SPLITS:
        copies = int((arrays.copies(split) > 0).sum())
        plus = f" and {copies:,} augmented copies" if copies else ""
        counts.append(f"{split} {arrays.count(split) - copies:,}{plus}")
    total = sum(map(arrays.count, SPLITS))
    with tqdm(total=total, desc="Auditing", unit=" images", disable=None) as bar:
        found = overlaps(arrays, max(arrays.near_duplicate_bits, MAX_BITS), progress=bar.update)
    more = " or more" if len(found) == MOST else ""
    overlap = f"{len(found):,}{more} overlaps between the splits" if found else ""
    groups = arrays.near_duplicates
    return {
        "arrays": str(arrays.path),
        "protocol": f"{arrays.protocol}, seed {arrays.seed}",
        "photographs": ", ".join(counts),
        "near-duplicates": f"{len(groups):,} groups, {sum(map(len, groups)):,} photographs, each "
        "group in one split"
        if not arrays.leaks
        else "not looked for",
        "left out": f"{len(arrays.left_out):,} files that could not be used",
        "audit": overlap
        or "no photograph, near-duplicate, known shot or copy of one in two splits",
        "digest of the splits": arrays.split_digest,
    }, overlap and f"the audit found {overlap}"


def figures(head: Head, features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the figures of labelled photographs.

    Args:
        head: Head.
        features: float array (N, features), N at least 1.
        labels: int array (N,), class numbers.

    Returns:
        those of `metrics.summary` and of `metrics.calibration`; uncalibrated_loss and
        uncalibrated_ece, at temperature 1; and of a head with a Known, accepted: the share of
        photographs that are not taken for unknown, with its 95% interval accepted_low to
        accepted_high.
    """
    probabilities = head.probabilities(features)
    plain = Head(head.kernel, head.bias).probabilities(features)
    found = {
        **metrics.summary(probabilities, labels),
        **metrics.calibration(probabilities, labels),
        "uncalibrated_loss": metrics.summary(plain, labels)["loss"],
        "uncalibrated_ece": metrics.calibration_error(*metrics.confidences(plain, labels)),
    }
    if head.known:
        accepted = ~head.unknown(features)
        low, high = metrics.wilson_interval(int(accepted.sum()), len(accepted))
        found |= {"accepted": float(accepted.mean()), "accepted_low": low, "accepted_high": high}
    return found


def unknown_figures(head: Head, known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """Return how well unknown photographs are told from known ones.

    Args:
        head: Head, with a Known.
        known: float array (N, features) of photographs of the classes.
        unknown: float array (M, features) of photographs of none of them.

    Returns:
        auroc with its 95% interval auroc_low to auroc_high, rejected, the share of the unknown
        ones that are taken for such, with rejected_low to rejected_high, and unknown_n.
    """
    scores = head.scores(known), head.scores(unknown)
    auroc_low, auroc_high = metrics.auroc_interval(*scores)
    rejected = int(head.unknown(unknown).sum())
    low, high = metrics.wilson_interval(rejected, len(unknown))
    return {
        "auroc": metrics.auroc(*scores),
        "auroc_low": auroc_low,
        "auroc_high": auroc_high,
        "rejected": rejected / len(unknown),
        "rejected_low": low,
        "rejected_high": high,
        "unknown_n": len(unknown),
    }


def show(split: str, figures: dict[str, float]) -> None:
    """Print the figures of a split; the first lines are the original repository's."""
    name, accuracy = split.capitalize(), figures["accuracy"]
    print(f"{name} Loss = {figures['loss']:.4f}")
    print(f"{name} Accuracy = {accuracy:.2%} ({accuracy:.4f})")
    print(
        f"{name} 95% interval = {figures['low']:.2%} to {figures['high']:.2%}, "
        f"n = {figures['n']}, mean per class = {figures['mean_per_class']:.2%}, "
        f"top 5 = {figures['top5']:.2%}"
    )
    if split == "val":  # to which temperature and threshold are fitted
        return
    print(
        f"{name} Calibration Error = {figures['ece']:.2%} ({figures['ece_low']:.2%} to "
        f"{figures['ece_high']:.2%}), uncalibrated {figures['uncalibrated_ece']:.2%}"
    )


def show_unknown(figures: dict[str, float]) -> None:
    """Print the figures of `unknown_figures`."""
    print(
        f"Unknown AUROC = {figures['auroc']:.2%} ({figures['auroc_low']:.2%} to "
        f"{figures['auroc_high']:.2%}), rejected = {figures['rejected']:.2%} "
        f"({figures['rejected_low']:.2%} to {figures['rejected_high']:.2%}), "
        f"n = {figures['unknown_n']}"
    )
