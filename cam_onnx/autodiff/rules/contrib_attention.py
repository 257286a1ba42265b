"""Attention as ONNX Runtime's optimisers fuse it: Attention and MultiHeadAttention of com.microsoft."""

from __future__ import annotations

from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.contrib import Maybe, added, microsoft, turned, weights
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
        factor = op.Reciprocal(op.Sqrt(op.Cast(width, to=1)))
    weights = op.Softmax(added(op, op.MatMul(q, turned(op, k, 4)) * factor, bias), axis=-1)
    shared = op.MatMul(g, turned(op, v, 4))
    inner = weights * (shared - op.ReduceSum(shared * weights, [-1])) * factor
    found = op.MatMul(inner, k), op.MatMul(turned(op, inner, 4), q), op.MatMul(turned(op, weights, 4), g)
    return together(op, found[0]), together(op, found[1]), together(op, found[2])


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
    """One product gives queries, keys and values; `w` is (D, 3 D)."""
    if mask is not None or past is not None or unidirectional or do_rotary or qkv_hidden_sizes or g[0] is None:
        raise Refused(
            "with a mask, a past, rotation or sizes of its own; give the model before its attention was fused"
        )
    projected = added(op, op.MatMul(x, w), b)
    third = op.shape(w, 1, 2) / [3]
    q, k, v = (op.Slice(projected, third * [i], third * [i + 1], [2]) for i in range(3))
    found = op.Concat(*through_attention(op, g[0], q, k, v, num_heads, scale, attention_bias), axis=-1)
    return op.MatMul(found, turned(op, w, 2))


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
            raise Refused("with a mask, a past or packed inputs; give the model before its attention was fused")
        if query.rank != 3 or key.rank != 3 or value.rank != 3:
            raise Refused("inputs of another rank than 3")
        parts: list[Val] = [query, key, value]
        if bias is not None:
            width = op.shape(query, 2, 3)
            ends = [op.constant([0]), width, width + width, op.shape(bias, 0, 1)]
            parts = [x + op.Slice(bias, ends[i], ends[i + 1], [0]) for i, x in enumerate(parts)]
        return through_attention(op, g[0], parts[0], parts[1], parts[2], num_heads, scale, attention_bias)[which]

    return vjp


microsoft("Attention", attention, *[weights] * 2, *[None] * 4, several=True)
microsoft("MultiHeadAttention", *map(multi_head, range(3)), weights, *[None] * 6, several=True)
