"""Raw heads in outputs of each level: the box, class and score that are explained are those of the file's outputs."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import Boxes, Explainer, convert
from cam_onnx.autodiff.model import load
from cam_onnx.cli import main
from cam_onnx.graph.detectors import find
from cam_onnx.graph.heads import Head
from cam_onnx.graph.inspect import inspect
from models.levels import HEADS, LEVELS, SIZE
from tests.graph.test_task import proto_of, tables

onnxruntime = pytest.importorskip("onnxruntime")


def squashed(x):
    return 1 / (1 + np.exp(-x))


def shares(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def rows(x, axes, each):
    """(A, each) of one picture's output (1, ...), candidates cell by cell; `axes`: rows and columns of cells."""
    rest = [i for i in range(1, x.ndim) if i not in axes]
    return x.transpose(0, *axes, *rest).reshape(-1, each)


def grid(stride, side):
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    return np.stack([x, y], axis=1), np.full((side * side, 2), stride)


def around(centre, size):
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def of_anchors(each, axes, end):
    def decoded(found, stride, side):
        table = end(rows(found[f"y_{stride}"], axes, each))
        return table[:, 4:5] * table[:, 5:], None

    return decoded


def yunet(found, stride, side):
    cls, obj, box = (found[f"{name}_{stride}"][0] for name in ("cls", "obj", "bbox"))
    at, step = grid(stride, side)
    return np.sqrt(cls * obj), around((at + box[:, :2]) * step, np.exp(box[:, 2:]) * step)


def scrfd(found, stride, side):
    score, sides = (found[f"{name}_{stride}"].reshape(-1, n) for name, n in (("score", 1), ("bbox", 4)))
    sides = sides * stride
    at = np.repeat(grid(stride, side)[0], 2, axis=0) * stride
    return score, np.concatenate([at - sides[:, :2], at + sides[:, 2:]], axis=1)


def fcos(found, stride, side):
    cls, centred = (squashed(rows(found[f"{name}_{stride}"], (2, 3), n)) for name, n in (("cls", 3), ("centerness", 1)))
    sides = rows(found[f"reg_{stride}"], (2, 3), 4)
    at, step = grid(stride, side)
    middle = (at + 0.5) * step
    return np.sqrt(cls * centred), np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], axis=1)


def yolox(found, stride, side):
    table = rows(found[f"y_{stride}"], (2, 3), 8)
    at, step = grid(stride, side)
    return table[:, 4:5] * table[:, 5:], around((at + table[:, :2]) * step, np.exp(table[:, 2:4]) * step)


def fastest(found, stride, side):
    if stride == 4:
        return np.zeros((0, 3)), np.zeros((0, 4))
    table = rows(found["y"], (2, 3), 8)
    at, _ = grid(stride, side)
    centre, size = (at + np.tanh(table[:, 1:3])) / side, squashed(table[:, 3:5])
    return table[:, :1] ** 0.6 * table[:, 5:] ** 0.4, around(centre * SIZE, size * SIZE)


# what a caller makes of the outputs of one level: probabilities (A, C), and boxes (A, 4) or None
DECODED = {
    "darknet": of_anchors(25, (2, 3), squashed),
    "yolo_v5": of_anchors(8, (2, 3), squashed),
    "yolo_of_tensorflow": of_anchors(8, (1, 2), np.asarray),
    "darknet_of_few_classes": of_anchors(8, (2, 3), squashed),
    "yunet": yunet,
    "yunet_of_any_size": yunet,
    "scrfd": scrfd,
    "scrfd_of_batches": scrfd,
    "retinanet_heads": lambda found, stride, side: (found[f"cls_{stride}"][0], None),
    "retinanet_logits": lambda found, stride, side: (squashed(rows(found[f"cls_score_{stride}"], (2, 3), 3)), None),
    "ssd_heads": lambda found, stride, side: (found[f"conf_{stride}"][0][:, 1:], None),
    "fcos_heads": fcos,
    "yolox_heads": yolox,
    "nanodet_heads": lambda found, stride, side: (rows(found[f"p0_{stride}"], (2, 3), 16), None),
    "yolo_v8_heads": lambda found, stride, side: (squashed(rows(found[f"y_{stride}"], (2, 3), 67)[:, 64:]), None),
    "yolo_v8_pose": lambda found, stride, side: (squashed(rows(found[f"y_{stride}"], (2, 3), 82)[:, 64:67]), None),
    "fastest": fastest,
}


def decoded(name, model, picture):
    """Return probabilities (A, C) and boxes (A, 4) or None, as the file's caller computes them."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": picture}), strict=True))
    parts = [DECODED[name](found, stride, side) for stride, side in LEVELS.items()]
    scores, boxes = (
        None if any(x is None for x in each) else np.concatenate(each) for each in zip(*parts, strict=True)
    )
    return scores, boxes


def probability(explainer, found, i=0):
    value = found.logits[i].reshape(-1)[found.target[i]]
    if explainer.contract.activation == "sigmoid":
        return squashed(value)
    return np.exp(value) if value < 0 else value  # the logarithm of a share


@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_lists_of_one_picture_may_be_declared_of_another_size(size):
    """insightface's SCRFD takes pictures of any size, and its outputs are declared as long as at its export."""
    model = HEADS["scrfd"]()
    for axis, symbol in ((2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = symbol
    picture = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.run(["score_4", "score_8", "bbox_4", "bbox_8"], {"image": picture})
    scores = np.concatenate(given[:2])
    row, coarse = int(scores.argmax()), int(scores.argmax()) >= len(given[0])
    stride, at = (8, row - len(given[0])) if coarse else (4, row)
    y, x = divmod(at // 2, size[1] // stride)
    left, top, right, bottom = given[2 + coarse][at] * stride
    explainer = Explainer(model)
    assert explainer.contract.origin["preprocess"] == "a guess: as SCRFD is fed, whose head this is"
    found = explainer.explain(inputs={"image": picture})
    assert found.target[0] == row
    assert probability(explainer, found) == pytest.approx(scores.max(), rel=1e-5)
    corners = [x * stride - left, y * stride - top, x * stride + right, y * stride + bottom]
    np.testing.assert_allclose(found.boxes[0], corners, atol=1e-3)
    assert found.saliency_map[0].shape == size
    assert explainer.verify(inputs={"image": picture}).ok


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEADS)
def test_the_best_box_is_that_of_the_files_outputs(name, seed):
    model = HEADS[name]()
    picture = np.random.default_rng(seed).random((1, 3, SIZE, SIZE), dtype=np.float32)
    scores, boxes = decoded(name, model, picture)
    explainer = Explainer(model)
    assert explainer.contract.task == "detection"
    found = explainer.explain(inputs={"image": picture}, target=Boxes(1))
    row, cls = np.unravel_index(scores.argmax(), scores.shape)
    assert found.target[0] == row * scores.shape[1] + cls
    assert found.classes[0] == cls
    assert probability(explainer, found) == pytest.approx(scores[row, cls], rel=1e-5)
    if boxes is None:
        assert found.boxes[0] is None
    else:
        np.testing.assert_allclose(found.boxes[0], boxes[row], atol=1e-3)
    assert found.saliency_map[0].max() > 0
    if not seed:
        assert explainer.verify(inputs={"image": picture}).ok


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_is_explained_as_each_picture_is(name):
    model = HEADS[name]()
    pictures = np.random.default_rng(1).random((3, 3, SIZE, SIZE), dtype=np.float32)
    explainer = Explainer(model)
    together = explainer.explain(inputs={"image": pictures})
    for i, picture in enumerate(pictures):
        alone = explainer.explain(inputs={"image": picture[None]})
        assert together.target[i] == alone.target[0]
        np.testing.assert_allclose(together.saliency[i], alone.saliency[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_there_is_a_layer_for_each_level(name):
    report = inspect(HEADS[name]())
    assert (report.task, report.target) == ("detection", "boxes")
    grids = {candidate.name: candidate.grid for candidate in report.candidates}
    sides = [None if name.endswith("any_size") else side for stride, side in LEVELS.items()
             if name != "fastest" or stride == 8]  # fmt: skip
    expected = [(side, side) for side in sides]
    assert [grids[layer] for layer in report.layers] == expected


def test_where_rows_are_told_by_sizes_alone_there_is_no_box():
    """Lists made by a product of pooled features have as many rows as the picture has cells, in no known order."""
    nodes, weights = tables(
        cls_8=(64, 1), cls_16=(16, 1), obj_8=(64, 1), obj_16=(16, 1), bbox_8=(64, 4), bbox_16=(16, 4)
    )
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox") for stride in (8, 16)]
    shapes = {"cls": 1, "obj": 1, "bbox": 4}
    outputs = ", ".join(f"float[N,{64 if n.endswith('8') else 16},{shapes[n.split('_')[0]]}] {n}" for n in names)
    contract = convert(proto_of(outputs, nodes, **weights), layers="a").contract
    assert contract.task == "detection"
    assert "boxes" not in contract.roles


def test_inspect_says_all_that_the_score_is_made_of(tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes(HEADS["yunet"]().SerializeToString())
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert "score: cls_4, obj_4, cls_8, obj_8, target boxes\n" in capsys.readouterr().out


def test_what_is_read_by_all_branches_of_a_level_is_its_layer():
    assert inspect(HEADS["yunet"]()).layers == ("c4", "c8")
    assert inspect(HEADS["retinanet_heads"]()).layers == ("cls_4r", "cls_8r")


@pytest.mark.parametrize("name", ["darknet_of_few_classes", "retinanet_logits"])
def test_logits_that_do_not_start_low_are_asked_about(name):
    model = HEADS[name]()
    for tensor in model.graph.initializer:
        if tensor.name in ("b_y", "b_cls_score"):
            tensor.raw_data = np.zeros(np.frombuffer(tensor.raw_data, np.float32).shape, np.float32).tobytes()
    assert not isinstance(find(load(model.SerializeToString())), Head)
