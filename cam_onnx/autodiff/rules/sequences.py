"""Sequences of tensors: what is taken out is the tensor that was put in, wherever the graph says which one.

Nothing of a sequence is differentiated itself. From the operator that takes tensors out, the graph is followed back
to those that put them in; the positions must be known at conversion.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import deflowering
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

Tensors = list[Callable[[], Val]]


def tensors(op: Emitter, sequence: ir.Value) -> Tensors:
    """Return the tensors of a sequence in order, each to be emitted where it is wanted."""
    steps: list[ir.Node] = []
    while True:
        maker = sequence.producer()
        kind = "an input" if maker is None else maker.op_type
        if maker is None or kind not in {*MAKERS, *CHANGES}:
            raise Refused(f"a sequence that is given by {kind}")
        if kind in MAKERS:
            found = MAKERS[kind](op, maker)
            break
        steps.append(maker)
        assert maker.inputs[0] is not None
        sequence = maker.inputs[0]
    for step in reversed(steps):
        CHANGES[step.op_type](op, found, step)
    return found


def placed(found: Tensors, at: int | None) -> int:
    """Return a position in a sequence, the last one where none is given."""
    at = -1 if at is None else at
    if not -len(found) <= at < len(found):
        raise Refused(f"position {at} in a sequence of {len(found)}")
    return at


def position(op: Emitter, node: ir.Node, index: int) -> int | None:
    """Return the position that a node is given, None where it is given none."""
    given = node.inputs[index] if index < len(node.inputs) else None
    if given is None:
        return None
    known = op.primal(given).known
    if known is None:
        raise Refused("a position in a sequence that is known at run time only")
    return int(known.item())


def integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def constructed(op: Emitter, node: ir.Node) -> Tensors:
    return [lambda x=x: op.raw(x) for x in node.inputs if x is not None]  # type: ignore[misc]


def split(op: Emitter, node: ir.Node) -> Tensors:
    """Slices of a tensor along an axis: each of one entry, of as many as one number says, or of as many as each has."""
    x = node.inputs[0]
    assert x is not None
    whole, axis = op.raw(x), integer(node, "axis", 0)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    sizes = None if given is None else op.primal(given).known
    if given is not None and sizes is None:
        raise Refused("the sizes of a split, known at run time only")
    if sizes is None or not sizes.ndim:
        size = whole.dims[axis % whole.rank]
        if not isinstance(size, int):
            raise Refused("how many parts a split has, known at run time only")
        step = 1 if sizes is None else int(sizes)
        bounds = [(start, min(start + step, size)) for start in range(0, size, step)]
    else:
        ends = sizes.cumsum().tolist()
        bounds = list(zip([0, *ends], ends, strict=False))
    gone = given is None and not integer(node, "keepdims", 1)

    def part(start: int, end: int) -> Val:
        cut = op.Slice(whole, [start], [end], [axis])
        return op.Squeeze(cut, [axis]) if gone else cut

    return [lambda bound=bound: part(*bound) for bound in bounds]  # type: ignore[misc]


def insert(op: Emitter, found: Tensors, node: ir.Node) -> None:
    at, x = position(op, node, 2), node.inputs[1]
    assert x is not None
    found.insert(len(found) if at is None else at, lambda: op.raw(x))


def erase(op: Emitter, found: Tensors, node: ir.Node) -> None:
    del found[placed(found, position(op, node, 1))]


MAKERS: dict[str, Callable[[Emitter, ir.Node], Tensors]] = {
    "SequenceConstruct": constructed,
    "SequenceEmpty": lambda op, node: [],
    "SplitToSequence": split,
}
CHANGES: dict[str, Callable[[Emitter, Tensors, ir.Node], None]] = {
    **dict.fromkeys(("Identity", "Optional", "OptionalGetElement"), lambda op, found, node: None),
    "SequenceErase": erase,
    "SequenceInsert": insert,
}


def sequence_at(op: Emitter, sequence: Val, at: Val) -> list[Val]:
    if at.known is None:
        raise Refused("a position in a sequence that is known at run time only")
    found = tensors(op, sequence.value)
    return [found[placed(found, int(at.known.item()))]()]


def concat_from_sequence(op: Emitter, sequence: Val, axis: int, new_axis: int) -> list[Val]:
    parts = [tensor() for tensor in tensors(op, sequence.value)]
    if new_axis:
        parts = [op.Unsqueeze(part, [axis]) for part in parts]
    return [op.Concat(*parts, axis=axis)]


deflowering("SequenceAt", sequence_at)
deflowering("ConcatFromSequence", concat_from_sequence)
