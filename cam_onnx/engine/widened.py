"""A model whose input lacks the axis of the batch or of channels, as one that has it: nothing above has to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cam_onnx.engine import Array, Engine, Tensor

__all__ = ["Widened"]


class Widened:
    """An engine whose input called `name` has an axis of 1, at `axis`, that the model does not have."""

    def __init__(self, engine: Engine, name: str, axis: int) -> None:
        self._engine, self._name, self._axis = engine, name, axis

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """As `Engine.inputs`, with the axis."""
        return tuple(
            replace(tensor, shape=(*tensor.shape[: self._axis], 1, *tensor.shape[self._axis :]))
            if tensor.name == self._name and tensor.shape
            else tensor
            for tensor in self._engine.inputs
        )

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """As `Engine.outputs`."""
        return self._engine.outputs

    @property
    def provider(self) -> str:
        """As `Engine.provider`."""
        return self._engine.provider

    @property
    def note(self) -> str | None:
        """As `Engine.note`."""
        return self._engine.note

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """As `Engine.run`."""
        own = {name: value.take(0, self._axis) if name == self._name else value for name, value in feeds.items()}
        return self._engine.run(own, outputs)
