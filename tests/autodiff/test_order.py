"""To which order operators are differentiable: told by the rules' code, and as the second order's own test finds it."""

from __future__ import annotations

from functools import partial

import pytest

from cam_onnx.autodiff.order import emitted, order
from cam_onnx.autodiff.table import RULES, Table, missing
from tests.autodiff.test_second_order import FIRST_ORDER_ONLY, rows


def test_the_code_of_a_rule_tells_what_it_emits():
    def helper(op, g):
        return -op.ReduceSum(g, keepdims=0)

    def rule(scale, op, g, y, x):
        return [helper(op, part) for part in (op.Cos(g) * scale, g - y)]

    assert emitted(partial(rule, 2.0)) == {"Cos", "Mul", "Sub"}, "a helper of other modules is not followed"
    pooling = emitted(RULES.find("AveragePool", 20).entries[0].function)
    assert {"AveragePool", "Slice", "Cast", "Range"} <= pooling, "its own helpers are, and the shared ones"


def test_the_order_ends_where_a_rule_is_missing():
    table = Table()
    table.defvjp("Sin", lambda op, g, y, x: op.Mul(g, op.Cos(x)))
    table.defvjp("Mul", lambda op, g, y, a, b: op.Mul(g, b), lambda op, g, y, a, b: op.Mul(g, a))
    assert order([("", "Tan")], 20, table) == 0
    assert order([("", "Sin")], 20, table) == 1, "Cos has no rule"
    table.defvjp("Cos", lambda op, g, y, x: op.Neg(op.Mul(g, op.Sin(x))))
    assert order([("", "Sin")], 20, table) == 2, "Neg has no rule"
    table.defvjp("Neg", lambda op, g, y, x: op.Neg(g))
    assert order([("", "Sin")], 20, table) is None
    assert order([("", "Mul"), ("", "Tan")], 20, table) == 0


def test_an_input_that_nobody_wrote_ends_the_order_where_it_is_emitted():
    table = Table()
    table.defvjp("Exp", lambda op, g, y, x: op.Mul(g, y))
    table.defvjp("Mul", lambda op, g, y, a, b: op.Mul(g, b), missing("why"))
    assert order([("", "Exp")], 20, table) == 1
    assert order([("", "Mul")], 20, table) == 1


@pytest.mark.parametrize("case", [case for case in rows() if not case.functions], ids=str)
def test_it_says_what_the_second_order_finds(case):
    again = order([(case.domain, case.op_type)], case.opset)
    assert (again is None or again > 1) == (case.op_type not in FIRST_ORDER_ONLY)
