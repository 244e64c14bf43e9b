"""train.py in this process, on the small network: what goes wrong, and how a run goes on."""

import contextlib
import errno
import importlib.metadata
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, command, run
from small import run_train, small_network, weights_in

import train
from classifier import __version__, cli
from classifier.data.arrays import Arrays
from classifier.data.splits import LEAK_WARNING
from classifier.errors import UserError
from classifier.evaluation.evaluate import Judge, figures
from classifier.hdf5 import read_json, write_json
from classifier.prediction import model_file
from classifier.prediction.verdict import Head
from classifier.training import assess, fit, head, precision, pretrained, range_test
from classifier.training.callback import Keeper
from classifier.training.recipes import RECIPES
from classifier.training.run import Run, load

COMMON = ("--data", "arrays.h5", "--batch-size", 24, "--precision", "float32")
SHORT = (*COMMON, "--num-epochs", 1)


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def others(tiny):
    """Arrays of the same photographs: of another split, without val, and of a leaky protocol."""
    for name, *words in (
        ("split", "--seed", 1, "--target-per-class", 16),
        ("noval", "--val-per-class", 0, "--target-per-class", 0),
    ):
        made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
                   "--output", f"{name}.h5", *words, cwd=tiny)  # fmt: skip
        assert made.returncode == 0, made.stderr
    return tiny


@pytest.fixture
def folder(tiny_arrays, tmp_path, monkeypatch):
    """An empty folder to work in, with arrays.h5."""
    shutil.copy(tiny_arrays, tmp_path / "arrays.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tiny_arrays, tmp_path_factory):
    """A model of one epoch on the tiny arrays, and its checkpoints beside it."""
    path = tmp_path_factory.mktemp("models") / "model.h5"
    words = ("--model", path, "--logs", path.parent / "logs", "--no-mirror")
    assert run_train(*SHORT, "--data", tiny_arrays, *words) == 0
    return path


@pytest.fixture
def copied(model, folder):
    """The model with its checkpoints, in the folder of the test."""
    shutil.copytree(model.parent, folder / "models")
    return folder / "models/model.h5"


@contextlib.contextmanager
def interrupted_after(epochs, times=1):
    """Stop a run in the epoch after this number of them, as a signal does, or two at once."""
    original = Keeper.on_train_batch_end
    with pytest.MonkeyPatch.context() as patch:

        def stop(keeper, batch, logs=None):
            if keeper.run.epochs_done == epochs:
                if times == 2:
                    raise KeyboardInterrupt
                cli._interrupted = True
            original(keeper, batch, logs)

        patch.setattr(cli, "_interrupted", False)
        patch.setattr(Keeper, "on_train_batch_end", stop)
        yield


def test_a_resumed_run_ends_as_an_uninterrupted_one(folder, larger_arrays, others, capsys):
    shutil.copy(larger_arrays, "arrays.h5")
    words = (*COMMON, "--num-epochs", 4, "--dropout", 0.3, "--crop", 0.5, "--save-every", 2,
             "--patience", 0)  # fmt: skip
    run_train(*words, "--model", "models/whole.h5")
    parts = (*words, "--model", "models/my parts.h5")
    with interrupted_after(1), pytest.raises(SystemExit):  # where images are smaller
        run_train(*parts)
    assert "latest.h5 is from step 1 of epoch 2" in capsys.readouterr().err
    with interrupted_after(3, times=2), pytest.raises(SystemExit):
        run_train(*parts, "--resume")
    told = capsys.readouterr().err
    assert "stopped after the end of epoch 3 (--num-epochs 4)" in told
    assert "latest.h5 is from the end of epoch 2" in told
    assert "--restart" not in told
    with interrupted_after(3), pytest.raises(SystemExit) as stopped:
        run_train(*parts, "--resume")
    assert stopped.value.code == 130
    told = capsys.readouterr()
    assert "resuming run" in told.out
    assert "after the end of epoch 2\n" in told.out
    assert "stopped after step 1 of epoch 4 (--num-epochs 4)" in told.err
    assert "latest.h5 is from step 1 of epoch 4" in told.err
    assert "--model 'models/my parts.h5' --resume\n" in told.err
    assert not (folder / "models/my parts.h5").exists()

    with pytest.raises(UserError, match=r"after step 1 of epoch 4, --num-epochs 4.*--resume"):
        run_train(*parts)
    with pytest.raises(UserError, match=r"--dropout is 0\.5"):
        run_train(*parts, "--resume", "--dropout", 0.5)
    shutil.move("arrays.h5", "moved.h5")
    shutil.copy(others / "split.h5", "arrays.h5")
    with pytest.raises(UserError, match="not those the run began with"):
        run_train(*parts, "--resume")

    assert run_train(*parts, "--resume", "--data", "moved.h5") == 0
    assert "after step 1 of epoch 4\n" in capsys.readouterr().out
    one, other = weights_in("models/whole.h5"), weights_in("models/my parts.h5")
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
    one, other = (
        model_file.load_info(f"models/{name}.h5").training for name in ("whole", "my parts")
    )
    for name in set(one["history"]) - {"minutes"}:
        assert one["history"][name] == other["history"][name]
    assert one["images"] == other["images"] == 4 * 48
    assert len(other["history"]["minutes"]) == 4
    assert other["test"] == one["test"]

    # A finished run that is resumed is judged again, not trained.
    before = (folder / "models/checkpoints/my parts/latest.h5").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "device", lambda: "another machine")
        patch.setattr(importlib.metadata, "version", lambda _: "another version")
        assert run_train(*parts, "--resume", "--data", "moved.h5") == 0
    again = model_file.load_info("models/my parts.h5").training
    assert again == other
    assert again["code"].startswith(__version__)
    assert (folder / "models/checkpoints/my parts/latest.h5").read_bytes() == before


def test_arrays_whose_content_has_changed_are_refused_whatever_they_say_of_themselves(folder):
    words = (*COMMON, "--num-epochs", 2, "--model", "model.h5")
    with interrupted_after(1), pytest.raises(SystemExit):
        run_train(*words)
    latest = folder / "checkpoints/model/latest.h5"
    before = latest.read_bytes()
    with h5py.File("arrays.h5", "r+") as file:
        file["test/X"][-1, -1, -1, -1] ^= 1
    for more in (["--resume"], ["--restart"], ["--find-lr"]):
        with pytest.raises(UserError, match=r"arrays\.h5: damaged.*make it again"):
            run_train(*words, *more)
    assert latest.read_bytes() == before
    with h5py.File("arrays.h5", "r+") as file:
        file["test/X"][-1, -1, -1, -1] ^= 1
    assert run_train(*words, "--resume") == 0


@pytest.mark.parametrize("asked", [True, False])
def test_operations_are_deterministic_where_it_is_asked_for(folder, monkeypatch, capsys, asked):
    called = []
    monkeypatch.setattr(precision, "make_deterministic", lambda: called.append(True))
    words = ("--data", "arrays.h5", "--batch-size", 24, "--num-epochs", 1, "--model", "model.h5")
    assert run_train(*words, *["--deterministic"] * asked) == 0
    assert called == [True] * asked
    if asked:
        assert "float32 (on a processor, with --deterministic)" in capsys.readouterr().out
    assert load(folder / "checkpoints/model/latest.h5").arguments["deterministic"] is asked


def test_a_resumed_run_keeps_its_number_format(folder, larger_arrays, monkeypatch, capsys):
    shutil.copy(larger_arrays, "arrays.h5")  # the second epoch is of larger images
    words = (*COMMON, "--precision", "auto", "--num-epochs", 2, "--model", "model.h5")
    # In float16 Keras has an optimizer of more variables, which a checkpoint holds too.
    monkeypatch.setattr(precision, "choose", lambda asked, _: ("float16", f"{asked} found so"))
    with interrupted_after(1), pytest.raises(SystemExit):
        run_train(*words)
    assert "float16 (auto found so)\n" in capsys.readouterr().out
    monkeypatch.setattr(precision, "choose", None)
    assert run_train(*words, "--resume") == 0
    assert "float16 (as the run began)\n" in capsys.readouterr().out
    training = model_file.load_info("model.h5").training
    assert training["precision"] == "float16"
    assert len(training["history"]["loss"]) == 2


def test_a_run_stays_on_its_backend(folder, monkeypatch, capsys):
    words = (*COMMON, "--num-epochs", 2, "--model", "model.h5")
    with interrupted_after(1), pytest.raises(SystemExit):
        run_train(*words)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"KERAS_BACKEND.*is other"):
        patch.setenv("KERAS_BACKEND", "other")
        run_train(*words, "--resume")
    assert run_train(*words, "--resume") == 0


def test_an_earlier_run_stays_where_keras_or_the_weights_cannot_be_had(copied, monkeypatch):
    kept = copied.parent / "checkpoints/model"
    before = {path.name: path.read_bytes() for path in kept.iterdir()}

    def fails(*_):
        raise UserError("no network")

    words = (*SHORT, "--model", copied, "--restart")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="is none of"):
        patch.setenv("KERAS_BACKEND", "none")
        run_train(*words)
    monkeypatch.setattr(pretrained, "read_imagenet", fails)
    with pytest.raises(UserError, match="no network"):
        run_train(*words, "--init", "imagenet", "--recipe", "finetune")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_costs_no_more_than_the_step_under_way(folder, number):
    words = ("--data", "arrays.h5", "--batch-size", "2", "--num-epochs", "500", "--precision",
             "float32", "--model", "model.h5", "--save-every-minutes", "0.001")  # fmt: skip
    latest = folder / "checkpoints/model/latest.h5"
    with subprocess.Popen(
        command("benchmarks/faulty/small.py", "train.py", *words), cwd=folder, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        while process.poll() is None and not latest.exists():
            time.sleep(0.1)
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait(timeout=60) == (130 if number == signal.SIGTERM else -number)
    kept = load(latest)
    assert kept.begun
    if number == signal.SIGTERM:
        assert f"stopped after {kept.place} (--num-epochs 500)" in told
        assert f"latest.h5 is from {kept.place}. To go on:" in told
    args = (*words, "--resume", "--num-epochs", kept.epochs_done + 1)
    with h5py.File(latest, "r+") as file:  # the run as it would be with few epochs to come
        run = read_json(file, "run")
        run["arguments"]["num_epochs"] = kept.epochs_done + 1
        del file["run"]
        write_json(file, "run", run)
    assert run_train(*args) == 0


def test_the_advice_says_what_is_kept_and_resumes_once(monkeypatch):
    begun = Run({"recipe": "scratch", "num_epochs": 9}, "print")
    latest = Path("latest.h5")
    for words in (["--restart", "--dropout", "0.1"], ["--dropout", "0.1", "--resume"]):
        monkeypatch.setattr(sys, "argv", ["my train.py", *words])
        told = train.advice(begun, latest)
        assert told.endswith("\n  python 'my train.py' --dropout 0.1 --resume")
        assert "no checkpoint was due yet" in told


@pytest.mark.filterwarnings("ignore:.*encountered")
def test_a_diverging_run_leaves_nothing_of_an_earlier_one_to_be_judged(folder, copied):
    earlier = copied.read_bytes()
    diverging = (*SHORT, "--model", copied, "--optimizer", "sgd", "--schedule", "constant")
    with pytest.raises(UserError, match=r"not a number.*no model yet.*--learning-rate \(now 100\)"):
        run_train(*diverging, "-lr", 100, "--weight-decay", 1)
    assert list((folder / "models/checkpoints/model").iterdir()) == []
    assert copied.read_bytes() == earlier


def test_the_model_is_plain_keras_whatever_it_was_trained_in(folder, others):
    words = ("--data", others / "split.h5", "--num-epochs", 1, "--batch-size", 16)
    tune = ("--dropout", 0.3, "--precision", "bfloat16", "--model", "half.h5")
    assert run_train(*words, *tune) == 0
    network = keras.models.load_model("half.h5", compile=False)
    assert {layer.compute_dtype for layer in network.layers[1:]} == {"float32"}
    assert all(layer.trainable for layer in network.layers)
    assert not any("drop" in layer.name for layer in network.layers)

    # Its figures are those of float32.
    with Arrays(others / "split.h5") as arrays:
        info = model_file.load_info("half.h5")
        features = keras.Model(network.input, network.get_layer("avg_pool").output)
        found = Judge(features.predict_on_batch, info, 2).of_arrays(arrays, "test")
        head = Head(*network.layers[-2].get_weights(), info.temperature, info.known)
        wanted = figures(head, found.features, arrays.labels("test"))
    assert info.training["test"] == pytest.approx(wanted, rel=1e-4)


def test_the_best_model_of_another_run_is_not_judged_as_this_ones(copied):
    best = copied.parent / "checkpoints/model/best.h5"
    with small_network():
        network, info = model_file.load(best)
        info.training["run"] = "another"
        model_file.save(best, network, info)
    with pytest.raises(UserError, match=r"best\.h5.*--restart"):
        run_train(*SHORT, "--no-mirror", "--model", copied, "--resume")


def test_a_damaged_checkpoint_is_one_line(copied):
    (copied.parent / "checkpoints/model/latest.h5").write_text("no HDF5")
    for words in ([], ["--resume"]):
        with pytest.raises(UserError, match=r"latest\.h5"):
            run_train(*SHORT, "--no-mirror", "--model", copied, *words)
    assert run_train(*SHORT, "--no-mirror", "--model", copied, "--restart") == 0


def test_a_disk_that_is_full_when_the_model_is_saved_leaves_the_earlier_one(folder, copied):
    """And its card: what is good is not given up before what is better stands."""
    card = copied.with_suffix(".md")
    before = copied.read_bytes(), card.read_bytes()
    again = (*SHORT, "--no-mirror", "--model", copied, "--resume")

    def fails(*_):
        raise OSError(28, "No space left on device", "model.h5")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "save", fails)
        with pytest.raises(OSError, match="No space"):
            run_train(*again)
    assert (copied.read_bytes(), card.read_bytes()) == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classifier.evaluation.report.write", fails)
        with pytest.raises(OSError, match="No space"):
            run_train(*again)
    assert not card.exists()  # the earlier model's, beside one that it is not of
    assert run_train(*again) == 0
    assert card.exists()


def test_a_disk_that_is_full_when_the_last_pictures_are_logged_is_told(copied, monkeypatch):
    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("classifier.training.tensorboard.RecordWriter.write", fails)
    with pytest.raises(OSError, match=r"No space left on device: 'logs/.*tfevents"):
        run_train(*SHORT, "--no-mirror", "--model", copied, "--resume", "--tensorboard-vis")


def test_two_runs_into_one_model_are_refused(folder, copied):
    holder = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from classifier.files import locked\n"
        "with locked('models/model.h5'): print('held', flush=True); sys.stdin.read()"
    )
    before = (folder / "models/checkpoints/model/best.h5").read_bytes()
    process = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, cwd=folder)  # fmt: skip
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"models/model\.h5: another process"):
            run_train(*SHORT, "--model", "models/model.h5")
        assert (folder / "models/checkpoints/model/best.h5").read_bytes() == before
    finally:
        process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--model", "model.keras"], ["--model", ".h5"]),
        (["--model", "folder.h5"], ["--model", "folder.h5"]),
        (["--model", "arrays.h5"], ["--model", "arrays.h5", "--data"]),
        (["--model", "link.h5"], ["--model", "link.h5", "--data"]),
        (["--init", "models/checkpoints/model/best.h5", "--model", "models/model.h5"], ["--init"]),
        (["--init", "none.h5"], ["--init", "none.h5"]),
        (["--batch-size", "0"], ["--batch-size"]),
        (["-lr", "-1"], ["--learning-rate"]),
        (["-lr", "nan"], ["--learning-rate"]),
        (["--num-epochs", "1.5"], ["--num-epochs"]),
        (["--resume", "--restart"], ["--restart"]),
        (["--find-lr", "--resume"], ["--find-lr", "--resume"]),
        (["--find-lr", "--init", "imagenet"], ["--find-lr", "--num-epochs"]),
        (["--recipe", "none"], ["--recipe"]),
        (["--norm", "frozen"], ["--norm", "--init"]),
        (["--head", "regression"], ["--head", "--init"]),
        (["--freeze-stages", "1"], ["--freeze-stages", "--init"]),
        (["--num-epochs", "0"], ["--num-epochs", "--head"]),
        (["--save-every-minutes", "-1"], ["--save-every-minutes"]),
    ],
)
def test_flags_that_cannot_be_are_one_line(folder, copied, capsys, words, parts):
    (folder / "link.h5").symlink_to("arrays.h5")
    (folder / "folder.h5").mkdir()
    with pytest.raises(SystemExit) as caught:
        train.parse_args(["--data", "arrays.h5", *words])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "none.h5"], r"none\.h5.*no such arrays file"),
        (["--data", "text.h5"], r"text\.h5.*make it again"),
        (["--data", "models/model.h5", "--model", "models/x.h5"], r"model\.h5.*not an arrays file"),
        (["--init", "text.h5"], r"text\.h5"),
        (["--batch-size", 49], r"--batch-size 49.*arrays\.h5.*48"),
        (["--batch-size", 25, "--no-copies"], r"--batch-size 25.*24"),
        (["--model", "arrays.h5/model.h5"], r"cannot create this folder"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_keras_starts(
    folder, copied, monkeypatch, words, message
):
    (folder / "text.h5").write_text("no HDF5")
    monkeypatch.setattr(train, "start_backend", None)
    with pytest.raises(UserError, match=message):
        run_train(*COMMON, *words)


def test_a_model_of_another_split_is_warned_of_and_the_leak_inherited(
    folder, others, copied, capsys
):
    tune = ("--data", others / "split.h5", "--recipe", "scratch", "--no-mirror")
    assert run_train(*SHORT, *tune, "--init", copied, "--model", "tuned.h5") == 0
    told = capsys.readouterr()
    (warning,) = told.err.splitlines()
    assert warning.startswith(f"warning: {copied}")
    assert told.out.index("Test Accuracy") < told.out.index(warning) < told.out.index("model:")
    leak = model_file.load_info("tuned.h5").leak
    assert warning == f"warning: {leak}"

    # The model that knows is itself started from: the arrays are its own by now.
    assert run_train(*SHORT, *tune, "--init", "tuned.h5", "--model", "more.h5") == 0
    assert leak in model_file.load_info("more.h5").leak
    capsys.readouterr()
    assert run_train(*SHORT, "--recipe", "scratch", "--init", copied, "--model", "own.h5") == 0
    assert capsys.readouterr().err == ""
    assert model_file.load_info("own.h5").leak == ""


def test_arrays_that_leak_make_a_model_that_says_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(Arrays, "leaks", True, raising=False)
    assert run_train(*SHORT, "--model", "leaky.h5") == 0
    assert model_file.load_info("leaky.h5").leak == LEAK_WARNING
    told = capsys.readouterr()
    assert told.err == f"warning: {LEAK_WARNING}\n"
    assert f"warning: {LEAK_WARNING}\n" in told.out


def test_the_regression_may_stay_the_best_and_both_figures_are_shown(
    folder, copied, monkeypatch, capsys
):
    steps = []
    started = head.fit_head
    monkeypatch.setattr(head, "fit_head", lambda *a: steps.append(a[1].batch_size) or started(*a))
    for module in (assess, fit):
        monkeypatch.setattr(module, "images_a_step", lambda side: steps.append(side) or 5)
    tune = ("--init", copied, "--recipe", "finetune", "--enlarge-to", 48, "--freeze-stages", 5,
            "--num-epochs", 2, "--no-refit", "--label-smoothing", 0.1)  # fmt: skip
    assert run_train(*COMMON, *tune, "-lr", 50, "--schedule", "constant",
                     "--model", "tuned.h5") == 0  # fmt: skip
    out = capsys.readouterr().out
    training = model_file.load_info("tuned.h5").training
    start, history = training["start"], training["history"]
    assert training["best_epoch"] == 0
    judged = zip(history["val_accuracy"], history["val_loss"], strict=True)
    assert all((-start["val_accuracy"], start["val_loss"]) <= (-a, loss) for a, loss in judged)
    assert f"best epoch: 0 of 2: val accuracy {start['val_accuracy']:.2%}, val loss " in out
    assert training["val"]["accuracy"] == pytest.approx(start["val_accuracy"])
    assert history["minutes"][0] > start["minutes"] > 0
    assert steps == [48, 5, 48]

    assert run_train(*COMMON, *tune, "--model", "better.h5", "-lr", 0.01) == 0
    out = capsys.readouterr().out
    training = model_file.load_info("better.h5").training
    assert training["best_epoch"] > 0
    assert f"epoch 0, the regression before any step: val accuracy {start['val_accuracy']:.2%}" in (
        out
    )


@pytest.mark.parametrize("val", [True, False])
def test_the_head_is_fitted_anew_after_the_last_epoch(
    folder, others, copied, monkeypatch, capsys, val
):
    data = "arrays.h5" if val else others / "noval.h5"
    words = (*COMMON, "--data", data, "--init", copied, "--recipe", "finetune", "--enlarge-to", 48,
             "--freeze-stages", 2, "--num-epochs", 1, "--batch-size", 12, "--no-mirror",
             "--refit")  # fmt: skip
    assert run_train(*words, "--model", "whole.h5") == 0
    out = capsys.readouterr().out
    assert out.count("head: logistic regression, accuracy") == 2
    training = model_file.load_info("whole.h5").training
    end = training["end"]
    # Two batches, and twice the photographs and their mirror images.
    assert training["images"] == 24 + 2 * 2 * (24 if val else 30)
    assert training["minutes"] >= round(end["minutes"], 3)
    assert end["minutes"] > training["history"]["minutes"][0] > training["start"]["minutes"]
    if val:
        epoch = {name: values[0] for name, values in training["history"].items()}
        judged = [(-f["val_accuracy"], f["val_loss"]) for f in (training["start"], epoch, end)]
        best = training["best_epoch"]
        assert judged[best] == min(judged)
        assert training["val"]["uncalibrated_loss"] == pytest.approx(judged[best][1], rel=1e-4)
    else:
        assert training["best_epoch"] == 2
        assert "best: the regression after epoch 1\n" in out

    # Stopped in the epoch and in the last regression, which begins anew.
    parts = (*words, "--model", "parts.h5")
    with interrupted_after(0), pytest.raises(SystemExit):
        run_train(*parts)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(fit, "regression_head", stop)
        run_train(*parts, "--resume")
    told = capsys.readouterr().err
    assert "latest.h5 is from the end of epoch 1, before the last regression" in told
    with pytest.raises(UserError, match="an unfinished run"):
        run_train(*parts)
    assert run_train(*parts, "--resume") == 0
    one, other = weights_in("whole.h5"), weights_in("parts.h5")
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
    again = model_file.load_info("parts.h5").training
    assert {**again["end"], "minutes": 0} == {**end, "minutes": 0}
    assert again["test"] == training["test"]


def test_the_regression_alone_is_a_recipe(folder, others, copied, capsys):
    words = (*COMMON, "--init", copied, "--recipe", "head", "--enlarge-to", 48)
    assert run_train(*words, "--tensorboard-vis", "--model", "head.h5") == 0
    out = capsys.readouterr().out
    assert "head: logistic regression, accuracy" in out
    assert "best epoch" not in out
    info = model_file.load_info("head.h5")
    assert (info.enlarge_to, info.mirror, info.training["history"]) == (48, True, {})
    assert info.training["images"] == 2 * 24  # photographs and mirror images
    before, after = weights_in(copied), weights_in("head.h5")
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"fc3/kernel", "fc3/bias"}

    assert run_train(*words, "--resume", "--model", "head.h5") == 0
    assert "resuming run" in capsys.readouterr().out
    assert run_train(*words, "--data", others / "noval.h5", "--model", "noval.h5") == 0
    assert "val" not in model_file.load_info("noval.h5").training


def test_without_val_the_last_epoch_is_kept(folder, others, capsys):
    words = ("--data", others / "noval.h5", "--num-epochs", 2, "--patience", 1)
    assert run_train(*COMMON, *words, "--model", "last.h5") == 0
    out = capsys.readouterr().out
    training = model_file.load_info("last.h5").training
    assert training["best_epoch"] == 2
    assert "val" not in training
    assert "best epoch: 2 of 2\n" in out
    assert "Val" not in out


@pytest.mark.parametrize("old", [[], ["-lr", "7"], ["--learning-rate", "7"], ["--learning-rate=7"]])
def test_a_rate_is_found_and_the_next_command_trains_with_it(folder, monkeypatch, capsys, old):
    monkeypatch.setattr(range_test, "STEPS", 40)
    words = [*SHORT, "--seed", 3, *old, "--logs", "my logs", "--freeze-stages", 0]
    assert run_train(*words, "--find-lr") == 0
    out = capsys.readouterr().out
    (rate,) = re.findall(r"^suggested: -lr (\S+), ", out, re.M)
    (command,) = re.findall(r"^next: python train.py (.+)$", out, re.M)
    args, recipe = train.parse_args(shlex.split(command))
    assert recipe == replace(RECIPES["scratch"], num_epochs=1, learning_rate=float(rate))
    assert (args.seed, args.find_lr, args.logs) == (3, False, Path("my logs"))
    assert "-lr 7" not in command
    assert "--freeze-stages 0" in command
    (picture,) = (folder / "my logs").glob("*-scratch-*-learning-rate.png")
    assert str(picture.relative_to(folder)) in out
    # A picture, and nothing else: no run has begun.
    assert {*folder.rglob("*")} == {folder / "arrays.h5", folder / "my logs", picture}


def test_the_next_command_can_be_copied(folder, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "fit", lambda *_: None)
        patch.setattr(train, "finish", lambda *_: None)
        run_train(*SHORT, "--model", "my model.h5", "--logs", "my logs", "--tensorboard-vis")
    out = capsys.readouterr().out
    assert "next: python predict.py --model 'my model.h5' " in out
    assert "curves: tensorboard --logdir='my logs'" in out
    assert keras.config.dtype_policy().name == "float32"
