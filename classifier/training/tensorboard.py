"""What TensorBoard shows of a run: curves, learning rate, graph and a batch of inputs."""

from pathlib import Path

import keras

from classifier.training.batches import Batches

IMAGES = 32


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback, with images of the first training batch.

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
