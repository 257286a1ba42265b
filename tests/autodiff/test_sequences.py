"""Tensors in sequences: a wrong one is noticed, and what cannot be followed to where it was put in is refused."""

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


SPLIT = """(float[n,3] x) => (float[1,3] y) { a = Constant<value_int = 0>() s = SplitToSequence(x) r = SequenceErase(s)
    y = SequenceAt(r, a) }"""
LAST = """(float[2,3] x) => (float[2,3] y) { a = Constant<value_int = 2>() s = SequenceConstruct(x, x)
    y = SequenceAt(s, a) }"""
OPEN = """(float[2,3] x, int64 a) => (float[n,m] y) { f = Transpose(x) s = SequenceConstruct(x, f)
    y = SequenceAt(s, a) }"""
LOOP = """(float[2,3] x, int64 n) => (float[2,3] y) { go = Constant<value = bool {1}>() a = Constant<value_int = 0>()
    b = Constant<value_ints = [0]>() e = SequenceConstruct(x)
    s = Loop<body = l (int64 i, bool c, seq(float[2,3]) s0) => (bool c1, seq(float[2,3]) s1) {
        c1 = Identity(c) BODY }>(n, go, e)
    y = SequenceAt(s, a) }"""
IN_FRONT = LOOP.replace("BODY", "s1 = SequenceInsert(s0, x, a)")
TWICE = LOOP.replace("BODY", "s2 = SequenceInsert(s0, x) s1 = SequenceInsert(s2, x)")
ERASED = LOOP.replace("BODY", "s1 = SequenceErase(s0)")
SHAPES = LOOP.replace("BODY", "p = Reshape(i, b) m = Add(p, p) t = Slice(x, b, m) s1 = SequenceInsert(s0, t)").replace(
    "seq(float[2,3])", "seq(float)"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OPEN, "a position in a sequence that is known at run time only, among tensors of different shapes"),
        (SPLIT, "how many parts a split has, known at run time only"),
        (LAST, "position 2 in a sequence of 2"),
        (IN_FRONT, "a sequence that a Loop does not make longer by one tensor behind it an iteration"),
        (TWICE, "a sequence that a Loop does not make longer by one tensor behind it an iteration"),
        (ERASED, "a sequence that a Loop does not make longer by one tensor behind it an iteration"),
        (SHAPES, "a sequence whose tensors may have different shapes"),
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
