"""What benchmarks/insight.py counts in the pointing game."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from classifier.prediction.model_file import ModelInfo
from classifier.prediction.verdict import Head

sys.path.insert(0, str(ROOT / "benchmarks"))

import insight  # noqa: E402


def test_a_map_that_is_highest_in_its_own_cell_is_a_hit():
    maps = np.full((4, 6, 4), -1.0)
    maps[0, 2, 0] = maps[1, 3, 1] = maps[2, 0, 2] = 5  # the last row, or first, of their cells
    maps[3, 2, 3] = 5  # one column to the left of its cell
    maps[0, 3, 0] = 3  # less than the highest, and not in its cell
    hits, shares = insight.in_cells(maps)
    assert hits.tolist() == [True, True, True, False]
    assert shares.tolist() == [5 / 8, 1, 1, 0]
    _, nothing = insight.in_cells(np.full((2, 2, 4), -1.0))
    assert nothing.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("turned", [False, True])
def test_grids_are_of_sure_photographs_and_maps_are_asked_for_their_own_class(monkeypatch, turned):
    """The photographs of class k have brightness 40 k, by which the network tells them."""
    labels = np.array([0, 1, 2, 3, 4, 5, 0, 1])
    logits = 9 * np.eye(6)[labels]
    logits[4] = 0.1 * np.eye(6)[4]  # class 4 is never sure
    logits[5] = 9 * np.eye(6)[2]  # and class 5 never right

    class Network:
        enlarge_to = 32

        def __init__(self, *_, **__):
            pass

        def feature_maps(self, images):
            assert self.enlarge_to == images.shape[1] == images.shape[2] == 64
            assert not np.isin(images, (160, 200)).any()
            maps = np.eye(6)[images[:, 16::32, 16::32, 0] // 40]
            return maps[:, ::-1] if turned else maps

    photographs = SimpleNamespace(
        features=logits, pixels=lambda row: np.full((32, 32, 3), 40 * labels[row], np.uint8)
    )
    judge = SimpleNamespace(of_arrays=lambda arrays, split: photographs)
    arrays = SimpleNamespace(labels=lambda split: {"test": labels}[split])
    info = ModelInfo([*"abcdef"], 32, "clean", mirror=True)
    head = Head(np.eye(6), np.zeros(6))
    monkeypatch.setattr(insight, "GRIDS", 20)
    monkeypatch.setattr(insight, "Network", Network)
    monkeypatch.setattr(insight, "Judge", lambda *_: judge)
    monkeypatch.setattr(insight, "Arrays", lambda path: contextlib.nullcontext(arrays))
    monkeypatch.setattr(insight.model_file, "load_weights", lambda path: ({}, info))
    monkeypatch.setattr(insight.model_file, "head_of", lambda *_: head)
    found = insight.pointing("arrays.h5", "model.h5")
    share = 0 if turned else 1
    assert found == {
        "pointed": share, "pointed_low": share, "pointed_high": share, "within": share,
        "grids": 20, "photographs": 6, "classes": 4,
    }  # fmt: skip
