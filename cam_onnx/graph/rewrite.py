"""The rewrite: target layers become outputs, and the score's gradient with respect to them is computed behind.

Only `cam_target` is new at the entrance. Another rule table bends the way back (guided backpropagation), and a file
for methods that need no gradient has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir

from cam_onnx.autodiff import rules as _rules  # noqa: F401  (fills the table)
from cam_onnx.autodiff.append import append, info
from cam_onnx.autodiff.backward import Path, backward, givers, mark, refuse
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.quantised import scale_of
from cam_onnx.autodiff.table import RULES, Table
from cam_onnx.autodiff.val import Val, cotangent_of
from cam_onnx.contract import Contract, Layer
from cam_onnx.errors import Disconnected, shown
from cam_onnx.graph.candidates import Place
from cam_onnx.graph.choice import Choice, choose
from cam_onnx.graph.first_axes import widened_axes
from cam_onnx.graph.fusion import cut_fusions
from cam_onnx.graph.held import held
from cam_onnx.graph.inside import Inside, find
from cam_onnx.graph.linear_head import describe
from cam_onnx.graph.locate import Score
from cam_onnx.graph.seeds import Chosen

__all__ = ["rewrite"]


def rewrite(
    model: Model,
    score: Score,
    places: Sequence[Place],
    target_input: str,
    *,
    chosen: Chosen | None = None,
    table: Table = RULES,
    gradients: bool = True,
    picture: ir.Value | None = None,
    lists: Sequence[str] = (),
    early: Sequence[str] = (),
) -> tuple[onnx.ModelProto, Contract]:
    """Return the converted model, without its metadata entry, and its contract, without what is not of the graph.

    Parameters
    ----------
    model : Model
    score : Score
        In which a class is chosen.
    places : sequence of Place
    target_input : {"optional", "required"}
    chosen : Chosen, optional
        Where the score is made of a class already (`cam_onnx.graph.seeds`); None: it is the class's entry.
    table : Table
    gradients : bool
    picture : onnx_ir.Value, optional
    lists : sequence of str
        What the method reads of the inside of the network (`cam_onnx.graph.inside`).
    early : sequence of str
        The score as it would be read behind each layer of attention (`cam_onnx.graph.early`).

    Raises
    ------
    LayerNotFound
        What it reads there is not there.
    Disconnected
        The score does not depend on a layer through any derivative.
    UnsupportedOperators
    """
    table = held(table)
    value = model.values[score.name]
    layers = [model.values[place.name] for place in places]
    op = Emitter(model.opset, model.names())
    op.scope = "cam"
    roles = {"logits": score.name}
    outputs: list[onnx.ValueInfoProto] = []
    inputs, initializers = [], []

    def output(name: str, val: Val, dims: Sequence[int | str | None] | None) -> str:
        given = op.output(val, name)
        assert given.value.dtype is not None
        outputs.append(info(given.name, given.value.dtype, dims))
        return given.name

    if chosen is None:
        seeded, inside = value, find(model, picture, value, lists)
        target = op.input("cam_target", ir.DataType.INT64, [op.fresh("cam_targets")])
        choice = choose(op, op.real(value), score, target)
        roles["target"] = target.name
        inputs.append(info(target.name, ir.DataType.INT64, target.dims))
        if target_input == "optional":
            initializers.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), target.name))
        path = _path(model, seeded, layers, table, inside) if gradients else None
        seed = partial(_seed, op, choice)
    else:
        seeded = model.values[chosen.score]
        inside = find(model, picture, seeded, lists)
        roles |= {"target": chosen.target, "score": chosen.score, "class": chosen.cls}
        path = _path(model, seeded, layers, table, inside) if gradients else None
        seed = partial(_ones, op)
    found = {} if path is None else backward(op, path, {seeded: seed(seeded)}, [*layers, *inside.values], table)
    given = inside.given(op, found, _early(model, op, inside, [model.values[name] for name in early], seed, table))
    if table.arriving is not None:
        found |= {layer: table.arriving(op, op.primal(layer), found[layer]) for layer in layers if layer in found}
    if score.name not in {o.name for o in model.graph.outputs} or scale_of(value) is not None:
        roles["logits"] = output("cam_logits", op.real(value), op.primal(value).dims)
    entries = []
    for i, (place, layer) in enumerate(zip(places, layers, strict=True)):
        suffix = f"_{i}" if len(places) > 1 else ""
        # an output must declare its rank; the axes know it where shape inference does not
        dims = op.primal(layer).dims if layer.shape is not None else [None] * len(place.axes.order())
        lacks = len(dims) < len(place.axes.order())
        absent = 0 if widened_axes(layer) is None else 1  # of a wave the channels, of a picture the batch
        whole = partial(_widened, op, absent) if lacks else _same
        dims = [*dims[:absent], 1, *dims[absent:]] if lacks else dims
        entries.append(
            Layer(
                name=place.name,
                activations=output(f"cam_activations{suffix}", whole(op.real(layer)), dims),
                gradients="" if path is None else output(f"cam_gradients{suffix}", whole(found[layer]), dims),
                axes=place.axes,
                head="other" if path is None or lacks or chosen else describe(layer, value, path, place.axes),
            )
        )
    if chosen is None:
        batch: Sequence[int | str | None] = [1] if score.single else op.primal(value).dims[:1]
        roles["score"] = output("cam_score", choice.score, batch)
        roles["class"] = output("cam_class", choice.chosen, batch)
    named = {need: [output(f"cam_{need}_{i}", val, _dims(val)) for i, val in enumerate(vals)]
             for need, vals in given.items()}  # fmt: skip
    converted = append(model.proto, op, outputs, inputs, initializers)
    contract = Contract(
        roles=roles,
        layers=tuple(entries),
        score=score.name,
        target_input=target_input,
        activation=score.activation,
        single=score.single,
        cuts_fusion=cut_fusions(_newly_read(op, [value, *layers])),
        raised=model.raised,
        lists=named,
    )
    return converted, contract


def _same(val: Val) -> Val:
    return val


def _widened(op: Emitter, axis: int, val: Val) -> Val:
    return op.Unsqueeze(val, [axis])


def _early(
    model: Model,
    op: Emitter,
    inside: Inside,
    scores: Sequence[ir.Value],
    seed: Callable[[ir.Value], Val],
    table: Table,
) -> dict[ir.Value, Val]:
    """Return the cotangents of each layer of attention, of its own score."""
    found: dict[ir.Value, Val] = {}
    for value, score in zip(inside.values, scores, strict=False):
        path = mark(model.graph, inside.sources, [score], model.opset, table)
        refuse(path, model.name, f"in front of {score.name!r}")
        found |= backward(op, path, {score: seed(score)}, [value], table)
    return found


def _ones(op: Emitter, score: ir.Value) -> Val:
    dtype = cotangent_of(score)
    assert dtype is not None
    return op.Expand(op.constant(1.0, dtype), op.shape(op.primal(score)))


def _dims(val: Val) -> list[int | str | None] | None:
    """Return the dimensions of what is given, where they are known; a name that was made up in a body says nothing."""
    if val.value.shape is None:
        return None
    return [d if isinstance(d, int) or (d and "/" not in d) else None for d in val.dims]


def _path(model: Model, score: ir.Value, layers: list[ir.Value], table: Table, inside: Inside) -> Path:
    path = mark(model.graph, [*layers, *inside.sources], [score], model.opset, table)
    path.open.update(givers(score))  # a logit beyond its calibrated range is still what is explained
    refuse(path, model.name, f"between {', '.join(repr(layer.name) for layer in layers)} and {score.name!r}")
    for layer in layers:
        if layer not in path.values or layer is score:
            if layer is score:
                why = "it is the score itself"
            elif cotangent_of(layer) is None:
                why = f"it is {layer.dtype}, which has no derivative"
            else:
                lost = path.lost[:4]
                why = f"the derivative is lost: {'; '.join(lost)}" if lost else "no path leads from one to the other"
            raise Disconnected(
                f"{model.name}: score {shown(score.name)!r} does not depend on layer {shown(layer.name)!r}: {why}. "
                "Choose a layer before the score (cam-onnx inspect lists them)"
            )
    return path


def _seed(op: Emitter, choice: Choice, score: ir.Value) -> Val:
    """The score's derivative with respect to the logits: 1 at the chosen class of each sample."""
    value = op.primal(score)
    if value.rank == 2:
        depth = op.shape(value, 1, 2)
    else:
        depth = op.Slice(op.Shape(choice.logits), [1], [2], [0])
    ones = op.constant(np.array([0.0, 1.0], cotangent_of(score).numpy()))  # type: ignore[union-attr]
    hot = op.OneHot(choice.chosen, depth, ones, axis=-1)
    return hot if value.rank == 2 else op.reshape_like(hot, value)


def _newly_read(op: Emitter, exposed: Sequence[ir.Value]) -> list[ir.Value]:
    """Return the values of the original graph that added nodes or outputs read."""
    read = {x for node in op.nodes for x in node.inputs if x is not None and node.op_type not in ("Shape", "Size")}
    return [*exposed, *(x for x in read if x.producer() is not None and x.producer().graph is not None)]  # type: ignore[union-attr]
