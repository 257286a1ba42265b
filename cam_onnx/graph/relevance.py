"""Layer-wise relevance propagation as rule tables: what goes back is relevance, divided by the value that it is of.

With ``c = R / x`` in the place of R, all that moves, adds, selects or scales values keeps its derivative for a rule,
for then ``x c`` is conserved; softmax does too, and what stands there is AttnLRP's. Only what is named here bends. No
value between two layers is divided by, and at the end relevance is ``x c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.linear import matmul_left, matmul_right
from cam_onnx.autodiff.rules.normalization import channels_of_group, grouped, last_axes, per_channel
from cam_onnx.autodiff.table import RULES, Table, broadcast, each, missing, zero
from cam_onnx.autodiff.val import Val
from cam_onnx.graph.merged import (
    Linear,
    constant,
    convolution,
    dense,
    emitted,
    leader,
    product,
    transposed_convolution,
)

__all__ = ["relevance_table"]

LITTLE = 1e-6  # what keeps a divisor from 0 where a rule has no epsilon of its own
ALPHA, BETA = 2.0, 1.0


def stable(op: Emitter, z: Val, by: float = LITTLE) -> Val:
    """Return the value moved away from 0 by a little, with its sign; 0 counts as positive."""
    return z + op.Where(op.Less(z, 0.0), op.constant(-by, z.dtype), op.constant(by, z.dtype))


# -- rules of linear layers: the cotangent of the layer's output in, that of its input out -----------------------------

Way = Callable[[Linear, Val], Val]


def by_epsilon(layer: Linear, g: Val, epsilon: float) -> Val:
    """``R_i = sum_j x_i w_ij R_j / (z_j + epsilon)``."""
    op = layer.op
    share = g * (layer.z / stable(op, layer.z, epsilon))
    if layer.scale is not None:
        share = share * per_channel(op, layer.scale, layer.w)
    return layer.back(share, layer.w)


def by_parts(layer: Linear, shares: list[tuple[Val, Val, Val]]) -> Val:
    """Return what comes back of shares, each with the kernels that positive and negative inputs are seen through."""
    op, x = layer.op, layer.x
    found: Val = op.Where(op.Greater(x, 0.0), _sum(layer.back(s, seen) for s, seen, _ in shares), 0.0)
    if never_negative(x.value):
        return found
    below = _sum(layer.back(s, seen) for s, _, seen in shares)
    return op.Where(op.Less(x, 0.0), below, found)


def total(layer: Linear, seen: Val, turned: Val, bias: Val | None) -> Val:
    """Return what positive inputs give through one kernel and negative ones through another."""
    op, x = layer.op, layer.x
    if never_negative(x.value):
        return layer.given(x, seen, bias)
    return layer.given(op.Relu(x), seen, bias) - layer.given(op.Relu(-x), turned)


def by_alpha_beta(layer: Linear, g: Val, alpha: float = ALPHA, beta: float = BETA) -> Val:
    """Positive contributions take alpha times the relevance, negative ones give beta times back; z+ is (1, 0)."""
    op, w, b = layer.op, layer.weight, layer.bias
    up, down, relevance = layer.positive(w), layer.negative(w), g * layer.z
    over = relevance * alpha / stable(op, total(layer, up, down, None if b is None else op.Relu(b)))
    shares = [(over, up, down)]
    if beta:
        under = relevance * -beta / stable(op, total(layer, down, up, None if b is None else -op.Relu(-b)))
        shares.append((under, down, up))
    return by_parts(layer, shares)


def by_gamma(layer: Linear, g: Val, gamma: float) -> Val:
    """What agrees in sign with the output counts ``1 + gamma`` times."""
    op, w, b, z = layer.op, layer.weight, layer.bias, layer.z
    up, down = layer.mixed(w, layer.positive(w), gamma), layer.mixed(w, layer.negative(w), gamma)
    relevance, shares = g * z, []
    for agrees, seen, turned, sign in ((op.Greater(z, 0.0), up, down, 1.0), (op.Less(z, 0.0), down, up, -1.0)):
        bias = None if b is None else b + op.Relu(b * sign) * (gamma * sign)
        shares.append((op.Where(agrees, relevance / stable(op, total(layer, seen, turned, bias)), 0.0), seen, turned))
    return by_parts(layer, shares)


def by_box(layer: Linear, g: Val) -> Val:
    """The picture between its smallest and largest value of each channel; what is not `x c` is laid aside."""
    op, x, w, b = layer.op, layer.x, layer.weight, layer.bias
    up, down, space = layer.positive(w), layer.negative(w), list(range(2, w.rank))
    low, high = (op.Expand(v, op.shape(x)) for v in (op.ReduceMin(x, space), op.ReduceMax(x, space)))
    seen = [(low, up), (high, down)]
    z = layer.given(x, w, b)
    for bound, kernel in seen:  # as zennit: the bias is clamped as the kernel is
        z = z - layer.given(bound, kernel, None if b is None else op.Relu(b) if kernel is up else -op.Relu(-b))
    share = g * layer.z / stable(op, z)
    op.aside[x.value] = [*op.aside.get(x.value, ()), *(-bound * layer.back(share, kernel) for bound, kernel in seen)]
    return layer.back(share, w)


def by_even_shares(layer: Linear, g: Val) -> Val:
    """Every input that a value sees gets as much of it: nothing of this is `x c`, all is laid aside."""
    op, x, w = layer.op, layer.x, layer.w
    ones = layer.ones(w)
    seen = layer.given(op.Expand(op.constant(1.0, x.dtype), op.shape(x)), ones)
    op.aside[x.value] = [*op.aside.get(x.value, ()), layer.back(g * layer.z / stable(op, seen), ones)]
    return x * 0.0


def never_negative(value: ir.Value) -> bool:
    """Whether a value is known to be at least 0: behind a ReLU, perhaps pooled."""
    node = value.producer()
    while node is not None and node.op_type in _KEEP_SIGN and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in ("Relu", "Sigmoid", "HardSigmoid", "Softmax")


_KEEP_SIGN = {
    "AveragePool", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Reshape",
    "Transpose",
}  # fmt: skip


def _sum(vals: Any) -> Any:
    result = None
    for val in vals:
        result = val if result is None else result + val
    return result


# -- the table ---------------------------------------------------------------------------------------------------------


def through(op: Emitter, g: Val, y: Val, x: Val, *_: Any, **__: Any) -> Val:
    """Relevance goes through a function of one value as it is: ``c y / x``."""
    known = op.Equal(x, 0.0)
    found: Val = op.Where(known, 0.0, g * y / op.Where(known, 1.0, x))
    return found


def shared(g: Val, a: Val, b: Val) -> Val:
    """Two factors of which none is a weight share evenly."""
    return g if constant(a.value) or constant(b.value) else g * 0.5


def centred(op: Emitter, g: Val, x: Val, axes: list[int], epsilon: float) -> Val:
    """Through a normalisation whose deviation is taken for a constant."""
    away = x - op.ReduceMean(x, axes)
    inverse = 1.0 / op.Sqrt(op.ReduceMean(away * away, axes) + epsilon)
    share = g * inverse
    return share - op.ReduceMean(share, axes)


def layer_norm(
    op: Emitter, gs: Any, ys: Any, x: Val, s: Val, b: Val | None, axis: int, epsilon: float, **_: Any
) -> Val:
    return centred(op, gs[0] * s, x, last_axes(x, axis), epsilon)


def instance_norm(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float) -> Val:
    return centred(op, g * per_channel(op, s, x), x, list(range(2, x.rank)), epsilon)


def group_norm(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float, num_groups: int, **_: Any) -> Val:
    share = g * per_channel(op, s, x)
    return op.reshape_like(centred(op, grouped(op, share, num_groups), grouped(op, x, num_groups), [2], epsilon), x)


def group_scales(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, num_groups: int, **how: Any) -> Val:
    return group_norm(op, g, y, x, channels_of_group(op, s, x, num_groups), b, num_groups=num_groups, **how)


def einsum(op: Emitter, i: int, g: Val, y: Val, *xs: Val, equation: str) -> Val:
    plain: Any = RULES.find("Einsum", op.opset)
    values = sum(not constant(x.value) for x in xs)
    found: Val = plain.entry(0).function(op, i, g * (1.0 / values) if values > 1 else g, y, *xs, equation=equation)
    return found


def finished(op: Emitter, x: Val, g: Val) -> Val:
    """Return relevance: ``x c``, and what was laid aside."""
    return _sum([x * g, *op.aside.get(x.value, ())])  # type: ignore[no-any-return]


ACTIVATIONS = (
    "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LRN",
    "LpNormalization", "Mish", "Pow", "Selu", "Shrink", "Sigmoid", "Sinh", "Softplus", "Softsign", "Sqrt", "Tanh",
)  # fmt: skip


UNKNOWN = {  # products and normalisations by another name: their derivative would not be what a composite says
    "": ("ConvInteger", "DeformConv", "MatMulInteger", "QLinearConv", "QLinearMatMul", "SimplifiedLayerNormalization"),
    "com.microsoft": (
        "Attention", "BiasGelu", "DynamicQuantizeMatMul", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu",
        "MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "QGemm", "QLinearAveragePool", "QLinearMul",
        "QLinearSigmoid", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "TransposeMatMul",
    ),
}  # fmt: skip


def relevance_table(convolutions: str, first: str = "", epsilon: float = 1e-6, gamma: float = 0.25) -> Table:
    """Return the table of a composite: `convolutions` says the rule of these, `first` of the one at the picture.

    Dense layers have the epsilon rule, normalisations a constant deviation, products of two values half each.
    """
    ways: dict[str, Way] = {
        "epsilon": lambda layer, g: by_epsilon(layer, g, epsilon),
        "plus": lambda layer, g: by_alpha_beta(layer, g, 1.0, 0.0),
        "alpha-beta": by_alpha_beta,
        "gamma": lambda layer, g: by_gamma(layer, g, gamma),
        "box": by_box,
        "flat": by_even_shares,
    }
    table = Table(RULES, arriving=finished)

    def conv(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val | None, **how: Any) -> Val:
        at_first = first and x.value.producer() is None and op.within is None
        return ways[first if at_first else convolutions](convolution(op, y, x, w, b, **how), g)

    def conv_transpose(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val | None, **how: Any) -> Val:
        return ways[convolutions](transposed_convolution(op, y, x, w, b, **how), g)

    def gemm(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val | None, **how: Any) -> Val:
        return ways["epsilon"](dense(op, y, x, w, b, **how), g)

    def matmul(op: Emitter, g: Val, y: Val, x: Val, w: Val) -> Val:
        if constant(w.value):
            return ways["epsilon"](product(op, y, x, w), g)
        return matmul_left(op, shared(g, x, w), y, x, w)

    def matmul_of_weight(op: Emitter, g: Val, y: Val, x: Val, w: Val) -> Val:
        """The second factor: a value, not a weight."""
        if constant(x.value):
            g = g * (y / stable(op, y, epsilon))
        return matmul_right(op, shared(g, x, w), y, x, w)

    def batch_norm(op: Emitter, gs: Any, ys: Any, x: Val, s: Val, b: Val, mean: Val, var: Val, **how: Any) -> Val:
        if leader(ys[0].value, emitted(op)) is not None:
            return gs[0]  # type: ignore[no-any-return]
        plain: Any = RULES.find("BatchNormalization", op.opset)
        share = gs[0] * (ys[0] / stable(op, ys[0], epsilon))
        found: Val = plain.entry(0).function(op, (share, *gs[1:]), ys, x, s, b, mean, var, **how)
        return found

    table.defvjp("Conv", conv)
    table.defvjp("ConvTranspose", conv_transpose)
    table.defvjp("Gemm", gemm)
    table.defvjp("MatMul", matmul, matmul_of_weight)
    table.defvjp("BatchNormalization", batch_norm, several=True)
    table.defvjp("LayerNormalization", layer_norm, several=True)
    table.defvjp("InstanceNormalization", instance_norm)
    table.defvjp("GroupNormalization", group_norm)
    table.defbroadcast(
        "Mul",
        lambda op, g, y, a, b: shared(g, a, b) * b,
        lambda op, g, y, a, b: shared(g, a, b) * a,
    )
    table.defvjp("Div", broadcast(_numerator), zero("a divisor is taken for a constant"))
    table.defvjp("GroupNormalization", group_scales, before=21)
    table.defvjp("Einsum", each(einsum))
    for name in ACTIVATIONS:
        table.defvjp(name, through)
    for domain, names in UNKNOWN.items():
        for name in names:
            table.defvjp(name, missing("no rule of relevance propagation"), domain=domain)
    return table


def _numerator(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    plain: Any = RULES.find("Div", op.opset)
    found: Val = plain.entry(0).function(op, g, y, a, b)
    return found
