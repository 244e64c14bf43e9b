import keras
import numpy as np
import pytest
from keras import layers

from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.training.batches import Batches
from classifier.training.head import fit_head, regression_head


class Pictures(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels, self.count = images, lambda: labels, len(images)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return (self.images,)


def network(size):
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(inputs)
    x = layers.Dense(3, name="fc3")(x)
    return keras.Model(inputs, layers.Softmax()(x))


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2]])
def test_the_head_is_the_regression(present):
    model = network(4)
    random = np.random.default_rng(0)
    labels = random.choice(present, 60)
    images = random.normal(0, 0.1, (60, 4, 4, 3)) + 10 * np.eye(3)[labels][:, None, None]
    accuracy = fit_head(model, Pictures(images.astype(np.float32), labels))
    outputs = model.predict(images, verbose=0)
    assert accuracy == 1
    assert (outputs.argmax(axis=1) == labels).all()
    assert outputs[np.arange(60), labels].min() > 0.8


def test_features_that_are_no_numbers_are_told_in_one_line():
    model = network(4)
    images = np.full((6, 4, 4, 3), np.nan, np.float32)
    with pytest.raises(UserError, match="--learning-rate: the features are not finite"):
        fit_head(model, Pictures(images, np.arange(6) % 3))


@pytest.mark.parametrize("with_val", [True, False])
def test_the_figures_are_those_before_any_step(tiny_arrays, with_val):
    model = network(32)
    model.compile(loss=keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])
    with Arrays(tiny_arrays) as arrays:
        val = Batches(arrays, "val", 4) if with_val else None
        figures = regression_head(model, arrays, 5, val)
        assert set(figures) == {"accuracy", "minutes"} | (
            {"val_accuracy", "val_loss"} if with_val else set()
        )
        assert figures["accuracy"] == 1
        if with_val:
            outputs = model.predict_on_batch(arrays.read("val", slice(None))[0])
            loss = -np.log(outputs[np.arange(6), arrays.labels("val")]).mean()
            assert figures["val_loss"] == pytest.approx(loss, rel=1e-4)
            assert figures["val_accuracy"] == 1
