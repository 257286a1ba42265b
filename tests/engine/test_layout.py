"""A layer's value to (N, K, *S) and back; grids of tokens whose sizes the picture decides."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import ContractError, InputError, Preprocess
from cam_onnx.axes import Axes, Tokens
from cam_onnx.contract import Contract, Layer
from cam_onnx.engine.layout import Layout, picture_size

OPEN = (None, None)


def layout(axes: Axes, size=None) -> Layout:
    return Layout(Layer("the layer", "a", "g", axes), size)


# axes -> the shape of a value that has them
SHAPES = {
    Axes(): (2, 3, 4, 5),
    Axes(0, 3, (1, 2)): (2, 4, 5, 3),
    Axes(1, 2, (0,)): (7, 2, 3),
    Axes(0, 2, (1,), Tokens(1, (4, 5))): (2, 21, 3),
    Axes(0, 2, (1,), Tokens(3, (4, 5))): (2, 25, 3),  # two more behind
    Axes(1, 2, (0,), Tokens(0, (2, 2, 3))): (12, 2, 3),
    Axes(0, 1, (2,), Tokens(2, (4, None))): (2, 3, 22),
}


@pytest.mark.parametrize("axes", SHAPES, ids=str)
def test_there_and_back_changes_nothing(axes):
    value = np.random.default_rng(0).standard_normal(SHAPES[axes]).astype(np.float16)
    here = layout(axes)
    turned = here.turned(value)
    assert turned.shape[:2] == (2, 3)
    for row in range(2):
        like = np.take(value, [row], axis=axes.batch)
        back = here.back(turned[row : row + 1].astype(np.float32), like)
        np.testing.assert_array_equal(back, like)
        assert back.dtype == np.float16


def test_the_grid_is_read_row_by_row_behind_the_first():
    value = np.arange(23).reshape(1, 23, 1)
    turned = layout(Axes(0, 2, (1,), Tokens(2, (4, 5)))).turned(value)
    np.testing.assert_array_equal(turned[0, 0], np.arange(2, 22).reshape(4, 5))


def test_what_is_put_back_leaves_other_tokens_of_the_sample_as_they_are():
    here = layout(Axes(1, 2, (0,), Tokens(1, (2, 2))))
    own = np.arange(12.0).reshape(6, 1, 2)
    back = here.back(np.full((3, 2, 2, 2), -1.0), own)
    assert back.shape == (6, 3, 2)
    for row in range(3):
        np.testing.assert_array_equal(back[[0, 5], row], own[[0, 5], 0])
        np.testing.assert_array_equal(back[1:5, row], -1)


# grid of the contract, tokens of it, size of the picture -> sizes
SETTLED = [
    (OPEN, 196, (224, 224), (14, 14)),
    (OPEN, 126, (224, 149), (14, 9)),
    (OPEN, 60, (160, 96), (10, 6)),
    (OPEN, 180, (160, 288), (10, 18)),
    (OPEN, 108, (100, 300), (6, 18)),  # patches of 16: the rest is cut off
    (OPEN, 7, (16, 115), (1, 7)),
    ((None, 9), 126, None, (14, 9)),
    ((7, None), 49, (224, 224), (7, 7)),
    ((None, None, None), 36, (48, 32, 96), (3, 2, 6)),
    ((2, None, None), 24, (8, 48, 64), (2, 3, 4)),
]


@pytest.mark.parametrize(("grid", "count", "size", "expected"), SETTLED)
def test_sizes_that_depend_on_the_picture_are_settled(grid, count, size, expected):
    value = np.zeros((1, count + 1, 2))
    assert layout(Axes(0, 2, (1,), Tokens(1, grid)), size).turned(value).shape == (1, 2, *expected)


UNSETTLED = [
    (OPEN, 196, None, "196 tokens of a picture of unknown size"),
    (OPEN, 195, (224, 224), "195 tokens of a picture of 224 x 224 are not known to be one grid"),
    (OPEN, 0, (224, 224), "0 tokens"),
    (OPEN, 196, (224,), "picture of 224 are"),
    ((None, 9), 125, (224, 144), "125 tokens"),
]


@pytest.mark.parametrize(("grid", "count", "size", "words"), UNSETTLED)
def test_what_is_not_known_to_be_a_grid_is_refused(grid, count, size, words):
    with pytest.raises(InputError, match=f"layer 'the layer': .*{words}"):
        layout(Axes(0, 2, (1,), Tokens(1, grid)), size).turned(np.zeros((1, count + 1, 2)))


MISFITS = {
    "another rank": (Axes(), (1, 2, 3), r"axes \(0, 1, 2, 3\)"),
    "a short list": (Axes(0, 2, (1,), Tokens(1, (4, 4))), (1, 16, 2), "16 tokens from 1 on"),
}


@pytest.mark.parametrize("row", MISFITS)
def test_a_value_that_does_not_have_its_axes(row):
    axes, shape, words = MISFITS[row]
    with pytest.raises(ContractError, match=f"'the layer' has shape .*{words}.*convert the original again"):
        layout(axes).turned(np.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "preprocess", "expected"),
    [
        ((1, 3, 20, 30), None, (20, 30)),
        ((1, 20, 30, 3), None, (20, 30)),
        ((1, 20, 30, 3), Preprocess(layout="NHWC"), (20, 30)),
        ((1, 3, 20, 3), Preprocess(layout="NCHW"), (20, 3)),
        ((1, 3, 8, 20, 30), None, (8, 20, 30)),
        ((1, 3, 50), None, (50,)),
        ((1, 3), None, None),
    ],
)
def test_the_picture_has_a_size(shape, preprocess, expected):
    contract = Contract(roles={"image": "x"}, layers=(), score="y", preprocess=preprocess)
    assert picture_size(contract, {"x": np.zeros(shape)}) == expected
    assert picture_size(contract, {"other": np.zeros(shape)}) is None
