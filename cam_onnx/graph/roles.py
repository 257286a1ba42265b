"""Which axis of a value is batch, channel or spatial, found by following axes through the graph.

An operator's name says little of what a network does; what it does to axes says where spatial extent ends.
Convolutions and pools fix the roles by the standard's definition; transpositions, reductions and reshapes move
them; every other operator keeps them as long as the rank stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from cam_onnx.contract import Axes
from cam_onnx.graph.alike import Node, alike
from cam_onnx.graph.cells import WINDOWS, WITHIN, Windows, kept, regrouped
from cam_onnx.graph.first_axes import RECURRENT, first_axes, widened_axes
from cam_onnx.graph.positions import BESIDE, LIST, Positions, along, back, dims, merged
from cam_onnx.graph.states import is_state
from cam_onnx.graph.unbatched import unbatched

__all__ = ["REGIONS", "Roles", "axes_of", "follow", "has_extent"]

# per axis: "n", "c", "s0", "s1", ..., "t" (a list of positions, see `positions`), "d0", ..., "w" (see `cells`), "r"
# (regions cut out of the picture, whose places are their own), "q" (entries beside the positions) or "?"
Roles = tuple[str, ...]

REGIONS = {"MaxRoiPool", "RoiAlign"}

_CHANNELS_FIRST = {
    "AveragePool",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DeformConv",
    "DepthToSpace",
    "FusedConv",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "QLinearAveragePool",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "SpaceToDepth",
}


def follow(graph: ir.Graph) -> dict[ir.Value, Roles]:
    """Return the roles of every value for which they are known."""
    roles: dict[ir.Value, Roles] = {}
    for value in graph.inputs:
        if (found := _of_picture(value)) is not None and not is_state(graph, value):
            roles[value] = found
    for node in graph:
        for index, y in enumerate(node.outputs):
            found = _of_output(alike(node), index, roles)
            if found is not None and (y.shape is None or len(y.shape) == len(found)):
                roles[y] = found
    return roles


def axes_of(roles: Roles) -> Axes | None:
    """Return the contract's axes, or None if batch, channel or space is not among the roles."""
    space = sorted((r, i) for i, r in enumerate(roles) if r.startswith("s"))
    lists = [i for i, r in enumerate(roles) if r == LIST]
    if roles.count("n") != 1 or roles.count("c") != 1 or any(role[0] in f"?{WITHIN}{WINDOWS}" for role in roles):
        return None
    batch, channel = roles.index("n"), roles.index("c")
    if not lists:
        return Axes(batch, channel, tuple(i for _, i in space)) if space else None
    role = roles[lists[0]]
    if len(lists) > 1 or space or not isinstance(role, Positions):
        return None
    return Axes(batch, channel, (lists[0],), role.tokens)


def has_extent(value: ir.Value, axes: Axes) -> bool:
    """Whether any spatial axis is longer than 1, or of unknown length, and none is empty."""
    if axes.tokens is not None:
        return any(size != 1 for size in axes.tokens.grid)
    sizes = [] if value.shape is None else [value.shape[i] for i in axes.spatial]
    return 0 not in sizes and (value.shape is None or any(size != 1 for size in sizes))


def channels_first(rank: int) -> Roles:
    return ("n", "c", *(f"s{i}" for i in range(rank - 2)))


def _of_picture(value: ir.Value) -> Roles | None:
    rank = 0 if value.shape is None else len(value.shape)
    if rank < 3 or unbatched(value):
        return None
    if (axes := first_axes(value)) is not None:
        places = {axis: f"s{i}" for i, axis in enumerate(axes.spatial)} | {axes.batch: "n", axes.channel: "c"}
        return tuple(places[axis] for axis in range(rank))
    if (axes := widened_axes(value)) is not None:
        return ("n", *(f"s{axes.spatial.index(axis + 1)}" for axis in range(1, rank)))
    dims = [d if isinstance(d, int) else None for d in value.shape or ()]
    if rank >= 4 and dims[-1] in (1, 3, 4) and dims[1] not in (1, 3, 4):
        return ("n", *(f"s{i}" for i in range(rank - 2)), "c")
    return channels_first(rank)


def _of_output(node: Node, index: int, roles: dict[ir.Value, Roles]) -> Roles | None:
    y = node.outputs[index]
    rank = None if y.shape is None else len(y.shape)
    known = [(x, roles[x]) for x in node.inputs if x is not None and x in roles]
    if node.op_type == "InstanceNormalization" and rank == 3:  # may be of groups, (N, G, the rest of them)
        return None if node.inputs[0] is None else roles.get(node.inputs[0])
    last = "channels_last" in node.attributes and node.attributes["channels_last"].as_int()
    if node.op_type in _CHANNELS_FIRST and index == 0 and not last and not (known and LIST in known[0][1]):
        if rank is None or rank < 3:
            return None
        batch = known[0][1][0] if known else "n"  # windows are samples to a convolution, which does not mix them
        apart = isinstance(batch, Windows) or batch == "r"
        return (batch, "c", *"?" * (rank - 2)) if apart else channels_first(rank)
    if node.op_type in REGIONS:
        return ("r", "c", "?", "?")
    if not known:
        return None
    x, source = known[0]
    if node.op_type in RECURRENT:
        return None  # its states have seen all positions
    if node.op_type in ("Gemm", "MatMul"):
        return _rows(node, roles) if node.op_type == "Gemm" else _product(node, roles, rank)
    if node.op_type == "Gather" and rank == len(source) - 1 and x is node.inputs[0]:
        gone = node.attributes["axis"].as_int() % len(source) if "axis" in node.attributes else 0
        return (*source[:gone], *source[gone + 1 :])
    if node.op_type == "Transpose":
        perm = _ints(node, "perm") or list(reversed(range(len(source))))
        return tuple(source[i] for i in perm) if len(perm) == len(source) else None
    if node.op_type in ("Squeeze", "Unsqueeze") or node.op_type.startswith("Reduce"):
        return _moved(node, x, source, rank)
    if node.op_type in ("Reshape", "Flatten", "Einsum"):
        if _same_shape(x, y):
            return source
        if node.op_type != "Reshape":
            return None
        return back(x, source, y) or regrouped(source, dims(x) or (), dims(y) or ()) or merged(x, source, y)
    if LIST in source and node.op_type.startswith("Global"):
        return None
    same = [kept(node, index, along(node, index, r, x), x) for x, r in known if rank is None or len(r) == rank]
    found = max(same, key=_certainty) if same else None
    return found if found is None or node.op_type != "Concat" else _put_together(node, found, [r for _, r in known])


def _put_together(node: Node, found: Roles, given: Sequence[Roles]) -> Roles:
    """Return the roles of a Concat: several grids in one list, as of a detector's levels, are no grid."""
    axis = node.attributes["axis"].as_int() % len(found)
    parts = [roles[axis] for roles in given if len(roles) == len(found)]
    grids = [part for part in parts if isinstance(part, Positions) and part.total != 1]
    if len(grids) > 1:
        return (*found[:axis], LIST, *found[axis + 1 :])
    anchors = found[axis] == "c" and found.count("c") > 1 and any(part[0] in f"?{WINDOWS}" for part in parts)
    return (*found[:axis], "?", *found[axis + 1 :]) if anchors else found


def _certainty(roles: Roles) -> int:
    """More where more is known: the other operand may be a part that was reduced and is broadcast again.

    What stands beside a grid says nothing of the list that it is joined with.
    """
    doubt = {"?": 10, BESIDE: 2, LIST: 1}
    return -sum(0 if isinstance(role, Positions) else doubt.get(role, 0) for role in roles)


def _rows(node: Node, roles: dict[ir.Value, Roles]) -> Roles | None:
    """A Gemm keeps the rows of its first factor."""
    given = None if node.inputs[0] is None else roles.get(node.inputs[0])
    turned = "transA" in node.attributes and node.attributes["transA"].as_int()
    return None if given is None or turned else (given[0], "c" if given[1] == "c" else "?")


def _product(node: Node, roles: dict[ir.Value, Roles], rank: int | None) -> Roles | None:
    """The last axis of a matrix product is the second factor's: new channels where channels are summed over."""
    a, b = node.inputs[:2]
    left, right = (_operand(node, name, x, roles) for name, x in (("transA", a), ("transB", b)))
    if left is not None and right is not None:
        return (*left[:-1], right[-1]) if len(left) == len(right) == rank else None
    if left is not None and len(left) == rank:
        return left if left[-1] == "c" else (*left[:-1], LIST if left[-1] == LIST else "?")
    if right is not None and len(right) == rank:
        return (*right[:-2], LIST if right[-2] == LIST else "?", right[-1])
    return None


def _operand(node: Node, turned: str, x: ir.Value | None, roles: dict[ir.Value, Roles]) -> Roles | None:
    found = None if x is None else roles.get(x)
    turn = found is not None and turned in node.attributes and node.attributes[turned].as_int()
    return (*found[:-2], found[-1], found[-2]) if found is not None and turn else found


def _moved(node: Node, x: ir.Value, source: Roles, rank: int | None) -> Roles | None:
    if rank == len(source):
        return along(node, 0, source, x)
    axes = _ints(node, "axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        constant = node.inputs[1].const_value
        axes = None if constant is None else [int(a) for a in constant.numpy().reshape(-1)]
    if node.op_type == "Unsqueeze":
        if axes is None:
            return None
        result, rest = [], list(source)
        where = {a % (len(source) + len(axes)) for a in axes}
        for i in range(len(source) + len(axes)):
            result.append("?" if i in where else rest.pop(0))
        return tuple(result)
    if axes is None and node.op_type == "Squeeze" and x.shape is not None:
        axes = [i for i, d in enumerate(x.shape) if d == 1]
    if axes is None:
        return None
    gone = {a % len(source) for a in axes}
    return tuple(r for i, r in enumerate(source) if i not in gone)


def _ints(node: Node, name: str) -> Sequence[int] | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else list(attribute.as_ints())


def _same_shape(x: ir.Value, y: ir.Value) -> bool:
    if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return False
    pairs = list(zip(x.shape, y.shape, strict=True))
    return sum(a != b for a, b in pairs) <= (not isinstance(pairs[0][0], int))  # a symbolic batch may be renamed
