"""Every command that the README and docs/ name is one that the scripts read."""

import json
import re
import shlex

import pytest
from conftest import ROOT

import predict
import prepro
import train
from classifier.evaluation import __main__ as evaluation
from classifier.export import __main__ as export

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(
            r"python ((?:(?:prepro|train|predict)\.py|-m classifier\.\w+ )[^`\n]*)",
            page.read_text(),
        )
    }
)
PARSE = {
    "prepro.py": prepro.parse_args,
    "train.py": train.parse_args,
    "predict.py": predict.parse_args,
    "classifier.evaluation": evaluation.parse_args,
    "classifier.export": export.parse_args,
}


def test_the_fixed_commands_are_named():
    text = (ROOT / "README.md").read_text()
    for command in (
        "pip install -r requirements.txt",
        "python prepro.py --dataset-path datasets/caltech_101",
        "python train.py -lr 0.005 --num-epochs 50 --batch-size 32 --save-every 5 "
        "--tensorboard-vis",
        "tensorboard --logdir=./logs",
        "python predict.py images/test.jpg",
    ):
        assert f"```bash\n{command}\n```" in text, command


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    words = shlex.split(command.removeprefix("-m "))
    PARSE[words[0]](words[1:])


def test_the_table_of_speed_is_that_of_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import speed

    assert speed.table(speed.kept()) in (ROOT / "README.md").read_text()


def test_the_table_of_faults_is_that_of_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import faults

    kept = json.loads((ROOT / "benchmarks/results/faults.json").read_text())
    assert [row["name"] for row in kept] == list(faults.ROWS)
    assert all(row["lost"] == 0 for row in kept)
    assert faults.table(kept) in (ROOT / "README.md").read_text()


def test_the_tables_of_reach_are_those_of_their_figures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reach

    kept = {row["name"]: row for row in json.loads(reach.RESULTS.read_text())}
    assert list(kept) == list(reach.ROWS) == list(reach.TABLES)
    pages = {"backends": "README.md", "exports": "docs/export.md"}
    for name in reach.TABLES:
        page = pages.get(name, "docs/scaling.md")
        assert reach.TABLES[name](kept[name]) in (ROOT / page).read_text()
    share = reach.share_of_speed(kept["processes"])
    words = " ".join((ROOT / "README.md").read_text().split())
    assert f"[{share:.2f} times the images/s]" in words
    assert reach.exports_in_words(kept["exports"]) in words


def test_the_table_of_insight_is_that_of_its_figures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import insight

    kept = json.loads((ROOT / "benchmarks/results/insight.json").read_text())
    assert insight.table(kept) in (ROOT / "README.md").read_text()


def test_the_figures_of_the_pointing_game_are_its_own():
    kept = json.loads((ROOT / "benchmarks/results/insight.json").read_text())
    found = kept["pointing"]["clean-224-head"]
    text = " ".join((ROOT / "README.md").read_text().split())
    pointed, low, high, within = (
        100 * found[name] for name in ("pointed", "pointed_low", "pointed_high", "within")
    )
    assert (
        f"It is highest there in **{pointed:.1f}%** of {found['grids']} grids' "
        f"{4 * found['grids']:,} cases "
        f"(95% interval {low:.1f} to {high:.1f}; by chance 25%), and {within:.0f}% of all" in text
    )
    assert found["command"] in text
    assert found["code"] in text


def test_every_file_named_is_there():
    for page in PAGES:
        for path in re.findall(r"\]\(([^):#]+)\)", page.read_text()):
            assert (page.parent / path).exists(), path
