import numpy as np
import pytest

from classifier.data.arrays import Arrays
from classifier.evaluation.evaluate import evaluate, images_a_step, show


def test_a_step_is_bounded_in_images_and_pixels():
    assert [images_a_step(side) for side in (32, 224, 256, 448, 1024, 4096)] == [
        64, 64, 49, 16, 3, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_all_images_are_judged_in_bounded_steps(tiny_arrays, batch_size, capsys):
    sizes = []

    def first_class(images):
        assert images.dtype == np.uint8
        sizes.append(len(images))
        return np.tile(np.float32([0.5, 0.3, 0.2]), (len(images), 1))

    with Arrays(tiny_arrays) as arrays:
        figures = evaluate(first_class, arrays, "val", batch_size)
    assert sum(sizes) == figures["n"] == 6
    assert max(sizes) <= batch_size
    assert figures["accuracy"] == pytest.approx(1 / 3)
    show("val", figures)
    assert "Val Accuracy = 33.33% (0.3333)\n" in capsys.readouterr().out
