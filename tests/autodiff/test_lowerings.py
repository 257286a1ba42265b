"""Operators that are differentiated as others: these must compute what the runtime's own kernel computes."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from cam_onnx import UnsupportedOperators, autodiff
from cam_onnx.autodiff.call import lower
from cam_onnx.autodiff.model import load
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.table import RULES, Table
from tests.autodiff.check import Trial
from tests.autodiff.graphs import ACTIVATIONS, RECURRENT, Graph
from tests.running import run


def lowered(model: onnx.ModelProto, table: Table = RULES) -> onnx.ModelProto:
    """Return the model with its one node written as what its lowering gives."""
    loaded = load(model)
    [node] = loaded.graph
    rule = table.find(node.op_type, loaded.opset)
    assert rule is not None
    assert rule.lowering is not None
    body = lower(loaded.bodies, node, rule.lowering)
    assert body is not None, loaded.bodies.faults
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(ir.serde.serialize_node(each) for each in body.nodes)
    for inner, outer in zip(body.outputs, node.outputs, strict=False):
        if inner.name and outer.name:
            result.graph.node.append(onnx.helper.make_node("Identity", [inner.name], [outer.name]))
    constants = {x.name: x.const_value for each in body.nodes for x in reads(each)}
    for name, content in constants.items():
        if content is None:
            continue
        result.graph.initializer.append(ir.serde.serialize_tensor(content))
        result.graph.initializer[-1].name = name
    return result


class Lowered(Trial):
    """The row with its node written out: in float64, which the operators' own kernels do not know."""

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        return lowered(super().model)

    def run(self, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        if any(node.op_type in ("RNN", "GRU", "LSTM") for node in model.graph.node):  # while the row is built
            return Trial(self.case, "float32").run(Trial(self.case, "float32").model, Trial(self.case, "float32").feeds)
        return super().run(model, feeds)


@pytest.mark.parametrize("case", [*RECURRENT, *ACTIVATIONS], ids=str)
def test_what_is_lowered_computes_the_same(case: Graph):
    trial = Trial(case, dtype="float32")
    theirs = run(trial.model, trial.feeds)
    ours = run(lowered(trial.model), trial.feeds)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_gradient_of_what_is_lowered_is_the_finite_difference(case: Graph):
    assert Lowered(case).disagreements() == {}


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_gradient_of_the_operator_is_that_of_what_is_lowered(case: Graph):
    single, exact = Trial(case, "float32", symbolic=True), Lowered(case)
    onnx.checker.check_model(single.gradient, full_check=True)
    (_, ours), (_, theirs) = single.vjp(), exact.vjp()
    assert set(ours) == set(case.inputs) - {"l"}, "every floating-point input has a derivative"
    for name, grad in theirs.items():
        np.testing.assert_allclose(ours[name], grad, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(grad).max()))


@pytest.mark.parametrize("operator", ["RNN", "GRU", "LSTM"])
def test_a_lowering_that_is_one_per_cent_off_is_noticed(operator: str):
    rule = RULES.find(operator, 17)
    assert rule is not None
    lowering = rule.lowering
    assert lowering is not None

    @functools.wraps(lowering)
    def mutant(op, *inputs, **attributes):
        return tuple(v * 1.01 for v in lowering(op, *inputs, **attributes))

    table = Table(RULES)
    table.deflowering(operator, mutant)
    case = next(case for case in RECURRENT if case.op_type == operator)
    trial = Trial(case, dtype="float32")
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            run(lowered(trial.model, table), trial.feeds)[0], run(trial.model, trial.feeds)[0], rtol=1e-5
        )


def test_an_activation_that_is_not_of_the_standard_is_refused_by_name():
    case = RECURRENT[0]
    model = Trial(case, dtype="float32").model
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("activations", ["Swish"]))
    with pytest.raises(UnsupportedOperators, match=r"RNN \(activation 'swish'\)"):
        autodiff.gradient(model, ["x"], ["y"])
