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


def test_the_figures_stand_in_their_places(capsys):
    show("test", {"loss": 0.58404, "accuracy": 0.897, "low": 0.8787, "high": 0.9128, "n": 1223,
                  "mean_per_class": 0.8743, "top5": 0.9787})  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "Test Loss = 0.5840",
        "Test Accuracy = 89.70% (0.8970)",
        "Test 95% interval = 87.87% to 91.28%, n = 1223, mean per class = 87.43%, top 5 = 97.87%",
    ]
