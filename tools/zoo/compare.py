"""One network: our gradients in ONNX Runtime beside autograd's, in float64 and in its own float32.

The inner value is found by content: what a module in the middle gives is looked for among the graph's values.
One ReLU or MaxPool gate that float32 flips costs 1e-3 to 1e-1 of a sample's gradient, in PyTorch's own float32 too;
so a network agrees when (a) its best sample is within 1e-4, or (b) its median sample is within three times
PyTorch's own float32-to-float64 difference of the same sample, and its median cosine above 0.98.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from benchmarks.counts import added
from cam_onnx.autodiff import gradient
from tools.zoo.export import export, make, pictures
from tools.zoo.networks import Network

__all__ = ["compare"]

UNDERFLOW = 1e-10  # a reference gradient below that says nothing
Array = np.ndarray[Any, np.dtype[Any]]


def compare(network: Network) -> dict[str, Any]:
    """Return the row of the table."""
    model = make(network)
    x = pictures(model, network)
    single = _autograd(model, x)
    inner = single["names"]
    data = export(model, network, x)
    del model
    # all modules run once more in float64
    exact = _autograd(make(network).double(), x.double(), only=inner)
    proto = onnx.load_from_string(data)
    found = _match(proto, x.numpy(), {name: single["values"][name] for name in inner})
    row: dict[str, Any] = {"network": network.name, "opset": _opset(proto), "nodes": len(proto.graph.node)}
    row["size"] = "x".join(map(str, x.shape[2:]))
    row["operators"] = dict(Counter(node.op_type for node in proto.graph.node).most_common())
    source = proto.graph.input[0].name
    wrt, names = [source], ["input"]
    if found is not None:
        wrt.append(found[1])
        names.append(found[0])
    started = time.perf_counter()
    converted = gradient(proto, wrt=wrt, of=[proto.graph.output[0].name])
    row["seconds"] = round(time.perf_counter() - started, 2)
    row |= added(proto, converted)
    seeds = {"single": single["seed"], "exact": exact["seed"]}
    outputs = _run(converted, x.numpy(), seeds["single"])
    row["forward"] = _relative(outputs[0], exact["output"]).max().item()
    row["batch"] = "dynamic" if not _fixed(proto) else "1"
    for label, name, ours in zip(("input", "inner"), names, outputs[len(proto.graph.output) :], strict=False):
        row[label] = _judge(ours, single["gradients"][name], exact["gradients"][name])
        row[label]["value"] = wrt[names.index(name)]
    row["cost"] = _cost(proto, converted, x.numpy(), seeds["single"])
    return row


def _autograd(model: nn.Module, x: torch.Tensor, only: list[str] | None = None) -> dict[str, Any]:
    """Return output, seed, and the gradients with respect to the input and what some modules in the middle give."""
    kept: dict[str, torch.Tensor] = {}
    values: dict[str, Array] = {}
    grads: dict[str, Array] = {}
    calls: Counter[str] = Counter()

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim >= 3 and output.is_floating_point():
                calls[name] += 1
                if output.requires_grad:
                    kept[name] = output
                    # registered now: a later operation in place has a gradient of its own
                    output.register_hook(lambda g: grads.__setitem__(name, g.detach().numpy().copy()))
                    values[name] = output.detach().numpy().copy()

        return hook

    modules = {name: m for name, m in model.named_modules() if name}
    chosen = only if only is not None else _middle(model, modules, x)
    handles = [modules[name].register_forward_hook(watch(name)) for name in chosen]
    x = x.clone().requires_grad_()
    output = model(x)
    output = output[0] if isinstance(output, tuple) else output
    weights = torch.randn(output.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seed = (weights / weights.norm()).to(output.dtype).expand(output.shape)
    output.backward(seed)
    for handle in handles:
        handle.remove()
    assert x.grad is not None
    grads["input"] = x.grad.numpy()
    names = [name for name in chosen if calls[name] == 1 and name in grads]
    return {
        "output": output.detach().numpy(),
        "seed": seed.numpy().astype(np.float32),
        "gradients": grads,
        "values": values,
        "names": names,
    }


def _middle(model: nn.Module, modules: dict[str, nn.Module], x: torch.Tensor) -> list[str]:
    """Return some modules about two thirds on the way, in the order in which they run."""
    order: list[str] = []
    handles = [m.register_forward_hook(lambda *_, name=name: order.append(name)) for name, m in modules.items()]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    once = [name for name in order if order.count(name) == 1]
    middle = len(once) * 2 // 3
    return once[max(0, middle - 12) : middle + 12]


def _match(proto: onnx.ModelProto, x: Array, values: dict[str, Array]) -> tuple[str, str] | None:
    """Return (module, value of the graph) of the same content, one that no other value has if there is such."""
    count = 1 if _fixed(proto) else len(x)
    inferred = onnx.shape_inference.infer_shapes(proto)
    known = {v.name: v.type.tensor_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    given = [y for node in proto.graph.node for y in node.output if y]
    wanted = {v.shape[1:] for v in values.values()}
    candidates = [
        name
        for name in given
        if name in known
        and known[name].elem_type == onnx.TensorProto.FLOAT
        and tuple(d.dim_value for d in known[name].shape.dim)[1:] in wanted
    ]
    if not candidates:
        return None
    exposed = onnx.ModelProto()
    exposed.CopyFrom(proto)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in candidates)
    outputs = _session(exposed).run(None, {proto.graph.input[0].name: x[:count]})
    several = None
    for module, value in values.items():
        value = value[: len(value) * count // len(x)]  # samples may share an axis with windows
        near = {
            name: np.abs(found - value).max() / np.abs(value).max()
            for name, found in zip(candidates, outputs, strict=True)
            if found.shape == value.shape and found.ndim >= 3
        }
        if near and min(near.values()) < 1e-2:  # deep down float32 may differ by that much
            best = min(near, key=lambda name: near[name])
            if sum(distance < 1e-4 for distance in near.values()) < 2:
                return module, best
            several = several or (module, best)
    return several


def _run(converted: onnx.ModelProto, x: Array, seed: Array) -> list[Array]:
    session = _session(converted)
    names = [i.name for i in session.get_inputs()]
    if not _fixed(converted):
        outputs: list[Array] = session.run(None, {names[0]: x, names[1]: seed})
        return outputs
    parts = [session.run(None, {names[0]: x[i : i + 1], names[1]: seed[i : i + 1]}) for i in range(len(x))]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _session(proto: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _fixed(proto: onnx.ModelProto) -> bool:
    return bool(proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value)


def _opset(proto: onnx.ModelProto) -> int:
    return int(next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")))


def _relative(ours: Array, reference: Array) -> Array:
    """Return the relative error of each sample."""
    a, b = ours.reshape(len(ours), -1).astype(np.float64), reference.reshape(len(ours), -1).astype(np.float64)
    error: Array = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    return error


def _judge(ours: Array, single: Array, exact: Array) -> dict[str, Any]:
    if np.abs(exact).max() < UNDERFLOW:
        raise ArithmeticError(f"the reference gradient is at most {np.abs(exact).max():.1e}: nothing can be compared")
    error, own = _relative(ours, exact), _relative(single, exact)
    a, b = ours.reshape(len(ours), -1).astype(np.float64), exact.reshape(len(ours), -1)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    best, middle = float(error.min()), float(np.median(cosine))
    within = statistics.median(e / max(o, 1e-7) for e, o in zip(error, own, strict=True))
    clause = "a" if best <= 1e-4 else "b" if within <= 3 and middle > 0.98 else ""
    return {
        "best": best,
        "median": float(np.median(error)),
        "torch": float(np.median(own)),
        "ratio": within,
        "cosine": middle,
        "clause": clause,
    }


def _cost(proto: onnx.ModelProto, converted: onnx.ModelProto, x: Array, seed: Array, rounds: int = 5) -> float:
    """Return the converted model's time over the plain one's at batch 1: the median of pairs."""
    plain, ours = _session(proto), _session(converted)
    names = [i.name for i in ours.get_inputs()]
    feeds = {names[0]: x[:1], names[1]: seed[:1]}
    ratios = []
    for i in range(rounds + 1):
        started = time.perf_counter()
        plain.run(None, {names[0]: x[:1]})
        between = time.perf_counter()
        ours.run(None, feeds)
        if i:
            ratios.append((time.perf_counter() - between) / (between - started))
    return round(statistics.median(ratios), 2)
