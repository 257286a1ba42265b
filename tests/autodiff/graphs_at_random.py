"""Random small graphs: a few inputs, a handful of nodes that read what stands before them, and often the same twice.

Sizes are small and known here; the model declares them as numbers or as symbols. One more operator is one more
function in `STEPS`: it picks values from the pool, and appends a node whose output joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class Pool:
    """What has been made so far."""

    draw: Draw
    values: dict[str, Shape] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def pick(self, fits: Callable[[Shape], bool] = lambda shape: True) -> Any:
        """Draw (name, shape) of a value that fits, the latest ones more often; None if none does."""
        names = [name for name, shape in self.values.items() if fits(shape)]
        if not names:
            return None
        name = names[-1 - min(self.draw(st.integers(0, 2 * len(names))) % (len(names) + 1), len(names) - 1)]
        return name, self.values[name]

    def add(self, op_type: str, inputs: Sequence[str], *shapes: Shape, **attributes: Any) -> None:
        outputs = [f"v{len(self.values) + i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))
        self.values.update(zip(outputs, shapes, strict=True))

    def weight(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def normal(self, *shape: int) -> str:
        rng = np.random.default_rng(self.draw(st.integers(0, 99)))
        return self.weight(rng.standard_normal(shape))

    def axis(self, shape: Shape) -> int:
        return self.draw(st.integers(-len(shape), len(shape) - 1))

    def flag(self) -> bool:
        return self.draw(st.booleans())


def elementwise(p: Pool) -> None:
    plain = ["Tanh", "Sigmoid", "Neg", "Softplus", "Sin", "Relu", "Abs", "Identity", "HardSigmoid", "Elu", "Mish"]
    op_type = p.draw(st.sampled_from([*plain, "LeakyRelu", "HardSwish", "Softsign", "Selu", "Celu"]))
    name, shape = p.pick()
    p.add(op_type, [name], shape)


def binary(p: Pool) -> None:
    a, left = p.pick()
    found = p.pick(lambda shape: broadcast(left, shape) is not None)
    b, right = found or (a, left)
    op_type = p.draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min", "Sum"]))
    if op_type == "Mul":  # keeps products of products from growing
        p.add("Tanh", [a], left)
        a = list(p.values)[-1]
    p.add(op_type, [a, b], broadcast(left, right))


def quotient(p: Pool) -> None:
    name, shape = p.pick()
    p.add("Softplus", [name], shape)
    below = list(p.values)[-1]
    other, left = p.pick(lambda s: broadcast(s, shape) is not None)
    p.add("Div", [other, below], broadcast(left, shape))


def broadcast(a: Shape, b: Shape) -> Any:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None


def reduction(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    axes = p.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    signed = [a - len(shape) if p.flag() else a for a in axes]
    keep = p.draw(st.integers(0, 1))
    op_type = p.draw(
        st.sampled_from(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp"])
    )
    result = tuple(1 if a in axes else d for a, d in enumerate(shape) if keep or a not in axes)
    p.add(op_type, [name, p.weight(np.array(signed))], result, keepdims=keep)


def transpose(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    order = p.draw(st.permutations(range(len(shape))))
    p.add("Transpose", [name], tuple(shape[a] for a in order), perm=list(order))


def reshape(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 1)
    if p.flag():
        at = p.draw(st.integers(1, len(shape) - 1))
        target: list[int] = [0] * at + [-1]
        result = (*shape[:at], int(np.prod(shape[at:])))
    else:
        target, result = [-1], (int(np.prod(shape)),)
    p.add("Reshape", [name, p.weight(np.array(target))], result)


def unsqueeze(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) < 5)
    at = p.draw(st.integers(0, len(shape)))
    p.add("Unsqueeze", [name, p.weight(np.array([at]))], (*shape[:at], 1, *shape[at:]))


def cut(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    axis = p.axis(shape)
    size, step = shape[axis], p.draw(st.sampled_from([1, 1, 2, -1, -2]))
    start, end = sorted((p.draw(st.integers(0, size - 1)), p.draw(st.integers(1, size))))
    start, end = (start, max(end, start + 1)) if step > 0 else (size - 1, -(2**31))
    count = len(range(size)[slice(start, end if step > 0 else None, step)])
    result = list(shape)
    result[axis] = count
    arrays = [p.weight(np.array([v])) for v in (start, end, axis, step)]
    p.add("Slice", [name, *arrays], tuple(result))


def concat(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    axis = p.axis(shape) % len(shape)
    rest = shape[:axis] + shape[axis + 1 :]
    alike = [n for n, s in p.values.items() if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == rest]
    parts = [name, *p.draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2))]
    total = sum(p.values[n][axis] for n in parts)
    p.add("Concat", parts, (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)


def split(p: Pool) -> None:
    found = p.pick(lambda s: any(d > 1 for d in s))
    if found is None:
        return
    name, shape = found
    axis = p.draw(st.sampled_from([a for a, d in enumerate(shape) if d > 1]))
    first = p.draw(st.integers(1, shape[axis] - 1))
    sizes = [first, shape[axis] - first]
    results = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
    p.add("Split", [name, p.weight(np.array(sizes))], *results, axis=axis)


def pad(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    mode = p.draw(st.sampled_from(["constant", "edge", "reflect"]))
    most = [d - 1 if mode == "reflect" else 2 for d in shape]
    pads = [p.draw(st.integers(0, m)) for m in most * 2]
    half = len(shape)
    result = tuple(d + pads[a] + pads[a + half] for a, d in enumerate(shape))
    p.add("Pad", [name, p.weight(np.array(pads))], result, mode=mode)


def softmax(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 0)
    p.add(p.draw(st.sampled_from(["Softmax", "LogSoftmax"])), [name], shape, axis=p.axis(shape))


def product(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) > 1)
    if p.flag():
        width = p.draw(st.integers(1, 3))
        p.add("MatMul", [name, p.normal(shape[-1], width)], (*shape[:-1], width))
        return
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    p.add("Transpose", [name], tuple(shape[a] for a in order), perm=order)
    p.add("MatMul", [name, list(p.values)[-1]], (*shape[:-1], shape[-2]))


def gather(p: Pool) -> None:
    name, shape = p.pick(lambda s: 0 < len(s) < 4)
    axis = p.axis(shape) % len(shape)
    size = shape[axis]
    index = p.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=3))
    result = (*shape[:axis], len(index), *shape[axis + 1 :])
    p.add("Gather", [name, p.weight(np.array(index))], result, axis=axis)


def choose(p: Pool) -> None:
    a, left = p.pick()
    b, right = p.pick(lambda s: broadcast(left, s) is not None)
    shape = broadcast(left, right)
    condition = np.random.default_rng(p.draw(st.integers(0, 99))).random(shape) < 0.5
    p.add("Where", [p.weight(condition), a, b], shape)


def expand(p: Pool) -> None:
    name, shape = p.pick(lambda s: len(s) < 4)
    target = (p.draw(st.integers(1, 2)), *(d if d > 1 else p.draw(st.integers(1, 3)) for d in shape))
    p.add("Expand", [name, p.weight(np.array(target))], target)


def layer_norm(p: Pool) -> None:
    found = p.pick(lambda s: len(s) > 0 and s[-1] > 1)
    if found is not None:
        name, shape = found
        inputs = [name, p.normal(shape[-1]), p.normal(shape[-1])]
        p.add("LayerNormalization", inputs, shape, axis=-1, epsilon=0.1)


def convolution(p: Pool) -> None:
    found = p.pick(lambda s: len(s) in (3, 4) and s[1] > 0)
    if found is None:
        return
    name, (n, c, *space) = found
    out, stride = p.draw(st.integers(1, 3)), p.draw(st.integers(1, 2))
    front, behind = p.draw(st.integers(0, 1)), p.draw(st.integers(0, 1))
    kernel = [min(k, d + front + behind) for k, d in zip((3, 2), space, strict=False)]
    result = [(d + front + behind - k) // stride + 1 for d, k in zip(space, kernel, strict=True)]
    pads, strides = [front] * len(space) + [behind] * len(space), [stride] * len(space)
    p.add("Conv", [name, p.normal(out, c, *kernel)], (n, out, *result), pads=pads, strides=strides)


STEPS = [
    elementwise, elementwise, binary, binary, quotient, reduction, transpose, reshape, unsqueeze, cut, concat, split,
    pad, softmax, product, gather, choose, expand, layer_norm, convolution,
]  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """A model, what to feed, of which values the derivative is taken, and with respect to which."""

    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    of: list[str]
    wrt: list[str]

    def __repr__(self) -> str:
        return f"Graph(wrt={self.wrt}, of={self.of})\n{onnx.printer.to_text(self.model)}"


LARGEST = 400  # elements of a value


@st.composite
def graphs(draw: Draw) -> Graph:
    """Draw a graph of 2 to 9 steps on two inputs; `z` broadcasts against `x`."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    narrow = tuple(1 if draw(st.booleans()) else d for d in shape)[draw(st.integers(0, len(shape) - 1)) :]
    inputs = {"x": shape, "z": narrow}
    pool = Pool(draw, dict(inputs))
    elementwise(pool)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=9)):
        if np.prod(list(pool.values.values())[-1]) > LARGEST:
            break
        try:
            step(pool)
        except TypeError:  # nothing in the pool fits: `pick` gave None
            continue
    made = [y for node in pool.nodes for y in node.output]
    symbolic = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    feeds = {name: rng.standard_normal(dims) for name, dims in inputs.items()}

    def typed(name: str, dims: Shape) -> onnx.ValueInfoProto:
        declared = [f"{name}{i}" if symbolic else d for i, d in enumerate(dims)]
        return helper.make_tensor_value_info(name, TensorProto.DOUBLE, declared)

    last = made[-1]
    of = list(dict.fromkeys([last, draw(st.sampled_from(made))]))
    outputs = list(dict.fromkeys([*of, draw(st.sampled_from(made))]))
    graph = helper.make_graph(
        pool.nodes,
        "random",
        [typed(name, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None] * len(pool.values[n])) for n in outputs],
        pool.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    inner = draw(st.sampled_from(made))
    return Graph(model, feeds, of, list(dict.fromkeys(["x", "z", inner])))
