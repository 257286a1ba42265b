"""How large a model may be: long chains, nested bodies, weights of which there is not room for many copies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import autodiff
from tests.running import run

WEIGHTS = 160  # megabytes
PEAK = """
import sys
import onnx
from cam_onnx import autodiff, convert
from cam_onnx.graph.convert import convert

def peak():  # not ru_maxrss: it begins with what the process that started this one had
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

before = peak()
{call}
print(peak() - before)
"""
GRADIENT = "autodiff.gradient(sys.argv[1], ['x'], ['y'])"
CONVERT = "convert(sys.argv[1], layers='x').save(sys.argv[1] + '.cam')"
# times the file: while it is parsed its bytes and the message, later the message and the result
CALLS = {"gradient": (GRADIENT, 2.15), "convert": (CONVERT, 1.25)}


def wide(path: Path, external: bool) -> None:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (float[1,4,16,16] x) => (float[1,10] y) {
        r = Relu(x) f = Flatten(r) h = MatMul(f, a) y = MatMul(h, b) }"""
    )
    count = WEIGHTS * 2**20 // 4 // 1034
    for name, shape in {"a": (1024, count), "b": (count, 10)}.items():
        content = rng.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(content, name))
    onnx.save(model, path, save_as_external_data=external, location="weights")


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
@pytest.mark.parametrize("external", [False, True], ids=["within", "beside"])
@pytest.mark.parametrize("call", CALLS)
def test_a_model_is_converted_in_the_memory_of_its_file(call, external, tmp_path):
    """Its weights stay in the file's bytes; those beside it are not read.

    Resident memory of a process of its own, since protobuf's is not Python's.
    """
    path = tmp_path / "m.onnx"
    wide(path, external)
    program, most = CALLS[call]
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(call=program), path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < (0.2 if external else most) * WEIGHTS


def test_a_chain_of_10000_nodes():
    count, operators = 10_000, ("Tanh", "Neg")
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [onnx.helper.make_node(operators[i % 2], [names[i]], [names[i + 1]]) for i in range(count)]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "chain", [value("x", 1, ["N"])], [value("y", 1, ["N"])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    added = autodiff.gradient(model, ["x"], ["y"])
    x = np.array([0.5, -1.0], np.float32)
    y, grad = run(added, {"x": x, "cotangent/y": np.ones(2, np.float32)}, optimised=False)
    h, expected = x.astype(float), np.ones(2)
    for node in nodes:
        if node.op_type == "Tanh":
            h, slope = np.tanh(h), 1 - np.tanh(h) ** 2
        else:
            h, slope = -h, -1.0
        expected = expected * slope
    np.testing.assert_allclose(y, h, rtol=1e-3)
    np.testing.assert_allclose(grad, expected, rtol=2e-2, atol=1e-30)


def test_an_if_in_a_loop_in_a_function_of_a_function():
    """Every other iteration squares, the others add x; called twice, one call within the other."""
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (float[3] x, int64 n) => (float[3] y) { a = local.Outer(x, n) y = Mul(a, x) }
    <domain: "local", opset_import: ["": 17, "local": 1]> Outer (a, n) => (b) { c = local.F(a, n) b = local.F(c, n) }
    <domain: "local", opset_import: ["": 17]> F (a, n) => (b) {
        on = Constant<value = bool {1}>()
        two = Constant<value = int64 {2}>()
        none = Constant<value = int64 {0}>()
        b = Loop<body = l (int64 i, bool c, float[3] h) => (bool c1, float[3] h1) {
            c1 = Identity(c)
            m = Mod(i, two)
            even = Equal(m, none)
            h1 = If<then_branch = t () => (float[3] p) { p = Mul(h, h) },
                    else_branch = e () => (float[3] q) { q = Add(h, a) }>(even) }>(n, on, a) }"""
    model = onnx.parser.parse_model(text)
    x = np.array([0.5, -0.7, 0.3], np.float32)

    def once(x):
        h = x
        for i in range(3):
            h = h * h if i % 2 == 0 else h + x
        return h

    def value(x):
        return once(once(x)) * x

    added = autodiff.gradient(model, ["x"], ["y"])
    feeds = {"x": x, "n": np.array(3), "cotangent/y": np.ones(3, np.float32)}
    y, grad = run(added, feeds, ["y", "grad/x"])
    exact = x.astype(float)
    np.testing.assert_allclose(y, value(exact), rtol=1e-5)
    np.testing.assert_allclose(grad, (value(exact + 1e-6) - value(exact - 1e-6)) / 2e-6, rtol=1e-4)
