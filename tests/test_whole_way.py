"""The three scripts one after the other through their real command lines, and TensorBoard."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy
import PIL
import pytest
from conftest import ROOT, assert_one_line_error, run
from PIL import Image, ImageOps

import predict
from classifier.errors import UserError
from classifier.prediction import model_file

pytestmark = pytest.mark.usefixtures("eager")

TRAIN = ("--data", "datasets/tiny.h5", "-lr", 0.005, "--num-epochs", 2, "--batch-size", 16,
         "--dropout", 0.2, "--precision", "float32", "--patience", 0, "--no-mirror")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny, tiny_arrays):
    """The tiny folder after prepro.py and a training of 2 epochs: (folder, train.py's output)."""
    result = run("train.py", *TRAIN, "--save-every", 2, "--tensorboard-vis", cwd=tiny)
    assert result.returncode == 0, result.stderr
    return tiny, result


@pytest.fixture
def predicted(trained, monkeypatch, capsys):
    """A function that runs predict.py's main in this process: (its status, output, errors)."""
    monkeypatch.chdir(trained[0])

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, words)])
        capsys.readouterr()
        status = predict.main()
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_train_ends_with_the_originals_lines(trained):
    folder, result = trained
    for name in ("Val", "Test"):
        assert re.search(rf"^{name} Loss = \d+\.\d{{4}}$", result.stdout, re.M)
        accuracy = re.search(rf"^{name} Accuracy = (.+)% \((\d\.\d{{4}})\)$", result.stdout, re.M)
        assert float(accuracy[1]) == pytest.approx(100 * float(accuracy[2]), abs=0.01)
        assert re.search(rf"^{name} 95% interval = .+% to .+%, n = 6, ", result.stdout, re.M)
    assert re.search(r"^Test Calibration Error = .+% \(.+% to .+%\), uncalib", result.stdout, re.M)
    assert "too few photographs in val (below 19)" in result.stdout
    assert result.stderr == ""
    assert (folder / "models/resnet50.h5").is_file()
    card = (folder / "models/resnet50.md").read_text()
    (page,) = (folder / "logs").glob("*-scratch-*/report.html")
    assert f"report: {page.relative_to(folder)}\n" in result.stdout
    command = "python train.py --data datasets/tiny.h5 -lr 0.005"
    assert command in page.read_text()
    assert command in card


def test_the_model_says_what_it_is(trained):
    folder, _ = trained
    info = model_file.load_info(folder / "models/resnet50.h5")
    assert info.classes == ["blue", "green", "red"]
    assert (info.image_size, info.protocol, info.leak) == (32, "clean", "")
    training = info.training
    history = training["history"]
    judged = [*zip(history["val_accuracy"], (-x for x in history["val_loss"]), strict=True)]
    assert len(judged) == 2
    assert training["best_epoch"] == judged.index(max(judged)) + 1
    assert training["test"]["n"] == 6
    assert training["arguments"]["learning_rate"] == 0.005
    assert training["split_digest"]
    assert info.temperature != 1
    assert info.known is None  # val is too small
    # The figures in the file are those of the weights in the file.
    assert training["val"]["accuracy"] == pytest.approx(
        history["val_accuracy"][training["best_epoch"] - 1]
    )


def test_predict_in_every_form(trained, predicted, tmp_path, monkeypatch):
    folder, _ = trained
    photos = [f"datasets/tiny/train/red/image_000{i}.jpg" for i in (1, 2)]
    text = run("predict.py", photos[0], "--top", 2, "--always", cwd=folder)
    assert text.returncode == 0, text.stderr
    assert len(text.stdout.splitlines()) == 3
    assert text.stdout.splitlines()[0] == photos[0]
    assert text.stdout == predicted(photos[0], "--top", 2, "--always")[1]

    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=io.BytesIO((folder / photos[0]).read_bytes()))
    )
    status, lines, _ = predicted("--json", *photos, "-")
    assert status == 0
    rows = [json.loads(line) for line in lines.splitlines()]
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
    monkeypatch.chdir(tmp_path)
    _, table, _ = predicted(
        "--csv", "--model", "m.h5", "./- odd\nname's.jpg",
        f"{folder}/datasets/*/train/green/*3.jpg", folder / "datasets/tiny/train/red",
    )  # fmt: skip
    records = list(csv.DictReader(io.StringIO(table)))
    assert len(records) == (1 + 1 + 12) * 3
    assert {record["file"] for record in records[:3]} == {"./- odd\nname's.jpg"}
    alone = {record["label"]: float(record["probability"]) for record in records[:3]}
    assert alone == pytest.approx(first, abs=1e-4)


def test_predict_skips_what_is_no_image_and_names_it(trained, predicted, tmp_path):
    folder, _ = trained
    shutil.copy(next((folder / "datasets/tiny/train/blue").glob("*.jpg")), tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    status, lines, errors = predicted("--json", tmp_path)
    assert status == 0
    assert [json.loads(row)["file"] for row in lines.splitlines()] == [str(tmp_path / "good.jpg")]
    assert "empty.jpg: empty file" in errors
    assert "text.jpg: not an image" in errors
    assert "skipped 2 of 3" in errors
    assert_one_line_error(run("predict.py", tmp_path, "--strict", cwd=folder), "empty.jpg")


def rows_of(text):
    """Return what --json printed, {file: {label: probability}}."""
    rows = [json.loads(line) for line in text.splitlines()]
    return {
        row["file"]: {one["label"]: one["probability"] for one in row["predictions"]}
        for row in rows
    }


def test_keras_names_the_same_as_numpy(trained, predicted, monkeypatch):
    """In whole batches and a last one that is not, with a file in it that is no image."""
    folder, _ = trained
    monkeypatch.setattr("classifier.prediction.runtime.MAX_IMAGES", 5)
    red = folder / "datasets/tiny/train/red"
    (folder / "text.jpg").write_text("no image")
    words = ("--json", red, "text.jpg")
    _, lines, errors = predicted(*words, "--runtime", "numpy")
    _, of_keras, same_errors = predicted(*words, "--runtime", "keras")
    _, short, _ = predicted(*words, "--runtime", "keras", "--precision", "bfloat16")
    assert errors == same_errors
    assert "text.jpg: not an image" in errors
    wanted = rows_of(lines)
    assert len(wanted) == 12
    for found, tolerance in ((of_keras, 1e-5), (short, 0.05)):
        assert list(rows_of(found)) == list(wanted)
        for file, probabilities in rows_of(found).items():
            assert probabilities == pytest.approx(wanted[file], abs=tolerance)
    assert short != of_keras


def test_predict_needs_the_packages_of_its_own_requirements_alone(trained, predicted, tmp_path):
    folder, _ = trained
    photo = "datasets/tiny/train/red/image_0001.jpg"
    for package in (numpy, PIL, h5py):
        home = Path(package.__file__).parent
        for part in (home, *home.parent.glob("*.libs")):  # of their wheels
            if not (tmp_path / part.name).exists():
                (tmp_path / part.name).symlink_to(part)

    def alone(*words):
        """Run predict.py with these packages and Python's own: without site-packages (-S)."""
        return subprocess.run(
            [sys.executable, "-S", ROOT / "predict.py", photo, *words], cwd=folder,
            capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(tmp_path)},
        )  # fmt: skip

    result = alone()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == predicted(photo)[1]
    assert alone("--precision", "bfloat16").stdout == result.stdout
    assert alone("--explain", tmp_path / "why.png").stdout == result.stdout
    with PIL.Image.open(tmp_path / "why.png") as drawn:
        drawn.load()
    error = alone("--runtime", "keras")
    assert_one_line_error(error, "keras is not installed", "requirements.txt")
    text = (ROOT / "requirements-predict.txt").read_text()
    assert set(re.findall(r"^(\w+)==", text, re.M)) == {"numpy", "pillow", "h5py"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jpg"], r"none\.jpg.*no such image"),
        (["text.jpg"], r"text\.jpg.*not an image"),
        (["photo.jpg", "--model", "none.h5"], r"none\.h5.*no such model"),
        (["photo.jpg", "--model", "datasets/tiny.h5"], r"datasets/tiny\.h5.*not a model file"),
    ],
)
def test_predict_fails_in_one_line(trained, predicted, words, message):
    folder, _ = trained
    (folder / "text.jpg").write_text("no image")
    shutil.copy(folder / "datasets/tiny/train/red/image_0000.jpg", folder / "photo.jpg")
    with pytest.raises(UserError, match=message) as caught:
        predicted(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("words", "part"), [(["photo.jpg", "--top", "0"], "--top"), ([], "IMAGE")])
def test_predicts_flags_are_checked(trained, words, part):
    assert_one_line_error(run("predict.py", *words, cwd=trained[0]), part)


def test_train_fails_in_one_line_before_it_starts(trained):
    folder, _ = trained
    for words, parts in (
        (
            ["--data", "models/resnet50.h5", "--model", "x.h5"],
            ["resnet50.h5", "not an arrays file"],
        ),
        (["--model", "datasets/tiny.h5"], ["--model", "datasets/tiny.h5"]),
        (["--batch-size", 49], ["--batch-size", "datasets/tiny.h5", "48"]),
    ):
        result = run("train.py", "--data", "datasets/tiny.h5", *words, cwd=folder)
        assert_one_line_error(result, *parts)


def test_fine_tuning_starts_with_a_regression_and_predicts_with_the_mirror_image(
    trained, predicted
):
    folder, _ = trained
    tuned = run("train.py", "--data", "datasets/tiny.h5", "--init", "models/resnet50.h5",
                "--recipe", "finetune", "--enlarge-to", 48, "--num-epochs", 1, "--batch-size", 8,
                "--precision", "float32", "--model", "models/tuned.h5", cwd=folder)  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    assert tuned.stderr == ""
    assert "107 layers start from models/resnet50.h5" in tuned.stdout
    heads = re.findall(r"^head: logistic regression, accuracy (.+)%: val acc", tuned.stdout, re.M)
    assert [float(head) >= 90 for head in heads] == [True, True]  # before the epoch and after it
    info = model_file.load_info(folder / "models/tuned.h5")
    assert (info.enlarge_to, info.mirror, info.leak) == (48, True, "")
    assert info.training["history"]["minutes"][0] > info.training["start"]["minutes"] > 0
    assert info.training["test"]["accuracy"] >= 0.8
    photo = next((folder / "datasets/tiny/train/red").glob("*.jpg"))
    mirrored = folder / "mirrored.png"
    ImageOps.mirror(Image.open(photo)).save(mirrored)
    _, lines, _ = predicted("--json", "--model", "models/tuned.h5", photo, mirrored)
    one, other = (json.loads(line)["predictions"] for line in lines.splitlines())
    assert [p["label"] for p in one] == [p["label"] for p in other]
    for left, right in zip(one, other, strict=True):
        assert left["probability"] == pytest.approx(right["probability"], abs=0.01)
    words = ("--json", "--model", "models/tuned.h5", "--runtime", "keras", photo, mirrored)
    of_numpy, of_keras = rows_of(lines), rows_of(predicted(*words)[1])
    for file, probabilities in of_keras.items():
        assert probabilities == pytest.approx(of_numpy[file], abs=1e-5)


@pytest.fixture(scope="module")
def server(trained):
    """Address of a TensorBoard server on the run's logs."""
    folder, _ = trained
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir=./logs", "--port=0"],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            for line in process.stderr:
                if found := re.search(r"TensorBoard .* at (http://\S+)", line):
                    break
            yield found[1].rstrip("/")
        finally:
            process.terminate()


def fetch(url, **query):
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return answer.read()


def test_tensorboard_shows_curves_pictures_and_graph(server):
    for _ in range(100):  # it loads the logs in the background
        tags = json.loads(fetch(f"{server}/data/plugin/scalars/tags"))
        if len(tags) == 3 and all(tags.values()):
            break
        time.sleep(0.1)
    end, train, validation = sorted(tags)
    assert {"test/accuracy", "test/ece"} <= set(tags[end])
    assert re.search(r"-scratch-\w{4}/train$", train)
    assert re.search(r"-scratch-\w{4}/validation$", validation)
    for run_name, tag in (
        (train, "epoch_loss"), (train, "epoch_accuracy"), (train, "epoch_learning_rate"),
        (validation, "epoch_loss"), (validation, "epoch_accuracy"),
    ):  # fmt: skip
        points = json.loads(fetch(f"{server}/data/plugin/scalars/scalars", run=run_name, tag=tag))
        assert [step for _, step, _ in points] == [0, 1]

    images = json.loads(fetch(f"{server}/data/plugin/images/tags"))
    assert set(images[end]) == {"report/confusion", "report/calibration"}
    by_epoch = json.loads(
        fetch(f"{server}/data/plugin/images/images", run=validation, tag="confusion", sample=0)
    )
    assert [picture["step"] for picture in by_epoch] == [0, 1]
    pictures = images[train]
    (tag,) = pictures
    listed = json.loads(fetch(f"{server}/data/plugin/images/images", run=train, tag=tag, sample=0))
    picture = fetch(f"{server}/data/plugin/images/individualImage?{listed[0]['query']}&x")
    assert picture.startswith(b"\x89PNG")
    assert pictures[tag]["samples"] >= 8
    graphs = json.loads(fetch(f"{server}/data/plugin/graphs/info"))
    assert any(graphs[train]["tags"].values()) or graphs[train]["run_graph"]


def test_tensorboard_has_settings_and_figures_side_by_side(server):
    def ask(name, **query):
        request = urllib.request.Request(
            f"{server}/data/plugin/hparams/{name}", json.dumps(query).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    experiment = ask("experiment", experimentName="")
    settings = {info["name"] for info in experiment["hparamInfos"]}
    assert {"recipe", "learning_rate", "batch_size", "seed"} <= settings
    metrics = [{"metric": {"tag": "test/accuracy", "group": ""}}]
    groups = ask(
        "session_groups", experimentName="", startIndex=0, sliceSize=10, colParams=metrics,
        allowedStatuses=["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
    )  # fmt: skip
    (group,) = groups["sessionGroups"]
    assert group["hparams"]["learning_rate"] == pytest.approx(0.005)
    values = group["metricValues"]
    (value,) = (value for value in values if value["name"]["tag"] == "test/accuracy")
    assert 0 <= value["value"] <= 1
