"""Tensors in sequences: which one comes out must be known at conversion, and a wrong one is noticed."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import UnsupportedOperators, autodiff
from cam_onnx.autodiff.table import RULES, Table
from tests.autodiff.check import Trial
from tests.autodiff.graphs import GRAPHS
from tests.running import run

ROWS = [case for case in GRAPHS if case.op_type in ("SequenceAt", "ConcatFromSequence")]


@pytest.mark.parametrize("operator", ["SequenceAt", "ConcatFromSequence"])
def test_a_tensor_that_is_one_per_cent_off_is_noticed(operator):
    rule = RULES.find(operator, 17)
    assert rule is not None
    lowering = rule.lowering
    assert lowering is not None

    @functools.wraps(lowering)
    def mutant(op, *inputs, **attributes):
        return [v * 1.01 for v in lowering(op, *inputs, **attributes)]

    table = Table(RULES)
    table.deflowering(operator, mutant)
    rows = [case for case in ROWS if case.op_type == operator]
    assert all(Trial(case, "float32" if case.single else "float64", table=table).disagreements() for case in rows)


IF = """(float[2,3] x, bool c) => (float[2,3] y) { a = Constant<value_int = 0>()
    s = If<then_branch = t () => (seq(float[2,3]) q) { q = SequenceConstruct(x) },
           else_branch = e () => (seq(float[2,3]) r) { r = SequenceConstruct(x, x) }>(c) y = SequenceAt(s, a) }"""
SPLIT = """(float[n,3] x) => (float[3] y) { a = Constant<value_int = 0>() s = SplitToSequence<keepdims = 0>(x)
    y = SequenceAt(s, a) }"""
LAST = """(float[2,3] x) => (float[2,3] y) { a = Constant<value_int = 2>() s = SequenceConstruct(x, x)
    y = SequenceAt(s, a) }"""
OPEN = "(float[2,3] x, int64 a) => (float[2,3] y) { s = SequenceConstruct(x, x) y = SequenceAt(s, a) }"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OPEN, "a position in a sequence that is known at run time only"),
        (SPLIT, "how many parts a split has, known at run time only"),
        (LAST, "position 2 in a sequence of 2"),
        (IF, "a sequence that is given by If"),
    ],
)
def test_what_is_not_known_is_refused_and_says_so(text, reason):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    with pytest.raises(UnsupportedOperators) as caught:
        autodiff.gradient(model, ["x"], ["y"])
    assert f"SequenceAt ({reason})" in str(caught.value)


def test_half_precision_stays_where_tensors_are_only_moved():
    text = "(float16[2,3] x) => (float16[2,2] y) { s = SplitToSequence<axis = 1>(x, n) y = SequenceAt(s, at) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    for name, value in {"n": [1, 2], "at": 1}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    x, g = np.ones((2, 3), np.float16), np.array([[1, 2], [3, 4]], np.float32)
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), {"x": x, "cotangent/y": g}, ["grad/x"])
    np.testing.assert_array_equal(grad, [[0, 1, 2], [0, 3, 4]])
