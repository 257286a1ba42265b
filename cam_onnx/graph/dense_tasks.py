"""Recognisers of tasks whose outputs have a place for every value: sequences, segmentations, heatmaps, pictures."""

from __future__ import annotations

import re

import onnx_ir as ir

from cam_onnx import kinds
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.expression import quoted
from cam_onnx.graph.ends import Output, Task
from cam_onnx.graph.locate import picture_input
from cam_onnx.graph.positions import dims
from cam_onnx.graph.queries import queried
from cam_onnx.graph.roles import Roles, follow

__all__ = [
    "PLANE", "anomalies", "distributions", "grids", "keypoints", "picture_made", "plane", "probability_map", "queries",
    "segmentation", "sequence",
]  # fmt: skip

PLANE = ("n", "s0", "s1")  # the axes of one number at every place
_DEPTHS = {"depth", "disp", "disparity"}
_ONE_NUMBER = "pixel:Y,X, the number at a place; box:X0,Y0,X1,Y1, its mean in a region; peak, the largest"


def sequence(model: Model, outputs: list[Output]) -> Task | None:
    """(N, T, C) or (T, N, C): a distribution over letters at every position."""
    for output in outputs:
        sizes = output.sizes
        if len(sizes) != 3 or not isinstance(sizes[2], int) or sizes[2] < 3:
            continue
        name = output.source.name or ""
        told = "character" in {entry.key for entry in model.proto.metadata_props}
        if (output.end == "softmax" and output.axis in (2, None)) or told:
            why = f"{output.value.name}: a distribution over {sizes[2]} classes at every position of a sequence"
            return Task("text recognition (CTC)", name, why, kinds.Letters(), activation=output.end)
        if not output.end and _of_lines(picture_input(model)) and not all(isinstance(n, int) for n in sizes[:2]):
            why = f"{output.value.name}: {sizes[2]} numbers at every position along pictures of one height"
            return Task("text recognition (CTC)", name, why, kinds.Letters())
        if not output.end:
            why = f"{output.value.name}: {sizes[2]} numbers at every position of a sequence"
            return Task("a sequence", name, why, asks="letters, if it is a text recogniser's; or position:T")
    return None


def _of_lines(picture: ir.Value | None) -> bool:
    """Whether pictures have one height and any width, as lines of text have."""
    sizes = None if picture is None else dims(picture)
    return sizes is not None and len(sizes) == 4 and isinstance(sizes[2], int) and not isinstance(sizes[3], int)


def anomalies(model: Model, outputs: list[Output]) -> Task | None:
    """Outputs as anomalib names them: one score a picture beside a map, or the largest value of a map."""
    named = {o.value.name: o for o in outputs}
    if not {"anomaly_map", "pred_score"} & set(named) or "anomaly_map" not in named:
        return None
    if "pred_score" in named:
        source = named["pred_score"].value
        if source.shape is not None and 1 <= len(source.shape) <= 2:
            return Task("anomaly detection", source.name or "", "pred_score beside anomaly_map", kinds.Value())
    output = named["anomaly_map"]  # a distance is nowhere below zero: its area would be the picture
    return Task(
        "anomaly detection", output.source.name or "", "anomaly_map", kinds.Peak(), activation=_squashed(output)
    )


def plane(model: Model, outputs: list[Output]) -> Task | None:
    """The only output is one number at every place, (N, H, W), or one channel that is called a depth."""
    if len(outputs) != 1 or outputs[0].end:
        return None
    [output] = outputs
    name = output.value.name or ""
    named = not _DEPTHS.isdisjoint(re.split(r"[^a-z]+", name.casefold()))
    one = named and any(classes == 1 for _, classes, _ in _dense(model, outputs))
    if output.roles != PLANE and not one:
        return None
    why = f"{name}: one number at every place"
    unnamed = Task("image to image, depth or segmentation", output.source.name or "", why, asks=_ONE_NUMBER,
                   could=(_depth(output),))  # fmt: skip
    return _depth(output, why) if named else unnamed


def segmentation(model: Model, outputs: list[Output]) -> Task | None:
    """Classes at every pixel: a Softmax or an ArgMax over them says so, or the size of the picture."""
    for output, classes, whole in _dense(model, outputs):
        along = output.axis is not None and output.axis < len(output.roles) and output.roles[output.axis] == "c"
        name = output.source.name or ""
        if classes > 1 and along and output.end in ("softmax", "argmax"):
            why = f"{output.value.name}: {output.end} over {classes} classes at every place"
            return Task("semantic segmentation", name, why, kinds.Area())
        if classes > 1 and whole and classes not in (3, 4) and output.end in ("", "sigmoid"):
            why = f"{output.value.name}: {classes} values at every pixel of the picture"
            return Task("semantic segmentation", name, why, kinds.Area())
    return None


def probability_map(model: Model, outputs: list[Output]) -> Task | None:
    """A Sigmoid at every place: text or not, foreground or not."""
    for output, classes, _ in _dense(model, outputs):
        if classes == 1 and output.end == "sigmoid":
            why = f"{output.value.name}: one Sigmoid at every place"
            return Task("a probability map (text detection, one class's mask)", output.source.name or "", why,
                        kinds.Area())  # fmt: skip
    return None


def picture_made(model: Model, outputs: list[Output]) -> Task | None:
    """As many channels as the picture has, and at least its size: a region of it has to be named."""
    picture = picture_input(model)
    given = None if picture is None else dims(picture)
    for output, classes, whole in _dense(model, outputs):
        # a picture may end in a Sigmoid, as three masks do
        if given is not None and whole and classes in (1, 3, 4) and output.end in ("", "sigmoid"):
            why = f"{output.value.name}: {classes} values at every pixel of the picture"
            return Task("image to image, depth or segmentation", output.source.name or "", why,
                        asks="area, if they are logits of classes; box:X0,Y0,X1,Y1:CHANNEL or pixel:Y,X:CHANNEL of a "
                             "picture", could=(_depth(output) if classes == 1 else _segmented(output),))  # fmt: skip
    return None


def keypoints(model: Model, outputs: list[Output]) -> Task | None:
    """A map for each keypoint, or its distribution over columns and over rows, as names say (ViTPose, RTMPose)."""
    if (both := distributions(model)) is not None:
        columns, rows = both
        why = f"{columns.name} and {rows.name}: where each keypoint is, along the width and the height"
        return Task("keypoints", columns.name or "", why, kinds.Peak())
    maps = [(output, count) for output, count, _ in _dense(model, outputs)]
    for word in ("heatmap", "keypoint"):
        named = [(output, count) for output, count in maps if word in (output.value.name or "").lower()]
        if not named:
            continue
        output, count = named[0]
        name = output.value.name or ""
        if len(named) > 1 or any("paf" in (o.value.name or "").lower() for o, _ in maps):
            # stages of a network, or a last channel for what is no keypoint, as OpenPose has it
            listed = ", ".join(o.value.name or "" for o, _ in named)
            return Task("keypoints", output.source.name or "", f"{word}s: {listed}",
                        asks=f"peak:KEYPOINT, with score= (--score) {named[-1][0].value.name or ''}")  # fmt: skip
        why = f"{name}: a map for each of {count} keypoints, as its name says"
        return Task("keypoints", output.source.name or "", why, kinds.Peak(), activation=_squashed(output))
    return None


def distributions(model: Model) -> tuple[ir.Value, ir.Value] | None:
    """Return two outputs of each keypoint's place, along the width and the height: SimCC, by their names."""
    found = {}
    for output in model.graph.outputs:
        word = re.fullmatch(r"(?:.*[^a-z])?simcc_([xy])", (output.name or "").casefold())
        if word is not None and len(dims(output) or ()) == 3 and cotangent_of(output) is not None:
            found[word[1]] = output
    return (found["x"], found["y"]) if len(found) == 2 else None


def queries(model: Model, outputs: list[Output]) -> Task | None:
    """A class and a mask for each query: the best query's class."""
    if (found := queried(model)) is None:
        return None
    head, certain = found
    name = head.scores.name or ""
    if certain:
        kept = "sigmoid" if head.activation == "sigmoid" else ""
        return Task("segmentation by queries", name, head.why, kinds.Boxes(), activation=kept)
    return Task("segmentation by queries", name, head.why,
                asks=f"boxes, the class of the best query; or value:{quoted(name)}[:,QUERY,CLASS]")  # fmt: skip


def grids(model: Model, outputs: list[Output]) -> Task | None:
    """Coarser than the picture, with nothing that says what the channels are."""
    for output, classes, whole in _dense(model, outputs):
        if not whole and not output.end and classes > 1 and output.value.name == "logits":  # transformers
            why = f"{output.value.name}: {classes} classes at every place of a grid, as its name says"
            return Task("semantic segmentation", output.source.name or "", why, kinds.Area())
        if not whole and not output.end and classes > 1:
            why = f"{output.value.name}: {classes} values on a grid coarser than the picture"
            points = Task("keypoints", output.source.name or "", "", kinds.Peak())
            return Task("keypoints, segmentation or features", output.source.name or "", why,
                        asks="area, if they are logits of classes; peak, if each is the map of a keypoint",
                        could=(_segmented(output), points))  # fmt: skip
        if not whole and not output.end:
            why = f"{output.value.name}: one value on a grid coarser than the picture"
            return Task("depth, segmentation or a heatmap", output.source.name or "", why,
                        asks=f"area, if it is the logit of a class; {_ONE_NUMBER}",
                        could=(_depth(output),))  # fmt: skip
    return None


def _segmented(output: Output) -> Task:
    return Task("semantic segmentation", output.source.name or "", "", kinds.Area())


def _depth(output: Output, why: str = "") -> Task:
    return Task("depth estimation", output.source.name or "", why, asks=_ONE_NUMBER)


def _squashed(output: Output) -> str:
    return output.end if output.end == "sigmoid" else ""


def _dense(model: Model, outputs: list[Output]) -> list[tuple[Output, int, bool]]:
    """Return outputs with batch, channels and space, how many channels, and whether they cover every pixel."""
    picture = picture_input(model)
    roles = {} if picture is None else follow(model.graph)
    found = []
    for output in outputs:
        sizes = dims(output.source) or ()
        space = [i for i, role in enumerate(output.roles) if role.startswith("s")]
        if len(sizes) != len(output.roles) or len(space) < 2 or "c" not in output.roles or "n" not in output.roles:
            continue
        if all(sizes[i] == 1 for i in space):
            continue
        classes = sizes[output.roles.index("c")]
        own, extent = [sizes[i] for i in space], _extent(picture, roles)
        larger = len(own) == len(extent) and all(
            isinstance(a, int) and isinstance(b, int) and a >= b for a, b in zip(own, extent, strict=True)
        )
        whole = own == extent or larger  # super-resolution gives more
        if isinstance(classes, int):
            found.append((output, classes, whole))
    return found


def _extent(picture: ir.Value | None, roles: dict[ir.Value, Roles]) -> list[int | str | None]:
    sizes = None if picture is None else dims(picture)
    known = () if picture is None else roles.get(picture, ())
    return [] if sizes is None else [sizes[i] for i, role in enumerate(known) if role.startswith("s")]
