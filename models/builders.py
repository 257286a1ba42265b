"""Tiny seeded networks for the tests, in ONNX text: the case is read, not reconstructed from constructors.

One function a network; its docstring says what it is there for. Weights are He-scaled, so that logits are of order
one. The last value with spatial extent is called ``features`` everywhere; nodes are named ``<Operator>_<number>``.
One network more is one function with ``@builder``: the tests walk `BUILDERS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser

__all__ = ["BUILDERS", "inputs"]

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator], Array]

BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {}


def builder(function: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    """Register a network under its function's name."""
    BUILDERS[function.__name__] = function
    return function


def inputs(model: onnx.ModelProto, batch: int = 2, size: int = 16, seed: int = 0) -> dict[str, Array]:
    """Return standard normal inputs for `model`; dynamic axes get `batch` (the first) or `size`."""
    rng = np.random.default_rng(seed)
    initialized = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in initialized:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value or (size if i else batch) for i, d in enumerate(tensor.shape.dim)]
        feeds[value.name] = rng.standard_normal(shape).astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return feeds


def network(
    signature: str, nodes: str, weights: Mapping[str, Draw | Array], opset: int = 18, ir: int = 8, dtype: str = "f4"
) -> onnx.ModelProto:
    """Parse the text, draw the weights (in the order given, seeded by the network's name), name the nodes."""
    text = f'<ir_version: {ir}, opset_import: ["": {opset}], producer_name: "models.builders">\n{signature} {{{nodes}}}'
    model: onnx.ModelProto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(zlib.crc32(model.graph.name.encode()))
    for name, weight in weights.items():
        array = weight if isinstance(weight, np.ndarray) else weight(rng).astype(dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    return model


def he(*shape: int, fan: int | None = None) -> Draw:
    """Normal with variance 2 / fan-in, which is everything after the first axis (output, input, *kernel)."""
    fan_in = fan or int(np.prod(shape[1:]))
    return lambda rng: rng.standard_normal(shape) * np.sqrt(2 / fan_in)


def bias(n: int) -> Draw:
    """Small and of either sign."""
    return lambda rng: rng.standard_normal(n) * 0.1


def around_one(n: int) -> Draw:
    """Scales and variances of a normalisation."""
    return lambda rng: rng.uniform(0.5, 1.5, n)


def ints(*values: int) -> Array:
    """Axes, shapes, indices."""
    return np.array(values, np.int64)


def reals(value: float | list[float], dtype: str = "float32") -> Array:
    """A constant, rank 0 for a number."""
    return np.array(value, dtype)


def norm(name: str, n: int) -> dict[str, Draw]:
    """The four inputs of BatchNormalization: ``<name>_s, _b, _m, _v``."""
    return {f"{name}_s": around_one(n), f"{name}_b": bias(n), f"{name}_m": bias(n), f"{name}_v": around_one(n)}


@builder
def gap_linear() -> onnx.ModelProto:
    """Global average pooling and one linear layer: CAM, Grad-CAM and HiResCAM coincide at `features`."""
    return network(
        "gap_linear (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, w2, b2)
        features = Relu(c)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(8, 6, 3, 3), b2=bias(8), w3=he(5, 8), b3=bias(5)),
    )  # fmt: skip


@builder
def gmp_linear() -> onnx.ModelProto:
    """Global max pooling and one linear layer: the gradient sits on one position a channel."""
    return network(
        "gmp_linear (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, w2, b2)
        features = Relu(c)
        pooled = GlobalMaxPool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(8, 6, 3, 3), b2=bias(8), w3=he(5, 8), b3=bias(5)),
    )  # fmt: skip


@builder
def residual() -> onnx.ModelProto:
    """BatchNormalization nodes, residual additions, a strided shortcut; dynamic batch, height and width."""
    return network(
        "residual (float[N,3,H,W] image) => (float[N,5] logits)",
        """
        a0 = Conv<pads=[1,1,1,1]>(image, w0)
        a1 = BatchNormalization(a0, n0_s, n0_b, n0_m, n0_v)
        a = Relu(a1)
        b0 = Conv<pads=[1,1,1,1]>(a, w1)
        b1 = BatchNormalization(b0, n1_s, n1_b, n1_m, n1_v)
        b2 = Add(b1, a)
        b = Relu(b2)
        c0 = Conv<pads=[1,1,1,1], strides=[2,2]>(b, w2)
        c1 = BatchNormalization<epsilon=0.001>(c0, n2_s, n2_b, n2_m, n2_v)
        s0 = Conv<strides=[2,2]>(b, w3)
        s1 = BatchNormalization(s0, n3_s, n3_b, n3_m, n3_v)
        c2 = Add(c1, s1)
        features = Relu(c2)
        pooled = ReduceMean<keepdims=1>(features, axes)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w4, b4)
        """,
        dict(w0=he(6, 3, 3, 3), **norm("n0", 6), w1=he(6, 6, 3, 3), **norm("n1", 6), w2=he(8, 6, 3, 3),
             **norm("n2", 8), w3=he(8, 6, 1, 1), **norm("n3", 8), axes=ints(2, 3), w4=he(5, 8), b4=bias(5)),
    )  # fmt: skip


@builder
def vgg_like() -> onnx.ModelProto:
    """Max pooling with and without overlap, Flatten over positions, two linear layers; fixed 32 x 32."""
    return network(
        "vgg_like (float[N,3,32,32] image) => (float[N,7] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(b)
        d = Conv<pads=[1,1,1,1]>(c, w2, b2)
        e = Relu(d)
        features = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(e)
        flat = Flatten<axis=1>(features)
        hidden0 = Gemm<transB=1>(flat, w3, b3)
        hidden1 = Relu(hidden0)
        hidden = Dropout(hidden1)
        logits = Gemm(hidden, w4, b4)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(8, 6, 3, 3), b2=bias(8), w3=he(16, 8 * 64), b3=bias(16),
             w4=he(16, 7, fan=16), b4=bias(7)),
    )  # fmt: skip


@builder
def silu_se() -> onnx.ModelProto:
    """SiLU as Sigmoid and Mul, squeeze-excite with HardSigmoid, HardSwish, and a Softmax that is the output."""
    return network(
        "silu_se (float[N,3,16,16] image) => (float[N,6] probabilities)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        a_s = Sigmoid(a)
        b = Mul(a, a_s)
        s0 = GlobalAveragePool(b)
        s1 = Conv(s0, w2, b2)
        s2 = Relu(s1)
        s3 = Conv(s2, w3, b3)
        gate = HardSigmoid<alpha=0.1666667, beta=0.5>(s3)
        c = Mul(gate, b)
        d = Conv<pads=[1,1,1,1], strides=[2,2]>(c, w4, b4)
        features = HardSwish(d)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w5, b5)
        probabilities = Softmax<axis=1>(logits)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), w2=he(4, 8, 1, 1), b2=bias(4), w3=he(8, 4, 1, 1), b3=bias(8),
             w4=he(8, 8, 3, 3), b4=bias(8), w5=he(6, 8), b5=bias(6)),
    )  # fmt: skip


@builder
def signal_1d() -> onnx.ModelProto:
    """A signal (N, channels, length): one spatial axis, dilation, dynamic length."""
    return network(
        "signal_1d (float[N,2,L] signal) => (float[N,4] logits)",
        """
        a = Conv<pads=[4,4], dilations=[2]>(signal, w1, b1)
        b = Tanh(a)
        c = MaxPool<kernel_shape=[2], strides=[2]>(b)
        d = Conv<pads=[1,1]>(c, w2, b2)
        features = LeakyRelu<alpha=0.2>(d)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(6, 2, 5), b1=bias(6), w2=he(8, 6, 3), b2=bias(8), w3=he(4, 8), b3=bias(4)),
    )  # fmt: skip


@builder
def volume_3d() -> onnx.ModelProto:
    """A volume (N, channels, depth, height, width): three spatial axes."""
    return network(
        "volume_3d (float[N,1,8,8,8] volume) => (float[N,3] logits)",
        """
        a = Conv<pads=[1,1,1,1,1,1]>(volume, w1, b1)
        b = Relu(a)
        c = AveragePool<kernel_shape=[2,2,2], strides=[2,2,2]>(b)
        d = Conv<pads=[1,1,1,1,1,1]>(c, w2, b2)
        features = Relu(d)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(4, 1, 3, 3, 3), b1=bias(4), w2=he(6, 4, 3, 3, 3), b2=bias(6), w3=he(3, 6), b3=bias(3)),
    )  # fmt: skip


@builder
def regression() -> onnx.ModelProto:
    """One output (C' = 1): the only target is 0, and -1 means 0."""
    return network(
        "regression (float[N,3,16,16] image) => (float[N,1] age)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        age = Gemm<transB=1>(flat, w2, b2)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), w2=he(1, 8), b2=bias(1)),
    )  # fmt: skip


@builder
def depthwise_asymmetric() -> onnx.ModelProto:
    """Depthwise convolutions, stride 2 with pads [0,0,1,1] as TensorFlow's "same" exports them, Clip as ReLU6."""
    return network(
        "depthwise_asymmetric (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[0,0,1,1], strides=[2,2]>(image, w1, b1)
        b = Clip(a, low, high)
        c = Conv<pads=[0,0,1,1], strides=[2,2], group=8>(b, w2, b2)
        d = Clip(c, low, high)
        e = Conv(d, w3, b3)
        f = Conv<auto_pad="SAME_UPPER", group=8>(e, w4, b4)
        g = Clip(f, low, high)
        features = Add(e, g)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w5, b5)
        """,
        dict(low=reals(0.0), high=reals(6.0), w1=he(8, 3, 3, 3), b1=bias(8), w2=he(8, 1, 3, 3), b2=bias(8),
             w3=he(8, 8, 1, 1), b3=bias(8), w4=he(8, 1, 3, 3), b4=bias(8), w5=he(5, 8), b5=bias(5)),
    )  # fmt: skip


@builder
def nhwc() -> onnx.ModelProto:
    """Channels last at the door, as tf2onnx writes it: one Transpose, then NCHW; Squeeze, MatMul and Add."""
    return network(
        "nhwc (float[N,16,16,3] image) => (float[N,5] probabilities)",
        """
        x = Transpose<perm=[0,3,1,2]>(image)
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
        features = Relu(a)
        pooled = GlobalAveragePool(features)
        flat = Squeeze(pooled, axes)
        product = MatMul(flat, w2)
        logits = Add(product, b2)
        probabilities = Softmax(logits)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), axes=ints(2, 3), w2=he(8, 5, fan=8), b2=bias(5)),
    )  # fmt: skip


@builder
def nhwc_tail() -> onnx.ModelProto:
    """Channels last at both ends: `features` is (N, H, W, K), pooled by ReduceMean over axes 1 and 2."""
    return network(
        "nhwc_tail (float[N,16,16,3] image) => (float[N,5] logits)",
        """
        x = Transpose<perm=[0,3,1,2]>(image)
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
        b = Relu(a)
        features = Transpose<perm=[0,2,3,1]>(b)
        flat = ReduceMean<keepdims=0>(features, axes)
        product = MatMul(flat, w2)
        logits = Add(product, b2)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), axes=ints(1, 2), w2=he(8, 5, fan=8), b2=bias(5)),
    )  # fmt: skip


@builder
def densenet_like() -> onnx.ModelProto:
    """Concat of everything so far, BatchNormalization before Relu, AveragePool that counts its padding."""
    return network(
        "densenet_like (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w0)
        b0 = BatchNormalization(a, n0_s, n0_b, n0_m, n0_v)
        b1 = Relu(b0)
        b = Conv<pads=[1,1,1,1]>(b1, w1)
        c = Concat<axis=1>(a, b)
        d0 = BatchNormalization(c, n1_s, n1_b, n1_m, n1_v)
        d1 = Relu(d0)
        d2 = Conv(d1, w2)
        d = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(d2)
        e = Concat<axis=-3>(d, d, d)
        features = Relu(e)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1, alpha=0.5, beta=2.0>(flat, w3, b3)
        """,
        dict(w0=he(4, 3, 3, 3), **norm("n0", 4), w1=he(4, 4, 3, 3), **norm("n1", 8), w2=he(4, 8, 1, 1),
             w3=he(5, 12), b3=bias(5)),
    )  # fmt: skip


@builder
def split_slice_pad() -> onnx.ModelProto:
    """Data movement on the path: Split, Slice with a step, Pad (also negative), Gather as a channel shuffle."""
    return network(
        "split_slice_pad (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        left, right = Split<axis=1>(b, parts)
        right1 = Slice(right, starts, ends, axes, steps)
        right2 = Pad<mode="constant">(right1, pads)
        left1 = Slice(left, begin, end, axes)
        c = Concat<axis=1>(left1, right2)
        d = Gather<axis=1>(c, order)
        e = Conv(d, w2, b2)
        features = Relu(e)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), parts=ints(3, 5), axes=ints(2, 3), starts=ints(1, 15),
             ends=ints(15, -17), steps=ints(2, -2), pads=ints(0, 0, 2, -1, 0, 0, 1, 3), begin=ints(0, 6),
             end=ints(10, 16), order=ints(7, 0, 3, 3, 1, 2, 4, 6), w2=he(8, 8, 1, 1), b2=bias(8), w3=he(5, 8),
             b3=bias(5)),
    )  # fmt: skip


@builder
def multi_head() -> onnx.ModelProto:
    """Two heads on one body: the first output is explained unless `score` names the other."""
    return network(
        "multi_head (float[N,3,16,16] image) => (float[N,5] species, float[N,3] colour)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        species = Gemm<transB=1>(flat, w2, b2)
        colour_logits = Gemm<transB=1>(flat, w3, b3)
        colour = Softmax(colour_logits)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), w2=he(5, 8), b2=bias(5), w3=he(3, 8), b3=bias(3)),
    )  # fmt: skip


@builder
def fixed_batch() -> onnx.ModelProto:
    """Batch 1 written into the input and into a Reshape: samples run one by one."""
    return network(
        "fixed_batch (float[1,3,16,16] image) => (float[1,5] logits)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = AveragePool<kernel_shape=[8,8]>(features)
        flat = Reshape(pooled, shape)
        logits = Gemm<transB=1>(flat, w2, b2)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), shape=ints(1, 8), w2=he(5, 8), b2=bias(5)),
    )  # fmt: skip


@builder
def float16() -> onnx.ModelProto:
    """16-bit weights, input and logits."""
    return network(
        "float16 (float16[N,3,16,16] image) => (float16[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w2, b2)
        """,
        dict(w1=he(8, 3, 3, 3), b1=bias(8), w2=he(5, 8), b2=bias(5)), dtype="f2",
    )  # fmt: skip


@builder
def opset12() -> onnx.ModelProto:
    """Old spellings: axes and split as attributes, Softmax over a flattened rest, PyTorch's flatten by shape."""
    return network(
        "opset12 (float[N,3,16,16] image) => (float[N,5] probabilities)",
        """
        a0 = Pad<mode="reflect">(image, pads)
        a = Conv<strides=[2,2]>(a0, w1, b1)
        b = Relu(a)
        left, right = Split<axis=1, split=[4,4]>(b)
        features = Mul(left, right)
        pooled = ReduceMean<axes=[2,3], keepdims=1>(features)
        shape = Shape(pooled)
        batch = Gather<axis=0>(shape, zero)
        batch1 = Unsqueeze<axes=[0]>(batch)
        flat_shape = Concat<axis=0>(batch1, rest)
        flat = Reshape(pooled, flat_shape)
        hidden = Dropout(flat, ratio)
        logits = Gemm<transB=1>(hidden, w2, b2)
        probabilities = Softmax<axis=1>(logits)
        """,
        dict(pads=ints(0, 0, 1, 1, 0, 0, 1, 1), w1=he(8, 3, 3, 3), b1=bias(8), zero=np.array(0, np.int64),
             rest=ints(-1), ratio=reals(0.5), w2=he(5, 4), b2=bias(5)), opset=12, ir=7,
    )  # fmt: skip


def _initializers_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


@builder
def old_ir3() -> onnx.ModelProto:
    """Opset 9, IR version 3: every initializer stands among the inputs too; Clip with attributes, Dropout."""
    return _initializers_as_inputs(network(
        "old_ir3 (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a0 = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1)
        a1 = BatchNormalization<epsilon=0.001, momentum=0.9>(a0, n1_s, n1_b, n1_m, n1_v)
        features = Clip<min=0.0, max=6.0>(a1)
        pooled = GlobalAveragePool(features)
        flat = Squeeze<axes=[2,3]>(pooled)
        hidden = Dropout<ratio=0.2>(flat)
        logits = Gemm<transB=1>(hidden, w2, b2)
        """,
        dict(w1=he(8, 3, 3, 3), **norm("n1", 8), w2=he(5, 8), b2=bias(5)), opset=9, ir=3,
    ))  # fmt: skip


@builder
def opset7() -> onnx.ModelProto:
    """The oldest we read: BatchNormalization with `spatial`, a Reshape that copies the batch by 0; IR version 3."""
    return _initializers_as_inputs(network(
        "opset7 (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a0 = Conv<pads=[1,1,1,1]>(image, w1)
        a1 = BatchNormalization<spatial=1>(a0, n1_s, n1_b, n1_m, n1_v)
        a = Relu(a1)
        features = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        pooled = GlobalAveragePool(features)
        flat = Reshape(pooled, shape)
        product = MatMul(flat, w2)
        logits = Add(product, b2)
        """,
        dict(w1=he(8, 3, 3, 3), **norm("n1", 8), shape=ints(0, -1), w2=he(8, 5, fan=8), b2=bias(5)), opset=7, ir=3,
    ))  # fmt: skip


def _attention_block(number: int, given: str, result: str, channels: int = 8, heads: int = 2) -> str:
    """Return a transformer block from the normalised tokens on: ``n<number>`` is read, and `given` is added to it."""
    i = number
    return f"""
        qkv0_{i} = MatMul(n{i}, w_qkv{i})
        qkv1_{i} = Add(qkv0_{i}, b_qkv{i})
        qkv2_{i} = Reshape(qkv1_{i}, to_heads)
        qkv_{i} = Transpose<perm=[2,0,3,1,4]>(qkv2_{i})
        q_{i} = Gather<axis=0>(qkv_{i}, zero)
        k_{i} = Gather<axis=0>(qkv_{i}, one)
        v_{i} = Gather<axis=0>(qkv_{i}, two)
        kt_{i} = Transpose<perm=[0,1,3,2]>(k_{i})
        dots_{i} = MatMul(q_{i}, kt_{i})
        scaled_{i} = Mul(dots_{i}, scale)
        share_{i} = Softmax<axis=-1>(scaled_{i})
        mixed_{i} = MatMul(share_{i}, v_{i})
        mixed1_{i} = Transpose<perm=[0,2,1,3]>(mixed_{i})
        mixed2_{i} = Reshape(mixed1_{i}, from_heads)
        out0_{i} = MatMul(mixed2_{i}, w_out{i})
        out_{i} = Add(out0_{i}, b_out{i})
        attended_{i} = Add({given}, out_{i})
        m{i} = LayerNormalization<axis=-1>(attended_{i}, m{i}_s, m{i}_b)
        hidden0_{i} = MatMul(m{i}, w_up{i})
        hidden1_{i} = Add(hidden0_{i}, b_up{i})
        hidden_{i} = Gelu(hidden1_{i})
        down_{i} = MatMul(hidden_{i}, w_down{i})
        {result} = Add(attended_{i}, down_{i})
        """


def _attention_weights(*numbers: int) -> dict[str, Draw | Array]:
    found: dict[str, Draw | Array] = dict(
        zero=np.array(0, np.int64), one=np.array(1, np.int64), two=np.array(2, np.int64), scale=reals(0.5),
        to_heads=ints(0, -1, 3, 2, 4), from_heads=ints(0, -1, 8), listed=ints(0, 8, -1), begin=ints(0), next=ints(1),
        rest=ints(1, 8), w_patch=he(8, 3, 4, 4), b_patch=bias(8), last_s=around_one(8), last_b=bias(8),
        w_head=he(5, 8), b_head=bias(5),
    )  # fmt: skip
    for i in numbers:
        found |= {
            f"n{i}_s": around_one(8), f"n{i}_b": bias(8), f"m{i}_s": around_one(8), f"m{i}_b": bias(8),
            f"w_qkv{i}": he(8, 24, fan=8), f"b_qkv{i}": bias(24), f"w_out{i}": he(8, 8, fan=8), f"b_out{i}": bias(8),
            f"w_up{i}": he(8, 16, fan=8), f"b_up{i}": bias(16), f"w_down{i}": he(16, 8, fan=16),
        }  # fmt: skip
    return found


_PATCHES = """
        patches = Conv<strides=[4,4]>(image, w_patch, b_patch)
        columns = Reshape(patches, listed)
        positions = Transpose<perm=[0,2,1]>(columns)
        """
_WITH_CLASS = """
        shape = Shape(positions)
        batch = Slice(shape, begin, next)
        class_shape = Concat<axis=0>(batch, rest)
        class_token = Expand(class_row, class_shape)
        """


def _class_head(last: str) -> str:
    return f"""
        normed = LayerNormalization<axis=-1>({last}, last_s, last_b)
        token = Gather<axis=1>(normed, zero)
        logits = Gemm<transB=1>(token, w_head, b_head)
        """


@builder
def vit_class() -> onnx.ModelProto:
    """A transformer that reads its class token: the last attention reads `features`; behind it the grid has no say."""
    return network(
        "vit_class (float[N,3,16,16] image) => (float[N,5] logits)",
        _PATCHES + _WITH_CLASS + """
        tokens = Concat<axis=1>(class_token, positions)
        x0 = Add(tokens, where)
        n0 = LayerNormalization<axis=-1>(x0, n0_s, n0_b)
        """ + _attention_block(0, "x0", "x1") + """
        features = LayerNormalization<axis=-1>(x1, n1_s, n1_b)
        """ + _attention_block(1, "x1", "x2").replace("n1,", "features,") + _class_head("x2"),
        dict(**_attention_weights(0, 1), class_row=bias(8), where=he(1, 17, 8, fan=20)), opset=20, ir=9,
    )  # fmt: skip


@builder
def vit_registers() -> onnx.ModelProto:
    """A grid of 4 x 6 behind a class and two register tokens; positions known before these come; a Slice reads."""
    return network(
        "vit_registers (float[N,3,16,24] image) => (float[N,5] logits)",
        _PATCHES + _WITH_CLASS + """
        placed = Add(positions, where)
        register_shape = Concat<axis=0>(batch, two_rows)
        registers = Expand(register_rows, register_shape)
        x0 = Concat<axis=1>(class_token, registers, placed)
        features = LayerNormalization<axis=-1>(x0, n0_s, n0_b)
        """ + _attention_block(0, "x0", "x1").replace("n0,", "features,") + """
        normed = LayerNormalization<axis=-1>(x1, last_s, last_b)
        token0 = Slice(normed, begin, next, next)
        token = Squeeze(token0, next)
        logits = Gemm<transB=1>(token, w_head, b_head)
        """,
        dict(**_attention_weights(0), class_row=bias(8), where=he(1, 24, 8, fan=20), two_rows=ints(2, 8),
             register_rows=he(1, 2, 8, fan=8)), opset=20, ir=9,
    )  # fmt: skip


@builder
def vit_mean() -> onnx.ModelProto:
    """A transformer that averages its tokens, normalised before: `features` is the last list of them."""
    return network(
        "vit_mean (float[N,3,16,16] image) => (float[N,5] logits)",
        _PATCHES + """
        x0 = Add(positions, where)
        n0 = LayerNormalization<axis=-1>(x0, n0_s, n0_b)
        """ + _attention_block(0, "x0", "x1") + """
        features = LayerNormalization<axis=-1>(x1, last_s, last_b)
        pooled = ReduceMean<keepdims=0>(features, next)
        logits = Gemm<transB=1>(pooled, w_head, b_head)
        """,
        dict(**_attention_weights(0), where=he(1, 16, 8, fan=20)), opset=20, ir=9,
    )  # fmt: skip


@builder
def vit_any_size() -> onnx.ModelProto:
    """A class token before a grid whose sizes are the picture's."""
    return network(
        "vit_any_size (float[N,3,H,W] image) => (float[N,5] logits)",
        _PATCHES + _WITH_CLASS + """
        x0 = Concat<axis=1>(class_token, positions)
        features = LayerNormalization<axis=-1>(x0, n0_s, n0_b)
        """ + _attention_block(0, "x0", "x1").replace("n0,", "features,") + _class_head("x1"),
        dict(**_attention_weights(0), class_row=bias(8)), opset=20, ir=9,
    )  # fmt: skip
