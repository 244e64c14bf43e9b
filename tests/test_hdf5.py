"""HDF5 files from anyone: only what lies in the file itself, in full, is read."""

import contextlib

import h5py
import numpy as np
import pytest

from classifier.errors import UserError
from classifier.hdf5 import (
    MAX_JSON,
    MOST_MEMBERS,
    dataset,
    find_datasets,
    member,
    open_hdf5,
    read,
    read_json,
    write_json,
)


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as opened:
        yield opened


def test_json_comes_back_as_it_was(file):
    value = {"été": ["\udcff", 1, 2.5, None, True], "long": "x" * 100_000}
    write_json(file, "value", value)
    assert read_json(file, "value") == value


def test_what_is_no_json_is_a_value_error(file):
    file["nested"] = np.full(200_000, ord("["), np.uint8)
    file["words"] = np.frombuffer(b"{oops", np.uint8)
    file["bytes"] = np.array([255], np.uint8)
    file["numbers"] = np.zeros(4)
    file["texts"] = np.array(["{}"], h5py.string_dtype())
    file.create_dataset("huge", (MAX_JSON + 1,), np.uint8)
    for name in (*file, "none"):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            read_json(file, name)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(file, "nested")


def test_json_is_read_up_to_its_limit(file, monkeypatch):
    monkeypatch.setattr("classifier.hdf5.MAX_JSON", 10)
    write_json(file, "fits", "x" * 8)
    write_json(file, "long", "x" * 9)
    assert read_json(file, "fits") == "x" * 8
    with pytest.raises(ValueError, match="long is missing, or no JSON"):
        read_json(file, "long")


def test_json_is_read_up_to_so_many_values(file, monkeypatch):
    monkeypatch.setattr("classifier.hdf5.MAX_VALUES", 10)
    write_json(file, "fits", [[]] * 5)
    write_json(file, "many", [[]] * 6)
    assert read_json(file, "fits") == [[]] * 5
    with pytest.raises(ValueError, match="many has too many values"):
        read_json(file, "many")


def test_data_may_be_large_but_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(100_000)
        file.attrs["large"] = np.zeros(60_000, np.uint8)
    with open_hdf5(path, "file") as file:
        np.testing.assert_array_equal(read(file, dataset(file, "data")), np.arange(100_000))
    for limit in ("MOST", "TOTAL"):
        with monkeypatch.context() as patch:
            patch.setattr(f"classifier.hdf5._Metered.{limit}", 50_000)
            with pytest.raises(UserError, match=r"file\.h5: not a file, or damaged"):
                open_hdf5(path, "file")


def test_datasets_of_every_kind_but_plain_ones_are_none(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(4)
    file["plain"] = np.ones(4)
    file["fixed"] = np.array([b"ab"])
    file["empty"] = np.zeros((0, 3))
    file["soft"] = h5py.SoftLink("/plain")
    file["far"] = h5py.ExternalLink("other.h5", "/x")
    file["texts"] = np.array(["text"], h5py.string_dtype())
    file.create_dataset("packed", data=np.ones(4), compression="gzip")
    file.create_dataset("shuffled", data=np.ones(4), shuffle=True)
    file.create_dataset("elsewhere", (4,), np.uint8, external="/dev/zero")
    file.create_dataset("chunked", data=np.ones(4), chunks=(2,))
    file.create_dataset("claimed", (1 << 40,), np.uint8)  # never written: nothing is stored
    layout = h5py.VirtualLayout((4,), float)
    layout[:] = h5py.VirtualSource(file["plain"])
    file.create_virtual_dataset("virtual", layout)
    sound = {name for name in file if dataset(file, name) is not None}
    assert sound == {"plain", "fixed", "empty"}
    assert member(file, "far") is None
    assert member(file, "plain/x") is None


def test_datasets_are_found_by_name_at_any_depth(file):
    file["layer/model/layer/kernel"] = np.ones((2, 3))
    file["layer/bias"] = np.zeros(3)
    file["layer/link"] = h5py.SoftLink("/layer/bias")
    file["layer"].create_dataset("packed", data=np.ones(4), compression="gzip")
    found = find_datasets(file["layer"])
    assert found.pop("packed") is None  # there, but not to be read
    assert {name: part.shape for name, part in found.items()} == {"kernel": (2, 3), "bias": (3,)}


def test_a_search_for_datasets_ends_whatever_the_file_holds(file, monkeypatch):
    """Groups that hold themselves, many times over, and very many or very deep members."""
    looked_at = iter(range(MOST_MEMBERS))
    monkeypatch.setattr("classifier.hdf5.member", lambda *at: (next(looked_at), member(*at))[1])
    layer = file.create_group("layer")
    for number in range(60):
        layer[f"{number}"] = layer
    layer["kernel"] = np.ones(3)
    assert set(find_datasets(layer)) == {"kernel"}


@pytest.mark.parametrize("libver", ["earliest", "latest"])  # two ways of storing names
def test_of_very_many_or_very_deep_members_a_few_are_looked_at(tmp_path, libver):
    with h5py.File(tmp_path / "file.h5", "w", libver=libver) as file:
        for number in range(100):
            file[f"wide/{number:03}"] = np.ones(1)
        file["/".join(["deep", *map(str, range(100)), "kernel"])] = np.ones(3)
        assert len(find_datasets(file["wide"])) == MOST_MEMBERS
        assert find_datasets(file["deep"]) == {}


def test_a_name_that_is_no_text_does_not_count(file):
    file["layer/kernel"] = np.ones(3)
    file[b"layer/\xff"] = np.ones(3)
    assert set(find_datasets(file["layer"])) == {"kernel"}


def test_damaged_bytes_are_no_traceback(tmp_path):
    """Bytes changed anywhere: what is read is an array, None or a ValueError."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        write_json(file, "value", {"a": 1})
        file["group/part"] = np.arange(10)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            opened = open_hdf5(path, "file")
        except UserError:
            continue
        with opened as file, contextlib.suppress(ValueError):
            find_datasets(file)
            dataset(file, "group/part")
            read_json(file, "value")
