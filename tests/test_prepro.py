"""prepro.py through its real command line, on small folders of photographs."""

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, command, run
from PIL import Image, ImageOps

import prepro
from classifier.data import build
from classifier.data.arrays import Arrays, Description, Example, create
from classifier.data.audit import correlated_rows, overlaps
from classifier.data.augment import augmented
from classifier.data.duplicates import perceptual_hash
from classifier.data.images import decode, read_rgb
from classifier.errors import UserError
from classifier.files import locked
from classifier.hdf5 import read_json, write_json
from classifier.seeds import generator

CLASSES = ("ant", "bee", "cat")
SPLITS = ("train", "val", "test")
NEAR = ["train/ant/image_0003.jpg", "train/ant/image_0900.jpg"]
MIRRORED = ["train/bee/image_0007.jpg", "train/cat/image_0901.jpg"]
FAST = ("--image-size", 32, "--target-per-class", 0, "--workers", 1)


def write_photographs(folder, counts, seed=0):
    """Write `counts` {class: number} of distinct random patterns below `folder`/train."""
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        target = folder / "train" / label
        target.mkdir(parents=True)
        for number in range(count):
            cells = random.integers(30, 200, (8, 8, 3), np.uint8)
            Image.fromarray(cells).resize((72, 60)).save(target / f"image_{number:04}.jpg")
    return folder


def contents(folder):
    """Return {path: (checksum, time of change)} of everything below a folder."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
            path.stat().st_mtime_ns if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines_of(splits, size=64, classes=3):
    """Return the lines that announce the arrays, from the numbers of examples."""
    for count, (split, name) in zip(
        splits, (("train", "training"), ("val", "validation"), ("test", "test")), strict=True
    ):
        yield f"number of {name} examples: {count}"
        yield f"X_{split} shape: ({count}, {size}, {size}, 3)"
        yield f"Y_{split} shape: ({count}, {classes})"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with datasets/set: 3 classes of 45 photographs and two planted near-duplicates."""
    folder = tmp_path_factory.mktemp("prepro")
    photos = write_photographs(folder / "datasets/set", dict.fromkeys(CLASSES, 45))
    with Image.open(photos / NEAR[0]) as image:
        brighter = image.point(lambda value: min(255, value + 12))
        brighter.resize((100, 80)).save(photos / NEAR[1], quality=60)
    with Image.open(photos / MIRRORED[0]) as image:
        ImageOps.mirror(image).save(photos / MIRRORED[1])
    return folder


@pytest.fixture(scope="module")
def before(folder):
    """What stood in the folder of photographs before prepro.py ran."""
    return contents(folder / "datasets/set")


@pytest.fixture(scope="module")
def made(folder, before):
    """The result of prepro.py with two processes; the arrays are datasets/set.h5."""
    result = run("prepro.py", "--dataset-path", "datasets/set", "--target-per-class", 60,
                 "--workers", 2, "--verbose", cwd=folder)  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def original(folder, made):
    """The result of prepro.py with the protocol that leaks; the arrays are original.h5."""
    result = run("prepro.py", "--dataset-path", "datasets/set", "--output", "original.h5", *FAST,
                 "--protocol", "original", "--target-per-class", 60, cwd=folder)  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def arrays(folder, made):
    with Arrays(folder / "datasets/set.h5") as finished:
        yield finished


def test_the_originals_lines_are_printed(made):
    lines = made.stdout.splitlines()
    first = lines.index("number of training examples: 180")
    assert lines[first : first + 9] == list(lines_of((180, 27, 27)))
    assert (
        "near-duplicates: 2 pairs by hash and 0 known shots in 2 groups (1 across classes), "
        "none in two splits" in lines
    )
    assert f"  {NEAR[0]} = {NEAR[1]}" in lines
    assert f"  {MIRRORED[0]} = {MIRRORED[1]}" in lines
    table = [line.split() for line in lines]
    for label in CLASSES:
        assert [label, "60", "9", "9"] in table
    assert lines[-1].endswith("train.py --data datasets/set.h5")
    assert made.stderr == ""


def test_layout_and_description(folder, made):
    with h5py.File(folder / "datasets/set.h5") as file:
        description = read_json(file, "description")
        assert sorted(description.pop("near_duplicates")) == [NEAR, MIRRORED]
        assert all(len(description.pop(name)) == 32 for name in ("fingerprint", "split_digest"))
        assert description == {
            "version": 4, "classes": list(CLASSES), "image_size": 64, "protocol": "clean",
            "leaks": False, "seed": 0, "target_per_class": 60, "near_duplicate_bits": 50,
            "left_out": [], "shard": 1, "shards": 1, "set_digest": "",
        }  # fmt: skip
        assert set(file) == {*SPLITS, "description"}
        for split, count in zip(SPLITS, (180, 27, 27), strict=True):
            found = {name: (part.shape, part.dtype) for name, part in file[split].items()}
            assert found.pop("source")[0] == (count,)
            assert h5py.check_string_dtype(file[split]["source"].dtype).encoding == "utf-8"
            assert found == {
                "X": ((count, 64, 64, 3), np.uint8),
                "Y": ((count, 3), np.uint8),
                "copy": ((count,), np.uint16),
                "hash": ((count, 2, 32), np.uint8),
            }


def test_every_row_is_what_it_says(folder, arrays):
    for split in SPLITS:
        X, Y = arrays.read(split, slice(None))
        sources, copies = arrays.sources(split), arrays.copies(split)
        assert (Y.sum(axis=1) == 1).all()
        assert [f"train/{CLASSES[i]}" for i in arrays.labels(split)] == [
            source.rpartition("/")[0] for source in sources
        ]
        assert len(set(zip(sources, copies.tolist(), strict=True))) == len(sources)
        for row in range(0, len(sources), 3):
            file = folder / "datasets/set" / sources[row]
            photo = decode(file, 64)
            np.testing.assert_array_equal(
                arrays.hashes(split)[row], perceptual_hash(read_rgb(file))
            )
            if copies[row]:
                key = ("augment", 0, sources[row], int(copies[row]))
                (photo,) = augmented(photo, [generator(*key)])
            np.testing.assert_array_equal(X[row], photo)


def test_copies_are_made_of_train_alone_and_spread_evenly(arrays):
    assert not arrays.copies("val").any()
    assert not arrays.copies("test").any()
    sources = arrays.sources("train")
    for label in CLASSES:
        rows = [source for source in sources if f"/{label}/" in source]
        assert len(rows) == 60
        photos = sorted(set(rows))
        assert {rows.count(photo) for photo in photos} == {2, 3}
        drawn = [photo for photo in photos if rows.count(photo) == 3]
        assert drawn != photos[: len(drawn)]
    copies = arrays.copies("train")
    assert {s for s, k in zip(sources, copies, strict=True) if k == 0} == set(sources)


def test_sources_and_groups_stand_in_one_split(arrays):
    split_of = {}
    for split in SPLITS:
        for source in arrays.sources(split):
            assert split_of.setdefault(source, split) == split
    assert len(split_of) == 3 * 45 + 2
    for one, other in (NEAR, MIRRORED):
        assert split_of[one] == split_of[other]


def test_rows_are_read_in_the_order_asked_for(arrays):
    X, Y = arrays.read("train", slice(None))
    rows = np.array([70, 3, 179, 0])
    for got, expected in zip(arrays.read("train", rows), (X[rows], Y[rows]), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_arrays_describe_themselves_to_people(folder, made):
    show = [sys.executable, "-m", "classifier.data.arrays", "datasets/set.h5"]
    options = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    text = subprocess.check_output(show, **options)
    assert "train 180, val 27, test 27" in text
    assert "ant, bee, cat" in text
    photo = subprocess.check_output([*show, "--held-out"], **options).strip()
    with Arrays(folder / "datasets/set.h5") as finished:
        assert photo == f"datasets/set/{finished.sources('test')[0]}"


def test_photographs_are_found_in_the_order_of_their_names(folder, monkeypatch):
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(sorted(iterdir(path))))
    found = build.find(folder / "datasets/set")
    assert found == sorted(found)
    assert len(found) == 3 * 45 + 2


def test_photographs_are_never_touched(folder, before, made, original):
    assert contents(folder / "datasets/set") == before
    assert {path.name for path in (folder / "datasets").iterdir()} == {"set", "set.h5"}


def test_the_number_of_processes_changes_no_bit(folder, made):
    result = run("prepro.py", "--dataset-path", "datasets/set", "--target-per-class", 60,
                 "--workers", 1, "--output", "one.h5", cwd=folder)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert checksum(folder / "one.h5") == checksum(folder / "datasets/set.h5")


def test_the_order_in_which_files_were_made_changes_no_bit(folder, made, tmp_path):
    photos = [name for name in contents(folder / "datasets/set") if name.endswith(".jpg")]
    for name in np.random.default_rng(0).permutation(sorted(photos)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "datasets/set" / name, tmp_path / "set" / name)
    result = run("prepro.py", "--dataset-path", "set", "--target-per-class", 60,
                 "--workers", 2, cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert checksum(tmp_path / "set.h5") == checksum(folder / "datasets/set.h5")


def test_another_seed_gives_other_splits(folder, arrays):
    result = run("prepro.py", "--dataset-path", "datasets/set", "--output", "seed.h5", *FAST,
                 "--seed", 1, cwd=folder)  # fmt: skip
    assert list(lines_of((83, 27, 27), size=32)) == result.stdout.splitlines()[-10:-1]
    with Arrays(folder / "seed.h5") as other:
        assert other.seed == 1
        assert not other.copies("train").any()  # --target-per-class 0
        assert set(other.sources("test")) != set(arrays.sources("test"))


@pytest.mark.parametrize(("val", "splits"), [(5, (75, 15, 47)), (0, (90, 0, 47))])
def test_the_paper_protocol(val, splits, folder):
    output = f"paper{val}.h5"
    result = run("prepro.py", "--dataset-path", "datasets/set", "--protocol", "paper", *FAST,
                 "--val-per-class", val, "--output", output, cwd=folder)  # fmt: skip
    assert list(lines_of(splits, size=32)) == result.stdout.splitlines()[-10:-1]
    assert result.stderr == ""
    with Arrays(folder / output) as finished:
        assert overlaps(finished, 50) == []


def test_the_original_protocol_draws_20_of_each_class_and_warns(folder, original):
    assert list(lines_of((60, 60, 60), size=32)) == original.stdout.splitlines()[-11:-2]
    assert "warning: protocol 'original' leaks" in original.stdout
    with Arrays(folder / "original.h5") as leaky:
        assert leaky.copies("test").any()


def audit(path):
    return run("prepro.py", "--audit", "--output", path.name, cwd=path.parent)


def test_audit_passes_what_is_clean(folder, made):
    result = run("prepro.py", "--audit", "--dataset-path", "datasets/set", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "protocol clean, train 180, val 27, test 27" in result.stdout
    assert "copy of one stands in two splits" in result.stdout
    assert result.stderr == ""


def test_audit_names_what_leaks(folder, original):
    result = run("prepro.py", "--audit", "--output", "original.h5", cwd=folder)
    assert result.returncode == 1
    with Arrays(folder / "original.h5") as leaky:
        found = overlaps(leaky, leaky.near_duplicate_bits)
        both = set(leaky.sources("train")) & set(leaky.sources("test"))
    assert both
    assert all(split != other for split, _, other, *_ in found)  # copies are as they should be
    for source in both:
        assert ("test", source, "train", source, "same photograph") in found
    assert result.stdout.splitlines()[1:] == [
        *(f"overlap: {split} {a} = {other} {b} ({why})" for split, a, other, b, why in found[:20]),
        f"... and {len(found) - 20} more (--verbose lists them)",
    ]
    assert result.stderr == f"prepro.py: audit: {len(found)} overlaps between the splits\n"


def test_the_list_of_overlaps_ends(folder, original, monkeypatch, capsys):
    path = folder / "original.h5"
    with Arrays(path) as leaky:
        found = overlaps(leaky, 50)
    for most in (25, 10_000):
        monkeypatch.setattr("classifier.data.audit.MOST", most)
        monkeypatch.setattr(prepro, "MOST", most)
        assert prepro.audit(path, 50, 1, True) == 1
        shown = capsys.readouterr()
        assert shown.out.count("\noverlap: ") == min(most, len(found)), "--verbose lists all"
        assert ("audit: 25 or more overlaps" in shown.err) == (most == 25)


def copy_row(path, parts):
    """Copy parts of a row of train over a row of test; return the sources of both afterwards."""
    with h5py.File(path, "r+") as file:
        for part in parts:
            file["test"][part][4] = file["train"][part][50]
        return file["train"]["source"].asstr()[50], file["test"]["source"].asstr()[4]


def test_audit_names_a_train_row_that_was_copied_into_test(folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    train, test = copy_row(path, ("X", "source"))
    result = audit(path)
    assert result.returncode == 1
    assert f"overlap: test {test} = train {train} (" in result.stdout


@pytest.mark.parametrize("part", ["X", "source", "hash"])
def test_each_part_of_a_copied_row_is_enough(part, folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    train, test = copy_row(path, [part])
    with Arrays(path) as changed:
        found = overlaps(changed, changed.near_duplicate_bits)
    assert ("test", test, "train", train) in [overlap[:4] for overlap in found]


def test_hashes_that_are_not_those_of_the_pixels_are_found(folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    with h5py.File(path, "r+") as file:
        file["val"]["X"][2] = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        source = file["val"]["source"].asstr()[2]
    with Arrays(path) as changed:
        (found,) = overlaps(changed, changed.near_duplicate_bits)
    assert found == ("val", source, "val", source, "its hash is not that of its pixels")


def rows_of(path, split):
    with Arrays(path) as finished:
        return finished.read(split, slice(None))[0], finished.sources(split), finished.copies(split)


@pytest.mark.parametrize("copy", [0, 1])
def test_a_mirrored_train_photograph_in_test_is_found(copy, folder, made, tmp_path):
    """With a hash that fits its pixels, and said to be a copy or not."""
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    X, sources, copies = rows_of(path, "train")
    row = int(np.flatnonzero(copies == 0)[5])
    with h5py.File(path, "r+") as file:
        file["test"]["X"][4] = X[row][:, ::-1]
        file["test"]["hash"][4] = perceptual_hash(Image.fromarray(X[row][:, ::-1].copy()))
        file["test"]["copy"][4] = copy
        source = file["test"]["source"].asstr()[4]
    with Arrays(path) as changed:
        found = {overlap[:4]: overlap[4] for overlap in overlaps(changed, 50)}
    assert ("test", source, "train", sources[row]) in found
    if copy:
        assert found["test", source, "test", source] == "an augmented copy"


def test_an_augmented_copy_in_val_is_found(folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    with h5py.File(path, "r+") as file:
        file["val"]["copy"][3] = 1
        source = file["val"]["source"].asstr()[3]
    with Arrays(path) as changed:
        assert overlaps(changed, 50) == [("val", source, "val", source, "an augmented copy")]


def test_what_the_hash_in_the_file_hides_the_thumbnails_show(folder, made, tmp_path):
    """The same picture, a little brighter, with the hash of another one."""
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    X, sources, copies = rows_of(path, "train")
    row = int(np.flatnonzero(copies == 0)[5])
    with h5py.File(path, "r+") as file:
        file["test"]["X"][4] = np.clip(X[row].astype(int) + 9, 0, 255)
        source = file["test"]["source"].asstr()[4]
    with Arrays(path) as changed:
        found = {overlap[:4]: overlap[4] for overlap in overlaps(changed, 50)}
    assert found["test", source, "train", sources[row]].startswith("thumbnails correlate by ")


def test_pictures_on_one_background_are_no_overlap(tmp_path):
    """Their thumbnails correlate by more than 0.99, but their hashes tell them apart."""
    random = np.random.default_rng(0)
    slope = np.linspace(20, 230, 96)[:, None, None]
    for label in ("bone", "lung"):
        (tmp_path / "scans/train" / label).mkdir(parents=True)
        for number in range(15):
            cells = Image.fromarray(random.integers(0, 40, (24, 24, 3), np.uint8))
            pixels = slope + np.asarray(cells.resize((96, 96), Image.Resampling.BICUBIC)) / 3
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(tmp_path / f"scans/train/{label}/{number}.png")
    result = run("prepro.py", "--dataset-path", "scans", *FAST, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with Arrays(tmp_path / "scans.h5") as finished:
        assert overlaps(finished, 50) == []
        X = np.concatenate([finished.read(split, slice(None))[0] for split in SPLITS])
    assert len(list(correlated_rows(X))) > 20


def test_a_hash_that_differs_between_the_rows_of_a_photograph_is_found(folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    _, sources, copies = rows_of(path, "train")
    row = int(np.flatnonzero(copies == 1)[5])
    with h5py.File(path, "r+") as file:
        file["train"]["hash"][row] = 0
    with Arrays(path) as changed:
        (found,) = overlaps(changed, 50)
    assert found[1] == sources[row]
    assert found[4] == "its rows have several hashes"


def test_a_copy_in_train_that_is_not_of_its_photograph_is_found(folder, made, tmp_path):
    path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
    _, sources, copies = rows_of(path, "train")
    row = int(np.flatnonzero(copies == 1)[5])
    test = rows_of(path, "test")[0][0]
    with h5py.File(path, "r+") as file:
        (turned,) = augmented(test, [generator("another")])
        file["train"]["X"][row] = turned
    with Arrays(path) as changed:
        for workers in (1, 2):
            (found,) = overlaps(changed, 50, workers)
    assert found[:2] == ("train", sources[row])
    assert found[4] == "not the copy of its photograph that it says"


def test_a_copy_whose_photograph_is_not_in_train_once_is_found(folder, made, tmp_path):
    _, sources, copies = rows_of(folder / "datasets/set.h5", "train")
    rows = next(r for s in sources if len(r := [i for i in range(180) if sources[i] == s]) == 3)
    assert copies[rows].tolist() == [0, 1, 2]
    for number, copy in ((0, 9), (2, 0)):  # none is the photograph itself, or two are
        path = shutil.copy(folder / "datasets/set.h5", tmp_path / "changed.h5")
        with h5py.File(path, "r+") as file:
            file["train"]["copy"][rows[number]] = copy
        with Arrays(path) as changed:
            (found, *_) = overlaps(changed, 50)
        assert found[1] == sources[rows[0]]
        assert found[4] == "its photograph is not in train once"


def test_thumbnails_correlate_with_their_mirror_images_and_no_others():
    pictures = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), np.uint8)
    pictures[4], pictures[5] = pictures[1, :, ::-1], pictures[2] // 2 + 40
    found = {i: others.tolist() for i, others, _ in correlated_rows(pictures)}
    assert found == {1: [4], 2: [5]}


def test_arrays_of_one_class_of_photographs_share_their_digests_as_they_should(folder, made):
    """One split at every size and augmentation; a fingerprint that any change of a row changes."""

    def description(*flags):
        result = run("prepro.py", "--dataset-path", "datasets/set", "--output", "other.h5",
                     "--workers", 1, *flags, cwd=folder)  # fmt: skip
        assert result.returncode == 0, result.stderr
        with Arrays(folder / "other.h5") as other:
            return other.description

    with Arrays(folder / "datasets/set.h5") as arrays:
        first = arrays.description
    plain = description("--target-per-class", 0, "--image-size", 32)
    seed = description("--target-per-class", 60, "--seed", 1)
    leaky = description("--target-per-class", 60, "--protocol", "original")
    assert plain.split_digest == first.split_digest
    assert len({d.split_digest for d in (first, seed, leaky)}) == 3
    assert len({d.fingerprint for d in (first, plain, seed, leaky)}) == 4


def test_audit_can_be_stricter_than_the_arrays(folder, tmp_path, capsys):
    path = tmp_path / "loose.h5"
    result = run("prepro.py", "--dataset-path", "datasets/set", "--near-duplicate-bits", 0, *FAST,
                 "--output", path, cwd=folder)  # fmt: skip
    assert "near-duplicates: 0 pairs by hash" in result.stdout
    with Arrays(path) as finished:
        found = overlaps(finished, 50)
    assert NEAR in [sorted((one, other)) for _, one, _, other, _ in found]
    assert all(why.startswith("near-duplicates, ") for *_, why in found)
    # It is, unless a flag says how strict it should be.
    for bits in (None, 0):
        prepro.audit(path, bits, 1, False)
        assert ("near-duplicates, " in capsys.readouterr().out) == (bits is None)


def test_faint_photographs_are_no_overlap(tmp_path):
    """Fine, faint patterns hash to other bits at another size: that alone is no overlap."""
    random = np.random.default_rng(0)
    for label in ("fog", "snow"):
        (tmp_path / "faint/train" / label).mkdir(parents=True)
        for number in range(15):
            cells = random.normal(128, 2, (64, 64, 3)).round().astype(np.uint8)
            image = Image.fromarray(cells).resize((200, 200))
            image.save(tmp_path / f"faint/train/{label}/{number}.png", compress_level=1)
    result = run("prepro.py", "--dataset-path", "faint", *FAST, cwd=tmp_path)
    assert "near-duplicates: 0 pairs by hash" in result.stdout
    with Arrays(tmp_path / "faint.h5") as finished:
        assert overlaps(finished, finished.near_duplicate_bits) == []


CHANGES = {
    "other version": {"version": 99},
    "unknown": {"command": "rm"},
    "one class": {"classes": ["ant"]},
    "size": {"image_size": "64"},
    "small": {"image_size": 16},
    "large": {"image_size": 2048},
}


def spoil(path, how):
    """Damage an arrays file in one of several ways."""
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "text":
        path.write_text("no arrays")
    elif how == "missing":
        path.unlink()
    else:
        with h5py.File(path, "r+") as file:
            if how == "no description":
                del file["description"]
            elif how in CHANGES:
                kept = read_json(file, "description")
                del file["description"]
                write_json(file, "description", {**kept, **CHANGES[how]})
            elif how == "version 1":
                file.attrs["version"] = 1
            elif how == "no part":
                del file["val/source"]
            elif how == "numbers":
                del file["val/source"]
                file["val/source"] = np.zeros(27, np.int64)
            elif how == "never written":
                shape = file["val/X"].shape
                del file["val/X"]
                file.create_dataset("val/X", shape, np.uint8)
            elif how == "other shape":
                del file["val/Y"]
                file["val/Y"] = np.zeros((1, 3), np.uint8)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut off", "damaged"),
        ("text", "damaged"),
        ("missing", "no such arrays file"),
        ("no description", "description"),
        ("unknown", "description"),
        ("other version", "version 99"),
        ("version 1", "version 1,"),
        ("one class", "it has 1 classes"),
        ("size", "image_size"),
        ("small", "image_size is 16"),
        ("large", "image_size is 2048"),
        ("no part", "val/source is missing"),
        ("numbers", "val/source is int64, not text"),
        ("never written", "val/X is missing or not stored"),
        ("other shape", "val/Y has shape"),
    ],
)
def test_what_is_no_arrays_file_is_refused_with_the_reason(how, reason, folder, made, tmp_path):
    path = Path(shutil.copy(folder / "datasets/set.h5", tmp_path / "bad.h5"))
    spoil(path, how)
    with pytest.raises(UserError, match=f"bad.h5: .*{reason}") as caught:
        Arrays(path)
    assert len(str(caught.value).splitlines()) == 1


def test_audit_of_what_is_no_arrays_file_fails_in_one_line(tmp_path):
    (tmp_path / "bad.h5").write_text("no arrays")
    assert_one_line_error(audit(tmp_path / "bad.h5"), "bad.h5: ", "make it again")


@pytest.fixture
def small(tiny, tmp_path):
    """A folder of its own, with datasets/small: 3 classes of 12 photographs."""
    shutil.copytree(tiny / "datasets/tiny/train", tmp_path / "datasets/small/train")
    return tmp_path


def test_bad_files_are_skipped_listed_and_counted(small):
    red = small / "datasets/small/train/red"
    photo = (red / "image_0000.jpg").read_bytes()
    (red / "cut off.jpg").write_bytes(photo[: len(photo) // 2])
    (red / "nothing.jpg").touch()
    (red / "text\nof two lines.jpg").write_text("no image")
    (red / ".hidden.jpg").write_text("no image")
    args = ("prepro.py", "--dataset-path", "datasets/small", *FAST)

    result = run(*args, cwd=small)
    assert result.returncode == 0
    cut, *rest = result.stderr.splitlines()
    assert cut.startswith("skipped: 'train/red/cut off.jpg': ")
    assert "truncated" in cut.lower()
    assert rest == [
        "skipped: 'train/red/nothing.jpg': empty file",
        "skipped: 'train/red/text\\nof two lines.jpg': not an image",
        "skipped 3 files that cannot be used",
    ]
    assert list(lines_of((24, 6, 6), size=32)) == result.stdout.splitlines()[-10:-1]
    with Arrays(small / "datasets/small.h5") as finished:
        assert [Path(item["file"]).name for item in finished.left_out] == [
            "cut off.jpg", "nothing.jpg", "text\nof two lines.jpg",
        ]  # fmt: skip
    assert (red / "nothing.jpg").exists()

    standing = contents(small)
    strict = run(*args, "--strict", cwd=small)
    assert strict.returncode == 2
    assert strict.stderr.splitlines()[:3] == result.stderr.splitlines()[:3]
    assert "error: 3 files cannot be used (--strict)" in strict.stderr.splitlines()[3]
    assert len(strict.stderr.splitlines()) == 4
    assert contents(small) == standing


@pytest.mark.parametrize("folder", ["green", "."])
def test_a_class_of_bad_files_alone_is_named(folder, small):
    """One class, or every one."""
    for photo in sorted((small / "datasets/small/train" / folder).glob("**/*.jpg")):
        photo.write_bytes(b"")
    standing = contents(small)
    result = run("prepro.py", "--dataset-path", "datasets/small", *FAST, cwd=small)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    named = "green" if folder == "green" else "blue"
    assert f"prepro.py: error: class {named!r} has no usable image" in last
    assert "Traceback" not in result.stderr
    assert contents(small) == standing


def test_names_of_any_kind(small):
    data = small / "datasets/small"
    green = data / "train/green"
    for number, name in enumerate(("a space", "a 'quote\"", "-leading", "été 日本", "back\\slash")):
        (green / f"image_{number:04}.jpg").rename(green / name)
    (data / "train/red").rename(data / "train/rot, weiß")
    # Not UTF-8; and a near-duplicate, so that --verbose prints it.
    shutil.copy(green / "image_0007.jpg", os.fsencode(green) + b"/copy \xff.jpg")
    args = ("prepro.py", "--dataset-path", "datasets/small", *FAST, "--verbose")
    options = {
        "cwd": small,
        "env": {**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        "errors": "surrogateescape",
    }
    result = run(*args, **options)
    assert result.returncode == 0, result.stderr
    assert "1 pairs by hash and 0 known shots in 1 groups" in result.stdout
    result = run(*args, "--audit", **options)
    assert result.returncode == 0, result.stderr
    with Arrays(small / "datasets/small.h5") as finished:
        assert finished.classes == ["blue", "green", "rot, weiß"]
        sources = {source for split in SPLITS for source in finished.sources(split)}
    assert sources == {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}


def test_what_is_no_category_is_left_alone(small):
    train = small / "datasets/small/train"
    for name in ("BACKGROUND_Google", ".cache"):
        shutil.copytree(train / "red", train / name)
    (train / "README.txt").write_text("no category")
    result = run("prepro.py", "--dataset-path", "datasets/small/", *FAST, cwd=small)
    assert result.stderr.splitlines() == [
        "note: datasets/small/train/BACKGROUND_Google is no category: kept apart"
    ]
    assert list(lines_of((24, 6, 6), size=32)) == result.stdout.splitlines()[-10:-1]


def test_a_class_with_one_photograph_is_trained_on_and_named(small):
    data = small / "datasets/small"
    for photo in sorted((data / "train/red").glob("*.jpg"))[1:]:
        photo.unlink()
    result = run("prepro.py", "--dataset-path", "datasets/small", *FAST, cwd=small)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        "note: too few photographs of red to test any: no figure tells how well they are named"
    ]
    with Arrays(small / "datasets/small.h5") as finished:
        red = finished.classes.index("red")
        counts = {split: (finished.labels(split) == red).sum() for split in SPLITS}
    assert counts == {"train": 1, "val": 0, "test": 0}


def fails_in_one_line(cwd, *args, parts):
    """Assert that prepro.py fails in one line that has `parts`, and leaves everything as it was."""
    standing = contents(cwd)
    assert_one_line_error(run("prepro.py", *args, cwd=cwd), "prepro.py: error: ", *parts)
    assert contents(cwd) == standing


@pytest.mark.parametrize(
    ("counts", "args", "parts"),
    [
        ({}, ["--dataset-path", "none"], ["none/train", "--download", "--sample"]),
        ({}, [], ["datasets/caltech_101/train: no such folder"]),
        ({}, ["--archive", "none.zip"], ["none.zip", "--download"]),
        ({"ant": 6, "bee": 0}, [], ["datasets/caltech_101/train/bee: no images"]),
        ({"ant": 6}, [], ["datasets/caltech_101/train: fewer than 2 classes"]),
        ({"ant": 3, "bee": 4}, [], ["every class has fewer than 5 usable images"]),
        ({"ant": 31, "bee": 30}, ["--protocol", "paper"], ["'bee' has 30", "at least 31"]),
        ({"ant": 40, "bee": 12}, ["--val-per-class", "10"], ["'bee'", "12", "--val-per-class"]),
        ({"ant": 41, "bee": 9}, ["--protocol", "original"], ["'bee' has 9", "at least 41"]),
        ({"ant": 6, "b\udcff": 6}, [], ["UTF-8"]),
        ({"ant": 6, "b\x1b[2J": 6}, [], ["control characters"]),
    ],
)
def test_folders_that_are_no_data_set_fail_in_one_line(counts, args, parts, tmp_path):
    write_photographs(tmp_path / "datasets/caltech_101", counts)
    fails_in_one_line(tmp_path, *FAST, *args, parts=parts)


def test_outputs_that_cannot_be_written_fail_in_one_line(small):
    args = ("--dataset-path", "datasets/small", *FAST, "--output")
    (small / "file").touch()
    fails_in_one_line(small, *args, "file/below.h5", parts=["file: cannot create"])
    (small / "folder").mkdir()
    fails_in_one_line(small, *args, "folder", parts=[" folder: "])


def test_a_second_run_into_one_output_refuses_and_the_lock_of_a_killed_one_does_not(small):
    args = ("prepro.py", "--dataset-path", "datasets/small", *FAST)
    (small / "datasets/.small.h5.lock").touch()  # what a killed run leaves
    with locked(small / "datasets/small.h5"):
        assert_one_line_error(run(*args, cwd=small), "datasets/small.h5", "another process")
        assert not (small / "datasets/small.h5").exists()
    assert run(*args, cwd=small).returncode == 0
    assert sorted(path.name for path in (small / "datasets").iterdir()) == ["small", "small.h5"]


def test_a_photograph_that_cannot_be_read_now_ends_the_run(small, monkeypatch):
    """What fails to be read is no bad image: leaving it out would change the split."""

    def fails(file):
        raise OSError(errno.EIO, "Input/output error", str(file))

    monkeypatch.setattr(build, "read_rgb", fails)
    with pytest.raises(OSError, match="Input/output error"):
        build.decode(build.find(small / "datasets/small"), small / "datasets/small", 32,
                     small / "spool")  # fmt: skip


def test_faces_and_their_crops_stand_in_one_split(tmp_path):
    write_photographs(tmp_path / "set", dict.fromkeys(("Faces", "Faces_easy", "ant"), 30))
    made = run("prepro.py", "--dataset-path", "set", *FAST, cwd=tmp_path)
    assert "30 known shots in 30 groups (30 across classes)" in made.stdout
    split_of = {}
    with Arrays(tmp_path / "set.h5") as finished:
        for split in SPLITS:
            split_of |= dict.fromkeys(finished.sources(split), split)
    for number in range(30):
        one, other = (f"train/{c}/image_{number:04}.jpg" for c in ("Faces", "Faces_easy"))
        assert split_of[one] == split_of[other]
    # The audit finds them by their names, whatever the hashes say.
    path = tmp_path / "set.h5"
    with h5py.File(path, "r+") as file:
        sources = {split: file[split]["source"].asstr()[:].tolist() for split in SPLITS}
        row = next(i for i, s in enumerate(sources["test"]) if "Faces_easy" in s)
        twin = sources["test"][row].replace("Faces_easy", "Faces")
        other = next(i for i, s in enumerate(sources["train"]) if "/ant/" in s)
        file["train"]["source"][other] = twin
        file["test"]["source"][sources["test"].index(twin)] = sources["train"][other]
    with Arrays(path) as changed:
        found = {overlap[:4]: overlap[4] for overlap in overlaps(changed, 50)}
    assert found["test", sources["test"][row], "train", twin] == "known to be one shot"


def test_the_folder_of_photographs_can_be_the_current_one(small):
    result = run("prepro.py", "--dataset-path", ".", *FAST, cwd=small / "datasets/small")
    assert result.returncode == 0, result.stderr
    assert (small / "datasets/small.h5").is_file()


@pytest.mark.parametrize(
    "flags",
    [
        ("--image-size", "31"),
        ("--image-size", "64.0"),
        ("--target-per-class", "-1"),
        ("--target-per-class", "65001"),
        ("--val-per-class", "30"),
        ("--near-duplicate-bits", "101"),
        ("--seed", "-1"),
        ("--seed", str(2**64)),
        ("--workers", "513"),
        ("--protocol", "honest"),
        ("--download", "--sample"),
        ("--protocol", "original", "--val-per-class", "5"),
    ],
)
def test_flags_out_of_range_fail_in_one_line(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        prepro.parse_args(flags)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_output_stands_beside_the_photographs_and_is_never_the_archive(
    monkeypatch, capsys, tmp_path
):
    def output(*flags):
        return prepro.parse_args(list(map(str, flags))).output

    (tmp_path / "set/train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "set/train")
    assert output() == Path("datasets/caltech_101.h5")
    assert output("--sample") == Path("datasets/digits.h5")
    for folder in ("..", "../../set/", tmp_path / "set"):
        assert output("--dataset-path", folder).resolve() == tmp_path / "set.h5"
    Path("a.zip").touch()
    Path("link.h5").symlink_to("a.zip")
    with pytest.raises(SystemExit):
        output("--archive", "a.zip", "--output", "link.h5")
    assert "link.h5 is the file of --archive; give another" in capsys.readouterr().err


def test_two_runs_do_not_unpack_at_once(tmp_path):
    with locked(tmp_path / "train"), pytest.raises(UserError, match="train: another process"):
        prepro.fetch(tmp_path, False, tmp_path / "none.zip", False)


def test_a_flag_out_of_range_names_itself(tmp_path):
    fails_in_one_line(tmp_path, "--workers", "0", parts=["--workers", "from 1 to 512", "--help"])


def test_a_full_disk_fails_in_one_line_and_leaves_the_older_arrays(small):
    args = ("prepro.py", "--dataset-path", "datasets/small", *FAST, "--target-per-class", 16)
    (small / "datasets/small.h5").write_text("older arrays")
    standing = contents(small)
    # Full among the decoded photographs (110,592 bytes), in the arrays (201,286), near their end.
    for room in (50_000, 140_000, 170_000):

        def limit(room=room):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        result = run(*args, cwd=small, preexec_fn=limit)
        assert_one_line_error(result, "File too large", "disk")
        assert len(result.stderr) < 250
        assert contents(small) == standing

    assert run(*args, cwd=small).returncode == 0
    assert (small / "datasets/small.h5").stat().st_size > 200_000


def test_an_interrupted_run_leaves_nothing_half_written(small):
    standing = contents(small)
    process = subprocess.Popen(
        command("prepro.py", "--dataset-path", "datasets/small", "--target-per-class", 60_000,
                "--workers", 2),
        cwd=small, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (small / "datasets/.part.small.h5").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip() == "prepro.py: stopped; nothing was left half written"
    assert contents(small) == standing


def test_copies_are_spread_by_seed_and_class():
    labels = ["ant"] * 20 + ["bee"] * 20
    drawn = []
    for seed in range(5):
        photographs, copies = (a.tolist() for a in build.copies(labels, range(40), 30, seed))
        pairs = list(zip(photographs, copies, strict=True))
        assert sorted(i for i, copy in pairs if copy == 0) == list(range(40))
        more = [i for i, copy in pairs if copy == 1]
        drawn += [tuple(i for i in more if i < 20), tuple(i - 20 for i in more if i >= 20)]
    assert {len(one) for one in drawn} == {10}
    assert len(set(drawn)) == 10
    photographs, copies = build.copies(labels, range(40), 10, 0)
    assert photographs.tolist() == list(range(40))
    assert not copies.any()


def small_arrays(path, train, test, classes, grey):
    """Write arrays of plain pictures, from lists of Examples; return their description."""
    about = Description(classes, 32, "clean", False, 0, 0, 50)
    hashes, names = np.zeros((3, 2, 32), np.uint8), [f"train/ant/{n}.jpg" for n in range(3)]
    with create(path, {"train": train, "val": [], "test": test}, names, hashes, about) as out:
        out.write("train", 0, np.full((len(train), 32, 32, 3), grey, np.uint8))
        out.write("test", 0, np.zeros((len(test), 32, 32, 3), np.uint8))
    with Arrays(path) as finished:
        return finished.description


def test_digests_tell_rows_classes_and_splits(tmp_path):
    one, two, three = Example(0, 0, 1), Example(1, 0, 0), Example(2, 0, 1)

    def made(train=(one, two), test=(three,), classes=("ant", "bee"), grey=7):
        return small_arrays(tmp_path / "small.h5", train, test, list(classes), grey)

    first = made()
    assert made() == first
    trains = [(two, one), (Example(0, 0, 0), two), (one, two, Example(1, 1, 0))]
    others = [made(grey=8), made(classes=("ant", "cat")), *map(made, trains)]
    assert len({other.fingerprint for other in [first, *others]}) == 6
    assert {other.split_digest for other in others} == {first.split_digest}
    moved = [made(train=(three,), test=(one, two)), made(train=(one, three), test=(two,))]
    assert len({other.split_digest for other in [first, *moved]}) == 3


def test_labels_of_very_many_rows(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, 9000)
    rows = [Example(0, 0, label) for label in labels]
    small_arrays(tmp_path / "many.h5", rows, [], ["ant", "bee", "cat"], 0)
    with Arrays(tmp_path / "many.h5") as finished:
        np.testing.assert_array_equal(finished.labels("train"), labels)
        one_hot = finished.read("train", slice(4000, 9000))[1]
    np.testing.assert_array_equal(one_hot, np.eye(3, dtype=np.uint8)[labels[4000:]])


def test_very_many_classes_have_room(tmp_path):
    """In an attribute of HDF5, of 64 KiB at most, they would not."""
    classes = [f"class {number:05} of a long name" for number in range(6000)]
    about = Description(classes, 32, "clean", False, 0, 0, 50)
    plan = {"train": [Example(0, 0, 5999)], "val": [], "test": []}
    hashes = np.zeros((1, 2, 32), np.uint8)
    with create(tmp_path / "many.h5", plan, ["train/x/y.jpg"], hashes, about) as out:
        out.write("train", 0, np.zeros((1, 32, 32, 3), np.uint8))
    with Arrays(tmp_path / "many.h5") as arrays:
        assert arrays.classes == classes
        assert arrays.labels("train").tolist() == [5999]
