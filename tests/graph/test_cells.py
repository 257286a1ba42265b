"""Axes that a reshape splits and joins keep their roles where these are certain."""

from __future__ import annotations

from typing import Any

import pytest

from cam_onnx.graph.cells import regrouped

GRID = ("n", "s0", "s1", "c")

# roles, sizes before, sizes behind -> roles behind
ROWS = {
    "the same": (GRID, ("N", 8, 6, 5), ("N", 8, 6, 5), GRID),
    "cells": (GRID, ("N", 8, 6, 5), ("N", 4, 2, 3, 2, 5), ("n", "s0", "d0", "s1", "d1", "c")),
    "cells to channels": (
        ("n", "s0", "s1", "d1", "d0", "c"), ("N", 4, 3, 2, 2, 5), ("N", 4, 3, 20), GRID,
    ),
    "channels first": (
        ("n", "c", "d0", "d1", "s0", "s1"), ("N", 5, 2, 2, 4, 3), ("N", 20, 4, 3), ("n", "c", "s0", "s1"),
    ),
    "windows to the batch": (
        ("n", "s0", "s1", "d0", "d1", "c"), (1, 4, 3, 2, 2, 5), (12, 2, 2, 5), ("w", "d0", "d1", "c"),
    ),
    "a grid to channels": (GRID, ("N", 4, 3, 5), ("N", 4, 15), ("n", "s0", "w")),
    "heads": (("n", "t", "c"), ("N", 17, 8), ("N", 17, 2, 4), ("n", "t", "c", "c")),
    "heads together": (("n", "t", "c", "c"), ("N", 17, 2, 4), ("N", 17, 8), ("n", "t", "c")),
    "a list in parts": (("n", "t", "c"), ("N", 16, 8), ("N", 4, 4, 8), None),
    "a batch of another name": (GRID, ("N", 4, 3, 6), ("M", 4, 3, 2, 3), ("n", "s0", "s1", "c", "c")),
    "two symbols of other names": (GRID, ("N", "H", 3, 6), ("M", "K", 3, 2, 3), None),
    "a symbol that became a number": (GRID, ("N", "H", 3, 6), ("N", 4, 3, 6), GRID),
    "a size of one more": (GRID, ("N", 4, 3, 6), ("N", 4, 3, 6, 1), (*GRID, "?")),
    "a sample as one": (GRID, ("N", 4, 3, 6), (1, 4, 3, 6), None),
    "a list": (GRID, ("N", 4, 3, 6), ("N", 12, 6), ("n", "t", "c")),
    "no factor": (GRID, ("N", 4, 3, 6), ("N", 6, 2, 6), None),
    "unknown rank": (GRID, ("N", 4, 3, 6), (), None),
    "unknown": (GRID, ("N", 4, 3, 6), (None, 4, None, 6), None),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_roles_behind_a_reshape(row):
    roles, given, taken, expected = ROWS[row]
    assert regrouped(roles, given, taken) == expected


# roles, sizes, then reshapes (lists) and transpositions (tuples) -> roles at the end
WAYS = {
    "cells, and back": ((GRID, ("N", 8, 6, 5)), [["N", 4, 2, 3, 2, 5], ["N", 8, 6, 5]], GRID),
    "cells that have changed places": (
        (GRID, ("N", 8, 6, 5)), [["N", 4, 2, 3, 2, 5], (0, 1, 4, 3, 2, 5), ["N", 8, 6, 5]], ("n", "w", "w", "c"),
    ),
    "windows to the batch, and back": (
        (GRID, ("N", 8, 6, 5)),
        [["N", 4, 2, 3, 2, 5], (0, 1, 3, 2, 4, 5), ["M", 2, 2, 5], ["M", 4, 5], ["M", 2, 2, 5], ["N", 4, 3, 2, 2, 5],
         (0, 1, 3, 2, 4, 5), ["N", 8, 6, 5]],
        GRID,
    ),
    "windows of the other size, and back": (  # a grid of distant positions, as maxvit's
        (GRID, ("N", 8, 6, 5)),
        [["N", 2, 4, 2, 3, 5], (0, 2, 4, 1, 3, 5), ["M", 4, 5], ["N", 4, 3, 2, 2, 5], (0, 3, 1, 4, 2, 5),
         ["N", 8, 6, 5]],
        GRID,
    ),
    "windows put back turned": (
        (GRID, ("N", 8, 6, 5)),
        [["N", 4, 2, 3, 2, 5], (0, 1, 3, 2, 4, 5), ["M", 4, 5], ["N", 4, 3, 2, 2, 5], (0, 1, 3, 4, 2, 5),
         ["N", 8, 6, 5]],
        ("n", "s0", "w", "c"),
    ),
    "samples in one list, and back": ((("n", "t", "c"), ("N", 12, 5)), [["M", 5], ["N", 12, 5]], ("n", "t", "c")),
    "samples of known number": ((("n", "t", "c"), (2, 12, 5)), [[24, 5], [2, 12, 5]], ("n", "t", "c")),
    "unrolled twice": (  # tokens of one cell lie far apart, so that a maximum over the first axis is a pooling
        (GRID, ("N", 8, 12, 5)),
        [["N", 4, 2, 6, 2, 5], (0, 2, 4, 1, 3, 5), ["M", 4, 6, 5], ["M", 2, 2, 3, 2, 5], (0, 2, 4, 1, 3, 5),
         ["K", 2, 3, 5], ["N", 96, 5], ["N", 4, 4, 6, 5]],
        ("n", "w", "w", "t", "c"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", WAYS)
def test_roles_on_a_way(row):
    start, steps, expected = WAYS[row]
    roles: tuple[str, ...] | None = start[0]
    sizes: Any = start[1]
    for step in steps:
        if isinstance(step, tuple):
            roles, sizes = tuple(roles[i] for i in step), [sizes[i] for i in step]
        else:
            roles, sizes = regrouped(roles, sizes, step), step
        if roles is None:
            break
    assert roles == expected
