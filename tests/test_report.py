"""The report's parts without a model: what stands in the page, and what beside it."""

import base64
import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import check_report, needs_browser
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from classifier.errors import UserError
from classifier.evaluation import card, pictures, report
from classifier.evaluation.evaluate import Photographs, figures, unknown_figures
from classifier.evaluation.report import Report
from classifier.evaluation.unknown import fit_known
from classifier.prediction.model_file import ModelInfo
from classifier.prediction.verdict import Head

CLASSES = ["<b>cat</b>", "dog", 'o"wl', "zebra"]
TRAINING = {
    "arguments": {"recipe": "scratch", "seed": 3, "mirror": True, "learning_rate": 0.0125},
    "command": "python train.py --data 'a b.h5'",
    "code": "0.2.0 abc", "device": "2 cores", "precision": "float32", "minutes": 4.25,
    "images": 12462, "versions": {"keras": "3.15.1"}, "best_epoch": 2, "start": {}, "end": {},
    "history": {name: [0.5, 0.4] for name in ("loss", "accuracy", "val_loss", "val_accuracy")},
}  # fmt: skip


def photographs(name, features):
    pixels = np.random.default_rng(0).integers(0, 256, (len(features), 20, 30, 3)).astype(np.uint8)
    names = [f"train/{name}/image_{i:04}.jpg" for i in range(len(features))]
    return Photographs(names, features, lambda number: pixels[number])


@pytest.fixture(scope="module")
def made():
    """A report of 80 photographs of 3 classes, of a model that knows 4, and 30 of none."""
    random = np.random.default_rng(0)
    centres = 3 * np.eye(5)[:4] + 0.5
    labels = np.repeat([0, 1, 3], [40, 30, 10])

    def draw(labels):
        return np.abs(centres[labels] + random.normal(0, 1, (len(labels), 5))).astype(np.float32)

    head = Head(np.float32(np.eye(5)[:, :4]), np.zeros(4, np.float32))
    known = fit_known(head, draw(labels), labels, draw(labels))
    head = replace(head, temperature=0.8, known=known)
    test, none = draw(labels), np.abs(random.normal(2, 1, (30, 5))).astype(np.float32)
    info = ModelInfo(CLASSES, 32, "clean", dict(TRAINING), 64, True, "", 0.8, known)
    found = figures(head, test, labels) | unknown_figures(head, test, none)
    return Report(
        "model.h5 on test", info, head, photographs("x", test), labels, found,
        photographs("none", none), "", {"protocol": "clean"}, "python -m classifier.evaluation",
    )  # fmt: skip


class Page(HTMLParser):
    """What a page holds: ids, texts, and the addresses it names."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.texts, self.addresses = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href"):
                self.addresses.append(value)

    def handle_data(self, data):
        self.texts.append(data)


def test_figures_are_scikit_learns(made):
    said = made.head.logits(made.known.features).argmax(axis=1)
    counts = confusion_matrix(made.labels, said, labels=range(4))
    np.testing.assert_array_equal(made.matrix, counts)
    rows = report.per_class(made)
    assert [row["class"] for row in rows] == CLASSES
    assert [row["support"] for row in rows] == [40, 30, 0, 10]
    for figure, score in (("precision", precision_score), ("recall", recall_score)):
        wanted = score(made.labels, said, labels=range(4), average=None, zero_division=np.nan)
        for row, value in zip(rows, wanted, strict=True):
            if np.isnan(value):
                assert row[figure] is None
            else:
                assert row[figure] == pytest.approx(value)
                assert row[f"{figure}_low"] <= row[figure] <= row[f"{figure}_high"]
    pairs = report.confused(made)
    assert sum(pair["count"] for pair in pairs) == (said != made.labels).sum() > 0
    assert [pair["count"] for pair in pairs] == sorted(
        (pair["count"] for pair in pairs), reverse=True
    )
    assert all(counts[CLASSES.index(p["true"]), CLASSES.index(p["predicted"])] == p["count"]
               for p in pairs)  # fmt: skip


def test_mistakes_come_the_surest_first(made):
    rows = report.mistakes(made)
    probabilities = made.head.probabilities(made.known.features)
    assert len(rows) == (probabilities.argmax(axis=1) != made.labels).sum()
    assert [row["probability"] for row in rows] == sorted(
        (row["probability"] for row in rows), reverse=True
    )
    number = made.known.names.index(rows[0]["file"])
    assert float(rows[0]["probability"]) == pytest.approx(probabilities[number].max(), abs=1e-6)
    assert CLASSES.index(rows[0]["label"]) == made.labels[number]
    assert {row["unknown"] for row in rows} <= {"true", "false"}
    head = replace(made.head, known=None)
    assert {row["unknown"] for row in report.mistakes(replace(made, head=head))} == {""}


def test_classes_that_are_confused_stand_together():
    counts = 10 * np.eye(6, dtype=int)
    for one, other in ((0, 5), (1, 3)):
        counts[one, other] = counts[other, one] = 5
    order = report.similar_order(counts).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    for one, other in ((0, 5), (1, 3)):
        assert abs(order.index(one) - order.index(other)) == 1
    assert report.similar_order(counts[:2, :2]).tolist() == [0, 1]


def test_the_page_has_every_part_and_needs_nothing_else(made, tmp_path):
    path = report.write(tmp_path / "new/run", made)
    text = path.read_text()
    page = Page(text)
    assert page.ids == ["figures", "curves", "confusion", "classes", "per-class", "mistakes",
                        "calibration", "unknown", "data", "run"]  # fmt: skip
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    said = " ".join(" ".join(page.texts).split())
    for part in ("python train.py --data 'a b.h5'", "python -m classifier.evaluation",
                 "<b>cat</b>", 'o"wl', "0.2.0 abc", "learning rate 0.0125",
                 f"{made.figures['accuracy']:.1%}", f"{made.figures['auroc']:.1%}",
                 "protocol clean"):  # fmt: skip
        assert part in said, part
    pictures = [base64.b64decode(code) for code in re.findall(r"svg\+xml;base64,([^\"]+)", text)]
    assert len(pictures) == 5
    assert sum(b"temperature 0.800" in picture for picture in pictures) == 1
    assert page.tags.count("b") < 60  # no class name became a tag
    assert "<b>cat" not in text
    assert "These figures are too good" not in said
    assert len(text) < 3_000_000
    assert {file.name for file in path.parent.iterdir()} == {
        "report.html", "report.json", "classes.csv", "mistakes.csv",
    }  # fmt: skip
    kept = json.loads((path.parent / "report.json").read_text(), parse_constant=pytest.fail)
    assert kept["figures"] == pytest.approx(made.figures)
    assert kept["training"]["code"] == "0.2.0 abc"
    for name, rows in (("classes", 4), ("mistakes", len(report.mistakes(made)))):
        with (path.parent / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == rows


def test_the_page_of_a_perfect_model_that_knows_nothing(made):
    labels = made.head.logits(made.known.features).argmax(axis=1)
    head = Head(made.head.kernel, made.head.bias)
    plain = replace(
        made, head=head, labels=labels, unknown=None, leak="it has seen them",
        info=replace(made.info, known=None, training={"history": {}}, temperature=1.0),
        figures=figures(head, made.known.features, labels),
    )  # fmt: skip
    text = report.page(plain, report.per_class(plain))
    page = Page(text)
    said = " ".join(" ".join(page.texts).split())
    assert "curves" not in page.ids
    assert said.count("No photograph was named wrongly.") == 2
    assert "names a class whatever it is shown" in said
    assert "These figures are too good: it has seen them" in said


def test_pictures_are_the_same_each_time_and_have_pixels(made):
    probabilities = made.head.probabilities(made.known.features)
    draw = {
        "curves": lambda: pictures.curves(
            TRAINING["history"], {"val_loss": 0.6}, {"val_loss": 0.3}, "loss"
        ),
        "reliability": lambda: pictures.reliability(probabilities, made.labels, "title"),
        "histogram": lambda: pictures.score_histogram(np.arange(9.0), np.arange(5.0), 2.0),
        "alone": lambda: pictures.score_histogram(np.arange(9.0), None, 2.0),
        "confusion": lambda: pictures.confusion(made.matrix, CLASSES, "title"),
    }
    for name, function in draw.items():
        svg = pictures.as_svg(function())
        assert svg == pictures.as_svg(function()), name
        assert b"<svg" in svg
        pixels = pictures.as_pixels(function())
        assert pixels.dtype == np.uint8
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 5, name


def test_the_card_says_what_the_model_is(made, tmp_path):
    path = tmp_path / "model.md"
    card.write(path, tmp_path / "model.h5", made, tmp_path / "report.html")
    text = path.read_text()
    for part in (
        "# model.h5",
        f"| accuracy | {made.figures['accuracy']:.1%} |",
        card.UNKNOWN_LICENCE,
        "python train.py --data 'a b.h5'",
        "divided by 0.8000",
        "- protocol: clean",
        "scales them to 32x32, the network to 64x64",
        "zebra",
        "&lt;b&gt;cat&lt;/b&gt;",
        "- versions: keras 3.15.1",
    ):
        assert part in text, part
    info = replace(made.info, classes=["Faces", *map(str, range(99)), "yin_yang"], known=None)
    card.write(path, tmp_path / "model.h5", replace(made, info=info, leak="seen"), path)
    text = path.read_text()
    assert "CC BY 4.0" in text
    assert "too good:** seen" in text
    assert "it names one of them whatever it is shown" in text


def test_a_card_takes_the_place_of_a_card_alone(made, tmp_path):
    path = tmp_path / "notes.md"
    assert card.may_stand_at(path)
    path.write_text("# My notes")
    assert not card.may_stand_at(path)
    assert not card.may_stand_at(tmp_path)
    card.write(path, tmp_path / "notes.h5", made, tmp_path / "report.html")
    assert card.may_stand_at(path)


def few(made, count, classes=None):
    """The report of the first photographs alone, with other class names."""
    known = made.known
    known = Photographs(known.names[:count], known.features[:count], known.pixels)
    info = replace(made.info, classes=classes or CLASSES)
    found = figures(made.head, known.features, made.labels[:count])
    return replace(made, info=info, known=known, labels=made.labels[:count], figures=found,
                   unknown=None)  # fmt: skip


def test_what_is_no_number_is_null_in_the_figures(made, tmp_path):
    training = {**TRAINING, "start": {"val_loss": float("nan"), "val_accuracy": 0.5}}
    report.write(tmp_path, replace(made, info=replace(made.info, training=training)))
    kept = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert kept["training"]["start"] == {"val_loss": None, "val_accuracy": 0.5}


@pytest.mark.parametrize("count", [1, 2])
def test_the_page_of_few_photographs(made, tmp_path, count):
    text = report.write(tmp_path, few(made, count)).read_text()
    assert f"{count} photograph" in text
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)


def test_names_may_hold_anything(made, tmp_path):
    """TeX, letters that no font has, and bytes that are no text."""
    odd = few(made, 80, ["US$5_$", "\u732b\u72ac", "</script><script>", "a|b\n# c"])
    names = [f"{name}\udcff</td>" for name in odd.known.names]
    odd = replace(odd, known=replace(odd.known, names=names))
    text = report.write(tmp_path, odd).read_text()
    assert "</script><script>" not in text
    assert text.count("<script>") == 1
    pictures.as_pixels(pictures.confusion(odd.matrix, odd.info.classes, "title"))
    card.write(tmp_path / "card.md", tmp_path / "my model.h5", odd, tmp_path / "report.html")
    told = (tmp_path / "card.md").read_text()
    assert "\n# c" not in told
    assert "predict.py --model" in told
    assert "'" in told.split("predict.py --model")[1][:5]  # quoted for the shell
    with (tmp_path / "mistakes.csv").open(errors="surrogateescape", newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} <= set(names)


def test_a_page_of_a_thousand_classes_stays_small(made):
    random = np.random.default_rng(0)
    count, labels = 1000, np.repeat(np.arange(1000), 20)
    said = np.where(random.random(20_000) < 0.5, labels, random.integers(0, count, 20_000))
    features = np.eye(count, dtype=np.float32)[said]
    head = Head(np.eye(count, dtype=np.float32), np.zeros(count, np.float32))
    info = replace(made.info, classes=[f"class {i}" for i in range(count)], known=None)
    many = Report(
        "many", info, head, photographs("many", features), labels, figures(head, features, labels)
    )
    text = report.page(many, report.per_class(many))
    assert len(text) < 3_000_000
    picture = pictures.confusion(many.matrix, info.classes, "many")
    assert max(pictures.as_pixels(picture).shape) <= 1500


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"best_epoch": 2}, "that of epoch 2."),
        ({"best_epoch": 0, "start": {"loss": 1}}, "before the first epoch. Diamonds"),
        ({"best_epoch": 3, "end": {"loss": 1}}, "after the last epoch. Diamonds"),
        ({"best_epoch": 1, "arguments": {"label_smoothing": 0.1}}, "smoothed labels"),
    ],
)
def test_the_note_below_the_curves_is_true(training, words):
    history = {"loss": [1.0, 0.9]}
    note = report.curves_note({"history": history, **training})
    assert words in note
    assert "Val" not in note
    assert "Val" in report.curves_note({"history": {**history, "val_loss": [1, 1]}, **training})


def test_missing_packages_are_told_before_training(monkeypatch):
    report.check_packages()
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: name != "jinja2" or None)
    with pytest.raises(UserError, match="^jinja2 is not installed: pip install -r requirements"):
        report.check_packages()


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_wide_and_narrow(made, tmp_path, width):
    check_report(report.write(tmp_path, made), width)
