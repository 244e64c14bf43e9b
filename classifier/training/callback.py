"""What train.py does after each epoch: keep the best model and checkpoints, know when to stop."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import keras

from classifier.prediction import model_file
from classifier.seeds import generator
from classifier.training import checkpoint
from classifier.training.distribute import ONE_DEVICE, Devices
from classifier.training.run import Run


class Keeper(keras.callbacks.Callback):
    """Keeps the best epoch in best.h5 and the last checkpoint in latest.h5, and ends the run early.

    It ends where a loss is not a finite number, or where patience is at its end. All it decides
    follows from the run's history, so a resumed run decides as the first would have. Within an
    epoch a checkpoint is kept when `save_every_minutes` are over and when a signal stops the run.

    Args:
        run: the Run, which each epoch's figures are added to.
        folder: where the two files go.
        network: the `resnet50` whose fused form is trained.
        describe: returns the ModelInfo of `network` as it is.
        steps: of an epoch.
        save_every: epochs between checkpoints.
        save_every_minutes: most minutes between checkpoints.
        patience: stop after so many epochs without a better one on val; 0: never.
        patient_after: epochs that do not count in it, those of smaller images.
        resumes: whether the run goes on from latest.h5.
        devices: Devices; only the first process writes.

    Attributes:
        diverged: whether a loss was not a finite number.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        network: keras.Model,
        describe: Callable[[], model_file.ModelInfo],
        steps: int,
        save_every: int = 1,
        save_every_minutes: float = 10,
        patience: int = 0,
        patient_after: int = 0,
        resumes: bool = False,
        devices: Devices = ONE_DEVICE,
    ):
        super().__init__()
        self.run, self.folder, self.network, self.describe = run, folder, network, describe
        self.steps = steps
        self.save_every, self.save_every_minutes = save_every, save_every_minutes
        self.patience, self.patient_after, self.resumes = patience, patient_after, resumes
        self.devices = devices
        self.diverged, self.plain, self.saved = False, None, None
        self.loss = 0.0  # after the last step, as the backend has it

    def on_train_begin(self, logs=None):
        self.counted = time.monotonic()
        self.saved = self.saved or self.counted
        if self.resumes or self.run.epochs_done or not self.run.start:
            return
        self.run.finished = self.run.arguments["num_epochs"] == 0
        if self.run.finished or math.isfinite(self.run.start.get("val_loss", math.nan)):
            self._keep_best()
        self._keep_checkpoint()

    def on_epoch_begin(self, epoch, logs=None):
        self.loss = 0.0
        self.restore()  # not before: at the start of an epoch Keras sets its metrics to 0
        self.counted = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        if keras.backend.backend() == "torch":
            # Its Dropout draws from a state of PyTorch's own, which is in no checkpoint.
            import torch

            place = self.run.arguments["seed"], self.run.epochs_done, self.run.step
            torch.manual_seed(int(generator("dropout", *place).integers(2**63)))

    def on_train_batch_end(self, batch, logs=None):
        self.run.step += 1
        self.run.images += self.run.arguments["batch_size"]
        # To ask for a step's loss is to wait for it: the one before is asked for. It is the epoch's
        # mean, so none that is not finite is missed.
        before, self.loss = self.loss, logs["loss"]
        if not self._goes_on(before) or self.run.step == self.steps:
            return  # at an epoch's end: a checkpoint within an epoch has steps to come
        self._keep_checkpoint_if(False)

    def on_epoch_end(self, epoch, logs=None):
        if not all(self._goes_on(value) for name, value in logs.items() if name.endswith("loss")):
            return
        self._count_minutes()
        self.run.add_epoch(logs)
        since = max(self.run.best_trained, self.patient_after)
        if self.run.best_epoch == self.run.epochs_done:
            self._keep_best()
        elif self.patience and self.run.epochs_done - since >= self.patience:
            print(f"no better epoch on val for {self.patience} epochs: stopping")
            self.model.stop_training = True
        last = self.run.epochs_done == self.run.arguments["num_epochs"]
        self.run.finished = last or self.model.stop_training
        self._keep_checkpoint_if(self.run.finished or self.run.epochs_done % self.save_every == 0)

    def restore(self) -> None:
        """Put latest.h5 into the model of a run that goes on from it, once."""
        if self.resumes:
            checkpoint.restore(self.folder / "latest.h5", self.model, self.devices)
            if not self.run.step:  # its metrics are those of an epoch that is over
                self.model.reset_metrics()
            self.resumes = False

    def add_end(self, figures: dict[str, float]) -> None:
        """Keep what the last regression gave, whose head is the model's now."""
        self.run.end = figures
        self.counted = time.monotonic()  # its minutes are counted already
        if self.run.best_epoch > self.run.epochs_done:
            self._keep_best()
        self._keep_checkpoint()

    def _goes_on(self, loss):
        """Return whether training does; it ends where a loss is not a finite number."""
        if not self.diverged and not math.isfinite(loss):
            self.diverged = self.model.stop_training = True
        return not self.diverged

    def _keep_checkpoint_if(self, due):
        """Keep one if it is due, its minutes are over or a signal came, which is raised then."""
        stop = self.devices.stop()
        late = time.monotonic() - self.saved >= 60 * self.save_every_minutes
        if due or stop:
            if not self._goes_on(self.loss):
                return
        # Clocks differ between processes: by its own none may decide that the run is over.
        elif not (late and self.devices.first and math.isfinite(self.loss)):
            return
        self._keep_checkpoint()
        if stop:
            raise KeyboardInterrupt

    def _count_minutes(self):
        now = time.monotonic()
        self.run.minutes += (now - self.counted) / 60
        self.counted = now

    def _keep_checkpoint(self):
        self._count_minutes()
        if not self.devices.first:
            return
        checkpoint.save(self.folder / "latest.h5", self.model, self.run.to_json())
        self.saved = time.monotonic()

    def _keep_best(self):
        if not self.devices.first:
            return
        info = self.describe()
        if self.plain is None:
            with self.devices.apart():
                self.plain = model_file.build(info)  # in float32, without dropout
        self.plain.set_weights(self.network.get_weights())
        model_file.save(self.folder / "best.h5", self.plain, info)


class Callbacks(keras.callbacks.CallbackList):
    """Waits for no step, which a GPU may still compute: Keras' own makes numbers of its figures.

    The Keeper has them as the backend does; the others, a progress bar for one, those of the step
    before.
    """

    figures = None

    def on_epoch_begin(self, epoch, logs=None):
        self.figures = None
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs=None):
        before, self.figures = self.figures or logs, logs
        before = {name: float(value) for name, value in before.items()}
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs if isinstance(callback, Keeper) else before)
