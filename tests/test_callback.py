"""What is kept of each epoch and when a run stops, on a model that computes nothing."""

import math
from types import SimpleNamespace

import keras
import pytest

from classifier import cli
from classifier.prediction import model_file
from classifier.training import callback, checkpoint
from classifier.training.callback import Callbacks, Keeper
from classifier.training.distribute import Devices
from classifier.training.run import Run

STEPS = 3  # of an epoch


@pytest.fixture
def kept(monkeypatch):
    """What is written, in order: ("best.h5", epoch) and ("latest.h5", epochs)."""
    written = []
    plain = SimpleNamespace(set_weights=lambda _: None)
    monkeypatch.setattr(model_file, "build", lambda _: plain)
    monkeypatch.setattr(
        model_file, "save", lambda path, _, best_epoch: written.append((path.name, best_epoch))
    )
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda path, _, run: written.append((path.name, place_of(run))),
    )
    return written


def place_of(run):
    """Return the epochs behind a run, with its steps in the next one as tenths."""
    return len(run["history"].get("loss", [])) + run["step"] / 10


def keeper_of(folder, start=None, **options):
    arguments = {"recipe": "scratch", "num_epochs": 9, "batch_size": 4}
    run = Run(arguments, "print", start=start or {})
    network = SimpleNamespace(get_weights=list)
    keeper = Keeper(run, folder, network, lambda: run.best_epoch, STEPS, **options)
    keeper.set_model(SimpleNamespace(stop_training=False))
    return keeper


def train(keeper, losses, val=True):
    """Go through epochs of these val losses, as fit does; return the number of epochs done."""
    keeper.on_train_begin()
    for epoch, loss in enumerate(losses):
        keeper.on_epoch_begin(epoch)
        for batch in range(STEPS):
            keeper.on_train_batch_end(batch, {"loss": 1.0})
        keeper.on_epoch_end(
            epoch, {"loss": 1.0, **({"val_loss": loss, "val_accuracy": 0.5} if val else {})}
        )
        if keeper.model.stop_training:
            return epoch + 1
    return len(losses)


def test_best_and_checkpoints_are_kept_when_they_are_due(tmp_path, kept):
    keeper = keeper_of(tmp_path, save_every=2)
    train(keeper, [3, 1, 2, 1, 0.5])
    assert kept == [
        ("best.h5", 1), ("best.h5", 2), ("latest.h5", 2), ("latest.h5", 4), ("best.h5", 5),
    ]  # fmt: skip


def test_the_network_before_the_first_step_is_kept_and_may_stay_the_best(tmp_path, kept):
    start = {"accuracy": 1.0, "val_accuracy": 0.5, "val_loss": 1.0, "minutes": 0.1}
    keeper = keeper_of(tmp_path, start, save_every=9)
    train(keeper, [3, 1, 2])
    assert kept == [("best.h5", 0), ("latest.h5", 0)]


def test_the_network_before_the_first_step_does_not_count_in_the_patience(tmp_path, kept):
    start = {"accuracy": 1.0, "val_accuracy": 0.5, "val_loss": 1.0, "minutes": 0.1}
    assert train(keeper_of(tmp_path, start, patience=2), [5, 4, 3, 2]) == 4
    assert train(keeper_of(tmp_path, start, patience=2), [5, 4, 4, 4, 4]) == 4


@pytest.mark.parametrize(("loss", "best"), [(0.5, [("best.h5", 3)]), (1.0, []), (2.0, [])])
def test_the_head_fitted_anew_is_kept_where_it_is_the_best(tmp_path, kept, loss, best):
    keeper = keeper_of(tmp_path, save_every=9)
    train(keeper, [3, 1])
    end = {"val_loss": loss, "val_accuracy": 0.5, "minutes": 7.0}
    keeper.add_end(end)
    assert kept[2:] == [*best, ("latest.h5", 2)]
    assert keeper.run.end == end


def test_without_val_every_epoch_is_the_best(tmp_path, kept):
    keeper = keeper_of(tmp_path, {"accuracy": 1.0, "minutes": 0.1}, save_every=9, patience=1)
    assert train(keeper, [3, 4, 5], val=False) == 3
    assert kept == [("latest.h5", 0), ("best.h5", 1), ("best.h5", 2), ("best.h5", 3)]


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (1, 3), (2, 4), (3, 5)])
def test_a_run_stops_after_so_many_epochs_without_a_better_one(
    tmp_path, kept, capsys, patience, epochs
):
    assert train(keeper_of(tmp_path, patience=patience), [2, 1, 1, 3, 4, 5]) == epochs
    assert ("stopping" in capsys.readouterr().out) == bool(patience)
    assert kept[-1] == ("latest.h5", epochs)


def test_epochs_of_smaller_images_do_not_count_in_the_patience(tmp_path, kept):
    keeper = keeper_of(tmp_path, patience=2, patient_after=3)
    assert train(keeper, [1, 2, 2, 2, 2, 2]) == 5
    keeper = keeper_of(tmp_path, patience=2, patient_after=1)
    assert train(keeper, [2, 1, 2, 2, 2]) == 4


def test_a_run_is_finished_with_its_last_epoch_or_when_it_stops(tmp_path, kept):
    keeper = keeper_of(tmp_path, save_every=5)
    train(keeper, [1.0] * 8)
    assert not keeper.run.finished
    train(keeper, [1.0])
    assert keeper.run.finished
    assert kept == [("best.h5", 1), ("latest.h5", 5), ("latest.h5", 9)]
    keeper = keeper_of(tmp_path, save_every=5, patience=1)
    train(keeper, [1, 2])
    assert keeper.run.finished
    assert kept[-2:] == [("best.h5", 1), ("latest.h5", 2)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_val_loss_that_is_no_number_ends_the_run(tmp_path, kept, value):
    keeper = keeper_of(tmp_path)
    assert train(keeper, [1, value, 2]) == 2
    assert keeper.diverged
    assert kept == [("best.h5", 1), ("latest.h5", 1)]
    assert keeper.run.epochs_done == 1


class Loss:
    """A loss that a GPU may still compute: who makes a number of it waits."""

    asked = False

    def __init__(self, value):
        self.value = value

    def __float__(self):
        self.asked = True
        return self.value


def test_no_step_is_waited_for_before_the_next_is_under_way(tmp_path, kept):
    keeper = keeper_of(tmp_path)
    losses = [Loss(1.0) for _ in range(STEPS)]
    shown = []
    bar = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: shown.append(logs))
    callbacks = Callbacks([keeper, bar], model=keeper.model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.on_train_batch_end(0, {"loss": Loss(2.0)})
    for batch, loss in enumerate(losses[1:], 1):
        callbacks.on_train_batch_end(batch, {"loss": loss})
        assert [loss.asked for loss in losses[1:]] == [n < batch for n in range(1, STEPS)]
    assert shown == [{"loss": 2.0}, {"loss": 2.0}, {"loss": 1.0}]


def test_a_train_loss_that_is_no_number_ends_the_epoch(tmp_path, kept):
    keeper = keeper_of(tmp_path)
    keeper.on_train_begin()
    keeper.on_epoch_begin(0)
    keeper.on_train_batch_end(0, {"loss": math.nan})
    keeper.on_train_batch_end(1, {"loss": math.nan})
    assert keeper.model.stop_training
    assert keeper.diverged
    keeper.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5})
    assert kept == []


def test_a_signal_stops_the_run_once_the_step_is_kept(tmp_path, kept, monkeypatch):
    keeper = keeper_of(tmp_path, save_every=9)
    train(keeper, [1.0])
    keeper.on_epoch_begin(1)
    keeper.on_train_batch_end(0, {"loss": 1.0})
    assert kept == [("best.h5", 1)]
    monkeypatch.setattr(cli, "_interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        keeper.on_train_batch_end(1, {"loss": 1.0})
    assert kept[1:] == [("latest.h5", 1.2)]
    assert keeper.run.images == 4 * (STEPS + 2)


def test_no_checkpoint_is_kept_of_a_step_whose_loss_is_no_number(tmp_path, kept, monkeypatch):
    keeper = keeper_of(tmp_path, save_every=9)
    keeper.on_train_begin()
    keeper.on_epoch_begin(0)
    monkeypatch.setattr(cli, "_interrupted", True)
    keeper.on_train_batch_end(0, {"loss": math.nan})
    assert keeper.diverged
    assert kept == []


def test_a_signal_in_the_last_step_of_an_epoch_stops_the_run_at_its_end(
    tmp_path, kept, monkeypatch
):
    keeper = keeper_of(tmp_path, save_every=9)
    keeper.on_train_begin()
    keeper.on_epoch_begin(0)
    monkeypatch.setattr(keeper.run, "step", STEPS - 1)
    monkeypatch.setattr(cli, "_interrupted", True)
    keeper.on_train_batch_end(0, {"loss": 1.0})
    assert kept == []
    with pytest.raises(KeyboardInterrupt):
        keeper.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5})
    assert kept == [("best.h5", 1), ("latest.h5", 1)]


def test_checkpoints_within_an_epoch_are_kept_when_they_are_due(tmp_path, kept, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(callback.time, "monotonic", lambda: clock.now)
    keeper = keeper_of(tmp_path, save_every=9, save_every_minutes=2)
    keeper.on_train_begin()
    keeper.on_epoch_begin(0)
    for minute in (1, 2):
        clock.now = 60.0 * minute
        keeper.on_train_batch_end(0, {"loss": 1.0})
    assert kept == [("latest.h5", 0.2)]
    assert keeper.run.minutes == 2
    clock.now = 240.0
    keeper.on_train_batch_end(0, {"loss": 1.0})
    keeper.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5})
    assert kept == [("latest.h5", 0.2), ("best.h5", 1), ("latest.h5", 1)]
    assert keeper.run.history["minutes"] == [4]


def test_a_run_of_no_epochs_is_finished_with_its_regression(tmp_path, kept):
    for start in ({"accuracy": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}, {"accuracy": 1.0}):
        keeper = keeper_of(tmp_path, start)
        keeper.run.arguments["num_epochs"] = 0
        keeper.on_train_begin()
        assert keeper.run.finished
    assert kept == 2 * [("best.h5", 0), ("latest.h5", 0)]


class Others(Devices):
    """As of a process that is not the first."""

    first = False


def test_only_the_first_process_writes_and_no_other_looks_at_a_loss_for_its_clock(tmp_path, kept):
    keeper = keeper_of(tmp_path, save_every_minutes=1e-9, devices=Others())
    train(keeper, [3, 1])
    assert kept == []
    keeper.on_epoch_begin(2)
    keeper.on_train_batch_end(0, {"loss": math.nan})
    assert not keeper.diverged  # as in the first, which may not be late
    keeper.on_train_batch_end(1, {"loss": math.nan})
    assert keeper.diverged


def test_a_loss_that_is_no_number_is_not_kept_though_a_checkpoint_is_late(tmp_path, kept):
    keeper = keeper_of(tmp_path, save_every_minutes=1e-9)
    keeper.on_train_begin()
    keeper.on_epoch_begin(0)
    keeper.on_train_batch_end(0, {"loss": math.nan})
    assert (kept, keeper.diverged) == ([], False)
    keeper.on_train_batch_end(1, {"loss": math.nan})
    assert (kept, keeper.diverged) == ([], True)
