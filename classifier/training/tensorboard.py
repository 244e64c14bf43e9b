"""What TensorBoard shows of a run: curves, graph, inputs, confusion by epoch, and the report.

Keras' own callback needs TensorFlow; these events are written by tensorboard alone, with the names
that Keras gives them, so they are the same on each backend.
"""

import io
import os
import socket
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from classifier.evaluation import metrics, pictures
from classifier.evaluation.report import Report
from classifier.training.batches import Batches

IMAGES = 32


class Events:
    """An event file of this process in a folder; each entry is on the disk once it is added.

    Args:
        folder: made with the first entry.
        step: of the first entry. What TensorBoard finds in earlier files of it and later steps is
            of a run that was stopped before it was kept, and left out.

    Raises:
        OSError: with the file's name, by each method: it cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.begin = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        about = scalar_metadata.create_summary_metadata(display_name="", description="")
        self._tensor(tag, np.float32(value), about, step)

    def images(self, tag: str, images: np.ndarray, step: int, description: str = "") -> None:
        """Add images, uint8 (N, height, width, 3)."""
        about = image_metadata.create_summary_metadata(display_name="", description=description)
        height, width = images.shape[1:3]
        parts = [str(width).encode(), str(height).encode(), *map(_png, images)]
        self._tensor(tag, parts, about, step)

    def graph(self, model: keras.Model) -> None:
        """Add a model's layers, for the Graphs tab."""
        plugin = SummaryMetadata.PluginData(plugin_name="graph_keras_model", content=b"1")
        self._tensor("keras", model.to_json().encode(), SummaryMetadata(plugin_data=plugin), 0)

    def settings(self, values: dict[str, bool | int | float | str]) -> None:
        """Add a run's settings, for the HParams tab."""
        self._write(hparams.hparams_pb(values), 0)

    def _tensor(self, tag, content, about, step):
        value = Summary.Value(tag=tag, tensor=make_tensor_proto(content), metadata=about)
        self._write(Summary(value=[value]), step)

    def _write(self, summary, step):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = [Event(step=step, summary=summary)]
        if not self.path.exists():
            entries = [Event(file_version="brain.Event:2"), self.begin, *entries]
        try:
            with self.path.open("ab") as file:
                for entry in entries:
                    entry.wall_time = time.time()
                    RecordWriter(file).write(entry.SerializeToString())
        except OSError as error:
            error.filename = str(self.path)  # which it has not where the disk is full
            raise


class TensorBoard(keras.callbacks.Callback):
    """Logs each epoch's figures, the graph, the first training batch, and confusion.

    Args:
        folder: the run's own folder below the log folder.
        batches: Batches of the training split.
        epoch: number of the first epoch to come, from 0.

    Attributes:
        rate: the learning rate, to be set as each epoch ends.
    """

    rate = 0.0

    def __init__(self, folder: Path, batches: Batches, epoch: int):
        super().__init__()
        self.train = Events(folder / "train", epoch)
        self.validation = Events(folder / "validation", epoch)
        self.batches = batches

    def on_train_begin(self, logs=None):
        """Write the first batch's images and their classes, of mixed ones the larger share's."""
        if not self.train.path.exists():  # fit is called for each size of images
            self.train.graph(self.model)
        images, labels = self.batches[0]
        classes = self.batches.arrays.classes
        names = ", ".join(classes[i] for i in labels[:IMAGES].argmax(axis=1))
        self.train.images("augmented inputs", images[:IMAGES], self.batches.epoch, names)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            events = self.validation if name.startswith("val_") else self.train
            events.scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        self.train.scalar("epoch_learning_rate", self.rate, epoch)

    def show_confusion(self, epoch: int, labels: np.ndarray, said: np.ndarray) -> None:
        """Write the confusion matrix of val after an epoch.

        Args:
            epoch: number of the epoch, from 0.
            labels: int array (N,), class numbers.
            said: int array (N,), those that the network gave.
        """
        classes = self.batches.arrays.classes
        counts = metrics.confusion(labels, said, len(classes))
        picture = pictures.confusion(counts, classes, f"val, epoch {epoch + 1}")
        self.validation.images("confusion", pictures.as_pixels(picture)[None], epoch)


def write_end(folder: Path, made: Report) -> None:
    """Write a report's pictures, and for the HParams tab the run's settings and test figures.

    Args:
        folder: of the run.
        made: its Report.
    """
    classes, order = made.info.classes, made.order
    shown = {
        "confusion": pictures.confusion(
            made.matrix[np.ix_(order, order)], [classes[i] for i in order], "test"
        ),
        "calibration": pictures.reliability(made.probabilities, made.labels, "test"),
    }
    if made.head.known:
        scores = made.head.scores(made.known.features)
        others = made.unknown and made.head.scores(made.unknown.features)
        threshold = made.head.known.threshold
        shown["none of these"] = pictures.score_histogram(scores, others, threshold)
    events = Events(folder)
    for name, picture in shown.items():
        events.images(f"report/{name}", pictures.as_pixels(picture)[None], 0)
    events.settings(made.info.training["arguments"])
    for name, value in made.figures.items():
        events.scalar(f"test/{name}", value, 0)


def _png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()
