"""One training run: what it is, what has become of it, and how it is begun or gone on with."""

import math
import re
import secrets
import subprocess
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from classifier import __version__
from classifier.backend import REQUIREMENTS
from classifier.cli import printable
from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.hdf5 import NO_NAME
from classifier.prediction.model_file import MOST, ModelInfo, are_figures
from classifier.training import checkpoint, precision
from classifier.training.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2]
RUN_ID = re.compile(r"[\w-]+")  # it becomes the name of a folder


@dataclass
class Run:
    """All that a run keeps beside the variables of its network and optimizer.

    Attributes:
        arguments: the flags that decide what comes out, {name: plain JSON value}.
        fingerprint: of the arrays' content.
        id: start, recipe and a random word, for two runs may begin in one second; names the run's
            folder below the log folder.
        code: version and commit of the program that began it, of `code_version`.
        backend: Keras' backend that it is computed on; "" until Keras is started.
        precision: the number format it is computed in, a key of POLICIES; "" until it is chosen.
        leak: why its figures are too good, in words; "" if nothing is known against them.
        start: the figures before the first step, epoch 0, where the head is a regression:
            accuracy, minutes, and with a val split val_accuracy and val_loss; otherwise empty.
        history: {figure: [in epoch 1, in epoch 2, ...]}.
        end: the figures after the last epoch, where the recipe fits the head anew, as in `start`.
        step: steps taken in the epoch under way.
        images: computed so far to train on, those of the heads' regressions included.
        minutes: spent on training so far.
        finished: whether no epoch is to come.
    """

    arguments: dict[str, Any]
    fingerprint: str
    id: str = ""
    code: str = ""
    backend: str = ""
    precision: str = ""
    leak: str = ""
    start: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    end: dict[str, float] = field(default_factory=dict)
    step: int = 0
    images: int = 0
    minutes: float = 0.0
    finished: bool = False

    def __post_init__(self):
        recipe, word = self.arguments["recipe"], secrets.token_hex(2)
        self.id = self.id or time.strftime(f"%Y%m%d-%H%M%S-{recipe}-{word}")

    @property
    def epochs_done(self) -> int:
        """Number of epochs behind the run."""
        return len(self.history.get("loss", []))

    @property
    def begun(self) -> bool:
        """Whether there is more of it than weights to start from: a regression, or a step."""
        return bool(self.start or self.epochs_done or self.step)

    @property
    def best_epoch(self) -> int:
        """Epoch of the highest val accuracy, of equals that of the least val loss; 0: `start`.

        One more than there were: with the head fitted anew. Without a val split the last. Not by
        the loss alone: training on can make a network surer of all it says, and more often right.
        """
        last = self.epochs_done + bool(self.end)
        return self._best(range(last + 1), default=last)

    @property
    def best_trained(self) -> int:
        """The best of the epochs alone, without the heads' regressions."""
        return self._best(range(1, self.epochs_done + 1), default=self.epochs_done)

    def _best(self, epochs, default):
        figures = {epoch: self.figures_of(epoch) for epoch in epochs}
        judged = [e for e in epochs if math.isfinite(figures[e].get("val_loss", math.nan))]
        return min(
            judged,
            key=lambda epoch: (-figures[epoch]["val_accuracy"], figures[epoch]["val_loss"]),
            default=default,
        )

    @property
    def over(self) -> bool:
        """Whether nothing is to come, neither an epoch nor a last regression."""
        refits = self.arguments.get("refit") and self.epochs_done
        return self.finished and bool(self.end or not refits)

    def figures_of(self, epoch: int) -> dict[str, float]:
        """Return the figures of an epoch, by name: 0 is `start`, the one after the last `end`."""
        if epoch == 0:
            return self.start
        if epoch > self.epochs_done:
            return self.end
        return {name: values[epoch - 1] for name, values in self.history.items()}

    def add_epoch(self, figures: dict[str, float]) -> None:
        """Add the figures of an epoch that has just ended, and the minutes so far."""
        self.step = 0
        for name, value in {**figures, "minutes": round(self.minutes, 3)}.items():
            self.history.setdefault(name, []).append(float(value))

    def progress(self) -> dict[str, Any]:
        """Return what a model file says of how far the run is: figures, images and minutes."""
        return {
            "start": self.start,
            "history": self.history,
            "end": self.end,
            "images": self.images,
            "minutes": round(self.minutes, 3),
        }

    @property
    def place(self) -> str:
        """How far the run is, in words: "step 3 of epoch 2", "the end of epoch 2"."""
        if self.step:
            return f"step {self.step} of epoch {self.epochs_done + 1}"
        if self.epochs_done:
            last = "" if self.over or not self.finished else ", before the last regression"
            return f"the end of epoch {self.epochs_done}{last}"
        return "the head's regression" if self.start else "the start"

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Run":
        """Return the run that `to_json` gave `value` for; raise ValueError if it is none."""
        names = {part.name for part in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            raise ValueError("no run of this version")
        arguments = value["arguments"]
        if not isinstance(arguments, dict) or "recipe" not in arguments:
            raise ValueError("no run")
        run = cls(**value)
        texts = (run.fingerprint, run.id, run.code, run.leak)
        sound = (
            all(isinstance(text, str) for text in texts)
            and type(arguments.get("num_epochs")) is int
            and run.backend in ("", *REQUIREMENTS)
            and run.precision in ("", *precision.POLICIES)
            and RUN_ID.fullmatch(run.id)
            and not NO_NAME.search(run.leak)
            and are_figures(run.start, run.history, run.end)
            and type(run.minutes) is float
            and all(type(n) is int and 0 <= n < MOST for n in (run.step, run.images))
            and isinstance(run.finished, bool)
        )
        if not sound:
            raise ValueError("no run")
        return run


def code_version() -> str:
    """Return this program's version and commit, "0.2.0 1a2b3c4d5e6f"; + for changes since.

    The version alone where there is no git, or where the program stands in another's repository.
    """

    def git(*words):
        found = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
        return found.stdout.strip()

    try:
        if git("rev-parse", "--show-toplevel") != ROOT.as_posix():
            return __version__
        return f"{__version__} {git('describe', '--always', '--abbrev=12', '--dirty=+')}"
    except OSError:
        return __version__


def in_words(figures: dict[str, float]) -> str:
    """Return ": val accuracy 90.00%, val loss 0.3000"; "" for figures without val's."""
    if "val_loss" not in figures:
        return ""
    return f": val accuracy {figures['val_accuracy']:.2%}, val loss {figures['val_loss']:.4f}"


def checkpoint_folder(model: Path) -> Path:
    """Return the folder of the checkpoints, latest.h5 and best.h5, of the run for a model file."""
    return model.parent / "checkpoints" / model.stem


def load(path: Path) -> Run:
    """Return the run that a checkpoint belongs to.

    Raises:
        UserError: missing, damaged, of another version or no checkpoint.
    """
    kept = checkpoint.load_run(path)
    try:
        return Run.from_json(kept)
    except ValueError as error:
        raise UserError(
            f"{path}: a checkpoint this program does not read; use --restart"
        ) from error


def start_or_resume(fresh: Run, folder: Path, resume: bool, restart: bool) -> Run:
    """Return the run to go on with: `fresh`, or the one whose checkpoint lies in `folder`.

    Args:
        fresh: the run that these arguments would begin.
        folder: with latest.h5 and best.h5, if there are any.
        resume: go on with the run in the folder, if there is one.
        restart: discard the run in the folder, finished or not.

    Raises:
        UserError: an unfinished run is there and neither is asked for; or the run to resume has
            other arguments or other arrays, or its checkpoint is damaged.
    """
    latest = folder / "latest.h5"
    if latest.exists() and not restart:
        kept = load(latest)
        if resume:
            _check_same(kept, fresh, "the run to resume has", "give the same, or --restart")
            print(f"resuming run {kept.id} after {kept.place}")
            return kept
        if not kept.over:
            raise UserError(
                f"{latest}: an unfinished run (after {kept.place}, "
                f"--num-epochs {kept.arguments['num_epochs']}): "
                "--resume goes on with it, --restart discards it, --model FILE keeps both"
            )
    elif resume:
        print("no checkpoint yet: starting from the beginning")
    return fresh


def discard(folder: Path) -> None:
    """Remove what an earlier run left in a folder, that nothing of it be taken for another's."""
    for name in ("latest.h5", "best.h5"):
        (folder / name).unlink(missing_ok=True)


def same_run(told: dict[str, Any], own: Run) -> Run:
    """Return the run of process 0; raise UserError where it, or the program, is not this one's.

    Args:
        told: process 0's `code_version`, as "code", and its Run, as "run".
        own: the run that this process would begin.
    """
    # Without git a program knows its version alone.
    if any(a != b for a, b in zip(told["code"].split(), own.code.split(), strict=False)):
        raise UserError(
            f"this program is {own.code}, that of process 0 is {told['code']}: give all the same"
        )
    run = Run.from_json(told["run"])
    _check_same(run, own, "process 0 has", "give all the same")
    return run


def _check_same(kept, fresh, whose, remedy):
    for name, value in fresh.arguments.items():
        other = kept.arguments.get(name)
        if other != value:
            raise UserError(
                f"--{name.replace('_', '-')} is {value}, {whose} "
                f"{printable(str(other)[:200])}: {remedy}"
            )
    if kept.fingerprint != fresh.fingerprint:
        raise UserError(f"--data: the arrays are not those the run began with: {remedy}")


def describe(run: Run, arrays: Arrays, recipe: Recipe, devices: int = 1) -> ModelInfo:
    """Return what the model file of a run's best epoch, on so many devices, says of itself."""
    from importlib.metadata import version

    import keras

    training = {
        "arguments": run.arguments,
        "run": run.id,
        "code": run.code,
        "precision": run.precision,
        "best_epoch": run.best_epoch,
        **run.progress(),
        "data_seed": arrays.seed,
        "split_digest": arrays.split_digest,
        "device": precision.device(devices),
        "versions": {
            name: version(name) for name in ("keras", keras.backend.backend(), "numpy", "pillow")
        },
    }
    return ModelInfo(
        arrays.classes,
        arrays.image_size,
        arrays.protocol,
        training,
        recipe.enlarge_to,
        recipe.mirror,
        run.leak,
    )
