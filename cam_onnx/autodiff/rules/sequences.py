"""Sequences of tensors: what is taken out is the tensor that was put in, wherever the graph says which one.

Nothing of a sequence is differentiated itself. From the operator that takes tensors out, the graph is followed back to
those that put them in. Where only the run tells which or how many these are, and they have one shape, they are stacked:
what the iterations of a Loop put in is one more output of the Loop. Of a sequence that an If gives, each branch takes
out what it would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.body_types import SAME, origin, put_behind
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.nested import attach
from cam_onnx.autodiff.table import deflowering
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

Tensors = list[Callable[[], Val]]
BRANCHES, ITERATIONS, SPLIT = "If", "Loop", "SplitToSequence"  # named here: what a rule's code names, it emits


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
    SPLIT: split,
}
CHANGES: dict[str, Callable[[Emitter, Tensors, ir.Node], None]] = {
    **dict.fromkeys(SAME, lambda op, found, node: None),
    "SequenceErase": erase,
    "SequenceInsert": insert,
}


# -- what only the run tells ------------------------------------------------------------------------------------------


def in_branches(op: Emitter, sequence: ir.Value, op_type: str, inputs: Sequence[Val], **attributes: int) -> Val:
    """Return what an operator takes out of a sequence that an If gives, as what an If of the same condition gives."""
    choice, at = sequence.producer(), sequence.index()
    assert choice is not None
    assert at is not None
    graphs, dtype = {}, None
    for name, branch in choice.attributes.items():
        graph = branch.as_graph()
        read = [graph.outputs[at], *(op.resolve(val.value) for val in inputs)]
        taken = ir.node(op_type, read, attributes, name=op.fresh(f"{op.scope}/{name}"))
        taken.outputs[0].name = op.fresh(f"{op.scope}/{name}/output")
        dtype = element(graph.outputs[at]) or element(sequence)
        taken.outputs[0].type = None if dtype is None else ir.TensorType(dtype)
        graphs[name] = extended(graph, taken, taken.outputs)
    condition = choice.inputs[0]
    assert condition is not None
    return attach(op, "If", [op.raw(condition)], graphs, [dtype])[0]


def extended(graph: ir.Graph, node: ir.Node, outputs: Sequence[ir.Value]) -> ir.GraphView:
    weights = list(graph.initializers.values())
    return ir.GraphView(graph.inputs, outputs, nodes=[*graph, node], initializers=weights, name=graph.name)


def element(sequence: ir.Value) -> ir.DataType | None:
    kind = sequence.type
    while isinstance(kind, (ir.SequenceType, ir.OptionalType)):
        kind = kind.elem_type
    return kind if isinstance(kind, ir.DataType) else None if kind is None else kind.dtype


def stacked(op: Emitter, sequence: ir.Value) -> tuple[Val, Sequence[int | str | None] | None]:
    """Return the tensors of a sequence on a new first axis, and their shape as far as it is known."""
    maker = sequence.producer()
    if maker is not None and maker.op_type == ITERATIONS:
        return grown(op, maker, sequence)
    parts = [tensor() for tensor in tensors(op, sequence)]
    shapes = {None if part.value.shape is None else tuple(part.dims) for part in parts}
    if len(shapes) != 1 or None in shapes or None in next(iter(shapes)):  # type: ignore[operator]
        raise Refused("a position in a sequence that is known at run time only, among tensors of different shapes")
    return op.Concat(*(op.Unsqueeze(part, [0]) for part in parts), axis=0), list(parts[0].dims)


def grown(op: Emitter, loop: ir.Node, sequence: ir.Value) -> tuple[Val, Sequence[int | str | None] | None]:
    """Return what the iterations of a Loop put behind a sequence, as one more output of the Loop."""
    state = sequence.index()
    assert state is not None
    body = loop.attributes["body"].as_graph()
    put = put_behind(body.inputs[2 + state], body.outputs[1 + state])
    if put is None:
        raise Refused("a sequence that a Loop does not make longer by one tensor behind it an iteration")
    given = ir.node("Identity", [put], name=op.fresh(f"{op.scope}/put"))
    given.outputs[0].name = op.fresh(f"{op.scope}/put/output")
    given.outputs[0].type, given.outputs[0].shape = put.type, put.shape
    graph = extended(body, given, [*body.outputs, given.outputs[0]])
    inputs = [None if x is None else op.raw(x) for x in loop.inputs]
    *same, found = attach(op, "Loop", inputs, {"body": graph}, [*(y.dtype for y in loop.outputs), element(sequence)])
    for made, y in zip(same, loop.outputs, strict=True):
        made.value.type = y.type
    dims = sequence.meta.get("put")  # not its type's: inference takes that of what was there before for all
    if dims is not None:
        found.value.shape = ir.Shape([None, *dims])
    start = loop.inputs[2 + state]
    assert start is not None
    before = [tensor() for tensor in tensors(op, start)]
    if any(tensor.value.shape is None or list(tensor.dims) != dims for tensor in before):
        raise Refused("a sequence whose tensors may have different shapes")
    return op.Concat(*(op.Unsqueeze(tensor, [0]) for tensor in before), found, axis=0) if before else found, dims


def moved(op: Emitter, stack: Val, axis: int, joined: bool) -> Val:
    """Move the first axis to where `axis` is among the others, of whatever rank; `joined` with the one behind it."""
    shape = op.Shape(stack)
    end = axis + 1 if axis >= 0 else axis + (not joined)
    last = np.iinfo(np.int64).max
    before = op.Slice(shape, [1], [end or last], [0])
    behind = op.Slice(shape, [end or last], [last], [0])
    one = [op.ReduceProd(part, [0], keepdims=1) for part in (before, behind)]
    count = op.Slice(shape, [0], [1], [0])
    flat = op.Transpose(op.Reshape(stack, op.Concat(count, *one, axis=0)), perm=[1, 0, 2])
    if joined:
        count, behind = np.array([-1]), op.Slice(behind, [1], [last], [0])  # type: ignore[assignment]
    return op.Reshape(flat, op.Concat(before, count, behind, axis=0))


def entry(op: Emitter, split_: ir.Node, at: Val) -> Val:
    """Return one of the parts of a split of which each has one entry, however many these are."""
    whole, axis = split_.inputs[0], integer(split_, "axis", 0)
    assert whole is not None
    found = op.Gather(op.raw(whole), op.Reshape(at, np.zeros(0, np.int64)), axis=axis)
    return op.Unsqueeze(found, [axis]) if integer(split_, "keepdims", 1) else found


def sequence_at(op: Emitter, sequence: Val, at: Val) -> list[Val]:
    first = origin(sequence.value)
    maker = first.producer()
    kind = None if maker is None else maker.op_type
    if kind == BRANCHES:
        return [in_branches(op, first, "SequenceAt", [at])]
    if maker is not None and kind == SPLIT and len(maker.inputs) == 1:
        return [entry(op, maker, at)]
    if kind == ITERATIONS or at.known is None:
        stack, dims = stacked(op, first)
        if dims is None or None in dims:
            raise Refused("a sequence whose tensors may have different shapes")
        return [op.Gather(stack, op.Reshape(at, np.zeros(0, np.int64)), axis=0)]
    found = tensors(op, first)
    return [found[placed(found, int(at.known.item()))]()]


def concat_from_sequence(op: Emitter, sequence: Val, axis: int, new_axis: int) -> list[Val]:
    first = origin(sequence.value)
    maker = first.producer()
    kind = None if maker is None else maker.op_type
    if kind == BRANCHES:
        return [in_branches(op, first, "ConcatFromSequence", [], axis=axis, new_axis=new_axis)]
    if kind == ITERATIONS:
        stack, dims = stacked(op, first)
        if not new_axis and (dims is None or None in dims):
            raise Refused("a sequence whose tensors may have different shapes")
        return [stack if new_axis and not axis else moved(op, stack, axis, joined=not new_axis)]
    parts = [tensor() for tensor in tensors(op, first)]
    if new_axis:
        parts = [op.Unsqueeze(part, [axis]) for part in parts]
    return [op.Concat(*parts, axis=axis)]


deflowering("SequenceAt", sequence_at)
deflowering("ConcatFromSequence", concat_from_sequence)
