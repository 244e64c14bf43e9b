"""The benchmark of speed: verdicts, what is kept, the table, turns; the rivals are not run here."""

import json
import sys
import textwrap
from dataclasses import replace

import pytest
from conftest import ROOT

from classifier.errors import UserError

sys.path.insert(0, str(ROOT / "benchmarks"))
import ours
import speed
import turns

MACHINE = {
    "processor": "a CPU", "units": ["avx2"], "cores": 2, "commit": "0.2.0 abc",
    "date": "2026-01-01", **dict.fromkeys(("python", *speed.PACKAGES), "1"),
}  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "RESULTS", tmp_path / "results/speed.json")
    monkeypatch.setattr(speed, "busy_cores", lambda: 0.0)
    return speed.RESULTS


def measure(monkeypatch, name, outcome, **changes):
    def give():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, {"rounds": [outcome]}

    monkeypatch.setitem(speed.ROWS, name, replace(speed.ROWS[name], measure=give, **changes))
    return speed.measured(name)


@pytest.mark.parametrize(
    ("name", "outcome", "passed", "words"),
    [
        ("train-64", 1.25, True, "1.25x  (>= 1.25x)  pass"),
        ("train-64", 1.2, False, "1.2x  (>= 1.25x)  short (over its floor of 1.15)"),
        ("train-64", 1.1, False, "1.1x  (>= 1.25x)  short"),
        ("predict-one", 0.15, True, "0.15x  (<= 0.15x)  pass"),
        ("predict-one", 0.16, False, "0.16x  (<= 0.15x)  short"),
        ("predict-one-memory", 150.4, True, "150 MB  (<= 200 MB)  pass"),
        ("linear-train", -3.0, True, "-3%  (<= 10%)  pass"),
        ("predict-2000-bfloat16", speed.NotMeasurableError("no units"), None,
         "-  (>= 1.3x)  not measurable here: no units"),
        ("prepro", UserError("it failed"), False, "-  (>= 25x)  failed: it failed"),
    ],
)  # fmt: skip
def test_the_verdict(results, monkeypatch, name, outcome, passed, words):
    record = measure(monkeypatch, name, outcome)
    assert record["pass"] is passed
    assert speed.in_words(record).strip() == words
    assert record["name"] == name
    json.dumps(record)


def test_a_busy_machine_makes_a_figure_doubtful(results, monkeypatch):
    monkeypatch.setattr(speed, "busy_cores", lambda: 1.5)
    assert speed.verdict(measure(monkeypatch, "prepro", 30)) == (
        "pass; doubtful, other programs kept 1.5 cores busy"
    )


def test_rows_are_kept_in_order_and_one_at_a_time(results, monkeypatch):
    for name, value in (("train-64", 1.0), ("predict-one", 0.1), ("train-64", 1.3)):
        speed.keep(name, measure(monkeypatch, name, value), MACHINE)
    kept = json.loads(results.read_text())
    assert [row["machine"] for row in kept] == [MACHINE] * 2
    assert [(row["name"], row["value"]) for row in kept] == [
        ("predict-one", 0.1), ("train-64", 1.3),
    ]  # fmt: skip
    lines = speed.table(speed.kept()).splitlines()
    assert len(lines) == 6
    assert lines[2].endswith("against `import tensorflow` | 0.1x | <= 0.15x | pass |")
    assert lines[-1].startswith("2 cores of a CPU (avx2); python 1, tensorflow 1, keras 1, torch 1")


@pytest.mark.parametrize("part", ["commit", "processor", "torch"])
def test_rows_of_another_machine_or_commit_are_not_kept(results, monkeypatch, part):
    record = measure(monkeypatch, "prepro", 30)
    speed.keep("prepro", record, MACHINE | {part: "other", "date": "2025-01-01"})
    speed.keep("pipeline", record | {"name": "pipeline"}, MACHINE)
    assert [row["name"] for row in speed.kept()] == ["pipeline"]


def test_a_row_that_fails_leaves_the_others(results, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(speed, "ROOT", results.parent.parent)
    monkeypatch.setattr(speed, "ROWS", {name: speed.ROWS[name] for name in ("prepro", "pipeline")})
    measure(monkeypatch, "prepro", UserError("it failed"))
    measure(monkeypatch, "pipeline", 6.0)
    monkeypatch.setattr(sys, "argv", ["speed.py"])
    assert speed.main() == 1
    assert [row["pass"] for row in speed.kept()] == [False, True]
    assert "failed: it failed\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["speed.py", "--table"])
    assert speed.main() == 0
    assert "| 6x | >= 5x | pass |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["other"], "no row other; the rows are predict-one,"), (["--table", "prepro"], "--table")],
)
def test_wrong_words_are_one_line(monkeypatch, capsys, words, reason):
    monkeypatch.setattr(sys, "argv", ["speed.py", *words])
    with pytest.raises(SystemExit):
        speed.main()
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", [None, "{"])
def test_no_figures_are_one_line(results, text):
    if text:
        results.parent.mkdir()
        results.write_text(text)
    with pytest.raises(UserError, match=r"speed.json: no .*make bench"):
        speed.kept()


def test_sides_take_turns_and_go_first_in_turn():
    order = []
    sides = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert turns.interleave(sides, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(order) == "abbaab"
    assert turns.ratio([2, 9, 8], [1, 3, 2]) == 3


@pytest.fixture
def fake(tmp_path):
    """A contestant's command: each step takes 0.5 s by its own clock; at "fail" it fails."""
    path = tmp_path / "fake.py"
    path.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "benchmarks")!r}]
        from turns import Turns
        turns = Turns()
        print("noise")
        turns.ready(batch=8)
        while True:
            word, steps = turns.wait()
            if word == "fail":
                raise ValueError("as asked")
            turns.answer(0.5 * steps)
    """)
    )
    return path


def test_a_contestant_answers_its_turns_and_is_idle_between(fake):
    with turns.contestant(fake) as who:
        assert who.details == {"batch": 8}
        turn = speed.paced(who, 2)  # four steps
        assert turns.interleave({"it": turn}, 2) == {"it": [16.0, 16.0]}
        assert speed.said({"it": who}) == {"it": {"batch": 8, "idle_cores": 0.0}}
        who.idle["cpu"] += 100
        with pytest.raises(UserError, match="fake.py: was not idle between its turns"):
            speed.said({"it": who})
    assert who.process.returncode is not None


def test_a_contestant_that_fails_says_why(fake):
    with (
        turns.contestant(fake) as who,
        pytest.raises(UserError, match=r"^fake.py: ended: ValueError: as asked$"),
    ):
        who.turn("fail", 1)


def test_a_contestant_that_is_not_ready_in_time_is_ended(tmp_path):
    path = tmp_path / "slow.py"
    path.write_text("import time; time.sleep(60)")
    with (
        pytest.raises(UserError, match=r"slow.py: no answer in 0.1 s"),
        turns.contestant(path, limit=0.1),
    ):
        pass


def test_a_program_is_run_and_its_memory_seen():
    done = speed.run("-c", "x = bytearray(300_000_000); import time; time.sleep(1.2); print('end')",
                     watched=True)  # fmt: skip
    assert done.output == "end\n"
    assert done.peak > 300  # at least: it begins with that of this process
    assert 300 < done.memory < 400
    with pytest.raises(UserError, match="failed: SystemExit: no more|failed: no more"):
        speed.run("-c", "raise SystemExit('no more')")


def test_the_flops_of_resnet50():
    products = ours.layer_products(224, 101)
    # He et al. give 3.8 thousand million, for 1,000 classes.
    assert sum(products.values()) == 3_856_132_096
    assert products["conv1"] == 7 * 7 * 3 * 64 * 112 * 112
    assert products["fc101"] == 2048 * 101
    whole = sum(products.values())
    assert ours.training_flops(224, 101) == 2 * (3 * whole - products["conv1"])
    starts = products["res2a_branch1"] + products["res2a_branch2a"]
    assert ours.training_flops(224, 101, 1) == 2 * (3 * whole - 2 * products["conv1"] - starts)
