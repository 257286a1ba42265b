"""Scores that have positions themselves: what their layers are, a level each where a head joins several."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx.autodiff.model import load
from cam_onnx.contract import Axes, Tokens
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import find_dense
from cam_onnx.kinds import Box, Expression, Pixel
from models.builders import Array, Draw, bias, he, inputs, ints, network

SIZE = 32  # of the picture; levels at strides 4, 8 and 16

BACKBONE = """
    s = Conv<pads=[1,1,1,1], strides=[2,2]>(image, ws, b8)
    s1 = Relu(s)
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(s1, wa, b8)
    c3 = Relu(a)
    b = Conv<pads=[1,1,1,1], strides=[2,2]>(c3, wb, b8)
    c4 = Relu(b)
    c = Conv<pads=[1,1,1,1], strides=[2,2]>(c4, wc, b8)
    c5 = Relu(c)
"""
# top-down: every level is its own map and what lies above it
PYRAMID = """
    u5 = Resize<mode="nearest">(c5, , twice)
    m4 = Add(c4, u5)
    u4 = Resize<mode="nearest">(m4, , twice)
    m3 = Add(c3, u4)
    p3 = Conv<pads=[1,1,1,1]>(m3, w3, b8)
    p4 = Conv<pads=[1,1,1,1]>(m4, w4, b8)
    p5 = Conv<pads=[1,1,1,1]>(c5, w5, b8)
"""
WEIGHTS: dict[str, Draw | Array] = {
    "ws": he(8, 3, 3, 3), "b8": bias(8), **{name: he(8, 8, 3, 3) for name in ("wa", "wb", "wc", "w3", "w4", "w5")},
    "twice": np.array([1, 1, 2, 2], np.float32), "wt": he(8, 8, 3, 3), "wcls": he(3, 8, 1, 1), "wbox": he(4, 8, 1, 1),
    "b3": bias(3), "b4": bias(4), "rows": ints(0, 7, -1), "wide": he(12, 8, 1, 1), "five": ints(0, 2, 6, 8, 8),
}  # fmt: skip


def centres() -> Array:
    """Boxes (cx, cy, w, h) of all cells of all levels, in pixels, (1, 4, A)."""
    found = []
    for stride in (4, 8, 16):
        y, x = np.mgrid[: SIZE // stride, : SIZE // stride] * stride + stride / 2
        found.append(np.stack([x.ravel(), y.ravel(), 0 * x.ravel() + 2 * stride, 0 * x.ravel() + 2 * stride]))
    return np.concatenate(found, 1).astype(np.float32)[None]


def towers(level: int, of: str) -> str:
    """Boxes and classes of one level by a tower each, joined: (N, 4 + 3, h, w), then a list."""
    return f"""
    t{level}c = Conv<pads=[1,1,1,1]>({of}, wt, b8)
    r{level}c = Relu(t{level}c)
    k{level} = Conv(r{level}c, wcls, b3)
    t{level}b = Conv<pads=[1,1,1,1]>({of}, wt, b8)
    r{level}b = Relu(t{level}b)
    o{level} = Conv(r{level}b, wbox, b4)
    h{level} = Concat<axis=1>(o{level}, k{level})
    l{level} = Reshape(h{level}, rows)
    """


def detector(size: str = f"{SIZE},{SIZE}") -> onnx.ModelProto:
    """A pyramid of three levels with two towers each, lists joined, offsets added to constant boxes: (N, 7, 84)."""
    return network(
        f"detector (float[N,3,{size}] image) => (float[N,7,84] boxes)",
        BACKBONE + PYRAMID + towers(3, "p3") + towers(4, "p4") + towers(5, "p5") + """
        raw = Concat<axis=2>(l3, l4, l5)
        offset, logits = Split<axis=1>(raw, sizes)
        placed = Add(offset, centres)
        scores = Sigmoid(logits)
        boxes = Concat<axis=1>(placed, scores)
        """,
        {**WEIGHTS, "sizes": ints(4, 3), "centres": centres()},
    )  # fmt: skip


def head(level: int, of: str, side: int) -> str:
    """Classes of two anchors a cell, spelled as torchvision does: (N, h w 2, 6)."""
    return f"""
    t{level} = Conv<pads=[1,1,1,1]>({of}, wt, b8)
    r{level} = Relu(t{level})
    k{level} = Conv(r{level}, wide)
    v{level} = Reshape(k{level}, split{level})
    q{level} = Transpose<perm=[0,3,4,1,2]>(v{level})
    l{level} = Reshape(q{level}, list{level})
    """


def retinanet_like() -> onnx.ModelProto:
    """Anchors share an axis with positions; the score is the classes alone."""
    sides = {3: 8, 4: 4, 5: 2}
    shapes = {f"split{n}": ints(0, 2, 6, side, side) for n, side in sides.items()}
    shapes |= {f"list{n}": ints(0, side * side * 2, 6) for n, side in sides.items()}
    return network(
        f"retinanet (float[N,3,{SIZE},{SIZE}] image) => (float[N,168,6] classes)",
        BACKBONE + PYRAMID + "".join(head(n, f"p{n}", side) for n, side in sides.items())
        + "classes = Concat<axis=1>(l3, l4, l5)",
        {**WEIGHTS, **shapes},
    )  # fmt: skip


def one_level() -> onnx.ModelProto:
    return network(
        "single (float[N,3,32,32] image) => (float[N,7,16] boxes)",
        BACKBONE + towers(4, "c4") + "boxes = Identity(l4)",
        WEIGHTS,
    )


def segmentation() -> onnx.ModelProto:
    return network(
        "segmentation (float[N,3,32,32] image) => (float[N,3,32,32] classes)",
        BACKBONE
        + """k = Conv(c5, wcls, b3)
        up = Resize<mode="linear">(k, , scales)
        classes = Softmax<axis=1>(up)""",
        {**WEIGHTS, "scales": np.array([1, 1, 16, 16], np.float32)},
    )


def two_classifiers() -> onnx.ModelProto:
    """As LR-ASPP: the sum of what two grids say."""
    return network(
        "lraspp (float[N,3,32,32] image) => (float[N,3,32,32] classes)",
        BACKBONE
        + """u5 = Resize<mode="linear">(c5, , fourfold)
        k5 = Conv(u5, wcls, b3)
        k3 = Conv(c3, wcls, b3)
        sum = Add(k5, k3)
        classes = Resize<mode="linear">(sum, , fourfold)""",
        {**WEIGHTS, "fourfold": np.array([1, 1, 4, 4], np.float32)},
    )


def columns() -> onnx.ModelProto:
    """A text recogniser's columns, behind a pooling of rows: the layer still has rows."""
    return network(
        "columns (float[N,3,32,64] image) => (float[N,4,5] letters)",
        BACKBONE
        + """row = ReduceMean<keepdims=0>(c5, second)
        list = Transpose<perm=[0,2,1]>(row)
        letters = MatMul(list, letter)""",
        {**WEIGHTS, "second": ints(2), "letter": he(8, 5, fan=8)},
    )


def queries() -> onnx.ModelProto:
    """As DETR: a decoder's queries, of no place, read the list of all places, the batch on the second axis."""
    return network(
        "queries (float[1,3,32,64] image) => (float[1,5,3] classes)",
        BACKBONE
        + """flat = Reshape(c4, listed)
        memory = Transpose<perm=[2,0,1]>(flat)
        keys = MatMul(memory, wk)
        values = MatMul(memory, wv)
        dots = Einsum<equation="qc,tnc->nqt">(asked, keys)
        shares = Softmax(dots)
        mixed = Einsum<equation="nqt,tnc->qnc">(shares, values)
        together = Reshape(mixed, folded)
        inner = MatMul(together, wk)
        back = Reshape(inner, unfolded)
        batch = Transpose<perm=[1,0,2]>(back)
        classes = MatMul(batch, letter)""",
        {**WEIGHTS, "listed": ints(0, 8, -1), "wk": he(8, 8, fan=8), "wv": he(8, 8, fan=8), "asked": he(5, 8, fan=8),
         "letter": he(8, 3, fan=8), "folded": ints(5, 8), "unfolded": ints(5, 1, 8)},
    )  # fmt: skip


# network -> its layers, and the stages on the way to them
DENSE = {
    "two towers a level": (detector, ["p3", "p4", "p5"], ["s1"]),
    "two towers a level, any size": (lambda: detector("H,W"), ["p3", "p4", "p5"], ["s1"]),
    "anchors on the positions' axis": (retinanet_like, ["r3", "r4", "r5"], ["s1"]),
    "one level": (one_level, ["c4"], ["s1", "c3"]),
    "a segmentation, enlarged": (segmentation, ["c5"], ["s1", "c3", "c4"]),
    "two classifiers' sum": (two_classifiers, ["sum"], ["s1", "c4", "c5"]),
    "columns of letters": (columns, ["c5"], ["s1", "c3", "c4"]),
    "queries of a decoder": (queries, ["memory"], ["s1", "c3"]),
}


AXES = {"queries of a decoder": Axes(1, 2, (0,), Tokens(0, (4, 8)))}


@pytest.mark.parametrize("row", DENSE)
def test_the_layers_are_what_the_last_learned_layers_read(row):
    make, names, before = DENSE[row]
    model = load(make())
    score = find_dense(model, None)
    found = find_layers(model, None, score)
    assert sorted(place.name for place in found) == names
    assert {place.axes for place in found} == {AXES.get(row, Axes())}
    assert len(found) == 1 or all(place.why.startswith(f"one of {len(found)} grids") for place in found)
    stages = [place.name for place in find_layers(model, "all-stages", score)]
    assert sorted(stages) == sorted([*before, *names])


def test_a_cell_s_score_is_explained_on_its_level():
    """Cells of one level read only what this level gave: the others are left out, and that is said."""
    model = detector()
    feeds = inputs(model, batch=2, size=SIZE)
    for level, cell in (("p3", 9), ("p4", 64 + 5), ("p5", 64 + 16 + 2)):
        explainer = cam_onnx.Explainer(model, target=Expression(f"boxes[:,5,{cell}]"))
        found = explainer.explain(inputs=feeds)
        assert set(found.layers) == {"p3", "p4", "p5"}
        alive = {name for name, part in found.layers.items() if np.any(part.gradients)}
        assert alive == {level}
        alone = cam_onnx.Explainer(model, target=Expression(f"boxes[:,5,{cell}]"), layers=level).explain(inputs=feeds)
        np.testing.assert_allclose(found.saliency_map, alone.saliency_map, atol=1e-6)
        [note] = [note for note in found.notes if "reads nothing of" in note]
        assert all((name in note) == (name != level) for name in ("p3", "p4", "p5"))


def test_a_box_is_explained_where_it_is():
    """HiRes-CAM of a box: what counts lies around the cell that found it."""
    model = detector()
    feeds = inputs(model, batch=1, size=SIZE)
    found = cam_onnx.Explainer(model, target=Box(18, 18, 26, 26, cls=1), method="hirescam").explain(inputs=feeds)
    [name] = [name for name, part in found.layers.items() if np.any(part.gradients)]
    weight = np.abs(found.layers[name].saliency[0])
    stride = SIZE // weight.shape[0]
    y, x = np.nonzero(weight)
    near = 2 * stride  # a tower of one 3 x 3 convolution
    assert abs((y + 0.5) * stride - 22).max() <= near + stride
    assert abs((x + 0.5) * stride - 22).max() <= near + stride


def test_layers_that_are_all_read_are_all_fused():
    model = detector()
    feeds = inputs(model, batch=1, size=SIZE)
    target = Expression("boxes[:,5,:].sum()")
    found = cam_onnx.Explainer(model, target=target).explain(inputs=feeds)
    each = [cam_onnx.Explainer(model, target=target, layers=name).explain(inputs=feeds).saliency_map
            for name in found.layers]  # fmt: skip
    np.testing.assert_allclose(found.saliency_map, np.mean(each, axis=0), atol=1e-6)
    assert not [note for note in found.notes if "reads nothing of" in note]


def test_a_pixel_of_a_segmentation_is_explained_on_features():
    model = segmentation()
    found = cam_onnx.Explainer(model, target=Pixel(3, 5, cls=2)).explain(inputs=inputs(model, batch=1, size=SIZE))
    assert list(found.layers) == ["c5"]
    assert found.activations.shape == (1, 8, 2, 2)


@pytest.mark.parametrize("make", [detector, segmentation], ids=["detector", "segmentation"])
def test_weights_that_stand_among_the_inputs_change_no_layer(make):
    """Older exporters list them there: a kernel of four axes is no picture, and nothing is read through it."""
    plain, listed = make(), make()
    for tensor in listed.graph.initializer:
        listed.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    target = Pixel(3, 5, cls=2) if make is segmentation else Box(18, 18, 26, 26, cls=1)
    one, other = (cam_onnx.convert(model, target=target).contract.layers for model in (plain, listed))
    assert one == other
