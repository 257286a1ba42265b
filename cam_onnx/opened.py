"""What an Explainer holds: a converted model with its sessions, and those converted anew for another kind of target.

Sessions are made anew in another process: what is pickled is the converted file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from cam_onnx import engine, reading, targets
from cam_onnx.contract import Contract
from cam_onnx.engine import Array, Engine, Tensor, batches
from cam_onnx.engine.evidence import Evidence
from cam_onnx.engine.samples import Samples, given
from cam_onnx.engine.widened import Widened
from cam_onnx.kinds import Kind, Logit, Similarity
from cam_onnx.limits import Limits
from cam_onnx.methods.table import Method, find
from cam_onnx.reading import EMPTY, Converting, Reading
from cam_onnx.runs import Runs
from cam_onnx.telling import told_of

__all__ = ["Opened"]


class Opened:
    """One converted model, ready to run. Safe to use from several threads; a context manager; picklable."""

    contract: Contract
    limits: Limits
    provider: str
    notes: list[str]
    _asked: Converting
    _backend: str
    _providers: Any
    _options: dict[str, Any]
    _settings: Mapping[str, Any]
    _timings: dict[str, float]
    _vectors: dict[tuple[str, int, int], Array]  # of other pictures, which targets name

    def _take(self, read_: Reading, method: Method, kind: Kind | None) -> None:
        self._lock = threading.Lock()
        self._others: dict[str, Self] = {}
        self._read = read_
        self.contract = read_.contract.with_(method=method.name)
        self._method = method
        self._method.settle(self._options)
        self._kind = read_.kind if kind is None else kind
        reading.fits(self.contract, method, kind, self._options)
        self.notes = [*self.notes, *(note for note in read_.notes if note not in self.notes)]
        started = time.perf_counter()
        self._runs = Runs(read_, self.contract, self._open)
        self._timings["session"] = time.perf_counter() - started
        count = None if read_.plain else targets.classes(self._running().outputs, self.contract)
        told = told_of(read_, self.contract, self._settings, self._image, count)
        self.contract, self._guess = told.contract, told.guess
        self.notes += [note for note in told.notes if note not in self.notes]

    def _open(self, data: bytes, exact: bool = False) -> Engine:
        opened = engine.open(
            data,
            folder=self._read.folder,
            external=self._read.external,
            backend=self._backend,
            providers=self._providers,
            timeout=self.limits.timeout,
            exact=exact,
            session=self._read.session if data is self._read.data and not exact else None,
        )
        self.provider = opened.provider
        if opened.note and opened.note not in self.notes:
            self.notes.append(opened.note)
        absent = self.contract.absent
        return opened if absent is None else Widened(opened, self.contract.roles["image"], absent)

    def _other(self, asked: Converting, kind: Kind | None) -> Self:
        """Return an Explainer of the same model, converted anew for something else; made once."""
        rules = find(asked.method).rules(asked.options) if asked.method else ""
        key = repr((asked.method, asked.layers, None if kind is None else kind.to_dict(), rules))
        with self._lock:
            if key not in self._others:
                other = object.__new__(type(self))
                other._options, other._settings, other._asked = dict(asked.options), self._settings, asked
                other._backend, other._providers, other.limits = self._backend, self._providers, self.limits
                other._timings, other.notes, other._vectors = {}, [], self._vectors
                made = reading.convert(self._read.source, self._read.folder, asked)
                other._take(made, find(made.contract.method), kind)
                self._others[key] = other
            return self._others[key]

    def _of(self, kind: Kind | None, options: Mapping[str, Any] = EMPTY) -> Self:
        """Return the Explainer for a kind of target and options: this one, or one of a plain model converted anew."""
        settled, kind = {**self._options, **options}, self._compared(kind)
        same = kind is None or kind.to_dict() == self.contract.target
        if same and self._method.takes(self.contract.table, settled):
            return self
        if not self._read.plain:
            reading.fits(self.contract, self._method, kind, settled)
        kind = self._kind if kind is None else kind
        return self._other(replace(self._asked, target=kind, method=self._method.name, options=settled), kind)

    def _compared(self, kind: Kind | None) -> Kind | None:
        """Return a kind of target with what the model says of the picture that it names; run once a file."""
        if not isinstance(kind, Similarity) or kind.picture is None:
            return kind
        try:
            found = os.stat(kind.picture)
            key = (kind.picture, found.st_mtime_ns, found.st_size)
        except OSError:
            key = (kind.picture, 0, 0)  # reading it says what is wrong
        if key not in self._vectors:
            plain = self._of(Logit())
            samples = given(kind.picture, None, plain.contract, plain._running().inputs, self.limits)
            self._vectors[key] = plain._runs.evidence(samples, [[-1]], [0], None).logits[0]
        return replace(kind, reference=self._vectors[key])

    @property
    def _image(self) -> Tensor | None:
        name = self.contract.roles.get("image")
        return next((t for t in self._running().inputs if t.name == name), None)

    def _running(self) -> Engine:
        return self._runs.engine()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the session back; a closed Explainer cannot explain."""
        with self._lock:
            self._runs.close()
            for other in self._others.values():
                other.close()
            self._others = {}

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        read_ = replace(self._read, session=None)
        state.update(_runs=None, _others={}, _lock=None, _closed=self._runs.closed, _read=read_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        closed = state.pop("_closed")
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._runs = Runs(self._read, self.contract, self._open, closed)

    def _ranked(self, target: Any, samples: Samples) -> Any:
        """Return a target with the classes of the highest scores in the place of ``top:K``: a run says which."""
        if not targets.ranks(target, self.contract):
            return target
        every = list(range(samples.count))
        found = self._runs.evidence(samples, [[-1] for _ in every], every, None)
        return targets.with_ranks(target, found.logits, self.contract)

    def _again(self, samples: Samples, evidence: Evidence, owner: list[int]) -> Evidence:
        """Return the evidence of changed samples, of the classes that were explained."""
        wanted: list[list[int]] = [[] for _ in range(samples.count)]
        for at, target in zip(owner, evidence.target.tolist(), strict=True):
            wanted[at].append(target)
        return self._runs.evidence(samples, wanted, owner, None)

    def _guided(self, samples: Samples, evidence: Evidence, owner: list[int]) -> Array:
        """Return dy/dx by guided backpropagation, (N, C, *S), of the classes that were explained."""
        if self._kind is None and self.contract.target != {"kind": "class"}:
            reading.fits(self.contract, self._method, Logit())
        asked = replace(self._asked, layers=None, method="guided-backprop", target=self._kind, options={})
        other = self._other(asked, self._kind)
        found = batches.run(other._running(), other.contract, samples.rows(owner), evidence.target.tolist())
        [layer] = found.layers.values()
        assert layer.gradients is not None
        return layer.gradients
