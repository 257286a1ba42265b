"""The target layer where nobody names one: where spatial extent ends on all ways to the score.

In a convolutional network that is the last value with spatial axes. A transformer that averages its tokens has it in
its last list of them. One that reads a class token has not: behind its last attention no other token has any influence
on the score, so that the layer is the value that this attention reads. Where extent ends at several places (features of
several stages, each pooled), the layer is the nearest value through which all of them get theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from cam_onnx.autodiff.backward import label, mark
from cam_onnx.autodiff.model import Model
from cam_onnx.contract import Axes
from cam_onnx.errors import shown
from cam_onnx.graph.alike import alike
from cam_onnx.graph.dense_layers import VIEWS, dense_layers
from cam_onnx.graph.extent import ALIGNED, Extent
from cam_onnx.graph.first_axes import RECURRENT
from cam_onnx.graph.held import DERIVATIVE
from cam_onnx.graph.roles import REGIONS, Roles
from cam_onnx.graph.states import is_state
from cam_onnx.graph.strides import Strides, strides

__all__ = ["choose", "extent_of"]

_ROUNDED = {"DequantizeLinear", "QuantizeLinear"}
_POINTWISE = ALIGNED | {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}
_RESAMPLES = VIEWS | {
    "Add", "AveragePool", "Concat", "Div", "Expand", "Gather", "GatherND", "Max", "MaxPool", "Mean", "Mul", "Pad",
    "ReduceMax", "ReduceMean", "ReduceSum", "Resize", "Slice", "Split", "Sum", "Where",
}  # fmt: skip
_PRODUCTS = {"Attention", "Einsum", "MatMul", "MultiHeadAttention"}


def extent_of(
    model: Model, scores: Sequence[ir.Value], found: Mapping[ir.Value, Axes], roles: Mapping[ir.Value, Roles]
) -> Extent:
    """Return where positions are held on the way to a score, or to all that it is made of."""
    given = [value for value in model.graph.inputs if not is_state(model.graph, value)]
    path = mark(model.graph, [*given, *found], scores, model.opset, DERIVATIVE)
    return Extent(model.graph, path, scores, roles)


def choose(
    extent: Extent, scores: Sequence[ir.Value], found: Mapping[ir.Value, Axes], roles: Mapping[ir.Value, Roles]
) -> tuple[list[ir.Value], str]:
    """Return the default among `found`, which stand in the order of the graph, and why; none, and why not."""
    values = list(found)
    if regions := [node for node in extent.nodes if alike(node).op_type in REGIONS]:
        return _of_regions(extent, regions, found, roles)
    ends = extent.ends()
    spatial = [value for value in values if found[value].tokens is None]
    if not ends or any(extent.holds(score) or _is_head(extent, score) for score in scores):
        return _of_dense(extent, scores, found, strides(extent.graph, roles))
    last = ends[-1]
    at = extent.common(ends)
    if at is None:
        listed = ", ".join(shown(label(node)) for node in ends[:4])
        return [], f"extent ends at {listed}, and no value before them holds all positions that they read"
    at = extent.above_others(at)
    if _is_attention(extent, last) and not _projects(last):
        at = _before_projection(extent, at)
    known = _known(extent, at, found) or _resampled(extent, at, found)
    if known is None:
        return [], f"extent ends at {shown(label(last))}, which reads {shown(at.name)!r}, {_unknown(at, roles)}"
    if found[known].tokens is None:
        more = "" if known is spatial[-1] else ", of those through which all positions go that the score reads"
        return [known], f"the last value with spatial axes{more}"
    if _is_attention(extent, last):
        read = "one token is read" if len(scores[0].shape or ()) < 3 else "none of its places is read"
        return [known], f"enters the last attention ({label(last)}), behind which {read}"
    return [known], "the last tokens before the pooling"


def _of_regions(
    extent: Extent, regions: list[ir.Node], found: Mapping[ir.Value, Axes], roles: Mapping[ir.Value, Roles]
) -> tuple[list[ir.Value], str]:
    """Return what a second stage reads its regions from: behind that a place is one of a region, not of the picture."""
    layers: list[ir.Value] = []
    for node in regions:
        read = node.inputs[0]
        if read is None or not extent.is_on(read):
            continue
        known = _known(extent, read, found)
        if known is None:
            return [], f"regions are read from {shown(read.name)!r}, {_unknown(read, roles)}"
        layers.append(known)
    layers = sorted(set(layers), key=list(found).index)
    return layers, f"one of {len(layers)} grids that regions are read from" if len(layers) > 1 else (
        "the grid that regions are read from"
    )


def _is_head(extent: Extent, score: ir.Value) -> bool:
    """Whether a score is the raw head of a detector, whose positions share an axis with its anchors.

    Of two axes the first one: entries of the second are features, or classes.
    """
    axes = slice(1) if score.shape is not None and len(score.shape) == 2 else slice(None)
    return score.shape is not None and len(score.shape) > 1 and extent.mixes(score, axes)


def _of_dense(
    extent: Extent, scores: Sequence[ir.Value], found: Mapping[ir.Value, Axes], known: Mapping[ir.Value, Strides]
) -> tuple[list[ir.Value], str]:
    """Return the layers of a score that has positions itself."""
    layers = dense_layers(extent, scores, found, known)
    if len(layers) > 1:
        return layers, f"one of {len(layers)} grids that the last learned layers before the score read"
    if layers:
        return layers, "what the last learned layer before the score reads, which has positions itself"
    last = list(found)[-1]
    if found[last].tokens is None:
        return [last], "the last value with spatial axes"
    return [], f"the score has positions itself, and behind {shown(last.name)!r} it is not known which"


def _is_attention(extent: Extent, node: ir.Node) -> bool:
    given = {x for x in node.inputs if x is not None and extent.is_on(x)}
    return _projects(node) or (alike(node).op_type in _PRODUCTS and len(given) > 1)


def _projects(node: ir.Node) -> bool:
    """Whether queries, keys and values are made of one list inside an operator."""
    return node.domain == "com.microsoft" and node.op_type in ("Attention", "PackedAttention", "QAttention")


def _unknown(value: ir.Value, roles: Mapping[ir.Value, Roles]) -> str:
    sizes = "x".join(str(size if isinstance(size, int) else size.value or "?") for size in value.shape or ())
    return f"{sizes or 'of unknown rank'}, of which it is not known which place of the picture is where"


def _before_projection(extent: Extent, value: ir.Value) -> ir.Value:
    """Step back over one projection to queries, keys and values."""

    def over(at: ir.Value, kinds: set[str]) -> ir.Value:
        while (node := extent.producer(at)) is not None and alike(node).op_type in kinds:
            given = extent.carried(node)
            if len(given) != 1:
                break
            at = given[0]
        return at

    node = extent.producer(over(value, VIEWS | _ROUNDED | {"Add", "Mul", "Gather", "Slice", "Split"}))
    if node is None or alike(node).op_type not in ("Gemm", "MatMul") or _is_attention(extent, node):
        return value
    x = node.inputs[0]
    return over(x, VIEWS) if x is not None and extent.is_on(x) else value


def _known(extent: Extent, value: ir.Value, found: Mapping[ir.Value, Axes]) -> ir.Value | None:
    """Step back over what leaves every position where it is, to where axes are known."""
    while value not in found:
        node = extent.producer(value)
        given = [] if node is None else extent.carried(node)
        if node is None or len(given) != 1 or alike(node).op_type not in VIEWS | _POINTWISE:
            return None
        [value] = given
    return value


def _resampled(extent: Extent, value: ir.Value, found: Mapping[ir.Value, Axes]) -> ir.Value | None:
    """Step back over what moves and averages entries, and learns nothing: an adaptive pooling that is written out.

    Also over a recurrent layer, which goes through columns in order: the grid is what it is given. To a grid
    only: of a list it would have to be known which tokens were taken.
    """
    order = {node: i for i, node in enumerate(extent.nodes)}
    open_ = {value}
    while len(open_) > 1 or not open_ <= found.keys():
        made = {each: node for each in open_ if (node := extent.producer(each)) is not None}
        latest = max(made, key=lambda each: order[made[each]], default=None)
        if len(made) < len(open_) or latest is None or alike(made[latest]).op_type not in _RESAMPLES | RECURRENT:
            return None
        open_.remove(latest)
        open_.update(extent.carried(made[latest]))
        if not open_:
            return None
    [at] = open_
    while at in found and found[at].batch and (node := extent.producer(at)) is not None and node.op_type == "Transpose":
        [before] = extent.carried(node)
        if before not in found:
            break
        at = before
    return at if at in found and found[at].tokens is None else None
