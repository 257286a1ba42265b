"""What a method reads of the inside of a network beside a layer: lists of values, every one an output of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.val import Val, cotangent_of
from cam_onnx.errors import LayerNotFound, shown
from cam_onnx.graph import attention, biases
from cam_onnx.graph.held import DERIVATIVE

__all__ = ["Inside", "find"]


@dataclass(frozen=True)
class Inside:
    """Values between the picture and the score.

    Attributes
    ----------
    needs : tuple of str
        What of them is given: "biases", "attention", "attention_gradients", "early_gradients".
    values : list of onnx_ir.Value
        Whose cotangents are wanted, in the order of the graph.
    sources : list of onnx_ir.Value
        From which a path to the score has to be sought, so that it holds them all.
    way : Path
        On which they were found.
    """

    needs: tuple[str, ...] = ()
    values: list[ir.Value] = field(default_factory=list)
    sources: list[ir.Value] = field(default_factory=list)
    way: Path = field(default_factory=Path)

    def given(
        self, op: Emitter, found: dict[ir.Value, Val], early: dict[ir.Value, Val] | None = None
    ) -> dict[str, list[Val]]:
        """Return what is given, by need; `found`: cotangents, `early`: those of scores read early."""
        op.adopt(self.way.again, self.way.same)
        op.scope = "cam"
        lists: dict[str, list[Val]] = {need: [] for need in self.needs}
        for value in self.values:
            if "biases" in lists and value in found:
                lists["biases"].append(biases.part(op, value, found[value]))
            if "attention" in lists:
                lists["attention"].append(op.real(value))
            for need, those in (("attention_gradients", found), ("early_gradients", early or {})):
                if need in lists:
                    lists[need].append(those[value] if value in those else _zero(op, value))
        return lists


def find(model: Model, picture: ir.Value | None, score: ir.Value, needs: Sequence[str]) -> Inside:
    """Look for the values that `needs` are about.

    Raises
    ------
    LayerNotFound
        No input looks like a picture, or there is no attention between it and the score.
    """
    if not needs:
        return Inside()
    if picture is None or not picture.name:
        raise LayerNotFound(f"{model.name}: {' and '.join(needs)} are looked for from the picture on, and no input of "
                            "the model looks like one")  # fmt: skip
    way = mark(model.graph, [picture], [score], model.opset, DERIVATIVE)
    if "biases" in needs:
        return Inside(tuple(needs), biases.biased(way), [], way)
    values = attention.probabilities(way)
    if not values:
        raise LayerNotFound(
            f"{model.name}: no attention (a Softmax between two products of matrices) lies between "
            f"{shown(picture.name)!r} and {shown(score.name)!r}: choose a method that needs none (cam-onnx methods)"
        )
    within = any((node := value.producer()) is None or node.graph is None for value in values)
    return Inside(tuple(needs), values, [picture] if within else values, way)


def _zero(op: Emitter, value: ir.Value) -> Val:
    zero: Val = op.Expand(op.constant(0.0, cotangent_of(value)), op.shape(op.primal(value)))
    return zero
