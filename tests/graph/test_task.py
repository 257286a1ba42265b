"""What a model does is told by its outputs: one row a layout, as the exporters write them; what is unclear is asked."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import ScoreNotFound, convert
from cam_onnx.autodiff.model import load
from cam_onnx.graph.detectors import find
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.task import find_task
from models.builders import BUILDERS

CELLS = 64 + 16 + 4  # of 64 x 64 pixels at strides of 8, 16 and 32


def model_of(*given, **weights):
    return load(proto_of(*given, **weights).SerializeToString())


def proto_of(outputs, nodes, size="3,64,64", producer="", **weights):
    """`f` (N, 8) are pooled features, `a` (N, 8, 32, 32) a map, `u` (N, 8, 64, 64) one of the picture's size."""
    weights |= {"w0": np.ones((8, 3, 3, 3), "f4"), "k": np.array([1, 1, 2, 2], "f4")}
    weights |= {"end": np.array([-1]), "start": np.array([0]), "one": np.array([1])}
    trunk = (
        'a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w0) u = Resize<mode="nearest">(a, , k) '
        "g = GlobalAveragePool(a) f = Flatten(g) "
    )
    text = f'<ir_version: 8, opset_import: ["": 18, "trt": 1], producer_name: "{producer}">\n'
    model = onnx.parser.parse_model(f"{text} g (float[N,{size}] image) => ({outputs}) {{ {trunk} {nodes} }}")
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def table(name, *shape):
    """Nodes that make `name` (N, *shape) of the pooled features, and its weights."""
    size = int(np.prod(shape))
    return f"{name}_flat = MatMul(f, {name}_w) {name} = Reshape({name}_flat, {name}_s) ", {
        f"{name}_w": np.ones((8, size), "f4"), f"{name}_s": np.array([-1, *shape]),
    }  # fmt: skip


def tables(**shapes):
    nodes, weights = "", {}
    for name, shape in shapes.items():
        more, arrays = table(name, *shape)
        nodes, weights = nodes + more, weights | arrays
    return nodes, weights


def row(outputs, end, shapes=(), **more):
    nodes, weights = tables(**dict(shapes))
    return outputs, nodes + end, {**weights, **more}


LEVEL = """
    {p}box = Conv<strides=[{s},{s}]>(a, w4) {p}so = Conv<strides=[{s},{s}]>(a, w1)
    {p}sc = Conv<strides=[{s},{s}]>(a, w3)
    {p}o = Sigmoid({p}so) {p}c = Sigmoid({p}sc)
    {p}j = Concat<axis=1>({p}box, {p}o, {p}c) {p}r = Reshape({p}j, flat)
"""
YOLOX = "".join(LEVEL.format(p=f"l{s}", s=s // 2) for s in (8, 16, 32)) + "rows = Concat<axis=2>(l8r, l16r, l32r) "
CONVS = {f"w{n}": np.ones((n, 8, 1, 1), "f4") for n in (1, 3, 4)} | {"flat": np.array([0, 8, -1])}

V8 = "placed = Mul(box, two) sure = Sigmoid(raw) y = Concat<axis=1>(placed, sure)"
V5 = (
    "sure = Sigmoid(raw) xy, wh, conf = Split<axis=2>(sure, sizes) pxy = Mul(xy, two) pwh = Mul(wh, two) "
    "y = Concat<axis=2>(pxy, pwh, conf)"
)
TWO = {"two": np.array(2, "f4")}

# outputs, nodes, weights -> scores, turned, first class, classes, objectness, activation, form
HEADS = {
    "YOLO v8 to v12": (
        row(f"float[N,7,{CELLS}] y", V8, dict(box=(4, CELLS), raw=(3, CELLS)).items(), **TWO),
        ("y", True, 4, 3, None, "", "centre"),
    ),
    "YOLO v8, with coefficients of masks behind": (
        row(
            f"float[N,39,{CELLS}] y",
            "placed = Mul(box, two) sure = Sigmoid(raw) y = Concat<axis=1>(placed, sure, masks)",
            dict(box=(4, CELLS), raw=(3, CELLS), masks=(32, CELLS)).items(),
            **TWO,
        ),
        ("y", True, 4, 3, None, "", "centre"),
    ),
    "YOLO v8, with prototypes of masks beside": (
        row(
            f"float[N,39,{CELLS}] y, float[N,32,32,32] p",
            "placed = Mul(box, two) sure = Sigmoid(raw) y = Concat<axis=1>(placed, sure, masks) p = Conv(a, w)",
            dict(box=(4, CELLS), raw=(3, CELLS), masks=(32, CELLS)).items(),
            w=np.ones((32, 8, 1, 1), "f4"),
            **TWO,
        ),
        ("y", True, 4, 3, None, "", "centre"),
    ),
    "YOLO v8, poses of one class": (
        row(
            f"float[N,56,{CELLS}] y",
            "placed = Mul(box, two) sure = Sigmoid(raw) y = Concat<axis=1>(placed, sure, points)",
            dict(box=(4, CELLS), raw=(1, CELLS), points=(51, CELLS)).items(),
            **TWO,
        ),
        ("y", True, 4, 1, None, "", "centre"),
    ),
    "YOLO v3 to v7": (
        row(f"float[N,{3 * CELLS},8] y", V5, dict(raw=(3 * CELLS, 8)).items(), sizes=np.array([2, 2, 4]), **TWO),
        ("y", False, 5, 3, 4, "", "centre"),
    ),
    "YOLO v5 for pictures of any size": (
        row("float[N,K,8] y", "part = Slice(raw, start, some, one) " + V5.replace("raw", "part", 1),
            dict(raw=(30, 8)).items(), sizes=np.array([2, 2, 4]), some=np.array([9]), size="3,H,W", **TWO),
        ("y", False, 5, 3, 4, "", "centre"),
    ),
    "YOLO v5, rows written in place": (
        row(f"float[N,{3 * CELLS},8] y", "y = Relu(raw)", dict(raw=(3 * CELLS, 8)).items()),
        ("y", False, 5, None, 4, "", "centre"),
    ),
    "YOLOX, not decoded": (
        (f"float[N,{CELLS},8] y", YOLOX + "y = Transpose<perm=[0,2,1]>(rows)", CONVS),
        ("y", False, 5, 3, 4, "", "grid"),
    ),
    "YOLOX, boxes decoded": (
        row(
            f"float[N,{CELLS},8] y",
            "placed = Exp(box) o = Sigmoid(so) c = Sigmoid(sc) y = Concat<axis=2>(placed, o, c)",
            dict(box=(CELLS, 4), so=(CELLS, 1), sc=(CELLS, 3)).items(),
        ),
        ("y", False, 5, 3, 4, "", "centre"),
    ),
    "SSD": (
        row("float[N,90,4] b, float[N,90,5] s", "s = Softmax<axis=2>(raw) b = Mul(box, two)",
            dict(raw=(90, 5), box=(90, 4)).items(), **TWO),
        ("raw", False, 1, 4, None, "first", ""),
    ),
    "RetinaNet, its levels joined, whose logits start low": (
        ("float[N,80,4] b, float[N,80,3] s",
         ("b8 = Conv<strides=[4,4]>(a, w4) b16 = Conv<strides=[8,8]>(a, w4) "
          "s8 = Conv<strides=[4,4]>(a, w3, low) s16 = Conv<strides=[8,8]>(a, w3, low) "
          "t8 = Reshape(b8, four) t16 = Reshape(b16, four) u8 = Reshape(s8, three) u16 = Reshape(s16, three) "
          "p8 = Transpose<perm=[0,2,1]>(t8) p16 = Transpose<perm=[0,2,1]>(t16) "
          "q8 = Transpose<perm=[0,2,1]>(u8) q16 = Transpose<perm=[0,2,1]>(u16) "
          "b = Concat<axis=1>(p8, p16) s = Concat<axis=1>(q8, q16)"),
         {**CONVS, "low": np.full(3, -4.6, "f4"), "four": np.array([0, 4, -1]), "three": np.array([0, 3, -1])}),
        ("s", False, 0, 3, None, "sigmoid", ""),
    ),
    "SSD that decodes its boxes, as PyTorch's face detectors do": (
        row("float[N,90,4] b, float[N,90,2] s",
            "s = Softmax<axis=2>(raw) h = Div(size, two) p = Sub(at, h) q = Add(at, h) b = Concat<axis=2>(p, q)",
            dict(raw=(90, 2), at=(90, 2), size=(90, 2)).items(), producer="pytorch", **TWO),
        ("raw", False, 1, 1, None, "first", "corners"),
    ),
    "RetinaNet and FCOS, with their Sigmoid": (
        row("float[N,90,4] b, float[N,90,5] s", "s = Sigmoid(raw) b = Mul(box, two)",
            dict(raw=(90, 5), box=(90, 4)).items(), **TWO),
        ("raw", False, 0, 5, None, "sigmoid", ""),
    ),
    "PP-YOLOE": (
        row("float[N,90,4] b, float[N,5,90] s", "s = Sigmoid(raw) b = Mul(box, two)",
            dict(raw=(5, 90), box=(90, 4)).items(), **TWO),
        ("raw", True, 0, 5, None, "sigmoid", ""),
    ),
    "DETR": (
        row("float[N,20,6] s, float[N,20,4] b", "moved = MatMul(box, square) t = Add(moved, four) b = Sigmoid(t)",
            dict(s=(20, 6), box=(20, 4)).items(), square=np.eye(4, dtype="f4"), four=np.ones(4, "f4")),
        ("s", False, 0, 5, None, "last", "centre of 1"),
    ),
    "DETR, with a mask for each query": (
        row("float[N,20,6] s, float[N,20,4] b, float[N,20,32,32] m",
            "moved = MatMul(box, square) t = Add(moved, four) b = Sigmoid(t) m = Conv(a, w)",
            dict(s=(20, 6), box=(20, 4)).items(), square=np.eye(4, dtype="f4"), four=np.ones(4, "f4"),
            w=np.ones((20, 8, 1, 1), "f4")),
        ("s", False, 0, 5, None, "last", "centre of 1"),
    ),
    "RT-DETR": (
        row("float[N,20,6] s, float[N,20,4] b", "e = Log(reference) t = Add(box, e) b = Sigmoid(t)",
            dict(s=(20, 6), box=(20, 4), reference=(20, 4)).items()),
        ("s", False, 0, 6, None, "sigmoid", "centre of 1"),
    ),
    "RT-DETR, as transformers has it: the last of a stack": (
        row("float[N,Q,6] s, float[N,R,4] b",
            "e = Log(reference) t = Add(box, e) b1 = Sigmoid(t) b0 = Sigmoid(box) "
            "b0u = Unsqueeze(b0, one) b1u = Unsqueeze(b1, one) bs = Concat<axis=1>(b0u, b1u) b = Gather<axis=1>(bs, i) "
            "s0 = Relu(raw) s0u = Unsqueeze(s0, one) s1u = Unsqueeze(raw, one) ss = Concat<axis=1>(s0u, s1u) "
            "s = Gather<axis=1>(ss, i)",
            dict(raw=(20, 6), box=(20, 4), reference=(20, 4)).items(), i=np.array(-1)),
        ("raw", False, 0, 6, None, "sigmoid", "centre of 1"),
    ),
    "a suppression inside": (
        row("int64[M,3] y", "s = Sigmoid(raw) y = NonMaxSuppression<center_point_box=1>(box, s)",
            dict(box=(90, 4), raw=(5, 90)).items()),
        ("s", True, 0, 5, None, "", "centre"),
    ),
    "a sorting inside: YOLO v10": (
        row("float[N,9,6] y",
            "rows = Transpose<perm=[0,2,1]>(t) box, s = Split<axis=2>(rows, sizes) m = ReduceMax<keepdims=0>(s, end) "
            "v, at = TopK<axis=1>(m, nine) i = Unsqueeze(at, end) ib = Tile(i, four) it = Tile(i, five) "
            "b = GatherElements<axis=1>(box, ib) p = GatherElements<axis=1>(s, it) flat = Flatten(p) "
            "best, which = TopK<axis=1>(flat, nine) "
            "ten = Div(which, classes) c = Mod(which, classes) h = Unsqueeze(ten, end) hb = Tile(h, four) "
            "kept = GatherElements<axis=1>(b, hb) bu = Unsqueeze(best, end) cf = Cast<to=1>(c) cu = Unsqueeze(cf, end) "
            "y = Concat<axis=2>(kept, bu, cu)",
            dict(t=(9, 40)).items(), sizes=np.array([4, 5]), nine=np.array([9]), four=np.array([1, 1, 4]),
            five=np.array([1, 1, 5]), classes=np.array(5)),
        ("s", False, 0, 5, None, "", "corners"),
    ),
    "TensorRT's suppression": (
        row("int32[N,1] n, float[N,9,4] b, float[N,9] s, int32[N,9] c",
            "n, b, s, c = trt.EfficientNMS_TRT<score_activation=1, box_coding=1>(box, raw)",
            dict(box=(90, 4), raw=(90, 5)).items()),
        ("raw", False, 0, 5, None, "sigmoid", "centre"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_detection_head(name):
    (outputs, nodes, weights), expected = HEADS[name]
    model = model_of(outputs, nodes, **weights)
    head = find(model)
    assert not isinstance(head, str), head
    assert expected == (
        head.scores.name, head.turned, head.first, head.classes, head.objectness, head.activation, head.form
    )  # fmt: skip
    task = find_task(model)
    assert (task.name, task.score, task.kind.word) == ("detection", expected[0], "boxes")


def test_names_in_the_file_say_how_many_classes_there_are():
    """What cannot be told by the rows is, where ultralytics has written the names of the classes."""
    (outputs, nodes, weights), _ = ASKED["one row a candidate, no border behind the box"]
    proto = proto_of(outputs, nodes, **weights)
    proto.metadata_props.add(key="names")
    for names, expected in (("{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", (4, 5)), ("['a', 'b', 'c', 'd', 'e']", (None, 4))):
        proto.metadata_props[0].value = names
        head = find(load(proto.SerializeToString()))
        assert (head.objectness, head.first) == expected
    proto.metadata_props[0].value = "['a'] * 10 ** 9"
    assert isinstance(find(load(proto.SerializeToString())), str)


@pytest.mark.parametrize(
    ("producer", "form"), [("pytorch", "corners"), ("tf2onnx", "rows"), ("", "")], ids=["PyTorch", "TensorFlow", "?"]
)
def test_which_corner_comes_first_is_the_frameworks(producer, form):
    """NonMaxSuppression takes any two opposite corners."""
    outputs, nodes, weights = row("int64[M,3] y", "y = NonMaxSuppression(box, s)", dict(box=(9, 4), s=(5, 9)).items())
    assert find(model_of(outputs, nodes, producer=producer, **weights)).form == form


DARKNET = "p8 = Conv<strides=[4,4]>(a, w255) p16 = Conv<strides=[8,8]>(a, w255) "

# outputs, nodes, weights -> the task, its score, the kind of target ("": the logit of a class)
TASKS = {
    "logits": (row("float[N,5] y", "", dict(y=(5,)).items()), ("classification", "y", "")),
    "a Softmax": (row("float[N,5] y", "y = Softmax(r)", dict(r=(5,)).items()), ("classification", "r", "")),
    "a Softmax as JAX writes it": (
        row("float[N,5] y",
            "m = ReduceMax<keepdims=0>(r, one) b = Max(low, m) c = Unsqueeze(b, one) s = Shape(r) l = Expand(c, s) "
            "d = Sub(r, l) e = Exp(d) t = ReduceSum<keepdims=0>(e, one) h = Unsqueeze(t, one) v = Expand(h, s) "
            "y = Div(e, v)",
            dict(r=(5,)).items(), low=np.array(-np.inf, "f4")),
        ("classification", "r", ""),
    ),
    "shares that are no Softmax, of the larger of two": (
        row("float[N,5] y",
            "m = ReduceMax<keepdims=1>(r, one) n = ReduceMax<keepdims=1>(q, one) b = Max(n, m) d = Sub(r, b) "
            "e = Exp(d) t = ReduceSum<keepdims=1>(e, one) y = Div(e, t)",
            dict(r=(5,), q=(5,)).items()),
        ("classification", "y", ""),
    ),
    "a Sigmoid": (row("float[N,5] y", "y = Sigmoid(r)", dict(r=(5,)).items()), ("multi-label classification", "r", "")),
    "one Sigmoid": (row("float[N,1] y", "y = Sigmoid(r)", dict(r=(1,)).items()), ("binary classification", "r", "")),
    "one number": (row("float[N,1] y", "", dict(y=(1,)).items()), ("regression, or one logit", "y", "")),
    "two heads": (row("float[N,3] y, float[N,5] z", "", dict(y=(3,), z=(5,)).items()), ("classification", "y", "")),
    "classes beside an embedding": (
        row("float[N,3] embedding, float[N,5] y", "", dict(embedding=(3,), y=(5,)).items()),
        ("classification", "y", ""),
    ),
    "probabilities called features": (
        row("float[N,5] features", "features = Softmax(r)", dict(r=(5,)).items()),
        ("classification", "r", ""),
    ),
    "classes behind places: the last network of MTCNN": (
        row("float[N,4] bbox, float[N,10] landmarks, float[N,2] y", "y = Softmax(r)",
            dict(bbox=(4,), landmarks=(10,), r=(2,)).items()),
        ("classification", "r", ""),
    ),
    "a map beside classes": (
        row("float[N,8,32,32] a, float[N,5] y", "", dict(y=(5,)).items()),
        ("classification", "y", ""),
    ),
    "letters": (
        row("float[N,9,5] y", "y = Softmax<axis=2>(r)", dict(r=(9, 5)).items()),
        ("text recognition (CTC)", "r", "letters"),
    ),
    "letters, log": (
        row("float[N,9,5] y", "y = LogSoftmax<axis=-1>(r)", dict(r=(9, 5)).items()),
        ("text recognition (CTC)", "r", "letters"),
    ),
    "a segmentation's Softmax": (
        row("float[N,8,32,32] y", "y = Softmax<axis=1>(a)"),
        ("semantic segmentation", "a", "area"),
    ),
    "a segmentation's ArgMax": (
        row("int64[N,32,32] y", "y = ArgMax<axis=1, keepdims=0>(a)"),
        ("semantic segmentation", "a", "area"),
    ),
    "classes on a grid, by name: SegFormer": (
        row("float[N,8,32,32] logits", "logits = Identity(a)"),
        ("semantic segmentation", "logits", "area"),
    ),
    "classes at every pixel": (row("float[N,8,64,64] u", ""), ("semantic segmentation", "u", "area")),
    "classes on grids of several strides, one of them 4 x 4": (
        row("float[N,8,16,16] y, float[N,8,4,4] z",
            "r = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) q = MaxPool<kernel_shape=[8,8], strides=[8,8]>(a) "
            "y = Softmax<axis=1>(r) z = Relu(q)"),
        ("semantic segmentation", "r", "area"),
    ),
    "text or not": (
        row("float[N,1,32,32] y", "m = Conv(a, w1) y = Sigmoid(m)", w1=np.ones((1, 8, 1, 1), "f4")),
        ("a probability map (text detection, one class's mask)", "m", "area"),
    ),
    "keypoints, by name: ViTPose": (
        row("float[N,8,32,32] heatmaps", "heatmaps = Identity(a)"),
        ("keypoints", "heatmaps", "peak"),
    ),
    "keypoints, by name, behind a Sigmoid": (
        row("float[N,8,32,32] heatmap, float[N,8,32,32] keypoint_offsets",
            "heatmap = Sigmoid(a) keypoint_offsets = Neg(a)"),
        ("keypoints", "a", "peak"),
    ),
    "keypoints' columns and rows: SimCC": (
        row("float[N,5,96] simcc_x, float[N,5,128] simcc_y", "", dict(simcc_x=(5, 96), simcc_y=(5, 128)).items()),
        ("keypoints", "simcc_x", "peak"),
    ),
    "masks of queries: MaskFormer, Mask2Former": (
        row("float[N,9,6] c, float[N,9,32,32] m", 'm = Einsum<equation="bqc,bchw->bqhw">(q, a)',
            dict(c=(9, 6), q=(9, 8)).items()),
        ("segmentation by queries", "c", "boxes"),
    ),
    "masks of queries, by name": (
        row("float[N,9,6] class_queries_logits, float[N,9,32,32] m", "m = Conv(a, w)",
            dict(class_queries_logits=(9, 6)).items(), w=np.ones((9, 8, 1, 1), "f4")),
        ("segmentation by queries", "class_queries_logits", "boxes"),
    ),
    "an output of each level, three anchors a cell: YOLO v3 from Darknet": (
        ("float[N,255,8,8] p8, float[N,255,4,4] p16", DARKNET, {"w255": np.ones((255, 8, 1, 1), "f4")}),
        ("detection", "p8", "boxes"),
    ),
    "an output of each level, channels last: YOLO v3 in a TensorFlow graph": (
        ("float[N,8,8,3,85] y8, float[N,4,4,3,85] y16",
         DARKNET + "t8 = Transpose<perm=[0,2,3,1]>(p8) y8 = Reshape(t8, split) "
         "t16 = Transpose<perm=[0,2,3,1]>(p16) y16 = Reshape(t16, split)",
         {"w255": np.ones((255, 8, 1, 1), "f4"), "split": np.array([0, 0, 0, 3, 85])}),
        ("detection", "y8", "boxes"),
    ),
    "class, objectness, box and points of each level: YuNet": (
        row("float[N,64,1] cls_8, float[N,16,1] cls_16, float[N,64,1] obj_8, float[N,16,1] obj_16, "
            "float[N,64,4] bbox_8, float[N,16,4] bbox_16, float[N,64,10] kps_8, float[N,16,10] kps_16", "",
            dict(cls_8=(64, 1), cls_16=(16, 1), obj_8=(64, 1), obj_16=(16, 1), bbox_8=(64, 4), bbox_16=(16, 4),
                 kps_8=(64, 10), kps_16=(16, 10)).items()),
        ("detection", "cls_8", "boxes"),
    ),
    "one grid of objectness, box and classes: FastestDet": (
        row("float[N,8,4,4] y", "o = Conv<strides=[8,8]>(a, w1) b = Conv<strides=[8,8]>(a, w4) "
            "c = Conv<strides=[8,8]>(a, w3) p = Sigmoid(o) q = Softmax<axis=1>(c) y = Concat<axis=1>(p, b, q)",
            **CONVS),
        ("detection", "y", "boxes"),
    ),
    "several outputs of features: a backbone": (
        row("float[N,3] y, float[N,16,8,8] p8, float[N,16,4,4] p16",
            "p8 = Conv<strides=[4,4]>(a, w16) p16 = Conv<strides=[8,8]>(a, w16) ", dict(y=(3,)).items(),
            w16=np.ones((16, 8, 1, 1), "f4")),
        ("classification", "y", ""),
    ),
    "anomalib": (
        row("float[N,1] pred_score, float[N,8,32,32] anomaly_map", "anomaly_map = Relu(a)",
            dict(pred_score=(1,)).items()),
        ("anomaly detection", "pred_score", "value"),
    ),
    "anomalib, the map alone": (
        row("float[N,1,32,32] anomaly_map", "anomaly_map = Conv(a, w)", w=np.ones((1, 8, 1, 1), "f4")),
        ("anomaly detection", "anomaly_map", "peak"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_task(name):
    (outputs, nodes, weights), expected = TASKS[name]
    found = find_task(model_of(outputs, nodes, **weights))
    assert (found.name, found.score, found.kind.word if found.kind else "") == expected


@pytest.mark.parametrize(("name", "of"), [("signal_1d", " of signals"), ("volume_3d", " of volumes or video")])
def test_a_classifier_says_of_what(name, of):
    assert find_task(load(BUILDERS[name]())).name == f"classification{of}"


def test_the_heads_that_were_not_taken_are_counted():
    (outputs, nodes, weights), _ = TASKS["two heads"]
    assert "of the first of 2 heads" in find_task(model_of(outputs, nodes, **weights)).why


ASKED = {
    "features of tokens, as many by chance as a pyramid has candidates: DINOv3": (
        row("float[N,5,48] last_hidden_state", "last_hidden_state = MatMul(r, w)", dict(r=(5, 8)).items(),
            w=np.ones((8, 48), "f4")),
        "a sequence (last_hidden_state: 48 numbers at every position of a sequence)",
    ),
    "one row a candidate, no border behind the box": (
        row(f"float[N,{CELLS},9] y", "y = Relu(r)", dict(r=(CELLS, 9)).items()),
        "whether the fifth is an objectness cannot be told",
    ),
    "anchors that the file does not have": (
        row("float[N,90,4] b, float[N,90,5] s", "b = Relu(r)", dict(r=(90, 4), s=(90, 5)).items()),
        "whether one of them stands for nothing cannot be told",
    ),
    "an embedding": (
        row("float[N,5] y", "l = ReduceL2<keepdims=1>(r, one) y = Div(r, l)", dict(r=(5,)).items()),
        "similar:FILE, another picture or a vector in a .npy file",
    ),
    "what is called an embedding": (
        row("float[N,5] image_embeds, float[N,8,32,32] a", "", dict(image_embeds=(5,)).items()),
        "an output called image_embeds",
    ),
    "what is called a pooled output": (
        row("float[N,9,5] last_hidden_state, float[N,5] pooler_output", "",
            dict(last_hidden_state=(9, 5), pooler_output=(5,)).items()),
        "each is compared with the other; or class, if they are logits",
    ),
    "landmarks, by name: PFLD": (
        row("float[N,136] landmarks", "", dict(landmarks=(136,)).items()),
        "value:landmarks[:,I], one of its numbers",
    ),
    "landmarks, by name, as pairs": (
        row("float[N,68,2] face_landmarks", "", dict(face_landmarks=(68, 2)).items()),
        "value:face_landmarks[:,I,0], one of its numbers",
    ),
    "a channel for what is no keypoint: OpenPose": (
        row("float[N,8,32,32] pafs, float[N,8,32,32] heatmaps", "pafs = Identity(a) heatmaps = Neg(a)"),
        "keypoints (heatmaps: heatmaps): peak:KEYPOINT, with score= (--score) heatmaps",
    ),
    "heatmaps of several stages": (
        row("float[N,8,32,32] heatmap_0, float[N,8,32,32] heatmap_1", "heatmap_0 = Identity(a) heatmap_1 = Neg(a)"),
        "peak:KEYPOINT, with score= (--score) heatmap_1",
    ),
    "masks of queries, or features of tokens beside a map": (
        row("float[N,9,6] c, float[N,9,32,32] m", "m = Conv(a, w)", dict(c=(9, 6)).items(),
            w=np.ones((9, 8, 1, 1), "f4")),
        "boxes, the class of the best query; or value:c[:,QUERY,CLASS]",
    ),
    "features of several strides: a pyramid": (
        row("float[N,24,8,8] p8, float[N,24,4,4] p16",
            "p8 = Conv<strides=[4,4]>(a, w24) p16 = Conv<strides=[8,8]>(a, w24) ", w24=np.ones((24, 8, 1, 1), "f4")),
        "keypoints, segmentation or features",
    ),
    "two towers of features of several strides": (
        row("float[N,256,8,8] p8, float[N,256,4,4] p16, float[N,256,8,8] q8, float[N,256,4,4] q16",
            "p8 = Conv<strides=[4,4]>(a, w) p16 = Conv<strides=[8,8]>(a, w) q8 = Relu(p8) q16 = Relu(p16)",
            w=np.ones((256, 8, 1, 1), "f4")),
        "keypoints, segmentation or features",
    ),
    "boxes and classes of which either could be the other": (
        row("float[N,36,8,8] p8, float[N,36,4,4] p16, float[N,36,8,8] q8, float[N,36,4,4] q16",
            "p8 = Conv<strides=[4,4]>(a, w) p16 = Conv<strides=[8,8]>(a, w) q8 = Neg(p8) q16 = Neg(p16)",
            w=np.ones((36, 8, 1, 1), "f4")),
        "of which it is not known which are boxes and which classes: value:p8[0,CHANNEL,ROW,COLUMN] explains one",
    ),
    "logits and boxes of each level: SSD or RetinaNet": (
        row("float[N,18,8,8] c8, float[N,24,8,8] box8, float[N,18,4,4] c16, float[N,24,4,4] box16",
            "c8 = Conv<strides=[4,4]>(a, w18) box8 = Conv<strides=[4,4]>(a, w24) c16 = Conv<strides=[8,8]>(a, w18) "
            "box16 = Conv<strides=[8,8]>(a, w24)",
            w18=np.ones((18, 8, 1, 1), "f4"), w24=np.ones((24, 8, 1, 1), "f4")),
        "logits of unknown kind: value:c8[0,CHANNEL,ROW,COLUMN] explains one of them",
    ),
    "classes and boxes of each level: RetinaNet": (
        row("float[N,64,3] c8, float[N,16,3] c16, float[N,64,4] b8, float[N,16,4] b16", "",
            dict(c8=(64, 3), c16=(16, 3), b8=(64, 4), b16=(16, 4)).items()),
        "stride 8: c8, b8; stride 16: c16, b16",
    ),
    "a picture": (
        row("float[N,3,64,64] y", "y = Conv(u, w)", w=np.ones((3, 8, 1, 1), "f4")),
        "image to image, depth or segmentation",
    ),
    "three Sigmoids at every pixel: masks, or a picture": (
        row("float[N,3,64,64] y", "z = Conv(u, w) y = Sigmoid(z)", w=np.ones((3, 8, 1, 1), "f4")),
        "area, if they are logits of classes; box:X0,Y0,X1,Y1:CHANNEL",
    ),
    "a larger picture: Swin2SR": (
        row("float[N,3,128,128] y", 'z = Resize<mode="nearest">(u, , k) y = Conv(z, w)', w=np.ones((3, 8, 1, 1), "f4")),
        "y: 3 values at every pixel of the picture",
    ),
    "one channel of the picture's size": (
        row("float[N,1,64,64] y", "y = Conv(u, w)", w=np.ones((1, 8, 1, 1), "f4")),
        "image to image, depth or segmentation",
    ),
    "one channel of the picture's size, by name": (
        row("float[N,1,64,64] inverse_depth", "inverse_depth = Conv(u, w)", w=np.ones((1, 8, 1, 1), "f4")),
        "depth estimation",
    ),
    "one number at every place, as monocular depth has it: DPT": (
        row("float[N,64,64] predicted_depth", "d = Conv(u, w) e = Relu(d) predicted_depth = Squeeze(e, one)",
            w=np.ones((1, 8, 1, 1), "f4")),
        "depth estimation (predicted_depth: one number at every place): pixel:Y,X",
    ),
    "one number at every place of a coarser grid, no name: MiDaS": (
        row("float[N,32,32] y", "d = Conv(a, w) y = Squeeze(d, one)", w=np.ones((1, 8, 1, 1), "f4")),
        "image to image, depth or segmentation (y: one number at every place): pixel:Y,X",
    ),
    "one channel of a coarser grid": (
        row("float[N,1,32,32] y", "y = Conv(a, w)", w=np.ones((1, 8, 1, 1), "f4")),
        "area, if it is the logit of a class; pixel:Y,X",
    ),
    "keypoints": (
        row("float[N,5,32,32] y", "r = Relu(a) y = Conv(r, w)", w=np.ones((5, 8, 1, 1), "f4")),
        "peak, if each is the map of a keypoint",
    ),
    "a sequence without a distribution": (row("float[N,9,5] y", "", dict(y=(9, 5)).items()), "or position:T"),
    "boxes that were chosen inside": (
        row("float[N,9,4] b, float[N,9] s, float[N,9] l", "", dict(b=(9, 4), s=(9,), l=(9,)).items()),
        "they were chosen inside the file",
    ),
    "boxes that were chosen inside, without a batch": (
        row("float[K,4] b, float[K] s",
            "r = Reshape(all, flat) m = Reshape(some, end) q = Greater(m, half) b = Compress<axis=0>(r, q) "
            "s = Compress<axis=0>(m, q)",
            dict(all=(9, 4), some=(9,)).items(), flat=np.array([-1, 4]), half=np.array(0.5, "f4")),
        "they were chosen inside the file",
    ),
    "a suppression in a branch": (
        row("int64[M,3] y",
            "y = If(c) <then_branch = t () => (int64[M,3] p) { p = NonMaxSuppression(box, s) }, "
            "else_branch = e () => (int64[M,3] q) { q = NonMaxSuppression(box, s) }>",
            dict(box=(9, 4), s=(5, 9)).items(), c=np.array(True)),
        "lies in a subgraph or function",
    ),
    "one number for each of any number of candidates, and boxes at two levels": (
        row("float[N,M,1] s, float[N,M,4] b, float[N,K,4] d",
            "t = Transpose<perm=[0,2,3,1]>(a) m = Reshape(t, of1) s = Sigmoid(m) b = Reshape(t, of4) "
            "v = Transpose<perm=[0,2,3,1]>(u) d = Reshape(v, of4)",
            size="3,H,W", of1=np.array([0, -1, 1]), of4=np.array([0, -1, 4])),
        "4 numbers at every position of a sequence",
    ),
    "candidates that were chosen before": (
        row("int64[M,3] y", "few, at = TopK<axis=2>(s, ten) y = NonMaxSuppression(box, few)",
            dict(box=(10, 4), s=(5, 90)).items(), ten=np.array([10])),
        "is a choice of candidates",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_not_certain_is_asked(name):
    (outputs, nodes, weights), words = ASKED[name]
    with pytest.raises(ScoreNotFound) as caught:
        find_task(model_of(outputs, nodes, **weights))
    assert words in str(caught.value)


def test_one_logit_of_a_level_can_be_named():
    outputs, nodes, weights = ASKED["logits and boxes of each level: SSD or RetinaNet"][0]
    proto = proto_of(outputs, nodes, **weights)
    assert convert(proto, target="value:c8[0,5,2,3]").contract.target["kind"] == "expression"


def test_what_is_called_an_embedding_can_be_said_to_be_logits(tmp_path):
    outputs, nodes, weights = ASKED["what is called an embedding"][0]
    proto = proto_of(outputs, nodes, **weights)
    with pytest.raises(ScoreNotFound, match="an output called image_embeds"):
        convert(proto)
    assert convert(proto, target="class").contract.score == "image_embeds"
    np.save(tmp_path / "v.npy", np.ones(5))
    assert convert(proto, target=f"similar:{tmp_path / 'v.npy'}").contract.target["kind"] == "similarity"


GRID = row("float[N,5,32,32] y", "y = Conv(a, w)", w=np.ones((5, 8, 1, 1), "f4"))
ONE = row("float[N,1,32,32] y", "y = Conv(a, w)", w=np.ones((1, 8, 1, 1), "f4"))
VECTOR = row("float[N,5] y", "", dict(y=(5,)).items())
TIMM = {"architecture": "vit_small_patch14_dinov2", "num_classes": 0, "pretrained_cfg": {"num_classes": 0}}

# what the file is, what lies beside it as config.json, and the task, or what is asked
BESIDE = {
    "a grid, SegFormer": (GRID, {"architectures": ["SegformerForSemanticSegmentation"]}, "semantic segmentation"),
    "a grid, ViTPose": (GRID, {"architectures": ["VitPoseForPoseEstimation"]}, "keypoints"),
    "a grid, a backbone": (GRID, {"architectures": ["ResNetModel"]}, "could be: keypoints, segmentation or features"),
    "a grid with as many names": (GRID, {"id2label": {str(i): f"kind {i}" for i in range(5)}}, "could be: keypoints"),
    "three channels, SegFormer": (ASKED["a picture"][0], {"architectures": ["UperNetForSemanticSegmentation"]},
                                  "semantic segmentation"),
    "one channel, DPT": (ONE, {"architectures": ["DPTForDepthEstimation"]}, "could be: depth estimation (y: "),
    "one number at every place, Depth Anything": (
        ASKED["one number at every place of a coarser grid, no name: MiDaS"][0],
        {"architectures": ["DepthAnythingForDepthEstimation"]}, "could be: depth estimation (y: "),
    "a vector, CLIP": (VECTOR, {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"},
                       "(Hugging Face) says CLIPVisionModelWithProjection): similar:FILE"),
    "a vector, DINOv2": (VECTOR, {"architectures": ["Dinov2Model"], "model_type": "dinov2"}, "could be: image embed"),
    "a vector, timm without classes": (VECTOR, TIMM, "(timm) says that there are no classes): similar:FILE"),
    "a vector, timm with classes": (VECTOR, TIMM | {"num_classes": 5}, "classification"),
    "a vector, a classifier": (VECTOR, {"architectures": ["ViTForImageClassification"]}, "classification"),
    "logits of pictures and texts": (row("float[N,5] logits_per_image", "", dict(logits_per_image=(5,)).items()),
                                     {"architectures": ["CLIPModel"]}, "classification"),
    "what is called an embedding, a classifier": (
        ASKED["what is called an embedding"][0], {"architectures": ["BeitForImageClassification"]}, "classification"),
    "a Softmax": (TASKS["a Softmax"][0], {"architectures": ["Dinov2Model"]}, "classification"),
    "what is no list of names": (VECTOR, {"architectures": {"a": 1}, "num_classes": 0}, "classification"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_settles_what_the_file_leaves_open(name, tmp_path):
    (outputs, nodes, weights), config, expected = BESIDE[name]
    onnx.save(proto_of(outputs, nodes, **weights), tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps(config))
    report = inspect(tmp_path / "model.onnx")
    if expected.startswith(("could", "(")):
        assert expected in report.problems[0]
        with pytest.raises(ScoreNotFound):
            convert(tmp_path / "model.onnx")
    else:
        assert report.task == expected
        assert convert(tmp_path / "model.onnx").contract.task == expected


def test_a_broken_file_beside_says_nothing_of_the_task(tmp_path):
    outputs, nodes, weights = VECTOR
    onnx.save(proto_of(outputs, nodes, **weights), tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text("{")
    assert convert(tmp_path / "model.onnx").contract.task == "classification"


def test_inspect_says_the_task_and_why():
    outputs, nodes, weights = TASKS["a segmentation's Softmax"][0]
    report = inspect(proto_of(outputs, nodes, **weights))
    assert (report.task, report.score, report.target) == ("semantic segmentation", "a", "area")
    assert report.task_why == "y: softmax over 8 classes at every place"


def test_a_name_that_is_a_number_is_quoted_in_the_question():
    """As the older exporter of PyTorch names values."""
    outputs, nodes, weights = row("float[N,9,6] v5, float[N,9,32,32] v6", "v6 = Conv(a, w)", dict(v5=(9, 6)).items(),
                                  w=np.ones((9, 8, 1, 1), "f4"))  # fmt: skip
    proto = proto_of(outputs, nodes, **weights)
    for node in proto.graph.node:
        node.output[:] = [name.removeprefix("v") if name in ("v5", "v6") else name for name in node.output]
    for output in proto.graph.output:
        output.name = output.name.removeprefix("v")
    with pytest.raises(ScoreNotFound, match=r"value:'5'\[:,QUERY,CLASS\]"):
        find_task(load(proto.SerializeToString()))
