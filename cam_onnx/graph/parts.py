"""Parts of a converted file for methods that run it many times: what is not needed for a score is left out.

A runtime computes all that a file holds, so that a forward pass through a converted file pays for its gradient. These
parts are cut out of the file itself, so that they score what it scores, whatever kind of target that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from cam_onnx.autodiff.gradient import gradient
from cam_onnx.autodiff.model import Model, load
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.contract import Contract, Layer
from cam_onnx.errors import Disconnected, shown
from cam_onnx.graph.head import between, constant_nodes, extract, is_constant, with_real_layers
from cam_onnx.graph.held import DERIVATIVE, ancestors, held_nodes
from cam_onnx.graph.locate import fed

__all__ = ["Curved", "Halves", "curved", "halves", "scorer"]


@dataclass(frozen=True)
class Halves:
    """A model cut at one layer: `trunk` gives what is in `crossing`, the layer first, and `head` makes the score of it.

    The head gives what the class was chosen in as well, unless the layer decides nothing there. `repeats`: a sample's
    crossing values may be repeated along the batch.
    """

    trunk: onnx.ModelProto
    head: onnx.ModelProto
    crossing: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True)
class Curved:
    """A converted file differentiated once more: input `direction`, output `product`."""

    model: onnx.ModelProto
    direction: str
    product: str


def scorer(data: bytes, folder: str | None, contract: Contract) -> onnx.ModelProto:
    """Return the model from its inputs to the score; the target is an input."""
    model = _with_target(data, folder, contract)
    nodes = list(model.graph)
    score = model.values[contract.roles["score"]]
    return extract(model, ancestors(nodes, [score]), fed(model), [score], constant_nodes(nodes))


def halves(data: bytes, folder: str | None, contract: Contract, layer: Layer) -> Halves:
    """Cut the model at a layer; a quantised one at the real numbers that it stands for.

    Raises
    ------
    Disconnected
        The score does not depend on the layer.
    """
    model, real = with_real_layers(_with_target(data, folder, contract), [layer.name])
    nodes, constants = list(model.graph), constant_nodes(list(model.graph))
    cut, score = model.values[real.get(layer.name, layer.name)], model.values[contract.roles["score"]]
    if not between(nodes, [cut], score):
        raise Disconnected(f"{model.name}: the score does not depend on layer {shown(layer.name)!r}")
    target = contract.roles["target"]
    inside = between(nodes, [cut, model.values[target]], score)  # what the target alone decides belongs to the head
    given = {y for node in inside for y in node.outputs}
    crossing = [cut]
    for node in inside:
        for x in reads(node):
            if x not in given and x not in crossing and not is_constant(x, constants) and x.name != target:
                crossing.append(x)
    picture = [value for value in fed(model) if value.name != target]
    inputs = [*crossing, *(value for value in fed(model) if value.name == target)]
    chosen_in = [v for v in [model.values[contract.score]] if v is not score and v in given]
    head = extract(model, inside, inputs, [score, *chosen_in], constants)
    trunk = extract(model, ancestors(nodes, crossing), picture, crossing, constants)
    batches = [None if v.shape is None or len(v.shape) == 0 else v.shape[0] for v in (*crossing, score)]
    symbol = None if contract.single else batches[-1]
    repeats = symbol is not None and not isinstance(symbol, int) and all(batch == symbol for batch in batches)
    return Halves(trunk, head, tuple(v.name or "" for v in crossing), repeats)


def curved(data: bytes, contract: Contract, layer: Layer) -> Curved:
    """Differentiate a layer's gradient: the vector-Jacobian product with `direction` is the Hessian times it.

    Raises
    ------
    UnsupportedOperators
        The gradient holds operators without a gradient of their own.
    """
    model = load(data, whole=True)
    apart = held_nodes(list(model.graph), model.values[contract.roles["score"]])
    constant = [y.name for node in apart for y in node.outputs if y.name]  # also where the gradient reads the regions
    twice = gradient(data, wrt=[layer.name], of=[layer.gradients], table=DERIVATIVE, held=constant)
    return Curved(twice, twice.graph.input[-1].name, twice.graph.output[-1].name)


def _with_target(data: bytes, folder: str | None, contract: Contract) -> Model:
    """Return the model with its target as a plain input: a default would be a constant."""
    proto = onnx.ModelProto.FromString(data)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != contract.roles["target"]]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return Model(proto, folder)
