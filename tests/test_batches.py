import os
import shutil
import signal

import h5py
import numpy as np
import pytest

from classifier.data import arrays as arrays_module
from classifier.data import batch
from classifier.data.arrays import Arrays
from classifier.data.batch import Share
from classifier.errors import UserError
from classifier.training import batches as batches_module
from classifier.training.batches import Batches
from classifier.workers import processes


@pytest.fixture(scope="module")
def arrays(tiny_arrays):
    with Arrays(tiny_arrays) as opened:
        yield opened


def read(batches):
    parts = [batches[index] for index in range(len(batches))]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def test_without_a_seed_all_rows_come_in_the_files_order(arrays):
    batches = Batches(arrays, "val", 4)
    assert [len(batches[i][0]) for i in range(len(batches))] == [4, 2]
    images, labels = read(batches)
    wanted_images, wanted_labels = arrays.read("val", slice(None))
    np.testing.assert_array_equal(images, wanted_images)
    np.testing.assert_array_equal(labels, wanted_labels)
    assert (images.dtype, labels.dtype) == (np.uint8, np.float32)


def test_the_order_depends_on_seed_and_epoch_alone(arrays):
    def order(batches):
        return batches.order(np.arange(48)).tolist()

    one = Batches(arrays, "train", 7, 3)
    first = order(one)
    one.start(1)
    second = order(one)
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second
    one.start(0)
    assert order(one) == first
    assert order(Batches(arrays, "train", 7, 4)) != first


def test_every_training_batch_is_full_and_what_remains_is_other_rows_each_epoch(arrays):
    batches = Batches(arrays, "train", 7, 0)
    assert len(batches) == 48 // 7
    assert all(len(batches[i][0]) == 7 for i in range(len(batches)))
    left_out = []
    for epoch in range(3):
        batches.start(epoch)
        left_out.append(set(batches.order(np.arange(len(batches) * 7, 48)).tolist()))
    assert len(set(map(frozenset, left_out))) == 3


def test_without_copies_each_photograph_comes_once(arrays):
    rows = Batches(arrays, "train", 4, copies=False).rows
    assert Batches(arrays, "train", 4).count == 48
    assert len(rows) == 24
    assert (arrays.copies("train")[rows] == 0).all()
    names = np.array(arrays.sources("train"))
    assert set(names[rows]) == set(names)


def test_crops_are_new_in_each_epoch_and_the_same_in_a_repetition(arrays):
    plain, _ = read(Batches(arrays, "train", 8, 5))
    images, labels = read(Batches(arrays, "train", 8, 5, crop=0.5))
    again, _ = read(Batches(arrays, "train", 8, 5, crop=0.5))
    np.testing.assert_array_equal(images, again)
    assert images.shape == plain.shape
    assert (images != plain).any(axis=(1, 2, 3)).all()
    later = Batches(arrays, "train", 8, 5, crop=0.5)
    later.start(1)
    later.order = Batches(arrays, "train", 8, 5).order
    assert (read(later)[0] != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(labels, read(Batches(arrays, "train", 8, 5))[1])


def test_mixup_has_shares_of_its_own_in_each_batch_and_epoch(arrays):
    labels = read(Batches(arrays, "train", 4, 5))[1].reshape(12, 4, 3)
    batches = Batches(arrays, "train", 4, 5, mixup=1.0)
    images, mixed = read(batches)
    np.testing.assert_array_equal(images, read(batches)[0])
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    changed = (mixed.reshape(12, 4, 3) != labels).any(axis=(1, 2))
    assert changed.sum() >= 10  # not where all four are of one class
    shares = np.unique(mixed.round(5))
    assert len(shares) > 12
    order = batches.order
    batches.start(1)
    batches.order = order
    assert (read(batches)[1] != mixed).any()


@pytest.mark.parametrize("crop", [0.0, 0.5])
def test_images_of_another_size_show_the_same(arrays, crop):
    batches = Batches(arrays, "train", 8, 5, crop=crop)
    images, labels = read(batches)
    batches.side = 16
    smaller, same = read(batches)
    assert (smaller.shape, smaller.dtype) == ((48, 16, 16, 3), np.uint8)
    means = images.reshape(48, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(means - smaller).mean() < 8
    assert np.abs(means - smaller[::-1]).mean() > 32
    np.testing.assert_array_equal(labels, same)


def test_an_epoch_can_begin_within(arrays):
    batches = Batches(arrays, "train", 8, 5, crop=0.5)
    batches.start(2)
    whole, labels = read(batches)
    batches.start(2, 4)
    assert (len(batches), batches.steps) == (2, 6)
    rest, rest_labels = read(batches)
    np.testing.assert_array_equal(rest, whole[4 * 8 :])
    np.testing.assert_array_equal(rest_labels, labels[4 * 8 :])


def test_processes_make_the_same_batches_ahead_of_time(arrays):
    options = {"crop": 0.5, "mixup": 0.2}
    here = Batches(arrays, "train", 8, 5, **options)
    with processes(2) as pool:
        apart = Batches(arrays, "train", 8, 5, **options)
        apart.use(pool, 2)
        for epoch, first, side in ((0, 0, 32), (0, 2, 32), (1, 0, 48)):
            for batches in (here, apart):
                batches.side = side
                batches.start(epoch, first)
            apart[0]  # as Keras does, to see what a batch looks like
            assert len(apart.coming) == min(8, len(apart) - 1)
            for mine, theirs in zip(read(here), read(apart), strict=True):
                np.testing.assert_array_equal(mine, theirs)
                assert mine.dtype == theirs.dtype
        assert not apart.coming


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def other_file(path, files, _fingerprint, wanted):
    return batch.made_apart(path, files, "another", wanted)


def test_where_the_processes_fail_batches_are_made_here(arrays, monkeypatch, capsys):
    wanted = read(Batches(arrays, "train", 8, 5, crop=0.5))
    for fault, told in ((kill, "terminated abruptly"), (other_file, "tiny.h5 was replaced")):
        monkeypatch.setattr("classifier.training.batches.made_apart", fault)
        with processes(1) as pool:
            batches = Batches(arrays, "train", 8, 5, crop=0.5)
            batches.use(pool, 1)
            found = read(batches)
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: batches are made one by one from now on: ")
        assert told in line


def test_large_batches_are_few_ahead(arrays, monkeypatch):
    monkeypatch.setattr("classifier.training.batches.AHEAD_BYTES", 3 * 8 * 32**2 * 3)
    batches = Batches(arrays, "train", 8, 5)
    batches.use(None, 4)
    assert batches.ahead == 3


def test_rows_past_the_end_of_a_shortened_file_are_damage(tiny_arrays, tmp_path):
    copy = tmp_path / "arrays.h5"
    shutil.copy(tiny_arrays, copy)
    with Arrays(copy) as opened:
        with h5py.File(copy) as file:
            end = file["test/X"].id.get_offset() + file["test/X"].nbytes
        os.truncate(copy, end - 1)
        rows = np.arange(opened.count("test"))
        assert len(opened.read("test", rows[:-1])[0]) == len(rows) - 1
        with pytest.raises(UserError, match="arrays.h5: test/X is damaged; make it again"):
            opened.read("test", rows)
        with pytest.raises(UserError, match="arrays.h5: test/X is damaged; make it again"):
            batch.made(opened, batch.Wanted("test", rows[::-1], 32, 0.0, 0.0, ()))


@pytest.mark.parametrize("shares", [1, 2, 4])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_shares_of_a_batch_are_parts_of_it_and_read_no_more_than_they_need(
    arrays, monkeypatch, shares, mixup
):
    whole = Batches(arrays, "train", 8, 5, crop=0.5, mixup=mixup)
    rows, read_rows = whole.order(np.arange(48)), []
    read_of = arrays_module._Shard.rows
    monkeypatch.setattr(
        arrays_module._Shard, "rows",
        lambda shard, split, name, r: read_rows.append(list(r)) or read_of(shard, split, name, r),
    )  # fmt: skip
    for number in (0, 3):
        images, labels = whole[number]
        for index in range(shares):
            part = Batches(arrays, "train", 8, 5, crop=0.5, mixup=mixup, share=Share(index, shares))
            read_rows.clear()
            own, own_labels = part[number]
            size = 8 // shares
            mine = slice(index * size, (index + 1) * size)
            np.testing.assert_array_equal(own, images[mine])
            np.testing.assert_array_equal(own_labels, labels[mine])
            wanted = set(rows[8 * number :][mine])
            if mixup and shares > 1:
                wanted.add(rows[8 * number :][:8][index * size - 1])
            assert set(read_rows[0]) == set(read_rows[1]) == wanted
            assert len(read_rows[0]) == len(wanted)


def test_shares_in_the_files_order_are_filled_up_for_all_to_have_as_many(arrays):
    images, labels = read(Batches(arrays, "val", 4))
    parts = [Batches(arrays, "val", 4, share=Share(index, 2)) for index in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    for number in range(2):
        both = [np.concatenate(pair) for pair in zip(*(p[number] for p in parts), strict=True)]
        wanted = np.arange(4 * number, 4 * number + 4) % 6
        np.testing.assert_array_equal(both[0], images[wanted])
        np.testing.assert_array_equal(both[1], labels[wanted])


def test_batches_are_made_ahead_by_the_room_that_a_share_takes(arrays, monkeypatch):
    monkeypatch.setattr(batches_module, "AHEAD_BYTES", 2 * 8 * 32 * 32 * 3)
    ahead = []
    for share in (None, Share(0, 4)):
        batches = Batches(arrays, "train", 8, 5, share=share)
        batches.use(None, 2)
        ahead.append(batches.ahead)
    assert ahead == [2, 8]
