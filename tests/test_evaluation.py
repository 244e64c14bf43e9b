"""python -m classifier.evaluation, in this process, on a model of the small network."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image
from small import run_train, small_network

import predict
from classifier import hdf5
from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.evaluation import __main__ as evaluation
from classifier.prediction import model_file

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A folder with datasets/tiny.h5, 21 photographs of val, and small.h5, trained on it."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(tiny / "datasets/tiny", folder / "datasets/tiny")
    made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
               "--target-per-class", 16, "--val-per-class", 7, cwd=folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    words = ("--num-epochs", 2, "--batch-size", 16, "--precision", "float32", "--crop", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_train("--data", "datasets/tiny.h5", "--model", "small.h5", *words) == 0
    return folder


@pytest.fixture
def call(trained, monkeypatch, capsys):
    """A function that runs the command: its output and errors."""
    monkeypatch.chdir(trained)

    def main(*words, model="small.h5"):
        words = ["evaluation", "--model", str(model), *map(str, words)]
        words += [] if "--report" in words else ["--report", "judged"]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with small_network():
            assert evaluation.main() == 0
        told = capsys.readouterr()
        errors = told.err.removesuffix("report: judged/report.html\n")
        return told.out, errors

    return main


@pytest.fixture
def noise(tmp_path):
    """A folder with 5 pictures of none of the classes, and a file that is no picture."""
    random = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(5):
        pixels = random.integers(0, 256, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "text.png").write_text("no image")
    return folder


def test_the_figures_are_those_that_train_had(call):
    with small_network():
        info = model_file.load_info("small.h5")
    assert info.temperature != 1
    assert info.known is not None
    for split in ("test", "val"):
        found = json.loads(call("datasets/tiny.h5", "--json", "--split", split)[0])
        assert found.pop("model") == "small.h5"
        assert found.pop("judged") == f"{split} of datasets/tiny.h5"
        assert found.pop("n") == {"test": 6, "val": 21}[split]
        del info.training[split]["n"]
        assert found == pytest.approx(info.training[split], rel=1e-4)
    assert info.training["val"]["accepted"] == 1  # of 21 the lowest is the threshold


def test_people_read_them_as_percents(call, noise):
    text, errors = call("datasets/tiny.h5", "--unknown", noise)
    found = json.loads(call("datasets/tiny.h5", "--json", "--unknown", noise)[0])
    lines = text.splitlines()
    assert lines[0] == ("small.h5 on test of datasets/tiny.h5: n = 6, with 95% intervals")
    for start, key in (
        ("accuracy", "accuracy"), ("mean per class", "mean_per_class"), ("top 5", "top5"),
        ("calibration error", "ece"), ("in adaptive bins", "adaptive_ece"),
        ("known, accepted", "accepted"), ("AUROC", "auroc"), ("unknown, rejected", "rejected"),
    ):  # fmt: skip
        (line,) = (line for line in lines if line.startswith(start))
        assert line.removeprefix(start).split()[0] == f"{found[key]:.2%}"
    assert f"({found['low']:.2%} to {found['high']:.2%})" in text
    assert found["unknown_n"] == 5
    assert errors.splitlines() == [
        f"skipped: {noise}/text.png: not an image", f"skipped 1 of 6 files in {noise}",
    ]  # fmt: skip


def test_a_folder_of_class_folders_is_judged_as_its_arrays_are(call, trained, tmp_path, noise):
    """With pictures of no class beside them, found by their name, as beside arrays."""
    with Arrays(trained / "datasets/tiny.h5") as arrays:
        sources = arrays.sources("test")
    for source in sources:
        target = tmp_path / "photos" / Path(source).parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained / "datasets/tiny" / source, target)
    (tmp_path / "photos/red/broken.jpg").write_text("no image")
    (tmp_path / "photos/.hidden").mkdir()
    shutil.copytree(noise, tmp_path / "photos/BACKGROUND_Google")
    text, errors = call("--folder", tmp_path / "photos", "--json")
    found = json.loads(text)
    assert found["unknown"] == str(tmp_path / "photos/BACKGROUND_Google")
    assert "broken.jpg: not an image" in errors
    of_arrays = json.loads(call("datasets/tiny.h5", "--json")[0])
    assert "unknown" not in of_arrays
    for name in ("accuracy", "loss", "ece", "accepted", "n"):
        assert found[name] == pytest.approx(of_arrays[name], rel=1e-4)

    shutil.copytree(noise, trained / "datasets/tiny/BACKGROUND_Google")
    try:
        beside = json.loads(call("datasets/tiny.h5", "--json")[0])
    finally:
        shutil.rmtree(trained / "datasets/tiny/BACKGROUND_Google")
    assert beside["unknown"] == "datasets/tiny/BACKGROUND_Google"
    assert beside["auroc"] == pytest.approx(found["auroc"])


def test_mistakes_are_listed_the_surest_first(call, trained, tmp_path):
    """All are mistakes where the classes' names are turned."""
    model = tmp_path / "turned.h5"
    shutil.copy("small.h5", model)
    turned = {"classes": ["green", "red", "blue"]}
    for path in (model, shutil.copy("datasets/tiny.h5", tmp_path / "turned-arrays.h5")):
        name = "classifier" if path == model else "description"
        with h5py.File(path, "r+") as file:
            kept = hdf5.read_json(file, name)
            del file[name]
            hdf5.write_json(file, name, {**kept, **turned})
    out = tmp_path / "new/mistakes.csv"
    _, errors = call("--folder", "datasets/tiny/train", "--mistakes", out, model=model)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert errors == f"mistakes: {out}, {len(rows)} files\n"
    assert len(rows) >= 24  # of 36
    surest = [float(row["probability"]) for row in rows]
    assert surest == sorted(surest, reverse=True)
    for row in rows:
        assert row["label"] == Path(row["file"]).parent.name != row["predicted"]
        assert float(row["label_probability"]) <= float(row["probability"])
        assert row["unknown"] in ("true", "false")
    # Of arrays, as prepro.py found them; the same labels in both, so fewer are wrong.
    call(tmp_path / "turned-arrays.h5", "--mistakes", out, model=model)
    with out.open(newline="") as file:
        assert all(row["file"].startswith("train/") for row in csv.DictReader(file))


def changed(path, source, **values):
    shutil.copy(source, path)
    name = "description" if "tiny" in str(source) else "classifier"
    with h5py.File(path, "r+") as file:
        kept = hdf5.read_json(file, name)
        del file[name]
        hdf5.write_json(file, name, {**kept, **values})
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.h5"], r"none\.h5: no such arrays file"),
        (["small.h5"], r"small\.h5: not an arrays file"),
        (["classes.h5"], r"classes\.h5: its classes are not those of small\.h5"),
        (["larger.h5"], r"larger\.h5: images of 48 pixels, small\.h5 takes 32: prepro\.py --image"),
        (["noval.h5", "--split", "val"], r"--split val: empty in noval\.h5"),
        (["datasets/tiny.h5", "--unknown", "empty"], r"--unknown: empty: no such folder, or no"),
        (["--folder", "none"], r"none: no such folder; --folder needs"),
        (["--folder", "empty"], r"empty: no images; --folder needs"),
        (["--folder", "datasets"], r"datasets/tiny: not a class of the model; rename it"),
        (["--folder", "text"], r"text: no file in it can be read as an image"),
        (
            ["datasets/tiny.h5", "--unknown", "none"],
            r"--unknown: none: no such folder, or no files",
        ),
    ],
)
def test_what_cannot_be_judged_is_an_error_in_one_line(
    call, trained, larger_arrays, words, message
):
    changed("classes.h5", "datasets/tiny.h5", classes=["a", "b", "c"])
    shutil.copy(larger_arrays, "larger.h5")
    if not Path("noval.h5").exists():
        made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
                   "--val-per-class", 0, "--output", "noval.h5", cwd=trained)  # fmt: skip
        assert made.returncode == 0, made.stderr
    Path("empty/red").mkdir(parents=True, exist_ok=True)
    Path("text/red").mkdir(parents=True, exist_ok=True)
    Path("text/red/a.jpg").write_text("no image")
    with pytest.raises(UserError, match=message) as caught:
        call(*words)
    assert "\n" not in str(caught.value)


def test_a_model_that_knows_nothing_cannot_tell_unknown_pictures(call, noise, tmp_path):
    model = changed(tmp_path / "model.h5", "small.h5", known=None)
    with pytest.raises(UserError, match=r"--unknown: .*model\.h5 cannot tell.*fewer than 19"):
        call("datasets/tiny.h5", "--unknown", noise, model=model)
    assert "accepted" not in json.loads(call("datasets/tiny.h5", "--json", model=model)[0])


def test_figures_that_are_too_good_come_with_a_warning(call, tmp_path):
    model = changed(tmp_path / "model.h5", "small.h5", training={"split_digest": "another"})
    assert "warning: " in call("datasets/tiny.h5", model=model)[1]
    assert "was trained on train" in call("datasets/tiny.h5", "--split", "train")[1]
    assert "was chosen on val" in call("datasets/tiny.h5", "--split", "val")[1]
    assert call("datasets/tiny.h5")[1] == ""


def test_copies_are_no_photographs(call):
    found = json.loads(call("datasets/tiny.h5", "--split", "train", "--json")[0])
    assert found["n"] == 9


def test_the_report_stands_where_it_is_asked_for(call, tmp_path):
    _, errors = call("datasets/tiny.h5", "--report", tmp_path / "here")
    assert errors == f"report: {tmp_path}/here/report.html\n"
    text = (tmp_path / "here/report.html").read_text()
    assert "python -m classifier.evaluation --model small.h5 datasets/tiny.h5" in text
    assert "python train.py --data datasets/tiny.h5" in text
    assert "train 9 and 39 augmented copies, val 21, test 6" in text
    args = evaluation.parse_args(["x.h5", "--model", "a/b.h5"])
    assert args.report == Path("logs/b-test")
    assert evaluation.parse_args(["--folder", "c/d"]).report == Path("logs/resnet50-d")


def test_predict_says_none_of_these_with_either_runtime(call, trained, noise, monkeypatch, capsys):
    photographs = str(trained / "datasets/tiny/train")
    said = {}
    for runtime in ("numpy", "keras"):
        words = ["--json", "--model", "small.h5", "--runtime", runtime, str(noise), photographs]
        monkeypatch.setattr(sys, "argv", ["predict.py", *words])
        with small_network():
            assert predict.main() == 0
        lines = capsys.readouterr().out.splitlines()
        said[runtime] = [json.loads(line)["unknown"] for line in lines]
    assert said["numpy"] == said["keras"]
    assert all(said["numpy"][:5])
    assert sum(said["numpy"][5:]) <= 6  # of 36


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either ARRAYS or --folder DIR"),
        (["a.h5", "--folder", "b"], "give either ARRAYS or --folder DIR"),
        (["a.h5", "--mistakes", "a.h5"], "argument --mistakes: a.h5 would be lost"),
        (["a.h5", "--mistakes", "."], "argument --mistakes: . is a folder"),
        (["--folder", "b", "--split", "val"], "argument --split: a folder has none"),
    ],
)
def test_flags_are_checked(words, message, capsys):
    with pytest.raises(SystemExit):
        evaluation.parse_args(words)
    assert message in capsys.readouterr().err


def test_it_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluation", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "classifier/evaluation/__main__.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "usage: python -m classifier.evaluation" in capsys.readouterr().out
