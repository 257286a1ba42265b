"""Sizes that a graph computes are followed, symbols beside numbers, and are what a run gives."""

from __future__ import annotations

import re
from unittest.mock import Mock

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import autodiff
from cam_onnx.autodiff.model import load
from tests.running import run

N, H = "n = Gather(s, c0)", "h = Gather(s, c3)"

# from x, (N, 6, 4, H), and its Shape s to y -> y's shape. c2_m1 is the constant [2, -1]
FOUND = {
    "kept, beside the rest": (f"{N} k = Concat<axis=0>(n, c6_4, cm1) y = Reshape(x, k)", ["N", 6, 4, "H"]),
    "the rest is a symbol": (f"{N} k = Concat<axis=0>(n, c24, cm1) y = Reshape(x, k)", ["N", 24, "H"]),
    "the rest is a number": (f"{N} {H} k = Concat<axis=0>(n, cm1, h) y = Reshape(x, k)", ["N", 24, "H"]),
    "the rest comes first": (f"{H} k = Concat<axis=0>(cm1, c24, h) y = Reshape(x, k)", ["N", 24, "H"]),
    "several at once": ("b = Slice(s, c0, c2, c0) k = Concat<axis=0>(b, cm1, c2) y = Reshape(x, k)", ["N", 6, None, 2]),
    "a zero copies": ("y = Reshape(x, c0_6_2_2_m1)", ["N", 6, 2, 2, "H"]),
    "a scalar on the way": (
        f"{N} q = Squeeze(n, c0) u = Unsqueeze(q, c0) k = Concat<axis=0>(u, c24, cm1) y = Reshape(x, k)",
        ["N", 24, "H"],
    ),
    "arithmetic": (
        f"""{N} c = Gather(s, c1) d = Mul(c, c2) e = Div(d, c3) f = Sub(e, c0) g = Add(f, c20)
        k = Concat<axis=0>(n, g, cm1) y = Reshape(x, k)""",
        ["N", 24, "H"],
    ),
    "arithmetic of a symbol: nothing but the neutral element": (
        f"{N} m = Mul(n, c1) o = Add(n, c1) k = Concat<axis=0>(m, o, c1) y = Expand(one, k)",
        ["N", None, 1],
    ),
    "expanded as the older exporter does": (
        f"""{N} k = Concat<axis=0>(n, cm1, cm1) l = Shape(k) ones = ConstantOfShape<value = int64[1] {{1}}>(l)
        minus = Mul(ones, cm1) same = Equal(k, minus) w = Where(same, ones, k) y = Expand(row, w)""",
        ["N", 1, 5],
    ),
    "expanded beside what it has": (f"{N} k = Concat<axis=0>(n, c4_1) y = Expand(row, k)", ["N", 4, 5]),
    "cut at a computed end": ("c = Gather(s, c2) d = Div(c, c2) y = Slice(x, c0, d, c2, c1)", ["N", 6, 2, "H"]),
    "the last axis in two, counted by Mod": (
        """m = Mod(c2, c4) b = Slice(s, c0, m) a = Add(m, c1) r = Slice(s, a, c99)
        k = Concat<axis=0>(b, c2_2, r) y = Reshape(x, k)""",
        ["N", 6, 2, 2, "H"],
    ),
    "cut at its own length": (f"{H} y = Slice(x, c0, h, c3)", ["N", 6, 4, "H"]),
    "cut at half of what is not known": (f"{H} d = Div(h, c2) y = Slice(x, c0, d, c3)", ["N", 6, 4, None]),
    "carried on by inference": (
        f"""{N} k = Concat<axis=0>(n, c24, cm1) r = Reshape(x, k) t = Transpose<perm=[0,2,1]>(r)
        y = Concat<axis=2>(t, t)""",
        ["N", "H", 48],
    ),
    "one leads to the next": (
        f"""{N} k = Concat<axis=0>(n, c24, cm1) r = Reshape(x, k) e = Shape(r) b = Slice(e, c0, c2, c0)
        m = Concat<axis=0>(b, c2, cm1) y = Reshape(r, m)""",
        ["N", 24, 2, None],
    ),
    "padded as the older exporter does": (
        """c = Gather(s, c2) m = Mod(c, c6) e = Sub(c6, m) d = Mod(e, c6)
        z = ConstantOfShape<value = int64[1] {0}>(c2) p = Concat<axis=0>(c0_0_0, d, c1_0, z)
        q = Reshape(p, cm1_2) r = Slice(q, cm1, cm9999, c0, cm1) t = Transpose<perm=[1,0]>(r)
        k = Reshape(t, cm1) y = Pad(x, k)""",
        ["N", 7, 6, "H"],
    ),
    "padded by what is not known": (
        f"{H} z = ConstantOfShape<value = int64[1] {{0}}>(c7) k = Concat<axis=0>(z, h) y = Pad(x, k)",
        ["N", 6, 4, None],
    ),
    "in parts": (
        "a, b, c, d = Split<axis=0, num_outputs=4>(s) k = Concat<axis=0>(a, cm1, d) y = Reshape(x, k)",
        ["N", 24, "H"],
    ),
    "parts of given sizes": (
        "a, b = Split<axis=0>(s, c1_3) k = Concat<axis=0>(a, c24, cm1) y = Reshape(x, k)",
        ["N", 24, "H"],
    ),
    "by a branch that is always taken": (
        """q = Size(row) p = Equal(q, c5) k = If (p) <then_branch = t () => (int64[3] u) { u = Identity(c0_24_m1) },
        else_branch = e () => (int64[2] v) { v = Identity(c0_m1) }> y = Reshape(x, k)""",
        ["N", 24, "H"],
    ),
    "in a branch that is always taken": (
        """q = Size(row) p = Equal(q, c4) r = If (p) <then_branch = t () => (float[a] u) { u = Flatten(x) },
        else_branch = e () => (float[a, b, c] v) { v = Reshape(x, c0_24_m1) }> y = Relu(r)""",
        ["N", 24, None],
    ),
    "one list of all samples' entries, apart again": (
        f"""{H} k = Concat<axis=0>(cm1, c4, h) r = Reshape(x, k) e = Relu(r) l = Concat<axis=0>(cm1, c6_4, h)
        y = Reshape(e, l)""",
        ["N", 6, 4, "H"],
    ),
    "two symbols multiply": ("y = Reshape(x, cm1_24)", [None, 24]),
    "it depends on values": (
        """m = ReduceMax<keepdims=0>(x) i = Cast<to=7>(m) z = Mul(i, c0) a = Add(z, c24)
        k = Concat<axis=0>(cm1, a) y = Reshape(x, k)""",
        [None, None],
    ),
}  # fmt: skip


def network(text: str) -> onnx.ModelProto:
    rank = max((len(FOUND[row][1]) for row in FOUND if FOUND[row][0] == text), default=3)
    declared = ",".join(f"d{i}" for i in range(rank))
    model: onnx.ModelProto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (float[N,6,4,H] x) => (float[{declared}] out) '
        f"{{ s = Shape(x) {text} out = Neg(y) }}"
    )
    weights = {"one": np.ones((1, 1, 1), "f4"), "row": np.ones((1, 1, 5), "f4")}
    weights |= {word: np.array([int(e.replace("m", "-")) for e in word[1:].split("_")])
                for word in set(re.findall(r"\bc(?:_?m?\d+)+\b", text))}  # fmt: skip
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


@pytest.mark.parametrize("row", FOUND)
def test_what_is_found_is_what_a_run_gives(row):
    text, expected = FOUND[row]
    model = network(text)
    found = [d if isinstance(d, int) else d.value for d in load(model).values["y"].shape]
    assert [None if isinstance(d, str) and d not in ("N", "H") else d for d in found] == expected
    for batch, width in ((1, 2), (3, 8)):
        x = np.random.default_rng(0).standard_normal((batch, 6, 4, width)).astype(np.float32)
        [y] = run(model, {"x": x}, ["out"])
        meant = [{"N": batch, "H": width}.get(d, d) for d in expected]
        assert all(size is None or size == actual for size, actual in zip(meant, y.shape, strict=True))


@pytest.mark.parametrize("row", [row for row in FOUND if "branch" in row])
def test_an_if_that_always_takes_one_branch_is_differentiated_as_that_one(row):
    added = autodiff.gradient(network(FOUND[row][0]), ["x"], ["out"])
    assert [node.op_type for node in added.graph.node].count("If") == 1
    x = np.random.default_rng(0).standard_normal((2, 6, 4, 3)).astype(np.float32)
    [gradient] = run(added, {"x": x, "cotangent/out": np.ones((2, 24, 3), np.float32)}, ["grad/x"])
    assert np.array_equal(gradient, -(x > 0).astype("f4") if "Relu" in FOUND[row][0] else -np.ones_like(x))


def test_a_batch_that_a_tool_lost_is_found():
    """Tools that infer shapes leave names of their own in the file, one for every loss of the batch."""
    model = network(
        "n = Gather(s, c0) t = Transpose<perm=[0,2,1,3]>(x) k = Concat<axis=0>(n, c24, cm1) y = Reshape(t, k)"
    )
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("t", 1, ["unk__7", 4, 6, "H"]))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("y", 1, ["unk__8", 24, "unk__9"]))
    assert [d if isinstance(d, int) else d.value for d in load(model).values["y"].shape] == ["N", 24, "H"]


def test_the_users_file_is_not_touched():
    model = network(FOUND["one leads to the next"][0])
    before = model.SerializeToString(deterministic=True)
    load(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_chain_of_sizes_costs_a_bounded_number_of_inferences(monkeypatch):
    """Each is known only when inference has added up what became of the one before."""
    links = " ".join(
        f"""a{i} = Concat<axis=1>(r{i}, r{i}) e{i} = Shape(a{i}) n{i} = Gather(e{i}, c0)
        k{i} = Concat<axis=0>(n{i}, rest, c5) r{i + 1} = Reshape(a{i}, k{i})"""
        for i in range(80)
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> g (float[N,20] x) => (float[p,q,r] out)
        {{ s = Shape(x) n = Gather(s, c0) k = Concat<axis=0>(n, rest, c5) r0 = Reshape(x, k) {links}
        out = Neg(r80) }}"""
    )
    weights = {"rest": np.array([-1]), "c0": np.array([0]), "c5": np.array([5])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    inference = Mock(wraps=onnx.shape_inference.infer_shapes)
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", inference)
    values = load(model).values
    assert [str(d) for d in values["r3"].shape] == ["N", "32", "5"]
    assert 1 < inference.call_count <= 66
