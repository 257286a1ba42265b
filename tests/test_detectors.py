"""Detectors that choose their boxes themselves: what is explained is the file's own box, by what it was chosen from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx import Boxes, Explainer, InputError
from cam_onnx.autodiff.model import load
from cam_onnx.graph.detectors import find
from cam_onnx.graph.head import cut_head
from cam_onnx.graph.heads import Head, Unchosen
from cam_onnx.graph.inspect import inspect
from models.builders import inputs
from models.detectors import DETECTORS, yolos
from tools.exporters import detectors, page

onnxruntime = pytest.importorskip("onnxruntime")

# the value that is explained, what becomes of it at the end, whether every class has a box of its own; the layers
EXPECTED = {
    "ssd": ("classes_", "first", False, ["classes__rc3", "classes__rc4"]),
    "retinanet": ("classes_", "sigmoid", False, ["classes__rc3", "classes__rc4"]),
    "fcos": ("classes_", "", False, ["classes__rc3", "classes__rc4"]),
    "faster_rcnn": ("logits", "first", True, ["c3", "c4"]),
}


def seeded(seed=0, size=32):
    return np.random.default_rng(seed).random((3, size, size), dtype=np.float32)


def what_it_gives(model, given):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)


def check(data, picture, size):
    """The best box, its class and its score are the file's first; three boxes are among the file's."""
    boxes, scores, labels = detectors.first(data, picture)
    explainer = Explainer(data)
    name = explainer.contract.roles["image"]
    found = explainer.explain(inputs={name: picture[None]})
    assert found.contract.task == "detection"
    np.testing.assert_allclose(found.boxes[0], boxes[0], atol=1e-3 * size)
    assert found.classes[0] == labels[0]
    assert detectors.probability(found) == pytest.approx(scores[0], rel=1e-3)
    assert found.saliency_map[0].max() > 0
    several = explainer.explain(inputs={name: picture[None]}, target=Boxes(3))
    for box, cls in zip(several.boxes, several.classes, strict=True):
        if min(box[2] - box[0], box[3] - box[1]) < 0.01:  # the file leaves these out, docs/tasks.md
            continue
        same = labels == cls
        assert np.abs(boxes[same] - np.array(box)).max(axis=1).min() < 1e-3 * size
    return explainer, {name: picture[None]}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_head_is_found_behind_the_choice(name):
    score, activation, each, layers = EXPECTED[name]
    model = load(DETECTORS[name]().SerializeToString())
    head = find(model)
    assert isinstance(head, Head)
    assert (head.scores.name, head.activation, head.classes) == (score, activation, 3)
    assert isinstance(head.boxes, Unchosen)
    assert head.boxes.each == each
    report = inspect(DETECTORS[name]())
    assert (report.task, report.score, report.target) == ("detection", score, "boxes")
    assert list(report.layers) == layers


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DETECTORS)
def test_the_explained_box_is_the_files_own(name, seed):
    model = DETECTORS[name]()
    explainer, given = check(model.SerializeToString(), seeded(seed), 32)
    if not seed:
        assert explainer.verify(inputs=given).ok


@pytest.mark.parametrize("weight", [-50.0, 50.0])
def test_the_map_is_of_the_level_that_the_box_is_from(weight):
    """Offsets to the logits of the coarser level put the best box on one level or the other."""
    model = DETECTORS["retinanet"]()
    at = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "classes__lc4")
    model.graph.node[at].output[0] = "raw"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(weight, np.float32), "offset"))
    model.graph.node.insert(at + 1, onnx.helper.make_node("Add", ["raw", "offset"], ["classes__lc4"]))
    explainer = Explainer(model)
    found = explainer.explain(inputs={"image": seeded()[None]})
    coarse = weight > 0
    assert (found.target[0] // 3 >= 64) == coarse
    silent = "classes__rc3" if coarse else "classes__rc4"
    assert any(note.startswith(f"the score reads nothing of {silent}:") for note in found.notes)


@pytest.mark.parametrize("split", [0.0, 1e3])
def test_a_level_without_any_region_has_a_gradient_of_zero(split):
    """ONNX Runtime refuses a Reshape to [0, n, -1] where there is nothing to reshape."""
    model = DETECTORS["faster_rcnn"]()
    for tensor in model.graph.initializer:
        if tensor.name == "split":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(split, np.float32), "split"))
    explainer, given = check(model.SerializeToString(), seeded(), 32)
    assert explainer.verify(inputs=given).ok


@pytest.mark.parametrize(("name", "nothing"), [("ssd", 0), ("faster_rcnn", 0), ("retinanet", -1), ("fcos", -1)])
def test_the_class_that_stands_for_nothing_is_refused(name, nothing):
    explainer = Explainer(DETECTORS[name]())
    assert explainer.contract.nothing == nothing
    given = {"image": seeded()[None]}
    for target in (0, Boxes(2, cls=0)):
        if nothing == 0:
            with pytest.raises(InputError, match="class 0 of this detector stands for nothing"):
                explainer.explain(inputs=given, target=target)
        else:
            assert set(explainer.explain(inputs=given, target=target).classes) == {0}
    assert set(explainer.explain(inputs=given, target=1).classes) == {1}


def test_methods_that_change_the_layer_hold_the_regions_as_the_gradient_does():
    """Also where a level has none: its regions are an input of the head, of length 0."""
    model = DETECTORS["faster_rcnn"]()
    for tensor in model.graph.initializer:
        if tensor.name == "split":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(0, np.float32), "split"))
    found = Explainer(model, method="ablation-cam").explain(inputs={"image": seeded()[None]})
    plain = Explainer(model).explain(inputs={"image": seeded()[None]})
    assert found.target == plain.target
    assert np.isfinite(found.saliency_map).all()
    assert found.saliency_map.max() > 0


def test_curvature_is_the_difference_of_gradients_at_the_same_regions():
    model = DETECTORS["faster_rcnn"]()
    explainer, given = Explainer(model), {"image": seeded()[None]}
    found = explainer.explain(inputs=given)
    contract, parts = explainer.contract, explainer._runs.parts()
    cut = cut_head(parts.data, None, contract)
    trunk, head = parts._open(cut.trunk.SerializeToString()), parts._open(cut.head.SerializeToString())
    crossing = trunk.run(given, cut.crossing)
    target = np.array(found.target[:1], np.int64)
    layer, own, way = contract.layers[0], cut.contract.layers[0], np.random.default_rng(1).standard_normal((1, 8, 8, 8))
    at, way = crossing[layer.name], way.astype(np.float32)
    assert way.shape == at.shape
    step = 1e-3 * np.abs(at).max()
    sides = [
        head.run({**crossing, layer.name: at + side * step * way, cut.contract.roles["target"]: target})[own.gradients]
        for side in (1, -1)
    ]
    expected = (sides[0] - sides[1]) / (2 * step)
    engine, direction, product = parts.curved(layer)
    got = engine.run({**given, direction: way, contract.roles["target"]: target})[product]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-2 * np.abs(expected).max())  # differences in float32


def test_where_scores_are_not_those_of_candidates_it_is_asked():
    """Another activation in front of the choice: nothing is known of what it chooses from."""
    model = DETECTORS["retinanet"]()
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Softplus"
    assert isinstance(find(load(model.SerializeToString())), str)


def test_tokens_beside_the_grid_are_read_as_a_class_token_is():
    """Behind the last attention the grid has no say in them: the layer is what that attention reads."""
    model = yolos()
    report = inspect(model)
    assert (report.task, report.score, report.layer) == ("detection", "logits", "features")
    explainer, given = Explainer(model), inputs(model, batch=1)
    found = explainer.explain(inputs=given)
    logits, boxes = what_it_gives(model, given)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    row, cls = np.unravel_index(shares[0, :, :-1].argmax(), shares[0, :, :-1].shape)
    x, y, width, height = boxes[0, row] * np.array([24, 16, 24, 16])
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    np.testing.assert_allclose(found.boxes[0], corners, atol=1e-3)
    assert found.classes[0] == cls
    assert found.saliency.shape == (1, 4, 6)
    assert explainer.verify(inputs=given).ok


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_torchvisions_detectors_need_no_target(name, tmp_path):
    pytest.importorskip("torchvision")
    size, _ = detectors.DETECTORS[name]
    file = tmp_path / "detector.onnx"
    detectors.export(name, file)
    explainer, given = check(file.read_bytes(), detectors.picture(size), size)
    if name == "ssdlite320_mobilenet_v3_large":  # the larger ones are verified for docs/exporters.md
        assert explainer.verify(inputs=given).ok


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "keypointrcnn_resnet50_fpn"])
def test_gradients_behind_a_second_stage_are_pytorchs(name, tmp_path):
    """PyTorch detaches the proposals and differentiates RoIAlign by the features alone: so do we.

    Its second stage is given the file's own maps and regions: seeded backbones enlarge rounding, which moves regions.
    """
    pytest.importorskip("torchvision")
    import torch

    file, (size, _) = tmp_path / "detector.onnx", detectors.DETECTORS[name]
    detectors.export(name, file)
    explainer, picture = Explainer(file, providers="cpu"), detectors.picture(size)
    given = {explainer.contract.roles["image"]: picture[None]}
    found = explainer.explain(inputs=given)
    row, cls = divmod(int(found.target[0]), explainer.contract.each)

    proto = onnx.load(str(file))
    aligned = [node for node in proto.graph.node if node.op_type == "RoiAlign" and "box_roi_pool" in node.name]
    assert {node.input[0] for node in aligned} == set(found.layers)
    parts = [found.layers[node.input[0]] for node in aligned]
    corners = [node.input[1] for node in aligned]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in corners)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    regions = np.concatenate(session.run(corners, {session.get_inputs()[0].name: picture}))

    heads = detectors.built(name).double().roi_heads
    maps = {str(i): torch.from_numpy(part.activations).double().requires_grad_() for i, part in enumerate(parts)}
    pooled = heads.box_roi_pool(maps, [torch.from_numpy(regions).double()], [(size, size)])
    logits, _ = heads.box_predictor(heads.box_head(pooled))
    shares = logits.log_softmax(1)
    ours = found.logits.reshape(-1, shares.shape[1])[row, 1:]
    [same] = np.flatnonzero(np.abs(shares.detach().numpy()[:, 1:] - ours).max(axis=1) < 1e-4)
    theirs = torch.autograd.grad(shares[same, cls], list(maps.values()), allow_unused=True)
    largest = max(float(abs(each).max()) for each in theirs if each is not None)
    assert largest > 0
    for part, each in zip(parts, theirs, strict=True):
        expected = np.zeros_like(part.gradients) if each is None else each.numpy()
        # a level's gradient is summed in float32 over a thousand channels and 49 bins
        assert np.abs(part.gradients - expected).max() < 1e-4 * largest


def test_the_page_has_rows_of_the_command_in_its_order():
    header, rows = page.table("detectors")[:2], page.table("detectors")[2:]
    assert header == detectors.HEADER.splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {key}" for key in detectors.KEYS]
    assert {row.count(" | ") for row in rows} == {8}


def test_a_row_that_fails_says_so_and_the_others_stay(tmp_path, monkeypatch):
    copy, before = tmp_path / "page.md", page.table("detectors")
    copy.write_bytes(page.PAGE.read_bytes())
    monkeypatch.setattr(page, "PAGE", copy)
    monkeypatch.setattr(detectors, "KEPT", tmp_path)
    (tmp_path / "ssd300_vgg16.onnx").write_bytes(b"no model")
    assert detectors.main(["ssd300_vgg16"]) == 1
    [(old, new)] = [rows for rows in zip(before, page.table("detectors"), strict=True) if rows[0] != rows[1]]
    assert old.startswith("| `ssd300_vgg16` |")
    assert "**failed**: " in new
    assert str(tmp_path) not in new
