"""A quantised network without its rounding: what its straight-through gradient is the exact gradient of.

Every quantiser becomes the Clip to its range, every operator of integers the one of real numbers behind a Clip; what
rounding changed at one point is added as a constant, so that at this point all values are those of the quantised
network and every gate is open or shut as there. Written against the standard's formulas and ONNX Runtime's integers,
without our code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.kernels import KERNELS
from tests.running import evaluate, run

Array = np.ndarray[Any, np.dtype[Any]]
FLOAT = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("float64"): TensorProto.DOUBLE}

# operator -> its output's scale and zero point among the inputs
GIVEN = {
    "QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7), "QGemm": (7, 8), "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7), "QLinearConcat": (0, 1), "QLinearAveragePool": (3, 4), "QLinearGlobalAveragePool": (3, 4),
    "QLinearSigmoid": (3, 4), "QLinearLeakyRelu": (3, 4), "QLinearSoftmax": (3, 4),
    "QLinearWhere": (7, 8),
}  # fmt: skip
Real = Callable[..., str]
Constant = Callable[[str, Array], str]
CLIP = {"QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul"}  # what can leave its range


def derounded(
    model: onnx.ModelProto, feeds: dict[str, Array], dtype: str = "float64", free: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """Return the network of real numbers that passes through the quantised one at `feeds`.

    `free`: quantised values that are not cut off (the score's own).
    """
    work = _Work(model, feeds, np.dtype(dtype), free)
    inner = _evaluate(work.built(frozen=True), feeds, dtype)
    for name, (low, high) in work.ranges.items():
        before = np.clip(inner[name], low, high) if low is not None else inner[name]
        work.residues[name] = work.reals[name] - before
    return work.built(frozen=False)


def _evaluate(model: onnx.ModelProto, feeds: dict[str, Array], dtype: str) -> dict[str, Array]:
    from onnx.reference import ReferenceEvaluator

    given = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in feeds.items()}
    names = [o.name for o in model.graph.output]
    found = ReferenceEvaluator(model, new_ops=KERNELS).run(None, given) if dtype == "float64" else run(model, given)
    return {name.removesuffix("/before"): value for name, value in zip(names, found, strict=True)}


@dataclass
class _Work:
    model: onnx.ModelProto
    feeds: dict[str, Array]
    dtype: np.dtype[Any]
    free: tuple[str, ...] = ()
    constants: dict[str, Array] = field(default_factory=dict)
    reals: dict[str, Array] = field(default_factory=dict)  # of quantised values: what their integers stand for
    ranges: dict[str, tuple[Array | None, Array | None]] = field(default_factory=dict)
    residues: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        wanted, sizes = {}, {n.output[0]: _attribute(n, "block_size", 0) for n in self.model.graph.node}
        for node in self.model.graph.node:
            if node.op_type in GIVEN and GIVEN[node.op_type][0] < len(node.input):
                scale, zero = ([*node.input, ""][i] for i in GIVEN[node.op_type])
                wanted[node.output[0]] = (scale, zero, _attribute(node, "axis", 1), node.op_type)
            elif node.op_type == "DynamicQuantizeLinear":
                wanted[node.output[0]] = (node.output[1], node.output[2], 1, node.op_type)
        for name, (scale, zero, axis, op_type) in wanted.items():
            q, s, z = self._seen(name), self._seen(scale), self._seen(zero) if zero else np.zeros((), np.float64)
            if s.ndim > 1:  # in blocks: one of each for every entry
                size = sizes[name]
                s, z = (np.repeat(v, size, axis)[tuple(map(slice, q.shape))] if v.ndim else v for v in (s, z))
            self.reals[name], self.scales[name] = _real(q, s, z, axis), scale
            self.ranges[name] = (None, None)
            if op_type in {"QuantizeLinear", *CLIP} and name not in self.free:
                low, high = _range(q.dtype, outward=op_type == "QuantizeLinear")
                ends = [_real(np.full(q.shape, end), s, z, axis) for end in (low, high)]
                self.ranges[name] = ends[0], ends[1]

    def _seen(self, name: str) -> Array:
        if name in self.constants or name in self.feeds:
            return self.constants[name] if name in self.constants else self.feeds[name]
        if not hasattr(self, "_found"):
            inner = [
                y for n in self.model.graph.node for y in n.output if n.op_type in {*GIVEN, "DynamicQuantizeLinear"}
            ]
            inner = [y for y in inner if y]
            shown = onnx.ModelProto()
            shown.CopyFrom(self.model)
            del shown.graph.output[:]
            small = {n.output[0]: self._small(n) for n in self.model.graph.node if n.output[0] in inner}
            for y in inner:  # what NumPy has no type of its own for comes as floats
                shown.graph.output.append(onnx.ValueInfoProto(name=f"{y}/float" if small.get(y) else y))
                if small.get(y):
                    shown.graph.node.append(helper.make_node("Cast", [y], [f"{y}/float"], to=TensorProto.FLOAT))
            small_floats = {t.data_type for t in shown.graph.initializer} & {TensorProto.FLOAT4E2M1}
            if small_floats:  # which ONNX Runtime has not
                values = evaluate(shown, self.feeds, [o.name for o in shown.graph.output])
            else:
                values = run(shown, self.feeds, optimised=False)
            self._found = {k: v.astype(small[k]) if small.get(k) else v for k, v in zip(inner, values, strict=True)}
        return self._found[name]

    def _small(self, node: onnx.NodeProto) -> np.dtype[Any] | None:
        """Return the type of what the node gives if it is below a byte or a float: told by its zero point."""
        at = GIVEN.get(node.op_type, (0, -1))[1]
        zero = self.constants.get(node.input[at]) if 0 <= at < len(node.input) else None
        return zero.dtype if zero is not None and zero.dtype.isbuiltin != 1 else None

    def built(self, frozen: bool) -> onnx.ModelProto:
        """Return the network; `frozen`: every quantised value is the constant that it is, and outputs are what comes
        before it is cut off."""
        made: list[onnx.NodeProto] = []
        weights = {k: v.astype(self.dtype) if v.dtype.kind == "f" else v for k, v in self.constants.items()}

        def constant(name: str, value: Array) -> str:
            weights[name] = np.asarray(value, self.dtype)
            return name

        def real(node: onnx.NodeProto, i: int, scale: int | None, zero: int | None, axis: int = 0) -> str:
            name = node.input[i]
            if name in self.reals or name not in self.constants:
                return name
            s = np.ones(()) if scale is None else self.constants[node.input[scale]]
            z = np.zeros(())
            if zero is not None and zero < len(node.input) and node.input[zero]:
                z = self.constants[node.input[zero]]
            return constant(f"{name}/real", _real(self.constants[name], s, z, axis))

        outputs = [o.name for o in self.model.graph.output]
        for node in self.model.graph.node:
            y = node.output[0]
            before = f"{y}/before" if y in self.reals else y
            made += _FORMULAS.get(node.op_type, _unchanged)(self, node, before, real, constant)
            if y not in self.reals:
                continue
            if frozen:
                constant(y, self.reals[y])
                outputs.append(before)
                continue
            low, high = self.ranges[y]
            if low is not None and high is not None:  # per channel too, which Clip cannot
                made.append(helper.make_node("Max", [before, constant(f"{y}/low", low)], [f"{y}/raised"]))
                made.append(helper.make_node("Min", [f"{y}/raised", constant(f"{y}/high", high)], [f"{y}/cut"]))
                before = f"{y}/cut"
            made.append(helper.make_node("Add", [before, constant(f"{y}/residue", self.residues[y])], [y]))
        if frozen:
            outputs = [name for name in outputs if name.endswith("/before")]
        kinds = {k: self.dtype if v.dtype.kind == "f" else v.dtype for k, v in self.feeds.items()}
        inputs = [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(kind), None) for k, kind in kinds.items()
        ]
        graph = helper.make_graph(made, "derounded", inputs, [onnx.ValueInfoProto(name=name) for name in outputs])
        for name in {x for n in made for x in n.input} & set(weights):
            graph.initializer.append(numpy_helper.from_array(np.asarray(weights[name]), name))
        imports = [o for o in self.model.opset_import if o.domain in ("", "com.microsoft")]
        result = helper.make_model(graph, opset_imports=imports, ir_version=self.model.ir_version)
        for output in result.graph.output:
            output.type.tensor_type.elem_type = FLOAT[self.dtype]
        return result


def _range(dtype: np.dtype[Any], outward: bool) -> tuple[float, float]:
    """Return what rounds into the type, or (not `outward`) to neither of its ends."""
    if "int" not in dtype.name:
        return float(ml_dtypes.finfo(dtype).min), float(ml_dtypes.finfo(dtype).max)
    info = ml_dtypes.iinfo(dtype)
    half = 0.5 if outward else -0.5
    return float(info.min) - half, float(info.max) + half


def _real(q: Array, scale: Array, zero: Array, axis: int) -> Array:
    """Return what integers stand for; one scale, or one per entry of `axis`."""
    q = q.astype(np.float64)
    shape = [-1 if a == axis % max(q.ndim, 1) else 1 for a in range(q.ndim)]
    s, z = (
        v.astype(np.float64) if v.ndim > 1 else v.astype(np.float64).reshape(shape if v.size > 1 else ())
        for v in (scale, zero)
    )
    return (q - z) * s


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _copy(
    node: onnx.NodeProto, op_type: str, inputs: list[str], output: str, drop: tuple[str, ...] = ()
) -> onnx.NodeProto:
    made = onnx.NodeProto(op_type=op_type, input=inputs, output=[output])
    made.attribute.extend(a for a in node.attribute if a.name not in drop)
    return made


def _unchanged(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.output[0] = y
    if node.op_type == "Cast" and _attribute(node, "to", 0) == TensorProto.FLOAT:
        return [_copy(node, "Identity", list(node.input), y, ("to",))]
    return [made]


def _quantize(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    scale = node.input[1]
    if scale in work.constants:
        return [helper.make_node("Identity", node.input[:1], [y])]
    steps = helper.make_node("Div", [node.input[0], scale], [f"{y}/steps"])  # each as long as it is here
    return [steps, helper.make_node("Mul", [f"{y}/steps", constant(f"{y}/step", work._seen(scale))], [y])]


def _dequantize(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    x, own = real(node, 0, 1, 2, _attribute(node, "axis", 1)), work.scales.get(node.input[0])
    if own is not None and node.input[1] in work.feeds:
        step = constant(f"{y}/step", work._seen(own))
        divided = helper.make_node("Div", [node.input[1], step], [f"{y}/ratio"])
        return [divided, helper.make_node("Mul", [x, f"{y}/ratio"], [y])]
    if own in {*work.constants, *work.feeds} and own != node.input[1]:  # read with another scale than it was given
        ratio = work.constants[node.input[1]].astype(np.float64) / work._seen(own)
        return [helper.make_node("Mul", [x, constant(f"{y}/ratio", ratio)], [y])]
    return [helper.make_node("Identity", [x], [y])]


def _dynamic(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    for name in node.output[1:]:
        constant(name, work._seen(name))
    return [_copy(node, "Identity", [node.input[0]], y)]


def _bias(work: _Work, node: onnx.NodeProto, i: int, xs: int, ws: int, constant: Constant) -> list[str]:
    if len(node.input) <= i or not node.input[i]:
        return []
    c = work.constants
    scale = (c[node.input[xs]].astype(np.float64) * c[node.input[ws]].astype(np.float64)).reshape(-1)
    return [constant(f"{node.input[i]}/bias", c[node.input[i]].astype(np.float64) * scale)]


def _conv(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    return [
        _copy(
            node,
            "Conv",
            [node.input[0], real(node, 3, 4, 5), *_bias(work, node, 8, 1, 4, constant)],
            y,
            ("channels_last",),
        )
    ]


def _gemm(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    weight = real(node, 3, 4, 5, 0 if _attribute(node, "transB", 0) else 1)
    return [_copy(node, "Gemm", [node.input[0], weight, *_bias(work, node, 6, 1, 4, constant)], y)]


def _integers(op_type: str, axis: int) -> Callable[..., list[onnx.NodeProto]]:
    """Of integers as such: what stands for real numbers is counted in its steps."""

    def made(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
        nodes, names = [], []
        for i, zero in ((0, 2), (1, 3)):
            names.append(real(node, i, None, zero, axis))
            if names[i] in work.scales:
                nodes.append(helper.make_node("Div", [names[i], work.scales[names[i]]], [f"{y}/integers{i}"]))
                names[i] = f"{y}/integers{i}"
        return [*nodes, _copy(node, op_type, names, y)]

    return made


def _like(
    op_type: str, *operands: tuple[int, int, int], axis: int = 0, drop: tuple[str, ...] = ()
) -> Callable[..., list[onnx.NodeProto]]:
    """The operator of real numbers, with operands at (index, index of the scale, index of the zero point)."""

    def made(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
        return [_copy(node, op_type, [real(node, *at, axis) for at in operands], y, drop)]

    return made


def _plus_bias(weight: tuple[int, int, int], bias: int) -> Callable[..., list[onnx.NodeProto]]:
    def made(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
        product = helper.make_node("MatMul", [node.input[0], real(node, *weight, -1)], [f"{y}/product"])
        if len(node.input) <= bias:
            return [product, helper.make_node("Identity", [f"{y}/product"], [y])]
        return [product, helper.make_node("Add", [f"{y}/product", node.input[bias]], [y])]

    return made


def _attention(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    made = _copy(node, "ProjectedAttention", [node.input[0], real(node, 1, 4, 7, -1), node.input[2]], y)
    made.domain = "com.microsoft"  # of tests.kernels
    return [made]


def _concat(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    parts = [real(node, i, i + 1, i + 2) for i in range(2, len(node.input), 3)]
    return [_copy(node, "Concat", parts, y)]


def _blocks(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    n, k, size, bits = (_attribute(node, name, 4) for name in ("N", "K", "block_size", "bits"))
    packed, scales = (work.constants[name] for name in node.input[1:3])
    weight = np.zeros((k, n))
    for row in range(n):
        for column in range(k):
            block, at = divmod(column, size)
            shift = at * bits
            q = (int(packed[row, block, shift // 8]) >> (shift % 8)) % 2**bits
            zero = 2 ** (bits - 1)
            if len(node.input) > 3 and node.input[3]:
                zeros = work.constants[node.input[3]].reshape(n, -1)
                shift = block * bits
                zero = (int(zeros[row, shift // 8]) >> (shift % 8)) % 2**bits
            weight[column, row] = (q - zero) * scales.reshape(n, -1)[row, block]
    return [helper.make_node("MatMul", [node.input[0], constant(f"{y}/weight", weight)], [y])]


def _where(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    return [_copy(node, "Where", [node.input[0], real(node, 1, 2, 3), real(node, 4, 5, 6)], y)]


def _laid_out(formula: Callable[..., list[onnx.NodeProto]], always: bool = False) -> Callable[..., Any]:
    """The operator between transpositions, where its values have channels last."""

    def made(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
        if not always and not _attribute(node, "channels_last", 0):
            return formula(work, node, y, real, constant)
        turned = onnx.NodeProto()
        turned.CopyFrom(node)
        turned.input[0] = f"{y}/first"
        return [
            helper.make_node("Transpose", node.input[:1], [f"{y}/first"], perm=[0, 3, 1, 2]),
            *formula(work, turned, f"{y}/inner", real, constant),
            helper.make_node("Transpose", [f"{y}/inner"], [y], perm=[0, 2, 3, 1]),
        ]

    return made


def _max_pool(work: _Work, node: onnx.NodeProto, y: str, real: Real, constant: Constant) -> list[onnx.NodeProto]:
    return [_copy(node, "MaxPool", list(node.input), y)]


LEFT, RIGHT = (0, 1, 2), (3, 4, 5)
_FORMULAS: dict[str, Callable[..., list[onnx.NodeProto]]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "NhwcMaxPool": _laid_out(_max_pool, always=True),
    "QLinearConv": _laid_out(_conv),
    "ConvInteger": _integers("Conv", 0),
    "QLinearMatMul": _like("MatMul", LEFT, RIGHT, axis=-1),
    "MatMulInteger": _integers("MatMul", -1),
    "QGemm": _gemm,
    "QAttention": _attention,
    "DynamicQuantizeMatMul": _plus_bias((1, 2, 3), 4),
    "MatMulIntegerToFloat": _plus_bias((1, 3, 5), 6),
    "MatMulNBits": _blocks,
    "QLinearAdd": _like("Add", LEFT, RIGHT),
    "QLinearMul": _like("Mul", LEFT, RIGHT),
    "QLinearConcat": _concat,
    "QLinearSigmoid": _like("Sigmoid", LEFT),
    "QLinearLeakyRelu": _like("LeakyRelu", LEFT),
    "QLinearSoftmax": _like("Softmax", LEFT, drop=("opset",)),
    "QLinearAveragePool": _laid_out(_like("AveragePool", LEFT, drop=("channels_last",))),
    "QLinearGlobalAveragePool": _laid_out(_like("GlobalAveragePool", LEFT, drop=("channels_last",))),
    "QLinearWhere": _where,
}
