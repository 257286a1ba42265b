"""Target layers as they are asked for: by a value's or a node's name, an index, a word, a glob, a module's name.

What is a name in the file is that name, whatever else it looks like.
"""

from __future__ import annotations

import fnmatch
from difflib import get_close_matches

import onnx_ir as ir

from cam_onnx.autodiff.functions import inside
from cam_onnx.autodiff.model import Model
from cam_onnx.errors import LayerNotFound, shown
from cam_onnx.graph.candidates import Place, candidates, listed
from cam_onnx.graph.locate import Score, typed
from cam_onnx.graph.modules import modules
from cam_onnx.graph.roles import axes_of, follow, has_extent
from cam_onnx.graph.unbatched import axes_when_whole

__all__ = ["CONVOLUTIONS", "WORDS", "Asked"]

WORDS = ("last-conv", "all-stages")
CONVOLUTIONS = {"Conv", "ConvTranspose", "DeformConv", "FusedConv", "NhwcFusedConv", "QLinearConv"}


class Asked:
    """Names and words of one model's layers, for one score."""

    def __init__(self, model: Model, score: Score) -> None:
        self._model, self._roles = model, follow(model.graph)
        self._nodes = {node.name: node for node in model.graph if node.name}
        self._score = score
        self._listed: list[Place] | None = None

    @property
    def candidates(self) -> list[Place]:
        """What `inspect` lists."""
        if self._listed is None:
            self._listed = candidates(self._model, self._score)
        return self._listed

    def exact(self, name: str) -> Place | None:
        """Return the value of this name, else the first output of the node of this name.

        Raises
        ------
        LayerNotFound
            It has no spatial extent, or lies inside a function or a subgraph.
        """
        value = self._model.values.get(name)
        if value is None and name in self._nodes:
            value = self._nodes[name].outputs[0]
        if value is None and (where := inside(self._model.proto, name)):
            raise LayerNotFound(
                f"{self._model.name}: {shown(name)!r} lies inside {where}, where it cannot be an output; "
                f"{self._candidates()}"
            )
        if value is None or not value.name:
            return None
        if (whole := axes_when_whole(value)) is not None:
            return Place(value.name, whole)
        axes = axes_of(self._roles.get(value, ()))
        if axes is None or not has_extent(value, axes):
            why = "has no spatial extent that a map could show"
            if axes is None and value.shape is not None and len(value.shape) > 2:
                why = "is not known to have spatial axes: nothing before it says which axis is what"
            raise LayerNotFound(f"{self._model.name}: layer {shown(name)!r} {typed(value)} {why}; {self._candidates()}")
        return Place(value.name, axes)

    def at(self, index: int) -> Place:
        """Return a candidate by its index; negative ones count from the score.

        Raises
        ------
        LayerNotFound
            There are not so many.
        """
        count = len(self.candidates)
        if not -count <= index < count:
            raise LayerNotFound(
                f"{self._model.name} has no candidate layer {index}: there are {count}, from 0 to {count - 1}"
                if count
                else f"{self._model.name} has no candidate layer at all: name a value"
            )
        return self.candidates[index]

    def last_conv(self) -> Place:
        """Return the last convolution's output.

        Raises
        ------
        LayerNotFound
            There is none on the way to the score.
        """
        for place in reversed(self.candidates):
            node = self._model.values[place.name].producer()
            if node is not None and node.op_type in CONVOLUTIONS:
                return place
        raise LayerNotFound(
            f"{self._model.name}: no convolution with spatial extent lies on the way to {shown(self._score.name)!r}; "
            f"{self._candidates()}"
        )

    def matching(self, pattern: str) -> list[Place]:
        """Return the candidates whose names or nodes match a glob; else what the outermost matching modules give.

        Raises
        ------
        LayerNotFound
            Nothing matches.
        """
        found = [place for place in self.candidates
                 if any(fnmatch.fnmatchcase(name, pattern) for name in (place.name, self._node(place)))]  # fmt: skip
        if found:
            return found
        last: dict[str, Place] = {}
        for place in self.candidates:
            name = next((name for name in self._modules(place) if fnmatch.fnmatchcase(name, pattern)), None)
            if name is not None:
                last[name] = place
        if not last:
            raise LayerNotFound(f"{self._model.name}: no candidate layer and no module matches {shown(pattern)!r}"
                                f"{self._near(pattern)}")  # fmt: skip
        return [place for place in self.candidates if place in last.values()]

    def module(self, name: str) -> Place | None:
        """Return the last candidate that a module of the framework gives."""
        found = [place for place in self.candidates if name in self._modules(place)]
        return found[-1] if found else None

    def unknown(self, name: str) -> LayerNotFound:
        """Return the error that says what there is instead."""
        return LayerNotFound(f"{self._model.name} has no value or node {shown(name)!r}{self._near(name)}")

    def _near(self, name: str) -> str:
        known = [place.name for place in self.candidates]
        known += [module for place in self.candidates for module in self._modules(place)]
        known += [*WORDS, *filter(None, self._model.values), *self._nodes]
        folded = {each.casefold(): each for each in reversed(known)}
        near = [folded[each] for each in get_close_matches(name.strip("*").casefold(), folded, n=3, cutoff=0.6)]
        if not near:
            return f"; {self._candidates()}"
        *others, last = [repr(shown(each)) for each in near]
        return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"

    def _candidates(self) -> str:
        return f"candidates: {listed([place.name for place in self.candidates])}"

    def _node(self, place: Place) -> str:
        node = self._model.values[place.name].producer()
        return "" if node is None else node.name or ""

    def _modules(self, place: Place) -> list[str]:
        node: ir.Node | None = self._model.values[place.name].producer()
        return [] if node is None else modules(node)
