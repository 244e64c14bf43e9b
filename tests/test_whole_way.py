"""The three scripts one after the other through their real command lines, and TensorBoard."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import h5py
import pytest
from conftest import assert_one_line_error, command, run
from PIL import Image, ImageOps

from classifier.prediction import model_file

TRAIN = ("--data", "datasets/tiny.h5", "-lr", 0.005, "--num-epochs", 2, "--batch-size", 8,
         "--dropout", 0.2, "--precision", "float32", "--patience", 0, "--no-mirror")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny):
    """The tiny folder after prepro.py and a training of 2 epochs: (folder, train.py's output)."""
    made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
               "--target-per-class", 16, cwd=tiny)  # fmt: skip
    assert made.returncode == 0, made.stderr
    result = run("train.py", *TRAIN, "--save-every", 2, "--tensorboard-vis", cwd=tiny)
    assert result.returncode == 0, result.stderr
    return tiny, result


def test_train_ends_with_the_originals_lines(trained):
    folder, result = trained
    for name in ("Val", "Test"):
        assert re.search(rf"^{name} Loss = \d+\.\d{{4}}$", result.stdout, re.M)
        accuracy = re.search(rf"^{name} Accuracy = (.+)% \((\d\.\d{{4}})\)$", result.stdout, re.M)
        assert float(accuracy[1]) == pytest.approx(100 * float(accuracy[2]), abs=0.01)
        assert re.search(rf"^{name} 95% interval = .+% to .+%, n = 6, ", result.stdout, re.M)
    assert result.stderr == ""
    assert (folder / "models/resnet50.h5").is_file()


def test_the_model_says_what_it_is(trained):
    folder, _ = trained
    with h5py.File(folder / "models/resnet50.h5") as file:
        assert list(file.attrs["classes"]) == ["blue", "green", "red"]
        assert file.attrs["image_size"] == 32
        assert file.attrs["protocol"] == "clean"
        training = json.loads(file.attrs["training"])
    assert len(training["history"]["val_loss"]) == 2
    losses = training["history"]["val_loss"]
    assert training["best_epoch"] == losses.index(min(losses)) + 1
    assert training["test"]["n"] == 6
    assert training["arguments"]["learning_rate"] == 0.005
    # The figures in the file are those of the weights in the file.
    assert training["val"]["accuracy"] == pytest.approx(
        training["history"]["val_accuracy"][training["best_epoch"] - 1]
    )


def test_predict_in_every_form(trained, tmp_path):
    folder, _ = trained
    photos = [f"datasets/tiny/train/red/image_000{i}.jpg" for i in (1, 2)]
    text = run("predict.py", photos[0], "--top", 2, cwd=folder)
    assert text.returncode == 0, text.stderr
    assert len(text.stdout.splitlines()) == 3
    assert text.stdout.splitlines()[0] == photos[0]

    with (folder / photos[0]).open("rb") as stdin:
        lines = run("predict.py", "--json", *photos, "-", cwd=folder, stdin=stdin)
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [row["file"] for row in rows] == [*photos, "-"]
    for row in rows:
        values = [item["probability"] for item in row["predictions"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-4)
        assert {item["label"] for item in row["predictions"]} == {"red", "green", "blue"}
    first = {item["label"]: item["probability"] for item in rows[0]["predictions"]}
    same = {item["label"]: item["probability"] for item in rows[2]["predictions"]}
    assert same == pytest.approx(first, abs=1e-5)

    # The model file alone is enough, and a file may have any name.
    shutil.copy(folder / photos[0], tmp_path / "- odd\nname's.jpg")
    shutil.copy(folder / "models/resnet50.h5", tmp_path / "m.h5")
    table = run("predict.py", "--csv", "--model", "m.h5", "./- odd\nname's.jpg",
                f"{folder}/datasets/*/train/green/*3.jpg", folder / "datasets/tiny/train/red",
                cwd=tmp_path)  # fmt: skip
    records = list(csv.DictReader(io.StringIO(table.stdout)))
    assert len(records) == (1 + 1 + 12) * 3
    assert {record["file"] for record in records[:3]} == {"./- odd\nname's.jpg"}
    alone = {record["label"]: float(record["probability"]) for record in records[:3]}
    assert alone == pytest.approx(first, abs=1e-4)


def test_predict_skips_what_is_no_image_and_names_it(trained, tmp_path):
    folder, _ = trained
    shutil.copy(next((folder / "datasets/tiny/train/blue").glob("*.jpg")), tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    result = run("predict.py", "--json", tmp_path, cwd=folder)
    assert result.returncode == 0
    assert [json.loads(row)["file"] for row in result.stdout.splitlines()] == [
        str(tmp_path / "good.jpg")
    ]
    assert "empty.jpg: empty file" in result.stderr
    assert "text.jpg: not an image" in result.stderr
    assert "skipped 2 of 3" in result.stderr
    assert_one_line_error(run("predict.py", tmp_path, "--strict", cwd=folder), "empty.jpg")


def test_predict_fails_in_one_line(trained):
    folder, _ = trained
    photo = "datasets/tiny/train/red/image_0000.jpg"
    (folder / "text.jpg").write_text("no image")
    for args, parts in (
        (["none.jpg"], ["none.jpg", "no such image"]),
        (["text.jpg"], ["text.jpg", "not an image"]),
        ([photo, "--model", "none.h5"], ["none.h5", "no such model"]),
        ([photo, "--model", "datasets/tiny.h5"], ["datasets/tiny.h5", "not a model file"]),
        ([photo, "--top", "0"], ["--top"]),
        ([], ["IMAGE"]),
    ):
        assert_one_line_error(run("predict.py", *args, cwd=folder), *parts)


def test_train_fails_in_one_line_before_it_starts(trained, tmp_path):
    folder, _ = trained
    (folder / "text.h5").write_text("no arrays")
    for args, parts in (
        (["--data", "none.h5"], ["none.h5", "no such arrays file"]),
        (["--data", "text.h5"], ["text.h5", "make it again"]),
        (["--data", "models/resnet50.h5"], ["models/resnet50.h5", "not an arrays file"]),
        (["--init", "none.h5"], ["--init", "none.h5"]),
        (["--model", "model.keras"], ["--model", ".h5"]),
        (["--batch-size", "0"], ["--batch-size"]),
        (["-lr", "-1"], ["--learning-rate"]),
        (["-lr", "nan"], ["--learning-rate"]),
        (["--num-epochs", "1.5"], ["--num-epochs"]),
        (["--resume", "--restart"], ["--restart"]),
        (["--norm", "frozen"], ["--norm", "--init"]),
        (["--head", "regression"], ["--head", "--init"]),
        (["--init", "text.h5", "--batch-size", "8"], ["text.h5"]),
        (["--batch-size", "49"], ["--batch-size", "datasets/tiny.h5", "48"]),
    ):
        assert_one_line_error(
            run("train.py", "--data", "datasets/tiny.h5", *args, cwd=folder), *parts
        )


def test_training_starts_from_a_model_and_a_diverging_loss_stops_with_advice(trained):
    folder, _ = trained
    args = ("-lr", 100, "--recipe", "original", "--optimizer", "sgd", "--model", "models/nan.h5")
    result = run("train.py", *TRAIN, *args, "--init", "models/resnet50.h5", cwd=folder)
    assert "107 layers start from models/resnet50.h5" in result.stdout
    assert_one_line_error(result, "--learning-rate", "not a number")
    assert not (folder / "models/nan.h5").exists()


def test_fine_tuning_starts_with_a_regression_and_predicts_with_the_mirror_image(trained):
    folder, _ = trained
    tuned = run("train.py", "--data", "datasets/tiny.h5", "--init", "models/resnet50.h5",
                "--enlarge-to", 48, "--num-epochs", 1, "--batch-size", 8, "--mixup", 0.2,
                "--precision", "float32", "--model", "models/tuned.h5", cwd=folder)  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    head = re.search(r"^head: logistic regression, accuracy (.+)%, on val", tuned.stdout, re.M)
    assert float(head[1]) >= 90
    _, info = model_file.load(folder / "models/tuned.h5")
    assert (info.enlarge_to, info.mirror) == (48, True)
    assert info.training["history"]["minutes"][0] > info.training["start"]["minutes"] > 0
    assert info.training["test"]["accuracy"] >= 0.8
    photo = next((folder / "datasets/tiny/train/red").glob("*.jpg"))
    mirrored = folder / "mirrored.png"
    ImageOps.mirror(Image.open(photo)).save(mirrored)
    found = run("predict.py", "--json", "--model", "models/tuned.h5", photo, mirrored, cwd=folder)
    one, other = (json.loads(line)["predictions"] for line in found.stdout.splitlines())
    assert [p["label"] for p in one] == [p["label"] for p in other]
    for left, right in zip(one, other, strict=True):
        assert left["probability"] == pytest.approx(right["probability"], abs=0.01)


def history(path):
    with h5py.File(path) as file:
        return json.loads(file.attrs["training"])["history"]


def test_an_interrupted_run_goes_on_where_it_stopped(trained):
    folder, _ = trained
    args = (*TRAIN, "--model", "models/parts.h5")
    latest = folder / "models/checkpoints/parts/latest.h5"
    process = subprocess.Popen(
        command("train.py", *args),
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not latest.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert not (folder / "models/parts.h5").exists()

    refused = run("train.py", *args, cwd=folder)
    assert_one_line_error(refused, "--resume", "--restart")
    other = run("train.py", *args, "--resume", "-lr", 0.1, cwd=folder)
    assert_one_line_error(other, "--learning-rate", "0.005")

    resumed = run("train.py", *args, "--resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming run" in resumed.stdout
    one, other = history(folder / "models/resnet50.h5"), history(folder / "models/parts.h5")
    assert len(other["loss"]) == 2
    for name in set(one) - {
        "minutes"
    }:  # the same order, dropout and momentum; threads may add in another order
        assert other[name] == pytest.approx(one[name], rel=0.02), name


@pytest.fixture(scope="module")
def server(trained):
    """Address of a TensorBoard server on the run's logs."""
    folder, _ = trained
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir=./logs", "--port=0"],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in process.stderr:
            if found := re.search(r"TensorBoard .* at (http://\S+)", line):
                break
        yield found[1].rstrip("/")
    finally:
        process.terminate()
        process.wait(10)


def fetch(url, **query):
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return answer.read()


def test_tensorboard_shows_curves_pictures_and_graph(server):
    for _ in range(100):  # it loads the logs in the background
        tags = json.loads(fetch(f"{server}/data/plugin/scalars/tags"))
        if len(tags) == 2 and "epoch_learning_rate" in next(iter(tags.values())):
            break
        time.sleep(0.1)
    train, validation = sorted(tags)
    assert train.endswith("scratch/train")
    assert validation.endswith("scratch/validation")
    for run_name, tag in (
        (train, "epoch_loss"), (train, "epoch_accuracy"), (train, "epoch_learning_rate"),
        (validation, "epoch_loss"), (validation, "epoch_accuracy"),
    ):  # fmt: skip
        points = json.loads(fetch(f"{server}/data/plugin/scalars/scalars", run=run_name, tag=tag))
        assert [step for _, step, _ in points] == [0, 1]

    pictures = json.loads(fetch(f"{server}/data/plugin/images/tags"))[train]
    (tag,) = pictures
    listed = json.loads(fetch(f"{server}/data/plugin/images/images", run=train, tag=tag, sample=0))
    picture = fetch(f"{server}/data/plugin/images/individualImage?{listed[0]['query']}&x")
    assert picture.startswith(b"\x89PNG")
    assert pictures[tag]["samples"] >= 8
    graphs = json.loads(fetch(f"{server}/data/plugin/graphs/info"))
    assert any(graphs[train]["tags"].values()) or graphs[train]["run_graph"]
