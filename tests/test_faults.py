"""benchmarks/faults.py: a seeded part of its rows, and that what is lost would be seen."""

import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import faults
from faulty import kills, runs, whole
from faulty.row import Ended, Row, not_refused, run

REFUSED = Ended(2, "", "note: of no account\nx.py: error: no such file; give another\n", 0.1, 50)


@pytest.fixture
def row():
    return Row("row")


def test_a_killed_prepro_leaves_whole_files_and_does_the_same_when_run_again(row, tmp_path):
    kills.prepro(row, tmp_path, seed=0, count=2)
    assert (row.tried, row.lost) == (2, [])


def test_killed_explanations_leave_whole_files(row, tmp_path):
    kills.explain(row, tmp_path, seed=0, count=1)
    assert (row.tried, row.lost) == (1, [])


def test_of_two_that_write_one_file_the_second_is_refused(tmp_path):
    kills.prepare(tmp_path)
    words = ("prepro.py", "--dataset-path", "set", "--target-per-class", 4000, "--output", "a.h5")
    assert runs.second(tmp_path, ".a.h5.lock", words) == ""
    assert runs.at_once(tmp_path, [words] * 3) == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"status": 1}, ""),
        ({"status": 0}, "status 0"),
        ({"status": -11}, "status -11"),
        ({"err": ""}, "0 lines"),
        ({"err": "one\ntwo\n"}, "2 lines"),
        ({"err": "Traceback (most recent call last):\nOops"}, "traceback: Oops"),
        ({"seconds": 5.1}, "5.1 s"),
        ({"megabytes": 501}, "501 MB"),
        ({"hung": True}, "hung"),
    ],
)
def test_what_is_no_refusal_is_seen(change, problem):
    found = not_refused(Ended(**{**vars(REFUSED), **change}))
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_command_that_hangs_is_ended_at_its_limit(tmp_path):
    ended = run("-c", "import time; time.sleep(60)", folder=tmp_path, limit=0.5)
    assert ended.hung
    assert ended.status < 0
    ended = run("-c", "print(input()); exit(3)", folder=tmp_path, stdin=b"word\n")
    assert (ended.status, ended.out, ended.hung) == (3, "word\n", False)
    assert ended.megabytes > 1


def test_half_a_file_is_seen(tmp_path, tiny_arrays):
    shutil.copy(ROOT / "images/test.jpg", tmp_path)
    shutil.copy(ROOT / "images/report.png", tmp_path)
    shutil.copy(tiny_arrays, tmp_path / "arrays.h5")
    (tmp_path / "report.html").write_text("<html></html>\n")
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "a.csv").write_text("name,share\ncat,1\n")
    (tmp_path / "card.md").write_text("# Card\n")
    with h5py.File(tmp_path / "latest.h5", "w") as file:
        for name in ("run", "model/0", "optimizer/0", "metrics/0"):
            file[name] = np.ones(1000, "f")
    (tmp_path / ".part.x.h5").write_text("temporary")
    assert whole.not_whole(tmp_path) == ""
    for path in sorted(tmp_path.glob("[a-z]*")):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if path.suffix != ".md" else b"")
        assert whole.not_whole(tmp_path).startswith(f"{path.name} is not whole: ")
        path.write_bytes(content)
    assert whole.not_whole(tmp_path) == ""
    with h5py.File(tmp_path / "latest.h5", "r+") as file:
        del file["model"]
    assert whole.not_whole(tmp_path).startswith("latest.h5 is not whole: ")
    (tmp_path / "latest.h5").unlink()
    assert whole.debris(tmp_path) == "left behind: .part.x.h5"
    with h5py.File(tmp_path / "arrays.h5", "r+") as file:
        runs.one_byte("test", "X", np.random.default_rng(0))(file)
    assert "arrays.h5 is not whole: UserError" in whole.not_whole(tmp_path)


def test_an_older_and_a_newer_file_are_told_from_any_other():
    older, newer = {"a": b"1", "b": b"2"}, {"a": b"3", "b": b"4", "c": b"5"}
    assert kills.neither({"a": b"1", "b": b"4"}, older, newer) == ""
    assert kills.neither({"a": b"3"}, {}, newer) == ""
    assert kills.neither({"a": b"3"}, older, newer) == "b is gone"
    assert kills.neither({"a": b"6"}, {}, newer) == "a is neither the older nor the newer one"


def test_what_an_earlier_process_left_half_written_is_not_waited_for(tmp_path):
    left = tmp_path / ".part.x.h5"
    left.touch()
    os.utime(left, (0, 0))
    python = [sys.executable, "-c"]
    with subprocess.Popen([*python, ""]) as process:
        assert not kills.Moment(0, str(left)).wait(process)
    with subprocess.Popen(
        [*python, f"import time; open({str(left)!r}, 'w'); time.sleep(60)"]
    ) as process:
        assert kills.Moment(0, str(left)).wait(process)
        process.kill()


def test_one_that_ends_by_itself_is_not_one_that_was_killed(tmp_path):
    never = kills.Moment(60)
    assert kills.killed(("-c", ""), tmp_path, never) == (kills.End.DONE, "")
    assert kills.killed(("-c", "import time; time.sleep(9)"), tmp_path, kills.Moment(0)) == (
        kills.End.STOPPED, "",
    )  # fmt: skip
    assert "status 3: oops" in kills.killed(
        ("-c", "import sys; print('oops'); sys.exit(3)"), tmp_path, never
    )[1]  # fmt: skip


def test_one_bit_of_a_weight_or_another_figure_is_seen():
    def outcome(weight, figure):
        return {"weights": {"a kernel": np.float32([1, weight])}, "figures": [{"loss": figure}]}

    assert kills.differs(outcome(2, 0.5), outcome(2, 0.5)) == ""
    assert "1 of 1 weights" in kills.differs(
        outcome(np.nextafter(2, 3, dtype="f"), 0.5), outcome(2, 0.5)
    )
    assert kills.differs(outcome(2, 0.5), outcome(2, 0.25)) == "the figures differ"


def test_another_answer_is_seen():
    expected = {"cat": 0.75, "dog": 0.25}
    assert runs.other_answer({"cat": 0.750005, "dog": 0.249995}, expected) == ""
    assert "differ by 2.0e-05" in runs.other_answer({"cat": 0.75002, "dog": 0.25}, expected)
    assert runs.other_answer({"dog": 0.6, "cat": 0.4}, expected) == "named dog, not cat"


def test_rows_are_counted_kept_and_shown(tmp_path, monkeypatch, capsys):
    def attempt(row, folder, seed):
        assert list(folder.iterdir()) == []
        row.add(f"first of seed {seed}", "", Ended(0, "", "", 1.25, 99.6))
        row.add("second", "" if seed else "it was lost")

    monkeypatch.setattr(faults, "RESULTS", tmp_path / "faults.json")
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    two = faults.Kind(attempt, "words of two", pair=True)
    monkeypatch.setattr(
        faults, "ROWS", {"two": two, "one": faults.Kind(attempt, "words of one"), "three": two}
    )
    monkeypatch.setattr(sys, "argv", ["faults.py"])
    assert faults.main() == 1
    assert capsys.readouterr().out.count("lost: second: it was lost") == 3
    kept = json.loads((tmp_path / "faults.json").read_text())
    assert [(row["name"], row["tried"], row["lost"]) for row in kept] == [
        ("two", 2, 1), ("one", 2, 1), ("three", 2, 1),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["faults.py", "one", "--seed", "7"])
    assert faults.main() == 0
    two, kept, three = json.loads((tmp_path / "faults.json").read_text())
    assert {name: kept[name] for name in ("name", "tried", "survived", "lost")} == {
        "name": "one", "tried": 2, "survived": 2, "lost": 0,
    }  # fmt: skip
    assert kept["machine"]["seed"] == 7
    shown = faults.table([kept])
    assert "| `one` | words of one | 2 | 2 | **0** | 1.2 s | 100 MB |" in shown
    assert "seed 7" in shown
    first, *_, second, _, third = faults.table([two, kept, three]).splitlines()
    assert first.startswith("| row |")
    assert re.fullmatch(r"\d+ cores of .*; seed 0; commit .*", second)
    assert re.fullmatch(r"`one`: \d+ cores of .*; seed 7; commit .*", third)


def test_a_row_that_is_none_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["faults.py", "nonsense"])
    with pytest.raises(SystemExit):
        faults.main()
    assert "no row nonsense; the rows are kill-prepro" in capsys.readouterr().err
