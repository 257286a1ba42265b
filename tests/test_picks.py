"""Boxes and letters: the values are the network's, the boxes those of its head, and what is chosen is what is said."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cam_onnx
from cam_onnx import Explainer, InputError, ScoreNotFound, kinds
from cam_onnx.contract import Preprocess
from cam_onnx.picks import boxes, letters
from models.builders import BUILDERS, bias, he, inputs, ints, network
from tests.graph.test_seeds import pointer, recogniser, segmentation, softmax
from tests.running import run

SIZE = (48, 64)


def detector():
    """Rows (N, 126, 4 + 1 + 2) as YOLOX gives them, not decoded, of 48 x 64 pixels at strides of 8, 16 and 32."""
    levels, weights = [], {}
    for stride in (8, 16, 32):
        s = stride // 4
        levels.append(
            f"b{s} = Conv<kernel_shape=[1,1], strides=[{s},{s}]>(features, wb{s}, bb) "
            f"p{s} = Conv<kernel_shape=[1,1], strides=[{s},{s}]>(features, wo{s}, bo) o{s} = Sigmoid(p{s}) "
            f"q{s} = Conv<kernel_shape=[1,1], strides=[{s},{s}]>(features, wc{s}, bc) c{s} = Sigmoid(q{s}) "
            f"j{s} = Concat<axis=1>(b{s}, o{s}, c{s}) r{s} = Reshape(j{s}, flat) "
        )
        weights |= {f"wb{s}": he(4, 6, 1, 1), f"wo{s}": he(1, 6, 1, 1), f"wc{s}": he(2, 6, 1, 1)}
    return network(
        "detector (float[N,3,48,64] image) => (float[N,64,7] rows)",
        f"""
        a = Conv<pads=[1,1,1,1], strides=[4,4]>(image, w1, b1)
        features = Relu(a)
        {"".join(levels)}
        all = Concat<axis=2>(r2, r4, r8)
        rows = Transpose<perm=[0,2,1]>(all)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), **weights, bb=bias(4), bo=bias(1), bc=bias(2), flat=ints(0, 7, -1)),
    )  # fmt: skip


def decoded(rows):
    """By the formula of YOLOX, cell by cell."""
    found, at = [], 0
    for stride in (8, 16, 32):
        for y in range(-(-SIZE[0] // stride)):
            for x in range(-(-SIZE[1] // stride)):
                cx, cy, w, h = rows[at, :4]
                cx, cy, w, h = (cx + x) * stride, (cy + y) * stride, np.exp(w) * stride, np.exp(h) * stride
                found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
                at += 1
    assert at == len(rows)
    return np.array(found)


def rows_of(model, feeds):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]


def test_the_best_box_is_the_default_and_lies_where_the_head_says():
    model = detector()
    feeds = inputs(model, batch=2)
    rows = rows_of(model, feeds)
    explainer = Explainer(model, layers="features")
    found = explainer.explain(inputs=feeds)
    assert (explainer.contract.task, explainer.contract.target, explainer.contract.each) == (
        "detection", {"kind": "boxes"}, 2,
    )  # fmt: skip
    for i, table in enumerate(rows):
        values = (table[:, 4:5] * table[:, 5:]).reshape(-1)
        assert found.target[i] == values.argmax()
        assert found.score[i] == pytest.approx(values.max(), rel=1e-5)
        np.testing.assert_allclose(found.boxes[i], decoded(table)[values.argmax() // 2], rtol=1e-4)
        assert found.classes[i] == values.argmax() % 2
        assert found[i].to_dict()["target"]["row"] == values.argmax() // 2


def test_several_boxes_of_one_class_are_each_a_map():
    model = detector()
    feeds = inputs(model, batch=1)
    [table] = rows_of(model, feeds)
    values = (table[:, 4:5] * table[:, 5:]).reshape(-1)
    found = Explainer(model, layers="features").explain(inputs=feeds, target=kinds.Boxes(3, cls=1))
    assert set(found.classes) == {1}
    assert list(found.target) == boxes(values, decoded(table), 2, 3, cls=1)
    np.testing.assert_allclose(found.score, values[found.target], rtol=1e-5)
    single = Explainer(model, layers="features").explain(inputs=feeds, target=kinds.Boxes(1, cls=1))
    np.testing.assert_allclose(single.saliency_map[0], found.saliency_map[0], atol=1e-6)
    assert len(found) > 1


def test_a_box_lies_in_the_picture_behind_a_letterbox():
    """A picture twice as wide as the network's input is high: a letterbox leaves borders above and below."""
    picture = np.random.default_rng(0).integers(0, 255, (100, 400, 3), np.uint8)
    explainer = Explainer(detector(), layers="features", preprocess=Preprocess(fit="letterbox", scale=1 / 255))
    found = explainer.explain(picture)
    from cam_onnx.engine.preprocess import apply

    tensor, _ = apply(explainer.contract.preprocess, picture)
    corners = decoded(rows_of(detector(), {"image": tensor})[0])[found.target[0] // 2]
    ratio, top = 400 / 64, (48 - 16) // 2
    expected = [corners[0] * ratio, (corners[1] - top) * ratio, corners[2] * ratio, (corners[3] - top) * ratio]
    np.testing.assert_allclose(found.boxes[0], expected, rtol=1e-4)


def test_a_converted_file_says_the_same_without_options(tmp_path):
    model = detector()
    path = cam_onnx.convert(model, layers="features").save(tmp_path / "detector.onnx")
    feeds = inputs(model, batch=1)
    plain, converted = (Explainer(m, layers="features").explain(inputs=feeds) for m in (model, path))
    np.testing.assert_allclose(converted.boxes[0], plain.boxes[0])
    np.testing.assert_allclose(converted.saliency_map, plain.saliency_map, atol=1e-6)
    assert len(Explainer(path).explain(inputs=feeds, target="boxes:2")) == 2


def test_a_suppression_inside_is_cut_before_and_its_boxes_are_rows():
    model = network(
        "suppressed (float[1,3,16,16] image) => (int64[M,3] kept)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        raw = Conv(features, w2, b2)
        flat = Reshape(raw, shape)
        offset, logits = Split<axis=1>(flat, sizes)
        placed = Add(offset, centres)
        corners = Transpose<perm=[0,2,1]>(placed)
        sure = Sigmoid(logits)
        kept = NonMaxSuppression<center_point_box=1>(corners, sure, most, overlap)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(7, 6, 1, 1), b2=bias(7), shape=ints(0, 7, 64), sizes=ints(4, 3),
             centres=np.stack([c.ravel() for c in (*np.mgrid[:8, :8][::-1] * 2 + 1.0, np.full((8, 8), 4.0),
                                                   np.full((8, 8), 4.0))]).astype("f4")[None],
             most=ints(100), overlap=np.array([0.5], "f4")),
    )  # fmt: skip
    feeds = inputs(model)
    import onnxruntime

    kept = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    explainer = Explainer(model, layers="features")
    for cls in range(3):
        best = next(row for _, c, row in kept if c == cls)  # of a class, the file's own come best first
        found = explainer.explain(inputs=feeds, target=cls)
        assert divmod(int(found.target[0]), 3) == (best, cls)


def test_a_sorting_inside_is_cut_before_and_its_first_row_is_the_best_box():
    model = network(
        "sorted (float[1,3,16,16] image) => (float[1,9,6] found)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        raw = Conv(features, w2, b2)
        flat = Reshape(raw, shape)
        turned = Transpose<perm=[0,2,1]>(flat)
        corners, logits = Split<axis=2>(turned, sizes)
        box = Mul(corners, eight)
        scores = Sigmoid(logits)
        largest = ReduceMax<keepdims=0>(scores, end)
        v, at = TopK<axis=1>(largest, nine)
        i = Unsqueeze(at, end)
        i4 = Tile(i, four)
        i5 = Tile(i, five)
        b = GatherElements<axis=1>(box, i4)
        s = GatherElements<axis=1>(scores, i5)
        row = Flatten(s)
        best, which = TopK<axis=1>(row, nine)
        candidate = Div(which, classes)
        class = Mod(which, classes)
        h = Unsqueeze(candidate, end)
        h4 = Tile(h, four)
        kept = GatherElements<axis=1>(b, h4)
        bu = Unsqueeze(best, end)
        cf = Cast<to=1>(class)
        cu = Unsqueeze(cf, end)
        found = Concat<axis=2>(kept, bu, cu)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(9, 6, 1, 1), b2=bias(9), shape=ints(0, 9, 64), sizes=ints(4, 5),
             eight=np.array(8, "f4"), end=ints(-1), nine=ints(9), four=ints(1, 1, 4), five=ints(1, 1, 5),
             classes=np.array(5)),
    )  # fmt: skip
    feeds = inputs(model)
    best = rows_of(model, feeds)[0, 0]
    found = Explainer(model, layers="features").explain(inputs=feeds)
    np.testing.assert_allclose(found.boxes[0], best[:4], rtol=1e-5)
    assert found.score[0] == pytest.approx(best[4])
    assert found.classes[0] == best[5]
    assert found.saliency_map[0].max() == 1


def test_what_is_no_detector_is_refused():
    with pytest.raises(ScoreNotFound, match="no output has boxes and scores for each candidate"):
        Explainer(BUILDERS["gap_linear"](), target=kinds.Boxes())
    with pytest.raises(InputError, match="count is '0', expected at least 1"):
        kinds.Boxes(0)


def masks_of_queries():
    """Five queries that look at a grid, each with three classes, nothing, and a mask: MaskFormer with one layer."""
    return network(
        "queries (float[N,3,16,16] image) => (float[N,5,4] classes, float[N,5,8,8] masks)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        flat = Reshape(features, shape)
        asked = MatMul(queries, flat)
        looked = Softmax<axis=2>(asked)
        turned = Transpose<perm=[0,2,1]>(flat)
        seen = MatMul(looked, turned)
        of_each = Add(seen, queries)
        classes = MatMul(of_each, wc)
        masks = Einsum<equation="bqc,bchw->bqhw">(of_each, features)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), shape=ints(0, 6, -1), queries=he(5, 6), wc=he(6, 4, fan=1)),
    )


def test_the_class_of_the_best_query_is_explained_and_nothing_is_none():
    model = masks_of_queries()
    for seed in range(4):
        feeds = inputs(model, 1, seed=seed)
        [logits] = run(model, feeds, ["classes"])[0]
        sure = np.array([softmax(row) for row in logits])[:, :3]
        explainer = Explainer(model)
        found = explainer.explain(inputs=feeds)
        told = found.to_dict()["target"]
        assert explainer.contract.task == "segmentation by queries"
        assert (told["row"], told["index"]) == divmod(int(sure.argmax()), 3)
        assert told["probability"] == pytest.approx(sure.max(), rel=1e-4)
        assert found.boxes == [None]
        of_one = explainer.explain(inputs=feeds, target=1).to_dict()["target"]
        assert (of_one["row"], of_one["index"]) == (int(sure[:, 1].argmax()), 1)
        assert explainer.verify(inputs=feeds).ok


# -- picks, by hand --------------------------------------------------------------------------------------------------


def test_boxes_of_one_class_that_overlap_are_one():
    corners = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
    scores = np.array([0.9, 0.1, 0.8, 0.7, 0.6, 0.2])  # rows of two classes
    assert boxes(scores, corners, 2, 5) == [0, 3, 4]  # the second box once more, as the other class
    assert boxes(scores, corners, 2, 5, cls=0) == [0, 4]
    assert boxes(scores, corners, 2, 1, cls=1) == [3]
    assert boxes(np.array([0.1, 0.05]), corners[:2], 1, 5) == [0]  # one is always there


def test_letters_are_read_as_ctc_does():
    """Blank 0: a a - a b b - - - : a, a, b, each where it is surest."""
    table = np.zeros((9, 3))
    for t, (letter, sure) in enumerate(zip([1, 1, 0, 1, 2, 2, 0, 0, 0], [2, 5, 4, 3, 3, 2, 4, 4, 4], strict=True)):
        table[t, letter] = sure
    assert letters(table.ravel(), 3) == [1 * 3 + 1, 3 * 3 + 1, 4 * 3 + 2]
    assert letters(table.ravel(), 3, cls=2) == [4 * 3 + 2]
    last = np.roll(table, -1, axis=1)  # the blank is the last class
    assert letters(last.ravel(), 3) == [1 * 3 + 0, 3 * 3 + 0, 4 * 3 + 1]
    empty = np.tile([4.0, 0.0, 1.0], (3, 1))
    assert letters(empty.ravel(), 3) == [2]  # nothing is read: the likeliest letter


# -- letters and areas in networks -----------------------------------------------------------------------------------


def test_every_letter_has_its_score():
    model = recogniser()
    feeds = inputs(model, batch=2)
    table = rows_of(model, feeds).transpose(1, 0, 2)  # (N, T, C)
    found = Explainer(model, layers="features", target=kinds.Letters()).explain(inputs=feeds)
    expected = [letters(one.ravel(), 5) for one in table]
    assert list(found.target) == [entry for group in expected for entry in group]
    scores = [one.ravel()[entry] for one, group in zip(table, expected, strict=True) for entry in group]
    np.testing.assert_allclose(found.score, scores, rtol=1e-5)
    first = found.target[0]
    share = softmax(table[0, first // 5])[first % 5]
    assert found[0].to_dict()["target"]["probability"] == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize("cls", [-1, 0, 2])
def test_the_area_of_a_class_is_where_it_is_the_largest(cls):
    model = segmentation()
    feeds = inputs(model, batch=1)
    [values] = rows_of(model, feeds)
    best = values.argmax(axis=0)
    areas = np.array([(best == c).mean() for c in range(4)])
    c = int(areas.argmax()) if cls < 0 else cls
    found = Explainer(model, layers="features", target=kinds.Area()).explain(inputs=feeds, target=cls)
    assert found.target[0] == c
    np.testing.assert_allclose(found.logits[0], areas, rtol=1e-5)
    np.testing.assert_allclose(found.probabilities[0], areas, rtol=1e-5)
    assert found.score[0] == pytest.approx(values[c][best == c].mean(), rel=1e-4)
    mask = Explainer(model, layers="features", target=kinds.Mask(best == c)).explain(inputs=feeds, target=c)
    np.testing.assert_allclose(found.gradients, mask.gradients, atol=1e-6)


@given(levels=arrays(np.int8, (2, 3, 4, 5), elements=st.integers(-2, 2)), cls=st.integers(-1, 2))
@settings(max_examples=60, deadline=None)
def test_a_peak_is_the_largest_value_and_its_derivative_is_one_at_the_first_of_them(levels, cls):
    """So few levels that most maps have ties."""
    explainer = heatmaps()
    values = levels.astype(np.float32)
    found = explainer.explain(inputs={"image": values}, target=cls)
    peaks = values.max(axis=(2, 3))
    np.testing.assert_array_equal(found.logits, peaks)
    for i, of in enumerate(values):
        c = int(peaks[i].argmax()) if cls < 0 else cls
        assert (found.target[i], found.score[i]) == (c, of[c].max())
        expected = np.zeros((3, 20), np.float32)
        expected[c, of[c].argmax()] = 2
        np.testing.assert_array_equal(found.gradients[i].reshape(3, 20), expected)


@cache
def heatmaps():
    """Maps that are the picture itself, made of two halves."""
    model = network(
        "heatmaps (float[N,3,4,5] image) => (float[N,3,4,5] heatmaps)",
        "half = Mul(image, c) heatmaps = Mul(half, d)",
        dict(c=np.array(0.5, np.float32), d=np.array(2, np.float32)),
    )
    return Explainer(model, layers="half")


def test_the_highest_peaks_are_explained_with_their_values_and_no_probability(tmp_path):
    explainer = heatmaps()
    assert (explainer.contract.task, explainer.contract.method) == ("keypoints", "layer-cam")
    x = np.random.default_rng(2).normal(size=(1, 3, 4, 5)).astype(np.float32)
    found = explainer.explain(inputs={"image": x}, target="top:2")
    order = np.argsort(-x.max(axis=(2, 3))[0])
    assert found.target.tolist() == order[:2].tolist()
    assert found.probabilities is None
    assert [(i, v) for i, _, v in found.top(3)[0]] == [(i, pytest.approx(x[0, i].max())) for i in order]
    assert found[0].to_dict()["target"]["probability"] is None


def test_a_peak_of_columns_and_rows_is_the_mean_of_both():
    model = pointer()
    x = inputs(model, 2)
    found = Explainer(model, layers="features").explain(inputs=x, target=1)
    columns, rows = run(model, x)
    np.testing.assert_allclose(found.logits, (columns.max(axis=2) + rows.max(axis=2)) / 2, rtol=1e-5)
    assert found.contract.task == "keypoints"


def test_a_peak_behind_a_sigmoid_has_a_probability():
    model = network(
        "heatmaps (float[N,3,8,8] image) => (float[N,2,8,8] heatmaps)",
        "raw = Conv(image, w) heatmaps = Sigmoid(raw)",
        dict(w=he(2, 3, 1, 1)),
    )
    x = inputs(model, 1)
    found = Explainer(model, layers="image", method="gradient").explain(inputs=x)
    [values] = run(model, x)
    np.testing.assert_allclose(found.probabilities, values.max(axis=(2, 3)), rtol=1e-5)


def test_a_map_of_a_sequence_lies_along_the_width_of_the_picture():
    """Behind the mean over the height the layer is a sequence; its map covers every row of the picture."""
    explainer = Explainer(recogniser(), layers="pooled", target=kinds.Letters())
    assert explainer.contract.method == "layer-cam"
    found = explainer.explain(np.random.default_rng(0).integers(0, 255, (8, 16, 3), np.uint8), normalize=None)
    assert found.saliency.shape[1:] == (8,)
    for drawn, raw in zip(found.saliency_map, found.saliency, strict=True):
        assert drawn.shape == (8, 16)
        assert (drawn == drawn[0]).all()
        assert drawn[0].argmax() // 2 == raw.argmax()
