"""Kinds of targets: the score is the formula's, its gradient that of differences, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import ContractError, Explainer, InputError, ScoreNotFound, convert
from cam_onnx.expression import parse
from cam_onnx.kinds import (
    Box,
    Detection,
    Difference,
    Expression,
    Finer,
    Logit,
    Mask,
    Peak,
    Pixel,
    Position,
    Probability,
    ResidualSoftmax,
    Similarity,
    Unit,
    Value,
)
from cam_onnx.words import from_word
from models.builders import BUILDERS, bias, he, inputs, ints, network

REFERENCE = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
MASK = np.zeros((8, 8), bool)
MASK[2:5, 1:4] = True


def segmentation():
    return network(
        "segmentation (float[N,3,16,16] image) => (float[N,4,8,8] classes)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        classes = Conv<pads=[1,1,1,1]>(features, w2, b2)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(4, 6, 3, 3), b2=bias(4)),
    )


def detector():
    """A raw head, (N, 4 + 3, 64): boxes around every cell's centre, in pixels, and three classes."""
    y, x = np.mgrid[:8, :8] * 2 + 1.0
    centres = np.stack([x.ravel(), y.ravel(), 0 * x.ravel() + 4, 0 * x.ravel() + 4]).astype("f4")[None]
    return network(
        "detector (float[N,3,16,16] image) => (float[N,7,64] boxes)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        raw = Conv(features, w2, b2)
        flat = Reshape(raw, shape)
        offset, scores = Split<axis=1>(flat, sizes)
        placed = Add(offset, centres)
        boxes = Concat<axis=1>(placed, scores)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(7, 6, 1, 1), b2=bias(7), shape=ints(0, 7, 64), sizes=ints(4, 3),
             centres=centres),
    )  # fmt: skip


def recogniser():
    """Columns of the picture as a sequence, (T, N, C)."""
    return network(
        "recogniser (float[N,3,8,16] image) => (float[8,N,5] letters)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = ReduceMean<keepdims=0>(features, axes)
        columns = Transpose<perm=[2,0,1]>(pooled)
        letters = MatMul(columns, w2)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), axes=ints(2), w2=he(6, 5, fan=6)),
    )


def pointer():
    """Two distributions of each of four keypoints, over 24 columns and 32 rows, as RTMPose's SimCC head has them."""
    return network(
        "pointer (float[N,3,16,16] image) => (float[N,4,24] simcc_x, float[N,4,32] simcc_y)",
        """
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        points = Conv(features, w2, b2)
        flat = Reshape(points, shape)
        simcc_x = MatMul(flat, wx)
        simcc_y = MatMul(flat, wy)
        """,
        dict(w1=he(6, 3, 3, 3), b1=bias(6), w2=he(4, 6, 1, 1), b2=bias(4), shape=ints(0, 4, 64), wx=he(64, 24, fan=64),
             wy=he(64, 32, fan=64)),
    )  # fmt: skip


def softmax(v):
    powers = np.exp(v - v.max())
    return powers / powers.sum()


def finer(y, c, alpha=1.0, nearest=3):
    others = sorted((d for d in range(len(y)) if d != c), key=lambda d: abs(y[d] - y[c]))[:nearest]
    p = softmax(y)
    return sum(p[d] * (y[c] - alpha * y[d]) for d in others) / sum(p[d] for d in others)


def iou(a, b):
    inter = np.prod([max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)])
    return inter / (np.prod([a[2] - a[0], a[3] - a[1]]) + np.prod([b[2] - b[0], b[3] - b[1]]) - inter)


def best(v, box):
    corners = [(c[0] - c[2] / 2, c[1] - c[3] / 2, c[0] + c[2] / 2, c[1] + c[3] / 2) for c in v[:4].T]
    return max(range(v.shape[1]), key=lambda i: iou(corners[i], box))


def likeness(v, box, c, objectness=False):
    """D-RISE's, candidate by candidate: where none is, the largest class score stands for objectness."""
    found = []
    for x, y, w, h, *rest in v.T:
        scores = np.array(rest[1:] if objectness else rest)
        sure = rest[0] if objectness else scores.max()
        overlap = iou((x - w / 2, y - h / 2, x + w / 2, y + h / 2), box)
        found.append(overlap * sure * scores[c] / np.linalg.norm(scores))
    return max(found)


def gap_linear():
    return BUILDERS["gap_linear"]()


# kind, network, and the score of one sample's output v (its batch axis is gone)
KINDS = [
    (Logit(cls=2), gap_linear, lambda v: v[2]),
    (Probability(cls=1), gap_linear, lambda v: softmax(v)[1]),
    (ResidualSoftmax(cls=3), gap_linear, lambda v: v[3] + np.log(softmax(v)[3])),
    (ResidualSoftmax(), gap_linear, lambda v: v.max() + np.log(softmax(v).max())),
    (Difference(4, cls=0), gap_linear, lambda v: v[0] - v[4]),
    (Difference(0), gap_linear, lambda v: v.max() - v[0]),
    (Finer(cls=2), gap_linear, lambda v: finer(v, 2)),
    (Finer(), gap_linear, lambda v: finer(v, int(v.argmax()))),
    (Finer(alpha=0.6, nearest=2, cls=1), gap_linear, lambda v: finer(v, 1, 0.6, 2)),
    (Finer(weighted=False, nearest=4, cls=1), gap_linear, lambda v: v[1] - np.delete(v, 1).mean()),
    (Unit(3), gap_linear, lambda v: v[3]),
    (Unit(3, absent=True), gap_linear, lambda v: -v[3]),
    (Similarity(REFERENCE), gap_linear, lambda v: v @ REFERENCE / np.linalg.norm(v) / np.linalg.norm(REFERENCE)),
    (Value(), BUILDERS["regression"], lambda v: v.reshape(-1)[0]),
    (Value(lower=True), BUILDERS["regression"], lambda v: -v.reshape(-1)[0]),
    (Mask(MASK, cls=1), segmentation, lambda v: v[1][MASK].mean()),
    (Mask(MASK), segmentation, lambda v: v[:, MASK].mean(axis=1).max()),
    (Peak(cls=2), segmentation, lambda v: v[2].max()),
    (Peak(), segmentation, lambda v: v.max()),
    (Peak(cls=3), pointer, None),
    (Pixel(3, 5, cls=2), segmentation, lambda v: v[2, 3, 5]),
    (Box(4, 2, 10, 8, cls=0), segmentation, lambda v: v[0, 1:4, 2:5].mean()),
    (Box(5, 6, 9, 10, cls=1), detector, lambda v: v[4 + 1, best(v, (5, 6, 9, 10))]),
    (Box(-3.5, 6, 9, 18, cls=1), detector, lambda v: v[4 + 1, best(v, (-3.5, 6, 9, 18))]),  # over the edge
    (Detection(5, 6, 9, 10, cls=1), detector, lambda v: likeness(v, (5, 6, 9, 10), 1)),
    (Detection(-3.5, 6, 9, 18, cls=1), detector, lambda v: likeness(v, (-3.5, 6, 9, 18), 1)),
    (Detection(3, 2, 6, 11, objectness=True), detector,
     lambda v: max(likeness(v, (3, 2, 6, 11), c, True) for c in range(2))),
    (Position(2, cls=1), recogniser, lambda v: v[2, 1]),
    (Position(7), recogniser, lambda v: v[7].max()),
    (Peak(cls=2), recogniser, lambda v: v[:, 2].max()),
    (Expression("boxes[0,4,:].max()"), detector, lambda v: v[4].max()),
    (Expression("boxes[:,4:,3].mean() - 0.5 * boxes[0,-1,:].min()"), detector,
     lambda v: v[4:, 3].mean() - 0.5 * v[-1].min()),
    (Expression("(logits[:,1] + logits[0,2]) / 2 × logits[...,0] ÷ 3"), gap_linear,
     lambda v: (v[1] + v[2]) / 2 * v[0] / 3),
    (Expression("−logits.sum() * 2"), gap_linear, lambda v: -v.sum() * 2),
    (Expression("features[:,0,1:3,:].sum()"), gap_linear, None),
]  # fmt: skip


def named(case):
    kind, make, _ = case
    return f"{kind.word}-{make.__name__}-{getattr(kind, 'text', '')}"


def values(model, x, name):
    """The model's own output, samples first, in float64."""
    from tests.running import run

    [found] = run(model, x, [name])
    return np.moveaxis(found, 1, 0) if name == "letters" else found


@pytest.mark.parametrize(("kind", "make", "formula"), KINDS, ids=[named(case) for case in KINDS])
def test_the_score_is_the_formulas_and_its_gradient_is_right(kind, make, formula):
    model = make()
    x = inputs(model, 3, seed=4)
    plain = convert(model, target=kind, layers="features")
    e = Explainer(plain.to_bytes()).explain(inputs=x, target=kind.of)
    assert plain.contract.target == kind.to_dict()
    if formula is not None:
        found = values(model, x, model.graph.output[0].name)
        np.testing.assert_allclose(e.score, [formula(v.astype(np.float64)) for v in found], rtol=2e-5, atol=2e-6)
    # along a random direction of the activations, through the head alone and in float64
    differences(model, plain, e, x)


def differences(model, converted, e, x):
    """Compare with central differences of the score; the class stays the one that was explained."""
    from onnx.reference import ReferenceEvaluator

    from cam_onnx.graph.parts import halves

    cut = halves(converted.to_bytes(), None, converted.contract, converted.contract.layers[0])
    trunk, head = ReferenceEvaluator(cut.trunk), ReferenceEvaluator(cut.head)
    crossing = dict(zip(cut.crossing, trunk.run(list(cut.crossing), x), strict=True))
    direction = np.random.default_rng(0).normal(size=e.gradients.shape).astype(np.float32)
    step = np.float32(1e-2)
    scores = []
    for sign in (1, -1):
        moved = {**crossing, "features": crossing["features"] + sign * step * direction}
        [score] = head.run([converted.contract.roles["score"]], {**moved, "cam_target": e.target})
        scores.append(score.astype(np.float64))
    expected = (scores[0] - scores[1]) / (2 * float(step))
    found = (e.gradients * direction).reshape(len(direction), -1).sum(axis=1)
    # float32 scores of order one at this step; curvature adds the square of the step
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=2e-3 * np.abs(expected).max() + 1e-4)


def test_a_plain_model_takes_any_kind_and_a_converted_one_its_own():
    model = gap_linear()
    x = inputs(model, 2)
    explainer = Explainer(model)
    by_word = explainer.explain(inputs=x, target="probability:1")
    by_object = explainer.explain(inputs=x, target=Probability(cls=1))
    np.testing.assert_array_equal(by_word.gradients, by_object.gradients)
    np.testing.assert_array_equal(explainer.explain(inputs=x, target=1).target, [1, 1])
    assert explainer.contract.target == {"kind": "class"}
    converted = Explainer(convert(model, target="probability").to_bytes())
    np.testing.assert_array_equal(converted.explain(inputs=x, target=1).gradients, by_object.gradients)
    np.testing.assert_array_equal(converted.explain(inputs=x, target=Probability(cls=1)).score, by_object.score)
    for other in (ResidualSoftmax(), Logit(cls=1), "not:2", Expression("logits[:,1]")):
        with pytest.raises(ContractError, match="converted for targets of kind probability"):
            converted.explain(inputs=x, target=other)
    with pytest.raises(ContractError, match="converted for targets of kind class, not unit"):
        Explainer(convert(model).to_bytes()).explain(inputs=x, target=Unit(1))
    with pytest.raises(ContractError, match="difference with these settings"):
        Explainer(convert(model, target=Difference(1)).to_bytes()).explain(inputs=x, target=Difference(2))


def test_another_kind_is_converted_once(monkeypatch):
    from cam_onnx import reading

    made, whole = [], reading.convert

    def converted(*given):
        made.append(given)
        return whole(*given)

    monkeypatch.setattr(reading, "convert", converted)
    model = gap_linear()
    x = inputs(model, 1)
    explainer = Explainer(model)
    for _ in range(2):
        for target in ("probability:1", "not:2", Probability(cls=3), 0):
            explainer.explain(inputs=x, target=target)
    assert len(made) == 3, "the class's logit, its probability, the difference"


@pytest.mark.parametrize("kind", [Probability, ResidualSoftmax, Finer])
def test_several_classes_of_one_picture(kind):
    model = gap_linear()
    x = inputs(model, 1)
    explainer = Explainer(model)
    both = explainer.explain(inputs=x, target=[[kind(cls=1), kind(cls=3)]])
    assert both.target.tolist() == [1, 3]
    for i, cls in enumerate((1, 3)):
        one = explainer.explain(inputs=x, target=kind(cls=cls))
        np.testing.assert_allclose(both.gradients[i], one.gradients[0], rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match="several kinds in one call"):
        explainer.explain(inputs=x, target=[[1, kind(cls=1)]])


def test_samples_do_not_mix():
    model = detector()
    x = inputs(model, 3)
    explainer = Explainer(model, layers="features", target=Expression("boxes[0,4,:].max()"))
    whole = explainer.explain(inputs=x)
    for i in range(3):
        one = explainer.explain(inputs={"image": x["image"][i : i + 1]})
        np.testing.assert_allclose(whole.score[i], one.score[0], rtol=1e-6)
        np.testing.assert_allclose(whole.saliency[i], one.saliency[0], rtol=1e-5, atol=1e-7)


def test_a_probability_near_one_comes_with_a_warning():
    model = gap_linear()
    x = {"image": inputs(model, 1)["image"] * 200}
    [note] = Explainer(model).explain(inputs=x, target=Probability()).notes
    assert "its derivative nearly vanishes" in note
    assert Explainer(model).explain(inputs=inputs(model, 1), target=Probability()).notes == []


def test_finer_and_shapley_have_scores_of_their_own():
    model = gap_linear()
    x = inputs(model, 2)
    assert convert(model, method="finer-cam").contract.target["kind"] == "finer"
    assert convert(model, method="shapley-cam").contract.target["kind"] == "residual-softmax"
    with pytest.raises(ContractError, match="of kind class, not finer"):
        Explainer(convert(model).to_bytes(), method="finer-cam")
    plain = Explainer(model, method="shapley-cam", target=Logit()).explain(inputs=x)
    np.testing.assert_allclose(plain.saliency, Explainer(model).explain(inputs=x).saliency, rtol=1e-6, atol=1e-8)
    alone = Explainer(model, method="finer-cam", target=Finer(alpha=0.0, nearest=1)).explain(inputs=x)
    np.testing.assert_allclose(alone.saliency, Explainer(model).explain(inputs=x).saliency, rtol=1e-6, atol=1e-8)


def test_d_rise_is_the_mean_of_masks_weighted_by_the_detections_that_they_leave():
    from cam_onnx.methods.occlusion import _masks

    model, box = detector(), (5, 6, 9, 10)
    x = inputs(model, 1, seed=4)
    options = {"masks": 40, "grid": 4, "seed": 3}
    e = Explainer(model, method="d-rise", target=Detection(*box, cls=1)).explain(inputs=x, target=1, options=options)
    assert e.contract.target["kind"] == "detection"
    expected = np.zeros((16, 16))
    for mask in _masks((16, 16), 40, 4, 0.5, 3):
        [v] = values(model, {"image": x["image"] * mask.astype(np.float32)}, "boxes")
        expected += likeness(v.astype(np.float64), box, 1) * mask / (40 * 0.5)
    np.testing.assert_allclose(e.saliency[0], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="expected detection:X0,Y0,X1,Y1.:CLASS."):
        Explainer(model, method="d-rise")


REFUSED = [
    (Difference(5), gap_linear, "class 5 is out of range: 0 to 4"),
    (Unit(5), gap_linear, "unit 5 is out of range: 0 to 4"),
    (Value(), gap_linear, "has 5 outputs"),
    (Similarity(np.ones(4)), gap_linear, "the reference has 4 entries, 'logits' 5"),
    (Pixel(8, 0), segmentation, "pixel 8, 0 lies outside the output of [8, 8]"),
    (Mask(np.ones(3, bool)), segmentation, "mask has shape (3,)"),
    (Box(10, 2, 17, 8), segmentation, "box (10, 2, 17, 8) lies outside the network's input of 16 x 16"),
    (Box(-1, 2, 7, 8), segmentation, "box (-1, 2, 7, 8) lies outside the network's input of 16 x 16"),
    (Detection(16, 2, 20, 8), detector, "detection (16, 2, 20, 8) lies outside the network's input of 16 x 16"),
    (Detection(1, 1, 5, 5), segmentation, "'classes' is no raw detection head"),
    (Position(8), recogniser, "position 8 is out of range: 0 to 7"),
    (Position(0), segmentation, "has rank 4"),
    (Peak(), detector, "target peak: 'boxes' has no map of each class"),
    (Mask(MASK), recogniser, "mask has shape (8, 8), the output is [8]"),
    (Expression("logit[:,1]"), gap_linear, "no value 'logit'; did you mean 'logits'?"),
    (Expression("logits"), gap_linear, "has 1 axes beside the batch"),
    (Expression("logits[1,2]"), gap_linear, "index 1 on the batch's axis"),
    (Expression("logits[:,7]"), gap_linear, "index 7 is out of range: axis 1 has 5"),
    (Expression("logits[:,3:2].sum()"), gap_linear, "an empty slice of axis 1"),
    (Expression("logits[:,1,2]"), gap_linear, "3 indices for 2 axes"),
    (Expression("logits[:,1"), gap_linear, "at character 11 expected ',' or ']', got the end"),
    (Expression("logits.median()"), gap_linear, "no .median(); did you mean 'mean'?"),
    (Expression("__import__('os')"), gap_linear, "no value '__import__'"),
    (Expression("logits[:,1] + features"), gap_linear, "+ between 0 and 3 axes"),
    (Expression("(" * 100 + "1"), gap_linear, "more than 60 brackets"),
    (Expression("1 + 2"), gap_linear, "names no value of the model"),
]


@pytest.mark.parametrize(("kind", "make", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_does_not_fit_the_model_is_refused(kind, make, words):
    with pytest.raises(InputError) as caught:
        convert(make(), target=kind)
    assert words in str(caught.value)


def test_a_dense_target_needs_a_dense_output():
    with pytest.raises(ScoreNotFound, match="no output has a place for every value"):
        convert(gap_linear(), target=Pixel(0, 0))


WORDS = {
    "probability": Probability(), "probability:tabby": Probability(cls="tabby"), "finer": Finer(),
    "residual-softmax:3": ResidualSoftmax(cls=3), "not:7": Difference(7), "not:7:2": Difference(7, cls=2),
    "raise": Value(), "lower": Value(lower=True),
    "unit:3": Unit(3), "no-unit:3": Unit(3, absent=True), "pixel:1,2:5": Pixel(1, 2, cls=5), "peak": Peak(),
    "peak:nose": Peak(cls="nose"), "class:3": Logit(cls=3),
    "box:1,2,3,4.5": Box(1, 2, 3, 4.5), "detection:1,2,3,4:5": Detection(1, 2, 3, 4, cls=5),
    "position:3:1": Position(3, cls=1), "value:a.b": Expression("a.b"),
    "boxes[0,4,:].max()": Expression("boxes[0,4,:].max()"),
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_every_kind_has_a_word(word):
    found = from_word(word)
    assert (found.to_dict(), found.of) == (WORDS[word].to_dict(), WORDS[word].of)


def test_a_class_is_no_word():
    assert [from_word(text) for text in ("tabby", "3", "-1", "a cat")] == [None] * 4


def test_arrays_come_from_files(tmp_path):
    np.save(tmp_path / "mask.npy", MASK)
    np.save(tmp_path / "vector.npy", REFERENCE)
    assert from_word(f"mask:{tmp_path}/mask.npy:2").to_dict() == Mask(MASK, cls=2).to_dict()
    assert from_word(f"similar:{tmp_path}/vector.npy").to_dict() == Similarity(REFERENCE).to_dict()
    with pytest.raises(InputError, match="cannot read it as a .npy file"):
        from_word(f"mask:{tmp_path}/none.npy")


@pytest.mark.parametrize("word", ["unit:x", "pixel:1", "box:1,2,3", "detection", "position:", "not:cat"])
def test_a_word_with_a_wrong_argument_says_its_form(word):
    with pytest.raises(InputError, match=f"expected {word.split(':')[0]}:|expected unit:I"):
        from_word(word)


def test_an_exact_value_name_wins_over_an_expression():
    assert parse("a[0].max()", ["a", "a[0].max()"]).name == "a[0].max()"
    assert parse("a/b:0 / a", ["a", "b", "a/b:0"]).left.name == "a/b:0"
    assert parse("'x y'[0]", ["x y"]).of.name == "x y"


def test_options_of_finer_are_named():
    with pytest.raises(TypeError):
        Finer(281)  # type: ignore[misc]  # a class? alpha?
