"""A linear layer as relevance propagation sees it: with the constant and the BatchNormalization behind it merged in.

What is merged is found before anything emitted reads the values between, and kept with the layer's node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.convolution import conv_transpose_x, conv_x
from cam_onnx.autodiff.rules.linear import gemm_left, matmul_left
from cam_onnx.autodiff.rules.normalization import per_channel
from cam_onnx.autodiff.val import Val

__all__ = ["Linear", "constant", "convolution", "dense", "emitted", "leader", "product", "transposed_convolution"]


@dataclass(frozen=True)
class Linear:
    """``z = F(x, scale w) + bias``.

    Attributes
    ----------
    forward : callable
        F(x, w), without a bias.
    back : callable
        The transpose of F(., w), of a value of z's shape.
    z : Val
    bias : Val or None
        Broadcasts to z.
    scale : Val or None
        One a channel of z; `along` is its axis in w.
    """

    op: Emitter
    x: Val
    w: Val
    forward: Callable[[Val, Val], Val]
    back: Callable[[Val, Val], Val]
    z: Val
    bias: Val | None
    scale: Val | None
    along: int

    @property
    def weight(self) -> Val:
        """The kernel with the scale in it."""
        if self.scale is None:
            return self.w
        others = [axis for axis in range(self.w.rank) if axis != self.along]
        return self._shaped(self.w * self.op.Unsqueeze(self.scale, others))

    def positive(self, v: Val) -> Val:
        return self._shaped(self.op.Relu(v))

    def negative(self, v: Val) -> Val:
        return self._shaped(-self.op.Relu(-v))

    def ones(self, v: Val) -> Val:
        """Return a kernel of ones: it counts what it sees."""
        return self._shaped(self.op.Expand(self.op.constant(1.0, v.dtype), self.op.shape(v)))

    def mixed(self, a: Val, b: Val, share: float) -> Val:
        """Return ``a + share b`` of kernels."""
        return self._shaped(a + b * share)

    def _shaped(self, w: Val) -> Val:
        self.op.shaped_as(w, self.w.value)
        return w

    def given(self, v: Val, w: Val, bias: Val | None = None) -> Val:
        found = self.forward(v, w)
        return found if bias is None else found + bias


def behind(y: ir.Value, own: set[int]) -> list[ir.Node]:
    """Return the BatchNormalizations and additions of a constant that alone read a linear layer's output, in order.

    `own`: nodes that were emitted, by id. Found before anything emitted reads these values, and kept.
    """
    node = y.producer()
    assert node is not None
    if "merged" not in node.meta:
        chain: list[ir.Node] = []
        while True:
            readers = [each for each in y.consumers() if id(each) not in own]
            if len(readers) != 1 or not _mergeable(readers[0], y, node):
                break
            chain.append(readers[0])
            y = readers[0].outputs[0]
        node.meta["merged"] = chain
    found: list[ir.Node] = node.meta["merged"]
    return found


def _mergeable(node: ir.Node, y: ir.Value, layer: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "BatchNormalization":
        training = node.attributes.get("training_mode")
        listed = layer.op_type == "MatMul" and (y.shape is None or len(y.shape) != 2)  # its channels are no columns
        return y is node.inputs[0] and not listed and not (training is not None and training.as_int())
    return node.op_type == "Add" and all(x is y or (x is not None and constant(x)) for x in node.inputs)


MERGING = {"Conv", "Gemm", "MatMul"}


def leader(value: ir.Value, own: set[int]) -> ir.Node | None:
    """Return the linear layer that a value is merged into, if it is."""
    passed: list[ir.Node] = []
    node = value.producer()
    while node is not None and node.domain in ("", "ai.onnx"):
        if node.op_type in MERGING:
            return node if set(map(id, passed)) <= set(map(id, behind(node.outputs[0], own))) else None
        if node.op_type not in ("BatchNormalization", "Add"):
            return None
        passed.append(node)
        source = next((x for x in node.inputs if x is not None and not constant(x)), None)
        node = None if source is None else source.producer()
    return None


def constant(value: ir.Value) -> bool:
    """Whether a value is made of weights and sizes alone."""
    stack = [value]
    while stack:
        each = stack.pop()
        node = each.producer()
        if each.const_value is not None or each.is_initializer() or (node is not None and node.op_type in _FIXED):
            continue
        if node is None or not any(x is not None for x in node.inputs):
            return False
        stack += [x for x in node.inputs if x is not None]
    return True


_FIXED = {"Constant", "Shape", "Size"}


def emitted(op: Emitter) -> set[int]:
    found = set(map(id, op.nodes))
    return found if op.within is None else found | emitted(op.within)


def linear(
    op: Emitter, y: Val, x: Val, w: Val, forward: Callable[[Val, Val], Val], back: Callable[[Val, Val], Val],
    bias: Val | None, along: int, merging: bool = True,
) -> Linear:  # fmt: skip
    """Return a layer with what stands behind it merged into it."""
    scale, z = None, y
    for node in behind(y.value, emitted(op)) if merging else ():
        primals = [None if v is None else op.primal(v) for v in node.inputs]
        z = op.primal(node.outputs[0])
        if node.op_type == "Add":
            [shift] = [v for v in primals if v is not None and constant(v.value)]
            bias = shift if bias is None else bias + shift
            continue
        _, s, b, mean, var = primals[:5]
        assert s is not None
        assert b is not None
        assert mean is not None
        assert var is not None
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        factor = s / op.Sqrt(var + epsilon)
        shift = per_channel(op, b - mean * factor, w)
        bias = shift if bias is None else bias * per_channel(op, factor, w) + shift
        scale = factor if scale is None else scale * factor
    return Linear(op, x, w, forward, back, z, bias, scale, along)


def convolution(op: Emitter, y: Val, x: Val, w: Val, b: Val | None, **how: Any) -> Linear:
    return linear(
        op, y, x, w, lambda v, k: op.Conv(v, k, **how), lambda s, k: conv_x(op, s, y, x, k, None, **how),
        None if b is None else per_channel(op, b, w), along=0,
    )  # fmt: skip


def transposed_convolution(op: Emitter, y: Val, x: Val, w: Val, b: Val | None, **how: Any) -> Linear:
    return linear(
        op, y, x, w, lambda v, k: op.ConvTranspose(v, k, **how),
        lambda s, k: conv_transpose_x(op, s, y, x, k, None, **how),
        None if b is None else per_channel(op, b, w), along=0, merging=False,
    )  # fmt: skip


def dense(op: Emitter, y: Val, x: Val, w: Val, b: Val | None, alpha: float, beta: float, **how: Any) -> Linear:
    """A Gemm."""
    bias = b if b is None or beta == 1.0 else b * beta
    return linear(
        op, y, x, w, lambda v, k: op.Gemm(v, k, alpha=alpha, **how),
        lambda s, k: gemm_left(op, s, y, x, k, None, alpha=alpha, **how), bias, along=0 if how["transB"] else 1,
    )  # fmt: skip


def product(op: Emitter, y: Val, x: Val, w: Val) -> Linear:
    """A MatMul with a weight."""
    return linear(
        op, y, x, w, lambda v, k: op.MatMul(v, k), lambda s, k: matmul_left(op, s, y, x, k), None, along=w.rank - 1
    )
