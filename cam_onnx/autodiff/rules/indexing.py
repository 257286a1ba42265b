"""Reading and writing by index: gathers and scatters are each other's transposes. All are linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.layout import add_at, place
from cam_onnx.autodiff.rules.reduction import others, without_zeros
from cam_onnx.autodiff.table import defvjp, zero
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []


def gather(op: Emitter, g: Val, y: Val, x: Val, indices: Val, axis: int) -> Val:
    """Add every entry where it was read; an entry may have been read several times."""
    axis %= x.rank
    if indices.rank < 2:  # no -1, which would not do where an axis in front is empty
        flat = g if indices.rank else op.Unsqueeze(g, [axis])
    else:
        lead, rest = op.shape(x, 0, axis), op.shape(x, axis + 1)
        parts = [p for p, n in ((lead, axis), (op.constant([-1]), 1), (rest, x.rank - axis - 1)) if n]
        flat = op.Reshape(g, op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0])
    size = x.dims[axis]
    if indices.known is not None and isinstance(size, int):
        at = indices.known.reshape(-1) % size
        if np.unique(at).size == at.size:  # a row is copied, which is many times faster than adding its entries
            return place(op, flat, x.rank, axis, op.constant(at), op.constant(size))
    return add_at(op, flat, x, axis, op.Reshape(indices, [-1]))


def gather_elements(op: Emitter, g: Val, y: Val, x: Val, indices: Val, axis: int) -> Val:
    return op.ScatterElements(zeros_like(op, g, x), indices, g, axis=axis, reduction="add")


def gather_nd(op: Emitter, g: Val, y: Val, x: Val, indices: Val, batch_dims: int) -> Val:
    return scatter_rows(op, x, zeros_like(op, g, x), indices, g, "add", batch_dims)


def scatter_rows(
    op: Emitter, like: Val, base: Val, indices: Val, values: Val, reduction: str, batch_dims: int = 0
) -> Val:
    """ScatterND with a reduction into a `base` of the shape of `like`, by ScatterElements on a table of rows.

    ONNX Runtime's ScatterND (1.31, CPU) writes from several threads at once: where an index stands twice, some of
    what is to be reduced is lost, in other places at each run. Its ScatterElements goes through them in order.
    """
    length = indices.dims[-1]
    if not isinstance(length, int):
        raise Refused("the length of its indices is known at run time only")
    one, at, depth = op.constant([1]), op.constant(0), batch_dims + length
    for axis in range(depth):
        size = op.shape(like, axis, axis + 1)
        if axis < batch_dims:
            steps = op.Range(0, op.Squeeze(size, [0]), 1)
            place = op.Reshape(steps, [-1 if a == axis else 1 for a in range(indices.rank - 1)])
        else:
            place = op.Mod(op.Gather(indices, axis - batch_dims, axis=-1), size)  # from the end, if below 0
        at = at * size + place
    lead = op.ReduceProd(op.shape(like, 0, depth), keepdims=1)
    width = op.ReduceProd(op.shape(like, depth), keepdims=1) if depth < like.rank else one
    count = op.ReduceProd(op.shape(indices, 0, indices.rank - 1), keepdims=1) if indices.rank > 1 else one
    rows = op.Reshape(values, op.Concat(count, width, axis=0))
    places = op.Expand(op.Reshape(at, [-1, 1]), op.shape(rows))
    table = op.Reshape(base, op.Concat(lead, width, axis=0))
    return op.reshape_like(op.ScatterElements(table, places, rows, axis=0, reduction=reduction), like)


def zeros_like(op: Emitter, g: Val, x: Val) -> Val:
    return op.Expand(op.constant(0.0, g.dtype), op.shape(x))


@dataclass(frozen=True)
class Scatter:
    """A scatter of `updates` into `x` that gave `y`: `put` writes as it did, `get` reads what each update went to."""

    op: Emitter
    g: Val
    y: Val
    x: Val
    updates: Val
    put: Callable[[Val, Val, str], Val]
    get: Callable[[Val], Val]
    reduction: str

    @classmethod
    def elements(
        cls, op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, axis: int, reduction: str = "none"
    ) -> Scatter:
        def put(base: Val, values: Val, how: str) -> Val:
            return op.ScatterElements(base, indices, values, axis=axis, reduction=how if how != "none" else None)

        return cls(op, g, y, x, updates, put, lambda v: op.GatherElements(v, indices, axis=axis), reduction)

    @classmethod
    def nd(cls, op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, reduction: str = "none") -> Scatter:
        def put(base: Val, values: Val, how: str) -> Val:
            if how == "none":
                return op.ScatterND(base, indices, values)
            return scatter_rows(op, x, base, indices, values, how)

        return cls(op, g, y, x, updates, put, lambda v: op.GatherND(v, indices), reduction)

    def of_x(self) -> Val:
        op, g = self.op, self.g
        if self.reduction == "none":
            return self.put(g, zeros_like(op, g, self.updates), "none")
        if self.reduction == "add":
            return g
        if self.reduction == "mul":
            return g * others(op, self.x, *self.product())
        return self.share() * op.Cast(op.Equal(self.x, self.y), to=g.dtype)

    def of_updates(self) -> Val:
        op, g = self.op, self.g
        if self.reduction in ("none", "add"):
            return self.get(g)
        if self.reduction == "mul":
            product, zeros = self.product()
            return self.get(g) * others(op, self.updates, self.get(product), self.get(zeros))
        return self.get(self.share()) * op.Cast(op.Equal(self.updates, self.get(self.y)), to=g.dtype)

    def product(self) -> tuple[Val, Val]:
        """Return for each entry the product of its factors that are not 0, and how many are."""
        op = self.op
        own, theirs = (op.Cast(op.Equal(v, 0.0), to=self.g.dtype) for v in (self.x, self.updates))
        product = self.put(without_zeros(op, self.x), without_zeros(op, self.updates), "mul")
        return product, self.put(own, theirs, "add")

    def share(self) -> Val:
        """Minimum and maximum: ties share evenly, as PyTorch's scatter_reduce."""
        op = self.op
        own = op.Cast(op.Equal(self.x, self.y), to=self.g.dtype)
        theirs = op.Cast(op.Equal(self.updates, self.get(self.y)), to=self.g.dtype)
        return self.g / self.put(own, theirs, "add")


def tensor_scatter_positions(op: Emitter, x: Val, update: Val, indices: Val | None, axis: int, mode: str) -> Val:
    axis %= x.rank
    steps = op.Range(0, op.Squeeze(op.shape(update, axis, axis + 1), [0]), 1)
    at = op.Unsqueeze(steps, [0]) if indices is None else op.Unsqueeze(op.Cast(indices, to=7), [1]) + steps
    if mode == "circular":
        at = op.Mod(at, op.shape(x, axis, axis + 1))
    between, behind = list(range(1, axis)), list(range(axis + 1, x.rank))
    return op.Expand(op.Unsqueeze(at, between + behind) if between + behind else at, op.shape(update))


def tensor_scatter_x(
    op: Emitter, g: Val, y: Val, x: Val, update: Val, indices: Val | None, axis: int, mode: str
) -> Val:
    at = tensor_scatter_positions(op, x, update, indices, axis, mode)
    return op.ScatterElements(g, at, zeros_like(op, g, update), axis=axis % x.rank)


def tensor_scatter_update(
    op: Emitter, g: Val, y: Val, x: Val, update: Val, indices: Val | None, axis: int, mode: str
) -> Val:
    at = tensor_scatter_positions(op, x, update, indices, axis, mode)
    return op.GatherElements(g, at, axis=axis % x.rank)


def compress(op: Emitter, g: Val, y: Val, x: Val, condition: Val, axis: int | None) -> Val:
    kept = op.Squeeze(op.NonZero(condition), [0])
    return add_flat(op, g, x, kept) if axis is None else add_at(op, g, x, axis % x.rank, kept)


def add_flat(op: Emitter, g: Val, x: Val, positions: Val) -> Val:
    """Write the entries of `g` into zeros at distinct positions of the flattened `x`."""
    zeros = op.Expand(op.constant(0.0, g.dtype), op.ReduceProd(op.shape(x), keepdims=1))
    return op.reshape_like(op.ScatterElements(zeros, positions, g, axis=0), x)


def unique(
    op: Emitter,
    gs: tuple[Val | None, ...],
    ys: tuple[Val, ...],
    x: Val,
    axis: int | None,
    sorted: int,  # noqa: A002
) -> Val:
    """Equal entries are one: its cotangent goes to the first of them."""
    g = gs[0]
    assert g is not None
    if len(ys) > 1 and ys[1].name:
        first = ys[1]
    else:
        _, first = op.Unique(x, axis=axis, sorted=sorted, outputs=2)  # type: ignore[misc]
    return add_flat(op, g, x, first) if axis is None else add_at(op, g, x, axis % x.rank, first)


def one_hot_values(op: Emitter, g: Val, y: Val, indices: Val, depth: Val, values: Val, axis: int) -> Val:
    marks = [op.OneHot(indices, depth, op.Cast(op.constant(pair), to=g.dtype), axis=axis) for pair in ([1, 0], [0, 1])]
    return op.Concat(*(op.Unsqueeze(op.ReduceSum(g * mark, keepdims=0), [0]) for mark in marks), axis=0)


def max_unpool(op: Emitter, g: Val, y: Val, x: Val, indices: Val, shape: Val | None, **_: object) -> Val:
    return op.Reshape(op.Gather(op.Reshape(g, [-1]), op.Reshape(indices, [-1])), op.shape(x))


def top_k(op: Emitter, gs: tuple[Val | None, ...], ys: tuple[Val, ...], x: Val, k: Val, axis: int, **_: object) -> Val:
    g = gs[0]
    assert g is not None
    return op.ScatterElements(zeros_like(op, g, x), ys[1], g, axis=axis)


defvjp("Gather", gather, None)
defvjp("GatherElements", gather_elements, None)
defvjp("GatherND", gather_nd, None)
defvjp(
    "ScatterElements",
    lambda *values, **how: Scatter.elements(*values, **how).of_x(),
    None,
    lambda *values, **how: Scatter.elements(*values, **how).of_updates(),
)
defvjp(
    "ScatterND",
    lambda *values, **how: Scatter.nd(*values, **how).of_x(),
    None,
    lambda *values, **how: Scatter.nd(*values, **how).of_updates(),
)
defvjp("TensorScatter", tensor_scatter_x, tensor_scatter_update, None)
defvjp("Compress", compress, None)
defvjp("Unique", unique, several=True)
defvjp("ReverseSequence", lambda op, g, y, x, lengths, **how: op.ReverseSequence(g, lengths, **how), None)
defvjp("OneHot", zero("an index"), zero("a size"), one_hot_values)
defvjp("MaxUnpool", max_unpool, None, None)
defvjp("TopK", top_k, None, several=True)
