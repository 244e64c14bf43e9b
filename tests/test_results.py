"""The script that makes the README's table of results, and the figures kept for it."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import results

FIGURES = {
    "loss": 0.5, "accuracy": 0.9, "low": 0.8, "high": 1.0, "top5": 1.0, "n": 100,
    "mean_per_class": 0.8, "mean_per_class_low": 0.7, "mean_per_class_high": 0.9,
}  # fmt: skip
KEPT = sorted((ROOT / "benchmarks/results").glob("*-*.json"))


def one_run(seed, accuracy):
    return {"seed": seed, "test": FIGURES | {"accuracy": accuracy}, "val": FIGURES, "minutes": 20}


def test_a_row_keeps_mean_deviation_and_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    name = next(iter(results.ROWS))
    results.keep(name, [one_run(0, 0.90), one_run(1, 0.92)])
    kept = json.loads((tmp_path / f"{name}.json").read_text())
    assert kept["test"]["accuracy"] == pytest.approx(0.91)
    assert kept["test"]["accuracy_std"] == pytest.approx(0.01414, abs=1e-4)
    assert kept["test"]["low"] < 0.91 < kept["test"]["high"]
    assert kept["seeds"] == [0, 1]
    line = results.table([name]).splitlines()[-1]
    assert line.startswith(f"| `{name}` | 2 | 20 | 91.00 ± 1.41 (83.")


def test_one_seed_has_no_deviation(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    name = next(iter(results.ROWS))
    results.keep(name, [one_run(0, 0.90)])
    assert "±" not in results.table([name])


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_is_kept_is_what_the_row_runs_and_the_readme_says(path):
    kept = json.loads(path.read_text())
    name = kept["row"]
    assert path.stem == name
    _, train = results.commands(name)
    assert kept["command"][1].split()[1:] == train
    assert kept["test"]["accuracy"] == pytest.approx(
        sum(run["test"]["accuracy"] for run in kept["runs"]) / len(kept["runs"])
    )
    assert results.table([name]).splitlines()[-1] in (ROOT / "README.md").read_text()
