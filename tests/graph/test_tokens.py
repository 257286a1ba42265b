"""Transformers: tokens are found and laid out on their grid, and a picture's place is the map's."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import cam_onnx
from cam_onnx.autodiff.model import load
from cam_onnx.contract import Axes, Tokens
from cam_onnx.graph.roles import axes_of, follow
from models.builders import BUILDERS, inputs

TRANSFORMERS = {  # network -> first, grid, the picture's height and width
    "vit_class": (1, (4, 4), (16, 16)),
    "vit_registers": (3, (4, 6), (16, 24)),
    "vit_mean": (0, (4, 4), (16, 16)),
    "vit_any_size": (1, (None, None), (12, 28)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_contract_says_where_the_grid_stands_in_the_list(name):
    first, grid, _ = TRANSFORMERS[name]
    [layer] = cam_onnx.convert(BUILDERS[name]()).contract.layers
    assert layer.axes == Axes(0, 2, (1,), Tokens(first, grid))


def without_places(name: str) -> onnx.ModelProto:
    """The network without position embeddings: patches that change places change nothing but their places."""
    model = BUILDERS[name]()
    for tensor in model.graph.initializer:
        if tensor.name == "where":
            tensor.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(tensor), "where"))
    return model


def rearranged(pictures: np.ndarray, order: np.ndarray, patch: int) -> np.ndarray:
    """Patch `order[i]` stands at place i of the grid, which is counted row by row."""
    *rest, height, width = pictures.shape
    rows, columns = height // patch, width // patch
    cells = pictures.reshape(*rest, rows, patch, columns, patch).swapaxes(-3, -2).reshape(*rest, -1, patch, patch)
    moved = cells[..., order, :, :].reshape(*rest, rows, columns, patch, patch)
    return moved.swapaxes(-3, -2).reshape(pictures.shape)


@pytest.mark.parametrize("method", ["grad-cam", "hirescam", "eigen-cam", "ablation-cam", "recipro-cam", "shapley-cam"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_patch_that_moves_moves_in_the_map(name, method):
    size = TRANSFORMERS[name][2]
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((1, 3, *size)).astype(np.float32)
    order = rng.permutation(size[0] // 4 * (size[1] // 4))
    explainer = cam_onnx.Explainer(without_places(name), method=method)
    here, there = (
        explainer.explain(inputs={"image": each}, target=2) for each in (picture, rearranged(picture, order, 4))
    )
    assert here.saliency.shape[1:] == (size[0] // 4, size[1] // 4)
    assert here.saliency.std() > 1e-2 * np.abs(here.saliency).max() > 0
    np.testing.assert_allclose(there.activations, rearranged(here.activations, order, 1), rtol=1e-4, atol=1e-5)
    expected = rearranged(here.saliency, order, 1)
    np.testing.assert_allclose(there.saliency, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert np.shape(here.saliency_map) == (1, *size)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_a_patch_shows_is_read_at_its_place(name):
    """Where no attention lies before the layer, nothing else changes."""
    size = TRANSFORMERS[name][2]
    rows, columns = size[0] // 4, size[1] // 4
    pictures = np.zeros((rows * columns + 1, 3, *size), np.float32)
    for at in range(rows * columns):
        y, x = divmod(at, columns)
        pictures[at, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 1
    found = cam_onnx.Explainer(BUILDERS[name](), layers="x0").explain(inputs={"image": pictures}, target=2)
    changed = (found.activations[:-1] != found.activations[-1]).any(axis=1)
    np.testing.assert_array_equal(changed.reshape(rows * columns, -1), np.eye(rows * columns, dtype=bool))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_several_targets_of_one_picture_are_those_of_single_runs(name):
    _, _, size = TRANSFORMERS[name]
    x = np.random.default_rng(1).standard_normal((2, 3, *size)).astype(np.float32)
    explainer = cam_onnx.Explainer(BUILDERS[name]())
    several = explainer.explain(inputs={"image": x}, target=[[0, 3], [1]])
    for at, (sample, target) in enumerate([(0, 0), (0, 3), (1, 1)]):
        alone = explainer.explain(inputs={"image": x[sample : sample + 1]}, target=target)
        np.testing.assert_allclose(several.gradients[at], alone.gradients[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(several.saliency[at], alone.saliency[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_gradient_at_the_default_layer_is_verified_and_not_zero(name):
    explainer = cam_onnx.Explainer(BUILDERS[name]())
    x = inputs(BUILDERS[name](), batch=1)
    found = explainer.verify(inputs=x)
    assert found.ok, found.sentences()
    assert (np.abs(explainer.explain(inputs=x).gradients).max(axis=(0, 1)) > 1e-6).all()


def test_a_converted_file_needs_no_options():
    data = cam_onnx.convert(BUILDERS["vit_registers"]()).to_bytes()
    x = inputs(BUILDERS["vit_registers"]())
    plain, converted = (cam_onnx.Explainer(m).explain(inputs=x) for m in (BUILDERS["vit_registers"](), data))
    np.testing.assert_array_equal(plain.saliency, converted.saliency)


def test_behind_the_last_attention_a_class_token_leaves_the_grid_nothing():
    found = cam_onnx.Explainer(BUILDERS["vit_class"](), layers="x2").explain(inputs=inputs(BUILDERS["vit_class"]()))
    assert not found.gradients.any()
    assert all(reason is not None for reason in found.reasons)


def test_any_named_list_of_tokens_is_a_layer():
    model = BUILDERS["vit_class"]()
    listed = (0, 2, (1,))
    places = {"positions": (*listed, 0), "columns": (0, 1, (2,), 0), "tokens": (*listed, 1), "x1": (*listed, 1)}
    for name, (batch, channel, spatial, first) in places.items():
        [layer] = cam_onnx.convert(model, layers=name).contract.layers
        assert layer.axes == Axes(batch, channel, spatial, Tokens(first, (4, 4))), name
    with pytest.raises(cam_onnx.LayerNotFound, match="class_token"):
        cam_onnx.convert(model, layers="class_token")
    with pytest.raises(cam_onnx.LayerNotFound, match="not known to have spatial axes"):
        cam_onnx.convert(model, layers="dots_0")


def tokens_of(nodes: str, name: str = "y", signature: str = "float[N,6,4,5] x", **weights: np.ndarray):
    """Axes of a value behind `t`, (N, 20, 6): the positions of x as a list."""
    text = f"""<ir_version: 8, opset_import: ["": 18]> g ({signature}) => (float[N,?] out) {{
        f = Reshape(x, listed) t = Transpose<perm=[0,2,1]>(f) {nodes} out = Flatten(y) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 6, -1]), "listed"))
    for key, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), key))
    loaded = load(model)
    return axes_of(follow(loaded.graph).get(loaded.values[name], ()))


def at(first: int, batch: int = 0, channel: int = 2, spatial: int = 1) -> Axes:
    return Axes(batch, channel, (spatial,), Tokens(first, (4, 5)))


ONE, TWO = np.zeros((1, 1, 6), "f4"), np.zeros((1, 2, 6), "f4")
SQUARE = np.eye(6, dtype="f4")
ints = np.array

# what becomes of the list of 20 -> its axes, None where the grid's order is lost or not certain
FATES = {
    "kept": (("y = Relu(t)", {}), at(0)),
    "transposed": (("y = Transpose<perm=[1,2,0]>(t)", {}), at(0, 2, 1, 0)),
    "one before": (("y = Concat<axis=1>(a, t)", dict(a=ONE)), at(1)),
    "two operands before": (("y = Concat<axis=-2>(a, b, t)", dict(a=ONE, b=TWO)), at(3)),
    "some behind": (("y = Concat<axis=1>(a, t, b)", dict(a=ONE, b=TWO)), at(1)),
    "twice": (("y = Concat<axis=1>(t, t)", {}), None),
    "beside": (("y = Concat<axis=2>(t, t)", {}), at(0)),
    "cut off again": (
        ("c = Concat<axis=1>(b, t) y = Slice(c, s, e, s)", dict(b=TWO, s=ints([1]), e=ints([2**63 - 1]))),
        at(1),
    ),
    "cut in the grid": (("y = Slice(t, s, e, s)", dict(s=ints([1]), e=ints([2**63 - 1]))), None),
    "cut short": (("y = Slice(t, z, e, s)", dict(z=ints([0]), s=ints([1]), e=ints([19]))), None),
    "counted from the end": (("y = Slice(t, z, e, s)", dict(z=ints([-20]), s=ints([1]), e=ints([20]))), at(0)),
    "counted from the end, the grid alone": (
        ("c = Concat<axis=1>(b, t) y = Slice(c, z, e, s)",
         dict(b=TWO, z=ints([-20]), s=ints([1]), e=ints([2**63 - 1]))),
        at(0),
    ),
    "what stands beside the grid": (
        ("c = Concat<axis=1>(t, b) y = Slice(c, z, e, s)",
         dict(b=TWO, z=ints([-2]), s=ints([1]), e=ints([2**63 - 1]))),
        None,
    ),
    "cut apart, and put together again": (  # as XCiT's class attention does
        ("c = Concat<axis=1>(a, t) k = Slice(c, z, s, s) p = Slice(c, s, e, s) m = Mul(k, k) y = Concat<axis=1>(m, p)",
         dict(a=ONE, z=ints([0]), s=ints([1]), e=ints([2**63 - 1]))),
        at(1),
    ),
    "every second": (
        ("y = Slice(t, z, e, s, k)", dict(z=ints([0]), e=ints([20]), s=ints([1]), k=ints([2]))),
        None,
    ),
    "channels cut": (("y = Slice(t, z, k, k)", dict(z=ints([0]), k=ints([2]))), at(0)),
    "split": (("c = Concat<axis=1>(b, t) a, y = Split<axis=1>(c, k)", dict(b=TWO, k=ints([1, 21]))), at(1)),
    "split in the grid": (("a, y = Split<axis=1>(t, k)", dict(k=ints([4, 16]))), None),
    "reordered": (("y = Gather<axis=1>(t, i)", dict(i=np.arange(20)[::-1].copy())), None),
    "channels reordered": (("y = Gather<axis=2>(t, i)", dict(i=np.arange(6))), at(0)),
    "padded": (("y = Pad(t, p)", dict(p=ints([0, 1, 0, 0, 0, 0]))), None),
    "averaged": (("y = ReduceMean(t, a)", dict(a=ints([1]))), None),
    "projected": (("y = MatMul(t, w)", dict(w=SQUARE)), at(0)),
    "positions mixed": (("u = Transpose<perm=[0,2,1]>(t) y = MatMul(u, w)", dict(w=np.eye(20, dtype="f4"))), None),
    "mixed by a factor before": (("y = MatMul(w, t)", dict(w=np.eye(20, dtype="f4"))), None),
    "mixed, and added": (
        ("u = Transpose<perm=[0,2,1]>(t) v = MatMul(u, w) r = Transpose<perm=[0,2,1]>(v) y = Add(r, t)",
         dict(w=np.eye(20, dtype="f4"))),
        at(0),
    ),
    "products of tokens": (("u = Transpose<perm=[0,2,1]>(t) y = MatMul(t, u)", {}), None),
    "shares of tokens": (
        ("u = Transpose<perm=[0,2,1]>(t) p = MatMul(t, u) s = Softmax(p) y = MatMul(s, t)", {}),
        at(0),
    ),
    "a convolution over channels": (("u = Transpose<perm=[0,2,1]>(t) y = Conv(u, w)", dict(w=SQUARE[..., None])),
                                    at(0, 0, 1, 2)),
    "a convolution over positions": (("y = Conv(t, w)", dict(w=np.zeros((20, 20, 1), "f4"))), None),
    "a grid again": (("y = Reshape(t, k)", dict(k=ints([0, 4, 5, 6]))), Axes(0, 3, (1, 2))),
    "another grid": (("y = Reshape(t, k)", dict(k=ints([0, 5, 4, 6]))), None),
    "heads": (("y = Reshape(t, k)", dict(k=ints([0, 20, 2, 3]))), None),
    "a grid behind a class token": (
        ("c = Concat<axis=1>(a, t) y = Reshape(c, k)", dict(a=ONE, k=ints([0, 3, 7, 6]))),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", FATES)
def test_what_becomes_of_a_list(row):
    (nodes, weights), expected = FATES[row]
    assert tokens_of(nodes, **weights) == expected


def test_a_list_is_one_only_where_batch_and_channels_are_certain_to_be_kept():
    listed = tokens_of("y = Relu(t)", "t", "float[N,6,H,W] x")
    assert listed == Axes(0, 2, (1,), Tokens(0, (None, None)))
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[N,6,H,W] x) => (float[?] out) {
        y = Reshape(x, k) out = Flatten(y) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 6, 4]), "k"))  # mixes samples
    loaded = load(model)
    assert axes_of(follow(loaded.graph).get(loaded.values["y"], ())) is None
