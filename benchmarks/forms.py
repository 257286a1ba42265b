"""Which of several right ways to write a gradient is fastest: ours beside the runner-up, in graphs of one operator.

The choices stand in cam_onnx/autodiff/rules/, each in the file of its operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.utils

from benchmarks.harness import Pair, benchmark
from benchmarks.networks import session

__all__: list[str] = []

Arrays = dict[str, Any]


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def graph(body: str, feeds: Arrays, weights: Arrays, functions: str = "") -> onnx.ModelProto:
    inputs = ", ".join(f"float[{','.join(map(str, a.shape))}] {name}" for name, a in feeds.items())
    text = f'<ir_version: 8, opset_import: ["": 18]> g ({inputs}) => (float[] z) {{ {body} }} {functions}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def gradient_of(body: str, feeds: Arrays, weights: Arrays) -> tuple[onnx.ModelProto, Arrays]:
    """Return the gradient of `z` with respect to the first input, and what to feed."""
    from cam_onnx.autodiff import gradient

    forward = graph(body, feeds, weights)
    forward = onnx.shape_inference.infer_shapes(forward)
    name = next(iter(feeds))
    added = gradient(forward, [name], ["z"])
    # what the gradient does not read is the forward pass's own cost
    alone = onnx.utils.Extractor(added).extract_model([*feeds, "cotangent/z"], [f"grad/{name}"])
    [z] = session(forward.SerializeToString()).run(["z"], feeds)
    return alone, {**feeds, "cotangent/z": np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)}


def beside(body: str, feeds: Arrays, weights: Arrays, other: str) -> Callable[[], Pair]:
    """Ours beside `other`, which computes the same from the feeds, the weights, and the cotangent `gz`."""

    def prepare() -> Pair:
        added, given = gradient_of(body, feeds, weights)
        theirs_feeds = {**feeds, "gz": given["cotangent/z"]}
        theirs = graph(other, theirs_feeds, weights)
        ours_session, theirs_session = session(added.SerializeToString()), session(theirs.SerializeToString())
        given = {i.name: given[i.name] for i in ours_session.get_inputs()}
        theirs_feeds = {i.name: theirs_feeds[i.name] for i in theirs_session.get_inputs()}
        name = f"grad/{next(iter(feeds))}"
        ours, reference = ours_session.run([name], given)[0], theirs_session.run(["z"], theirs_feeds)[0]
        np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=1e-3 * float(np.abs(reference).max()))
        return Pair(
            ours=lambda: ours_session.run([name], given), baseline=lambda: theirs_session.run(["z"], theirs_feeds)
        )

    return prepare


def convolution(m: int, c: int, kernel: int, stride: int, group: int, size: int) -> Callable[[], Pair]:
    """Ours beside a ConvTranspose with the same kernel."""
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    behind = size - ((out - 1) * stride + kernel - 2 * pad)
    how = f"strides=[{stride},{stride}], pads=[{pad},{pad},{pad},{pad}], group={group}"
    return beside(
        f"z = Conv<{how}>(x, w)",
        {"x": normal(1, c, size, size)},
        {"w": normal(m, c // group, kernel, kernel)},
        f"z = ConvTranspose<{how}, output_padding=[{behind},{behind}]>(gz, w)",
    )


def zeros_between(m: int, c: int, kernel: int, group: int, size: int) -> Callable[[], Pair]:
    """Stride 2: ours beside a convolution of the cotangent with zeros put between its entries."""
    pad, half = kernel // 2, size // 2
    w = normal(m, c // group, kernel, kernel)
    turned = w.reshape(group, m // group, c // group, kernel, kernel).swapaxes(1, 2)
    turned = turned.reshape(c, m // group, kernel, kernel)[:, :, ::-1, ::-1].copy()
    front, behind = kernel - 1 - pad, kernel - 1 - pad
    return beside(
        f"z = Conv<strides=[2,2], pads=[{pad},{pad},{pad},{pad}], group={group}>(x, w)",
        {"x": normal(1, c, size, size)},
        {
            "w": w,
            "turned": turned,
            "apart": np.array([1, m, half, 1, half, 1]),
            "one": np.array([0] * 9 + [1, 0, 1]),
            "whole": np.array([1, m, size, size]),
        },
        "a = Reshape(gz, apart)  b = Pad(a, one)  c = Reshape(b, whole_long)  z = Conv"
        f"<pads=[{front},{front},{behind},{behind}], group={group}>(c, turned)".replace("whole_long", "whole"),
    )


def pooling(kernel: int, stride: int, pad: int, channels: int, size: int) -> Callable[[], Pair]:
    """Ours beside MaxPool with Indices and ScatterElements."""
    how = f"kernel_shape=[{kernel},{kernel}], strides=[{stride},{stride}], pads=[{pad},{pad},{pad},{pad}]"
    whole = channels * size * size
    return beside(
        f"z = MaxPool<{how}>(x)",
        {"x": np.maximum(normal(1, channels, size, size), 0)},
        {
            "flat": np.array([-1]),
            "empty": np.zeros(whole, np.float32),
            "whole": np.array([1, channels, size, size]),
        },
        f"y, i = MaxPool<{how}>(x)  j = Reshape(i, flat)  u = Reshape(gz, flat) "
        'v = ScatterElements<reduction="add", axis=0>(empty, j, u)  z = Reshape(v, whole)',
    )


def mask() -> Pair:
    """A Relu between two convolutions, beside one whose mask is a Greater and a Where."""
    return beside(
        "a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  z = Conv<pads=[1,1,1,1]>(r, w)",
        {"x": normal(1, 64, 56, 56)},
        {"w": normal(64, 64, 3, 3), "zero": np.float32(0), "turned": _turned(normal(64, 64, 3, 3))},
        "a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  f = Conv<pads=[1,1,1,1]>(gz, turned) "
        "m = Greater(r, zero)  h = Where(m, f, zero)  z = Conv<pads=[1,1,1,1]>(h, turned)",
    )()


def _turned(w: Any) -> Any:
    return w.swapaxes(0, 1)[:, :, ::-1, ::-1].copy()


def one_row() -> Pair:
    """The seed of a class through a linear layer: a Gather of one row beside a one-hot row times the weight."""
    feeds = {"i": np.array([281])}
    weights = {"w": normal(1000, 2048)}
    text = '<ir_version: 8, opset_import: ["": 18]> g (int64[1] i) => (float[1,2048] z) {{ {} }}'
    pair = []
    for body in (
        "z = Gather<axis=0>(w, i)",
        "h = OneHot<axis=-1>(i, depth, values)  z = MatMul(h, w)",
    ):
        model = onnx.parser.parse_model(text.format(body))
        extra = {"depth": np.array(1000), "values": np.array([0, 1], np.float32)} if "OneHot" in body else {}
        tensors = {**weights, **extra}.items()
        model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in tensors)
        opened = session(model.SerializeToString())
        pair.append(lambda opened=opened: opened.run(None, feeds))
    return Pair(pair[0], pair[1])


def resize() -> Pair:
    """Bilinear, twice as large: products with the transposed matrices beside a ScatterElements of every tap."""
    size, channels = 28, 64
    weights, taps = [], []
    for i in range(2 * size):
        c = min(max((i + 0.5) / 2 - 0.5, 0), size - 1)
        low = min(int(c), size - 2)
        taps.append((low, low + 1))
        weights.append((1 - (c - low), c - low))
    rows = []
    for a in range(2):
        for b in range(2):
            index = np.array([[taps[i][a] * size + taps[j][b] for j in range(2 * size)] for i in range(2 * size)])
            factor = np.array([[weights[i][a] * weights[j][b] for j in range(2 * size)] for i in range(2 * size)])
            rows.append((index.reshape(-1), factor.astype(np.float32)))
    constants: Arrays = {
        "sizes": np.array([1, channels, 2 * size, 2 * size]),
        "flat": np.array([1, channels, -1]),
        "empty": np.zeros((1, channels, size * size), np.float32),
        "whole": np.array([1, channels, size, size]),
    }
    body, total = "", "empty"
    for k, (index, factor) in enumerate(rows):
        constants[f"f{k}"] = factor
        constants[f"i{k}"] = np.broadcast_to(index, (1, channels, index.size)).copy()
        body += f"p{k} = Mul(gz, f{k})  q{k} = Reshape(p{k}, flat) "
        body += f't{k} = ScatterElements<axis=2, reduction="add">({total}, i{k}, q{k}) '
        total = f"t{k}"
    return beside(
        'z = Resize<mode="linear">(x, , , sizes)',
        {"x": normal(1, channels, size, size)},
        constants,
        body + f"z = Reshape({total}, whole)",
    )()


def form(name: str, prepare: Callable[[], Pair], means: str) -> None:
    prepare.__doc__ = means
    benchmark(f"form/{name}", kind="ratio", goal=None, rounds=31)(prepare)


for text, arguments in {
    "conv-3x3-s1": (64, 64, 3, 1, 1, 56),
    "conv-3x3-s1-7": (512, 512, 3, 1, 1, 7),
    "conv-1x1-s1": (64, 256, 1, 1, 1, 56),
    "conv-3x3-s1-groups": (256, 256, 3, 1, 32, 28),
    "conv-3x3-s1-depthwise": (96, 96, 3, 1, 96, 56),
}.items():
    form(text, convolution(*arguments), "Stride 1: Conv with the flipped kernel over ConvTranspose.")
for text, sizes in {
    "conv-3x3-s2": (128, 128, 3, 1, 56),
    "conv-7x7-s2": (64, 3, 7, 1, 224),
    "conv-5x5-s2-depthwise": (240, 240, 5, 240, 28),
}.items():
    form(text, zeros_between(*sizes), "Stride 2: ConvTranspose over Conv of the cotangent with zeros in between.")
for text, sizes in {
    "maxpool-3x3-s2": (3, 2, 1, 64, 112),
    "maxpool-2x2-s2": (2, 2, 0, 64, 112),
    "maxpool-3x3-s1": (3, 1, 1, 128, 28),
}.items():
    form(text, pooling(*sizes), "Tap by tap over MaxPool with Indices and ScatterElements.")
form("relu-mask", lambda: mask(), "A steep HardSigmoid and Mul over Greater and Where, between two convolutions.")
form("resize", lambda: resize(), "Products with transposed matrices over a ScatterElements of every tap.")
form("one-row-head", lambda: one_row(), "Gather of one row over a one-hot row times the weight.")
