"""The closed formulas have one definition: the same lines that NumPy runs are traced into ONNX nodes, and agree."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from cam_onnx.autodiff.append import append, info
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.graph.traced import CLOSED, emit
from cam_onnx.methods import METHODS, saliency
from tests.running import RUNNERS

KINDS = {np.float32: ir.DataType.FLOAT, np.float64: ir.DataType.DOUBLE}


def emitted(name, rank, dtype=np.float32, opset=18):
    """Return a model of activations and gradients to the method's map."""
    graph = onnx.GraphProto(name="method")
    values = {}
    for need in METHODS[name].needs:
        graph.input.append(onnx.helper.make_tensor_value_info(need, int(KINDS[dtype]), [None] * rank))
        values[need] = ir.Value(name=need, type=ir.TensorType(KINDS[dtype]), shape=ir.Shape([None] * rank))
    plain = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    op = Emitter(opset, values)
    vals = {need: op.primal(value) for need, value in values.items()}
    op.output(emit(op, METHODS[name], vals["activations"], vals.get("gradients"), rank), "map")
    model = append(plain, op, [info("map", KINDS[dtype])])
    onnx.checker.check_model(model, full_check=True)
    return model


def arrays(space, dtype=np.float32):
    A, g = np.random.default_rng(0).normal(size=(2, 2, 5, *space)).astype(dtype)
    g[0, 1] = 0  # a channel without gradient, and one without activations
    A[1, 2] = 0
    return {"activations": A, "gradients": g}


@pytest.mark.parametrize("engine", RUNNERS)
@pytest.mark.parametrize("space", [(6,), (4, 5), (2, 3, 2)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", CLOSED)
def test_the_emitted_formula_gives_what_numpy_gives(name, space, engine):
    given = arrays(space)
    needs = {need: given[need] for need in METHODS[name].needs}
    expected = saliency(**given, method=name)
    [found] = RUNNERS[engine](emitted(name, 2 + len(space)), needs)
    assert found.shape == expected.shape
    # float32 sums in another order; Grad-CAM++ divides by what is left of 2 + sum(A) g
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", CLOSED)
def test_in_double_they_agree_to_rounding(name, opset):
    given = arrays((4, 5), np.float64)
    needs = {need: given[need] for need in METHODS[name].needs}
    [found] = RUNNERS["reference"](emitted(name, 4, np.float64, opset), needs)
    np.testing.assert_allclose(found, saliency(**given, method=name), rtol=1e-12, atol=1e-12)


def test_every_closed_formula_is_plain():
    """What is listed is a method of arrays alone, without options."""
    assert all(METHODS[name].needs and not METHODS[name].calls and not METHODS[name].options for name in CLOSED)


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_emitted_is_small(name):
    """A map costs no more nodes than its formula has operations."""
    assert len(emitted(name, 4).graph.node) <= 30
