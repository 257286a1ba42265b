"""Sizes that tensors declare, compared with what they hold; operators that reach out of the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import TensorProto

from cam_onnx.declared import check_operators, check_tensors
from cam_onnx.errors import InvalidModel, UnsupportedOperators
from models.builders import BUILDERS

TYPES = [code for name, code in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")]


def model_of(*tensors, nodes=(), **more):
    graph = oh.make_graph([*nodes], "g", [], [], [*tensors])
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], **more).SerializeToString()


@pytest.mark.parametrize("name", BUILDERS)
def test_good_models_pass(name):
    check_tensors(BUILDERS[name]().SerializeToString())


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "numbers"])
@pytest.mark.parametrize("dtype", TYPES, ids=TensorProto.DataType.Name)
def test_every_type_in_either_form(dtype, raw):
    """Five elements, as onnx itself stores them; one element more in the shape is refused."""
    values = np.ones(5, oh.tensor_dtype_to_np_dtype(dtype))
    if raw:
        tensor = onnx.numpy_helper.from_array(values, "w")
    else:
        tensor = oh.make_tensor("w", dtype, [5], values)
    check_tensors(model_of(tensor))
    tensor.dims[0] = 50
    with pytest.raises(InvalidModel, match=r"tensor 'w' of shape \[50\] needs \d+ (bytes|numbers) and has \d+;"):
        check_tensors(model_of(tensor))


def test_strings_scalars_and_nothing():
    check_tensors(model_of(TensorProto(name="w", data_type=8, dims=[2], string_data=[b"a", b"b"])))
    check_tensors(model_of(oh.make_tensor("w", TensorProto.FLOAT, [], [1.0])))
    check_tensors(model_of(oh.make_tensor("w", TensorProto.FLOAT, [0, 7], [])))
    with pytest.raises(InvalidModel, match="needs 3 numbers and has 2"):
        check_tensors(model_of(TensorProto(name="w", data_type=8, dims=[3], string_data=[b"a", b"b"])))


ROWS = {
    "no data": (TensorProto(name="w", data_type=1, dims=[2]), "needs 2 numbers and has 0"),
    "2^40": (TensorProto(name="w", data_type=1, dims=[1 << 40]), "needs 1,099,511,627,776 numbers and has 0"),
    "beyond 64 bits": (
        TensorProto(name="w", data_type=1, dims=[1 << 40] * 2, raw_data=b""),
        f"needs {1 << 82:,} bytes",
    ),
    "negative": (
        TensorProto(name="w", data_type=1, dims=[-4], raw_data=bytes(16)),
        r"\[-4\], with a negative dimension",
    ),
    "100 dimensions": (
        TensorProto(name="w", data_type=1, dims=[1] * 100, raw_data=bytes(4)),
        "more than 64 dim|100 dim",
    ),
    "a type of the future": (TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1"), "unknown element type 99"),
    "no type": (TensorProto(name="w", dims=[1], raw_data=b"1"), "unknown element type 0"),
}


@pytest.mark.parametrize("row", ROWS)
def test_refused_wherever_it_stands(row):
    tensor, words = ROWS[row]
    constant = oh.make_node("Constant", [], ["y"], value=tensor)
    branch = oh.make_graph([constant], "then", [], [])
    function = oh.make_function("d", "F", [], ["y"], [constant], [oh.make_opsetid("", 18)])
    for data in (
        model_of(tensor),
        model_of(nodes=[constant]),
        model_of(nodes=[oh.make_node("If", ["c"], ["y"], then_branch=branch)]),
        model_of(functions=[function]),
    ):
        with pytest.raises(InvalidModel, match=words):
            check_tensors(data)


def test_operators_that_reach_out_are_refused_wherever_they_stand():
    node = oh.make_node("EPContext", ["x"], ["y"], "evil", domain="com.microsoft")
    branch = oh.make_graph([node], "then", [], [])
    function = oh.make_function("d", "F", ["x"], ["y"], [node], [oh.make_opsetid("com.microsoft", 1)])
    for data in (
        model_of(nodes=[node]),
        model_of(nodes=[oh.make_node("If", ["c"], ["y"], then_branch=branch)]),
        model_of(functions=[function]),
    ):
        with pytest.raises(
            UnsupportedOperators, match=r"com.microsoft::EPContext \(1 node\) loads a program"
        ) as caught:
            check_operators(data)
        assert caught.value.missing == {"com.microsoft::EPContext": ["evil"]}


def test_a_name_is_no_operator():
    check_operators(model_of(nodes=[oh.make_node("Relu", ["PyOp"], ["EPContext"], "PyOp")]))
