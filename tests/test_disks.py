"""What benchmarks/faulty/disks.py tries, in small and without root: the rest is `make faults`."""

import random
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from faulty import disks
from faulty.disks import Command, Try


@pytest.fixture(autouse=True)
def nothing_is_mounted(monkeypatch):
    monkeypatch.setattr(disks, "can_mount", lambda: False)


@pytest.fixture
def prepro(tiny, tmp_path):
    """A command that makes arrays where older ones are."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "X.h5").write_text("older arrays")
    words = ("prepro.py", "--dataset-path", tiny / "datasets/tiny", "--output", "X.h5",
             "--image-size", 32, "--target-per-class", 16, "--workers", 1)  # fmt: skip
    return Command("prepro.py", words, old, 3)


def test_arrays_on_a_disk_with_ever_more_room(prepro, tmp_path):
    usual = Try(tmp_path / "usual", prepro, disks.PLAIN)
    assert not usual.problem(usual)
    assert usual.after != usual.before
    draw, failed = random.Random(0), 0
    for room in disks.rooms(prepro, usual, draw):
        tried = Try(tmp_path / str(room), prepro, disks.LIMITED, room)
        assert not tried.problem(usual), (room, tried.ended)
        failed += tried.ended.status == 2 and tried.after == tried.before
    assert failed >= 2


def test_arrays_with_nowhere_to_print_to(prepro, tmp_path):
    usual = Try(tmp_path / "usual", prepro, disks.PLAIN)
    tried = Try(tmp_path / "full", prepro, disks.NOWHERE_TO_PRINT)
    assert not tried.problem(None), tried.ended
    assert tried.after == usual.after


def test_arrays_at_a_link_to_nowhere(prepro, tmp_path):
    usual = Try(tmp_path / "usual", prepro, disks.PLAIN)
    tried = Try(tmp_path / "link", prepro, disks.DANGLING)
    assert not tried.problem(usual), tried.ended
    assert tried.after == usual.after


def test_a_loss_of_which_a_command_says_nothing_is_seen(prepro, tmp_path):
    usual = Try(tmp_path / "usual", prepro, disks.PLAIN)

    def problem(name, command):
        tried = Try(tmp_path / name, prepro, disks.script(command=command))
        assert tried.ended.status == 0
        return tried.problem(usual)

    assert problem("nothing", "true") == "status 0, but there is no new ['X.h5']"
    assert problem("half", '"$@" && truncate -s 99999 X.h5') == "X.h5 is half written"


def test_a_problem_is_seen(prepro, tmp_path):
    """Else the cases above could not fail."""
    usual = Try(tmp_path / "usual", prepro, disks.PLAIN)

    def problem(number, before):
        command = disks.script(before=before, command="false; echo one line >&2; (exit 2)")
        return Try(tmp_path / str(number), prepro, command).problem(usual)

    assert problem(0, "") == ""
    assert problem(1, "echo more >&2").startswith("2 lines on stderr")
    assert problem(2, "rm X.h5") == "X.h5 is lost"
    assert problem(3, "echo >> X.h5") == "X.h5 is changed"
    assert problem(4, "echo > report.html") == "report.html is half written"
    assert problem(5, "touch .part.X.h5").startswith("left behind")
