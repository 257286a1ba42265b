"""ONNX Runtime's own operators, which its optimisers write: com.microsoft, and SimplifiedLayerNormalization.

Each is a composition of standard ones; its rule composes theirs, in standard operators, so that what is added runs
wherever the rest of the file does. Attributes have no schema in onnx: their defaults stand here, as ONNX Runtime's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.elementwise import gelu, one_minus
from cam_onnx.autodiff.rules.normalization import through_statistics
from cam_onnx.autodiff.rules.recurrent import lstm
from cam_onnx.autodiff.table import broadcast, deflowering, defvjp, missing
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

Maybe = Val | None
microsoft = partial(defvjp, domain="com.microsoft")


def added(op: Emitter, x: Val, bias: Maybe) -> Val:
    return x if bias is None else x + bias


# Matrix products ------------------------------------------------------------------------------------------------------


def turned(op: Emitter, v: Val, rank: int) -> Val:
    return op.Transpose(v, perm=[*range(rank - 2), rank - 1, rank - 2])


def fused_matmul(which: int) -> Any:
    """With A' and B' the operands as they are multiplied: A' has the cotangent g B'^T, B' has A'^T g."""

    def vjp(
        op: Emitter,
        g: Val,
        y: Val,
        a: Val,
        b: Val,
        *,
        alpha: float = 1.0,
        transA: int = 0,
        transB: int = 0,
        transBatchA: int = 0,
        transBatchB: int = 0,
    ) -> Val:
        if transBatchA or transBatchB or min(a.rank, b.rank) < 2:
            raise Refused("transBatchA, transBatchB or a vector; save the file at basic level")
        if which == 0:
            other = b if transB else turned(op, b, b.rank)
            product = op.MatMul(g, other)
        else:
            other = a if transA else turned(op, a, a.rank)
            product = op.MatMul(other, g)
        rank = max(a.rank, b.rank)
        x, flipped = ((a, transA), (b, transB))[which]
        if flipped:
            product = turned(op, product, rank)
        product = sum_to(op, product, y.dims[:-2] + x.dims[-2:], x)
        return product if alpha == 1.0 else product * alpha

    return vjp


microsoft("FusedMatMul", fused_matmul(0), fused_matmul(1))
microsoft("TransposeMatMul", fused_matmul(0), fused_matmul(1))

# Gelu and its approximations ------------------------------------------------------------------------------------------


def bias_gelu(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    return gelu(op, g, y, a + b, "none")


def fast_gelu(op: Emitter, g: Val, y: Val, x: Val, bias: Maybe) -> Val:
    return gelu(op, g, y, added(op, x, bias), "tanh")


def quick_gelu(op: Emitter, g: Val, y: Val, x: Val, *, alpha: float = 1.702) -> Val:
    """``x sigmoid(alpha x)``: SiLU where alpha is 1."""
    s = op.Sigmoid(x * alpha)
    return g * (s + x * alpha * (s * one_minus(op, s)))


microsoft("Gelu", lambda op, g, y, x: gelu(op, g, y, x, "none"))
microsoft("BiasGelu", broadcast(bias_gelu), broadcast(bias_gelu))
microsoft("FastGelu", broadcast(fast_gelu), broadcast(fast_gelu))
microsoft("QuickGelu", quick_gelu)

# Normalisations -------------------------------------------------------------------------------------------------------


def root_mean_square(op: Emitter, g: Val, x: Val, epsilon: float) -> Val:
    """Cotangent through ``x / sqrt(mean(x^2) + epsilon)`` over the last axis."""
    inverse = op.Reciprocal(op.Sqrt(op.ReduceMean(x * x, [-1]) + epsilon))
    n = x * inverse
    return inverse * (g - n * op.ReduceMean(g * n, [-1]))


def simplified_x(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Val:
    if axis % x.rank != x.rank - 1:
        raise Refused("an axis other than the last one")
    return root_mean_square(op, g * s, x, epsilon)


def skip_norm(simplified: bool) -> Any:
    """Output 0 is the normalised sum, output 3 the sum; what is summed has the cotangent of the sum."""

    def vjp(
        op: Emitter,
        gs: tuple[Maybe, ...],
        ys: tuple[Val, ...],
        x: Val,
        skip: Val,
        gamma: Val,
        *rest: Maybe,
        epsilon: float = 1e-12,
    ) -> Val:
        if any(g is not None for g in gs[1:3]):
            raise Refused("with respect to its statistics")
        bias = (*rest, None, None)[0 if simplified else 1]
        parts = [g for g in gs[3:] if g is not None]
        if gs[0] is not None:
            total = added(op, x + skip, bias)
            through = root_mean_square(op, gs[0] * gamma, total, epsilon)
            parts.append(through if simplified else through_statistics(op, gs[0] * gamma, total, [-1], epsilon))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    return vjp


weights = missing("with respect to its weights")
defvjp("SimplifiedLayerNormalization", simplified_x, weights)
for name, simplified in (("SkipLayerNormalization", False), ("SkipSimplifiedLayerNormalization", True)):
    microsoft(name, *[broadcast(skip_norm(simplified))] * 2, *[weights] * 3, several=True)

# An LSTM --------------------------------------------------------------------------------------------------------------


def dynamic_quantize_lstm(
    op: Emitter,
    x: Val,
    w: Val,
    r: Val,
    b: Val | None,
    sequence_lens: Val | None,
    initial_h: Val | None,
    initial_c: Val | None,
    p: Val | None,
    ws: Val,
    wz: Val,
    rs: Val,
    rz: Val,
    *,
    activations: list[Any] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
) -> tuple[Val, ...]:
    """ONNX Runtime's: the weights are integers, turned round, with a scale a direction, or one a column too."""

    def real(q: Val, scale: Val, zero: Val) -> Val:
        laid = [op.Reshape(op.Cast(v, to=1), [q.dims[0], 1, -1]) for v in (scale, zero)]
        return op.Transpose((op.Cast(q, to=1) - laid[1]) * laid[0], perm=[0, 2, 1])

    return lstm(
        op, x, real(w, ws, wz), real(r, rs, rz), b, sequence_lens, initial_h, initial_c, p,
        activations, activation_alpha, activation_beta, clip, direction, hidden_size, input_forget, 0,
    )  # fmt: skip


deflowering("DynamicQuantizeLSTM", dynamic_quantize_lstm, domain="com.microsoft")
