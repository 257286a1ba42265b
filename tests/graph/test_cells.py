"""Axes that a reshape splits and joins keep their roles where these are certain."""

from __future__ import annotations

import pytest

from cam_onnx.graph.cells import regrouped

GRID = ("n", "s0", "s1", "c")

# roles, sizes before, sizes behind -> roles behind
ROWS = {
    "the same": (GRID, ("N", 8, 6, 5), ("N", 8, 6, 5), GRID),
    "cells": (GRID, ("N", 8, 6, 5), ("N", 4, 2, 3, 2, 5), ("n", "s0", "d0", "s1", "d1", "c")),
    "cells, and back": (
        ("n", "s0", "d0", "s1", "d1", "c"), ("N", 4, 2, 3, 2, 5), ("N", 8, 6, 5), GRID,
    ),
    "cells that have changed places": (
        ("n", "s0", "d1", "s1", "d0", "c"), ("N", 4, 2, 3, 2, 5), ("N", 8, 6, 5), None,
    ),
    "cells to channels": (
        ("n", "s0", "s1", "d1", "d0", "c"), ("N", 4, 3, 2, 2, 5), ("N", 4, 3, 20), GRID,
    ),
    "channels first": (
        ("n", "c", "d0", "d1", "s0", "s1"), ("N", 5, 2, 2, 4, 3), ("N", 20, 4, 3), ("n", "c", "s0", "s1"),
    ),
    "windows to the batch": (("n", "s0", "s1", "d0", "d1", "c"), (1, 4, 3, 2, 2, 5), (12, 2, 2, 5), None),
    "a grid to channels": (GRID, ("N", 4, 3, 5), ("N", 4, 15), None),
    "heads": (("n", "t", "c"), ("N", 17, 8), ("N", 17, 2, 4), ("n", "t", "c", "c")),
    "heads together": (("n", "t", "c", "c"), ("N", 17, 2, 4), ("N", 17, 8), ("n", "t", "c")),
    "a list in parts": (("n", "t", "c"), ("N", 16, 8), ("N", 4, 4, 8), None),
    "a batch of another name": (GRID, ("N", 4, 3, 6), ("M", 4, 3, 2, 3), ("n", "s0", "s1", "c", "c")),
    "two symbols of other names": (GRID, ("N", "H", 3, 6), ("M", "K", 3, 2, 3), None),
    "a symbol that became a number": (GRID, ("N", "H", 3, 6), ("N", 4, 3, 6), None),
    "a size of one more": (GRID, ("N", 4, 3, 6), ("N", 4, 3, 6, 1), None),
    "unknown rank": (GRID, ("N", 4, 3, 6), (), None),
    "unknown": (GRID, ("N", 4, 3, 6), (None, 4, None, 6), None),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_roles_behind_a_reshape(row):
    roles, given, taken, expected = ROWS[row]
    assert regrouped(roles, given, taken) == expected
