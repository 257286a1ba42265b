"""Attention as ONNX Runtime's optimisers fuse it: of com.microsoft, quantised and without padding too."""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.contrib import Maybe, added, microsoft, turned, weights
from cam_onnx.autodiff.rules.quantization import numbers, rescaled
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []


def heads_of(op: Emitter, v: Val, heads: int) -> Val:
    """(N, S, heads * h) to (N, heads, S, h)."""
    return op.Transpose(op.Reshape(v, [0, 0, heads, -1]), perm=[0, 2, 1, 3])


def together(op: Emitter, v: Val) -> Val:
    return op.Reshape(op.Transpose(v, perm=[0, 2, 1, 3]), [0, 0, -1])


def through_attention(
    op: Emitter, g: Val, q: Val, k: Val, v: Val, heads: int, scale: float, bias: Maybe
) -> tuple[Val, Val, Val]:
    """Cotangents of queries, keys and values (N, S, D) of ``softmax(q k^T scale + bias) v``; `scale` 0: the usual."""
    q, k, v, g = (heads_of(op, x, heads) for x in (q, k, v, g))
    if scale:
        factor: Val | float = scale
    else:
        width = op.Slice(op.Shape(q), [3], [4], [0])
        factor = op.Reciprocal(op.Sqrt(op.Cast(width, to=g.dtype)))
    weights = op.Softmax(added(op, op.MatMul(q, turned(op, k, 4)) * factor, bias), axis=-1)
    shared = op.MatMul(g, turned(op, v, 4))
    inner = weights * (shared - op.ReduceSum(shared * weights, [-1])) * factor
    found = op.MatMul(inner, k), op.MatMul(turned(op, inner, 4), q), op.MatMul(turned(op, weights, 4), g)
    return together(op, found[0]), together(op, found[1]), together(op, found[2])


def through_projection(
    op: Emitter, g: Val, x: Val, w: Val, b: Maybe, heads: int, scale: float, bias: Maybe, width: Val
) -> Val:
    """Cotangent of `x` (N, S, D): one product gives queries, keys and values; `w` is (D, `width`)."""
    projected, third = added(op, op.MatMul(x, w), b), width / [3]
    q, k, v = (op.Slice(projected, third * [i], third * [i + 1], [2]) for i in range(3))
    found = op.Concat(*through_attention(op, g, q, k, v, heads, scale, bias), axis=-1)
    return op.MatMul(found, turned(op, w, 2))


PLAIN = "give the model before its attention was fused"


def attention(
    op: Emitter,
    g: tuple[Maybe, ...],
    y: tuple[Val, ...],
    x: Val,
    w: Val,
    b: Maybe,
    mask: Maybe,
    past: Maybe,
    attention_bias: Maybe,
    *_: Maybe,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
    do_rotary: int = 0,
    qkv_hidden_sizes: Any = None,
    **__: object,
) -> Val:
    if mask is not None or past is not None or unidirectional or do_rotary or qkv_hidden_sizes or g[0] is None:
        raise Refused(f"with a mask, a past, rotation or sizes of its own; {PLAIN}")
    return through_projection(op, g[0], x, w, b, num_heads, scale, attention_bias, op.shape(w, 1, 2))


def qattention(
    op: Emitter,
    g: tuple[Maybe, ...],
    y: tuple[Val, ...],
    x: Val,
    w: Val,
    b: Val,
    xs: Val,
    ws: Val,
    mask: Maybe,
    xz: Maybe,
    wz: Maybe,
    past: Maybe,
    *,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
    do_rotary: int = 0,
    **_: object,
) -> Val:
    """Integers are multiplied; what follows is in floats."""
    if mask is not None or past is not None or unidirectional or do_rotary or g[0] is None:
        raise Refused(f"with a mask, a past or rotation; {PLAIN}")
    real = numbers(op, w, ws, wz, axis=-1)
    through = through_projection(op, g[0], x, real, b, num_heads, scale, None, op.shape(w, 1, 2))
    return rescaled(op, through, xs, x)


def multi_head(which: int) -> Any:
    def vjp(
        op: Emitter,
        g: tuple[Maybe, ...],
        y: tuple[Val, ...],
        query: Val,
        key: Maybe,
        value: Maybe,
        bias: Maybe,
        mask: Maybe,
        attention_bias: Maybe,
        *rest: Maybe,
        num_heads: int,
        scale: float = 0.0,
        unidirectional: int = 0,
        **_: object,
    ) -> Val:
        if any(v is not None for v in (mask, *rest)) or unidirectional or key is None or value is None or g[0] is None:
            raise Refused(f"with a mask, a past or packed inputs; {PLAIN}")
        if query.rank != 3 or key.rank != 3 or value.rank != 3:
            raise Refused("inputs of another rank than 3")
        parts = biased(op, [query, key, value], bias, op.shape(query, 2, 3))
        return through_attention(op, g[0], parts[0], parts[1], parts[2], num_heads, scale, attention_bias)[which]

    return vjp


def biased(op: Emitter, parts: list[Val], bias: Maybe, width: Val) -> list[Val]:
    """Add the three parts of a bias, of which the first two are as wide as queries."""
    if bias is None:
        return parts
    ends = [op.constant([0]), width, width + width, op.shape(bias, 0, 1)]
    return [x + op.Slice(bias, ends[i], ends[i + 1], [0]) for i, x in enumerate(parts)]


# Without padding: the tokens of all samples stand in one row (T, D); `offsets` (N + 1) says where each begins ---------


def apart(op: Emitter, x: Val, offsets: Val, g: Val) -> Val:
    """Return (T, T): 0 for two tokens of one sample, else what leaves nothing after the exponential."""
    at = op.Range(np.array(0, np.int64), op.Squeeze(op.shape(x, 0, 1), [0]), np.array(1, np.int64))
    begun = op.GreaterOrEqual(op.Unsqueeze(at, [1]), op.Unsqueeze(op.Cast(offsets, to=7), [0]))
    sample = op.ReduceSum(op.Cast(begun, to=1), [1], keepdims=0)
    same = op.Equal(op.Unsqueeze(sample, [0]), op.Unsqueeze(sample, [1]))
    return op.Where(same, 0.0, op.constant(-1e30, g.dtype))


def row(op: Emitter, v: Val) -> Val:
    return op.Unsqueeze(v, [0])


def packed_attention(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Val,
    tokens: Val,
    offsets: Val,
    attention_bias: Maybe,
    *,
    num_heads: int,
    scale: float = 0.0,
    qkv_hidden_sizes: Any = None,
    **_: object,
) -> Val:
    if attention_bias is not None or qkv_hidden_sizes:
        raise Refused(f"with a bias on its weights or sizes of its own; {PLAIN}")
    found = through_projection(
        op, row(op, g), row(op, x), w, b, num_heads, scale, apart(op, x, offsets, g), op.shape(w, 1, 2)
    )
    return op.Squeeze(found, [0])


def packed_multi_head(which: int) -> Any:
    def vjp(
        op: Emitter,
        g: Val,
        y: Val,
        query: Val,
        key: Maybe,
        value: Maybe,
        bias: Maybe,
        tokens: Val,
        offsets: Val,
        attention_bias: Maybe,
        *,
        num_heads: int,
        scale: float = 0.0,
        **_: object,
    ) -> Val:
        if attention_bias is not None:
            raise Refused(f"with a bias on its weights; {PLAIN}")
        mask = apart(op, query, offsets, g)
        if key is not None and value is not None:
            parts = biased(op, [row(op, v) for v in (query, key, value)], bias, op.shape(query, 1, 2))
            found = through_attention(op, row(op, g), parts[0], parts[1], parts[2], num_heads, scale, mask)
            return op.Squeeze(found[which], [0])
        cut = [op.Slice(query, [i], [i + 1], [2]) for i in range(3)]  # (T, heads, 3, h): one input for all
        parts = [op.Reshape(op.Squeeze(v, [2]), [0, -1]) for v in cut]
        parts = biased(op, [row(op, v) for v in parts], bias, op.shape(y, 1, 2))
        found = through_attention(op, row(op, g), parts[0], parts[1], parts[2], num_heads, scale, mask)
        return op.Concat(*(op.Reshape(op.Squeeze(v, [0]), [0, num_heads, 1, -1]) for v in found), axis=2)

    return vjp


def remove_padding(op: Emitter, g: tuple[Maybe, ...], y: tuple[Val, ...], x: Val, count: Val) -> Maybe:
    """The tokens (T, D) of all samples, and where each was in (N * S, D); padding stands behind them there."""
    if g[0] is None:
        return None
    flat = op.Reshape(op.Expand(op.constant(0.0, g[0].dtype), op.shape(x)), op.Concat([-1], op.shape(x, 2, 3), axis=0))
    at = op.Cast(op.Unsqueeze(tokens_of(op, y[1], y[0]), [1]), to=7)
    return op.reshape_like(op.ScatterND(flat, at, g[0]), x)


def restore_padding(op: Emitter, g: Val, y: Val, x: Val, offsets: Val) -> Val:
    flat = op.Reshape(g, op.Concat([-1], op.shape(x, 1, 2), axis=0))
    return op.Gather(flat, tokens_of(op, offsets, x), axis=0)


def tokens_of(op: Emitter, offsets: Val, packed: Val) -> Val:
    """Return where the tokens `packed` (T, D) were, without where padding was."""
    return op.Slice(op.Reshape(offsets, [-1]), [0], op.shape(packed, 0, 1))


microsoft("Attention", attention, *[weights] * 2, *[None] * 4, several=True)
microsoft("QAttention", qattention, *[weights] * 2, *[None] * 6, several=True)
microsoft("MultiHeadAttention", *map(multi_head, range(3)), weights, *[None] * 6, several=True)
microsoft("PackedAttention", packed_attention, *[weights] * 2, *[None] * 3)
microsoft("PackedMultiHeadAttention", *map(packed_multi_head, range(3)), weights, *[None] * 3)
microsoft("RemovePadding", remove_padding, None, several=True)
microsoft("RestorePadding", restore_padding, None)
