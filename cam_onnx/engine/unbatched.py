"""A model that takes one picture without a batch axis, as one that takes batches of one: nothing above has to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cam_onnx.engine import Array, Engine, Tensor

__all__ = ["Unbatched"]


class Unbatched:
    """An engine whose input called `name` has an axis of 1 in front that the model does not have."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """As `Engine.inputs`, with the axis."""
        return tuple(
            replace(tensor, shape=(1, *tensor.shape)) if tensor.name == self._name and tensor.shape else tensor
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
        own = {name: value[0] if name == self._name else value for name, value in feeds.items()}
        return self._engine.run(own, outputs)
