"""The script that makes the README's table of results, and the figures kept for it."""

import json
import shlex
import sys
from dataclasses import replace

import pytest
from conftest import ROOT

import prepro
import train
from classifier.errors import UserError
from classifier.prediction.model_file import ModelInfo
from classifier.training.recipes import RECIPES

sys.path.insert(0, str(ROOT / "benchmarks"))
import results

FIGURES = {
    "loss": 0.5, "accuracy": 0.9, "low": 0.8, "high": 1.0, "top5": 1.0, "n": 100,
    "mean_per_class": 0.8, "mean_per_class_low": 0.7, "mean_per_class_high": 0.9,
}  # fmt: skip
KEPT = sorted((ROOT / "benchmarks/results").glob("*-*.json"))


def one_run(seed, accuracy):
    test = FIGURES | {"accuracy": accuracy}
    return {"seed": seed, "test": test, "val": FIGURES, "minutes": 20, "leak": ""}


@pytest.fixture
def kept_in(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return tmp_path / "results"


def test_a_row_keeps_mean_deviation_and_interval(kept_in):
    name = next(iter(results.ROWS))
    results.keep(name, [one_run(0, 0.90), one_run(1, 0.92)])
    kept = json.loads((kept_in / f"{name}.json").read_text())
    assert kept["test"]["accuracy"] == pytest.approx(0.91)
    assert kept["test"]["accuracy_std"] == pytest.approx(0.01414, abs=1e-4)
    assert kept["test"]["low"] < 0.91 < kept["test"]["high"]
    assert kept["seeds"] == [0, 1]
    line = results.table([name]).splitlines()[-1]
    assert line.startswith(f"| `{name}` | 2 | 20 | 91.00 ± 1.41 (83.")


def test_one_seed_has_no_deviation(kept_in):
    name = next(iter(results.ROWS))
    results.keep(name, [one_run(0, 0.90)])
    assert "±" not in results.table([name])


def test_a_row_without_val_has_none(kept_in):
    name = next(iter(results.ROWS))
    results.keep(name, [one_run(0, 0.9) | {"val": None}])
    assert "val" not in json.loads((kept_in / f"{name}.json").read_text())
    assert results.table([name, "not kept"]).count("\n") == 2


def test_a_model_whose_figures_are_too_good_is_not_kept(kept_in):
    name = next(iter(results.ROWS))
    with pytest.raises(UserError, match=f"{name}, seed 1: not kept.*has seen them"):
        results.keep(name, [one_run(0, 0.9), one_run(1, 0.9) | {"leak": "it has seen them"}])
    assert not kept_in.exists()


@pytest.mark.parametrize("start", [{}, {"accuracy": 1.0, "minutes": 1.0}, {"val_accuracy": 0.8}])
def test_a_run_is_what_its_model_says(kept_in, monkeypatch, start):
    name, called = next(iter(results.ROWS)), []
    start = start and {"minutes": 1.0, **start}
    training = {
        "start": start, "test": FIGURES, "minutes": 3.0, "versions": {}, "device": "one",
        "code": "0.2.0 abc",
        "history": {"loss": [1.0, 0.9], "minutes": [2.0, 3.0], "val_accuracy": [0.8, 0.9]},
    }  # fmt: skip
    info = ModelInfo(["a", "b"], 64, "clean", training, leak="known")
    monkeypatch.chdir(kept_in.parent)
    monkeypatch.setattr(results, "call", called.append)
    monkeypatch.setattr(results.model_file, "load_info", lambda _: info)
    monkeypatch.setitem(results.ROWS, name, replace(results.ROWS[name], seeds=(3, 4)))
    run, other = results.run(name, archive=None, imagenet=None)
    # The arrays are made anew, for those that are there may be of other flags.
    assert [command[0] for command in called] == ["prepro.py", "train.py", "train.py"]
    assert called[1][-1] == called[2][-1] == "--resume"
    assert (run["seed"], run["leak"], run["epochs"], run["val"]) == (3, "known", 2, None)
    assert (other["seed"], other["code"]) == (4, "0.2.0 abc")
    assert len(run["val_accuracy_by_minute"]) == 2 + ("val_accuracy" in start)


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
    assert (args.seed, recipe) == (7, RECIPES["finetune"])


def test_what_is_kept_is_what_the_row_runs_and_the_readme_says():
    for path in KEPT:
        kept = json.loads(path.read_text())
        name = kept["row"]
        assert path.stem == name
        assert [shlex.split(line)[1:] for line in kept["command"]] == list(results.commands(name))
        mean = sum(run["test"]["accuracy"] for run in kept["runs"]) / len(kept["runs"])
        assert kept["test"]["accuracy"] == pytest.approx(mean)
        assert results.table([name]).splitlines()[-1] in (ROOT / "README.md").read_text()
