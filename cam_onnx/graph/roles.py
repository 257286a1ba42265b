"""Which axis of a value is batch, channel or spatial, found by following axes through the graph.

An operator's name says little of what a network does; what it does to axes says where spatial extent ends.
Convolutions and pools fix the roles by the standard's definition; transpositions, reductions and reshapes move
them; every other operator keeps them as long as the rank stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from cam_onnx.contract import Axes

__all__ = ["Roles", "axes_of", "follow", "has_extent"]

Roles = tuple[str, ...]  # per axis: "n", "c", "s0", "s1", ..., "t" (all positions as a list), or "?"

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
        if (found := _of_picture(value)) is not None:
            roles[value] = found
    for node in graph:
        for index, y in enumerate(node.outputs):
            found = _of_output(node, index, roles)
            if found is not None and (y.shape is None or len(y.shape) == len(found)):
                roles[y] = found
    return roles


def axes_of(roles: Roles) -> Axes | None:
    """Return the contract's axes, or None if batch, channel or space is not among the roles."""
    space = sorted((r, i) for i, r in enumerate(roles) if r.startswith("s"))
    if "n" not in roles or "c" not in roles or not space or "?" in roles:
        return None
    return Axes(roles.index("n"), roles.index("c"), tuple(i for _, i in space))


def has_extent(value: ir.Value, axes: Axes) -> bool:
    """Whether any spatial axis is longer than 1, or of unknown length."""
    return value.shape is None or any(value.shape[i] != 1 for i in axes.spatial)


def channels_first(rank: int) -> Roles:
    return ("n", "c", *(f"s{i}" for i in range(rank - 2)))


def _of_picture(value: ir.Value) -> Roles | None:
    rank = 0 if value.shape is None else len(value.shape)
    if rank < 3:
        return None
    dims = [d if isinstance(d, int) else None for d in value.shape or ()]
    if rank >= 4 and dims[-1] in (1, 3, 4) and dims[1] not in (1, 3, 4):
        return ("n", *(f"s{i}" for i in range(rank - 2)), "c")
    return channels_first(rank)


def _of_output(node: ir.Node, index: int, roles: dict[ir.Value, Roles]) -> Roles | None:
    y = node.outputs[index]
    rank = None if y.shape is None else len(y.shape)
    if node.op_type in _CHANNELS_FIRST and index == 0:
        return channels_first(rank) if rank is not None and rank > 2 else None
    known = [(x, roles[x]) for x in node.inputs if x is not None and x in roles]
    if not known:
        return None
    x, source = known[0]
    if node.op_type == "Transpose":
        perm = _ints(node, "perm") or list(reversed(range(len(source))))
        return tuple(source[i] for i in perm)
    if node.op_type in ("Squeeze", "Unsqueeze") or node.op_type.startswith("Reduce"):
        return _moved(node, x, source, rank)
    if node.op_type in ("Reshape", "Flatten", "Einsum"):
        return source if _same_shape(x, y) else _merged(source, y)
    same = [r for _, r in known if rank is None or len(r) == rank]
    return same[0] if same else None


def _merged(source: Roles, y: ir.Value) -> Roles | None:
    """Roles where a reshape may have made one axis of all spatial ones: positions as a list ("t", for tokens)."""
    space = [i for i, role in enumerate(source) if role.startswith("s")]
    together = len(space) > 1 and space == list(range(space[0], space[0] + len(space)))
    if not together or y.shape is None or len(y.shape) != len(source) - len(space) + 1:
        return None
    return (*source[: space[0]], "t", *source[space[-1] + 1 :])


def _moved(node: ir.Node, x: ir.Value, source: Roles, rank: int | None) -> Roles | None:
    if rank == len(source):
        return source
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


def _ints(node: ir.Node, name: str) -> Sequence[int] | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else list(attribute.as_ints())


def _same_shape(x: ir.Value, y: ir.Value) -> bool:
    if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return False
    pairs = list(zip(x.shape, y.shape, strict=True))
    return sum(a != b for a, b in pairs) <= (not isinstance(pairs[0][0], int))  # a symbolic batch may be renamed
