"""No NaN where the derivative is finite: what a Where masks, and bases, factors and entries that are 0 or infinite."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from cam_onnx import autodiff

HEADER = '<ir_version: 9, opset_import: ["": 20]> g (double[4] x) => (double[4] y)'
MASKED = "zero = Constant<value = double {0.0}>() keep = Greater(x, zero)"


def gradient(body: str, x: list[float]) -> list[float]:
    model = autodiff.gradient(onnx.parser.parse_model(f"{HEADER} {{ {body} }}"), ["x"], ["y"])
    with np.errstate(all="ignore"):
        feeds = {"x": np.array(x), "cotangent/y": np.ones(4)}
        [grad] = ReferenceEvaluator(model).run(["grad/x"], feeds)
    return np.asarray(grad).tolist()


@pytest.mark.parametrize(
    ("inner", "slope"),
    [
        ("Log(x)", lambda x: 1 / x),
        ("Sqrt(x)", lambda x: 0.5 / np.sqrt(x)),
        ("Reciprocal(x)", lambda x: -1 / x**2),
        ("Div(one, x)", lambda x: -1 / x**2),
        ("Pow(x, half)", lambda x: 0.5 / np.sqrt(x)),
        ("Pow(x, minus)", lambda x: -1 / x**2),
    ],
)
def test_a_masked_singularity_has_gradient_0(inner, slope):
    constants = (
        "one = Constant<value = double {1.0}>() half = Constant<value = double {0.5}>() "
        "minus = Constant<value = double {-1.0}>()"
    )
    found = gradient(f"{MASKED} {constants} h = {inner} y = Where(keep, h, zero)", [0.0, 0.5, 2.0, 0.0])
    assert found == pytest.approx([0.0, slope(0.5), slope(2.0), 0.0])


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        ("y = Div(x, x)", [1.0, 2.0, -3.0, 4.0], [0.0, 0.0, 0.0, 0.0]),
        ("y = Clip(x)", [0.0, 1.0, -1.0, 2.0], [1.0, 1.0, 1.0, 1.0]),
        ("two = Constant<value = double {2.0}>() y = Pow(x, two)", [0.0, 1.0, -1.0, 2.0], [0.0, 2.0, -2.0, 4.0]),
        ("y = Softmax<axis=0>(x)", [0.0, -np.inf, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_special_values(body, x, expected):
    assert gradient(body, x) == pytest.approx(expected, abs=1e-12)


def test_a_row_that_a_mask_leaves_empty_gives_nothing_back():
    body = (
        "zero = Constant<value = double {0.0}>() least = ReduceMax<keepdims=1>(x) none = IsInf(least) "
        "p = Softmax<axis=0>(x) h = Where(none, zero, p) y = Add(h, x)"
    )
    assert gradient(body, [-np.inf] * 4) == [1.0] * 4
