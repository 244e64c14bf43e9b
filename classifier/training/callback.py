"""What train.py does after each epoch: keep the best model and checkpoints, know when to stop."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import keras

from classifier import cli
from classifier.prediction import model_file
from classifier.training import checkpoint
from classifier.training.run import Run


class Keeper(keras.callbacks.Callback):
    """Keeps the best epoch in best.h5 and the last checkpoint in latest.h5, and ends the run early.

    It ends where a loss is not a finite number, or where patience is at its end. All it decides
    follows from the run's history, so a resumed run decides as the first would have.

    Args:
        run: the Run, which each epoch's figures are added to.
        folder: where the two files go.
        network: the `resnet50` whose fused form is trained.
        describe: returns the ModelInfo of `network` as it is.
        save_every: epochs between checkpoints.
        patience: stop after so many epochs without a better val loss; 0: never.

    Attributes:
        diverged: whether a loss was not a finite number.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        network: keras.Model,
        describe: Callable[[], model_file.ModelInfo],
        save_every: int = 1,
        patience: int = 0,
    ):
        super().__init__()
        self.run, self.folder, self.network, self.describe = run, folder, network, describe
        self.save_every, self.patience = save_every, patience
        self.diverged, self.plain = False, None

    def on_train_begin(self, logs=None):
        if not self.run.epochs_done and math.isfinite(self.run.start.get("val_loss", math.nan)):
            self._keep_best()

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        cli.raise_if_interrupted()
        if not math.isfinite(logs["loss"]):
            self.diverged = self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if not all(math.isfinite(value) for name, value in logs.items() if name.endswith("loss")):
            self.diverged = self.model.stop_training = True
        if self.diverged:
            return
        self.run.add_epoch(logs, (time.monotonic() - self.began) / 60)
        if self.run.best_epoch == self.run.epochs_done:
            self._keep_best()
        elif self.patience and self.run.epochs_done - self.run.best_epoch >= self.patience:
            print(f"no better val loss for {self.patience} epochs: stopping")
            self.model.stop_training = True
        last = self.run.epochs_done == self.run.arguments["num_epochs"]
        self.run.finished = last or self.model.stop_training
        if self.run.finished or self.run.epochs_done % self.save_every == 0:
            checkpoint.save(self.folder / "latest.h5", self.model, self.run.to_json())

    def _keep_best(self):
        info = self.describe()
        self.plain = self.plain or model_file.build(info)  # in float32, without dropout
        self.plain.set_weights(self.network.get_weights())
        model_file.save(self.folder / "best.h5", self.plain, info)
