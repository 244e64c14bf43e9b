"""A run's own state, and which run is gone on with."""

import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest

from classifier import __version__
from classifier.errors import UserError
from classifier.training import checkpoint
from classifier.training import run as run_module
from classifier.training.run import (
    Run,
    checkpoint_folder,
    code_version,
    discard,
    start_or_resume,
)

ARGUMENTS = {"recipe": "scratch", "num_epochs": 5, "learning_rate": 0.1}


def run_with(*losses, **changes):
    run = Run(dict(ARGUMENTS), "print")
    for loss in losses:
        run.minutes += 2
        run.add_epoch({"loss": 1.0, "val_loss": loss, "val_accuracy": 0.5})
    for name, value in changes.items():
        setattr(run, name, value)
    return run


class NoModel:
    """Stands in for a model without variables."""

    variables = metrics_variables = ()

    class optimizer:  # noqa: N801
        built, variables = True, ()


@pytest.fixture
def keep(tmp_path):
    """A function that puts a run's checkpoint and a best model into the folder."""

    def put(run):
        checkpoint.save(tmp_path / "latest.h5", NoModel, run.to_json())
        (tmp_path / "best.h5").write_text("its best")
        return run

    return put


def test_the_best_epoch_is_the_most_accurate_on_val_and_of_equals_that_of_the_least_loss():
    run = run_with(1, 3, 2)
    run.history["val_accuracy"] = [0.8, 0.9, 0.9]
    assert run.best_epoch == 3
    assert run_with(3, 1, 2).best_epoch == 2
    assert run_with(3, 1, 1).best_epoch == 2
    assert run_with().best_epoch == 0
    assert run_with().epochs_done == 0


def test_epoch_0_is_a_candidate_where_it_was_judged_on_val():
    start = {"accuracy": 1.0, "val_accuracy": 0.5, "val_loss": 1.5, "minutes": 1.0}
    assert run_with(3, 2, start=start).best_epoch == 0
    assert run_with(3, 2, start=start).best_trained == 2
    assert run_with(3, 1, start=start | {"val_accuracy": 0.6}).best_epoch == 0
    assert run_with(3, 1.5, start=start).best_epoch == 0
    assert run_with(3, 1, start=start).best_epoch == 2
    assert run_with(3, 2, start=start).figures_of(0) == start
    assert run_with(3, 2, start=start | {"val_loss": math.nan}).best_epoch == 2


def test_without_val_the_last_epoch_is_the_best():
    run = Run(dict(ARGUMENTS), "print", start={"accuracy": 1.0, "minutes": 1.0})
    for loss in (1.0, 3.0):
        run.minutes += 0.5
        run.add_epoch({"loss": loss})
    assert run.best_epoch == run.best_trained == run.epochs_done == 2
    assert run.history["minutes"] == [0.5, 1.0]
    assert run.figures_of(2) == {"loss": 3.0, "minutes": 1.0}


def test_the_head_fitted_anew_is_a_candidate_after_the_last_epoch():
    end = {"accuracy": 1.0, "val_accuracy": 0.5, "val_loss": 1.5, "minutes": 9.0}
    run = run_with(3, 2, end=end)
    assert run.best_epoch == 3
    assert run.figures_of(3) == end
    assert run_with(3, 1.5, end=end).best_epoch == 2
    assert run_with(3, 1, end=end | {"val_accuracy": 0.6}).best_epoch == 3
    assert run_with(3, 1, end=end | {"val_accuracy": 0.6}).best_trained == 2
    run = Run(dict(ARGUMENTS), "print", end={"accuracy": 1.0, "minutes": 9.0})
    run.add_epoch({"loss": 1.0})
    assert run.best_epoch == 2  # without val the last


def test_a_run_is_over_once_its_head_is_fitted_anew():
    run = run_with(3, 2)
    assert not run.over
    run.finished = True
    assert run.over
    assert run.place == "the end of epoch 2"
    run.arguments["refit"] = True
    assert not run.over
    assert run.place == "the end of epoch 2, before the last regression"
    run.end = {"accuracy": 1.0, "minutes": 9.0}
    assert run.over
    # With no epoch there is nothing learned since the first regression.
    assert run_with(arguments={**ARGUMENTS, "refit": True}, finished=True).over


def test_json_there_and_back():
    run = run_with(3, 2, finished=True, leak="known", precision="bfloat16", end={"minutes": 1.0})
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


@pytest.mark.parametrize(
    "change",
    [
        {"history": {"loss": [1.0], "val_loss": []}},
        {"history": {"loss": ["1"]}},
        {"history": []},
        {"arguments": []},
        {"arguments": {"recipe": "scratch"}},
        {"minutes": "1"},
        {"finished": 1},
        {"step": 0.5},
        {"images": None},
        {"start": None},
        {"start": {"val_loss": "x"}},
        {"end": {"val_loss": "x"}},
        {"end": []},
        {"fingerprint": None},
        {"precision": None},
        {"precision": "auto"},
        {"unknown": 1},
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, change):
    checkpoint.save(tmp_path / "latest.h5", NoModel, {**run_with(1).to_json(), **change})
    for options in ({"resume": True, "restart": False}, {"resume": False, "restart": False}):
        with pytest.raises(UserError, match=r"latest\.h5.*--restart"):
            start_or_resume(run_with(), tmp_path, **options)


def test_a_fresh_run_removes_what_an_earlier_one_left(tmp_path, keep):
    for earlier, restart in ((run_with(1, finished=True), False), (run_with(1), True)):
        keep(earlier)
        fresh = run_with()
        assert start_or_resume(fresh, tmp_path, resume=False, restart=restart) is fresh
        assert all((tmp_path / name).exists() for name in ("latest.h5", "best.h5"))
        discard(tmp_path)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "best.h5").write_text("of a run that was stopped before its first checkpoint")
    fresh = run_with()
    assert start_or_resume(fresh, tmp_path, resume=True, restart=False) is fresh
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_overwritten(tmp_path, keep):
    keep(run_with(1, 2))
    with pytest.raises(UserError, match=r"the end of epoch 2, --num-epochs 5.*--resume.*--restart"):
        start_or_resume(run_with(), tmp_path, resume=False, restart=False)
    assert (tmp_path / "best.h5").exists()


def test_a_run_is_resumed_with_its_own_arguments_and_arrays_alone(tmp_path, keep):
    kept = keep(run_with(1, 2))
    assert start_or_resume(run_with(), tmp_path, resume=True, restart=False) == kept
    other = run_with()
    other.arguments["learning_rate"] = 0.2
    with pytest.raises(UserError, match=r"^--learning-rate is 0\.2.* 0\.1.*--restart"):
        start_or_resume(other, tmp_path, resume=True, restart=False)
    with pytest.raises(UserError, match=r"the arrays are not those the run began with.*--restart"):
        start_or_resume(run_with(fingerprint="other"), tmp_path, resume=True, restart=False)
    assert (tmp_path / "best.h5").exists()


def test_runs_begun_in_one_second_have_folders_of_their_own():
    assert len({Run({"recipe": "scratch", "num_epochs": 1}, "print").id for _ in range(5)}) == 5


def test_the_folder_of_the_checkpoints_is_the_models_own(tmp_path):
    assert checkpoint_folder(tmp_path / "a.h5") == tmp_path / "checkpoints/a"


def test_numbers_of_numpy_become_plain_ones():
    run = run_with()
    run.minutes += 1
    run.add_epoch({"loss": np.float32(1.5)})
    json.dumps(run.to_json())


def git(folder, *words):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_a_run_says_which_code_began_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "ROOT", tmp_path)
    assert code_version() == __version__
    git(tmp_path, "init")
    (tmp_path / "train.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert re.fullmatch(rf"{re.escape(__version__)} [0-9a-f]{{12}}", code_version())
    (tmp_path / "train.py").write_text("two")
    run = Run(dict(ARGUMENTS), "print", code=code_version())
    assert re.fullmatch(rf"{re.escape(__version__)} [0-9a-f]{{12}}\+", run.code)

    # A resumed run keeps it; and a program within another's repository has no commit of its own.
    monkeypatch.setattr(run_module, "ROOT", tmp_path / "within")
    (tmp_path / "within").mkdir()
    assert code_version() == __version__
    assert Run.from_json(run.to_json()).code == run.code


def test_without_git_the_code_has_its_version(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_version() == __version__
