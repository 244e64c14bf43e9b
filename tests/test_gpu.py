"""The benchmark of GPUs: its figures and table; no GPU is there to be measured here."""

import json
import sys

import pytest
from conftest import ROOT, assert_one_line_error, run

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu


def record(name, **rates):
    sides = {"ours": {"flops": 32e9, "batch": 32, "device": "Abacus"}}
    rates = {side: [float(value)] * 5 for side, value in rates.items()}
    machine = {"cores": 4, "commit": "c", "date": "d", **dict.fromkeys(("python", "keras"), "1")}
    machine |= {"jax": "2", "torch": "3"}
    return {"name": name, "backend": "jax", "rates": rates, "sides": sides, "machine": machine}


def test_the_fastest_form_of_pytorch_that_ran_is_the_rival():
    one = record("train-64", ours=3000, augmented=2000, eager=1500, compile=1000, product=6e13)
    found = gpu.figures(one)
    assert (found["mode"], found["rival"], found["ratio"]) == ("eager", 1500, 2)
    assert found["share"] == pytest.approx(3000 * 1e9 / 6e13)
    line = "| `train-64` | 3,000 | 2,000 | 1,500 (eager) | 2.00x | 5.0% |"
    assert gpu.line(one) == line
    table = gpu.table([one]).splitlines()
    assert len({row.count("|") for row in table[:3]}) == 1
    assert table[-1].startswith("Abacus, 4 cores; python 1, jax 2, keras 1, torch 3; ")
    slow = record("train-64", **{"reduce-overhead": 4000}, ours=3000, augmented=1, product=1)
    assert gpu.figures(slow)["ratio"] == 0.75


def test_the_readme_has_the_table_kept():
    kept = json.loads((ROOT / "benchmarks/results/gpu.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    assert " ".join(gpu.table(kept).split()) in text
    small, large = map(gpu.figures, kept)
    ratios = (row["ours"] / row["compile"] for row in (small, large))
    for told, values, form in (
        ("it took {} and {} images/s", (small["compile"], large["compile"]), ",.0f"),
        ("ours {} and {} times as many", ratios, ".1f"),
        ("JAX took {} and {} images/s", (small["as JAX has it"], large["as JAX has it"]), ",.0f"),
    ):
        assert told.format(*(format(value, form) for value in values)) in text


def test_without_figures_it_tells_how_to_measure_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--table"])
    with pytest.raises(SystemExit, match="2"):
        gpu.cli.run(gpu.main)
    told = capsys.readouterr().err
    assert told.endswith("gpu.json: no figures yet; benchmarks/gpu.py measures them\n")


def test_an_unknown_row_is_one_line(tmp_path):
    done = run("benchmarks/gpu.py", "train-65", cwd=tmp_path)
    assert_one_line_error(done, "no row train-65; the rows are train-64, ")
