"""What TensorBoard shows of a run: curves, graph, inputs, confusion by epoch, and the report."""

from pathlib import Path

import keras
import numpy as np

from classifier.evaluation import metrics, pictures
from classifier.evaluation.report import Report
from classifier.training.batches import Batches

IMAGES = 32


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback, with images of the first training batch and of confusion.

    Args:
        folder: the run's own folder below the log folder.
        batches: Batches of the training split.
    """

    def __init__(self, folder: Path, batches: Batches):
        super().__init__(log_dir=str(folder), write_graph=True, update_freq="epoch")
        self.batches = batches

    def on_train_begin(self, logs=None):
        """Write the first batch's images and their classes, of mixed ones the larger share's."""
        super().on_train_begin(logs)
        self.write_graph = False  # once is enough, fit is called for each size of images
        import tensorflow as tf

        images, labels = self.batches[0]
        classes = self.batches.arrays.classes
        names = ", ".join(classes[i] for i in labels[:IMAGES].argmax(axis=1))
        with self._train_writer.as_default():
            tf.summary.image(
                "augmented inputs",
                images[:IMAGES],
                step=self.batches.epoch,
                max_outputs=IMAGES,
                description=names,
            )

    def show_confusion(self, epoch: int, labels: np.ndarray, said: np.ndarray) -> None:
        """Write the confusion matrix of val after an epoch.

        Args:
            epoch: number of the epoch, from 0.
            labels: int array (N,), class numbers.
            said: int array (N,), those that the network gave.
        """
        import tensorflow as tf

        classes = self.batches.arrays.classes
        counts = metrics.confusion(labels, said, len(classes))
        picture = pictures.confusion(counts, classes, f"val, epoch {epoch + 1}")
        with self._val_writer.as_default():
            tf.summary.image("confusion", pictures.as_pixels(picture)[None], step=epoch)


def write_end(folder: Path, made: Report) -> None:
    """Write a report's pictures, and for the HParams tab the run's settings and test figures.

    Args:
        folder: of the run.
        made: its Report.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

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
    with tf.summary.create_file_writer(str(folder)).as_default():
        for name, picture in shown.items():
            tf.summary.image(f"report/{name}", pictures.as_pixels(picture)[None], step=0)
        hparams.hparams(made.info.training["arguments"])
        for name, value in made.figures.items():
            tf.summary.scalar(f"test/{name}", value, step=0)
