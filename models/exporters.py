"""One seeded network as different exporters spell it: the same numbers out, written in other operators and layouts.

Two convolutions with batch normalisation, a pooling between them, global average pooling, a linear layer of five
classes. Each spelling follows a file of its exporter (`after` says which one was looked at, or that none was); names,
layouts, opset and IR version are those of such files. One spelling more is one function with ``@spelling``: tests and
docs/exporters.md walk `SPELLINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser

__all__ = ["SIZE", "SPELLINGS", "Spelling", "pixels"]

Array = npt.NDArray[Any]
Build = Callable[[], onnx.ModelProto]

SIZE = 32
EPSILON = 1e-3


@dataclass(frozen=True)
class Spelling:
    """One exporter's way: `special` is what sets its files apart, `after` what this one follows."""

    exporter: str
    opset: int
    ir: int
    special: str
    after: str
    build: Build


SPELLINGS: dict[str, Spelling] = {}


def spelling(exporter: str, opset: int, ir: int, special: str, after: str) -> Callable[[Build], Build]:
    """Register a spelling under its function's name."""

    def register(function: Build) -> Build:
        SPELLINGS[function.__name__] = Spelling(exporter, opset, ir, special, after, function)
        return function

    return register


def pixels(height: int = 40, width: int = 48) -> Array:
    """Return a seeded picture: a bright patch on noise."""
    picture = np.random.default_rng(5).integers(0, 90, (height, width, 3))
    picture[8:20, 26:40] += 150
    return picture.astype(np.uint8)


def weights() -> dict[str, Array]:
    """Return the network's numbers, channels first, by the names of a framework's modules."""
    rng = np.random.default_rng(11)
    found: dict[str, Array] = {}
    for name, (outputs, inputs) in {"conv1": (8, 3), "conv2": (12, 8)}.items():
        found[f"{name}.w"] = rng.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        found[f"{name}.s"] = rng.uniform(0.5, 1.5, outputs)
        found[f"{name}.b"] = rng.standard_normal(outputs) * 0.1
        found[f"{name}.m"] = rng.standard_normal(outputs) * 0.1
        found[f"{name}.v"] = rng.uniform(0.5, 1.5, outputs)
    found["fc.w"] = rng.standard_normal((5, 12)) * np.sqrt(1 / 12)
    found["fc.b"] = rng.standard_normal(5) * 0.1
    return found


def folded(name: str) -> tuple[Array, Array]:
    """Return a convolution's weights and bias with its batch normalisation in them."""
    own = {key.partition(".")[2]: value for key, value in weights().items() if key.startswith(f"{name}.")}
    factor = own["s"] / np.sqrt(own["v"] + EPSILON)
    return own["w"] * factor[:, None, None, None], own["b"] - own["m"] * factor


def written(
    text: str, values: dict[str, Any], opset: int, ir: int, producer: str, imports: str = "", functions: str = ""
) -> onnx.ModelProto:
    """Parse a graph, whose initializers `values` are, in float32 unless they are integers."""
    head = f'<ir_version: {ir}, opset_import: ["": {opset}{imports}], producer_name: "{producer}">'
    model: onnx.ModelProto = onnx.parser.parse_model(f"{head}\n{text}\n{functions}")
    for name, value in values.items():
        array = np.asarray(value)
        array = array if array.dtype.kind in "iub" else array.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def normal(name: str, prefix: str = "") -> dict[str, Array]:
    """Return the four inputs of a BatchNormalization: ``<prefix><name>.s`` and so on, without the dot."""
    return {f"{prefix}{name}_{key}": weights()[f"{name}.{key}"] for key in "sbmv"}


@spelling("torch.onnx, dynamo=True", 18, 10, "BatchNormalization folded where it can be, ReduceMean for the pooling, "
          "Reshape with allowzero, every attribute written", "torch 2.14.1")  # fmt: skip
def torch_dynamo() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    every = 'auto_pad="NOTSET", dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]'
    return written(
        f"""main_graph (float[batch,3,32,32] image) => (float[batch,5] linear) {{
            getitem = Conv<{every}>(image, w1, b1)
            relu = Relu(getitem)
            max_pool2d = MaxPool<auto_pad="NOTSET", ceil_mode=0, dilations=[1,1], kernel_shape=[2,2], pads=[0,0,0,0],
                                 storage_order=0, strides=[2,2]>(relu)
            getitem_3 = Conv<{every}>(max_pool2d, w2, b2)
            relu_1 = Relu(getitem_3)
            mean = ReduceMean<keepdims=1, noop_with_empty_axes=0>(relu_1, val_29)
            view = Reshape<allowzero=1>(mean, val_34)
            linear = Gemm<alpha=1.0, beta=1.0, transA=0, transB=1>(view, fc_weight, fc_bias)
        }}""",
        dict(w1=w1, b1=b1, w2=w2, b2=b2, val_29=np.array([-1, -2]), val_34=np.array([-1, 12]),
             fc_weight=weights()["fc.w"], fc_bias=weights()["fc.b"]),
        18, 10, "pytorch",
    )  # fmt: skip


@spelling("torch.onnx, dynamo=False", 13, 7, "paths as names (/conv1/Conv_output_0), BatchNormalization folded, "
          "GlobalAveragePool and Flatten", "torch 2.14.1")  # fmt: skip
def torch_script() -> onnx.ModelProto:
    return _torch_script(13, 7)


@spelling("torch.onnx, dynamo=False", 9, 4, "the same at its oldest opset", "torch 2.14.1")
def torch_script_9() -> onnx.ModelProto:
    return _torch_script(9, 4)


def _torch_script(opset: int, ir: int) -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    model = written(
        """main_graph (float[batch,3,32,32] image) => (float[batch,5] output) {
            c1 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(image, w1, b1)
            r1 = Relu(c1)
            p = MaxPool<kernel_shape=[2,2], pads=[0,0,0,0], strides=[2,2]>(r1)
            c2 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(p, w2, b2)
            r2 = Relu(c2)
            g = GlobalAveragePool(r2)
            f = Flatten<axis=1>(g)
            output = Gemm<alpha=1.0, beta=1.0, transB=1>(f, fcw, fcb)
        }""",
        dict(w1=w1, b1=b1, w2=w2, b2=b2, fcw=weights()["fc.w"], fcb=weights()["fc.b"]), opset, ir, "pytorch",
    )  # fmt: skip
    names = dict(
        c1="/conv1/Conv_output_0", r1="/Relu_output_0", p="/MaxPool_output_0", c2="/conv2/Conv_output_0",
        r2="/Relu_1_output_0", g="/GlobalAveragePool_output_0", f="/Flatten_output_0", w1="onnx::Conv_27",
        b1="onnx::Conv_28", w2="onnx::Conv_30", b2="onnx::Conv_31", fcw="fc.weight", fcb="fc.bias",
    )  # fmt: skip
    return _renamed(model, names)


def _renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """Give values names that ONNX text cannot spell."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    return model


@spelling("PyTorch, in training mode or without folding", 17, 8, "BatchNormalization and Dropout stay nodes",
          "none: by hand, like do_constant_folding=False")  # fmt: skip
def torch_unfused() -> onnx.ModelProto:
    w, kept = weights(), f"epsilon={EPSILON}, momentum=0.9, training_mode=0"
    return written(
        f"""main_graph (float[batch,3,32,32] input) => (float[batch,5] output) {{
            c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(input, conv1_w)
            n1 = BatchNormalization<{kept}>(c1, conv1_s, conv1_b, conv1_m, conv1_v)
            r1 = Relu(n1)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
            c2 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(p, conv2_w)
            n2 = BatchNormalization<{kept}>(c2, conv2_s, conv2_b, conv2_m, conv2_v)
            r2 = Relu(n2)
            g = GlobalAveragePool(r2)
            f = Flatten(g)
            d = Dropout(f, ratio, training)
            output = Gemm<transB=1>(d, fc_w, fc_b)
        }}""",
        dict(conv1_w=w["conv1.w"], conv2_w=w["conv2.w"], fc_w=w["fc.w"], fc_b=w["fc.b"], ratio=0.2,
             training=np.array(False), **normal("conv1"), **normal("conv2")),
        17, 8, "pytorch",
    )  # fmt: skip


@spelling("tf2onnx, from_keras", 15, 8, "NHWC at the door, one Transpose, BatchNormalization folded, GlobalAveragePool "
          "and Squeeze, MatMul and Add, Softmax; names of paths and :0", "tf2onnx 1.17.0, tf_keras 2.21.0")  # fmt: skip
def tf2onnx() -> onnx.ModelProto:
    return _renamed(_tf2onnx(15, 8), TF)


@spelling("tf2onnx, from_keras", 9, 4, "the same at its oldest opset", "tf2onnx 1.17.0, tf_keras 2.21.0")
def tf2onnx_9() -> onnx.ModelProto:
    return _renamed(_tf2onnx(9, 4), TF)


@spelling("Keras 3, model.export(format='onnx')", 15, 8, "tf2onnx's, with names of its own and an output Identity:0",
          "keras 3.15.1, tensorflow 2.21.0")  # fmt: skip
def keras_export() -> onnx.ModelProto:
    names = dict(t="functional_1/bn1_1/batchnorm/mul_1__6:0", c1="Conv__18:0", r1="functional_1/r1_1/Relu:0",
                 c2="Conv__20:0", r2="functional_1/r2_1/Relu:0", dense="Identity:0")  # fmt: skip
    return _renamed(_tf2onnx(15, 8), names)


TF = dict(
    t="model/conv1/Conv2D__59:0", c1="model/bn1/FusedBatchNormV3:0", r1="model/r1/Relu:0",
    p="model/max_pooling2d/MaxPool:0", c2="model/bn2/FusedBatchNormV3:0", r2="model/r2/Relu:0",
    g="model/global_average_pooling2d/Mean:0", f="model/global_average_pooling2d/Mean_Squeeze__80:0",
    m="model/dense/MatMul:0", a="model/dense/BiasAdd:0",
)  # fmt: skip


def _tf2onnx(opset: int, ir: int) -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    conv = "dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]"
    squeeze = "Squeeze(g, axes)" if opset > 12 else "Squeeze<axes=[2,3]>(g)"
    softmax = "Softmax(a)" if opset > 12 else "Softmax<axis=1>(a)"
    return written(
        f"""tf2onnx (float[unk__81,32,32,3] input_1) => (float[unk__82,5] dense) {{
            t = Transpose<perm=[0,3,1,2]>(input_1)
            c1 = Conv<{conv}>(t, w1, b1)
            r1 = Relu(c1)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
            c2 = Conv<{conv}>(p, w2, b2)
            r2 = Relu(c2)
            g = GlobalAveragePool(r2)
            f = {squeeze}
            m = MatMul(f, fcw)
            a = Add(m, fcb)
            dense = {softmax}
        }}""",
        dict(w1=w1, b1=b1, w2=w2, b2=b2, fcw=weights()["fc.w"].T, fcb=weights()["fc.b"],
             **(dict(axes=np.array([2, 3])) if opset > 12 else {})),
        opset, ir, "tf2onnx",
    )  # fmt: skip


@spelling("TensorFlow graphs with little optimised", 9, 4, "channels last up to the mean: a Transpose back, ReduceMean "
          "over axes 1 and 2 as attributes, the bias in an Add", "none: written by hand")  # fmt: skip
def channels_last() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    return written(
        """graph (float[N,32,32,3] images) => (float[N,5] Softmax) {
            t = Transpose<perm=[0,3,1,2]>(images)
            c1 = Conv<dilations=[1,1], kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(t, w1)
            a1 = Add(c1, b1)
            r1 = Relu(a1)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
            c2 = Conv<dilations=[1,1], kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(p, w2)
            a2 = Add(c2, b2)
            r2 = Relu(a2)
            u = Transpose<perm=[0,2,3,1]>(r2)
            f = ReduceMean<axes=[1,2], keepdims=0>(u)
            m = MatMul(f, fcw)
            a = Add(m, fcb)
            Softmax = Softmax<axis=1>(a)
        }""",
        dict(w1=w1, b1=b1.reshape(1, 8, 1, 1), w2=w2, b2=b2.reshape(1, 12, 1, 1), fcw=weights()["fc.w"].T,
             fcb=weights()["fc.b"]),
        9, 4, "",
    )  # fmt: skip


@spelling("jax2onnx", 23, 10, "NHWC: Transposes around every convolution and between a normalisation and its pooling; "
          "the normalisation in Sub, Mul and Add, its scale computed from weights in the graph and laid out by Reshape "
          "and Expand to sizes of Concat; Gemm without bias", "jax2onnx 0.17.1, jax 0.10.2")  # fmt: skip
def jax2onnx() -> onnx.ModelProto:
    w = weights()
    values: dict[str, Any] = dict(
        fc_w=w["fc.w"], fc_b=w["fc.b"], zeros=np.zeros(5), epsilon=EPSILON, axes=np.array([1, 2]), one=np.array([1])
    )
    steps = []
    for number, x, width in ((1, "lhs1", 8), (2, "pooled", 12)):
        name, like = f"conv{number}", (1, 1, 1, width)
        values |= {f"w{number}": w[f"{name}.w"], f"v{number}": w[f"{name}.v"], f"s{number}": w[f"{name}.s"],
                   f"m{number}": w[f"{name}.m"].reshape(like), f"b{number}": w[f"{name}.b"].reshape(like),
                   f"width{number}": np.array([width])}  # fmt: skip
        steps.append(
            f"""
            conv_out_nchw_{number} = Conv<dilations=[1,1], pads=[1,1,1,1], strides=[1,1]>({x}, w{number})
            conv_out_{number} = Transpose<perm=[0,2,3,1]>(conv_out_nchw_{number})
            sub_out_{number} = Sub(conv_out_{number}, m{number})
            var_{number} = Add(v{number}, epsilon)
            sqrt_out_{number} = Sqrt(var_{number})
            div_out_{number} = Div(s{number}, sqrt_out_{number})
            target_shape_{number} = Concat<axis=0>(one, one, one, width{number})
            reshape_shape_{number} = Concat<axis=0>(one, one, one, width{number})
            reshape_out_{number} = Reshape(div_out_{number}, reshape_shape_{number})
            bcast_out_{number} = Expand(reshape_out_{number}, target_shape_{number})
            mul_out_{number} = Mul(sub_out_{number}, bcast_out_{number})
            add_out_{number} = Add(mul_out_{number}, b{number})
            relu_out_{number} = Relu(add_out_{number})"""
        )
    return written(
        f"""jax_model (float[B,32,32,3] in_0) => (float[B,5] softmax_out_0) {{
            lhs1 = Transpose<perm=[0,3,1,2]>(in_0){steps[0]}
            mp_nchw_in_0 = Transpose<perm=[0,3,1,2]>(relu_out_1)
            pooled = MaxPool<auto_pad="VALID", kernel_shape=[2,2], strides=[2,2]>(mp_nchw_in_0){steps[1]}
            v_0 = ReduceMean<keepdims=0>(relu_out_2, axes)
            y_0 = Transpose<perm=[1,0]>(fc_w)
            dot_out_0 = Gemm<alpha=1.0, beta=0.0>(v_0, y_0, zeros)
            add_out_4 = Add(dot_out_0, fc_b)
            softmax_out_0 = Softmax<axis=1>(add_out_4)
        }}""",
        values, 23, 10, "jax2onnx",
    )  # fmt: skip


@spelling("paddle2onnx", 11, 6, "weights are Constant nodes, BatchNormalization stays, Reshape to sizes of Shape, "
          "Slice and Concat, MatMul and Add, an Identity for each Dropout and sum; names of operators and numbers",
          "paddle2onnx 2.1.0, paddlepaddle 3.3.1")  # fmt: skip
def paddle2onnx() -> onnx.ModelProto:
    return _paddle2onnx(11, 6)


@spelling("paddle2onnx", 7, 3, "the same at its oldest opset: `spatial` on BatchNormalization, Slice by attributes",
          "paddle2onnx 2.1.0, paddlepaddle 3.3.1")  # fmt: skip
def paddle2onnx_7() -> onnx.ModelProto:
    return _paddle2onnx(7, 3)


def _paddle2onnx(opset: int, ir: int) -> onnx.ModelProto:
    w, kept = weights(), f"epsilon={EPSILON}, momentum=0.9" + (", spatial=1" if opset < 9 else "")
    conv = "dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]"
    batch = "Slice(sizes, from, to, along)" if opset > 9 else "Slice<axes=[0], ends=[1], starts=[0]>(sizes)"
    model = written(
        f"""graph (float[N,3,32,32] x) => (float[M,5] fetch_name_0) {{
            c1 = Conv<{conv}>(x, conv1_w)
            n1 = BatchNormalization<{kept}>(c1, conv1_s, conv1_b, conv1_m, conv1_v)
            r1 = Relu(n1)
            p = MaxPool<kernel_shape=[2,2], pads=[0,0,0,0], strides=[2,2]>(r1)
            c2 = Conv<{conv}>(p, conv2_w)
            n2 = BatchNormalization<{kept}>(c2, conv2_s, conv2_b, conv2_m, conv2_v)
            r2 = Relu(n2)
            g = GlobalAveragePool(r2)
            sizes = Shape(g)
            batch = {batch}
            flat = Concat<axis=0>(batch, channels)
            f = Reshape(g, flat)
            d = Identity(f)
            m = MatMul(d, fc_w)
            sum = Add(m, fc_b)
            a = Identity(sum)
            fetch_name_0 = Softmax<axis=1>(a)
        }}""",
        dict(conv1_w=w["conv1.w"], conv2_w=w["conv2.w"], fc_w=w["fc.w"].T, fc_b=w["fc.b"], channels=np.array([12]),
             **(dict(zip(("from", "to", "along"), np.array([[0], [1], [0]]), strict=True)) if opset > 9 else {}),
             **normal("conv1"), **normal("conv2")),
        opset, ir, "",
    )  # fmt: skip
    steps = dict(c1="conv2d.0", n1="batch_norm_.0", r1="relu.0", p="pool2d.0", c2="conv2d.1", n2="batch_norm_.1",
                 r2="relu.1", g="pool2d.1", f="flatten.0", d="dropout.0", m="matmul.0", a="add.0")  # fmt: skip
    names = {name: f"p2o.pd_op.{step}.0" for name, step in steps.items()}
    return _in_constants(_renamed(model, names | dict(sizes="Shape.1", batch="helper.slice.0", sum="Add.1")))


@spelling("paddle2onnx, older", 11, 7, "the same with Reshape to numbers, Identity at the end alone",
          "the files of rapidocr 3.10.0")  # fmt: skip
def paddle2onnx_1() -> onnx.ModelProto:
    w = weights()
    model = written(
        f"""Model_from_PaddlePaddle (float[N,3,32,32] x) => (float[N,5] softmax_0) {{
            c1 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(x, conv1_w)
            n1 = BatchNormalization<epsilon={EPSILON}, momentum=0.9>(c1, conv1_s, conv1_b, conv1_m, conv1_v)
            r1 = Relu(n1)
            p = MaxPool<kernel_shape=[2,2], pads=[0,0,0,0], strides=[2,2]>(r1)
            c2 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(p, conv2_w)
            n2 = BatchNormalization<epsilon={EPSILON}, momentum=0.9>(c2, conv2_s, conv2_b, conv2_m, conv2_v)
            r2 = Relu(n2)
            g = GlobalAveragePool(r2)
            f = Reshape(g, shape)
            m = MatMul(f, fc_w)
            a = Add(m, fc_b)
            s = Softmax<axis=1>(a)
            softmax_0 = Identity(s)
        }}""",
        dict(conv1_w=w["conv1.w"], conv2_w=w["conv2.w"], fc_w=w["fc.w"].T, fc_b=w["fc.b"], shape=np.array([-1, 12]),
             **normal("conv1"), **normal("conv2")),
        11, 7, "PaddlePaddle",
    )  # fmt: skip
    return _in_constants(model)


def _in_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write every weight as a Constant node."""
    for tensor in reversed(model.graph.initializer):
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    return model


@spelling("MXNet", 18, 8, "weights among the inputs, BatchNormalization stays, an Identity for Dropout, "
          "FullyConnected as Flatten and Gemm; the opset is the newest that the installed onnx knows",
          "mxnet 1.9.1, onnx 1.13.1")  # fmt: skip
def mxnet() -> onnx.ModelProto:
    model = _mxnet("", "Identity(g)", "Softmax<axis=-1>(a)", 18, 8)
    names = dict(c1="net_conv0_fwd", n1="net_batchnorm0_fwd", r1="net_relu0_fwd", p="net_pool0_fwd", c2="net_conv1_fwd",
                 n2="net_batchnorm1_fwd", r2="net_relu1_fwd", g="net_pool1_fwd", d="net_dropout0_fwd",
                 f="net_dense0_fwd_data_flattened", a="net_dense0_fwd")  # fmt: skip
    return _renamed(model, names)


@spelling("MXNet, before 1.9", 8, 3, "`spatial=0` on BatchNormalization with a number for each channel; Dropout",
          "none: what the source of its exporter says (mx2onnx, 2018)")  # fmt: skip
def mxnet_8() -> onnx.ModelProto:
    return _mxnet(", spatial=0", "Dropout<ratio=0.2>(g)", "Softmax<axis=1>(a)", 8, 3)


def _mxnet(spatial: str, dropout: str, softmax: str, opset: int, ir: int) -> onnx.ModelProto:
    w, kept = weights(), f"epsilon={EPSILON}, momentum=0.9{spatial}"
    model = written(
        f"""mxnet_converted_model (float[1,3,32,32] data) => (float[1,5] softmax) {{
            c1 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(data, conv1_w)
            n1 = BatchNormalization<{kept}>(c1, conv1_s, conv1_b, conv1_m, conv1_v)
            r1 = Relu(n1)
            p = MaxPool<kernel_shape=[2,2], pads=[0,0,0,0], strides=[2,2]>(r1)
            c2 = Conv<dilations=[1,1], group=1, kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(p, conv2_w)
            n2 = BatchNormalization<{kept}>(c2, conv2_s, conv2_b, conv2_m, conv2_v)
            r2 = Relu(n2)
            g = GlobalAveragePool(r2)
            d = {dropout}
            f = Flatten(d)
            a = Gemm<alpha=1.0, beta=1.0, transA=0, transB=1>(f, fc_w, fc_b)
            softmax = {softmax}
        }}""",
        dict(conv1_w=w["conv1.w"], conv2_w=w["conv2.w"], fc_w=w["fc.w"], fc_b=w["fc.b"], **normal("conv1"),
             **normal("conv2")),
        opset, ir, "",
    )  # fmt: skip
    return _among_the_inputs(model)


@spelling("Caffe2", 7, 3, "weights among the inputs, sometimes before the picture; AveragePool over the whole extent, "
          "Reshape with a shape of its own, Dropout with its mask, Softmax",
          "the `light_*` files of onnx 1.23.2")  # fmt: skip
def caffe2() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    model = written(
        """caffe2 (float[1,3,32,32] data_0) => (float[1,5] prob_1) {
            conv1_1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(data_0, conv1_w_0, conv1_b_0)
            conv1_2 = Relu(conv1_1)
            pool1_1 = MaxPool<kernel_shape=[2,2], pads=[0,0,0,0], strides=[2,2]>(conv1_2)
            conv2_1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>(pool1_1, conv2_w_0, conv2_b_0)
            conv2_2 = Relu(conv2_1)
            pool5_1 = AveragePool<kernel_shape=[16,16], strides=[1,1]>(conv2_2)
            OC2_DUMMY_0 = Reshape(pool5_1, OC2_DUMMY_1)
            drop_1, _drop_mask_1 = Dropout<ratio=0.5>(OC2_DUMMY_0)
            fc_1 = Gemm<transB=1>(drop_1, fc_w_0, fc_b_0)
            prob_1 = Softmax(fc_1)
        }""",
        dict(conv1_w_0=w1, conv1_b_0=b1, conv2_w_0=w2, conv2_b_0=b2, OC2_DUMMY_1=np.array([1, 12]),
             fc_w_0=weights()["fc.w"], fc_b_0=weights()["fc.b"]),
        7, 3, "onnx-caffe2",
    )  # fmt: skip
    return _among_the_inputs(model, first=True)


def _among_the_inputs(model: onnx.ModelProto, first: bool = False) -> onnx.ModelProto:
    """Declare every weight as an input as well, as IR 3 wants it."""
    declared = [onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer]
    own = list(model.graph.input)
    del model.graph.input[:]
    model.graph.input.extend([*declared[:2], *own, *declared[2:]] if first else [*own, *declared])
    return model


@spelling("torch.onnx with modules as functions", 18, 10, "a block is a function of a domain of its own (pkg.torch), "
          "functions call functions", "none: by hand, like torch's old export_modules_as_functions")  # fmt: skip
def functions() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    return written(
        """main_graph (float[batch,3,32,32] image) => (float[batch,5] output) {
            block1 = pkg.torch.Block(image, w1, b1)
            pooled = MaxPool<kernel_shape=[2,2], strides=[2,2]>(block1)
            block2 = pkg.torch.Block(pooled, w2, b2)
            output = local.Head<keep=1>(block2, fc_w, fc_b)
        }""",
        dict(w1=w1, b1=b1, w2=w2, b2=b2, fc_w=weights()["fc.w"], fc_b=weights()["fc.b"]),
        18, 10, "pytorch", ', "pkg.torch": 1, "local": 1',
        """
        <domain: "pkg.torch", opset_import: ["": 18]>
        Block (x, w, b) => (y) { c = Conv<pads=[1,1,1,1]>(x, w, b)  y = Relu(c) }
        <domain: "local", opset_import: ["": 18, "local": 1]>
        Head <keep> (x, w, b) => (y) { f = local.Pool(x)  y = Gemm<transB=1>(f, w, b) }
        <domain: "local", opset_import: ["": 18]>
        Pool (x) => (y) { g = GlobalAveragePool(x)  y = Flatten(g) }
        """,
    )  # fmt: skip


@spelling("onnxscript, by hand", 20, 10, "weights are Constant nodes, the mean by ReduceMean over the axes of another, "
          "values by the names of variables, nodes called n and a number", "onnxscript 0.7.2")  # fmt: skip
def onnxscript() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    model = written(
        """network (float[N,3,32,32] image) => (float[N,5] return_val) {
            tmp_1 = Conv<pads=[1,1,1,1]>(image, tmp, tmp_0)
            x = Relu(tmp_1)
            x_2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
            tmp_5 = Conv<pads=[1,1,1,1]>(x_2, tmp_3, tmp_4)
            x_6 = Relu(tmp_5)
            x_7 = ReduceMean<keepdims=0>(x_6, const)
            return_val = Gemm<transB=1>(x_7, tmp_8, tmp_9)
        }""",
        dict(tmp=w1, tmp_0=b1, tmp_3=w2, tmp_4=b2, const=np.array([2, 3]), tmp_8=weights()["fc.w"],
             tmp_9=weights()["fc.b"]),
        20, 10, "",
    )  # fmt: skip
    for number, node in enumerate(_in_constants(model).graph.node):
        node.name = f"n{number}"
    return model


@spelling("spox, by hand", 14, 10, "weights are Constant nodes among the others, outputs <operator>_<number>_<output>, "
          "an Identity before the output, the opset is the lowest that serves", "spox 0.18.2")  # fmt: skip
def spox() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    model = written(
        """spox_graph (float[N,3,32,32] image) => (float[N,5] logits) {
            Conv_0_Y = Conv<auto_pad="SAME_UPPER", group=1>(image, Constant_0_output, Constant_1_output)
            Relu_0_Y = Relu(Conv_0_Y)
            MaxPool_0_Y, MaxPool_0_Indices = MaxPool<auto_pad="NOTSET", ceil_mode=0, kernel_shape=[2,2],
                                                     storage_order=0, strides=[2,2]>(Relu_0_Y)
            Conv_1_Y = Conv<auto_pad="SAME_UPPER", group=1>(MaxPool_0_Y, Constant_2_output, Constant_3_output)
            Relu_1_Y = Relu(Conv_1_Y)
            GlobalAveragePool_0_Y = GlobalAveragePool(Relu_1_Y)
            Reshape_0_reshaped = Reshape<allowzero=0>(GlobalAveragePool_0_Y, Constant_4_output)
            Gemm_0_Y = Gemm<alpha=1.0, beta=1.0, transA=0, transB=1>(Reshape_0_reshaped, Constant_5_output,
                                                                     Constant_6_output)
            logits = Identity(Gemm_0_Y)
        }""",
        dict(Constant_0_output=w1, Constant_1_output=b1, Constant_2_output=w2, Constant_3_output=b2,
             Constant_4_output=np.array([0, -1]), Constant_5_output=weights()["fc.w"],
             Constant_6_output=weights()["fc.b"]),
        14, 10, "spox",
    )  # fmt: skip
    return _in_constants(model)


_CONVOLUTIONS = """
            c1 = Conv<pads=[1,1,1,1]>(image, w1, b1)
            r1 = Relu(c1)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
            c2 = Conv<pads=[1,1,1,1]>(p, w2, b2)
            r2 = Relu(c2)
            g = GlobalAveragePool(r2)"""


def features() -> onnx.ModelProto:
    """Return the network without its last layer, to be put in front of one."""
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    text = f"features (float[N,3,32,32] image) => (float[N,12] flat) {{ {_CONVOLUTIONS} flat = Flatten(g) }}"
    return written(text, dict(w1=w1, b1=b1, w2=w2, b2=b2), 17, 8, "")


@spelling("skl2onnx behind a convolutional network", 17, 8, "the label is the first output, an integer of "
          "ArrayFeatureExtractor (ai.onnx.ml); probabilities the second", "skl2onnx 1.20.0, MLPClassifier")  # fmt: skip
def skl2onnx() -> onnx.ModelProto:
    (w1, b1), (w2, b2) = folded("conv1"), folded("conv2")
    return written(
        f"""merged (float[N,3,32,32] image) => (int64[N] label, float[N,5] probabilities) {{
            {_CONVOLUTIONS}
            X = Flatten(g)
            cast_input = Cast<to=1>(X)
            mul_result = MatMul(cast_input, coefficient)
            add_result = Add(mul_result, intercepts)
            out_activations_result = Softmax(add_result)
            probabilities = Identity(out_activations_result)
            argmax_output = ArgMax<axis=1>(probabilities)
            extracted = ai.onnx.ml.ArrayFeatureExtractor(classes, argmax_output)
            reshaped_result = Reshape(extracted, shape_tensor)
            label = Cast<to=7>(reshaped_result)
        }}""",
        dict(w1=w1, b1=b1, w2=w2, b2=b2, coefficient=weights()["fc.w"].T, intercepts=weights()["fc.b"][None],
             classes=np.arange(5), shape_tensor=np.array([-1])),
        17, 8, "skl2onnx", ', "ai.onnx.ml": 1',
    )  # fmt: skip


@spelling("skl2onnx behind a convolutional network", 17, 8, "the Softmax is inside LinearClassifier (ai.onnx.ml), a "
          "Scaler in front of it and a Normalizer behind; no value of the file is the logits",
          "skl2onnx 1.20.0, StandardScaler and LogisticRegression")  # fmt: skip
def skl2onnx_linear() -> onnx.ModelProto:
    model = written(
        f"""merged (float[N,3,32,32] image) => (int64[N] label, float[N,5] probabilities) {{
            {_CONVOLUTIONS}
            X = Flatten(g)
            variable = ai.onnx.ml.Scaler(X)
            label, probability_tensor = ai.onnx.ml.LinearClassifier<classlabels_ints=[0,1,2,3,4], multi_class=1,
                                                                    post_transform="SOFTMAX">(variable)
            probabilities = ai.onnx.ml.Normalizer<norm="L1">(probability_tensor)
        }}""",
        {f"{key}{i}": value for i in (1, 2) for key, value in zip("wb", folded(f"conv{i}"), strict=True)},
        17, 8, "skl2onnx", ', "ai.onnx.ml": 1',
    )  # fmt: skip
    offset, scale = np.linspace(-0.2, 0.3, 12), np.linspace(0.5, 2, 12)
    head, bias = weights()["fc.w"] / scale, weights()["fc.b"] + weights()["fc.w"] @ offset
    attributes = {
        "Scaler": dict(offset=offset, scale=scale),
        "LinearClassifier": dict(coefficients=head, intercepts=bias),
    }
    for node in model.graph.node:
        for name, values in attributes.get(node.op_type, {}).items():
            node.attribute.append(onnx.helper.make_attribute(name, values.ravel().tolist()))
    return model
