"""Tiny seeded detectors that choose their boxes themselves, spelled as PyTorch's older exporter writes torchvision's.

After files of torchvision 0.29 and torch 2.14, `torch.onnx.export(..., dynamo=False)`: a picture without a batch axis,
a threshold as NonZero, TopK of a number that is computed, a suppression in a branch of If, boxes scaled back at the
end. `ssd` chooses class by class among boxes that are decoded before, `retinanet` and `fcos` decode only what they have
chosen on each level, `faster_rcnn` has a second stage that reads regions of two levels, and a box for every class.

`yolos` chooses nothing: its boxes and classes are read from tokens beside those of the picture, as transformers has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from models import builders
from models.builders import Array, Draw, bias, he, ints, network, reals

__all__ = ["DETECTORS", "yolos"]

SIZE, CLASSES = 32, 3
LEVELS = {"c3": (4, 8), "c4": (8, 4)}  # stride, cells along a side
LAST = np.iinfo(np.int64).max

TRUNK = """
    batch = Unsqueeze(image, i0)
    s = Conv<pads=[1,1,1,1], strides=[2,2]>(batch, ws, b8)
    s1 = Relu(s)
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(s1, wa, b8)
    c3 = Relu(a)
    b = Conv<pads=[1,1,1,1], strides=[2,2]>(c3, wb, b8)
    c4 = Relu(b)
"""
WEIGHTS: dict[str, Draw | Array] = {
    "ws": he(8, 3, 3, 3), "b8": bias(8), "wa": he(8, 8, 3, 3), "wb": he(8, 8, 3, 3), "wt": he(8, 8, 3, 3),
    "wc": he(CLASSES, 8, 1, 1), "wr": he(4, 8, 1, 1), "w1": he(1, 8, 1, 1),
    **{f"i{n}": ints(n) for n in (0, 1, 2, 3, 4)}, **{f"n{n}": np.array(n, np.int64) for n in (0, 1, 2, 3)},
    "minus": ints(-1), "last": ints(LAST), "nowhere": np.zeros(0, np.int64), "many": ints(20), "most": ints(6),
    "half": reals(0.5), "one": reals(1.0), "zero": reals(0.0), "side": reals(float(SIZE)), "low": reals(0.02),
    "iou": reals([0.5]), "scale": reals(1.0), "classes": np.array(CLASSES, np.int64), "flat4": ints(-1, 4),
    "ten": reals(10.0), "far": reals(4.0), "each": ints(1, 1, 1, 1),
}  # fmt: skip


def anchors() -> dict[str, Array]:
    """Boxes (x, y, x, y) of all cells, in pixels: ``anchors``, and of each level."""
    found = {}
    for name, (stride, side) in LEVELS.items():
        y, x = np.mgrid[:side, :side] * stride + stride / 2
        corners = np.stack([x - stride, y - stride, x + stride, y + stride], axis=-1)
        found[f"anchors_{name}"] = corners.reshape(-1, 4).astype(np.float32)
    return {**found, "anchors": np.concatenate(list(found.values()))}


def listed(name: str, weight: str, numbers: int) -> tuple[str, dict[str, Array]]:
    """What a convolution says of every cell of both levels, as (1, A, numbers): ``name``."""
    text, weights = "", {}
    for level, (_, side) in LEVELS.items():
        text += f"""
        {name}_t{level} = Conv<pads=[1,1,1,1]>({level}, wt, b8) {name}_r{level} = Relu({name}_t{level})
        {name}_k{level} = Conv({name}_r{level}, {weight})
        {name}_v{level} = Reshape({name}_k{level}, {name}_s{level})
        {name}_q{level} = Transpose<perm=[0,3,4,1,2]>({name}_v{level})
        {name}_l{level} = Reshape({name}_q{level}, {name}_f)
        """
        weights[f"{name}_s{level}"] = ints(1, 1, numbers, side, side)
    joined = ", ".join(f"{name}_l{level}" for level in LEVELS)
    return f"{text} {name} = Concat<axis=1>({joined})", {**weights, f"{name}_f": ints(1, -1, numbers)}


def decoded(name: str, deltas: str, boxes: str, step: str = "i1") -> str:
    """Corners (K, 4) or (K, 4 * C) of offsets from boxes (K, 4); `step` i4: offsets of every class."""
    text = ""
    for axis, near, far in (("x", "n0", "n2"), ("y", "n1", "n3")):
        at, log = ("i0", "i2") if axis == "x" else ("i1", "i3")
        end_at, end_log = ("i1", "i3") if axis == "x" else ("i2", "i4")
        stop, stop_log = (end_at, end_log) if step == "i1" else ("last", "last")
        p = f"{name}_{axis}"
        text += f"""
        {p}0 = Gather<axis=1>({boxes}, {near}) {p}1 = Gather<axis=1>({boxes}, {far})
        {p}w = Sub({p}1, {p}0) {p}h = Mul({p}w, half) {p}c = Add({p}0, {p}h)
        {p}wu = Unsqueeze({p}w, i1) {p}cu = Unsqueeze({p}c, i1)
        {p}d = Slice({deltas}, {at}, {stop}, i1, {step}) {p}l = Slice({deltas}, {log}, {stop_log}, i1, {step})
        {p}dd = Div({p}d, ten) {p}ll = Div({p}l, far) {p}m = Mul({p}dd, {p}wu) {p}cc = Add({p}m, {p}cu)
        {p}cl = Clip({p}ll, , far) {p}e = Exp({p}cl) {p}s = Mul({p}e, {p}wu) {p}sh = Mul({p}s, half)
        {p}near = Sub({p}cc, {p}sh) {p}far = Add({p}cc, {p}sh)
        {p}nu = Unsqueeze({p}near, i2) {p}fu = Unsqueeze({p}far, i2)
        """
    return f"""{text}
        {name}_j = Concat<axis=2>({name}_xnu, {name}_ynu, {name}_xfu, {name}_yfu)
        {name}_f = Flatten({name}_j)
        {name} = Clip({name}_f, zero, side)
        """


def best(name: str, scores: str) -> str:
    """Of (A,): the values above a threshold, sorted, and the places that they had: ``name_v`` and ``name_i``."""
    return f"""
        {name}_g = Greater({scores}, low)
        {name}_z = NonZero({name}_g) {name}_zt = Transpose<perm=[1,0]>({name}_z)
        {name}_few = GatherND({scores}, {name}_zt)
        {name}_z1 = NonZero({name}_g) {name}_zt1 = Transpose<perm=[1,0]>({name}_z1)
        {name}_at = Squeeze({name}_zt1, i1)
        {name}_n = Shape({name}_few) {name}_both = Concat<axis=0>({name}_n, many)
        {name}_k = ReduceMin<keepdims=0>({name}_both) {name}_ku = Reshape({name}_k, minus)
        {name}_v, {name}_o = TopK({name}_few, {name}_ku)
        {name}_i = Gather({name}_at, {name}_o)
        """


CHOICE = """
    size = Shape(boxes_) count = ReduceProd<keepdims=0>(size) empty = Equal(count, n0)
    widest = ReduceMax<keepdims=0>(boxes_) apart = Add(widest, one) lf = Cast<to=1>(labels_) moved = Mul(lf, apart)
    mu = Unsqueeze(moved, i1) shifted = Add(boxes_, mu)
    kept = If(empty) <
        then_branch = none () => (int64[Z] p) { p = Identity(nowhere) },
        else_branch = some () => (int64[K] q) {
            bu = Unsqueeze(shifted, i0) su0 = Unsqueeze(scores_, i0) su = Unsqueeze(su0, i0)
            taken = NonMaxSuppression(bu, su, last, iou)
            column = Gather<axis=1>(taken, i2) q = Squeeze(column, i1)
        }>
    first = Slice(kept, i0, many, i0, i1)
    chosen = Gather(boxes_, first) scores = Gather(scores_, first) labels = Gather(labels_, first)
    x0, y0, x1, y1 = Split<axis=1, num_outputs=4>(chosen)
    x0s = Squeeze(x0, i1) y0s = Squeeze(y0, i1) x1s = Squeeze(x1, i1) y1s = Squeeze(y1, i1)
    x0m = Mul(x0s, scale) y0m = Mul(y0s, scale) x1m = Mul(x1s, scale) y1m = Mul(y1s, scale)
    x0u = Unsqueeze(x0m, i1) y0u = Unsqueeze(y0m, i1) x1u = Unsqueeze(x1m, i1) y1u = Unsqueeze(y1m, i1)
    boxes = Concat<axis=1>(x0u, y0u, x1u, y1u)
"""


def _model(name: str, nodes: str, weights: Mapping[str, Draw | Array]) -> onnx.ModelProto:
    signature = f"{name} (float[3,{SIZE},{SIZE}] image) => (float[K,4] boxes, float[K] scores, int64[K] labels)"
    return network(signature, TRUNK + nodes + CHOICE, {**WEIGHTS, **anchors(), **weights})


def ssd() -> onnx.ModelProto:
    classes, w0 = listed("classes_", "wc", CLASSES)
    deltas, w1 = listed("deltas_", "wr", 4)
    text = f"""{classes} {deltas}
        sure = Softmax<axis=-1>(classes_) one_sure = Squeeze(sure, i0) one_delta = Squeeze(deltas_, i0)
        {decoded("placed", "one_delta", "anchors")}
    """
    for k in range(1, CLASSES):
        text += f"""
        of{k} = Gather<axis=1>(one_sure, n{k}) {best(f"t{k}", f"of{k}")}
        few{k} = GatherND(placed, t{k}_zt1) box{k} = Gather(few{k}, t{k}_o)
        shape{k} = Shape(t{k}_v) label{k} = ConstantOfShape<value = int64[1] {{{k}}}>(shape{k})
        """
    text += """
        boxes_ = Concat<axis=0>(box1, box2) scores_ = Concat<axis=0>(t1_v, t2_v)
        labels_ = Concat<axis=0>(label1, label2)
    """
    return _model("ssd", text, {**w0, **w1})


def _level_by_level(name: str, centred: bool) -> onnx.ModelProto:
    parts = [listed("classes_", "wc", CLASSES), listed("deltas_", "wr", 4)]
    parts += [listed("centred_", "w1", 1)] if centred else []
    text, weights, at = " ".join(part for part, _ in parts), {k: v for _, w in parts for k, v in w.items()}, 0
    for level, (_, side) in LEVELS.items():
        weights |= {f"{level}_from": ints(at), f"{level}_to": ints(at + side * side)}
        at += side * side
        for what in ("classes_", "deltas_", *(["centred_"] if centred else [])):
            text += f"""
            {what}{level}s = Slice({what}, {level}_from, {level}_to, i1)
            {what}{level} = Gather<axis=0>({what}{level}s, n0)
            """
        text += f"p{level} = Sigmoid(classes_{level}) "
        if centred:
            text += f"z{level} = Sigmoid(centred_{level}) m{level} = Mul(p{level}, z{level}) q{level} = Sqrt(m{level}) "
        text += f"""
        flat{level} = Reshape({"q" if centred else "p"}{level}, minus) {best(f"t{level}", f"flat{level}")}
        row{level} = Div(t{level}_i, classes) label{level} = Mod(t{level}_i, classes)
        d{level} = Gather(deltas_{level}, row{level}) a{level} = Gather(anchors_{level}, row{level})
        {decoded(f"box{level}", f"d{level}", f"a{level}")}
        """
    text += """
        boxes_ = Concat<axis=0>(boxc3, boxc4) scores_ = Concat<axis=0>(tc3_v, tc4_v)
        labels_ = Concat<axis=0>(labelc3, labelc4)
    """
    return _model(name, text, weights)


def retinanet() -> onnx.ModelProto:
    return _level_by_level("retinanet", centred=False)


def fcos() -> onnx.ModelProto:
    return _level_by_level("fcos", centred=True)


def faster_rcnn() -> onnx.ModelProto:
    objects, w0 = listed("objects_", "w1", 1)
    deltas, w1 = listed("deltas_", "wr", 4)
    pools, merged = "", "empty_"
    for n, (level, (stride, _)) in enumerate(LEVELS.items()):
        pools += f"""
        on{n} = Equal(level_, n{n}) z{n} = NonZero(on{n}) zt{n} = Transpose<perm=[1,0]>(z{n}) at{n} = Squeeze(zt{n}, i1)
        roi{n} = Gather(regions, at{n}) which{n} = Gather(images, at{n})
        pool{n} = RoiAlign<output_height=2, output_width=2, sampling_ratio=2, spatial_scale={1 / stride},
                           coordinate_transformation_mode="output_half_pixel">({level}, roi{n}, which{n})
        sp{n} = Shape(pool{n}) tall{n} = Reshape(at{n}, column4) ix{n} = Expand(tall{n}, sp{n})
        merged{n} = ScatterElements({merged}, ix{n}, pool{n})
        """
        merged = f"merged{n}"
    text = f"""{objects} {deltas}
        one_object = Reshape(objects_, minus) one_delta = Squeeze(deltas_, i0)
        v, picked = TopK(one_object, most) rd = Gather(one_delta, picked) ra = Gather(anchors, picked)
        {decoded("regions", "rd", "ra")}
        rows = Shape<start=0, end=1>(regions) images = ConstantOfShape<value = int64[1] {{0}}>(rows)
        rx0 = Gather<axis=1>(regions, n0) rx1 = Gather<axis=1>(regions, n2) rw = Sub(rx1, rx0)
        large = Greater(rw, split) level_ = Cast<to=7>(large)
        eight = Concat<axis=0>(rows, pooled) empty_ = ConstantOfShape(eight)
        {pools}
        vector = Flatten(merged1) hidden0 = Gemm<transB=1>(vector, wh, bh) hidden = Relu(hidden0)
        logits = Gemm<transB=1>(hidden, wl, bl) offsets = Gemm<transB=1>(hidden, wo, bo)
        {decoded("placed", "offsets", "regions", "i4")}
        apart_ = Reshape(placed, by_class)
        sure = Softmax<axis=-1>(logits)
        things = Slice(apart_, i1, last, i1, i1) probabilities = Slice(sure, i1, last, i1, i1)
        ids0 = Range(n0, classes, n1) ids1 = Reshape(ids0, wide) ss = Shape(sure) ids2 = Expand(ids1, ss)
        ids = Slice(ids2, i1, last, i1, i1)
        all_boxes = Reshape(things, flat4) all_scores = Reshape(probabilities, minus) all_labels = Reshape(ids, minus)
        g = Greater(all_scores, low) z = NonZero(g) zt = Transpose<perm=[1,0]>(z) where = Squeeze(zt, i1)
        boxes_ = Gather(all_boxes, where) scores_ = Gather(all_scores, where) labels_ = Gather(all_labels, where)
    """
    return _model("faster_rcnn", text, {
        **w0, **w1, "split": reals(12.0), "pooled": ints(8, 2, 2), "column4": ints(-1, 1, 1, 1), "wide": ints(1, -1),
        "by_class": ints(0, -1, 4), "wh": he(16, 32), "bh": bias(16), "wl": he(CLASSES, 16), "bl": bias(CLASSES),
        "wo": he(4 * CLASSES, 16), "bo": bias(4 * CLASSES),
    })  # fmt: skip


DETECTORS: dict[str, Callable[[], onnx.ModelProto]] = {
    function.__name__: function for function in (ssd, retinanet, fcos, faster_rcnn)
}


def yolos() -> onnx.ModelProto:
    """A grid of 4 x 6 between a class token and five tokens for detections: the last attention reads `features`."""
    return network(
        "yolos (float[N,3,16,24] image) => (float[N,5,4] logits, float[N,5,4] pred_boxes)",
        builders._PATCHES + builders._WITH_CLASS + """
        placed = Add(positions, where)
        token_shape = Concat<axis=0>(batch, five_rows)
        found_tokens = Expand(token_rows, token_shape)
        x0 = Concat<axis=1>(class_token, placed, found_tokens)
        features = LayerNormalization<axis=-1>(x0, n0_s, n0_b)
        """ + builders._attention_block(0, "x0", "x1").replace("n0,", "features,") + """
        normed = LayerNormalization<axis=-1>(x1, last_s, last_b)
        read = Slice(normed, behind, end, next)
        scores0 = MatMul(read, w_scores) logits = Add(scores0, b_scores)
        boxes0 = MatMul(read, w_boxes) boxes1 = Add(boxes0, b_boxes) pred_boxes = Sigmoid(boxes1)
        """,
        dict(**builders._attention_weights(0), class_row=bias(8), where=he(1, 24, 8, fan=20), five_rows=ints(5, 8),
             token_rows=he(1, 5, 8, fan=8), behind=ints(-5), end=ints(LAST), w_scores=he(8, 4, fan=8), b_scores=bias(4),
             w_boxes=he(8, 4, fan=8), b_boxes=bias(4)), opset=20, ir=9,
    )  # fmt: skip
