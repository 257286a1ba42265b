"""Operators of com.microsoft as onnx's reference evaluator runs them, from their documentation.

For what ONNX Runtime computes on GPUs only; written literally, a sample and a head at a time, in any precision.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

__all__ = ["KERNELS"]


class Kernel(OpRun):
    op_domain = "com.microsoft"

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        given = {name: value for name, value in attributes.items() if value is not None}
        while inputs[-1] is None:  # written, and empty
            inputs = inputs[:-1]
        found = self.computed(*inputs, **given)
        return found if isinstance(found, tuple) else (found,)

    @staticmethod
    def computed(*inputs: Any, **attributes: Any) -> Any:
        raise NotImplementedError


def softmax(x):
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def erf(x):
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


def attended(parts, heads, scale=0.0):
    """Of one sample: queries, keys and values (S, D)."""
    found = []
    for a, b, c in zip(*(np.split(x, heads, axis=1) for x in parts), strict=True):
        found.append(softmax(a @ b.T * (scale or 1 / math.sqrt(a.shape[1]))) @ c)
    return np.concatenate(found, axis=1)


class ProjectedAttention(Kernel):
    @staticmethod
    def computed(x, w, b, num_heads, scale=0.0):
        return np.stack([attended(np.split(sample @ w + b, 3, axis=1), num_heads, scale) for sample in x])


class PackedAttention(Kernel):
    @staticmethod
    def computed(x, w, b, tokens, offsets, num_heads, scale=0.0):
        whole = x @ w + b
        samples = [whole[i:j] for i, j in pairwise(offsets)]
        return np.concatenate([attended(np.split(v, 3, axis=1), num_heads, scale) for v in samples])


class PackedMultiHeadAttention(Kernel):
    @staticmethod
    def computed(query, key, value, bias, tokens, offsets, num_heads, scale=0.0):
        if key is None:
            query, key, value = (query[:, :, i].reshape(len(query), -1) for i in range(3))
        if bias is not None:
            width = query.shape[1]
            query, key, value = query + bias[:width], key + bias[width : 2 * width], value + bias[2 * width :]
        found = [attended([query[i:j], key[i:j], value[i:j]], num_heads, scale) for i, j in pairwise(offsets)]
        return np.concatenate(found)


class RemovePadding(Kernel):
    """Samples begin with their tokens; padding is behind them."""

    @staticmethod
    def computed(x, count):
        token = (np.arange(x.shape[1]) < count[:, None]).ravel()
        offsets = np.argsort(~token, kind="stable").reshape(x.shape[:2])
        ends = np.concatenate([[0], np.cumsum(count)])
        whole = (v.astype(np.int32) for v in (offsets, ends, count.max(keepdims=True)))
        return x.reshape(-1, x.shape[2])[token], *whole


class RestorePadding(Kernel):
    @staticmethod
    def computed(x, offsets):
        y = np.zeros((offsets.size, x.shape[1]), x.dtype)
        for row, at in zip(x, offsets.ravel(), strict=False):
            y[at] = row
        return y.reshape(*offsets.shape, -1)


class BiasSoftmax(Kernel):
    @staticmethod
    def computed(x, bias, axis=1, is_inner_broadcast=0):
        total = x + bias
        return softmax(total.reshape(*total.shape[:axis], -1)).reshape(total.shape)


class BiasAdd(Kernel):
    @staticmethod
    def computed(x, bias, skip):
        return x + bias + skip


class BiasSplitGelu(Kernel):
    @staticmethod
    def computed(x, bias):
        value, gate = np.split(x + bias, 2, axis=-1)
        return value * gate * 0.5 * (1 + erf(gate / math.sqrt(2)))


class GroupNorm(Kernel):
    @staticmethod
    def computed(x, gamma, beta, groups, activation, channels_last=1, epsilon=1e-5):
        y = x.copy() if channels_last else np.moveaxis(x, 1, -1).copy()
        size = len(gamma) // groups
        for sample in y:
            for i in range(groups):
                part = sample[..., i * size : (i + 1) * size]
                part[...] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
        y = y * gamma + beta
        if activation:
            y = y / (1 + np.exp(-y))
        return y if channels_last else np.moveaxis(y, -1, 1)


class SkipGroupNorm(Kernel):
    @staticmethod
    def computed(x, gamma, beta, skip, bias=None, channels_last=1, **given):
        if skip.ndim == 2:
            skip = skip[:, None, None] if channels_last else skip[:, :, None, None]
        total = x + skip
        if bias is not None:
            total = total + (bias if channels_last else bias[:, None, None])
        return GroupNorm.computed(total, gamma, beta, channels_last=channels_last, **given), total


class NhwcConv(Kernel):
    @staticmethod
    def computed(x, w, b=None, group=1, dilations=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), auto_pad="NOTSET", **_):
        assert auto_pad == "NOTSET"
        x = np.pad(x, [(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
        (n, high, wide, _), (m, kh, kw, own) = x.shape, w.shape
        rows = (high - dilations[0] * (kh - 1) - 1) // strides[0] + 1
        columns = (wide - dilations[1] * (kw - 1) - 1) // strides[1] + 1
        y = np.zeros((n, rows, columns, m), x.dtype)
        for out in range(m):
            first = out * group // m * own
            for i, j in np.ndindex(kh, kw):
                tap = x[:, i * dilations[0] :: strides[0], j * dilations[1] :: strides[1], first : first + own]
                y[..., out] += tap[:, :rows, :columns] @ w[out, i, j]
        return y if b is None else y + b


class NhwcFusedConv(Kernel):
    """The kernel is (M, C / group, kH, kW), as the standard's."""

    @staticmethod
    def computed(x, w, b=None, z=None, activation="", activation_params=(), **windows):
        y = NhwcConv.computed(x, w.transpose(0, 2, 3, 1), b, **windows)
        y = y if z is None else y + z
        match activation:
            case "Relu":
                return np.maximum(y, 0)
            case "Clip":
                return np.clip(y, *activation_params)
            case "HardSwish":
                return y * np.clip(y / 6 + 0.5, 0, 1)
        assert not activation
        return y


KERNELS = [each for each in vars().copy().values() if isinstance(each, type) and each.__base__ is Kernel]
