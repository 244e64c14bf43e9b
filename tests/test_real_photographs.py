"""The real Caltech-101, where it is at hand: its archive beside the repository, or unpacked."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from browser import check_report, needs_browser
from conftest import ROOT, run
from small import formats, run_export, run_train, small_network

from classifier.data import build
from classifier.data.arrays import Arrays, Description
from classifier.data.audit import overlaps
from classifier.data.duplicates import MAX_BITS
from classifier.data.splits import SPLITS, assign_splits, protocols
from classifier.export.formats import FORMATS
from classifier.hdf5 import read_json
from classifier.prediction import model_file

ARCHIVE = ROOT.parent / "shared/caltech-101/101_ObjectCategories.tar.gz"
FOLDER = ROOT / "datasets/caltech_101"

# Pairs that are one shot by eye: encoded twice, drawn again, cut out.
SEEN = [
    ("strawberry", 2, "strawberry", 33), ("pyramid", 8, "pyramid", 43),
    ("crayfish", 44, "crayfish", 51), ("kangaroo", 35, "kangaroo", 50),
    ("inline_skate", 27, "inline_skate", 30), ("stop_sign", 22, "stop_sign", 49),
    ("brain", 1, "brain", 48), ("crocodile", 36, "crocodile_head", 34),
    ("flamingo", 37, "flamingo_head", 28), ("cougar_body", 29, "cougar_face", 48),
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not ARCHIVE.is_file() and not (FOLDER / "train").is_dir(),
    reason="no Caltech-101 here: neither datasets/caltech_101 nor ../shared/caltech-101",
)


@pytest.fixture(scope="module")
def caltech(tmp_path_factory):
    """A folder with datasets/caltech_101 and, under the clean protocol, its arrays."""
    folder = tmp_path_factory.mktemp("caltech")
    source = []
    if (FOLDER / "train").is_dir():
        (folder / "datasets").mkdir()
        (folder / "datasets/caltech_101").symlink_to(FOLDER)
    else:
        source = ["--archive", ARCHIVE]
    result = run("prepro.py", *source, "--target-per-class", 0, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_counts_and_near_duplicates(caltech):
    _, printed = caltech
    assert "597 pairs by hash and 565 known shots in 744 groups (451 across classes)" in printed
    assert "most in Faces 419, Leopards 100" in printed
    assert "number of training examples: 6231" in printed
    assert "Y_train shape: (6231, 101)" in printed
    assert "number of validation examples: 1223" in printed
    assert "number of test examples: 1223" in printed


@pytest.fixture(scope="module")
def photographs(caltech):
    """The photographs as prepro.py decoded them, taken back from its arrays."""
    folder, _ = caltech
    spool, sources, hashes = folder / "spool", [], []
    with Arrays(folder / "datasets/caltech_101.h5") as arrays, spool.open("wb") as out:
        for split in SPLITS:
            sources += arrays.sources(split)
            hashes.append(arrays.hashes(split))
            out.write(arrays.read(split, slice(None))[0])
        assert len(sources) == 8677
        return build.Photographs(sources, arrays.classes, np.concatenate(hashes), [], spool, 64)


@pytest.fixture(scope="module")
def groups(photographs):
    return build.group(photographs, MAX_BITS)


def test_photographs_of_one_shot_stand_in_one_split_whatever_the_seed(photographs, groups):
    names = [str(Path(*Path(source).with_suffix("").parts[1:])) for source in photographs.sources]
    number = {name: i for i, name in enumerate(names)}
    pairs = [
        *((f"Faces/image_{n:04}", f"Faces_easy/image_{n:04}") for n in range(1, 436)),
        *((f"{label}/image_{a:04}", f"{other}/image_{b:04}") for label, a, other, b in SEEN),
    ]
    for name in ("clean", "paper"):
        for seed in range(10):
            splits = assign_splits(photographs.labels, groups.of, protocols()[name], seed)
            for one, other in pairs:
                both = {splits[number[one]], splits[number[other]]} - {None}
                assert len(both) <= 1, (name, seed, one, other)
            assert splits.count("test") == {"clean": 1223, "paper": 2945}[name]


def test_clean_is_clean_and_background_is_apart(caltech):
    folder, _ = caltech
    audit = run("prepro.py", "--audit", cwd=folder)
    assert audit.returncode == 0, audit.stdout
    background = folder / "datasets/caltech_101/BACKGROUND_Google"
    assert len(list(background.iterdir())) == 467 + 1  # and a JPEG named tmp
    with h5py.File(folder / "datasets/caltech_101.h5") as file:
        classes = read_json(file, "description")["classes"]
    assert len(classes) == 101
    assert "BACKGROUND_Google" not in classes


def made(photographs, groups, folder, name, target):
    """Return the arrays that prepro.py makes under a protocol."""
    path, protocol = folder / f"{name}.h5", protocols()[name]
    plan = build.make_plan(photographs, groups, protocol, target, seed=0)
    about = Description(photographs.classes, 64, name, protocol.leaks, 0, target, MAX_BITS)
    build.write([path], plan, photographs, about, workers=2)
    return Arrays(path)


def test_paper_has_30_a_class_and_is_clean(photographs, groups, tmp_path):
    with made(photographs, groups, tmp_path, "paper", target=0) as arrays:
        assert [arrays.count(split) for split in SPLITS] == [2525, 505, 2945]
        assert overlaps(arrays, MAX_BITS, workers=2) == []


def test_original_leaks_and_the_audit_says_so(photographs, groups, tmp_path):
    with made(photographs, groups, tmp_path, "original", target=60) as arrays:
        assert arrays.count("test") == 2020
        found = overlaps(arrays, MAX_BITS, workers=2)
    assert sum(why == "same photograph" for *_, why in found) > 400


@pytest.fixture(scope="module")
def trained(caltech):
    """A model of three classes: the small network, for the whole one learns in test_whole_way."""
    folder, _ = caltech
    for label in ("airplanes", "Faces_easy", "yin_yang"):
        target = folder / "datasets/three/train" / label
        target.mkdir(parents=True)
        for photo in sorted((folder / "datasets/caltech_101/train" / label).iterdir())[:60]:
            shutil.copy(photo, target)
    background = folder / "datasets/three/BACKGROUND_Google"
    background.mkdir()
    for photo in sorted((folder / "datasets/caltech_101/BACKGROUND_Google").iterdir())[:40]:
        shutil.copy(photo, background)
    arrays = folder / "datasets/three.h5"
    made = run("prepro.py", "--dataset-path", "datasets/three", "--image-size", 32,
               "--target-per-class", 120, cwd=folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    model = folder / "models/three.h5"
    words = ("--batch-size", 16, "--num-epochs", 6, "--crop", 0, "--mixup", 0,
             "--precision", "float32")  # fmt: skip
    assert run_train("--data", arrays, "--model", model, "--logs", folder / "logs", *words) == 0
    return model, next((folder / "logs").glob("*/report.html"))


def test_a_short_training_learns(trained):
    with small_network():
        info = model_file.load_info(trained[0])
    assert info.training["test"]["accuracy"] > 0.6  # chance is 0.33
    assert info.known is not None


@formats()
def test_it_says_the_same_in_other_runtimes(name, trained, tmp_path, capsys):
    model, arrays = trained[0], trained[0].parents[1] / "datasets/three.h5"
    output = tmp_path / f"three{FORMATS[name].suffix}"
    capsys.readouterr()
    assert run_export(model, "--to", name, "--output", output, "--data", arrays) == 0
    told = capsys.readouterr().out
    assert "compared with predict.py on 36 photographs of test" in told
    assert "; 0 named otherwise, 0 unknown to one alone\n" in told


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_its_report_holds_in_a_browser(trained, width):
    _, page = trained
    text = page.read_text()
    assert "40 photographs in" in text
    check_report(page, width)
