from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from classifier.data.arrays import Arrays
from classifier.data.images import decode
from classifier.data.splits import LEAK_WARNING
from classifier.errors import UserError
from classifier.evaluation import evaluate
from classifier.evaluation.evaluate import (
    Judge,
    about,
    figures,
    leak_on,
    show,
    show_unknown,
    unknown_figures,
)
from classifier.evaluation.metrics import calibration, summary
from classifier.evaluation.unknown import fit_known
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.verdict import Head

INFO = ModelInfo(["blue", "green", "red"], 32, "clean")


@pytest.mark.parametrize("step", [1, 4, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_all_images_are_computed_in_bounded_steps(tiny_arrays, step, threads):
    sizes = []

    def left_column(images):
        assert images.dtype == np.uint8
        sizes.append(len(images))
        return images[:, :, 0].mean(axis=1)

    with Arrays(tiny_arrays) as arrays:
        images, _ = arrays.read("train", slice(None))
        for mirror, columns in ((False, [0]), (True, [0, -1])):
            wanted = images[:, :, columns].mean(axis=(1, 2))
            judge = Judge(left_column, replace(INFO, mirror=mirror), step, threads)
            found = judge.of_arrays(arrays, "train")
            np.testing.assert_allclose(found.features, wanted)
            assert found.names == arrays.sources("train")
            np.testing.assert_array_equal(found.pixels(7), images[7])
            rows = np.array([40, 3, 17, 5, 9])
            some = judge.of_arrays(arrays, "train", rows, mirror=not mirror)
            np.testing.assert_allclose(
                some.features,
                images[rows][:, :, [0]].mean(axis=(1, 2))
                if mirror
                else images[rows][:, :, [0, -1]].mean(axis=(1, 2)),
            )
            assert some.names[1] == found.names[3]
            np.testing.assert_array_equal(some.pixels(1), images[3])
    assert sum(sizes) == 3 * (48 + 5)
    assert max(sizes) <= step


def test_files_that_cannot_be_read_are_listed_and_left_out(tiny, tmp_path, capsys):
    files = sorted((tiny / "datasets/tiny/train/red").iterdir())[:3]
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no image")
    mixed = [tmp_path / "a.jpg", *files[:2], tmp_path / "b.jpg", files[2]]
    judge = Judge(lambda images: images.mean(axis=(1, 2)), INFO, 2)
    found, read = judge.of_files(mixed, "red")
    assert read.tolist() == [1, 2, 4]
    assert found.names == [*map(str, files)]
    for number, file in enumerate(files):
        np.testing.assert_array_equal(found.pixels(number), decode(file, 32))
        np.testing.assert_allclose(found.features[number], decode(file, 32).mean(axis=(0, 1)))
    assert capsys.readouterr().err.splitlines() == [
        *(f"skipped: {tmp_path}/{name}.jpg: not an image" for name in "ab"),
        "skipped 2 of 5 files in red",
    ]
    for none in ([], [tmp_path / "a.jpg"]):
        with pytest.raises(UserError, match="^red: no file in it can be read as an image"):
            judge.of_files(none, "red")


def test_a_network_that_gives_no_numbers_is_one_line(tiny_arrays):
    judge = Judge(lambda images: np.full((len(images), 2), np.nan), INFO, 4)
    with Arrays(tiny_arrays) as arrays, pytest.raises(UserError, match="^val: .* no finite num"):
        judge.of_arrays(arrays, "val")


def test_arrays_are_put_in_words(tiny_arrays):
    with Arrays(tiny_arrays) as arrays:
        found, leak = about(arrays)
    assert leak == ""
    assert found["protocol"] == "clean, seed 0"
    assert found["photographs"] == "train 24 and 24 augmented copies, val 6, test 6"
    assert found["audit"].startswith("no photograph, near-duplicate")
    arrays = SimpleNamespace(**{**vars(arrays.description), "leaks": True}, path="x.h5")
    with Arrays(tiny_arrays) as finished:
        for name in ("count", "copies"):
            setattr(arrays, name, getattr(finished, name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "overlaps", lambda *_, **__: [()] * 1200)
            found, leak = about(arrays)
    assert leak == "the audit found 1,200 overlaps between the splits"
    assert found["audit"] == "1,200 overlaps between the splits"
    assert found["near-duplicates"] == "not looked for"


@pytest.fixture(scope="module")
def judged():
    """A Head that knows two classes, features of both, their labels, and features of neither."""
    random = np.random.default_rng(0)
    centres = np.array([[3, 0, 1, 0], [0, 3, 1, 0], [0, 0, 1, 3]])

    def draw(kind, count):
        return np.abs(centres[kind] + random.normal(0, 0.5, (count, 4)))

    labels = np.repeat([0, 1], 40)
    train, val, test = (np.concatenate([draw(0, 40), draw(1, 40)]) for _ in range(3))
    head = Head(np.array([[2.0, -2], [-2, 2], [0, 0], [0, 0]]), np.zeros(2), 2.0)
    known = fit_known(head, train, labels, val)
    return Head(head.kernel, head.bias, 2.0, known), test, labels, draw(2, 30)


def test_figures_are_of_calibrated_probabilities(judged):
    head, features, labels, _ = judged
    found = figures(head, features, labels)
    probabilities = head.probabilities(features)
    for figure in (summary(probabilities, labels), calibration(probabilities, labels)):
        assert figure == {name: found[name] for name in figure}
    plain = Head(head.kernel, head.bias).probabilities(features)
    assert found["uncalibrated_loss"] == summary(plain, labels)["loss"] != found["loss"]
    assert found["uncalibrated_ece"] == calibration(plain, labels)["ece"] != found["ece"]
    assert found["accepted"] == (~head.unknown(features)).mean() > 0.85
    assert found["accepted_low"] < found["accepted"] < found["accepted_high"]
    assert "accepted" not in figures(Head(head.kernel, head.bias), features, labels)


def test_unknown_figures_are_of_the_scores(judged):
    head, features, _, unknown = judged
    found = unknown_figures(head, features, unknown)
    above = (head.scores(features)[:, None] > head.scores(unknown)).mean()
    assert found["auroc"] == pytest.approx(above)
    assert found["auroc_low"] <= found["auroc"] <= found["auroc_high"]
    assert found["rejected"] == head.unknown(unknown).mean() > 0.8
    assert found["rejected_low"] < found["rejected"] <= found["rejected_high"]
    assert found["unknown_n"] == 30


def test_a_leak_is_put_in_words():
    arrays = SimpleNamespace(leaks=False, split_digest="ab")

    def info(digest="ab", **more):
        return ModelInfo(["a", "b"], 32, "clean", {"split_digest": digest}, **more)

    assert leak_on(arrays, info(), "x.h5") == ""
    assert leak_on(arrays, info("cd"), "x.h5, judged").startswith(
        "x.h5, judged, was trained on another split: "
    )
    assert leak_on(arrays, info(leak="so it is"), "x.h5") == "x.h5: so it is"
    assert leak_on(SimpleNamespace(leaks=True), info(), "x.h5") == LEAK_WARNING


def test_the_figures_stand_in_their_places(capsys):
    show("test", {"loss": 0.58404, "accuracy": 0.897, "low": 0.8787, "high": 0.9128, "n": 1223,
                  "mean_per_class": 0.8743, "top5": 0.9787, "ece": 0.0123, "ece_low": 0.0,
                  "ece_high": 0.0211, "uncalibrated_ece": 0.0456})  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "Test Loss = 0.5840",
        "Test Accuracy = 89.70% (0.8970)",
        "Test 95% interval = 87.87% to 91.28%, n = 1223, mean per class = 87.43%, top 5 = 97.87%",
        "Test Calibration Error = 1.23% (0.00% to 2.11%), uncalibrated 4.56%",
    ]
    show_unknown({"auroc": 0.9724, "auroc_low": 0.9647, "auroc_high": 0.9793, "rejected": 0.85,
                  "rejected_low": 0.8153, "rejected_high": 0.8799, "unknown_n": 468})  # fmt: skip
    assert capsys.readouterr().out == (
        "Unknown AUROC = 97.24% (96.47% to 97.93%), rejected = 85.00% (81.53% to 87.99%), n = 468\n"
    )
