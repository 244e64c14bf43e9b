"""The embedded sample, on three stand-ins for its 1,797 digits."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from classifier.data.sample import write_digits


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    images = np.stack([np.full((8, 8), value, float) for value in (0, 8, 16)])
    few = SimpleNamespace(images=images, target=np.array([7, 3, 7]))
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)


def test_digits_are_written_by_class_with_their_whole_range_of_grey(tmp_path):
    (tmp_path / ".train.part/7").mkdir(parents=True)  # what a killed run left
    (tmp_path / ".train.part/7/old.jpg").touch()
    write_digits(tmp_path)
    found = {}
    for path in tmp_path.rglob("*.jpg"):
        with Image.open(path) as image:
            assert image.size == (64, 64)
            found[path.relative_to(tmp_path).as_posix()] = image.getpixel((32, 32))
    assert found == {
        "train/7/image_0000.jpg": 0, "train/3/image_0001.jpg": 128, "train/7/image_0002.jpg": 255,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_photographs_that_stand_there_are_left_as_they_are(tmp_path):
    (tmp_path / "train").mkdir()
    write_digits(tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "train"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    saved = []

    def save(_picture, path, **_):
        saved.append(path)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        path.touch()

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match=r"No space left on device: .*train'"):
        write_digits(tmp_path)
    assert len(saved) == 2
    assert list(tmp_path.iterdir()) == []
