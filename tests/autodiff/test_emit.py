"""The emitter: names, shared constants and nodes, types, spellings, and the product with a one-hot matrix."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.spelling import NeedsOpset
from cam_onnx.autodiff.val import Val, cotangent_type

F, H, D, I64 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.INT64


def value(name, dims=(2, 3), dtype=F):
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=None if dims is None else ir.Shape(dims))


def emitter(opset=18, taken=()):
    return Emitter(opset, taken)


def kinds(op):
    return [node.op_type for node in op.nodes]


def test_a_call_appends_a_node_and_names_it_after_its_scope():
    op = emitter(taken={"grad/Relu"})
    op.Relu(op.primal(value("x")))
    assert [(node.op_type, node.name, node.outputs[0].name) for node in op.nodes] == [
        ("Relu", "grad/Relu_2", "grad/Relu_2")
    ]


def test_a_typo_is_an_error_and_not_an_operator():
    with pytest.raises(AttributeError, match="ai.onnx has no operator 'Rellu'"):
        emitter().Rellu  # noqa: B018
    op = emitter()
    with pytest.raises(AttributeError, match="no opset has Relu with 1 inputs and attributes \\['slope'\\]"):
        op.Relu(op.primal(value("x")), slope=1.0)


def test_arithmetic_emits_and_equal_subexpressions_are_shared():
    op = emitter()
    x = op.primal(value("x"))
    y = 1.0 - x * x / 2.0
    z = 1.0 - x * x / 2.0
    assert y.value is z.value
    assert kinds(op) == ["Mul", "Div", "Sub"]
    assert [c.known.tolist() for c in op.constants.values()] == [2.0, 1.0]
    assert (-y).dtype == F


def test_attributes_keep_nodes_apart():
    op = emitter()
    x = op.primal(value("x"))
    assert op.Softmax(x, axis=0).value is not op.Softmax(x, axis=1).value
    assert op.Softmax(x, axis=0).value is op.Softmax(x, axis=0).value


def test_a_bare_number_takes_the_type_of_the_operand_that_shares_its_variable():
    op = emitter()
    x, g = op.primal(value("x", dtype=D)), op.primal(value("g"))
    op.Where(op.Greater(x, 0.0), g, 0.0)
    assert {c.known.dtype.name for c in op.constants.values()} == {"float64", "float32"}


def test_16_bit_primals_are_cast_where_a_rule_reads_them_and_once():
    op = emitter()
    x = op.primal(value("x", dtype=H))
    assert x.dtype == F
    y = op.Mul(x, x) + x
    assert kinds(op) == ["Cast", "Mul", "Add"]
    assert y.dtype == F
    op.Shape(x)
    assert kinds(op) == ["Cast", "Mul", "Add", "Shape"], "a shape needs no cast"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(F, F), (D, D), (H, F), (ir.DataType.BFLOAT16, F), (ir.DataType.FLOAT8E4M3FN, F), (I64, None), (None, F),
     (ir.DataType.BOOL, None), (ir.DataType.STRING, None), (ir.DataType.UINT8, None)],
)  # fmt: skip
def test_cotangent_types(dtype, expected):
    assert cotangent_type(dtype) == expected


def test_what_is_known_is_computed_now():
    op = emitter()
    x = op.primal(value("x", (4, 5)))
    size = op.shape(x, 1, 2) * 2 + [1]
    assert size.known.tolist() == [11]
    assert op.nodes == []
    assert op.Concat(op.shape(x), size, axis=0).known.tolist() == [4, 5, 11]
    assert op.Div(op.constant([-7]), [2]).known.tolist() == [-3], "ONNX truncates integers"


def test_symbolic_sizes_are_read_at_run_time_once():
    op = emitter()
    x = op.primal(value("x", ("N", 5)))
    assert op.shape(x, 1, 2).known.tolist() == [5]
    assert op.shape(x, 0, 1).known is None
    op.shape(x)
    assert kinds(op) == ["Shape", "Slice"]


def test_reshape_needs_a_shape_at_run_time_only_for_two_unknown_sizes():
    op = emitter()
    g = op.primal(value("g", (None,)))
    op.reshape_like(g, op.primal(value("x", ("N", 5))))
    assert kinds(op) == ["Reshape"]
    op.reshape_like(g, op.primal(value("y", ("N", "M"))))
    assert kinds(op) == ["Reshape", "Shape", "Reshape"]


# -- spellings -------------------------------------------------------------------------------------------------------


def test_axes_become_an_attribute_where_they_are_one():
    for opset, attributes, arity in ((17, {"axes", "keepdims"}, 1), (18, {"keepdims"}, 2)):
        op = emitter(opset)
        op.ReduceMean(op.primal(value("x")), [1], keepdims=1)
        assert set(op.nodes[0].attributes) == attributes
        assert len(op.nodes[0].inputs) == arity


@pytest.mark.parametrize(
    ("opset", "emit", "needs"),
    [
        (13, lambda op, x: op.ScatterElements(x, op.constant([[0]]), x, axis=1, reduction="add"), 16),
        (16, lambda op, x: op.ScatterElements(x, op.constant([[0]]), x, axis=1, reduction="max"), None),
        (13, lambda op, x: op.HardSwish(x), 14),
        (18, lambda op, x: op.Gelu(x), 20),
        (13, lambda op, x: op.ReduceMax(x, op.Shape(x)), 18),
    ],
)
def test_what_an_opset_does_not_have_names_the_one_that_does(opset, emit, needs):
    op = emitter(opset)
    x = op.primal(value("x", ("N", "M")))
    if needs is None:
        emit(op, x)
    else:
        with pytest.raises(NeedsOpset) as caught:
            emit(op, x)
        assert caught.value.opset == needs


# -- one-hot ---------------------------------------------------------------------------------------------------------


def one_hot(op, depth=5):
    index = op.primal(value("index", ("N",), I64))
    return op.OneHot(index, [depth], np.array([0.0, 1.0], np.float32), axis=-1)


def transposed(op, w):
    return op.Transpose(w, perm=[1, 0])


PRODUCTS = {
    "MatMul": (lambda op, h, w: op.MatMul(h, w), ["Gather"]),
    "MatMul of a transposed weight": (lambda op, h, w: op.MatMul(h, transposed(op, w)), ["Gather", "Transpose"]),
    "Gemm": (lambda op, h, w: op.Gemm(h, w), ["Gather"]),
    "Gemm, transB": (lambda op, h, w: op.Gemm(h, w, transB=1), ["Gather", "Transpose"]),
    "Gemm, alpha": (lambda op, h, w: op.Gemm(h, w, alpha=0.5), ["Gather", "Mul"]),
    "both transposed": (lambda op, h, w: op.Gemm(h, transposed(op, w), transB=1), ["Gather"]),
}


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("row", PRODUCTS)
def test_a_product_with_a_one_hot_matrix_is_a_gather_of_rows(row, half):
    emit, expected = PRODUCTS[row]
    op = emitter()
    w = op.primal(value("w", (5, 5), H if half else F))
    result = emit(op, one_hot(op), w)
    read, stack = [], [result.value.producer()]
    while stack:  # what the result depends on; the rest is not written
        node = stack.pop()
        read.append(node.op_type)
        stack += [x.producer() for x in node.inputs if x.producer() is not None]
    assert sorted(read) == sorted([*expected, *["Cast"] * half])
    if half:
        gathered = next(node for node in op.nodes if node.op_type == "Gather")
        assert gathered.inputs[0].name == "w", "rows are gathered first, and cast then"
    assert result.dtype == F


def test_other_products_stay_products():
    op = emitter()
    hot, w = one_hot(op), op.primal(value("w", (5, 7)))
    assert op.MatMul(op.primal(value("x", ("N", 5))), w).value.producer().op_type == "MatMul"
    assert op.MatMul(hot * 2.0, w).value.producer().op_type == "MatMul"
    assert op.Gemm(hot, w, transA=1).value.producer().op_type == "Gemm"
    assert op.Gemm(hot, w, op.primal(value("c", (7,)))).value.producer().op_type == "Gemm"
    assert op.MatMul(hot, op.primal(value("b", (2, 5, 7)))).value.producer().op_type == "MatMul"


def test_a_value_has_no_truth():
    op = emitter()
    with pytest.raises(TypeError, match="has no truth value at conversion: use op.Where"):
        bool(op.primal(value("x")))
    assert isinstance(op.primal(value("x")), Val)
