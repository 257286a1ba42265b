"""Reading and writing by index: gathers and scatters are each other's transposes. All are linear."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.layout import add_at
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []


def gather(op: Emitter, g: Val, y: Val, x: Val, indices: Val, axis: int) -> Val:
    """Add every entry where it was read; an entry may have been read several times."""
    axis %= x.rank
    lead, rest = op.shape(x, 0, axis), op.shape(x, axis + 1)
    parts = [p for p, n in ((lead, axis), (op.constant([-1]), 1), (rest, x.rank - axis - 1)) if n]
    flat = op.Reshape(g, op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0])
    return add_at(op, flat, x, axis, op.Reshape(indices, [-1]))


def gather_elements(op: Emitter, g: Val, y: Val, x: Val, indices: Val, axis: int) -> Val:
    return op.ScatterElements(zeros_like(op, g, x), indices, g, axis=axis, reduction="add")


def gather_nd(op: Emitter, g: Val, y: Val, x: Val, indices: Val, batch_dims: int) -> Val:
    return op.ScatterND(zeros_like(op, g, x), whole_index(op, indices, x, batch_dims), g, reduction="add")


def whole_index(op: Emitter, indices: Val, x: Val, batch_dims: int) -> Val:
    """Put the batch positions in front of each index, so that there are no batch dimensions any more."""
    if not batch_dims:
        return indices
    shape = op.Concat(op.shape(indices, 0, indices.rank - 1), [1], axis=0)
    places = []
    for axis in range(batch_dims):
        place = op.Range(0, op.Squeeze(op.shape(x, axis, axis + 1), [0]), 1)
        shaped = op.Reshape(place, [-1 if a == axis else 1 for a in range(indices.rank)])
        places.append(op.Expand(shaped, shape))
    return op.Concat(*places, indices, axis=-1)


def zeros_like(op: Emitter, g: Val, x: Val) -> Val:
    return op.Expand(op.constant(0.0, g.dtype), op.shape(x))


def overwrites(reduction: str) -> bool:
    """Whether a scatter replaces what was there; it may also add to it."""
    if reduction not in ("none", "add"):
        raise Refused(f"reduction {reduction}")
    return reduction == "none"


def scatter_elements_x(
    op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, axis: int, reduction: str
) -> Val:
    return op.ScatterElements(g, indices, zeros_like(op, g, updates), axis=axis) if overwrites(reduction) else g


def scatter_elements_updates(
    op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, axis: int, reduction: str
) -> Val:
    overwrites(reduction)
    return op.GatherElements(g, indices, axis=axis)


def scatter_nd_x(op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, reduction: str) -> Val:
    return op.ScatterND(g, indices, zeros_like(op, g, updates)) if overwrites(reduction) else g


def scatter_nd_updates(op: Emitter, g: Val, y: Val, x: Val, indices: Val, updates: Val, reduction: str) -> Val:
    overwrites(reduction)
    return op.GatherND(g, indices)


def top_k(op: Emitter, gs: tuple[Val | None, ...], ys: tuple[Val, ...], x: Val, k: Val, axis: int, **_: object) -> Val:
    g = gs[0]
    assert g is not None
    return op.ScatterElements(zeros_like(op, g, x), ys[1], g, axis=axis)


defvjp("Gather", gather, None)
defvjp("GatherElements", gather_elements, None)
defvjp("GatherND", gather_nd, None)
defvjp("ScatterElements", scatter_elements_x, None, scatter_elements_updates)
defvjp("ScatterND", scatter_nd_x, None, scatter_nd_updates)
defvjp("TopK", top_k, None, several=True)
