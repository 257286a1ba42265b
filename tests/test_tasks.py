"""Trained networks of each task on pictures whose truth is known to the pixel, without options for the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import tasks
from benchmarks.tasks import MODELS, ROWS, around, embedding, heatmaps, network, painter, plain, unusual, usual
from cam_onnx import Box, Boxes, Detection, Explainer, Pixel, ScoreNotFound, Similarity, convert
from cam_onnx.cli import main as command_line
from cam_onnx.graph.inspect import inspect
from cam_onnx.render import image
from models import derived
from models.derived import PALETTE
from models.signals import BALLS, PULSES, filled, pulsed
from models.synthetic import TEXTURES, textured
from tests.graph.test_task import ASKED, proto_of
from tests.running import run

pytest.importorskip("onnxruntime")
SEEDS = range(20, 32)
DOCS = Path(__file__).parent.parent / "docs"


def density(drawn, mask):
    """The share of the map on a mask over the mask's share of the area."""
    return drawn[mask].sum() / drawn.sum() / mask.mean()


def middle(mask):
    y, x = np.nonzero(mask)
    return (x.min() + x.max() + 1) / 2, (y.min() + y.max() + 1) / 2


@pytest.mark.parametrize(
    ("name", "task", "score", "target"),
    [
        ("texture-boxes", "detection", "rows", "boxes"),
        ("texture-areas", "semantic segmentation", "classes", "area"),
        ("textures-average", "classification", "logits", "class"),
        ("disc-size", "regression, or one logit", "size", "class"),
    ],
)
def test_the_task_is_found(name, task, score, target):
    report = inspect(MODELS / f"{name}.onnx")
    assert (report.task, report.score, report.target) == (task, score, target)


def test_the_best_box_of_a_class_lies_on_its_object_and_so_does_its_map():
    for seed in SEEDS:
        scene = textured(seed, "bars", "dots")
        for name, mask in scene.masks.items():
            found = network("texture-boxes").explain(scene.pixels, target=name)
            [box] = found.boxes
            x, y = middle(mask)
            assert abs((box[0] + box[2]) / 2 - x) < 12, (seed, name)
            assert abs((box[1] + box[3]) / 2 - y) < 12, (seed, name)
            assert density(found.saliency_map[0], mask) > 1.5
            assert found.to_dict()["target"]["explained"].startswith(f"{name} in the box ")


def test_two_objects_are_two_boxes_with_a_map_each():
    both = 0
    for seed in SEEDS:
        scene = textured(seed, "bars", "dots")
        found = network("texture-boxes").explain(scene.pixels, target=Boxes(2))
        names = [found.label(int(c)) for c in found.classes]
        both += sorted(names) == ["bars", "dots"]
        for name, drawn in zip(names, found.saliency_map, strict=True):
            if len(set(names)) == 2 and name in scene.masks:
                other = next(mask for n, mask in scene.masks.items() if n != name)
                assert density(drawn, scene.masks[name]) > 1.5 > density(drawn, other)
    assert both >= 0.7 * len(SEEDS)


def test_d_rise_of_a_finding_lies_in_its_box_though_it_may_reach_over_the_edge():
    over = 0
    for seed in (3, 5, 8):
        scene = textured(seed, "bars", "dots")
        [box] = network("texture-boxes").explain(scene.pixels, target="bars").boxes
        over += min(box) < 0
        found = Explainer(
            MODELS / "texture-boxes.onnx", method="d-rise", target=Detection(*box, cls="bars"), labels=TEXTURES,
            preprocess=MODELS / "synthetic.json", options={"masks": 500, "grid": 5}, providers="cpu",
        ).explain(scene.pixels)  # fmt: skip
        x0, y0, x1, y1 = (max(0, round(v)) for v in box)
        inside = np.zeros((96, 96), bool)
        inside[y0:y1, x0:x1] = True
        assert density(found.saliency_map[0], inside) > 2
        assert density(found.saliency_map[0], scene.masks["dots"]) < 1
        assert inside[np.unravel_index(found.saliency_map[0].argmax(), (96, 96))]
    assert over, "one of them does"


def test_a_class_is_explained_on_its_area_and_a_pixel_on_its_object():
    explainer = network("texture-areas")
    for seed in SEEDS:
        scene = textured(seed, "bars", "checks")
        for name, mask in scene.masks.items():
            cls = 1 + TEXTURES.index(name)
            area = explainer.explain(scene.pixels, target=name)
            assert area.label(int(area.target[0])) == name
            assert density(area.saliency_map[0], mask) > 1.5
            x, y = map(int, middle(mask))
            pixel = explainer.explain(scene.pixels, target=Pixel(y, x, cls=cls))
            assert density(pixel.saliency_map[0], mask) > 1.5
    found = explainer.explain(scene.pixels)
    assert found.label(int(found.target[0])) == "ground"  # the largest area
    assert found.logits.sum() == pytest.approx(1, rel=1e-4)


def test_a_keypoint_is_explained_where_it_is_found():
    explainer = heatmaps()
    assert (explainer.contract.task, explainer.contract.target) == ("keypoints", {"kind": "peak"})
    pairs = []
    for seed in SEEDS:
        scene = textured(seed, "bars", "checks")
        found = explainer.explain(scene.pixels, target=[list(scene.masks)])
        for i, name in enumerate(scene.masks):
            assert found.label(int(found.target[i])) == name
            [other] = [mask for n, mask in scene.masks.items() if n != name]
            pairs.append([density(found.saliency_map[i], mask) for mask in (scene.masks[name], other)])
    there, other = np.array(pairs).T
    assert there.min() > 9
    assert other.max() < 0.1


def test_what_is_unusual_is_marked_and_what_is_usual_is_not():
    explainer, pairs = unusual(), []
    assert (explainer.contract.task, explainer.contract.score) == ("anomaly detection", "cam_value")
    for seed in SEEDS:
        scene = textured(seed, "bars", "dots")
        found, alone = explainer.explain(scene.pixels), explainer.explain(textured(seed, "bars").pixels)
        assert found.score[0] > 10 * alone.score[0]
        pairs.append([density(found.saliency_map[0], scene.masks[name]) for name in ("dots", "bars")])
    odd, common = np.array(pairs).T
    assert odd.min() > 7
    assert common.max() < 0.5


def test_an_anomaly_map_without_a_score_is_explained_at_its_peak():
    proto = derived.anomalies(network("textures-average").explain(textured(1, "bars").pixels).activations)
    del proto.graph.output[0]
    explainer = Explainer(proto, layers="features", preprocess=MODELS / "synthetic.json", providers="cpu")
    assert (explainer.contract.task, explainer.contract.target) == ("anomaly detection", {"kind": "peak"})
    scene = textured(20, "bars", "dots")
    assert density(explainer.explain(scene.pixels).saliency_map[0], scene.masks["dots"]) > 7


def test_a_region_of_a_picture_that_a_network_makes_is_explained_by_what_lies_there():
    pairs = []
    for seed in SEEDS:
        scene = textured(seed, "bars", "checks")
        for name, mask in scene.masks.items():
            target = Box(*around(mask), cls=int(np.argmax(PALETTE[name])))
            [drawn] = painter().explain(scene.pixels, target=target).saliency_map
            [other] = [of for n, of in scene.masks.items() if n != name]
            pairs.append([density(drawn, mask), density(drawn, other)])
    there, other = np.array(pairs).T
    assert there.min() > 5
    assert other.max() < 0.1


def test_a_network_that_makes_a_picture_is_asked_about(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(derived.painter(), "painter.onnx")
    image.save("scene.png", textured(3, "bars", "checks").pixels)
    command = ["explain", "painter.onnx", "scene.png", "-o", "o.png", "--preprocess", str(MODELS / "synthetic.json")]
    assert command_line(command) == 2
    assert "box:X0,Y0,X1,Y1:CHANNEL or pixel:Y,X:CHANNEL of a picture" in capsys.readouterr().err
    assert command_line([*command, "--method", "layer-cam", "--target", "box:10,40,45,72:0"]) == 0
    assert command_line(["verify", *command[1:3], *command[5:], "--target", "box:10,40,45,72:0"]) == 0


@pytest.mark.parametrize("rank", [3, 4])
def test_what_is_asked_of_a_depth_is_answered(rank):
    """The listed targets give the numbers of the file's own output: at a place, in a region, the largest."""
    shape = "N,64,64" if rank == 3 else "N,1,64,64"
    last = "depth = Squeeze(d, one)" if rank == 3 else "depth = Identity(d)"
    nodes = f"i = ConvTranspose<strides=[2,2]>(a, w2) d = Conv(i, w) {last}"
    rng = np.random.default_rng(0)
    w, w2, x = (rng.normal(size=size).astype(np.float32) for size in ((1, 8, 1, 1), (8, 8, 2, 2), (2, 3, 64, 64)))
    proto = proto_of(f"float[{shape}] depth", nodes, w=w, w2=w2)
    [values] = run(proto, {"image": x})
    values = values.reshape(2, 64, 64)
    with pytest.raises(ScoreNotFound, match="pixel:Y,X, the number at a place; box:X0,Y0,X1,Y1, its mean in a region"):
        convert(proto)
    for target, expected in (
        ("pixel:5,6", values[:, 5, 6]),
        ("box:2,3,20,30", values[:, 3:30, 2:20].mean(axis=(1, 2))),
        ("peak", values.max(axis=(1, 2))),
    ):
        found = Explainer(proto, target=target).explain(inputs={"image": x})
        np.testing.assert_allclose(found.score, expected, rtol=1e-4, atol=1e-4)
        assert found.reasons == [None] * 2


@pytest.mark.parametrize("name", ["heatmaps", "painter", "vectors"])
def test_a_derived_network_is_the_same_every_time_and_runs(name):
    make = getattr(derived, name)
    assert make().SerializeToString(deterministic=True) == make().SerializeToString(deterministic=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    [found] = run(make(), {"image": x})
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_what_two_pictures_have_in_common_is_marked_on_both():
    explainer, pairs = network("textures-average", embedding()), []
    for seed in SEEDS:
        one, other = textured(seed, "bars", "dots"), textured(seed + 50, "bars", "checks")
        vectors = [explainer.explain(scene.pixels).logits[0] for scene in (one, other)]
        for scene, reference, alone in ((one, vectors[1], "dots"), (other, vectors[0], "checks")):
            found = explainer.explain(scene.pixels, target=Similarity(reference - usual()))
            pairs.append([density(found.saliency_map[0], scene.masks[name]) for name in ("bars", alone)])
        product = explainer.explain(one.pixels, target=Similarity(vectors[1], cosine=False))
        assert product.score[0] == pytest.approx(vectors[0] @ vectors[1] / np.linalg.norm(vectors[1]), rel=1e-3)
    common, alone = np.array(pairs).T
    assert common.mean() > 3 > 1 > alone.mean()
    assert (common > alone).mean() > 0.8


@pytest.mark.parametrize(("name", "draw", "kinds"), [("pulses", pulsed, PULSES), ("balls", filled, BALLS)])
def test_of_two_things_in_a_signal_or_a_volume_the_one_asked_for_is_marked(name, draw, kinds):
    explainer, pairs = plain(name), []
    given = explainer.contract.roles["image"]
    for seed in SEEDS:
        shown = kinds[1 + seed % 3], kinds[1 + (seed + 1) % 3]
        trace = draw(seed, *shown)
        found = explainer.explain(inputs={given: trace.values}, target=[list(shown)])
        assert found.saliency_map.shape[1:] == trace.masks[shown[0]].shape
        for drawn, asked, other in zip(found.saliency_map, shown, shown[::-1], strict=True):
            pairs.append([density(drawn, trace.masks[asked]), density(drawn, trace.masks[other])])
    asked, other = np.array(pairs).T
    assert asked.mean() > 4 > 2 > other.mean()
    assert (asked > other).mean() > 0.9


@pytest.mark.parametrize(("name", "draw", "kinds"), [("pulses", pulsed, PULSES), ("balls", filled, BALLS)])
def test_what_a_signal_or_a_volume_holds_is_told(name, draw, kinds):
    explainer, right = plain(name), 0
    for seed in range(24):
        wanted = kinds[seed % len(kinds)]
        trace = draw(seed, *([wanted] if wanted != "nothing" else []))
        found = explainer.explain(inputs={explainer.contract.roles["image"]: trace.values})
        right += found.label(int(found.target[0])) == wanted
    assert right >= 23
    assert (MODELS / f"{name}.onnx").stat().st_size < 300_000


def test_moving_the_object_moves_its_box_and_map():
    """The same object, 24 pixels further right."""
    scene = textured(3, "bars")
    mask = scene.masks["bars"]
    x, _ = middle(mask)
    step = 24 if x < 48 else -24
    moved = np.roll(scene.pixels, step, axis=1)
    one, other = (network("texture-boxes").explain(p, target="bars") for p in (scene.pixels, moved))
    assert other.boxes[0][0] - one.boxes[0][0] == pytest.approx(step, abs=2)
    centres = [(e.saliency_map[0] * np.arange(96)).sum() / e.saliency_map[0].sum() for e in (one, other)]
    assert centres[1] - centres[0] == pytest.approx(step, abs=4)


@pytest.mark.parametrize("name", ROWS)
def test_every_picture_of_the_page_is_drawn_and_shown(name):
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert (DOCS / "images" / f"task-{name}.jpg").stat().st_size < 200_000
    assert f"images/task-{name}.jpg" in page


def test_a_picture_is_what_the_command_draws():
    from cam_onnx.render import image

    drawn = tasks.draw("boxes")
    kept = image.load(DOCS / "images" / "task-boxes.jpg").pixels
    assert drawn.shape == kept.shape
    assert np.abs(drawn.astype(int) - kept).mean() < 4  # JPEG


def test_the_command_says_areas_and_boxes(tmp_path, capsys):
    from cam_onnx.render import image
    from cam_onnx.showing import heading

    scene = textured(3, "bars", "dots")
    image.save(tmp_path / "scene.png", scene.pixels)
    common = [str(tmp_path / "scene.png"), "-o", f"{tmp_path}/out/", "--preprocess", str(MODELS / "synthetic.json")]
    labels = ["--labels", str(MODELS / "textures.txt")]
    assert command_line(["explain", str(MODELS / "texture-areas.onnx"), *common]) == 0
    said = capsys.readouterr().out
    assert "area" in said
    assert "probability" not in said
    assert command_line(["explain", str(MODELS / "texture-boxes.onnx"), *common, *labels, "--target", "boxes:2"]) == 0
    said = capsys.readouterr().out
    assert said.count("explained: ") == 2
    assert "explained: bars in the box 13 41 43 76, score 0.8" in said
    assert "method: layer-cam" in said
    found = network("texture-areas").explain(scene.pixels, target="bars")
    assert heading(found[0]).endswith("% of the area")


def test_which_of_several_heatmaps_is_meant_is_said_by_the_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (outputs, nodes, _), _ = ASKED["a channel for what is no keypoint: OpenPose"]
    onnx.save(proto_of(outputs, nodes.replace("Neg(a)", "Conv(a, w)"), w=np.ones((8, 8, 1, 1), "f4")), "asked.onnx")
    image.save("p.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert command_line(["explain", "asked.onnx", "p.png", "-o", "o/"]) == 2
    asked = ["--score", "heatmaps", "--target", "peak:2"]
    assert command_line(["explain", "asked.onnx", "p.png", "-o", "o/", *asked]) == 0


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a picture", "area"),
        ("a picture", "pixel:20,30:1"),
        ("a picture", "box:8,8,40,50:1"),
        ("one channel of the picture's size", "area"),
        ("one channel of the picture's size", "box:8,8,40,50"),
        ("one channel of the picture's size", "pixel:20,30"),
        ("keypoints", "area"),
        ("keypoints", "peak"),
        ("keypoints", "peak:3"),
        ("masks of queries, or features of tokens beside a map", "boxes"),
        ("masks of queries, or features of tokens beside a map", "value:c[:,3,2]"),
        ("a sequence without a distribution", "letters"),
        ("a sequence without a distribution", "position:3"),
        ("landmarks, by name: PFLD", "value:landmarks[:,3]"),
        ("landmarks, by name: PFLD", "class"),
        ("landmarks, by name, as pairs", "value:face_landmarks[:,3,0]"),
        ("what is called an embedding", "similar:q.png"),
        ("an embedding", "similar:q.png"),
        ("anchors that the file does not have", "value:s[0,:,3].max()"),
        ("one row a candidate, no border behind the box", "value:y[:,:,4].max()"),
    ],
)
def test_what_is_asked_is_answered_on_the_command_line(name, target, tmp_path, capsys, monkeypatch):
    """The default cannot be told, so that nothing is converted without the target that the question asks for."""
    monkeypatch.chdir(tmp_path)
    (outputs, nodes, weights), _ = ASKED[name]
    draw, proto = np.random.default_rng(0), proto_of(outputs, nodes, **weights)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim > 1 and array.dtype == np.float32:  # all are one: every class would say the same
            tensor.CopyFrom(onnx.numpy_helper.from_array(draw.normal(size=array.shape).astype("f4"), tensor.name))
    onnx.save(proto, "asked.onnx")
    for file in ("p.png", "q.png"):
        image.save(file, draw.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert command_line(["explain", "asked.onnx", "p.png", "-o", "o/"]) == 2
    assert "what it does has to be said" in capsys.readouterr().err
    assert command_line(["explain", "asked.onnx", "p.png", "-o", "o/", "--target", target]) == 0
    assert command_line(["explain", "asked.onnx", "p.png", "-o", "o/", "--target", "2"]) == 2
    assert command_line(["verify", "asked.onnx", "p.png", "--target", target]) == 0


def test_a_blank_map_of_a_box_says_where_its_gradient_ended():
    proto = onnx.load(str(MODELS / "texture-boxes.onnx"))
    at = next(i for i, node in enumerate(proto.graph.node) if "features" in node.output)
    for node in proto.graph.node:
        node.input[:] = ["dead" if x == "features" else x for x in node.input]
    proto.graph.node.insert(at + 1, onnx.helper.make_node("Sub", ["features", "huge"], ["low"]))
    proto.graph.node.insert(at + 2, onnx.helper.make_node("Relu", ["low"], ["dead"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1e6), "huge"))
    explainer = Explainer(proto, layers="features", preprocess=MODELS / "synthetic.json", providers="cpu")
    found = explainer.explain(textured(3, "bars", "dots").pixels)
    assert found.contract.target == {"kind": "boxes"}
    assert found.reasons == ["all zero: the gradient ends at Relu 'dead'"]
