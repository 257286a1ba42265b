"""Tiny seeded detectors that leave their heads raw, in outputs of each level: what their callers decode.

After the layouts of real files: Darknet's YOLO (a map of all anchors' numbers), YOLO v5 and TensorFlow's (an axis of
anchors), YuNet (libfacedetection.train: lists of classes, objectness, boxes and points, all levels of one kind after
the other), RetinaNet and FCOS as training code exports them, YOLOX as it is exported for NPUs, FastestDet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from models.builders import Array, Draw, bias, he, ints, network

__all__ = ["HEADS", "LEVELS", "SIZE"]

SIZE = 32
LEVELS = {4: 8, 8: 4}  # stride: cells along a side
LOW = float(np.log(0.01 / 0.99))  # where a focal loss has its logits start


@dataclass(frozen=True)
class Part:
    """An output of each level: `numbers` of a cell, of which a candidate has `each`.

    `layout`: "map" (N, K, H, W), "list" (N, H W A, K), "flat" (H W A, K) of one picture, "last" (N, H, W, A, K),
    "first" (N, A, H, W, K); `end`: the operator behind it; `start`: the bias, None: drawn. `free`: a list of pictures
    of any size, declared to have one length at all levels, as PyTorch's exporter writes what it is told.
    """

    name: str
    numbers: int
    each: int
    layout: str = "map"
    end: str = "Identity"
    start: float | None = None
    free: bool = False

    def written(self, stride: int, side: int) -> tuple[str, str, dict[str, Draw | Array]]:
        """Return nodes, the output as it is declared, and weights."""
        p, anchors, end = f"{self.name}_{stride}", self.numbers // self.each, self.end
        text = f"""
        {p}t = Conv<pads=[1,1,1,1]>(c{stride}, w_{self.name}_t, b8) {p}r = Relu({p}t)
        {p}k = Conv({p}r, w_{self.name}, b_{self.name})
        """
        shape = [self.numbers, side, side]
        if self.layout in ("list", "last"):
            shape = [side * side * anchors, self.each] if self.layout == "list" else [side, side, anchors, self.each]
            text += f"{p}h = Transpose<perm=[0,2,3,1]>({p}k) {p}v = Reshape({p}h, {p}s)"
        elif self.layout == "flat":
            shape = [self.each]
            text += f"{p}h = Transpose<perm=[2,3,0,1]>({p}k) {p}v = Reshape({p}h, {p}s)"
        elif self.layout == "first":
            shape = [anchors, side, side, self.each]
            text += f"{p}h = Reshape({p}k, {p}s) {p}v = Transpose<perm=[0,1,3,4,2]>({p}h)"
        else:
            text += f"{p}v = Identity({p}k)"
        given = [anchors, self.each, side, side] if self.layout == "first" else shape
        weights: dict[str, Draw | Array] = {
            f"w_{self.name}_t": he(8, 8, 3, 3), f"w_{self.name}": he(self.numbers, 8, 1, 1), f"{p}s": ints(-1, *given),
            f"b_{self.name}": bias(self.numbers) if self.start is None else np.full(self.numbers, self.start, "f4"),
        }  # fmt: skip
        if self.free:
            weights[f"{p}s"] = ints(0, -1, self.each)
        if self.layout == "flat":
            return f"{text} {p} = {end}({p}v)", f"float[{side * side * anchors},{self.each}] {p}", weights
        declared = f"float[N,{'dim' if self.free else ','.join(map(str, shape[:-1]))},{shape[-1]}] {p}"
        return f"{text} {p} = {end}({p}v)", declared, weights


TRUNK = """
    s = Conv<pads=[1,1,1,1], strides=[2,2]>(image, ws, b8) s1 = Relu(s)
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(s1, wa, b8) c4 = Relu(a)
    b = Conv<pads=[1,1,1,1], strides=[2,2]>(c4, wb, b8) c8 = Relu(b)
"""
TRUNKS: dict[str, Draw | Array] = {"ws": he(8, 3, 3, 3), "b8": bias(8), "wa": he(8, 8, 3, 3), "wb": he(8, 8, 3, 3)}


def _of(name: str, *parts: Part, size: str = f"{SIZE},{SIZE}", batch: str = "N") -> onnx.ModelProto:
    text, declared, weights = TRUNK, [], dict(TRUNKS)
    for part in parts:
        for stride, side in LEVELS.items():
            nodes, output, more = part.written(stride, side)
            text, weights = text + nodes, weights | more
            declared.append(output)
    return network(f"{name} (float[{batch},3,{size}] image) => ({', '.join(declared)})", text, weights)


def _joint(name: str, *parts: Part) -> onnx.ModelProto:
    """One output of each level, in which all numbers of a cell stand one behind the other."""
    text, declared, weights = TRUNK, [], dict(TRUNKS)
    for stride, side in LEVELS.items():
        for part in parts:
            nodes, _, more = part.written(stride, side)
            text, weights = text + nodes, weights | more
        text += f" y_{stride} = Concat<axis=1>({', '.join(f'{part.name}_{stride}' for part in parts)})"
        declared.append(f"float[N,{sum(part.numbers for part in parts)},{side},{side}] y_{stride}")
    return network(f"{name} (float[N,3,{SIZE},{SIZE}] image) => ({', '.join(declared)})", text, weights)


def darknet() -> onnx.ModelProto:
    return _of("darknet", Part("y", 75, 25))


def yolo_v5() -> onnx.ModelProto:
    return _of("yolo_v5", Part("y", 24, 8, layout="first"))


def yolo_of_tensorflow() -> onnx.ModelProto:
    return _of("yolo_of_tensorflow", Part("y", 24, 8, layout="last", end="Sigmoid"))


def darknet_of_few_classes() -> onnx.ModelProto:
    """Told by the biases of its objectness alone."""
    return _of("darknet_of_few_classes", Part("y", 24, 8, start=LOW))


def yunet(free: bool = False) -> onnx.ModelProto:
    ends = {"cls": (1, "Sigmoid"), "obj": (1, "Sigmoid"), "bbox": (4, "Identity"), "kps": (10, "Identity")}
    parts = [Part(name, n, n, "list", end, free=free) for name, (n, end) in ends.items()]
    return _of("yunet", *parts, size="H,W" if free else f"{SIZE},{SIZE}")


def yunet_of_any_size() -> onnx.ModelProto:
    return yunet(free=True)


def scrfd() -> onnx.ModelProto:
    """As insightface exports it: of one picture, two anchors at a cell, lists without an axis of the batch."""
    parts = [Part("score", 2, 1, "flat", "Sigmoid"), Part("bbox", 8, 4, "flat"), Part("kps", 20, 10, "flat")]
    return _of("scrfd", *parts, batch="1")


def scrfd_of_batches() -> onnx.ModelProto:
    """With an axis of the batch, of opset 12: the lists' shapes are computed, and inferred anew once it is raised."""
    parts = [Part("score", 2, 1, "list", "Sigmoid"), Part("bbox", 8, 4, "list"), Part("kps", 20, 10, "list")]
    model = _of("scrfd_of_batches", *parts)
    model.opset_import[0].version = 12
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "first"))
    nodes = [
        onnx.helper.make_node("Shape", ["image"], ["sizes"]),
        onnx.helper.make_node("Gather", ["sizes", "first"], ["count"], axis=0),
        onnx.helper.make_node("Unsqueeze", ["count"], ["batch"], axes=[0]),
    ]
    for tensor in list(model.graph.initializer):
        if tensor.data_type == onnx.TensorProto.INT64 and tensor.name.endswith("s"):
            rest = onnx.numpy_helper.to_array(tensor)[1:]
            model.graph.initializer.append(onnx.numpy_helper.from_array(rest, f"{tensor.name}_rest"))
            nodes.append(onnx.helper.make_node("Concat", ["batch", f"{tensor.name}_rest"], [tensor.name], axis=0))
            model.graph.initializer.remove(tensor)
    for i, node in enumerate(nodes):
        model.graph.node.insert(i, node)
    return model


def retinanet_heads() -> onnx.ModelProto:
    return _of("retinanet_heads", Part("cls", 18, 3, "list", "Sigmoid"), Part("bbox", 24, 4, "list"))


def retinanet_logits() -> onnx.ModelProto:
    """As mmdetection has it: two anchors in one axis with the classes, boxes behind."""
    return _of("retinanet_logits", Part("cls_score", 6, 3, start=LOW), Part("bbox_pred", 8, 4))


def ssd_heads() -> onnx.ModelProto:
    return _of("ssd_heads", Part("conf", 6, 3, "list", "Softmax"), Part("loc", 8, 4, "list"))


def fcos_heads() -> onnx.ModelProto:
    return _of("fcos_heads", Part("cls", 3, 3), Part("reg", 4, 4, end="Exp"), Part("centerness", 1, 1))


def yolox_heads() -> onnx.ModelProto:
    """One output of each level, put together of boxes, objectness and classes."""
    return _joint("yolox_heads", Part("box", 4, 4), Part("obj", 1, 1, end="Sigmoid"), Part("cls", 3, 3, end="Sigmoid"))


def nanodet_heads() -> onnx.ModelProto:
    """Each side of a box is a distribution; as many numbers as of eight anchors."""
    return _of("nanodet_heads", Part("p0", 16, 16, end="Sigmoid"), Part("p1", 32, 32))


def yolo_v8_heads(points: int = 0) -> onnx.ModelProto:
    """One output of each level, four distributions and logits of classes that start low, and perhaps points."""
    more = [Part("kpt", points, points)] if points else []
    return _joint("yolo_v8_heads", Part("box", 64, 64), Part("cls", 3, 3, start=-9.0), *more)


def yolo_v8_pose() -> onnx.ModelProto:
    """With five points of each, as faces have; how many classes there are is said by the file."""
    model = yolo_v8_heads(points=15)
    model.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c'}")
    return model


def fastest() -> onnx.ModelProto:
    """FastestDet: one level; objectness, a box behind its caller's tanh and Sigmoid, a Softmax of classes."""
    text, weights, side = TRUNK, dict(TRUNKS), LEVELS[8]
    for part in (Part("obj", 1, 1, end="Sigmoid"), Part("box", 4, 4), Part("cls", 3, 3, end="Softmax<axis=1>")):
        nodes, _, more = part.written(8, side)
        text, weights = text + nodes, weights | more
    text += " y = Concat<axis=1>(obj_8, box_8, cls_8)"
    return network(f"fastest (float[N,3,{SIZE},{SIZE}] image) => (float[N,8,{side},{side}] y)", text, weights)


HEADS: dict[str, Callable[[], onnx.ModelProto]] = {
    function.__name__: function
    for function in (
        darknet, yolo_v5, yolo_of_tensorflow, darknet_of_few_classes, yunet, yunet_of_any_size, scrfd,
        scrfd_of_batches, retinanet_heads,
        retinanet_logits, ssd_heads, fcos_heads, yolox_heads, nanodet_heads,
        yolo_v8_heads, yolo_v8_pose, fastest,
    )
}  # fmt: skip
