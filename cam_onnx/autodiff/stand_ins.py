"""What runtimes' own operators give, told by standard ones of the same type and shape: for shape inference only.

onnx does not know com.microsoft, and a file is not obliged to declare its inner values; without their shapes neither
layers nor rules can be found. Nothing of this is ever executed or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx

__all__ = ["UNLISTED", "stand_ins"]

Nodes = Iterator[onnx.NodeProto]
MICROSOFT = "com.microsoft"

# operator -> standard operator, and which inputs it takes; attributes that both have are kept
_LIKE: dict[str, tuple[str, tuple[int, ...]]] = {
    "BiasAdd": ("Identity", (0,)),
    "BiasGelu": ("Add", (0, 1)),
    "BiasSoftmax": ("Identity", (0,)),
    "DequantizeLinear": ("DequantizeLinear", (0, 1, 2)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FastGelu": ("Identity", (0,)),
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "Gelu": ("Identity", (0,)),
    "GroupNorm": ("Identity", (0,)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearSoftmax": ("Identity", (0,)),
    "QLinearWhere": ("Where", (0, 1, 4)),
    "QuantizeLinear": ("QuantizeLinear", (0, 1, 2)),
    "QuickGelu": ("Identity", (0,)),
    "RestorePadding": ("Gather", (0, 1)),
}


UNLISTED = {"SimplifiedLayerNormalization"}  # ONNX Runtime's own too, though without a domain


def stand_ins(nodes: Iterable[onnx.NodeProto], opset: int) -> list[onnx.NodeProto]:
    """Return the nodes with com.microsoft's replaced, where what they give is known."""
    found: list[onnx.NodeProto] = []
    for node in nodes:
        if node.domain == MICROSOFT and node.op_type in _LIKE:
            found.append(_like(node, *_LIKE[node.op_type], opset))
        elif (node.domain == MICROSOFT or node.op_type in UNLISTED) and node.op_type in _BY_HAND:
            found.extend(_BY_HAND[node.op_type](node, opset))
        else:
            found.append(node)
    return found


def _like(node: onnx.NodeProto, op_type: str, inputs: Iterable[int], opset: int) -> onnx.NodeProto:
    made = onnx.NodeProto(op_type=op_type, output=node.output[:1])
    made.input.extend(node.input[i] if i < len(node.input) else "" for i in inputs)
    while made.input and not made.input[-1]:
        made.input.pop()
    try:
        known = onnx.defs.get_schema(op_type, opset).attributes
    except onnx.defs.SchemaError:
        known = {}
    made.attribute.extend(a for a in node.attribute if a.name in known)
    return made


def _of(node: onnx.NodeProto, name: str, default: object) -> object:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _make(op_type: str, inputs: Iterable[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, list(inputs), [output], **attributes)


def _ints(name: str, values: Iterable[int]) -> onnx.NodeProto:
    return _make("Constant", [], name, value_ints=list(values))


def _float(node: onnx.NodeProto, name: str) -> onnx.NodeProto:
    return _make("Cast", [name], node.output[0], to=onnx.TensorProto.FLOAT)


def _concat(node: onnx.NodeProto, opset: int) -> Nodes:
    yield _make("Concat", node.input[2::3], node.output[0], axis=_of(node, "axis", 0))


def _gemm(node: onnx.NodeProto, opset: int) -> Nodes:
    made = _like(node, "Gemm", (0, 3), opset)
    if len(node.input) < 8 or not node.input[7]:  # floats
        made.output[0] += "/integers"
        yield made
        made = _float(node, made.output[0])
    yield made


def _to_float(node: onnx.NodeProto, opset: int) -> Nodes:
    inner = node.output[0] + "/integers"
    yield _make("MatMul", node.input[:2], inner)
    yield _float(node, inner)


def _by_columns(node: onnx.NodeProto, opset: int) -> Nodes:
    """A product with a weight (K, N) that is stored in another form."""
    size, weight = node.output[0] + "/size", node.output[0] + "/weight"
    yield _ints(size, [_of(node, "K", 1), _of(node, "N", 1)])  # type: ignore[list-item]
    yield _make("ConstantOfShape", [size], weight)
    yield _make("MatMul", [node.input[0], weight], node.output[0])


def _matmul(node: onnx.NodeProto, opset: int) -> Nodes:
    left = "...ji" if _of(node, "transA", 0) else "...ij"
    right = "...kj" if _of(node, "transB", 0) else "...jk"
    if _of(node, "transBatchA", 0) or _of(node, "transBatchB", 0):
        yield node
    elif (left, right) != ("...ij", "...jk"):
        yield _make("Einsum", node.input[:2], node.output[0], equation=f"{left},{right}->...ik")
    else:
        yield _make("MatMul", node.input[:2], node.output[0])


def _same(*outputs: int) -> Callable[[onnx.NodeProto, int], Nodes]:
    """Each of these outputs is like the first input."""

    def each(node: onnx.NodeProto, opset: int) -> Nodes:
        for i in outputs:
            if i < len(node.output) and node.output[i]:
                yield _make("Identity", node.input[:1], node.output[i])

    return each


def _parts(count: int) -> Callable[[onnx.NodeProto, int], Nodes]:
    """The last axis of the first input (Attention: of its product with the weight), divided by `count`."""

    def split(node: onnx.NodeProto, opset: int) -> Nodes:
        if _of(node, "qkv_hidden_sizes", None):
            yield node
            return
        whole = node.input[0]
        if count == 3:
            whole = node.output[0] + "/projected"
            yield _make("MatMul", node.input[:2], whole)
        names = [node.output[0], *(f"{node.output[0]}/part{i}" for i in range(1, count))]
        extra: dict[str, Any] = {"num_outputs": count} if opset >= 18 else {}
        yield onnx.helper.make_node("Split", [whole], names, axis=-1, **extra)

    return split


def _real_parts(node: onnx.NodeProto, opset: int) -> Nodes:
    """Attention of integers, which gives floats."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.output[0] += "/integers"
    yield from _parts(3)(made, opset)
    yield _float(node, made.output[0])


def _nhwc(node: onnx.NodeProto, opset: int) -> Nodes:
    """A convolution with channels last in its kernel too."""
    w = f"{node.output[0]}/w"
    yield _make("Transpose", node.input[1:2], w, perm=[0, 3, 1, 2])
    turned = onnx.NodeProto()
    turned.CopyFrom(node)
    turned.input[1] = w
    yield from _last("Conv", 0, 1)(turned, opset)


def _last(op_type: str, *inputs: int, flag: bool = False) -> Callable[[onnx.NodeProto, int], Nodes]:
    """An operator whose values, not its kernel, have channels last: always, or if a `flag` says so."""

    def between(node: onnx.NodeProto, opset: int) -> Nodes:
        made = _like(node, op_type, inputs, opset)
        if flag and not _of(node, "channels_last", 0):
            yield made
            return
        x, y = f"{node.output[0]}/x", f"{node.output[0]}/y"
        yield _make("Transpose", node.input[:1], x, perm=[0, 3, 1, 2])
        made.input[0], made.output[0] = x, y
        yield made
        yield _make("Transpose", [y], node.output[0], perm=[0, 2, 3, 1])

    return between


def _lstm(node: onnx.NodeProto, opset: int) -> Nodes:
    made = _like(node, "LSTM", range(8), opset)
    made.output[:] = node.output
    yield made


def _attended(equation: str) -> Callable[[onnx.NodeProto, int], Nodes]:
    """As many queries as the first input has, as wide as the third's values; all in one input: see `_of_one`."""

    def each(node: onnx.NodeProto, opset: int) -> Nodes:
        if len(node.input) > 2 and node.input[2]:
            yield _make("Einsum", [node.input[0], node.input[2]], node.output[0], equation=equation)
        else:
            yield from _of_one(node)

    return each


def _of_one(node: onnx.NodeProto) -> Nodes:
    """Queries, keys and values (..., heads, 3, h) in one input: (..., heads * h) comes out."""
    x, name = node.input[0], node.output[0]
    yield _make("Einsum", [x], f"{name}/one", equation="...hcd->...hd")
    yield _ints(f"{name}/size", [0, 0, -1] if node.op_type == "MultiHeadAttention" else [0, -1])
    yield _make("Reshape", [f"{name}/one", f"{name}/size"], name)


def _packed(node: onnx.NodeProto, opset: int) -> Nodes:
    """Tokens (T, D) of samples (N, S, D), T known by the data alone; where they were; their counts."""
    x, name = node.input[0], node.output[0]
    yield _ints(f"{name}/size", [1, -1, 0])
    yield _ints(f"{name}/axis", [0])
    yield _make("Constant", [], f"{name}/first", value_int=0)
    yield _make("Reshape", [x, f"{name}/size"], f"{name}/one")
    yield _make("Squeeze", [f"{name}/one", f"{name}/axis"], f"{name}/flat")
    yield _make("NonZero", [x], f"{name}/places")
    yield _make("Gather", [f"{name}/places", f"{name}/first"], f"{name}/rows")
    yield _make("Gather", [f"{name}/flat", f"{name}/rows"], name)
    yield _make("ArgMax", [x], f"{name}/offsets", axis=2, keepdims=0)
    for inner, y in zip(("offsets", "rows", "axis"), node.output[1:], strict=False):
        yield _make("Cast", [f"{name}/{inner}"], y, to=onnx.TensorProto.INT32)


_BY_HAND: dict[str, Callable[[onnx.NodeProto, int], Nodes]] = {
    "Attention": _parts(3),
    "BiasSplitGelu": _parts(2),
    "DynamicQuantizeLSTM": _lstm,
    "FusedMatMul": _matmul,
    "MatMulIntegerToFloat": _to_float,
    "MatMulNBits": _by_columns,
    "MultiHeadAttention": _attended("nsd,nle->nse"),
    "NhwcConv": _nhwc,
    "NhwcFusedConv": _last("Conv", 0, 1),
    "NhwcMaxPool": _last("MaxPool", 0),
    "PackedAttention": _parts(3),
    "PackedMultiHeadAttention": _attended("td,se->te"),
    "QAttention": _real_parts,
    "QGemm": _gemm,
    "QLinearAveragePool": _last("AveragePool", 0, flag=True),
    "QLinearConcat": _concat,
    "QLinearConv": _last("Conv", 0, 3, flag=True),
    "QLinearGlobalAveragePool": _last("GlobalAveragePool", 0, flag=True),
    "RemovePadding": _packed,
    "SimplifiedLayerNormalization": _same(0),
    "SkipGroupNorm": _same(0, 1),
    "SkipLayerNormalization": _same(0, 3),
    "SkipSimplifiedLayerNormalization": _same(0, 3),
    "TransposeMatMul": _matmul,
}
