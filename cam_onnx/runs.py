"""A converted model at work: its session, and those of what is cut out of it, made at first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cam_onnx.calls import Parts
from cam_onnx.contract import Contract
from cam_onnx.engine import Engine, batches
from cam_onnx.engine.evidence import Evidence
from cam_onnx.engine.samples import Samples
from cam_onnx.errors import RunFailed
from cam_onnx.reading import Reading
from cam_onnx.targets import OF_VALUES

if TYPE_CHECKING:
    from cam_onnx.graph.head import Head

__all__ = ["Runs"]


class Runs:
    """Sessions of one converted model. Safe to call from several threads."""

    def __init__(
        self, read: Reading, contract: Contract, open_model: Callable[[bytes], Engine], closed: bool = False
    ) -> None:
        self._read, self.contract, self._open = read, contract, open_model
        self._lock = threading.Lock()
        self._cut: tuple[Head, Engine, Engine] | None = None
        self._parts: Parts | None = None
        self._engine: Engine | None = None if closed else open_model(read.data)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._engine is None

    def engine(self) -> Engine:
        """Return the whole model's session."""
        if self._engine is None:
            raise RunFailed("this Explainer is closed: make a new one")
        return self._engine

    def close(self) -> None:
        """Give all sessions back."""
        with self._lock:
            self._engine = self._cut = self._parts = None

    def parts(self) -> Parts:
        """Return what methods call."""
        with self._lock:
            if self._parts is None:
                self._parts = Parts(self._read.data, self._read.folder, self.contract, self.engine(), self._open)
            return self._parts

    def evidence(
        self,
        samples: Samples,
        wanted: list[list[int]],
        owner: list[int],
        progress: Callable[[int, int], None] | None,
    ) -> Evidence:
        """Return the evidence of the classes `wanted` of every sample; several share one pass of the trunk."""
        flat = [target for group in wanted for target in group]
        if len(owner) == samples.count:
            return batches.run(self.engine(), self.contract, samples.feeds, flat, progress)
        if self._can_be_cut():
            cut, trunk, head = self._halves()
            return batches.run_head(trunk, head, cut, samples.feeds, wanted, progress)
        return batches.run(self.engine(), self.contract, samples.rows(owner), flat, progress)

    def _can_be_cut(self) -> bool:
        """Whether the head that is cut out explains the same: plain derivatives of an entry of values."""
        contract = self.contract
        inner = all(layer.gradients and layer.name != contract.roles.get("image") for layer in contract.layers)
        return (
            inner and not contract.table and not contract.lists and contract.target.get("kind") in ("class", *OF_VALUES)
        )

    def _halves(self) -> tuple[Head, Engine, Engine]:
        with self._lock:
            if self._cut is None:
                from cam_onnx.graph.head import cut_head

                cut = cut_head(self._read.data, self._read.folder, self.contract)
                self._cut = cut, self._open(cut.trunk.SerializeToString()), self._open(cut.head.SerializeToString())
            return self._cut
