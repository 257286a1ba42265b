"""The case table of the rules. One more row: the node as ONNX text, and one domain per input that it names.

Domains keep off kinks. An integer array is a constant of the node (an initializer); `given(...)` makes it an input
that is known at run time only. `step=1.0` marks what is linear in each input: central differences are exact there.
Every row runs with static and with symbolic sizes of its first input; `static` says why one row does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Domain = Callable[[np.random.Generator], np.ndarray]


def normal(*shape: int, scale: float = 1.0) -> Domain:
    return lambda rng: rng.standard_normal(shape) * scale


def positive(*shape: int) -> Domain:
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def off(*kinks: float, shape: tuple[int, ...] = (3, 4), margin: float = 0.05) -> Domain:
    """Normal values at least `margin` away from the kinks."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape) * 2 + np.mean(kinks)
        for kink in kinks:
            near = abs(x - kink) < margin
            x = np.where(near, kink + np.where(x < kink, -3, 3) * margin, x)
        return x

    return draw


def distinct(*shape: int) -> Domain:
    """Values that differ by at least 0.1 from one another: no ties in a maximum."""
    return lambda rng: rng.permutation(np.arange(np.prod(shape))).reshape(shape) * 0.1


def exactly(*values: Any) -> Domain:
    return lambda rng: np.array(values if len(values) != 1 else values[0], np.float64)


@dataclass(frozen=True)
class given:  # noqa: N801 (a word in a row)
    """An integer (or bool) input that is known at run time only."""

    array: np.ndarray


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    text: str
    inputs: dict[str, Any]
    opset: int
    why: str
    step: float
    tol: float
    static: str
    reads: str
    against: tuple[str, ...]
    reference: str

    def __str__(self) -> str:
        return f"{self.text} @{self.opset}" + (f" ({self.why})" if self.why else "")

    @property
    def op_type(self) -> str:
        return self.text.split("=", 1)[1].strip().split("(")[0].split("<")[0].strip()


def row(
    text: str,
    *,
    opset: int = 20,
    why: str = "",
    step: float = 1e-5,
    tol: float = 1e-6,
    static: str = "",
    reads: str = "",
    against: tuple[str, ...] = (),
    reference: str = "",
    **inputs: Any,
) -> Case:
    """One row.

    `reads="y"`: the gradient reads the output, not the input (the forward fusion survives). `against`: the inputs to
    differentiate, where not all that have a rule. `reference`: why the reference evaluator cannot run the row, which
    then is checked in ONNX Runtime's float32.
    """
    return Case(text, inputs, opset, why, step, tol, static, reads, against, reference)


LINEAR: dict[str, Any] = {"step": 1.0, "tol": 1e-9}
IMAGE, KERNEL = normal(2, 4, 7, 6), normal(6, 4, 3, 3)
WIDE = 2**31 - 1

# fmt: off
CASES = [
    # elementwise ---------------------------------------------------------------------------------------------------
    row("y = Identity(x)", x=normal(2, 3), **LINEAR),
    row("y = Neg(x)", x=normal(2, 3), **LINEAR),
    row("y = Cast<to=11>(x)", x=normal(2, 3), why="to float64", **LINEAR),
    row("y = Relu(x)", x=off(0.0), reads="y"),
    row("y = Sigmoid(x)", x=normal(3, 4), reads="y"),
    row("y = Tanh(x)", x=normal(3, 4), reads="y"),
    row("y = Exp(x)", x=normal(3, 4), reads="y"),
    row("y = Sqrt(x)", x=positive(3, 4), reads="y"),
    row("y = HardSigmoid(x)", x=off(-2.5, 2.5), reads="y"),
    row("y = HardSigmoid<alpha=0.5, beta=0.3>(x)", x=off(-0.6, 1.4), reads="y"),
    row("y = HardSwish(x)", x=off(-3.0, 3.0, shape=(4, 6))),
    row("y = LeakyRelu(x)", x=off(0.0), reads="y"),
    row("y = LeakyRelu<alpha=0.3>(x)", x=off(0.0), reads="y"),
    row("y = LeakyRelu<alpha=-0.5>(x)", x=off(0.0), why="slope turns the sign"),
    row("y = LeakyRelu<alpha=0.0>(x)", x=off(0.0), reads="y"),
    row("y = Clip(x, low, high)", x=off(-1.0, 1.5, shape=(4, 6)), low=exactly(-1.0), high=exactly(1.5)),
    row("y = Clip(x, low)", x=off(0.5, shape=(4, 6)), low=exactly(0.5)),
    row("y = Clip(x, , high)", x=off(0.5, shape=(4, 6)), high=exactly(0.5)),
    row("y = Clip(x)", x=normal(3, 4), **LINEAR),
    row("y = Clip(x, low, high)", x=off(2.0, 1.0), low=exactly(2.0), high=exactly(1.0), why="low above high"),
    row("y = Dropout(x)", x=normal(3, 4), **LINEAR),
    row("y, mask = Dropout(x, ratio)", x=normal(3, 4), ratio=np.float32(0.5), why="with a mask, inference", **LINEAR),
    # arithmetic ----------------------------------------------------------------------------------------------------
    row("y = Add(a, b)", a=normal(2, 3), b=normal(2, 3), **LINEAR),
    row("y = Add(a, b)", a=normal(2, 3, 4), b=normal(3, 1), why="broadcasts both ways in rank", **LINEAR),
    row("y = Add(a, b)", a=normal(2, 1, 4), b=normal(3, 1), why="each broadcasts", **LINEAR),
    row("y = Add(a, b)", a=normal(3), b=exactly(0.5), why="scalar", **LINEAR),
    row("y = Sub(a, b)", a=normal(2, 3), b=normal(3), **LINEAR),
    row("y = Mul(a, b)", a=normal(2, 3), b=normal(2, 3), **LINEAR),
    row("y = Mul(a, b)", a=normal(2, 3, 4, 4), b=normal(2, 3, 1, 1), why="squeeze and excite", **LINEAR),
    row("y = Mul(a, b)", a=normal(1, 3), b=normal(2, 3), why="the left one broadcasts", **LINEAR),
    row("y = Div(a, b)", a=normal(2, 3), b=positive(2, 3)),
    row("y = Div(a, b)", a=normal(2, 3, 4), b=positive(3, 1)),
    row("y = Sum(a, b, c)", a=normal(2, 3), b=normal(3), c=normal(2, 1), **LINEAR),
    row("y = Sum(a)", a=normal(2, 3), **LINEAR),
    row("y = Pow(a, b)", a=positive(2, 3), b=normal(2, 3)),
    row("y = Pow(a, b)", a=off(0.0), b=exactly(3.0), why="negative base, whole exponent", against=("a",)),
    row("y = Pow(a, b)", a=off(0.0), b=np.array(2, np.int64), why="integer exponent"),
    row("y = Pow(a, b)", a=exactly([0.0, 1.0, -2.0]), b=exactly([2.0, 1.0, 3.0]), why="base 0", against=("a",)),
    row("y = Pow(a, b)", a=exactly([0.0, 1.0]), b=exactly([0.0, 0.0]), why="base 0, exponent 0", against=("a",)),
    row("y = Expand(x, shape)", x=normal(3, 1), shape=ints(2, 3, 4), **LINEAR),
    row("y = Expand(x, shape)", x=normal(3, 4), shape=ints(1, 1), why="the shape is the smaller one", **LINEAR),
    row("y = Expand(x, shape)", x=normal(1, 3), shape=given(ints(2, 1)), why="shape at run time", **LINEAR),
    # linear --------------------------------------------------------------------------------------------------------
    row("y = MatMul(a, b)", a=normal(2, 3), b=normal(3, 4), **LINEAR),
    row("y = MatMul(a, b)", a=normal(5, 2, 3), b=normal(3, 4), why="batch times matrix", **LINEAR),
    row("y = MatMul(a, b)", a=normal(2, 3), b=normal(5, 3, 4), why="matrix times batch", **LINEAR),
    row("y = MatMul(a, b)", a=normal(5, 1, 2, 3), b=normal(6, 3, 4), why="batches broadcast", **LINEAR),
    row("y = MatMul(a, b)", a=normal(3), b=normal(3), why="inner product", **LINEAR),
    row("y = MatMul(a, b)", a=normal(3), b=normal(5, 3, 4), why="vector times batch", **LINEAR),
    row("y = MatMul(a, b)", a=normal(5, 6, 2, 3), b=normal(3), why="batch times vector", **LINEAR),
    row("y = Gemm(a, b)", a=normal(2, 3), b=normal(3, 4), **LINEAR),
    row("y = Gemm(a, b, c)", a=normal(2, 3), b=normal(3, 4), c=normal(4), **LINEAR),
    row("y = Gemm<alpha=0.5, beta=2.0, transB=1>(a, b, c)", a=normal(2, 3), b=normal(4, 3), c=normal(2, 1), **LINEAR),
    row("y = Gemm<alpha=0.5, transA=1>(a, b)", a=normal(3, 2), b=normal(3, 4), **LINEAR),
    row("y = Gemm<alpha=0.5, transA=1, transB=1>(a, b)", a=normal(3, 2), b=normal(4, 3), **LINEAR),
    # convolution ---------------------------------------------------------------------------------------------------
    row("y = Conv(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv(x, w, b)", x=IMAGE, w=KERNEL, b=normal(6), **LINEAR),
    row("y = Conv<pads=[1,1,1,1]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<pads=[0,1,2,0]>(x, w)", x=IMAGE, w=KERNEL, why="asymmetric padding", **LINEAR),
    row("y = Conv<pads=[0,0,1,1], strides=[2,2]>(x, w)", x=IMAGE, w=KERNEL, why="asymmetric, stride", **LINEAR),
    row("y = Conv<pads=[1,0,0,2], strides=[2,3]>(x, w)", x=normal(1, 4, 9, 11), w=KERNEL, **LINEAR),
    row("y = Conv<strides=[2,2]>(x, w)", x=normal(1, 4, 8, 8), w=KERNEL, why="the size does not divide", **LINEAR),
    row("y = Conv<strides=[3,3]>(x, w)", x=normal(1, 4, 8, 9), w=normal(6, 4, 1, 1), why="stride beyond kernel", **LINEAR),
    row("y = Conv<strides=[4,4]>(x, w)", x=normal(1, 3, 8, 8), w=normal(5, 3, 4, 4), why="patches", **LINEAR),
    row("y = Conv<dilations=[2,1], pads=[2,1,2,1]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<dilations=[2,2], strides=[2,1], pads=[1,2,2,0]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<group=2, pads=[1,1,1,1]>(x, w)", x=IMAGE, w=normal(6, 2, 3, 3), **LINEAR),
    row("y = Conv<group=2, strides=[2,2]>(x, w)", x=IMAGE, w=normal(6, 2, 3, 3),
        reference="its ConvTranspose fails for several channels in a group", **LINEAR),
    row("y = Conv<group=4, pads=[1,1,1,1]>(x, w)", x=IMAGE, w=normal(4, 1, 3, 3), why="depthwise", **LINEAR),
    row("y = Conv<group=4>(x, w)", x=IMAGE, w=normal(8, 1, 3, 3), why="depthwise, two channels each", **LINEAR),
    row("y = Conv<group=4, strides=[2,2], pads=[2,2,2,2]>(x, w)", x=IMAGE, w=normal(4, 1, 5, 5), **LINEAR),
    row("y = Conv(x, w)", x=IMAGE, w=normal(6, 4, 1, 1), why="pointwise", **LINEAR),
    row("y = Conv<pads=[2,2,2,2]>(x, w)", x=IMAGE, w=normal(6, 4, 1, 1), why="padding beyond the kernel", **LINEAR),
    row("y = Conv<kernel_shape=[3,3], auto_pad=\"SAME_UPPER\">(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<auto_pad=\"SAME_UPPER\", strides=[2,2]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<auto_pad=\"SAME_LOWER\", strides=[2,2]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<auto_pad=\"SAME_LOWER\">(x, w)", x=IMAGE, w=normal(6, 4, 2, 2), **LINEAR),
    row("y = Conv<auto_pad=\"SAME_UPPER\", strides=[3,3]>(x, w)", x=IMAGE, w=normal(6, 4, 2, 2), **LINEAR),
    row("y = Conv<auto_pad=\"VALID\", strides=[2,2]>(x, w)", x=IMAGE, w=KERNEL, **LINEAR),
    row("y = Conv<pads=[1,1], strides=[2]>(x, w)", x=normal(2, 3, 9), w=normal(4, 3, 3), why="1-D", **LINEAR),
    row("y = Conv<pads=[1,1]>(x, w)", x=normal(2, 3, 9), w=normal(4, 3, 3), why="1-D", **LINEAR),
    row("y = Conv<pads=[1,0,1,0,1,1]>(x, w)", x=normal(1, 2, 4, 5, 4), w=normal(3, 2, 3, 2, 3), why="3-D", **LINEAR),
    row("y = Conv<strides=[2,1,2]>(x, w)", x=normal(1, 2, 5, 4, 6), w=normal(3, 2, 3, 2, 2), why="3-D", **LINEAR),
    # normalization -------------------------------------------------------------------------------------------------
    row("y = BatchNormalization(x, s, b, m, v)", x=normal(2, 3, 4, 4), s=normal(3), b=normal(3), m=normal(3),
        v=positive(3)),
    row("y = BatchNormalization<epsilon=0.1>(x, s, b, m, v)", x=normal(2, 3), s=normal(3), b=normal(3), m=normal(3),
        v=positive(3), why="without space"),
    row("y = Softmax(x)", x=normal(3, 4), reads="y"),
    row("y = Softmax<axis=1>(x)", x=normal(2, 3, 4), reads="y"),
    row("y = Softmax<axis=-2>(x)", x=normal(2, 3, 4), opset=13, reads="y"),
    row("y = LogSoftmax(x)", x=normal(3, 4), reads="y"),
    row("y = LogSoftmax<axis=0>(x)", x=normal(3, 4), reads="y"),
    # reduction -----------------------------------------------------------------------------------------------------
    row("y = ReduceMean(x, axes)", x=normal(2, 3, 4, 5), axes=ints(2, 3), **LINEAR),
    row("y = ReduceMean<keepdims=0>(x, axes)", x=normal(2, 3, 4, 5), axes=ints(-1, 2), **LINEAR),
    row("y = ReduceMean<keepdims=0>(x, axes)", x=normal(2, 3, 4), axes=given(ints(-1)), why="axes at run time", **LINEAR),
    row("y = ReduceMean(x)", x=normal(2, 3), why="all axes", **LINEAR),
    row("y = ReduceMean<keepdims=0>(x)", x=normal(2, 3), why="to a scalar", **LINEAR),
    row("y = ReduceMean<noop_with_empty_axes=1>(x)", x=normal(2, 3), why="nothing reduced", **LINEAR),
    row("y = ReduceMean<axes=[1], keepdims=0>(x)", x=normal(2, 3, 4), opset=13, why="axes as attribute", **LINEAR),
    row("y = ReduceSum(x, axes)", x=normal(2, 3, 4), axes=ints(0, -1), **LINEAR),
    row("y = ReduceSum<keepdims=0>(x, axes)", x=normal(2, 3, 4), axes=ints(1), opset=13, **LINEAR),
    row("y = ReduceSum<keepdims=0>(x)", x=normal(2, 3), **LINEAR),
    row("y = ReduceSum<noop_with_empty_axes=1>(x, axes)", x=normal(2, 3), axes=ints(), **LINEAR),
    row("y = GlobalAveragePool(x)", x=normal(2, 3, 4, 5), **LINEAR),
    row("y = GlobalAveragePool(x)", x=normal(2, 3, 4), why="1-D", **LINEAR),
    row("y = GlobalMaxPool(x)", x=distinct(2, 3, 4, 5)),
    row("y = GlobalMaxPool(x)", x=distinct(2, 3, 2, 2, 3), why="3-D",
        reference="its GlobalMaxPool has another shape in 3-D"),
    # pooling -------------------------------------------------------------------------------------------------------
    row("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", x=distinct(1, 2, 6, 6)),
    row("y = MaxPool<kernel_shape=[3,3]>(x)", x=distinct(1, 2, 7, 7), why="windows overlap"),
    row("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", x=distinct(2, 2, 7, 8)),
    row("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[0,0,1,1]>(x)", x=distinct(1, 2, 8, 8)),
    row("y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", x=distinct(1, 2, 8, 8), why="hangs over"),
    row("y = MaxPool<kernel_shape=[2,2], strides=[3,3]>(x)", x=distinct(1, 2, 9, 8), why="gaps between windows"),
    row("y = MaxPool<kernel_shape=[2,2], strides=[1,2], dilations=[2,3]>(x)", x=distinct(1, 2, 6, 9)),
    row("y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad=\"SAME_UPPER\">(x)", x=distinct(1, 2, 8, 7)),
    row("y = MaxPool<kernel_shape=[2,2], strides=[2,2], auto_pad=\"SAME_LOWER\">(x)", x=distinct(1, 2, 7, 7),
        reference="its MaxPool has another shape for SAME_LOWER"),
    row("y = MaxPool<kernel_shape=[2,2], auto_pad=\"VALID\">(x)", x=distinct(1, 2, 4, 4)),
    row("y = MaxPool<kernel_shape=[3], strides=[2]>(x)", x=distinct(2, 3, 9), why="1-D"),
    row("y = MaxPool<kernel_shape=[2,2,2], strides=[2,1,2]>(x)", x=distinct(1, 2, 4, 4, 5), why="3-D"),
    row("y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)", x=normal(1, 2, 6, 6), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", x=normal(1, 2, 6, 5), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", x=normal(1, 2, 6, 5), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,0,1]>(x)", x=normal(1, 2, 8, 7), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", x=normal(1, 2, 8, 8), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,1,1,1], count_include_pad=1>(x)",
        x=normal(1, 2, 8, 8), **LINEAR),
    row("y = AveragePool<kernel_shape=[3,2], strides=[2,2], auto_pad=\"SAME_UPPER\">(x)", x=normal(1, 2, 7, 7), **LINEAR),
    row("y = AveragePool<kernel_shape=[2,3], strides=[1,2], auto_pad=\"SAME_LOWER\">(x)", x=normal(1, 2, 6, 6), **LINEAR),
    row("y = AveragePool<kernel_shape=[2,2], dilations=[2,1]>(x)", x=normal(1, 2, 6, 6), **LINEAR),
    row("y = AveragePool<kernel_shape=[3], strides=[2]>(x)", x=normal(2, 3, 9), why="1-D", **LINEAR),
    row("y = AveragePool<kernel_shape=[2,2,2]>(x)", x=normal(1, 2, 4, 3, 4), why="3-D", **LINEAR),
    # layout --------------------------------------------------------------------------------------------------------
    row("y = Reshape(x, shape)", x=normal(2, 3, 4), shape=ints(0, -1), **LINEAR),
    row("y = Reshape(x, shape)", x=normal(2, 3, 4), shape=given(ints(4, 6)), why="shape at run time", **LINEAR),
    row("y = Flatten(x)", x=normal(2, 3, 4), **LINEAR),
    row("y = Flatten<axis=-1>(x)", x=normal(2, 3, 4), **LINEAR),
    row("y = Squeeze(x, axes)", x=normal(2, 1, 3, 1), axes=ints(1, -1), static="the axes must be known to be 1", **LINEAR),
    row("y = Squeeze(x)", x=normal(2, 1, 3, 1), static="without axes the rank depends on the sizes", **LINEAR),
    row("y = Unsqueeze(x, axes)", x=normal(2, 3), axes=ints(0, -1), **LINEAR),
    row("y = Transpose<perm=[2,0,1]>(x)", x=normal(2, 3, 4), **LINEAR),
    row("y = Transpose(x)", x=normal(2, 3, 4), **LINEAR),
    row("y = Concat<axis=1>(a, b, c)", a=normal(2, 3), b=normal(2, 1), c=normal(2, 4), **LINEAR),
    row("y = Concat<axis=-2>(a, b)", a=normal(2, 3), b=normal(1, 3), **LINEAR),
    row("y, z = Split<axis=1>(x, sizes)", x=normal(2, 5), sizes=ints(2, 3), why="one part unused", **LINEAR),
    row("y, z = Split<axis=-1, num_outputs=2>(x)", x=normal(2, 5), static="the parts' sizes follow from the size", **LINEAR),
    row("y = Slice(x, starts, ends)", x=normal(5, 6), starts=ints(1, 2), ends=ints(4, 6), **LINEAR),
    row("y = Slice(x, starts, ends, axes)", x=normal(5, 6), starts=ints(-4), ends=ints(WIDE), axes=ints(-1), **LINEAR),
    row("y = Slice(x, starts, ends, axes, steps)", x=normal(5, 7), starts=ints(1), ends=ints(6), axes=ints(1),
        steps=ints(2), **LINEAR),
    row("y = Slice(x, starts, ends, axes, steps)", x=normal(5, 6), starts=ints(-1, 4), ends=ints(-WIDE, 0),
        axes=ints(0, 1), steps=ints(-1, -2), why="backwards", **LINEAR),
    row("y = Slice(x, starts, ends, axes)", x=normal(5, 6), starts=given(ints(1)), ends=given(ints(4)), axes=ints(1),
        why="known at run time", **LINEAR),
    row("y = Gather<axis=1>(x, i)", x=normal(3, 5), i=ints(1, -1, 1, 0), why="twice, and from the end", **LINEAR),
    row("y = Gather(x, i)", x=normal(3, 5), i=np.array([[0, 2], [2, 2]], np.int64), opset=16, **LINEAR),
    row("y = Gather<axis=1>(x, i)", x=normal(3, 5, 2), i=np.array(0, np.int64), why="scalar index", **LINEAR),
    row("y = Gather<axis=-1>(x, i)", x=normal(3, 5), i=given(ints(4, 0)), opset=13, why="raised to 16", **LINEAR),
    row("y = Pad(x, pads)", x=normal(3, 4), pads=ints(1, 0, 2, 3), **LINEAR),
    row("y = Pad(x, pads)", x=normal(5, 6), pads=ints(-1, 2, 0, -2), why="negative pads cut",
        reference="its Pad takes no negative pads", **LINEAR),
    row("y = Pad(x, pads, v, axes)", x=normal(3, 4), pads=ints(1, 2), v=np.array(0.5), axes=ints(-1), **LINEAR),
    row("y = Pad<mode=\"reflect\">(x, pads)", x=normal(4, 5), pads=ints(1, 2, 2, 0), **LINEAR),
    row("y = Pad<mode=\"edge\">(x, pads)", x=normal(4, 5), pads=ints(1, 2, 2, 0), **LINEAR),
    row("y = Pad<mode=\"wrap\">(x, pads)", x=normal(4, 5), pads=ints(1, 2, 2, 0), **LINEAR),
    row("y = Pad<mode=\"edge\">(x, pads, , axes)", x=normal(4, 5), pads=ints(1, 2), axes=ints(1), **LINEAR),
]
# fmt: on
