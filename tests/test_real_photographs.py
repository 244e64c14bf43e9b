"""The real Caltech-101, where it is at hand: its archive beside the repository, or unpacked."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, run

from classifier.data.arrays import Arrays
from classifier.data.duplicates import MAX_BITS, Groups, near_rows, same_shots
from classifier.data.splits import SPLITS, assign_splits, protocols
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
    assert "near-duplicates: 1162 pairs in 744 groups (451 across classes)" in printed
    assert "most in Faces 419, Leopards 100" in printed
    assert "number of training examples: 6231" in printed
    assert "Y_train shape: (6231, 101)" in printed
    assert "number of validation examples: 1223" in printed
    assert "number of test examples: 1223" in printed


def test_photographs_of_one_shot_stand_in_one_split_whatever_the_seed(caltech):
    folder, _ = caltech
    with Arrays(folder / "datasets/caltech_101.h5") as arrays:
        codes = {}
        for split in SPLITS:
            codes |= dict(zip(arrays.sources(split), arrays.hashes(split), strict=True))
    sources = sorted(codes)
    labels = [source.split("/")[1] for source in sources]
    groups = Groups(len(sources)).join(near_rows(np.stack([codes[s] for s in sources]), MAX_BITS))
    groups.join(same_shots(sources))
    number = {
        "/".join(Path(source).with_suffix("").parts[1:]): i for i, source in enumerate(sources)
    }
    pairs = [
        *((f"Faces/image_{n:04}", f"Faces_easy/image_{n:04}") for n in range(1, 436)),
        *((f"{label}/image_{a:04}", f"{other}/image_{b:04}") for label, a, other, b in SEEN),
    ]
    for name in ("clean", "paper"):
        for seed in range(5):
            splits = assign_splits(labels, groups.of.tolist(), protocols()[name], seed)
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


def test_paper_has_30_a_class_and_is_clean(caltech):
    folder, _ = caltech
    args = ("--output", "datasets/paper.h5")
    made = run("prepro.py", "--protocol", "paper", "--target-per-class", 0, *args, cwd=folder)
    assert "number of training examples: 2525" in made.stdout
    assert "number of validation examples: 505" in made.stdout
    assert run("prepro.py", "--audit", *args, cwd=folder).returncode == 0


def test_original_leaks_and_says_so(caltech):
    folder, _ = caltech
    args = ("--output", "datasets/original.h5")
    made = run("prepro.py", "--protocol", "original", "--target-per-class", 60, *args, cwd=folder)
    assert "number of test examples: 2020" in made.stdout
    assert "leaks" in made.stdout
    audit = run("prepro.py", "--audit", "--verbose", *args, cwd=folder)
    assert audit.returncode == 1
    assert "(same photograph)" in audit.stdout


def test_a_short_training_learns(caltech):
    folder, _ = caltech
    for label in ("airplanes", "Faces_easy", "yin_yang"):
        target = folder / "datasets/three/train" / label
        target.mkdir(parents=True)
        for photo in sorted((folder / "datasets/caltech_101/train" / label).iterdir())[:60]:
            shutil.copy(photo, target)
    made = run("prepro.py", "--dataset-path", "datasets/three", "--image-size", 32,
               "--target-per-class", 120, cwd=folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    result = run(
        "train.py", "--data", "datasets/three.h5", "--batch-size", 16, "--num-epochs", 4, cwd=folder
    )
    assert result.returncode == 0, result.stderr
    training = model_file.load_info(folder / "models/resnet50.h5").training
    assert training["test"]["accuracy"] > 0.6  # chance is 0.33
