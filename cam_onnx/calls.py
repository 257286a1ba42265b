"""The network as methods call it: variants of one sample in, scores or derivatives out, in batches that bound memory.

What is cut out of the converted file for that, and its sessions, are made at first use and kept. A method hands over
variants one by one and gets results one by one; between the two lies one batch, whatever their number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cam_onnx.contract import Axes, Contract, Layer
from cam_onnx.engine import Array, Engine, check_feeds
from cam_onnx.engine.layout import Layout, picture_axes, picture_size
from cam_onnx.errors import InputError

if TYPE_CHECKING:
    from cam_onnx.graph.parts import Halves

__all__ = ["Calls", "Parts", "batch_size"]

PICTURES = (1 << 23, 16)  # of a batch: bytes at most, and variants; a network holds some hundred times as much of it
ACTIVATIONS = (1 << 25, 64)  # behind a late layer there is little else to hold

Tell = Callable[[int, int], None]


class Parts:
    """Sessions of a converted file's parts, made at first use."""

    def __init__(
        self, data: bytes, folder: str | None, contract: Contract, engine: Engine, open_part: Callable[[bytes], Engine]
    ) -> None:
        self.data, self.folder, self.contract, self.engine, self._open = data, folder, contract, engine, open_part
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def scorer(self) -> Engine:
        """Return the session of inputs to the score."""

        def make() -> Engine:
            from cam_onnx.graph.parts import scorer

            return self._open(scorer(self.data, self.folder, self.contract).SerializeToString())

        found: Engine = self._once("scorer", make)
        return found

    def halves(self, layer: Layer) -> Halves:
        """Return the cut at a layer."""

        def make() -> Halves:
            from cam_onnx.graph.parts import halves

            return halves(self.data, self.folder, self.contract, layer)

        found: Halves = self._once(f"halves/{layer.name}", make)
        return found

    def before(self, layer: Layer) -> Engine:
        """Return the session of what gives the values that cross the cut."""
        cut = self.halves(layer)
        found: Engine = self._once(f"before/{layer.name}", lambda: self._open(cut.trunk.SerializeToString()))
        return found

    def behind(self, layer: Layer) -> Engine:
        """Return the session of what makes the score of them."""
        cut = self.halves(layer)
        found: Engine = self._once(f"behind/{layer.name}", lambda: self._open(cut.head.SerializeToString()))
        return found

    def curved(self, layer: Layer) -> tuple[Engine, str, str]:
        """Return the session of second derivatives, and its input's and output's names."""

        def make() -> tuple[Engine, str, str]:
            from cam_onnx.graph.parts import curved

            found = curved(self.data, self.contract, layer)
            return self._open(found.model.SerializeToString()), found.direction, found.product

        made: tuple[Engine, str, str] = self._once(f"curved/{layer.name}", make)
        return made


class Calls:
    """What a method may call, about one sample and one layer.

    Parameters
    ----------
    parts : Parts
    feeds : dict of arrays
        Of that sample, batch axes of 1.
    layer : Layer
    target : int
        The class, resolved.
    anytime : bool
        The method can do with fewer results: Ctrl-C ends the calls, not the method.
    tell : callable
        Called with the variants that are done, and all.
    activations : array (1, K, *S), optional
        What was seen of the layer.
    closed : (float, array (K,)), optional
        The score, and what it loses without each channel, in closed form: where the head is pooling and one linear
        layer.

    Attributes
    ----------
    stopped : str
        Where Ctrl-C came, "" if it did not.
    """

    def __init__(
        self,
        parts: Parts,
        feeds: Mapping[str, Array],
        layer: Layer,
        target: int,
        anytime: bool,
        tell: Tell | None,
        activations: Array | None = None,
        closed: tuple[float, Array] | None = None,
    ) -> None:
        self._parts, self._feeds, self._layer, self._anytime, self._tell = parts, dict(feeds), layer, anytime, tell
        self._target = {parts.contract.roles["target"]: np.array([target], np.int64)}
        self._activations, self._closed = activations, closed
        self._layout = Layout(layer, picture_size(parts.contract, feeds))
        self.stopped = ""

    def of(self, need: str) -> Any:
        """Return what a need's name means."""
        return _Head(self) if need == "head" else getattr(self, need)

    @property
    def image(self) -> Array:
        """The network's input, (1, C, *S), of floats."""
        name, axes = self._picture()
        value = self._feeds[name]
        value = value if value.dtype == np.float64 else value.astype(np.float32)
        return value.transpose(axes.order())

    def forward(self, variants: Iterable[Array], count: int) -> Iterator[float]:
        """Yield a score for each picture."""
        engine, name = self._parts.scorer(), self._parts.contract.roles["score"]
        for found in self._pictures(engine, variants, count, [name]):
            yield from map(float, found[name].reshape(-1))

    def backward(self, variants: Iterable[Array], count: int) -> Iterator[Array]:
        """Yield dy/dx for each picture; the file's layer is the picture."""
        for _, gradients in self.probe(variants, count):
            yield gradients

    def probe(self, variants: Iterable[Array], count: int) -> Iterator[tuple[Array, Array]]:
        """Yield the layer's activations and gradients for each picture."""
        names = [self._layer.activations, self._layer.gradients]
        for found in self._pictures(self._parts.engine, variants, count, names):
            yield from zip(*(self._layout.turned(found[name]) for name in names), strict=True)

    def head(self, variants: Iterable[Array], count: int) -> Iterator[float]:
        """Yield a score for each (K, *S) of activations in the layer's place."""
        cut, engine = self._parts.halves(self._layer), self._parts.behind(self._layer)
        name = self._parts.contract.roles["score"]
        own, crossing, fixed = self._crossing(cut, engine)
        size = fixed or batch_size(own.nbytes + sum(v.nbytes for v in crossing.values()), *ACTIVATIONS)

        def feed(group: Array) -> dict[str, Array]:
            rest = {k: np.repeat(v, len(group), axis=0) for k, v in crossing.items()} if cut.repeats else crossing
            return {**rest, cut.crossing[0]: self._layout.back(group, own), **self._target}

        for found in self._batches(engine, variants, count, size, fixed, feed, [name]):
            yield from map(float, found[name].reshape(-1))

    def _crossing(self, cut: Halves, engine: Engine) -> tuple[Array, dict[str, Array], int | None]:
        """Return the layer's value as the network has it, what else crosses the cut, and the batch if it is fixed.

        Where nothing else does, what was seen of the layer serves, and what lies before it is not run again.
        """
        dtype = next(tensor.dtype for tensor in engine.inputs if tensor.name == cut.crossing[0])
        seen = self._activations if self._layer.axes.tokens is None and dtype in ("float16", "float32") else None
        if seen is not None and cut.repeats and len(cut.crossing) == 1:
            return self._layout.back(seen, np.empty(0, dtype)), {}, None
        trunk = self._parts.before(self._layer)
        fixed = None if cut.repeats else _batch(trunk, self._feeds) or 1
        crossing = trunk.run(check_feeds(trunk, _repeated(self._feeds, 1 if cut.repeats else fixed or 1)), cut.crossing)
        return crossing.pop(cut.crossing[0]), crossing, fixed

    def curvature(self, direction: Array) -> Array:
        """Return the score's Hessian with respect to the layer times a direction, (1, K, *S)."""
        engine, given, product = self._parts.curved(self._layer)
        fixed = _batch(engine, self._feeds) or 1
        feeds = {**_repeated(self._feeds, fixed), **self._target}
        like, here = direction, self._layer.gradients
        if self._layer.axes.tokens is not None:  # tokens outside the grid do not move, but they are in the direction
            like = np.zeros_like(self._parts.engine.run(check_feeds(self._parts.engine, feeds), [here])[here])
        wide = self._layout.back(np.repeat(direction, fixed, axis=0), like)
        found = engine.run(check_feeds(engine, {**feeds, given: wide}), [product])[product]
        return self._layout.turned(found)[:1]

    def _picture(self) -> tuple[str, Axes]:
        contract = self._parts.contract
        name = contract.roles.get("image", "")
        if name not in self._feeds:
            raise InputError("the method changes the picture, and none of the model's inputs is known to be one")
        layer = next((layer for layer in contract.layers if layer.name == name), None)
        if layer is not None:
            return name, layer.axes
        return name, picture_axes(contract, self._feeds[name].shape)

    def _pictures(
        self, engine: Engine, variants: Iterable[Array], count: int, names: list[str]
    ) -> Iterator[dict[str, Array]]:
        name, axes = self._picture()
        like, order = self._feeds[name], np.argsort(axes.order())
        others = {key: value for key, value in self._feeds.items() if key != name}
        fixed = 1 if self._parts.contract.single else _batch(engine, self._feeds)

        def feed(group: Array) -> dict[str, Array]:
            pictures = np.rint(group) if like.dtype.kind in "iu" else group
            return {**_repeated(others, len(group)), name: pictures.transpose(order).astype(like.dtype), **self._target}

        size = fixed or batch_size(sum(value.nbytes for value in self._feeds.values()))
        yield from self._batches(engine, variants, count, size, fixed, feed, names)

    def _batches(
        self,
        engine: Engine,
        variants: Iterable[Array],
        count: int,
        size: int,
        fixed: int | None,
        feed: Callable[[Array], dict[str, Array]],
        names: list[str],
    ) -> Iterator[dict[str, Array]]:
        source, done = iter(variants), 0
        try:
            while group := list(islice(source, size)):
                full = np.stack(group + group[-1:] * ((fixed or 0) - len(group)))
                given = feed(full)
                found = engine.run(check_feeds(engine, given, given.keys() - self._feeds.keys()), names)
                done += len(group)
                if self._tell is not None:
                    self._tell(done, count)
                yield {name: value[: len(group)] if value.ndim else value for name, value in found.items()}
        except KeyboardInterrupt:
            if not (self._anytime and done):
                raise
            self.stopped = f"stopped after {done} of {count} runs: the map is that of these"


class _Head:
    """`Calls.head`, with the closed form where there is one."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self.closed = calls, calls._closed

    def __call__(self, variants: Iterable[Array], count: int) -> Iterator[float]:
        return self._calls.head(variants, count)


def batch_size(nbytes: int, most_bytes: int = PICTURES[0], most: int = PICTURES[1]) -> int:
    """Return how many variants of `nbytes` each run together."""
    return max(1, min(most, most_bytes // max(nbytes, 1)))


def _batch(engine: Engine, feeds: Mapping[str, Array]) -> int | None:
    """Return the batch that the model fixes, if it does."""
    shapes = [tensor.shape for tensor in engine.inputs if tensor.name in feeds and tensor.shape]
    return next((shape[0] for shape in shapes if isinstance(shape[0], int)), None)


def _repeated(feeds: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: np.repeat(v, count, axis=0) if v.ndim and len(v) == 1 else v for name, v in feeds.items()}
