"""A second witness: the gradient of an operator in ONNX Runtime beside PyTorch's autograd of the same operator.

python -m tools.conformance.pytorch [--write]     needs the extra zoo; with --write: docs/conformance-pytorch.md

A row is an operator with random attributes and inputs: ONNX text, arrays, and what PyTorch computes. Both have the
same random cotangent. PyTorch computes in float64, ONNX Runtime in float32; errors are relative to the largest entry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import torch
from torch.nn import functional

from cam_onnx import files
from cam_onnx.autodiff import gradient

__all__ = ["ROWS", "compare"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "conformance-pytorch.md"
Rng = np.random.Generator
ROWS: dict[str, Callable[[Rng], Row]] = {}
SEEDS = 5


@dataclass
class Row:
    """One operator: `text` computes `y` from `inputs` and `constants`, and so does `torch` from `inputs`."""

    text: str
    torch: Callable[..., torch.Tensor]
    inputs: dict[str, np.ndarray]
    constants: dict[str, np.ndarray] = field(default_factory=dict)


def compare(row: Row, seed: int) -> tuple[float, float]:
    """Return the largest relative error of the output, and of the gradients."""
    given = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in row.inputs.items()}
    y = row.torch(*given.values())
    cotangent = np.random.default_rng(seed + 1000).standard_normal(tuple(y.shape))
    expected = torch.autograd.grad(y, list(given.values()), torch.tensor(cotangent))
    types = ", ".join(f"float[{','.join(map(str, v.shape))}] {k}" for k, v in row.inputs.items())
    result = ",".join(map(str, y.shape))
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 20]> g ({types}) => (float[{result}] y) {{ {row.text} }}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in row.constants.items())
    added = gradient(model, list(row.inputs), ["y"])
    session = onnxruntime.InferenceSession(added.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {k: v.astype(np.float32) for k, v in row.inputs.items()}
    ours = session.run(None, {**feeds, "cotangent/y": cotangent.astype(np.float32)})
    pairs = list(zip(ours, [y, *expected], strict=True))
    errors = [float(np.abs(a - b.detach().numpy()).max() / max(float(b.detach().abs().max()), 1e-6)) for a, b in pairs]
    return errors[0], max(errors[1:])


def _row(name: str) -> Callable[[Callable[[Rng], Row]], Callable[[Rng], Row]]:
    def enter(function: Callable[[Rng], Row]) -> Callable[[Rng], Row]:
        ROWS[name] = function
        return function

    return enter


def _plain(name: str, function: Callable[..., torch.Tensor], spread: float = 1.0, attributes: str = "") -> None:
    """Enter an operator of one input, entry by entry or along an axis."""
    spelled = f"y = {name}{attributes}(x)"
    ROWS[name] = lambda rng: Row(spelled, function, {"x": rng.standard_normal((2, 3, 4)) * spread})


for _name, _function in {
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Relu": functional.relu,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Mish": functional.mish,
    "HardSwish": functional.hardswish,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Atan": torch.atan,
    "Asinh": torch.asinh,
    "Exp": torch.exp,
    "Selu": functional.selu,
}.items():
    _plain(_name, _function)
_plain("Elu", lambda x: functional.elu(x, 0.7), attributes="<alpha=0.7>")
_plain("Celu", lambda x: functional.celu(x, 0.7), attributes="<alpha=0.7>")
_plain("LeakyRelu", lambda x: functional.leaky_relu(x, 0.1), attributes="<alpha=0.1>")
_plain("Gelu", lambda x: functional.gelu(x, approximate="tanh"), attributes='<approximate="tanh">')
_plain("Softmax", lambda x: functional.softmax(x, 1), attributes="<axis=1>")
_plain("LogSoftmax", lambda x: functional.log_softmax(x, -1), attributes="<axis=-1>")
_plain("ReduceLogSumExp", lambda x: torch.logsumexp(x, (0, 1, 2), keepdim=True), attributes="<keepdims=1>")
_plain("ReduceProd", lambda x: x.prod().reshape(1, 1, 1), attributes="<keepdims=1>")
_plain("Trilu", torch.tril, attributes="<upper=0>")


def _window(rng: Rng) -> dict[str, Any]:
    kernel = rng.integers(2, 5, 2)
    return {
        "kernel": kernel.tolist(),
        "stride": rng.integers(1, 4, 2).tolist(),
        "pad": [int(rng.integers(0, k // 2 + 1)) for k in kernel],
        "dilation": rng.integers(1, 3, 2).tolist(),
    }


def _spelled(w: dict[str, Any], *names: str) -> str:
    all_ = {
        "kernel_shape": w["kernel"],
        "strides": w["stride"],
        "pads": w["pad"] * 2,
        "dilations": w["dilation"],
    }
    return ", ".join(f"{name}={all_[name]}" for name in names)


@_row("Conv")
def conv(rng: Rng) -> Row:
    w, group = _window(rng), int(rng.integers(1, 3))
    inputs = {
        "x": rng.standard_normal((2, 2 * group, 11, 13)),
        "w": rng.standard_normal((3 * group, 2, *w["kernel"])),
        "b": rng.standard_normal(3 * group),
    }
    text = f"y = Conv<group={group}, {_spelled(w, 'strides', 'pads', 'dilations')}>(x, w, b)"
    return Row(text, lambda x, k, b: functional.conv2d(x, k, b, w["stride"], w["pad"], w["dilation"], group), inputs)


@_row("ConvTranspose")
def conv_transpose(rng: Rng) -> Row:
    w, group = _window(rng), int(rng.integers(1, 3))
    extra = [int(rng.integers(0, max(s, d))) for s, d in zip(w["stride"], w["dilation"], strict=True)]
    inputs = {
        "x": rng.standard_normal((2, 2 * group, 5, 6)),
        "w": rng.standard_normal((2 * group, 3, *w["kernel"])),
        "b": rng.standard_normal(3 * group),
    }
    more = _spelled(w, "strides", "pads", "dilations")
    text = f"y = ConvTranspose<group={group}, output_padding={extra}, {more}>(x, w, b)"
    theirs = (w["stride"], w["pad"], extra, group, w["dilation"])
    return Row(text, lambda x, k, b: functional.conv_transpose2d(x, k, b, *theirs), inputs)


@_row("MaxPool")
def max_pool(rng: Rng) -> Row:
    w, ceil = _window(rng), bool(rng.integers(2))
    text = f"y = MaxPool<ceil_mode={int(ceil)}, {_spelled(w, 'kernel_shape', 'strides', 'pads', 'dilations')}>(x)"
    inputs = {"x": rng.permutation(2 * 2 * 13 * 12).reshape(2, 2, 13, 12) / 50.0}
    return Row(
        text, lambda x: functional.max_pool2d(x, w["kernel"], w["stride"], w["pad"], w["dilation"], ceil), inputs
    )


@_row("AveragePool")
def average_pool(rng: Rng) -> Row:
    w, include = _window(rng), bool(rng.integers(2))
    text = f"y = AveragePool<count_include_pad={int(include)}, {_spelled(w, 'kernel_shape', 'strides', 'pads')}>(x)"
    inputs = {"x": rng.standard_normal((2, 2, 13, 12))}
    return Row(text, lambda x: functional.avg_pool2d(x, w["kernel"], w["stride"], w["pad"], False, include), inputs)


@_row("LpPool")
def lp_pool(rng: Rng) -> Row:
    w, p = _window(rng), int(rng.integers(2, 4))
    text = f"y = LpPool<p={p}, {_spelled(w, 'kernel_shape', 'strides')}>(x)"
    inputs = {"x": rng.uniform(0.2, 2.0, (2, 2, 9, 8))}
    return Row(text, lambda x: functional.lp_pool2d(x, p, w["kernel"], w["stride"]), inputs)


@_row("GlobalLpPool")
def global_lp_pool(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 3, 5, 4))}
    return Row("y = GlobalLpPool<p=3>(x)", lambda x: (x.abs() ** 3).sum((2, 3), keepdim=True) ** (1 / 3), inputs)


@_row("Gemm")
def gemm(rng: Rng) -> Row:
    a, b = (rng.standard_normal(s) for s in ((5, 4), (6, 5)))
    text = "y = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(a, b, c)"
    return Row(text, lambda a, b, c: 0.5 * a.T @ b.T + 2 * c, {"a": a, "b": b, "c": rng.standard_normal(6)})


@_row("MatMul")
def matmul(rng: Rng) -> Row:
    inputs = {"a": rng.standard_normal((2, 1, 3, 4)), "b": rng.standard_normal((5, 4, 2))}
    return Row("y = MatMul(a, b)", torch.matmul, inputs)


@_row("Einsum")
def einsum(rng: Rng) -> Row:
    inputs = {"a": rng.standard_normal((2, 3, 4)), "b": rng.standard_normal((4, 3, 5))}
    equation = ["bij,jik->bk", "bij,jik->kb", "bij,jlk->bilk", "bij,jik->bik"][int(rng.integers(4))]
    return Row(f'y = Einsum<equation="{equation}">(a, b)', lambda a, b: torch.einsum(equation, a, b), inputs)


@_row("BatchNormalization")
def batch_norm(rng: Rng) -> Row:
    inputs = {
        "x": rng.standard_normal((2, 3, 4, 5)), "s": rng.standard_normal(3), "b": rng.standard_normal(3),
        "m": rng.standard_normal(3), "v": rng.uniform(0.5, 2.0, 3),
    }  # fmt: skip

    def theirs(x: Any, s: Any, b: Any, m: Any, v: Any) -> torch.Tensor:
        across = (1, 3, 1, 1)
        return (x - m.view(across)) / torch.sqrt(v.view(across) + 1e-3) * s.view(across) + b.view(across)

    return Row("y = BatchNormalization<epsilon=0.001>(x, s, b, m, v)", theirs, inputs)


@_row("InstanceNormalization")
def instance_norm(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 3, 4, 5)), "s": rng.standard_normal(3), "b": rng.standard_normal(3)}
    text = "y = InstanceNormalization<epsilon=0.001>(x, s, b)"
    return Row(text, lambda x, s, b: functional.instance_norm(x, weight=s, bias=b, eps=1e-3), inputs)


@_row("LayerNormalization")
def layer_norm(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 3, 8)), "s": rng.standard_normal((3, 8)), "b": rng.standard_normal((3, 8))}
    text = "y = LayerNormalization<axis=1, epsilon=0.001>(x, s, b)"
    return Row(text, lambda x, s, b: functional.layer_norm(x, (3, 8), s, b, 1e-3), inputs)


@_row("LRN")
def lrn(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 7, 3, 3)) * 3}
    text = "y = LRN<alpha=0.2, beta=0.7, bias=1.5, size=5>(x)"
    return Row(text, lambda x: functional.local_response_norm(x, 5, 0.2, 0.7, 1.5), inputs)


@_row("GridSample")
def grid_sample(rng: Rng) -> Row:
    corners = int(rng.integers(2))
    mode, theirs = [("linear", "bilinear"), ("cubic", "bicubic")][int(rng.integers(2))]
    padding = ["zeros", "border", "reflection"][int(rng.integers(3))]
    text = f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={corners}>(x, g)'
    inputs = {"x": rng.standard_normal((2, 2, 5, 6)), "g": rng.uniform(-1.2, 1.2, (2, 3, 4, 2))}
    return Row(text, lambda x, g: functional.grid_sample(x, g, theirs, padding, bool(corners)), inputs)


@_row("AffineGrid")
def affine_grid(rng: Rng) -> Row:
    corners = int(rng.integers(2))
    text = f"y = AffineGrid<align_corners={corners}>(x, size)"
    inputs, size = {"x": rng.standard_normal((2, 2, 3))}, (2, 3, 4, 5)
    return Row(text, lambda x: functional.affine_grid(x, list(size), bool(corners)), inputs, {"size": np.array(size)})


@_row("Resize")
def resize(rng: Rng) -> Row:
    corners = bool(rng.integers(2))
    mode, theirs = [("linear", "bilinear"), ("cubic", "bicubic")][int(rng.integers(2))]
    place = "align_corners" if corners else "pytorch_half_pixel"
    size = (2, 3, *rng.integers(3, 12, 2).tolist())
    text = f'y = Resize<mode="{mode}", coordinate_transformation_mode="{place}", cubic_coeff_a=-0.75>(x, , , size)'
    inputs = {"x": rng.standard_normal((2, 3, 5, 6))}

    def function(x: Any) -> torch.Tensor:
        return functional.interpolate(x, size[2:], mode=theirs, align_corners=corners)

    return Row(text, function, inputs, {"size": np.array(size)})


@_row("Pad")
def pad(rng: Rng) -> Row:
    mode, theirs = [("constant", "constant"), ("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")][
        int(rng.integers(4))
    ]
    top, left, bottom, right = rng.integers(0, 3, 4).tolist()
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    inputs = {"x": rng.standard_normal((2, 2, 4, 5))}
    text = f'y = Pad<mode="{mode}">(x, pads)'
    return Row(text, lambda x: functional.pad(x, (left, right, top, bottom), theirs), inputs, {"pads": pads})


@_row("PRelu")
def prelu(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 3, 4)), "s": rng.standard_normal((3, 1))}
    return Row("y = PRelu(x, s)", lambda x, s: functional.prelu(x, s.reshape(3)), inputs)


@_row("CumSum")
def cumsum(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 3, 4))}
    return Row("y = CumSum(x, axis)", lambda x: x.cumsum(1), inputs, {"axis": np.array(1)})


@_row("GatherElements")
def gather_elements(rng: Rng) -> Row:
    at = rng.integers(0, 3, (2, 5, 4))
    inputs = {"x": rng.standard_normal((2, 3, 4))}
    return Row("y = GatherElements<axis=1>(x, at)", lambda x: x.gather(1, torch.tensor(at)), inputs, {"at": at})


@_row("ScatterElements")
def scatter_elements(rng: Rng) -> Row:
    at = rng.integers(0, 3, (2, 5, 4))
    how, theirs = [("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")][int(rng.integers(4))]
    inputs = {"x": rng.standard_normal((2, 3, 4)), "u": rng.standard_normal((2, 5, 4))}
    text = f'y = ScatterElements<axis=1, reduction="{how}">(x, at, u)'
    return Row(text, lambda x, u: x.scatter_reduce(1, torch.tensor(at), u, theirs), inputs, {"at": at})


@_row("Col2Im")
def col2im(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 12, 16))}
    text = "y = Col2Im<strides=[2, 1], pads=[1, 0, 1, 0]>(x, image, block)"
    sizes = {"image": np.array([6, 6]), "block": np.array([2, 3])}
    return Row(text, lambda x: functional.fold(x, (6, 6), (2, 3), stride=(2, 1), padding=(1, 0)), inputs, sizes)


@_row("Det")
def det(rng: Rng) -> Row:
    return Row("y = Det(x)", torch.det, {"x": rng.standard_normal((3, 4, 4))})


@_row("Where")
def where(rng: Rng) -> Row:
    mask = rng.random((3, 1)) > 0.5
    inputs = {"a": rng.standard_normal((2, 1, 4)), "b": rng.standard_normal((3, 4))}
    return Row("y = Where(mask, a, b)", lambda a, b: torch.where(torch.tensor(mask), a, b), inputs, {"mask": mask})


@_row("Pow")
def power(rng: Rng) -> Row:
    inputs = {"a": rng.uniform(0.3, 2.0, (2, 3)), "b": rng.standard_normal((4, 1, 3))}
    return Row("y = Pow(a, b)", torch.pow, inputs)


@_row("LSTM")
def lstm(rng: Rng) -> Row:
    size, width = 4, 3
    both = bool(rng.integers(2))
    directions = 1 + both
    inputs = {
        "x": rng.standard_normal((5, 2, width)),
        "w": rng.standard_normal((directions, 4 * size, width)),
        "r": rng.standard_normal((directions, 4 * size, size)),
        "b": rng.standard_normal((directions, 8 * size)),
    }
    order = [0, 2, 3, 1]  # ours: input, output, forget, cell; PyTorch's: input, forget, cell, output

    def theirs(x: Any, w: Any, r: Any, b: Any) -> torch.Tensor:
        flat = []
        for d in range(directions):
            turned = [v.reshape(4, size, -1)[order].reshape(4 * size, -1) for v in (w[d], r[d])]
            halves = [v.reshape(4, size)[order].reshape(-1) for v in (b[d, : 4 * size], b[d, 4 * size :])]
            flat += [*turned, *halves]
        zeros = torch.zeros(directions, 2, size, dtype=x.dtype)
        y = torch.lstm(x, (zeros, zeros), flat, True, 1, 0.0, False, both, False)[0]
        return y.reshape(5, 2, directions, size).transpose(1, 2)

    way = "bidirectional" if both else "forward"
    return Row(f'y = LSTM<hidden_size={size}, direction="{way}">(x, w, r, b)', theirs, inputs)


@_row("GRU")
def gru(rng: Rng) -> Row:
    size, width = 4, 3
    inputs = {
        "x": rng.standard_normal((5, 2, width)),
        "w": rng.standard_normal((1, 3 * size, width)),
        "r": rng.standard_normal((1, 3 * size, size)),
        "b": rng.standard_normal((1, 6 * size)),
    }
    order = [1, 0, 2]  # ours: update, reset, hidden; PyTorch's: reset, update, new

    def theirs(x: Any, w: Any, r: Any, b: Any) -> torch.Tensor:
        turned = [v.reshape(3, size, -1)[order].reshape(3 * size, -1) for v in (w[0], r[0])]
        halves = [v.reshape(3, size)[order].reshape(-1) for v in (b[0, : 3 * size], b[0, 3 * size :])]
        zeros = torch.zeros(1, 2, size, dtype=x.dtype)
        return torch.gru(x, zeros, [*turned, *halves], True, 1, 0.0, False, False, False)[0].unsqueeze(1)

    return Row(f"y = GRU<hidden_size={size}, linear_before_reset=1>(x, w, r, b)", theirs, inputs)


@_row("NegativeLogLikelihoodLoss")
def nll(rng: Rng) -> Row:
    target, weight = rng.integers(0, 4, (3, 5)), rng.uniform(0.5, 2.0, 4)
    how = ["mean", "sum", "none"][int(rng.integers(3))]
    text = f'y = NegativeLogLikelihoodLoss<reduction="{how}">(x, t, w)'
    inputs = {"x": rng.standard_normal((3, 4, 5))}
    constants: dict[str, Any] = {"t": target, "w": weight.astype(np.float32)}
    weights = torch.tensor(weight.astype(np.float32).astype(np.float64))
    return Row(text, lambda x: functional.nll_loss(x, torch.tensor(target), weights, reduction=how), inputs, constants)


@_row("STFT")
def stft(rng: Rng) -> Row:
    inputs = {"x": rng.standard_normal((2, 30)), "w": rng.uniform(0.5, 1.0, 8)}
    text = "s = Unsqueeze(x, last) y = STFT<onesided=1>(s, hop, w)"
    constants = {"hop": np.array(3), "last": np.array([2])}

    def theirs(x: Any, w: Any) -> torch.Tensor:
        found = torch.stft(x, 8, 3, 8, w, center=False, onesided=True, return_complex=True)
        return torch.view_as_real(found).transpose(1, 2)

    return Row(text, theirs, inputs, constants)


def page(found: dict[str, tuple[float, float]]) -> str:
    """Return docs/conformance-pytorch.md."""
    lines = [
        "# The rules beside PyTorch",
        "",
        "`python -m tools.conformance.pytorch --write` makes this page. Each operator has random attributes and",
        f"inputs, {SEEDS} times; the gradient with respect to every floating-point input, in ONNX Runtime's float32,",
        f"stands beside autograd's (PyTorch {torch.__version__.split('+')[0]}, float64) for the same random cotangent.",
        "The worst of these runs, relative to the largest entry:",
        "",
        "| operator | output | gradient |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {output:.0e} | {grad:.0e} |" for name, (output, grad) in sorted(found.items())]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare all, and print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance.pytorch")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args(arguments)
    found = {}
    for name, row in ROWS.items():
        pairs = [compare(row(np.random.default_rng(seed)), seed) for seed in range(SEEDS)]
        found[name] = max(a for a, _ in pairs), max(b for _, b in pairs)
        print(f"{name:26} {found[name][0]:.1e} {found[name][1]:.1e}")
    if options.write:
        files.write(PAGE, page(found).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
