"""Every rule against finite differences, on every row of the case table."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest

from cam_onnx.autodiff.backward import label
from cam_onnx.autodiff.table import RULES, Rule, Table, Vjp, zero
from tests.autodiff.cases import CASES, LINEAR, Case, normal, row
from tests.autodiff.check import Trial
from tests.autodiff.graphs import GRAPHS, RECURRENT

DIFFERENTIABLE = [rule for rule in RULES if not all(isinstance(entry, zero) for entry in rule.entries)]


def test_the_checker_sees_a_rule_that_is_half_a_per_mille_off():
    table = Table(RULES)
    table.defvjp("Tanh", lambda op, g, y, x: g * (1.0 - y * y) * 1.0005)
    case = row("y = Tanh(x)", x=normal(3, 4))
    assert not Trial(case).disagreements()
    assert Trial(case, table=table).disagreements()


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_is_the_finite_difference(case: Case, symbolic: bool):
    if symbolic and case.static:
        pytest.skip(case.static)
    assert Trial(case, "float32" if case.reference else "float64", symbolic).disagreements() == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_onnxruntime_computes_the_same_gradient_in_float32(case: Case):
    if case.reference or case.runtime:
        pytest.skip(case.reference or case.runtime)
    exact, single = Trial(case), Trial(case, dtype="float32", symbolic=not case.static)
    # the engines must agree on the forward value first: the reference evaluator errs for some operators
    np.testing.assert_allclose(single.forward(), exact.forward(), rtol=1e-4, atol=1e-4)
    (g, ours), (h, theirs) = single.vjp(), exact.vjp()
    np.testing.assert_allclose(g, h, rtol=1e-6)
    for name, grad in theirs.items():
        assert ours[name].dtype == np.float32
        # float32 rounding of sums over a window: 1e-5 of the largest entry
        np.testing.assert_allclose(ours[name], grad, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(grad).max()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_graph_passes_the_full_check_and_keeps_its_opset(case: Case):
    trial = Trial(case, dtype="float32")
    if case.op_type == "GroupNormalization" and case.opset < 21:
        pytest.skip("the checker refuses the original: GroupNormalization of opset 18 is deprecated")
    if case.runtime:
        pytest.skip(case.runtime)
    if case.op_type == "SimplifiedLayerNormalization":
        pytest.skip("the checker refuses the original: an operator of ONNX Runtime without a domain of its own")
    onnx.checker.check_model(trial.gradient, full_check=True)
    if "raised" not in case.why and case.opset >= 16:
        assert trial.gradient.opset_import[0].version == case.opset
    added = trial.gradient.graph.node[len(trial.model.graph.node) :]
    for node in added:  # browsers' runtimes take some attributes for granted
        spelled = {attribute.name for attribute in node.attribute}
        assert WINDOWED.get(node.op_type, set()) - spelled <= ({"kernel_shape"} if "grad/w/" in node.name else set())
    if case.reads == "y":
        assert "x" not in {x for node in added if node.op_type != "Shape" for x in node.input}


# A kernel's own cotangent is a convolution whose kernel is a cotangent: its size may be known at run time only.
WINDOWED = {
    "AveragePool": {"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"},
    "Conv": {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"},
    "ConvTranspose": {"auto_pad", "dilations", "group", "kernel_shape", "output_padding", "pads", "strides"},
}


def test_every_rule_has_a_case():
    rows = {(case.domain, case.op_type) for case in CASES}
    assert {(rule.domain, rule.op_type) for rule in DIFFERENTIABLE} - rows == set()


def test_attributes_of_operators_without_a_schema_are_told_from_their_inputs():
    """Where no schema says what an attribute is, a rule's keyword-only parameters do; all others are inputs."""
    entries = [(rule, e) for rule in RULES if rule.domain for e in rule.entries if isinstance(e, Vjp)]
    assert [(rule.op_type, e.parameters) for rule, e in entries if len(e.parameters) > len(rule.entries)] == []


def test_every_operator_with_a_body_has_a_row():
    """What computes by subgraphs, and what is differentiated as other operators."""
    bodies = {rule.op_type for rule in RULES if rule.flow is not None or rule.lowering is not None}
    bodies -= {"DynamicQuantizeLSTM"}  # in tests/test_quantised.py
    assert bodies - {case.op_type for case in (*GRAPHS, *RECURRENT)} == set()


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
@pytest.mark.parametrize("change", ["scaled", "negated", "one lost"])
def test_every_mutation_of_a_derivative_through_subgraphs_makes_a_row_fail(operator: str, change: str):
    rule = RULES.find(operator, 17)
    assert rule is not None
    flow = rule.flow
    assert flow is not None

    def mutant(op, *rest):
        pairs = flow.vjp(op, *rest)
        if change == "one lost":
            return pairs[:-1]
        return [(x, part * 1.01 if change == "scaled" else -part) for x, part in pairs]

    table = Table(RULES)
    table.defflow(operator, flow.regions, mutant)
    rows = [case for case in GRAPHS if case.op_type == operator and not case.single]
    assert any(Trial(case, table=table).disagreements() for case in rows)


def mutations(rule: Rule, index: int) -> dict[str, Table]:
    """Tables in which one input's rule is scaled, negated, or reads its inputs exchanged."""
    entry = rule.entries[index]
    assert isinstance(entry, Vjp)

    def altered(change):
        function = entry.function

        @functools.wraps(function)
        def mutant(*args, **attributes):
            return change(function, args, attributes)

        changed = Vjp(mutant, entry.broadcast, entry.each)
        table = Table(RULES)
        entries = [changed if i == index else e for i, e in enumerate(rule.entries)]
        more: dict[str, Any] = {
            "several": rule.several,
            "before": rule.before,
            "domain": rule.domain,
            "inside": rule.inside,
        }
        table.defvjp(rule.op_type, *entries, **more)
        return table

    first = 4 if entry.each else 3

    def exchange(function, args, attributes):
        args = list(args)
        if len(args) > first + 1 and args[first] is not None and args[first + 1] is not None:
            args[first], args[first + 1] = args[first + 1], args[first]
        return function(*args, **attributes)

    return {
        "scaled": altered(lambda f, args, attributes: f(*args, **attributes) * 1.01),
        "negated": altered(lambda f, args, attributes: -f(*args, **attributes)),
        "exchanged": altered(exchange),
    }


SYMMETRIC = {
    **{(name, i): "a sum" for name in ("BiasGelu", "FastGelu") for i in (0, 1)},
    **{(f"Skip{name}LayerNormalization", i): "a sum" for name in ("", "Simplified") for i in (0, 1)},
    ("Clip", 2): "high < x or high < low: x and low play the same part",
    ("GroupNormalization", 2): "before 21 only the rank of x is read, and a group's sum is the same in any order",
}
ABORTS = dict.fromkeys(
    [("Conv", 1), ("ConvTranspose", 1)],
    "onnx's shape inference ends the process on a Conv whose kernel has such dimensions",
)


def inputs_with_a_rule() -> list[tuple[Rule, int]]:
    return [(rule, i) for rule in DIFFERENTIABLE for i, e in enumerate(rule.entries) if isinstance(e, Vjp)]


def rows_of(rule: Rule) -> list[Case]:
    return [case for case in CASES if rule is RULES.find(case.op_type, case.opset, case.domain)]


def masked(rule: Rule, inside) -> Table:
    """Return a table in which the rule has another range."""
    table = Table(RULES)
    more: dict[str, Any] = {"several": rule.several, "before": rule.before, "domain": rule.domain, "inside": inside}
    table.defvjp(rule.op_type, *rule.entries, **more)
    return table


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.inside], ids=lambda rule: rule.op_type)
def test_every_range_is_noticed(rule: Rule):
    """What is cut off has no gradient, what is not has one."""
    inside = rule.inside
    assert inside is not None
    for table in (masked(rule, None), masked(rule, lambda op, y, x: op.Not(inside(op, y, x)))):
        assert any(Trial(case, "float32", table=table).disagreements() for case in rows_of(rule))


@pytest.mark.parametrize(("rule", "index"), inputs_with_a_rule(), ids=lambda v: getattr(v, "op_type", str(v)))
def test_every_mutation_of_a_rule_makes_a_row_fail(rule: Rule, index: int):
    rows = rows_of(rule)
    rows.sort(key=lambda case: bool(case.reference))
    for kind, table in mutations(rule, index).items():
        if kind == "exchanged" and (rule.op_type, index) in ABORTS:
            continue
        changed = caught = False
        for case in rows:
            dtype = "float32" if case.reference else "float64"
            plain, mutant = Trial(case, dtype), Trial(case, dtype, table=table)
            try:
                if mutant.gradient == plain.gradient:
                    continue  # the mutation changes nothing here: a symmetric rule, an input that is not there
                changed = True
                caught = bool(mutant.disagreements())
            except Exception:
                changed = caught = True  # the mutant does not even run
            if caught:
                break
        same = kind == "exchanged" and (not changed or (rule.op_type, index) in SYMMETRIC)
        if rule.before and not changed:  # it only asks for the opset of its newer spelling
            same = all(Trial(case, "float32").gradient.opset_import[0].version >= rule.before for case in rows)
        assert caught or same, f"{kind}: no row notices"


def test_labels_are_node_names_or_first_outputs():
    model = Trial(row("y = Relu(x)", x=normal(2), **LINEAR)).model
    assert model.graph.node[0].name == ""
    from cam_onnx.autodiff.model import load

    assert [label(node) for node in load(model).graph] == ["y"]
