"""The seeded network of models/exporters.py, built in a framework and exported by it.

``python -m tools.exporters.make [NAME...]`` keeps the files in build/exporters/, where ``python -m tools.exporters``
finds them: not every framework is content with the onnx and NumPy that this project needs, so each may have a Python
of its own, in which this module needs NumPy and onnx alone.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.exporters import EPSILON, folded, weights

__all__ = ["MAKERS", "Maker", "kept", "made", "main", "versions"]

Maker = Callable[[], onnx.ModelProto]

KEPT = Path(__file__).parent.parent.parent / "build" / "exporters"

MAKERS: dict[str, tuple[tuple[str, ...], Maker]] = {}


def maker(name: str, *packages: str) -> Callable[[Maker], Maker]:
    """Register a function that exports the network, with the packages whose versions are said."""

    def register(function: Maker) -> Maker:
        MAKERS[name] = (packages, function)
        return function

    return register


def versions(packages: tuple[str, ...]) -> str:
    """Return names and versions (PackageNotFoundError where one is not installed)."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def made(name: str) -> tuple[onnx.ModelProto, str]:
    """Return a file of an exporter, and of what it is (PackageNotFoundError where that is not installed)."""
    packages, maker_ = MAKERS[name]
    of = versions(packages)
    return maker_(), of


def kept(name: str) -> tuple[onnx.ModelProto, str] | None:
    """Return what another Python has made and kept, if it has."""
    file = _file(name)
    return (onnx.load(file), file.with_suffix(".txt").read_text(encoding="utf-8")) if file.exists() else None


def _file(name: str) -> Path:
    return KEPT / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.onnx"


def _single(values: Any) -> Any:
    return np.asarray(values, np.float32)


def _torch(**how: Any) -> onnx.ModelProto:
    import torch
    from torch import nn

    w = {key: torch.tensor(_single(value)) for key, value in weights().items()}
    layers: list[nn.Module] = []
    for name, (outputs, inputs) in {"conv1": (8, 3), "conv2": (12, 8)}.items():
        conv, norm = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs, EPSILON)
        conv.weight.data = w[f"{name}.w"]
        norm.weight.data, norm.bias.data = w[f"{name}.s"], w[f"{name}.b"]
        norm.running_mean, norm.running_var = w[f"{name}.m"], w[f"{name}.v"]
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    linear = nn.Linear(12, 5)
    linear.weight.data, linear.bias.data = w["fc.w"], w["fc.b"]
    network = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), linear).eval()
    picture = torch.zeros(2, 3, 32, 32)
    if how.pop("dynamo"):
        program = torch.onnx.export(network, (picture,), dynamo=True, dynamic_shapes=({0: "batch"},), **how)
        proto: onnx.ModelProto = program.model_proto
        return proto
    buffer = io.BytesIO()
    torch.onnx.export(
        network, (picture,), buffer, dynamo=False, input_names=["image"], dynamic_axes={"image": {0: "batch"}}, **how
    )
    return onnx.load_from_string(buffer.getvalue())


@maker("torch.onnx, dynamo=True", "torch", "onnxscript")
def torch_dynamo() -> onnx.ModelProto:
    return _torch(dynamo=True, opset_version=18)


@maker("torch.onnx, dynamo=False, opset 17", "torch")
def torch_script() -> onnx.ModelProto:
    return _torch(dynamo=False, opset_version=17)


@maker("torch.onnx, dynamo=False, opset 9", "torch")
def torch_script_9() -> onnx.ModelProto:
    return _torch(dynamo=False, opset_version=9)


@maker("torch.onnx, dynamo=False, nothing folded", "torch")
def torch_unfused() -> onnx.ModelProto:
    from torch.onnx import TrainingMode

    return _torch(dynamo=False, opset_version=17, do_constant_folding=False, training=TrainingMode.PRESERVE)


def _keras(keras: Any) -> Any:
    """Return the network in Keras 2 or 3."""
    layers, x = keras.layers, keras.Input((32, 32, 3), name="input_1")
    first = x
    for number, width in ((1, 8), (2, 12)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON, name=f"bn{number}")(x))
        x = layers.MaxPooling2D(2)(x) if number == 1 else x
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(first, layers.Dense(5, activation="softmax", name="dense")(x))
    w = weights()
    for number in (1, 2):
        network.get_layer(f"conv{number}").set_weights([_single(w[f"conv{number}.w"].transpose(2, 3, 1, 0))])
        network.get_layer(f"bn{number}").set_weights([_single(w[f"conv{number}.{key}"]) for key in "sbmv"])
    network.get_layer("dense").set_weights([_single(w["fc.w"].T), _single(w["fc.b"])])
    network(np.zeros((1, 32, 32, 3), np.float32))  # Keras 3 exports what was called
    return network


def _tf2onnx(opset: int) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx
    import tf_keras

    signature = (tf.TensorSpec((None, 32, 32, 3), tf.float32, name="input_1"),)
    made: onnx.ModelProto = tf2onnx.convert.from_keras(_keras(tf_keras), input_signature=signature, opset=opset)[0]
    return made


@maker("tf2onnx, opset 9", "tf2onnx", "tensorflow", "tf_keras")
def tf2onnx_9() -> onnx.ModelProto:
    return _tf2onnx(9)


@maker("tf2onnx, opset 18", "tf2onnx", "tensorflow", "tf_keras")
def tf2onnx_18() -> onnx.ModelProto:
    return _tf2onnx(18)


@maker("Keras' model.export", "keras", "tf2onnx", "tensorflow")
def keras_export() -> onnx.ModelProto:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _keras(keras).export(str(path), format="onnx", verbose=False)
        return onnx.load(path)


@maker("jax2onnx", "jax2onnx", "jax", "flax")
def jax2onnx() -> onnx.ModelProto:
    import jax
    import jax2onnx as exporter
    from flax import nnx

    w = {key: jax.numpy.asarray(value, np.float32) for key, value in weights().items()}

    def block(x: Any, name: str) -> Any:
        kernel = w[f"{name}.w"].transpose(2, 3, 1, 0)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        scale = w[f"{name}.s"] / jax.numpy.sqrt(w[f"{name}.v"] + EPSILON)
        return jax.nn.relu((y - w[f"{name}.m"]) * scale + w[f"{name}.b"])

    def network(x: Any) -> Any:
        pooled = nnx.max_pool(block(x, "conv1"), window_shape=(2, 2), strides=(2, 2))
        return jax.nn.softmax(block(pooled, "conv2").mean((1, 2)) @ w["fc.w"].T + w["fc.b"], axis=-1)

    made: onnx.ModelProto = exporter.to_onnx(network, [("B", 32, 32, 3)])
    return made


def _paddle() -> Any:
    """Return the network in PaddlePaddle, with its softmax."""
    from paddle import nn

    w = {key: _single(value) for key, value in weights().items()}
    layers: list[Any] = []
    for name, (outputs, inputs) in {"conv1": (8, 3), "conv2": (12, 8)}.items():
        conv = nn.Conv2D(inputs, outputs, 3, padding=1, bias_attr=False)
        norm = nn.BatchNorm2D(outputs, epsilon=EPSILON)
        conv.weight.set_value(w[f"{name}.w"])
        for value, key in ((norm.weight, "s"), (norm.bias, "b"), (norm._mean, "m"), (norm._variance, "v")):
            value.set_value(w[f"{name}.{key}"])
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2D(2)]
    linear = nn.Linear(12, 5)
    linear.weight.set_value(w["fc.w"].T)
    linear.bias.set_value(w["fc.b"])
    network = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Dropout(0.2), linear, nn.Softmax())
    network.eval()
    return network


def _paddle2onnx(opset: int) -> onnx.ModelProto:
    """Return what paddle2onnx writes itself: paddle.onnx.export has Polygraphy fold it."""
    import paddle
    import paddle2onnx as exporter

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        paddle.jit.save(_paddle(), path, [paddle.static.InputSpec([None, 3, 32, 32], "float32", "x")])
        data = exporter.export(f"{path}.json", f"{path}.pdiparams", None, opset)
    return onnx.load_from_string(data)


@maker("paddle2onnx, opset 7", "paddlepaddle", "paddle2onnx")
def paddle2onnx_7() -> onnx.ModelProto:
    return _paddle2onnx(7)


@maker("paddle2onnx, opset 11", "paddlepaddle", "paddle2onnx")
def paddle2onnx_11() -> onnx.ModelProto:
    return _paddle2onnx(11)


@maker("paddle.onnx.export, opset 18, folded", "paddlepaddle", "paddle2onnx", "polygraphy")
def paddle_export() -> onnx.ModelProto:
    import paddle

    spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "x")]
    with tempfile.TemporaryDirectory() as folder:
        paddle.onnx.export(_paddle(), str(Path(folder) / "model"), input_spec=spec, opset_version=18)
        return onnx.load(Path(folder) / "model.onnx")


def _mxnet(softmax: bool, **how: Any) -> onnx.ModelProto:
    import mxnet
    import mxnet.onnx
    from mxnet.gluon import nn

    w, network = weights(), nn.HybridSequential(prefix="net_")
    with network.name_scope():
        for number, (outputs, inputs) in ((1, (8, 3)), (2, (12, 8))):
            network.add(nn.Conv2D(outputs, 3, padding=1, use_bias=False, in_channels=inputs))
            network.add(nn.BatchNorm(epsilon=EPSILON, in_channels=outputs), nn.Activation("relu"))
            network.add(nn.MaxPool2D(2) if number == 1 else nn.GlobalAvgPool2D())
        network.add(nn.Dropout(0.2), nn.Dense(5, in_units=12))
    network.initialize()
    names = {"w": "weight", "s": "gamma", "b": "beta", "m": "running_mean", "v": "running_var"}
    for at, prefix in ((0, "conv1"), (1, "conv1"), (4, "conv2"), (5, "conv2")):
        for key in "sbmv" if at % 4 else "w":
            getattr(network[at], names[key]).set_data(_single(w[f"{prefix}.{key}"]))
    network[-1].weight.set_data(_single(w["fc.w"]))
    network[-1].bias.set_data(_single(w["fc.b"]))
    network.hybridize()
    network(mxnet.nd.zeros((1, 3, 32, 32)))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        network.export(path)
        symbol, arguments, states = mxnet.model.load_checkpoint(path, 0)
        symbol = mxnet.sym.softmax(symbol, name="softmax") if softmax else symbol
        shapes = [(1, 3, 32, 32)]
        mxnet.onnx.export_model(symbol, {**arguments, **states}, shapes, np.float32, f"{path}.onnx", **how)
        return onnx.load(f"{path}.onnx")


@maker("MXNet, of Gluon", "mxnet", "onnx")
def mxnet_gluon() -> onnx.ModelProto:
    return _mxnet(softmax=False)


@maker("MXNet, with softmax, a batch of any size", "mxnet", "onnx")
def mxnet_symbol() -> onnx.ModelProto:
    return _mxnet(softmax=True, dynamic=True, dynamic_input_shapes=[(None, 3, 32, 32)])


@maker("spox", "spox")
def spox() -> onnx.ModelProto:
    import spox as builder
    import spox.opset.ai.onnx.v17 as op

    def constant(value: Any) -> Any:
        return op.constant(value=_single(value))

    image = builder.argument(builder.Tensor(np.float32, ("N", 3, 32, 32)))
    x = image
    for name in ("conv1", "conv2"):
        w, b = folded(name)
        x = op.relu(op.conv(x, constant(w), constant(b), auto_pad="SAME_UPPER"))
        x = op.max_pool(x, kernel_shape=[2, 2], strides=[2, 2])[0] if name == "conv1" else x
    flat = op.reshape(op.global_average_pool(x), op.constant(value=np.array([0, -1])))
    logits = op.gemm(flat, constant(weights()["fc.w"]), constant(weights()["fc.b"]), transB=1)
    made: onnx.ModelProto = builder.build({"image": image}, {"logits": logits})
    return made


def _onnxscript(in_functions: bool) -> onnx.ModelProto:
    """Return the network in onnxscript: as one function, or of blocks that are functions of a domain of their own."""
    import onnxscript as script
    from onnxscript import FLOAT
    from onnxscript import opset20 as op

    w1, b1, w2, b2 = (onnx.numpy_helper.from_array(_single(v)) for name in ("conv1", "conv2") for v in folded(name))
    head, bias = (onnx.numpy_helper.from_array(_single(weights()[f"fc.{key}"])) for key in "wb")
    local = script.values.Opset("local", 1)

    @script.script(local, default_opset=op)
    def Block(x, w, b):  # type: ignore[no-untyped-def]
        return op.Relu(op.Conv(x, w, b, pads=[1, 1, 1, 1]))

    @script.script(local, default_opset=op)
    def Head(x, w, b):  # type: ignore[no-untyped-def]
        return op.Gemm(op.ReduceMean(x, [2, 3], keepdims=0), w, b, transB=1)

    @script.script(default_opset=op)
    def network(image):  # type: ignore[no-untyped-def]
        x = op.Relu(op.Conv(image, op.Constant(value=w1), op.Constant(value=b1), pads=[1, 1, 1, 1]))
        x = op.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        x = op.Relu(op.Conv(x, op.Constant(value=w2), op.Constant(value=b2), pads=[1, 1, 1, 1]))
        x = op.ReduceMean(x, [2, 3], keepdims=0)
        return op.Gemm(x, op.Constant(value=head), op.Constant(value=bias), transB=1)

    @script.script(default_opset=op)
    def of_blocks(image):  # type: ignore[no-untyped-def]
        x = Block(image, op.Constant(value=w1), op.Constant(value=b1))
        x = op.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        x = Block(x, op.Constant(value=w2), op.Constant(value=b2))
        return Head(x, op.Constant(value=head), op.Constant(value=bias))

    types = {"input_types": [FLOAT["N", 3, 32, 32]], "output_types": [FLOAT["N", 5]]}
    made: onnx.ModelProto = (of_blocks if in_functions else network).to_model_proto(**types)
    return made


@maker("onnxscript", "onnxscript")
def onnxscript() -> onnx.ModelProto:
    return _onnxscript(in_functions=False)


@maker("onnxscript, of functions in a domain of their own", "onnxscript")
def onnxscript_functions() -> onnx.ModelProto:
    return _onnxscript(in_functions=True)


@maker("skl2onnx, behind the convolutions", "skl2onnx", "scikit-learn")
def skl2onnx() -> onnx.ModelProto:
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier((), max_iter=1)  # settles what it must have seen; its numbers are put in below
    seen = np.random.default_rng(0).standard_normal((50, 12)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one step is no training
        classifier.fit(seen, np.arange(50) % 5)
    classifier.coefs_, classifier.intercepts_ = [_single(weights()["fc.w"].T)], [_single(weights()["fc.b"])]
    return _behind(classifier, seen)


def _behind(classifier: Any, seen: Any) -> onnx.ModelProto:
    """Return the convolutions with a classifier of scikit-learn behind them."""
    import skl2onnx as exporter

    from models.exporters import features

    front = features()
    target = {"": front.opset_import[0].version, "ai.onnx.ml": 1}
    head = exporter.to_onnx(classifier, seen[:1], target_opset=target, options={"zipmap": False})
    head.ir_version = front.ir_version
    imports = {entry.domain: entry.version for entry in head.opset_import}  # it lists one of them twice
    del head.opset_import[:]
    head.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in imports.items())
    front.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    return onnx.compose.merge_models(front, head, io_map=[(front.graph.output[0].name, head.graph.input[0].name)])


@maker("skl2onnx, a logistic regression behind the convolutions", "skl2onnx", "scikit-learn")
def skl2onnx_linear() -> onnx.ModelProto:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = np.random.default_rng(0).standard_normal((50, 12)).astype(np.float32)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(seen, np.arange(50) % 5)
    scaler, last = classifier[0], classifier[1]
    last.coef_ = weights()["fc.w"] * scaler.scale_
    last.intercept_ = weights()["fc.b"] + weights()["fc.w"] @ scaler.mean_
    return _behind(classifier, seen)


@maker("onnxsim, of what torch did not fold", "onnxsim")
def onnxsim() -> onnx.ModelProto:
    import onnxsim as simplifier

    from models.exporters import torch_unfused

    made: onnx.ModelProto = simplifier.simplify(torch_unfused())[0]
    return made


@maker("onnxslim, of what torch did not fold", "onnxslim")
def onnxslim() -> onnx.ModelProto:
    import onnxslim as simplifier

    from models.exporters import torch_unfused

    made: onnx.ModelProto = simplifier.slim(torch_unfused())
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Keep the files of what this Python has."""
    parser = argparse.ArgumentParser(prog="python -m tools.exporters.make", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of exporters (default: what is installed)")
    names = parser.parse_args(argv).names
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in names or MAKERS:
        try:
            model, of = made(name)
        except PackageNotFoundError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        _file(name).with_suffix(".txt").write_text(of, encoding="utf-8")
        onnx.save(model, _file(name))
        print(f"{name}: {of}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
