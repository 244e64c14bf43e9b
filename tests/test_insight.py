"""What benchmarks/insight.py counts in the pointing game, and writes into tables."""

import sys

import numpy as np
from conftest import ROOT

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
