"""Where a gradient was lost: a model that shows the score's gradient at every value on the way from the layers.

Only for the moment when a map is blank because the gradient is zero: the reason then names an operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from cam_onnx.autodiff.backward import givers, label, mark
from cam_onnx.autodiff.gradient import at_lowest_opset
from cam_onnx.autodiff.model import Model
from cam_onnx.contract import Axes, Contract
from cam_onnx.errors import shown
from cam_onnx.graph.candidates import Place
from cam_onnx.graph.held import DERIVATIVE
from cam_onnx.graph.locate import find_score
from cam_onnx.graph.original import original
from cam_onnx.graph.rewrite import rewrite

__all__ = ["Probe", "probe"]


@dataclass(frozen=True)
class Step:
    """An operator on the way, and the values on the way that it reads and gives."""

    operator: str
    name: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    cuts: bool


@dataclass(frozen=True)
class Probe:
    """A model with one output per value on the way.

    Attributes
    ----------
    model : onnx.ModelProto
    target : str
        The input that takes the class.
    gradients : dict
        Value to the output that has its gradient.
    """

    model: onnx.ModelProto
    target: str
    gradients: dict[str, str]
    steps: tuple[Step, ...]

    def said(self, zero: Mapping[str, bool]) -> str:
        """Return which operators the gradient ends at, the one next to the score first; `zero`: by value."""
        ends = [
            step
            for step in self.steps
            if not all(zero.get(y, False) for y in step.gives) and all(zero.get(x, False) for x in step.reads)
        ]
        if not ends:
            return ""
        names = [f"{step.operator} {shown(step.name)!r}" for step in ends[:3]]
        text = f"the gradient ends at {', '.join(names)}{', ...' if len(ends) > 3 else ''}"
        if all(step.cuts for step in ends):
            text += ", where every value that counts is cut off at the end of its quantised range (calibrate it anew)"
        return text


def probe(data: bytes, folder: str | None, contract: Contract) -> Probe:
    """Return the probe of a converted model.

    Raises
    ------
    ContractError
        What was converted cannot be told from what was added.
    """
    proto = onnx.ModelProto.FromString(data)
    # scores of boxes and letters are values that were added
    model = Model(proto if contract.each else original(proto, contract, "the model"), folder)
    return at_lowest_opset(model, lambda prepared: _probe(prepared, contract))


def _probe(model: Model, contract: Contract) -> Probe:
    score = find_score(model, contract.score)
    value = model.values[score.name]
    path = mark(model.graph, [model.values[layer.name] for layer in contract.layers], [value], model.opset, DERIVATIVE)
    on_path = {v.name for v in path.values if v.name and v is not value and v.shape is not None}
    names = [name for name in model.values if name in on_path]
    places = [Place(name, Axes(spatial=())) for name in names]
    proto, shown_at = rewrite(model, score, places, "required")
    uncut = set(givers(value))
    steps = []
    for node in reversed(path.nodes):
        rule = DERIVATIVE.find(node.op_type, model.opset, node.domain)
        reads = tuple(x.name for x in node.inputs if x is not None and x.name in on_path)
        gives = tuple(y.name or "" for y in node.outputs if y in path.values)
        cuts = rule is not None and rule.inside is not None and node not in uncut
        steps.append(Step(node.op_type, label(node), reads, gives, cuts))
    gradients = {layer.name: layer.gradients for layer in shown_at.layers}
    return Probe(proto, shown_at.roles["target"], gradients, tuple(steps))
