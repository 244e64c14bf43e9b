"""Arrays in several files: written together, read as one, and refused where they are no set."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import assert_one_line_error, run

from classifier.data import build
from classifier.data.arrays import (
    EXAMPLE,
    Arrays,
    files_of,
    remove_unfinished,
    shard_paths,
    shard_pattern,
)
from classifier.data.splits import SPLITS
from classifier.errors import UserError
from classifier.hdf5 import read_json, write_json
from classifier.training.batches import Batches

COUNT = 3
WORDS = ("--image-size", 32, "--target-per-class", 16, "--workers", 1)


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """The tiny photographs' arrays, in a folder as one file and as shards."""
    folder = tmp_path_factory.mktemp("shards")
    for words in (("one.h5",), ("set.h5", "--shards", COUNT), ("other.h5", "--shards", 2)):
        done = run(
            "prepro.py", "--dataset-path", tiny / "datasets/tiny", *WORDS, "--output", *words,
            cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "next: python train.py --data 'other-?????-of-00002.h5'" in done.stdout
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_a_set_is_read_as_the_one_file(made):
    names = [f"set-{k:05}-of-00003.h5" for k in (1, 2, 3)]
    assert sorted(p.name for p in made.glob("set*")) == names
    assert [path.name for path in shard_paths(made / "set.h5", 3)] == names
    with Arrays(made / "one.h5") as one, Arrays(made / "set-*-of-00003.h5") as shards:
        assert shards.split_digest == one.split_digest
        assert shards.fingerprint != one.fingerprint
        assert shards.folder == made / "set"
        shards.check_content()
        for split in SPLITS:
            count = one.count(split)
            assert shards.count(split) == count > 2
            for rows in (slice(None), slice(1, 5), np.random.default_rng(0).permutation(count)):
                for wanted, found in zip(
                    one.read(split, rows), shards.read(split, rows), strict=True
                ):
                    np.testing.assert_array_equal(found, wanted)
            for part in ("labels", "sources", "copies", "hashes"):
                wanted, found = (getattr(arrays, part)(split) for arrays in (one, shards))
                np.testing.assert_array_equal(found, wanted)
        batches = [Batches(arrays, "train", 7, 3, crop=0.5, mixup=0.2) for arrays in (one, shards)]
        for wanted, found in zip(batches[0][2], batches[1][2], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_folder_of_nothing_else_is_a_set(folder):
    (folder / "only").mkdir()
    for path in folder.glob("set-*"):
        path.rename(folder / "only" / path.name)
    with Arrays(folder / "only") as shards, Arrays(folder / "one.h5") as one:
        assert shards.count("train") == one.count("train")


def test_more_shards_than_examples_are_some_empty_ones(tiny, tmp_path):
    done = run(
        "prepro.py", "--dataset-path", tiny / "datasets/tiny", "--image-size", 32, "--workers", 1,
        "--target-per-class", 0, "--shards", 40, "--output", "set.h5", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Arrays(tmp_path / "set-*.h5") as arrays:
        counts = [arrays.count(split) for split in SPLITS]
        assert sum(counts) == 36
        assert arrays.read("test", np.arange(counts[2])[::-1])[1].sum() == counts[2]
        arrays.check_content()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("set-00001-of-00003.h5", "set-00001-of-00003.h5: shard 2 of 3 is missing; give all"),
        ("set-00003-of-00003.h5", "set-00003-of-00003.h5: shard 1 of 3 is missing; give all"),
        ("set-0000[13]-*", "set-0000[13]-*: shard 2 of 3 is missing"),
        ("*-of-*.h5", ": not of the set of "),
        ("*", ": not of the set of "),
        (".", ": not of the set of "),
        ("none-*.h5", "none-*.h5: no such arrays file of prepro.py"),
    ],
)
def test_what_is_no_set_is_one_line(folder, given, told):
    with pytest.raises(UserError, match=re.escape(told)):
        Arrays(folder / given)


def test_a_shard_of_other_settings_is_not_of_the_set(folder):
    shutil.copy(folder / "other-00001-of-00002.h5", folder / "set-00002-of-00003.h5")
    with pytest.raises(UserError, match="set-0000[12]-of-00003.h5: not of the set of "):
        Arrays(folder / "set-*.h5")
    done = run("train.py", "--data", "set-*.h5", cwd=folder)
    assert_one_line_error(done, "not of the set of")


def test_a_shard_that_is_there_twice_is_not_of_the_set(folder):
    shutil.copy(folder / "set-00001-of-00003.h5", folder / "set-00001-of-00003-again.h5")
    with pytest.raises(UserError, match="not of the set of"):
        Arrays(folder / "set-*.h5")


def test_the_damaged_shard_is_named(folder):
    path = folder / "set-00002-of-00003.h5"
    with Arrays(folder / "set-*.h5") as shards:
        image = shards.read("train", slice(None))[0][20].tobytes()  # of 48, in the second shard
    content = path.read_bytes()
    path.write_bytes(content.replace(image, image[::-1]))
    assert path.read_bytes() != content
    error = pytest.raises(UserError, match="set-00002-of-00003.h5: damaged, it has changed")
    with Arrays(folder / "set-*.h5") as shards, error:
        shards.check_content()


def test_no_model_takes_the_place_of_a_shard(folder):
    model = "set-00002-of-00003.h5"
    done = run("train.py", "--data", "set-*.h5", "--model", model, cwd=folder)
    assert_one_line_error(done, f"argument --model: {model} is the file of --data")


def test_a_set_is_audited(folder):
    done = run("prepro.py", "--audit", "--output", "set-*.h5", "--workers", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "audit of set-*.h5: protocol clean, train 48, val 6, test 6" in done.stdout


@pytest.fixture
def write(made, tmp_path):
    """A function that writes three shards of 6 plain examples each; it returns their pattern."""
    with Arrays(made / "one.h5") as one:
        about = one.description
    plan = {split: np.zeros(6, EXAMPLE) for split in SPLITS}
    names, hashes = ["train/red/1.jpg"], np.zeros((1, 2, 32), np.uint8)

    def write(grey=0, progress=int):
        spool = tmp_path / "spool"
        spool.write_bytes(bytes([grey]) * (32 * 32 * 3))
        photographs = build.Photographs(names, about.classes, hashes, [], spool, 32)
        paths = shard_paths(tmp_path / "set.h5", 3)
        try:
            build.write(paths, plan, photographs, about, progress=progress)
        finally:
            spool.unlink()
        return tmp_path / "set-*.h5"

    return write


def test_no_shard_appears_unless_all_are_whole(write, tmp_path):
    seen = []

    def fail_at_8(count):
        seen.append(count)
        if len(seen) == 8:  # of 9 chunks: within the last shard
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(progress=fail_at_8)
    assert list(tmp_path.iterdir()) == []
    with Arrays(write()) as arrays:
        assert arrays.count("val") == 6
        arrays.check_content()


def test_a_set_that_was_not_replaced_whole_is_none(write, tmp_path, monkeypatch):
    """Which a kill between two renames leaves; all but the pixels are alike."""
    write()
    replace, left = Path.replace, [1]

    def fail(path, target):
        if not left:
            raise OSError(5, "Input/output error")
        left.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(grey=1)
    with pytest.raises(UserError, match="not of the set of"):
        Arrays(tmp_path / "set-*.h5")


def test_a_shard_of_other_content_is_not_of_the_set(write, tmp_path):
    write()
    with h5py.File(tmp_path / "set-00002-of-00003.h5", "r+") as file:
        about = read_json(file, "description")
        del file["description"]
        write_json(file, "description", about | {"fingerprint": "\ud800"})
    with pytest.raises(UserError, match="its shards are not of one set; make it again"):
        Arrays(tmp_path / "set-*.h5")


def test_without_room_for_all_none_is_begun(write, tmp_path, monkeypatch):
    room = 18 * (32 * 32 * 3 + 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room - 1))
    with pytest.raises(OSError, match="No space left on device: .*set-00001-of-00003.h5"):
        write()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    write()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))  # it does not say
    write()


def test_what_killed_runs_left_goes_and_no_other_file(tmp_path):
    names = [
        ".part.a[1]-00001-of-00002.h5",
        ".part.a[1]-00007-of-00009.h5",
        ".part.a[1]b-00001-of-00002.h5",
        "a[1]-00001-of-00002.h5",
        ".part.a[1].h5",
    ]
    for name in names:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "a[1].h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])
    (tmp_path / "a[1]-b-00001-of-00002.h5").touch()
    found = files_of(shard_pattern(tmp_path / "a[1].h5", 2))
    assert [path.name for path in found] == ["a[1]-00001-of-00002.h5"]


def test_shards_need_a_name_of_their_kind(tmp_path):
    done = run("prepro.py", "--shards", 2, "--output", "data.v1", cwd=tmp_path)
    assert_one_line_error(done, "argument --output: data.v1 does not end in .h5")
