"""The script that makes the README's table of results, and the figures kept for it."""

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, run

import prepro
import train
from classifier.data.arrays import Arrays
from classifier.errors import UserError
from classifier.prediction.model_file import ModelInfo
from classifier.training.recipes import RECIPES

sys.path.insert(0, str(ROOT / "benchmarks"))
import results

FIGURES = {
    "loss": 0.5, "accuracy": 0.9, "low": 0.8, "high": 1.0, "top5": 1.0, "n": 100,
    "mean_per_class": 0.8, "mean_per_class_low": 0.7, "mean_per_class_high": 0.9,
}  # fmt: skip
KEPT = [name for name in results.ROWS if name != "digits" and results.kept(name)]
NAME = next(iter(results.ROWS))
THREE = (0.9, 0.92, 0.88)  # accuracies of as many seeds as a row has


def one_run(seed, accuracy):
    return {
        "seed": seed, "test": FIGURES | {"accuracy": accuracy}, "val": FIGURES, "minutes": 20,
        "images_per_second": 70, "val_accuracy_by_minute": [[2, 0.5], [20, 0.8]], "leak": "",
    }  # fmt: skip


def three_runs():
    return [one_run(seed, accuracy) for seed, accuracy in enumerate(THREE)]


@pytest.fixture
def kept_in(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def test_a_row_keeps_mean_deviation_and_interval(kept_in):
    results.keep(NAME, three_runs())
    kept = results.kept(NAME)
    assert kept["test"]["accuracy"] == pytest.approx(0.90)
    assert kept["test"]["accuracy_std"] == pytest.approx(0.02)
    assert kept["test"]["low"] < 0.90 < kept["test"]["high"]
    assert kept["seeds"] == [0, 1, 2]
    line = results.table([NAME]).splitlines()[-1]
    assert line.startswith(f"| `{NAME}` | 3 | 20.0 | 70 | 90.00 ± 2.00 (82.")


def test_one_seed_has_no_deviation(kept_in):
    assert "±" not in results.line(results.keep(NAME, [one_run(0, 0.90)]))


def test_a_row_without_val_has_none(kept_in):
    results.keep(NAME, [one | {"val": None} for one in three_runs()])
    assert "val" not in results.kept(NAME)
    assert results.table([NAME, "not kept"]).count("\n") == 2


def test_a_model_whose_figures_are_too_good_is_kept_only_where_they_are_meant_to_be(kept_in):
    runs = three_runs()
    runs[1]["leak"] = "it has seen them"
    with pytest.raises(UserError, match=f"{NAME}, seed 1: not kept.*has seen them"):
        results.keep(NAME, runs)
    assert not kept_in.exists()
    results.keep("original-64-scratch", runs)
    assert results.kept("original-64-scratch")


@pytest.mark.parametrize("start", [{}, {"accuracy": 1.0, "minutes": 1.0}, {"val_accuracy": 0.8}])
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_run_is_what_its_model_says(kept_in, monkeypatch, start, epochs):
    called = []
    history = {"loss": [1.0, 0.9], "minutes": [2.0, 3.0], "val_accuracy": [0.8, 0.9]}
    end = {"val_accuracy": 0.95, "minutes": 4.0} if epochs else {}
    training = {
        "end": end, "start": start and {"minutes": 1.0, **start}, "test": FIGURES, "minutes": 3.0,
        "images": 1800, "versions": {}, "device": "one", "code": "0.2.0 abc", "best_epoch": epochs,
        "precision": "float32", "history": history if epochs else {},
    }  # fmt: skip
    info = ModelInfo(["a", "b"], 64, "clean", training)
    monkeypatch.setattr(results, "call", called.append)
    monkeypatch.setattr(results.model_file, "load_info", lambda _: info)
    monkeypatch.setitem(results.ROWS, NAME, replace(results.ROWS[NAME], seeds=(3, 4)))
    results.run(NAME, None, None)
    # The arrays are made anew, for those that are there may be of other flags.
    assert [command[0] for command in called] == ["prepro.py", "train.py"] * 2
    assert called[1][-1] == called[3][-1] == "--resume"
    called.clear()
    results.run("digits", None, None)  # which would else show what another backend did
    assert called[1][-1] == "--restart"
    one, other = results.kept(NAME)["runs"]
    assert (one["seed"], one["leak"], one["epochs"], one["val"]) == (3, "", epochs, None)
    assert one["images_per_second"] == 10
    assert (other["seed"], other["code"]) == (4, "0.2.0 abc")
    assert "--seed 4" in other["command"][0]
    assert "--seed 4" in other["command"][1]
    curve = [[2.0, 0.8], [3.0, 0.9], [4.0, 0.95]] if epochs else []
    assert one["val_accuracy_by_minute"] == [[1.0, 0.8]] * ("val_accuracy" in start) + curve


def test_a_row_is_kept_after_each_seed_and_takes_an_earlier_ones_place_when_whole(
    kept_in, monkeypatch
):
    part = kept_in / f"{NAME}.part.json"

    def stop(command):
        if command[0] == "train.py" and part.exists():
            raise UserError("stopped")

    results.keep(NAME, three_runs())
    before = results.kept(NAME)
    monkeypatch.setattr(results, "call", stop)
    monkeypatch.setattr(results, "figures_of", lambda _: one_run(0, 0.8))
    with pytest.raises(UserError, match="stopped"):
        results.run(NAME, None, None)
    assert len(json.loads(part.read_text())["runs"]) == 1
    assert results.kept(NAME) == before
    monkeypatch.setattr(results, "call", lambda _: None)
    results.run(NAME, None, None)
    assert not part.exists()
    assert results.kept(NAME)["test"]["accuracy"] == pytest.approx(0.8)


@pytest.mark.parametrize("name", results.ROWS)
@pytest.mark.parametrize("sources", [{}, {"archive": "a b.zip", "imagenet": __file__}])
def test_the_scripts_read_every_rows_commands(monkeypatch, tmp_path, name, sources):
    (tmp_path / "a b.zip").touch()
    monkeypatch.chdir(tmp_path)
    made, trained = results.commands(name, 7, **sources)
    arrays = prepro.parse_args(made[1:])
    args, recipe = train.parse_args(trained[1:])
    assert (made[0], trained[0]) == ("prepro.py", "train.py")
    assert args.data == arrays.output
    assert args.seed == arrays.seed == 7
    assert args.recipe in name.replace("imagenet", "finetune") or name == "digits"
    if name != "digits":
        assert recipe == RECIPES[args.recipe]


def test_the_leaks_two_trainings_take_equally_many_images(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    long = {
        protocol: results.commands(name, 0)[0][2:-2]  # without --download and --output
        for protocol, name in results.LEAK_LONG.items()
    }
    for commands in ({name: results.leak_commands(name)[0][3:-2] for name in results.LEAK}, long):
        counts = set()
        for words in commands.values():
            made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
                       *words, "--output", "leak.h5", cwd=tiny)  # fmt: skip
            assert made.returncode == 0, made.stderr
            with Arrays("leak.h5") as arrays:
                counts.add(arrays.count("train"))
        assert counts in ({3 * 400}, {3 * 800})
    for protocol in results.LEAK:
        _, trained = results.leak_commands(protocol)
        args, recipe = train.parse_args(trained[1:])
        assert args.data == Path(results.leak_commands(protocol)[0][-1])
        assert recipe == replace(RECIPES["scratch"], num_epochs=10, crop=0, mixup=0)


STOPPING = """
import signal, sys, time
def stop(*_):
    time.sleep(1)
    open("kept", "w").close()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
open("begun", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_the_script_may_finish(tmp_path, number):
    (tmp_path / "script.py").write_text(STOPPING)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "import results; results.cli.run(lambda: results.call(['script.py']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as process:
        for _ in range(300):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
    assert (tmp_path / "kept").exists()


def test_the_leak_is_drawn_with_the_long_rows_where_they_are(kept_in):
    pair = {protocol: one_run(0, 0.85) for protocol in results.LEAK}
    results.write("leak.json", pair)
    results.draw_leak()
    short = (kept_in.parent / "pictures/leak.svg").read_text()
    for name in results.LEAK_LONG.values():
        results.keep(name, three_runs())
    results.draw_leak()
    both = (kept_in.parent / "pictures/leak.svg").read_text()
    results.draw_leak()
    assert short != both == (kept_in.parent / "pictures/leak.svg").read_text()


def test_the_curve_has_the_rows_kept_but_those_that_leak(kept_in):
    picture = kept_in.parent / "pictures/accuracy_by_minute.svg"
    results.keep(NAME, three_runs())
    results.draw_curve()
    one = picture.read_text()
    results.keep("original-64-scratch", three_runs())
    results.draw_curve()
    assert picture.read_text() == one
    results.keep("clean-64-scratch", three_runs())
    results.draw_curve()
    assert picture.read_text() != one


def test_what_is_kept_is_what_the_row_runs_and_the_readme_says():
    assert KEPT
    for name in KEPT:
        kept = results.kept(name)
        assert kept["row"] == name
        for part in kept["runs"]:
            commands = results.commands(name, part["seed"])
            assert [shlex.split(line)[1:] for line in part["command"]] == list(commands)
            assert not part["code"].endswith("+")
        mean = sum(part["test"]["accuracy"] for part in kept["runs"]) / len(kept["runs"])
        assert kept["test"]["accuracy"] == pytest.approx(mean)
        assert results.table([name]).splitlines()[-1] in (ROOT / "README.md").read_text()
