"""The case table of the rules. One more row: the node as ONNX text, and one domain per input that it names.

Domains keep off kinks. An integer array is a constant of the node (an initializer); `given(...)` makes it an input
that is known at run time only. `step=1.0` marks what is linear in each input: central differences are exact there.
Every row runs with static and with symbolic sizes of its first input; `static` says why one row does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
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


def between(low: float, high: float, *shape: int) -> Domain:
    return lambda rng: rng.uniform(low, high, shape or (3, 4))


def between_pixels(low: int, high: int, *shape: int) -> Domain:
    """Coordinates in pixels, off the pixels and off the middles between them."""
    return lambda rng: rng.integers(low, high, shape) + rng.choice([0.0, 0.5], shape) + rng.uniform(0.1, 0.4, shape)


def grid(low: int, high: int, *shape: int, sizes: tuple[int, ...], corners: int = 0) -> Domain:
    """`between_pixels` as GridSample counts: from -1 to 1 over each of `sizes`, of which the first is the last axis."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        at, size = between_pixels(low, high, *shape)(rng), np.array(sizes)
        return at * 2 / np.maximum(size - 1, 1) - 1 if corners else (2 * at + 1) / size - 1

    return draw


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
    runtime: str = ""
    functions: str = ""
    double: bool = False  # float64 in ONNX Runtime too
    derounded: str = ""
    composed: str = ""

    @property
    def of(self) -> tuple[str, ...]:
        """The output that is differentiated: the one called y, or else the first of the node."""
        if self.derounded or self.composed:
            return ("y",)
        outputs = [name.strip() for name in self.text.split("=", 1)[0].split(",")]
        return ("y" if "y" in outputs else outputs[0],)

    def __str__(self) -> str:
        return f"{self.text} @{self.opset}" + (f" ({self.why})" if self.why else "")

    @property
    def operator(self) -> str:
        """The operator that the row is about, with its domain: the only one, or the one that is named."""
        return self.derounded or self.composed or self.text.split("=", 1)[1].strip().split("(")[0].split("<")[0].strip()

    @property
    def op_type(self) -> str:
        return self.operator.rpartition(".")[2]

    @property
    def domain(self) -> str:
        return self.operator.rpartition(".")[0]


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
    runtime: str = "",
    derounded: str = "",
    composed: str = "",
    **inputs: Any,
) -> Case:
    """One row.

    `reads="y"`: the gradient reads the output, not the input (the forward fusion survives). `against`: the inputs to
    differentiate, where not all that have a rule. `reference`: why the reference evaluator cannot run the row, which
    then is checked in ONNX Runtime's float32. `runtime`: why ONNX Runtime cannot. `derounded`: the operator that a row
    of several nodes is about; the row rounds, and differences are those of the network without rounding
    (`tests.derounded`), to 1e-4. `composed`: the operator that another row of several nodes is about.
    """
    if derounded:
        reference = reference or "integers stand for float32"
        against = against or tuple(name for name, value in inputs.items() if callable(value))
    more: dict[str, Any] = {"runtime": runtime, "derounded": derounded, "composed": composed}
    return Case(text, inputs, opset, why, step, tol, static, reads, against, reference, **more)


def integers(dtype: str, *shape: int, low: int = -100, high: int = 100) -> np.ndarray:
    """Weights as a quantiser leaves them."""
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def scale(*values: float) -> np.ndarray:
    return np.array(values if len(values) != 1 else values[0], np.float32)


def zero(value: int, dtype: str = "uint8") -> np.ndarray:
    return np.array(value, dtype)


LINEAR: dict[str, Any] = {"step": 1.0, "tol": 1e-9}
IMAGE, KERNEL = normal(2, 4, 7, 6), normal(6, 4, 3, 3)
WIDE = 2**31 - 1
SAMPLED: dict[str, Any] = {"step": 2e-3, "tol": 1e-3}  # the reference evaluator's coordinates are float32
ELLIPSIS = "its shape inference refuses"
CUBIC: dict[str, Any] = {"step": 1.0, "tol": 1e-5}  # the reference evaluator's weights are float32
DRAWN: dict[str, Any] = {"static": "the engine draws by the shape"}
BOXES = exactly([[2.1, 1.3, 9.4, 8.2], [-1.4, -0.6, 3.3, 13.9], [5.2, 4.9, 6.1, 6.6]])
SCALED: dict[str, Any] = {**LINEAR, "reference": "its scale is float32"}
FILTERS = np.random.default_rng(11).standard_normal((3, 2, 2, 2)) * 0.5
OURS = "an operator of ONNX Runtime"
GPU = "a kernel on GPUs only"  # the forward is then tests.kernels
HALVES = "a kernel for 16 bits on ARM only"
PACKED = dict(
    t=np.array([[0, 1, 2], [3, 4, 5]], np.int32), o=np.array([0, 2, 6], np.int32)
)  # samples of 2 and 4 tokens

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
    row("y = Shrink<bias=0.5, lambd=1.0>(x)", x=off(-1.0, 1.0)),
    row("y = HardSwish(x)", x=off(-3.0, 3.0, shape=(4, 6))),
    row("y = ThresholdedRelu<alpha=0.7>(x)", x=off(0.7)),
    row("y = ThresholdedRelu(x)", x=off(1.0), opset=13, why="no function of the standard yet"),
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
    row("y = Conv<group=4, strides=[2,1]>(x, w)", x=IMAGE, w=normal(8, 1, 3, 3), why="depthwise with stride, two channels each", **LINEAR),
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
    row("y = ReduceMean(x, axes)", x=normal(2, 3), axes=given(ints()), why="no axes at run time: all", **LINEAR),
    row("y = ReduceL2(x, axes)", x=positive(2, 3), axes=given(ints()), why="no axes at run time: all"),
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
    row("y = MaxPool<kernel_shape=[9,8], dilations=[2,1], strides=[3,2], pads=[3,1,2,4], ceil_mode=1>(x)", x=distinct(2, 2, 23, 14),
        why="a large window"),
    row("y = MaxPool<kernel_shape=[64], auto_pad=\"SAME_UPPER\">(x)", x=distinct(1, 2, 70), why="a long window",
        reference="its MaxPool of one axis has no auto_pad"),
    row("y = MaxPool<kernel_shape=[8,8]>(x)", x=distinct(1, 2, 12, 11), opset=12, why="a large window"),
    row("y = MaxPool<kernel_shape=[3,2,4], strides=[2,1,3], auto_pad=\"SAME_LOWER\">(x)", x=distinct(1, 2, 5, 6, 7), why="axis by axis, 3-D",
        reference="its MaxPool of three axes has no auto_pad"),
    row("y = AveragePool<kernel_shape=[9,8], strides=[3,4], pads=[3,1,2,4]>(x)", x=normal(2, 2, 23, 14), why="a large window", **LINEAR),
    row("y = LpPool<kernel_shape=[8,8], strides=[4,5], p=3>(x)", x=normal(2, 2, 17, 13), why="a large window"),
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
    row("o = Optional(x) y = OptionalGetElement(o)", composed="Optional", x=normal(3, 4), reference="it adds an axis", **LINEAR),
    row("y = OptionalGetElement(x)", x=normal(3, 4), why="of a tensor", **LINEAR),
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
    # the rest of what convolutional classifiers contain --------------------------------------------------------------
    row("y = Log(x)", x=positive(3, 4)),
    row("y = Abs(x)", x=off(0.0)),
    row("y = Sin(x)", x=normal(3, 4)),
    row("y = Cos(x)", x=normal(3, 4)),
    row("y = Reciprocal(x)", x=positive(3, 4)),
    row("y = Erf(x)", x=normal(3, 4), reference="its Erf is float32"),
    row("y = Softplus(x)", x=normal(3, 4)),
    row("y = Softsign(x)", x=off(0.0), reads="y"),
    row("y = Elu(x)", x=off(0.0), reads="y"),
    row("y = Elu<alpha=0.3>(x)", x=off(0.0), reads="y"),
    row("y = Elu<alpha=-0.3>(x)", x=off(0.0), why="negative alpha"),
    row("y = Selu(x)", x=off(0.0), reads="y"),
    row("y = Selu<alpha=1.2, gamma=0.7>(x)", x=off(0.0), reads="y"),
    row("y = Celu<alpha=0.6>(x)", x=off(0.0), reads="y"),
    row("y = Mish(x)", x=normal(3, 4)),
    row("y = Gelu(x)", x=normal(3, 4), reference="its Erf is float32"),
    row("y = Gelu<approximate=\"tanh\">(x)", x=normal(3, 4)),
    row("y = PRelu(x, slope)", x=off(0.0, shape=(2, 3, 4)), slope=normal(3, 1)),
    row("y = PRelu(x, slope)", x=off(0.0), slope=normal(1)),
    row("y = Max(a, b)", a=distinct(3, 4), b=off(0.55, shape=(4,), margin=0.02)),
    row("y = Max(a, b, c)", a=off(0.0), b=exactly(0.0), c=off(0.0, shape=(3, 1), margin=0.3), why="three"),
    row("y = Max(a)", a=normal(3, 4)),
    row("y = Min(a, b)", a=off(0.0), b=exactly(0.0)),
    row("y = Mean(a, b)", a=normal(3, 4), b=normal(4), **LINEAR),
    row("y = Where(c, a, b)", c=given(np.array([[True, False, True]])), a=normal(2, 3), b=normal(2, 1), **LINEAR),
    row("y = ReduceMax(x, axes)", x=distinct(2, 3, 4), axes=ints(1, 2)),
    row("y = ReduceMax<keepdims=0>(x, axes)", x=distinct(2, 3, 4), axes=ints(-1)),
    row("y = ReduceMax(x)", x=distinct(2, 3), why="all axes"),
    row("y = ReduceMax<axes=[2], keepdims=0>(x)", x=distinct(2, 3, 4), opset=13),
    row("y = ReduceMin<keepdims=0>(x, axes)", x=distinct(2, 3, 4), axes=ints(0, 2)),
    row("y = ReduceL1(x, axes)", x=off(0.0), axes=ints(1)),
    row("y = ReduceL2(x, axes)", x=normal(2, 3, 4), axes=ints(1)),
    row("y = ReduceL2<keepdims=0>(x, axes)", x=normal(2, 3, 4), axes=ints(1, 2)),
    row("y = ReduceSumSquare<keepdims=0>(x, axes)", x=normal(2, 3, 4), axes=ints(2)),
    row("y = ReduceLogSum<keepdims=0>(x, axes)", x=positive(2, 3), axes=ints(1)),
    row("y = ReduceLogSumExp(x)", x=normal(2, 3)),
    row("y = LayerNormalization(x, s, b)", x=normal(2, 3, 8), s=normal(8), b=normal(8)),
    row("y = LayerNormalization<axis=1, epsilon=0.1>(x, s)", x=normal(2, 3, 4), s=normal(3, 4)),
    row("y = InstanceNormalization(x, s, b)", x=normal(2, 3, 4, 5), s=normal(3), b=normal(3)),
    row("y = GroupNormalization<num_groups=2>(x, s, b)", x=normal(2, 4, 3, 3), s=normal(4), b=normal(4), opset=21,
        reference="its statistics are float32"),
    row("y = GroupNormalization<num_groups=2, epsilon=0.1>(x, s, b)", x=normal(2, 4, 6), s=normal(2), b=normal(2),
        opset=18, why="scale per group before 21", reference="it has no GroupNormalization of opset 18"),
    row("y = LRN<size=3>(x)", x=normal(2, 5, 3, 3), reference="its LRN sums over another window"),
    row("y = LRN<size=5, alpha=0.5, beta=0.6, bias=1.5>(x)", x=normal(2, 7, 3, 3),
        reference="its LRN sums over another window"),
    row("y = LpPool<kernel_shape=[2,2], strides=[2,2]>(x)", x=off(0.0, shape=(1, 2, 6, 6))),
    row("y = LpPool<kernel_shape=[3,2], p=3, pads=[1,0,1,1]>(x)", x=off(0.0, shape=(1, 2, 5, 5))),
    row("y = GlobalLpPool<p=2>(x)", x=off(0.0, shape=(2, 3, 4, 4)), reference="it has no GlobalLpPool"),
    row("y = DepthToSpace<blocksize=2>(x)", x=normal(2, 8, 3, 2), **LINEAR),
    row("y = DepthToSpace<blocksize=2, mode=\"CRD\">(x)", x=normal(2, 8, 3, 2), **LINEAR),
    row("y = SpaceToDepth<blocksize=2>(x)", x=normal(2, 3, 4, 6), **LINEAR),
    row("y = SpaceToDepth<blocksize=2, mode=\"CRD\">(x)", x=normal(2, 3, 4, 6), opset=28, runtime="it has no opset 28", **LINEAR),
    row("y = Tile(x, repeats)", x=normal(2, 3), repeats=ints(2, 3), **LINEAR),
    row("y = Tile(x, repeats)", x=normal(2, 3), repeats=given(ints(1, 2)), why="repeats at run time", **LINEAR),
    row("y = CumSum(x, axis)", x=normal(2, 5), axis=np.array(1, np.int64), **LINEAR),
    row("y = CumSum<exclusive=1, reverse=1>(x, axis)", x=normal(2, 5), axis=np.array(-1, np.int64), **LINEAR),
    row("y = GatherElements<axis=1>(x, i)", x=normal(3, 5), i=np.array([[0, -1], [2, 2], [4, 1]], np.int64), **LINEAR),
    row("y = GatherND(x, i)", x=normal(3, 4, 2), i=np.array([[0, 1], [2, 3], [0, 1]], np.int64), **LINEAR),
    row("y = GatherND<batch_dims=1>(x, i)", x=normal(2, 4, 3), i=np.array([[1], [3]], np.int64), **LINEAR),
    row("y = GatherND<batch_dims=1>(x, i)", x=normal(2, 4, 3), i=np.array([[[1, 2], [-1, -3], [1, 2]]] * 2, np.int64), why="twice, and from the end", **LINEAR),
    row("y = GatherND(x, i)", x=normal(4, 3), i=np.array([-1, 1], np.int64), why="one scalar", **LINEAR),
    row("y = ScatterElements<axis=1>(x, i, u)", x=normal(2, 5), i=np.array([[0, 2], [4, 1]], np.int64),
        u=normal(2, 2), **LINEAR),
    row("y = ScatterElements<reduction=\"add\">(x, i, u)", x=normal(3, 2), i=np.array([[0, 0], [0, 2]], np.int64),
        u=normal(2, 2), **LINEAR),
    row("y = ScatterElements<axis=1>(x, i, u)", x=normal(2, 5), i=np.array([[0, 2], [4, 1]], np.int64), u=normal(2, 2), opset=13,
        why="before reductions", **LINEAR),
    row("y = ScatterND(x, i, u)", x=normal(4, 3), i=np.array([[1], [3]], np.int64), u=normal(2, 3), opset=13, why="before reductions", **LINEAR),
    row("y = ScatterND(x, i, u)", x=normal(4, 3), i=np.array([[1], [3]], np.int64), u=normal(2, 3), **LINEAR),
    row("y = ScatterND<reduction=\"add\">(x, i, u)", x=normal(4, 3), i=np.array([[1], [1]], np.int64), u=normal(2, 3),
        **LINEAR),
    row("y, i = TopK<axis=1>(x, k)", x=distinct(3, 5), k=ints(2)),
    row("y, i = TopK<largest=0>(x, k)", x=distinct(3, 5), k=ints(3)),
    row("y = Einsum<equation=\"bij,bjk->bik\">(a, b)", a=normal(2, 3, 4), b=normal(2, 4, 5), **LINEAR),
    row("y = Einsum<equation=\"ij,jk\">(a, b)", a=normal(3, 4), b=normal(4, 2), why="implicit output", **LINEAR),
    row("y = Einsum<equation=\"ij->j\">(a)", a=normal(3, 4), why="summed alone", **LINEAR),
    row("y = Einsum<equation=\"bhwc,hkc->bhwk\">(a, b)", a=normal(2, 3, 4, 5), b=normal(3, 2, 5), **LINEAR),
    row("y = ConvTranspose(x, w, b)", x=IMAGE, w=normal(4, 3, 3, 3), b=normal(3), **LINEAR),
    row("y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w)", x=IMAGE, w=normal(4, 3, 3, 3),
        **LINEAR),
    row("y = ConvTranspose<strides=[2,3], pads=[0,1,2,0]>(x, w)", x=IMAGE, w=normal(4, 3, 3, 4), **LINEAR),
    row("y = ConvTranspose<strides=[2,2], group=2, dilations=[1,2]>(x, w)", x=IMAGE, w=normal(4, 3, 3, 2),
        reference="its ConvTranspose fails for several channels in a group", **LINEAR),
    row("y = ConvTranspose<strides=[2,2], auto_pad=\"SAME_UPPER\">(x, w)", x=IMAGE, w=normal(4, 3, 3, 3), **LINEAR),
    row("y = ConvTranspose<strides=[2,2], auto_pad=\"SAME_LOWER\">(x, w)", x=IMAGE, w=normal(4, 3, 3, 3), **LINEAR),
    row("y = ConvTranspose<strides=[2,2], output_shape=[16,14]>(x, w)", x=IMAGE, w=normal(4, 3, 3, 3), **LINEAR),
    row("y = ConvTranspose<strides=[2]>(x, w)", x=normal(2, 3, 5), w=normal(3, 2, 3), why="1-D", **LINEAR),
    row("y = ConvTranspose<strides=[2,1,1]>(x, w)", x=normal(1, 2, 3, 3, 3), w=normal(2, 2, 2, 3, 2), why="3-D", **LINEAR),
    # resize --------------------------------------------------------------------------------------------------------
    row("y = Resize(x, , scales)", x=normal(1, 2, 3, 4), scales=np.array([1, 1, 2, 3], np.float32), **LINEAR),
    row("y = Resize<nearest_mode=\"floor\", coordinate_transformation_mode=\"asymmetric\">(x, , scales)",
        x=normal(1, 2, 3, 4), scales=np.array([1, 1, 1.7, 0.6], np.float32), **LINEAR),
    row("y = Resize<nearest_mode=\"ceil\">(x, , , sizes)", x=normal(1, 2, 5, 4), sizes=ints(1, 2, 3, 7), **LINEAR),
    row("y = Resize<nearest_mode=\"round_prefer_ceil\">(x, , , sizes)", x=normal(1, 2, 5, 4), sizes=ints(1, 2, 8, 3),
        **LINEAR),
    row("y = Resize<mode=\"linear\">(x, , scales)", x=normal(1, 2, 3, 4), scales=np.array([1, 1, 2, 2], np.float32),
        **LINEAR),
    row("y = Resize<mode=\"linear\">(x, , , sizes)", x=normal(1, 2, 5, 4), sizes=ints(1, 2, 3, 9), **LINEAR),
    row("y = Resize<mode=\"linear\", coordinate_transformation_mode=\"align_corners\">(x, , , sizes)",
        x=normal(1, 2, 5, 4), sizes=ints(1, 2, 7, 1), **LINEAR),
    row("y = Resize<mode=\"linear\", coordinate_transformation_mode=\"asymmetric\">(x, , , sizes)",
        x=normal(1, 2, 5, 4), sizes=ints(1, 2, 7, 3), **LINEAR),
    row("y = Resize<mode=\"linear\", coordinate_transformation_mode=\"pytorch_half_pixel\">(x, , , sizes)",
        x=normal(1, 2, 5, 4), sizes=ints(1, 2, 1, 6), **LINEAR),
    row("y = Resize<mode=\"linear\", coordinate_transformation_mode=\"half_pixel_symmetric\">(x, , scales)",
        x=normal(1, 2, 5, 4), scales=np.array([1, 1, 1.3, 0.7], np.float32), **LINEAR),
    row("y = Resize<mode=\"linear\", coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=0.0>(x, roi, , sizes)",
        x=normal(1, 2, 5, 4), roi=np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 0.8], np.float32), sizes=ints(1, 2, 3, 6), **LINEAR),
    row("y = Resize<mode=\"nearest\", coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=0.0>(x, roi, , sizes)",
        x=normal(1, 2, 5, 4), roi=np.array([0, 0, 0.1, 0.3, 1, 1, 0.8, 0.9], np.float32), sizes=ints(1, 2, 1, 6), **LINEAR),
    row("y = Resize<mode=\"linear\", axes=[2,3]>(x, , , sizes)", x=normal(1, 2, 5, 4), sizes=ints(10, 8), **LINEAR),
    row("y = Resize<mode=\"linear\">(x, , , sizes)", x=normal(1, 2, 4), sizes=ints(1, 2, 7), why="1-D", **LINEAR),
    row("y = Resize<mode=\"linear\">(x, , , sizes)", x=normal(1, 2, 2, 3, 2), sizes=ints(1, 2, 3, 5, 4), why="3-D",
        **LINEAR),
    row("y = Resize<mode=\"linear\">(x, , , sizes)", x=normal(1, 2, 3, 3), sizes=given(ints(1, 2, 6, 5)),
        why="sizes at run time", **LINEAR),
    # sampling ------------------------------------------------------------------------------------------------------
    *(row(f"y = GridSample<mode=\"{mode}\", padding_mode=\"{padding}\", align_corners={corners}>(x, grid)",
          x=normal(2, 3, 4, 5), grid=grid(-3, 7, 2, 3, 4, 2, sizes=(5, 4), corners=corners), **SAMPLED)
      for mode, padding in (("linear", "zeros"), ("linear", "border"), ("linear", "reflection"), ("cubic", "zeros"), ("cubic", "reflection"))
      for corners in (0, 1)),
    *(row(f"y = GridSample<mode=\"cubic\", padding_mode=\"border\", align_corners={corners}>(x, grid)",
          x=normal(2, 3, 4, 5), grid=grid(-3, 7, 2, 3, 4, 2, sizes=(5, 4), corners=corners),
          reference="it clamps coordinates first, ONNX Runtime and PyTorch each neighbour", tol=8e-3) for corners in (0, 1)),
    *(row(f"y = GridSample<mode=\"nearest\", padding_mode=\"{padding}\", align_corners={corners}>(x, grid)",
          x=normal(2, 3, 4, 5), grid=grid(-3, 7, 2, 3, 4, 2, sizes=(5, 4), corners=corners), **SAMPLED)
      for padding in ("zeros", "border", "reflection") for corners in (0, 1)),
    row("y = GridSample<mode=\"bilinear\">(x, grid)", x=normal(2, 3, 4, 5), grid=grid(-3, 7, 2, 3, 4, 2, sizes=(5, 4)), opset=16,
        reference="it reads linear for bilinear", **SAMPLED),
    row("y = GridSample<padding_mode=\"reflection\">(x, grid)", x=normal(2, 2, 3, 4, 5), grid=grid(-9, 12, 2, 2, 3, 2, 3, sizes=(5, 4, 3)),
        why="3-D, far outside", **SAMPLED),
    row("y = GridSample<padding_mode=\"border\", align_corners=1>(x, grid)", x=normal(1, 2, 1, 4), grid=grid(-2, 4, 1, 3, 2, 2, sizes=(4, 1), corners=1),
        why="one pixel high", **SAMPLED),
    row("y = AffineGrid(theta, size)", theta=normal(2, 2, 3), size=ints(2, 3, 4, 5), reference="it gives float32", **LINEAR),
    row("y = AffineGrid<align_corners=1>(theta, size)", theta=normal(2, 3, 4), size=ints(2, 1, 3, 4, 5), why="volumes",
        reference="it gives float32", **LINEAR),
    *(row(f"y = RoiAlign<{how} output_height=2, output_width=3, sampling_ratio={ratio}, spatial_scale=0.5>(x, rois, batch)",
          x=normal(2, 3, 6, 7), rois=BOXES, batch=given(ints(1, 0, 1)), step=1e-7, tol=1e-5)
      for how in ("", "coordinate_transformation_mode=\"output_half_pixel\",") for ratio in (2, 0)),
    *(row(f"y = RoiAlign<mode=\"max\", {how} output_height=2, output_width=2, sampling_ratio={ratio}, spatial_scale=0.5>(x, rois, batch)",
          x=distinct(2, 3, 6, 7), rois=BOXES, batch=given(ints(1, 0, 1)), step=1e-7, tol=1e-5)
      for how in ("", "coordinate_transformation_mode=\"output_half_pixel\",") for ratio in (2, 0)),
    row("y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, rois, batch)", x=normal(1, 2, 5, 5),
        rois=exactly([[0.7, 1.1, 1.2, 4.3]]), batch=given(ints(0)), opset=13, why="one way before 16", reference="it takes the default of opset 16",
        step=1e-7, tol=1e-5),
    row("y = RoiAlign<mode=\"max\", output_height=2, output_width=2, sampling_ratio=2>(x, rois, batch)", x=distinct(1, 2, 5, 5),
        rois=exactly([[0.7, 1.1, 1.2, 4.3]]), batch=given(ints(0)), opset=13, against=("x",), why="raised to 16, and what it meant kept", reference="it takes the default of opset 16",
        step=1e-7, tol=1e-5),
    row("y = MaxRoiPool<pooled_shape=[2,3], spatial_scale=0.5>(x, rois)", x=distinct(2, 3, 6, 7),
        rois=exactly([[1.0, 2, 1, 12, 9], [0.0, 3, 5, 6, 6], [1.0, 9, 3, 30, 30]]), reference="it has no MaxRoiPool"),
    row("y = DeformConv<kernel_shape=[2,2], pads=[0,1,1,0]>(x, w, o, b, m)", x=normal(1, 2, 2, 3), w=normal(2, 2, 2, 2),
        o=between_pixels(-1, 2, 1, 8, 2, 3), b=normal(2), m=normal(1, 4, 2, 3), reference="it takes minutes"),
    row("y = DeformConv<group=2, offset_group=2, strides=[2,1], dilations=[1,2]>(x, w, o)", x=normal(2, 4, 3, 3), w=normal(4, 2, 1, 2),
        o=between_pixels(-1, 2, 2, 8, 2, 1), reference="it takes minutes"),
    # kernels -------------------------------------------------------------------------------------------------------
    row("y = Col2Im(x, image, block)", x=normal(2, 12, 12), image=ints(4, 5), block=ints(2, 2), opset=18, **LINEAR),
    row("y = Col2Im<pads=[1,0,0,1], strides=[2,1], dilations=[1,2]>(x, image, block)", x=normal(1, 8, 12),
        image=ints(5, 5), block=ints(2, 2), **LINEAR),
    row("y = Col2Im(x, image, block)", x=normal(1, 8, 6), image=given(ints(3, 4)), block=given(ints(2, 2)),
        why="known at run time", **LINEAR),
    row("y = Col2Im<strides=[2]>(x, image, block)", x=normal(2, 6, 3), image=ints(7), block=ints(3), why="1-D", **LINEAR),
    row("y = ConvTranspose<strides=[2,2], pads=[2,2,2,2]>(x, w)", x=normal(1, 4, 5, 5), w=normal(4, 2, 3, 3), why="padding cuts windows", **LINEAR),
    # matrices ------------------------------------------------------------------------------------------------------
    row("y = Einsum<equation=\"...ij,...jk->...ik\">(a, b)", a=normal(2, 3, 4), b=normal(4, 5), why="ellipsis, one without", runtime=ELLIPSIS, **LINEAR),
    row("y = Einsum<equation=\"...ij,...jk\">(a, b)", a=normal(5, 1, 3, 4), b=normal(2, 4, 5), why="ellipsis broadcasts", runtime=ELLIPSIS,
        static="onnx does not infer the rank of a symbolic ellipsis", **LINEAR),
    row("y = Einsum<equation=\"...ij,...jk->...ik\">(a, b)", a=normal(2, 3, 4), b=normal(2, 4, 5), why="ellipsis", **LINEAR),
    row("y = Einsum<equation=\"...Zy,...yY->...ZY\">(a, b)", a=normal(2, 3, 4), b=normal(2, 4, 5), why="ellipsis beside the last letters", **LINEAR),
    row("y = Einsum<equation=\"i...->...\">(a)", a=normal(3, 2, 4), why="summed in front of an ellipsis", **LINEAR),
    row("y = Einsum<equation=\"ii->i\">(a)", a=normal(4, 4), why="diagonal", **LINEAR),
    row("y = Einsum<equation=\"bii\">(a)", a=normal(2, 3, 3), why="trace", **LINEAR),
    row("y = Einsum<equation=\"...ii,j->...ij\">(a, b)", a=normal(2, 3, 3), b=normal(4), why="diagonal behind an ellipsis", **LINEAR),
    row("y = Einsum<equation=\"...ii,...j->...ij\">(a, b)", a=normal(1, 3, 3), b=normal(2, 4), why="diagonal, the ellipsis broadcasts", runtime=ELLIPSIS,
        **LINEAR),
    row("y = Einsum<equation=\"iij,jk->k\">(a, b)", a=normal(3, 3, 4), b=normal(4, 2), why="diagonal, summed alone", **LINEAR),
    row("y = Trilu(x)", x=normal(2, 3, 4), **LINEAR),
    row("y = Trilu<upper=0>(x, k)", x=normal(3, 4), k=np.array(-1, np.int64), **LINEAR),
    row("y = Det(x)", x=normal(2, 3, 3)),
    row("y = Det(x)", x=normal(2, 2), why="one matrix"),
    row("y = Det(x)", x=normal(3, 1, 1), why="1 by 1"),
    row("y = Det(x)", x=exactly(np.outer([1.0, 2.0, 3.0, 1.0], [1.0, -1.0, 2.0, 0.5]) + np.diag([1.0, 0.5, 0.0, 0.0])), why="singular"),
    row("y = Mod<fmod=1>(a, b)", a=exactly([5.3, -5.3, 0.4, 7.9]), b=exactly([2.0, 1.5, -3.0, -1.7])),
    row("y = Mod<fmod=1>(a, b)", a=exactly([[5.3, -5.3], [0.4, 7.9]]), b=exactly([2.0, 1.5]), why="broadcasts"),
    row("y = Mod(a, b)", a=exactly([5.3, -5.3, 0.4, 7.9]), b=exactly([2.0, 1.5, -3.0, -1.7]), opset=28, why="floors", runtime="it has no opset 28"),
    # functions of one value, the rest --------------------------------------------------------------------------------
    row("y = Tan(x)", x=between(-1.2, 1.2), reads="y"),
    row("y = Sinh(x)", x=normal(3, 4)),
    row("y = Cosh(x)", x=normal(3, 4)),
    row("y = Asin(x)", x=between(-0.9, 0.9)),
    row("y = Acos(x)", x=between(-0.9, 0.9)),
    row("y = Atan(x)", x=normal(3, 4)),
    row("y = Asinh(x)", x=normal(3, 4)),
    row("y = Acosh(x)", x=between(1.2, 4.0)),
    row("y = Atanh(x)", x=between(-0.9, 0.9)),
    row("y = BitCast<to=1>(x)", x=normal(3, 4), opset=26, why="to the same type", reference="it would read float64 as float32",
        runtime="no opset 26 yet", **LINEAR),
    row("y, mask = Dropout<seed=1>(x, ratio, training)", x=off(0.0), ratio=exactly(0.3), training=np.array(True),
        why="training, of one draw", reference="it draws anew", **DRAWN),
    row("y = Dropout<seed=1>(x, ratio, training)", x=off(0.0), ratio=exactly(0.3), training=given(np.array(True)),
        why="training, without the mask", reference="it draws anew", **DRAWN),
    # products, counts, norms -------------------------------------------------------------------------------------------
    row("y = ReduceProd(x, axes)", x=off(0.0, shape=(2, 3, 2)), axes=ints(1, 2)),
    row("y = ReduceProd<keepdims=0>(x)", x=exactly([[1.5, 0.0], [2.0, -3.0]]), why="one factor is 0"),
    row("y = ReduceProd<keepdims=0>(x, axes)", x=exactly([[1.5, 0.0], [0.0, 0.0]]), axes=ints(1), why="two factors are 0"),
    row("y = ReduceProd<noop_with_empty_axes=1>(x)", x=normal(2, 3), why="nothing reduced", **LINEAR),
    row("y = CumProd(x, axis)", x=exactly([[1.5, 0.0, 2.0, -1.0], [0.5, 2.0, 0.0, 0.0]]), axis=np.array(1, np.int64), opset=26,
        runtime="it has no CumProd"),
    row("y = CumProd<exclusive=1, reverse=1>(x, axis)", x=normal(3, 4, 2), axis=np.array(-2, np.int64), opset=26,
        runtime="it has no CumProd"),
    row("y = LpNormalization(x)", x=normal(3, 4)),
    row("y = LpNormalization<axis=0, p=1>(x)", x=off(0.0), reference="its sum keeps the signs"),
    row("y, m, v = BatchNormalization<training_mode=1, momentum=0.7>(x, s, b, mean, var)", x=normal(4, 3, 2, 2), s=normal(3),
        b=normal(3), mean=normal(3), var=positive(3), against=("x", "s", "b"), why="of the batch"),
    row("z, y = LayerNormalization(x, s, b)", x=normal(2, 3, 8), s=normal(8), b=normal(8), against=("x",), why="the mean"),
    row("z, m, y = LayerNormalization<axis=1>(x, s)", x=normal(2, 3, 4), s=normal(3, 4), against=("x",), why="1 / deviation"),
    # layout and index, the rest ----------------------------------------------------------------------------------------
    row("y = Pad(x, pads, v)", x=normal(3, 4), pads=ints(1, 0, 2, 3), v=exactly(0.5), why="the value", **LINEAR),
    row("y = Pad(x, pads, v, axes)", x=normal(3, 4), pads=ints(2, -1), v=exactly(0.5), axes=ints(-1), why="the value, one side cut",
        reference="its Pad takes no negative pads", **LINEAR),
    row("y = Pad<mode=\"edge\">(x, pads, v)", x=normal(3, 4), pads=ints(1, 0, 2, 3), v=exactly(0.5), why="a value that is not used", **LINEAR),
    row("y = Range(start, limit, delta)", start=exactly(0.3), limit=exactly(2.0), delta=exactly(0.5), against=("start", "delta"),
        static="onnx infers the size from the constants"),
    row("y = Compress<axis=1>(x, c)", x=normal(3, 4), c=given(np.array([False, True, True])), **LINEAR),
    row("y = Compress(x, c)", x=normal(3, 4), c=given(np.array([False, True, True, False, False, True])), why="flattened", **LINEAR),
    row("y = Unique(x)", x=distinct(3, 4)),
    row("y, first = Unique<axis=1, sorted=0>(x)", x=distinct(3, 4), reference="it gives rows for columns"),
    row("y = ReverseSequence<batch_axis=0, time_axis=1>(x, n)", x=normal(3, 4, 2), n=ints(1, 4, 3), **LINEAR),
    row("y = OneHot<axis=0>(i, depth, v)", v=normal(2), i=given(ints(0, 2, -1)), depth=np.array(4, np.int64), **LINEAR),
    row("y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(x, i)", x=normal(1, 1, 2, 2), i=np.array([[[[5, 7], [8, 15]]]], np.int64), **LINEAR),
    row("y = TensorScatter(x, u, i)", x=normal(2, 3, 4, 2), u=normal(2, 3, 2, 2), i=given(ints(1, 2)), opset=24,
        **LINEAR),
    row("y = TensorScatter<mode=\"circular\", axis=1>(x, u, i)", x=normal(2, 4, 3), u=normal(2, 2, 3), i=ints(3, 0), opset=24, **LINEAR),
    row("y = TensorScatter<axis=-1>(x, u)", x=normal(2, 4), u=normal(2, 2), opset=24, **LINEAR),
    row("y = ScatterElements<axis=1, reduction=\"mul\">(x, i, u)", x=normal(2, 5), i=np.array([[0, 2, 2], [4, 1, 4]], np.int64), u=normal(2, 3)),
    row("y = ScatterElements<axis=1, reduction=\"mul\">(x, i, u)", x=exactly([[1.5, 0.0, 2.0], [0.0, 1.0, 3.0]]),
        i=np.array([[0, 1], [0, 2]], np.int64), u=exactly([[0.0, 2.0], [0.0, -1.0]]), why="factors that are 0"),
    *(row(f"y = ScatterElements<axis=1, reduction=\"{how}\">(x, i, u)", x=distinct(2, 5), i=np.array([[0, 2, 2], [4, 1, 4]], np.int64),
          u=off(0.0, shape=(2, 3), margin=0.03)) for how in ("min", "max")),
    row("y = ScatterND<reduction=\"mul\">(x, i, u)", x=normal(4, 3), i=np.array([[1], [3], [1]], np.int64), u=normal(3, 3)),
    *(row(f"y = ScatterND<reduction=\"{how}\">(x, i, u)", x=distinct(4, 3), i=np.array([[1], [3], [1]], np.int64),
          u=off(0.0, shape=(3, 3), margin=0.03)) for how in ("min", "max")),
    # signals -----------------------------------------------------------------------------------------------------------
    row("y = DFT(x)", x=normal(2, 5, 1), why="real", **LINEAR),
    row("y = DFT<onesided=1>(x, n)", x=normal(2, 5, 1), n=np.array(8, np.int64), why="filled with zeros", **LINEAR),
    row("y = DFT(x, n, axis)", x=normal(2, 6, 3, 2), n=np.array(4, np.int64), axis=np.array(1, np.int64), why="complex, cut", **LINEAR),
    row("y = DFT<inverse=1>(x, , axis)", x=normal(4, 3, 2), axis=np.array(0, np.int64), **LINEAR),
    row("y = DFT<inverse=1, onesided=1>(x)", x=normal(2, 4, 2), why="to a real signal", runtime="it gives another shape", **LINEAR),
    row("y = DFT<inverse=1, onesided=1>(x, n)", x=normal(2, 4, 2), n=np.array(7, np.int64), why="to an odd length", runtime="it gives another shape",
        **LINEAR),
    row("y = DFT<axis=1>(x)", x=normal(2, 5, 1), opset=17, why="raised to 20", **LINEAR),
    row("y = STFT<onesided=1>(x, hop, w)", x=normal(2, 12, 1), hop=np.array(3, np.int64), w=positive(6), opset=17,
        static="onnx does not infer its shape"),
    row("y = STFT<onesided=0>(x, hop, w, n)", x=normal(1, 11, 2), hop=np.array(2, np.int64), w=positive(4), n=np.array(4, np.int64),
        why="complex", static="onnx does not infer its shape"),
    row("y = STFT<onesided=1>(x, hop, , n)", x=normal(1, 9, 1), hop=np.array(2, np.int64), n=np.array(5, np.int64), why="no window",
        static="onnx does not infer its shape", **LINEAR),
    # resize, the rest ---------------------------------------------------------------------------------------------------
    row("y = Resize<mode=\"cubic\">(x, , scales)", x=normal(1, 2, 4, 5), scales=np.array([1, 1, 1.5, 0.6], np.float32), **CUBIC),
    row("y = Resize<mode=\"cubic\", cubic_coeff_a=-0.5, exclude_outside=1>(x, , , sizes)", x=normal(1, 2, 4, 5), sizes=ints(1, 2, 7, 3), **CUBIC),
    row("y = Resize<mode=\"cubic\", coordinate_transformation_mode=\"align_corners\">(x, , , sizes)", x=normal(1, 2, 4, 5),
        sizes=ints(1, 2, 7, 3), **CUBIC),
    row("y = Resize<mode=\"linear\", antialias=1>(x, , , sizes)", x=normal(1, 2, 7, 5), sizes=ints(1, 2, 3, 4), **LINEAR),
    row("y = Resize<mode=\"cubic\", antialias=1>(x, , , sizes)", x=normal(1, 2, 7, 5), sizes=ints(1, 2, 3, 4), **CUBIC),
    row("y = Resize<mode=\"cubic\", antialias=1, exclude_outside=1, cubic_coeff_a=-0.5>(x, , scales)", x=normal(1, 2, 7, 5),
        scales=np.array([1, 1, 0.5, 0.8], np.float32), **CUBIC),
    row("y = Resize<mode=\"linear\", keep_aspect_ratio_policy=\"not_larger\", axes=[2,3]>(x, , , sizes)", x=normal(1, 2, 4, 5),
        sizes=ints(7, 7), **LINEAR),
    row("y = Resize<keep_aspect_ratio_policy=\"not_smaller\", axes=[3,2]>(x, , , sizes)", x=normal(1, 2, 4, 5), sizes=ints(3, 7), **LINEAR),
    # quantisation: x = (q - zero point) * scale; some of each row lies outside the range ---------------------------
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear",
        x=normal(4, 9), s=scale(0.01), z=zero(128)),
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear", why="int8, opset 13", opset=13,
        x=normal(4, 9), s=scale(0.01), z=zero(-3, "int8")),
    row("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", derounded="DequantizeLinear", why="no zero point",
        x=normal(4, 9), s=scale(0.01)),
    row("q = QuantizeLinear<axis=0>(x, s, z) y = DequantizeLinear<axis=0>(q, s, z)", derounded="QuantizeLinear", why="per axis",
        x=normal(3, 9), s=scale(0.01, 0.02, 0.005), z=np.array([128, 3, 250], np.uint8)),
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear", why="int16", opset=21,
        x=normal(4, 9), s=scale(3e-5), z=zero(9, "int16")),
    row("q = com.microsoft.QuantizeLinear(x, s, z) y = com.microsoft.DequantizeLinear(q, s, z)", why="uint16 before it was standard",
        derounded="com.microsoft.QuantizeLinear", x=normal(4, 9), s=scale(3e-5), z=zero(30000, "uint16")),
    row("q = com.microsoft.QuantizeLinear(x, s, z) r = Transpose<perm=[1,0]>(q) y = com.microsoft.DequantizeLinear(r, s, z)",
        derounded="com.microsoft.DequantizeLinear", x=normal(4, 9), s=scale(3e-5), z=zero(0, "int16")),
    row("q = com.microsoft.QuantizeLinear<axis=1>(x, s, z) y = com.microsoft.DequantizeLinear<axis=1>(q, s, z)", why="per axis",
        derounded="com.microsoft.QuantizeLinear", x=normal(9, 3), s=scale(3e-5, 2e-5, 1e-5), z=np.array([0, 9, -300], np.int16)),
    row("q = QuantizeLinear(x, s, z) w = DequantizeLinear(q, s2, z) y = Mul(w, w)", derounded="DequantizeLinear", why="another scale",
        x=normal(4, 9), s=scale(0.01), s2=scale(0.03), z=zero(128)),
    *(
        row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear", why=why, opset=opset, x=normal(4, 9),
            s=scale(step), z=np.array(z, kind))
        for why, opset, step, z, kind in (
            ("int4", 21, 0.2, 1, ml_dtypes.int4), ("uint4", 21, 0.2, 8, ml_dtypes.uint4), ("int2", 25, 0.9, 0, ml_dtypes.int2),
            ("float8", 19, 3e-3, 0, ml_dtypes.float8_e4m3fn), ("float8 of more range", 21, 3e-5, 0, ml_dtypes.float8_e5m2),
        )
    ),
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear", why="float4", opset=23, runtime="it has no float4",
        x=normal(4, 9), s=scale(0.2), z=np.array(0, ml_dtypes.float4_e2m1fn)),
    row("v = DequantizeLinear<axis=0>(w, t) y = Conv(x, v)", composed="Conv", against=("x",), why="a weight of float4", opset=23, runtime="it has no float4", x=normal(1, 2, 5, 5),
        t=scale(0.1, 0.2, 0.15), w=integers("int8", 3, 2, 3, 3, low=-4, high=4).astype(ml_dtypes.float4_e2m1fn), **LINEAR),
    row("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear<axis=0>(w, t) y = Conv(d, v)", derounded="QuantizeLinear",
        why="a weight of int4", opset=21, x=normal(1, 2, 5, 5), s=scale(0.01), z=zero(120), t=scale(0.1, 0.2, 0.15),
        w=integers("int8", 3, 2, 3, 3, low=-8, high=8).astype(ml_dtypes.int4)),
    *(
        row(f"q = QuantizeLinear{blocks}(x, s, z) y = DequantizeLinear{blocks}(q, s, z)", derounded="QuantizeLinear", why="in blocks", opset=21,
            x=normal(*shape), s=np.random.default_rng(1).uniform(0.005, 0.02, of).astype(np.float32), z=integers("uint8", *of, low=90, high=150))
        for blocks, shape, of in (("<axis=1, block_size=3>", (2, 7, 2), (2, 3, 2)), ("<axis=-1, block_size=4>", (3, 9), (3, 3)),
                                  ("<axis=0, block_size=2>", (4, 9), (2, 9)))
    ),
    row("y = DequantizeLinear(q, s, z)", q=integers("uint8", 4, 5, low=0), s=positive(), z=zero(128), why="a scale that is computed",
        **SCALED),
    row("y = DequantizeLinear<axis=-2>(q, s, z)", q=integers("int8", 2, 4, 5), s=positive(4), z=integers("int8", 4), why="per axis", **SCALED),
    row("y = DequantizeLinear<axis=1, block_size=3>(q, s, z)", q=integers("int8", 2, 7, 2), s=positive(2, 3, 2), z=integers("int8", 2, 3, 2),
        opset=21, why="in blocks", **SCALED),
    row("y = com.microsoft.DequantizeLinear(q, s, z)", q=integers("uint16", 4, 5, low=0), s=positive(), z=zero(9, "uint16"), **SCALED),
    row("y = com.microsoft.DequantizeLinear<axis=0>(q, s, z)", q=integers("int16", 4, 5), s=positive(4), z=integers("int16", 4), why="per axis", **SCALED),
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s2, z)", derounded="QuantizeLinear", why="its scale is computed",
        x=normal(4, 9), s=exactly(0.01), s2=scale(0.03), z=zero(128)),
    row("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", derounded="QuantizeLinear", why="the scale of both is computed",
        x=normal(4, 9), s=exactly(0.01), z=zero(128)),
    row("q = com.microsoft.QuantizeLinear(x, s, z) y = com.microsoft.DequantizeLinear(q, s2, z)", derounded="com.microsoft.QuantizeLinear",
        why="its scale is computed", x=normal(4, 9), s=exactly(3e-5), s2=scale(3e-5), z=zero(9, "uint16"), step=1e-8),
    row("q, y, z = DynamicQuantizeLinear(x)", x=between(1, 9), why="the scale itself", composed="DynamicQuantizeLinear", step=1e-2, tol=1e-4,
        reference="its scale is float32"),
    row("q, y, z = DynamicQuantizeLinear(x)", x=off(0.0), why="the scale, of both signs", composed="DynamicQuantizeLinear", step=1e-2, tol=1e-4,
        reference="its scale is float32"),
    row("q, s, z = DynamicQuantizeLinear(x) r = DequantizeLinear(q, s, z) y = Mul(r, r)", derounded="DynamicQuantizeLinear", x=normal(4, 9)),
    row("q = QuantizeLinear(x, s, z) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q) y = DequantizeLinear(p, s, z)",
        derounded="QuantizeLinear", why="a move of integers", x=distinct(1, 2, 4, 6), s=scale(0.02), z=zero(8)),
    row("q = QuantizeLinear(x, xs, xz) c = QLinearConv<strides=[2,1], pads=[1,0,1,1]>(q, xs, xz, w, ws, wz, ys, yz, b) y = DequantizeLinear(c, ys, yz)",
        derounded="QLinearConv", x=normal(2, 4, 7, 6), xs=scale(0.02), xz=zero(120), w=integers("int8", 6, 4, 3, 3), ws=scale(0.002),
        wz=zero(0, "int8"), ys=scale(0.02), yz=zero(100), b=integers("int32", 6, low=-5000, high=5000)),
    row("q = QuantizeLinear(x, xs, xz) c = com.microsoft.QLinearConv<channels_last=1, strides=[2,1], pads=[1,0,1,1]>(q, xs, xz, w, ws, wz, ys, yz, b) y = DequantizeLinear(c, ys, yz)",
        derounded="com.microsoft.QLinearConv", x=normal(2, 7, 6, 4), xs=scale(0.02), xz=zero(120), w=integers("int8", 6, 4, 3, 3), ws=scale(0.002),
        wz=zero(0, "int8"), ys=scale(0.006), yz=zero(130), b=integers("int32", 6)),
    row("q = QuantizeLinear(x, xs, xz) c = com.microsoft.QLinearConv(q, xs, xz, w, ws, wz, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="com.microsoft.QLinearConv", why="channels first", x=normal(2, 4, 5, 6), xs=scale(0.02), xz=zero(120),
        w=integers("int8", 6, 4, 3, 3), ws=scale(0.002), wz=zero(0, "int8"), ys=scale(0.006), yz=zero(130)),
    row("q = QuantizeLinear(x, s, z) p = com.microsoft.NhwcMaxPool<kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,0]>(q) y = DequantizeLinear(p, s, z)",
        derounded="com.microsoft.NhwcMaxPool", x=distinct(1, 4, 6, 2), s=scale(0.02), z=zero(8)),
    row("q = QuantizeLinear(x, xs, xz) c = QLinearConv<group=2>(q, xs, xz, w, ws, wz, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="QLinearConv", why="a scale per channel, grouped", x=normal(2, 4, 7, 6), xs=scale(0.02), xz=zero(0, "int8"),
        w=integers("int8", 4, 2, 3, 3), ws=scale(0.002, 0.003, 0.001, 0.004), wz=np.zeros(4, np.int8), ys=scale(0.015), yz=zero(-7, "int8")),
    row("q = QuantizeLinear(x, xs, xz) c = QLinearMatMul(q, xs, xz, w, ws, wz, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="QLinearMatMul", x=normal(2, 3, 8), xs=scale(0.02), xz=zero(120), w=integers("uint8", 8, 5, low=0, high=255),
        ws=scale(0.01), wz=zero(130), ys=scale(0.015), yz=zero(128)),
    row("q = QuantizeLinear(a, as_, az) r = QuantizeLinear(b, bs, bz) c = QLinearMatMul(q, as_, az, r, bs, bz, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="QLinearMatMul", why="both", a=normal(2, 3, 8), b=normal(2, 8, 5), as_=scale(0.02), az=zero(120), bs=scale(0.02),
        bz=zero(3, "int8"), ys=scale(0.015), yz=zero(128)),
    row("q = QuantizeLinear(x, xs, xz) c = com.microsoft.QGemm<transB=1, alpha=1.0>(q, xs, xz, w, ws, wz, b, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="com.microsoft.QGemm", x=normal(3, 8), xs=scale(0.02), xz=zero(120), w=integers("int8", 5, 8), ws=scale(*[0.004] * 5),
        wz=np.zeros(5, np.int8), b=integers("int32", 5, low=-3000, high=3000), ys=scale(0.005), yz=zero(100)),
    row("q = QuantizeLinear(x, xs, xz) y = com.microsoft.QGemm(q, xs, xz, w, ws, wz, b)", derounded="com.microsoft.QGemm", why="gives floats",
        x=normal(3, 8), xs=scale(0.02), xz=zero(120), w=integers("int8", 8, 5), ws=scale(0.004), wz=zero(0, "int8"),
        b=integers("int32", 5, low=-3000, high=3000)),
    *(
        row(f"q = QuantizeLinear(a, as_, az) r = QuantizeLinear(b, bs, bz) c = com.microsoft.{name}(q, as_, az, r, bs, bz, ys, yz) y = DequantizeLinear(c, ys, yz)",
            derounded=f"com.microsoft.{name}", a=normal(2, 3, 4), b=normal(3, 1), as_=scale(0.02), az=zero(120), bs=scale(0.015),
            bz=zero(90), ys=scale(0.012), yz=zero(128))
        for name in ("QLinearAdd", "QLinearMul")
    ),
    row("q = QuantizeLinear(x, xs, xz) c = com.microsoft.QLinearMul(q, xs, xz, w, ws, wz, ys, yz) y = DequantizeLinear(c, ys, yz)",
        derounded="com.microsoft.QLinearMul", why="by a weight", x=normal(2, 3, 4), xs=scale(0.02), xz=zero(120),
        w=integers("uint8", 3, 1, low=0, high=255), ws=scale(0.01), wz=zero(100), ys=scale(0.012), yz=zero(128)),
    row("q = QuantizeLinear(a, s, z) r = QuantizeLinear(b, t, z) c = com.microsoft.QLinearConcat<axis=1>(ys, z, q, s, z, r, t, z) y = DequantizeLinear(c, ys, z)",
        derounded="com.microsoft.QLinearConcat", a=normal(2, 3), b=normal(2, 4), s=scale(0.02), t=scale(0.01), ys=scale(0.03), z=zero(128)),
    *(
        row(f"q = QuantizeLinear(x, xs, xz) c = com.microsoft.{name}(q, xs, xz, ys, yz) y = DequantizeLinear(c, ys, yz)",
            derounded=f"com.microsoft.{name.partition('<')[0]}", x=off(0.0, shape=(2, 3, 4, 5)), xs=scale(0.02), xz=zero(110), ys=scale(step), yz=zero(at))
        for name, step, at in (
            ("QLinearSigmoid", 1 / 256, 0), ("QLinearLeakyRelu<alpha=0.3>", 0.02, 60), ("QLinearSoftmax<axis=-1, opset=13>", 1 / 256, 0),
            ("QLinearSoftmax<axis=3, opset=11>", 1 / 256, 0), ("QLinearGlobalAveragePool", 0.01, 128),
            ("QLinearAveragePool<kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,1]>", 0.02, 128),
            ("QLinearAveragePool<channels_last=1, kernel_shape=[2,3], strides=[1,2], pads=[0,1,0,1]>", 0.02, 128),
            ("QLinearGlobalAveragePool<channels_last=1>", 0.01, 128),
        )
    ),
    row("q = QuantizeLinear(a, s, z) r = QuantizeLinear(b, t, z) c = com.microsoft.QLinearWhere(mask, q, s, z, r, t, z, ys, z) y = DequantizeLinear(c, ys, z)",
        derounded="com.microsoft.QLinearWhere", a=normal(2, 3), b=normal(3), s=scale(0.02), t=scale(0.01), ys=scale(0.03), z=zero(128),
        mask=np.array([[True, False, True]])),
    row("q, s, z = DynamicQuantizeLinear(x) c = ConvInteger<pads=[1,1,0,0]>(q, w, z, wz) f = Cast<to=1>(c) t = Mul(s, ws) y = Mul(f, t)",
        derounded="ConvInteger", x=normal(2, 4, 5, 6), w=integers("uint8", 6, 4, 3, 3, low=0, high=255), wz=zero(130), ws=scale(0.002)),
    row("q, s, z = DynamicQuantizeLinear(x) c = MatMulInteger(q, w, z, wz) f = Cast<to=1>(c) t = Mul(s, ws) y = Mul(f, t)",
        derounded="MatMulInteger", x=normal(2, 3, 8), w=integers("int8", 8, 5), wz=np.array([0, 3, -1, 2, 5], np.int8), ws=scale(0.002)),
    row("q, s, z = DynamicQuantizeLinear(a) r, t, u = DynamicQuantizeLinear(b) c = MatMulInteger(q, r, z, u) f = Cast<to=1>(c) st = Mul(s, t) y = Mul(f, st)",
        derounded="MatMulInteger", why="both", a=normal(2, 3, 8), b=normal(8, 5)),
    row("q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, w, s, ws, z, wz, b)",
        derounded="com.microsoft.MatMulIntegerToFloat", x=normal(2, 3, 8), w=integers("uint8", 8, 5, low=0, high=255),
        ws=scale(0.002, 0.001, 0.003, 0.002, 0.004), wz=np.array([130, 120, 128, 7, 100], np.uint8), b=np.ones(5, np.float32)),
    row("y = com.microsoft.DynamicQuantizeMatMul(x, w, ws, wz, b)", derounded="com.microsoft.DynamicQuantizeMatMul", x=normal(2, 3, 8),
        w=integers("uint8", 8, 5, low=0, high=255), ws=scale(0.002), wz=zero(130), b=np.ones(5, np.float32)),
    row("y = com.microsoft.MatMulNBits<K=40, N=5, bits=4, block_size=16>(x, w, ws)", derounded="com.microsoft.MatMulNBits",
        x=normal(2, 3, 40), w=integers("uint8", 5, 3, 8, low=0, high=255), ws=np.linspace(0.01, 0.03, 15, dtype=np.float32)),
    row("y = com.microsoft.MatMulNBits<K=40, N=5, bits=4, block_size=16>(x, w, ws, zeros)", derounded="com.microsoft.MatMulNBits",
        x=normal(2, 3, 40), w=integers("uint8", 5, 3, 8, low=0, high=255), ws=np.linspace(0.01, 0.03, 15, dtype=np.float32),
        zeros=integers("uint8", 10, low=0, high=255), why="zero points"),
    row("y = com.microsoft.MatMulNBits<K=32, N=5, bits=8, block_size=16>(x, w, ws)", derounded="com.microsoft.MatMulNBits", why="8 bits",
        x=normal(2, 3, 32), w=integers("uint8", 5, 2, 16, low=0, high=255), ws=np.linspace(0.001, 0.003, 10, dtype=np.float32)),
    # ONNX Runtime's own --------------------------------------------------------------------------------------------
    *(
        row(f"y = com.microsoft.FusedConv<activation=\"{name}\"{params}, pads=[1,0,0,1], strides=[2,1]>(x, w, b)",
            reference=OURS, x=normal(1, 2, 3, 3), w=FILTERS, b=exactly([0.2, -0.3, 0.7]))
        for name, params in (("Relu", ""), ("LeakyRelu", ", activation_params=[0.2]"), ("Tanh", ""), ("Sigmoid", ""),
                             ("HardSigmoid", ", activation_params=[0.1, 0.4]"), ("Clip", ", activation_params=[-0.9, 1.1]"))
    ),
    row("y = com.microsoft.FusedConv<activation=\"HardSwish\", activation_params=[0.3, 0.4], pads=[1,0,0,1]>(x, w, b)", reference=OURS,
        why="its parameters are not read", x=normal(1, 2, 3, 3, scale=3), w=FILTERS, b=exactly([0.2, -0.3, 0.7])),
    row("y = com.microsoft.FusedConv<activation=\"HardSwish\">(x, w, b, z)", reference=OURS, why="a residual branch", x=normal(1, 2, 3, 3),
        w=FILTERS, b=exactly([0.2, -0.3, 0.7]), z=normal(1, 3, 2, 2, scale=3)),
    row("y = com.microsoft.FusedConv(x, w)", reference=OURS, why="no activation", x=IMAGE, w=np.linspace(-1, 1, 216).reshape(6, 4, 3, 3)),
    row("y = com.microsoft.FusedConv<activation=\"Relu\", group=2>(x, w, b, z)", reference=OURS, why="a residual branch", x=normal(1, 4, 3, 3),
        w=np.concatenate([FILTERS, FILTERS[:1]]), b=exactly([0.2, -0.3, 0.7, 0.1]), z=normal(1, 4, 2, 2)),
    *(
        row(f"y = com.microsoft.FusedGemm<activation=\"{name}\"{more}>(a, b, c)", reference=OURS, a=normal(3, 8), b=normal(8, 5), c=normal(5))
        for name, more in (("Relu", ""), ("LeakyRelu", ", activation_alpha=0.3, alpha=0.5"), ("Tanh", ""), ("Sigmoid", ", beta=2.0"),
                           ("HardSigmoid", ", activation_alpha=0.1, activation_beta=0.4"), ("Elu", ", activation_alpha=0.7"),
                           ("Celu", ", activation_alpha=0.7"), ("Softplus", ", alpha=0.5, beta=2.0"), ("Softsign", ""),
                           ("Selu", ", activation_alpha=1.6, activation_gamma=1.1"), ("ThresholdedRelu", ", activation_alpha=0.3"))
    ),
    *(
        row(f"y = com.microsoft.FusedMatMul<alpha=0.5{turns}>(a, b)", reference=OURS, a=normal(*a), b=normal(*b), against=("a", "b"))
        for turns, a, b in (("", (2, 3, 4), (4, 5)), (", transA=1", (2, 4, 3), (2, 4, 5)), (", transB=1", (1, 3, 4), (2, 5, 4)),
                            (", transA=1, transB=1", (4, 3), (5, 4)))
    ),
    row("y = com.microsoft.TransposeMatMul<transB=1>(a, b)", reference=OURS, a=normal(2, 3, 4), b=normal(2, 5, 4)),
    row("y = com.microsoft.Gelu(x)", reference=OURS, x=normal(3, 4)),
    row("y = com.microsoft.BiasGelu(x, b)", reference=OURS, x=normal(2, 3, 4), b=normal(4)),
    row("y = com.microsoft.FastGelu(x)", reference=OURS, x=normal(3, 4)),
    row("y = com.microsoft.FastGelu(x, b)", reference=OURS, x=normal(2, 3, 4), b=normal(4)),
    row("y = com.microsoft.QuickGelu<alpha=1.0>(x)", reference=OURS, x=normal(3, 4)),
    row("y = com.microsoft.QuickGelu(x)", reference=OURS, x=normal(3, 4)),
    row("y = SimplifiedLayerNormalization<axis=-1, epsilon=1e-3>(x, s)", reference=OURS, x=normal(2, 3, 8), s=np.linspace(0.5, 2, 8)),
    row("y = com.microsoft.SkipLayerNormalization<epsilon=1e-3>(x, skip, s, b, c)", reference=OURS, x=normal(2, 3, 8), skip=normal(2, 3, 8),
        s=np.linspace(0.5, 2, 8), b=np.linspace(-1, 1, 8), c=np.linspace(1, -1, 8)),
    row("y = com.microsoft.SkipLayerNormalization<epsilon=1e-3>(x, skip, s)", reference=OURS, x=normal(2, 3, 8), skip=normal(3, 8),
        s=np.linspace(0.5, 2, 8), why="one for the batch"),
    row("h, m, v, t = com.microsoft.SkipLayerNormalization<epsilon=1e-3>(x, skip, s) y = Add(h, t)", composed="com.microsoft.SkipLayerNormalization",
        reference=OURS, x=normal(2, 3, 8), skip=normal(2, 3, 8), s=np.linspace(0.5, 2, 8), why="the sum is read too", against=("x", "skip")),
    row("y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=1e-3>(x, skip, s, c)", reference=OURS, x=normal(2, 3, 8), skip=normal(2, 3, 8),
        s=np.linspace(0.5, 2, 8), c=np.linspace(1, -1, 8)),
    row("y = com.microsoft.Attention<num_heads=2>(x, w, b)", reference=OURS, x=normal(2, 3, 8, scale=0.3), w=np.random.default_rng(3).standard_normal((8, 24)),
        b=np.linspace(-1, 1, 24)),
    row("y = com.microsoft.Attention<num_heads=4, scale=0.3>(x, w, b)", reference=OURS, x=normal(2, 3, 8), w=np.random.default_rng(3).standard_normal((8, 24)),
        b=np.linspace(-1, 1, 24)),
    row("y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)", reference=OURS, q=normal(2, 3, 8), k=normal(2, 5, 8), v=normal(2, 5, 8)),
    row("y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)", reference=OURS, why="narrow values", q=normal(2, 3, 8), k=normal(2, 5, 8), v=normal(2, 5, 4)),
    row("y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.5>(q, k, v, b)", reference=OURS, q=normal(2, 3, 8), k=normal(2, 5, 8), v=normal(2, 5, 8),
        b=np.linspace(-1, 1, 24)),
    row("y = com.microsoft.BiasSoftmax<axis=2, is_inner_broadcast=1>(x, b)", runtime=GPU, x=normal(2, 3, 4), b=normal(2, 1, 4)),
    row("y = com.microsoft.BiasSoftmax<axis=1, is_inner_broadcast=0>(x, b)", runtime=GPU, why="several axes", x=normal(2, 3, 4), b=normal(1, 3, 4)),
    row("y = com.microsoft.BiasAdd(x, b, s)", runtime=GPU, x=normal(2, 3, 4), b=normal(4), s=normal(2, 3, 4), **LINEAR),
    row("y = com.microsoft.BiasSplitGelu(x, b)", runtime=GPU, x=normal(2, 3, 8), b=normal(8)),
    *(
        row(f"y = com.microsoft.GroupNorm<groups=2, activation={silu}{more}>(x, s, b)", runtime=GPU, why=why, x=normal(*shape),
            s=np.linspace(0.5, 2, 6), b=np.linspace(-1, 1, 6))
        for silu, more, shape, why in ((0, ", epsilon=1e-3", (2, 3, 4, 6), ""), (1, "", (2, 3, 4, 6), "SiLU behind"),
                                       (1, ", channels_last=0", (2, 6, 3, 4), "channels first"))
    ),
    *(
        row(f"y = com.microsoft.SkipGroupNorm<groups=3, activation=1{more}>(x, s, b, k{bias})", runtime=GPU, why=why, x=normal(*shape),
            k=normal(*skip), s=np.linspace(0.5, 2, 6), b=np.linspace(-1, 1, 6), **({"c": np.linspace(1, -1, 6)} if bias else {}))
        for more, shape, skip, bias, why in (("", (2, 3, 4, 6), (2, 3, 4, 6), "", ""), ("", (2, 3, 4, 6), (2, 1, 1, 6), ", c", "one for all of space"),
                                             ("", (2, 3, 4, 6), (2, 6), ", c", "without axes of space"),
                                             (", channels_last=0", (2, 6, 3, 4), (2, 6), ", c", "channels first"))
    ),
    row("h, t = com.microsoft.SkipGroupNorm<groups=3, activation=0>(x, s, b, k) y = Mul(h, t)", runtime=GPU, composed="com.microsoft.SkipGroupNorm",
        why="the sum is read too", x=normal(2, 3, 4, 6), k=normal(2, 3, 4, 6), s=np.linspace(0.5, 2, 6), b=np.linspace(-1, 1, 6), against=("x", "k")),
    row("h, y = com.microsoft.SkipGroupNorm<groups=3, activation=0>(x, s, b, k)", runtime=GPU, composed="com.microsoft.SkipGroupNorm",
        why="the sum alone", x=normal(2, 3, 4, 6), k=normal(2, 6), s=np.linspace(0.5, 2, 6), b=np.linspace(-1, 1, 6), against=("x", "k")),
    row("y = com.microsoft.NhwcConv<pads=[1,0,1,1], strides=[2,1]>(x, w, b)", runtime=GPU, x=normal(2, 5, 4, 3), b=normal(4),
        w=np.linspace(-1, 1, 72).reshape(4, 3, 2, 3), **LINEAR),
    row("y = com.microsoft.NhwcConv<group=2, dilations=[1,2]>(x, w)", runtime=GPU, why="grouped", x=normal(2, 5, 6, 4),
        w=np.linspace(-1, 1, 48).reshape(4, 3, 2, 2), **LINEAR),
    row("y = com.microsoft.NhwcConv<group=4, pads=[1,1,1,1]>(x, w)", runtime=GPU, why="depthwise", x=normal(2, 5, 6, 4),
        w=np.linspace(-1, 1, 36).reshape(4, 3, 3, 1), **LINEAR),
    row("y = com.microsoft.NhwcFusedConv<activation=\"Relu\", pads=[1,0,1,1], strides=[2,1]>(x, w, b)", runtime=HALVES, x=normal(2, 5, 4, 3),
        b=normal(4), w=np.linspace(-1, 1, 72).reshape(4, 3, 2, 3)),
    row("y = com.microsoft.NhwcFusedConv<activation=\"HardSwish\", group=2>(x, w, b, z)", runtime=HALVES, why="a residual branch",
        x=normal(2, 3, 3, 4), b=normal(4), z=normal(2, 2, 2, 4), w=np.linspace(-1, 1, 32).reshape(4, 2, 2, 2)),
    row("y = com.microsoft.NhwcFusedConv(x, w)", runtime=HALVES, why="no activation", x=normal(2, 3, 4, 2),
        w=np.linspace(-1, 1, 24).reshape(3, 2, 2, 2), **LINEAR),
    row("y = com.microsoft.PackedAttention<num_heads=2>(x, w, b, t, o)", runtime=GPU, x=normal(6, 8, scale=0.3),
        w=np.random.default_rng(3).standard_normal((8, 24)), b=np.linspace(-1, 1, 24), **PACKED),
    row("y = com.microsoft.PackedMultiHeadAttention<num_heads=2>(q, k, v, b, t, o)", runtime=GPU, q=normal(6, 8), k=normal(6, 8), v=normal(6, 4),
        b=np.linspace(-1, 1, 20), **PACKED),
    row("y = com.microsoft.PackedMultiHeadAttention<num_heads=2, scale=0.4>(q, , , , t, o)", runtime=GPU, why="packed inputs", q=normal(6, 2, 3, 4), **PACKED),
    row("y, t, c, m = com.microsoft.RemovePadding(x, n)", runtime=GPU, x=normal(2, 4, 3), n=np.array([2, 4], np.int32), **LINEAR),
    row("y = com.microsoft.RestorePadding(x, t)", runtime=GPU, x=normal(6, 3), t=np.array([[0, 1, 4, 5], [6, 7, 2, 3]], np.int32), **LINEAR),
    row("q = QuantizeLinear(x, xs, xz) y = com.microsoft.QAttention<num_heads=2>(q, w, b, xs, ws, , xz, wz)", derounded="com.microsoft.QAttention",
        x=normal(2, 3, 8), xs=scale(0.02), xz=zero(120), w=integers("int8", 8, 24), ws=scale(0.01), wz=zero(0, "int8"), b=np.linspace(-1, 1, 24)),
    row("q = QuantizeLinear(x, xs, xz) y = com.microsoft.QAttention<num_heads=4, scale=0.3>(q, w, b, xs, ws, , xz, wz)", derounded="com.microsoft.QAttention",
        why="a scale per column", x=normal(2, 3, 8), xs=scale(0.02), xz=zero(120), w=integers("int8", 8, 24),
        ws=np.linspace(0.005, 0.02, 24, dtype=np.float32), wz=np.zeros(24, np.int8), b=np.linspace(-1, 1, 24)),
]
# fmt: on
