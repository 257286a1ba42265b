"""The emitter: ``op.Conv(x, w, group=2)`` appends a node and returns its value.

Three things happen here so that no rule has to think of them:

- a 16-bit or quantised primal is read as its cotangent's type, float32;
- constants and repeated subexpressions are shared, and arithmetic on what is known at conversion (shapes,
  axes, paddings) is done at conversion, so that a rule has one form for static and symbolic shapes;
- a product with a one-hot matrix becomes a Gather of rows: the seed of a class costs one row, not a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx.defs
import onnx_ir as ir

from cam_onnx.autodiff import one_hot, spelling
from cam_onnx.autodiff.again import Again
from cam_onnx.autodiff.fold import FEW, FOLD, LARGEST
from cam_onnx.autodiff.quantised import dequantised, scale_of
from cam_onnx.autodiff.val import FLOATS, Operand, Val

__all__ = ["Emitter"]


class Emitter(Again):
    """Appends nodes behind a graph, in memory; `cam_onnx.autodiff.append` writes them into a file.

    Parameters
    ----------
    opset : int
        Of ai.onnx in the model: every node is spelled for it, or `spelling.NeedsOpset` is raised.
    taken : iterable of str
        Names that exist in the model.
    within : Emitter, optional
        The emitter of the graph around, if nodes are for a subgraph: names and constants are shared with it.

    Attributes
    ----------
    aside : dict
        What rules lay aside for a value beside its cotangent, for the table's `arriving`.
    """

    def __init__(self, opset: int, taken: Iterable[str] = (), within: Emitter | None = None) -> None:
        super().__init__(within)
        self.opset = opset
        self.scope: str = "grad" if within is None else within.scope
        self._taken: set[str] = set(taken) if within is None else within._taken
        self._last: dict[str, int] = {} if within is None else within._last
        self._seen: dict[Any, Any] = {}
        self._one_hot: dict[ir.Value, Val] = {}
        self.aside: dict[ir.Value, list[Val]] = {}

    # -- names ------------------------------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """Return `name`, or with a suffix if the model or we have it already."""
        unique, count = name, self._last.get(name, 1)  # names are never given back: smaller suffixes are taken
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        self._last[name] = count
        return unique

    def names(self) -> set[str]:
        """Return every name that is taken."""
        return set(self._taken)

    def output(self, val: Val, name: str) -> Val:
        """Return `val` under a name of its own, as an output needs it: an Identity, at most a copy."""
        if val.name == name:
            return val
        node = ir.node("Identity", [self.resolve(val.value)], name=self.fresh(f"{name}/Identity"))
        node.outputs[0].name = self.fresh(name)
        if val.value.dtype is not None:
            node.outputs[0].type = ir.TensorType(val.value.dtype)
        self.nodes.append(node)
        return Val(self, node.outputs[0])

    def rename(self, val: Val, name: str) -> Val:
        """Give an emitted value (not a primal, not a constant) a name of its own."""
        if not val.primal and val.value.producer() is not None:
            val.value.name = self.fresh(name)
        return val

    def shaped_as(self, val: Val, value: ir.Value) -> None:
        """Note that an emitted value has the shape of `value`: what a runtime infers may stop short of it."""
        if not val.primal and val.value.producer() is not None and val.value.shape is None:
            val.value.shape = value.shape

    # -- values -----------------------------------------------------------------------------------------------------

    def primal(self, value: ir.Value) -> Val:
        """Wrap a value of the graph for a rule."""
        known, const = None, value.const_value
        if const is not None and (const.size <= FEW or (const.dtype.is_integer() and const.size <= LARGEST)):
            known = const.numpy()  # shapes, axes, bounds, scales: hardly ever a weight
            if value.dtype in FLOATS:
                known = known.astype(np.float32)
        return Val(self, value, known, primal=True)

    def raw(self, value: ir.Value) -> Val:
        """Wrap a value of the graph as it is stored: integers stay integers."""
        return Val(self, value, self.primal(value).known)

    def real(self, value: ir.Value) -> Val:
        """Return a value of the graph as numbers: of a quantised one, what its integers stand for."""
        scale = scale_of(value)
        if scale is None:
            return self.primal(value)
        one, zero = (None if v is None else self.primal(v) for v in (scale.scale, scale.zero_point))
        return dequantised(self, self.raw(value), one, zero, scale.axis, scale.block_size)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str | None] | None) -> Val:
        """Return a new graph input."""
        value = ir.Value(
            name=self.fresh(name), type=ir.TensorType(dtype), shape=None if shape is None else ir.Shape(shape)
        )
        return Val(self, value)

    def constant(self, content: Any, dtype: ir.DataType | None = None) -> Val:
        """Return a shared constant; Python ints become int64, floats `dtype` or float32."""
        array = content if isinstance(content, np.ndarray) else _array(content, dtype)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self.constants:
            text = str(array.tolist()).replace(" ", "") if array.size <= 8 else f"[{'x'.join(map(str, array.shape))}]"
            value = ir.Value(name=self.fresh(f"grad/constant/{array.dtype}:{text}"), const_value=ir.tensor(array))
            value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
            self.constants[key] = Val(self, value, array)
            self._constant.add(value)
        found = self.constants[key]
        return found if found.op is self else Val(self, found.value, found.known)

    def shape(self, x: Val, start: int = 0, end: int | None = None) -> Val:
        """Return the dimensions `start` to `end` of a primal as int64, folded where they are static."""
        dims = None if x.value.shape is None else x.dims[start:end]
        if dims is not None and all(isinstance(d, int) for d in dims):
            return self.constant(np.array(dims, np.int64))
        whole = self.Shape(x)
        if start == 0 and end is None:
            return whole
        last = np.iinfo(np.int64).max if end is None else end
        return self.Slice(whole, [start], [last], [0])

    def reshape_like(self, g: Val, x: Val) -> Val:
        """Reshape `g` to the shape of the primal `x`; one unknown dimension needs no Shape at run time."""
        dims = None if x.value.shape is None else x.dims
        if dims is not None and 0 in dims:  # Reshape takes a 0 for "as it was"
            return self.Expand(self.constant(0.0, g.dtype), self.shape(x))
        if dims is not None and sum(not isinstance(d, int) for d in dims) <= 1:
            return self.Reshape(g, np.array([d if isinstance(d, int) else -1 for d in dims], np.int64))
        return self.Reshape(g, self.shape(x))

    # -- nodes ------------------------------------------------------------------------------------------------------

    def __getattr__(self, op_type: str) -> Callable[..., Val]:
        if not onnx.defs.has(op_type):  # a typo is an error, not an operator
            raise AttributeError(f"ai.onnx has no operator {op_type!r}")
        return lambda *inputs, **attributes: self._emit(op_type, inputs, attributes)

    def _emit(self, op_type: str, inputs: Sequence[Operand], attributes: dict[str, Any]) -> Any:
        count = attributes.pop("outputs", 1)
        attributes = {name: value for name, value in attributes.items() if value is not None}
        newest = spelling.schema(op_type, onnx.defs.onnx_opset_version())
        assert newest is not None
        vals = self._typed(newest, inputs)
        while vals and vals[-1] is None:
            vals.pop()
        if op_type == "Cast" and vals[0] is not None and vals[0].value.dtype == attributes["to"]:
            return vals[0]
        folded = self._fold(op_type, vals, attributes)
        if folded is not None:
            return folded
        index = None if not vals or vals[0] is None else self._one_hot.get(vals[0].value)
        rows = one_hot.rows(self, index, op_type, vals, attributes)
        if rows is not None:
            return rows
        reads = [None if v is None else self._read(op_type, v) for v in vals]
        key = (op_type, tuple(id(v) for v in reads), tuple(sorted((k, repr(v)) for k, v in attributes.items())), count)
        if key not in self._seen:
            self._seen[key] = self._append(op_type, newest, vals, reads, attributes, count)
        return self._seen[key]

    def _append(
        self,
        op_type: str,
        newest: onnx.defs.OpSchema,
        vals: list[Val | None],
        reads: list[ir.Value | None],
        attributes: dict[str, Any],
        count: int,
    ) -> Any:
        types = self._output_types(newest, vals, attributes, count)
        was = spelling.moved(op_type, self.opset)
        if was is not None and len(vals) > was[1] and (axes := vals[was[1]]) is not None:
            if axes.known is None:
                raise spelling.NeedsOpset(18, f"{op_type} with {was[0]} known at run time only")
            attributes = {**attributes, was[0]: axes.known.tolist()}
            reads = reads[: was[1]]
        spelling.write(op_type, len(reads), list(attributes), self.opset)
        plain = {k: int(v) if isinstance(v, ir.DataType) else v for k, v in attributes.items()}
        node = ir.node(op_type, reads, plain, num_outputs=count)
        node.name = self.fresh(f"{self.scope}/{op_type}")
        self.nodes.append(node)
        for value, dtype in zip(node.outputs, types, strict=True):
            value.name = node.name if count == 1 else self.fresh(f"{node.name}/output")
            if dtype is not None:
                value.type = ir.TensorType(dtype)
        results = tuple(Val(self, value) for value in node.outputs)
        given = [v for v in vals if v is not None]
        for result in results:
            result.constant = op_type in _SIZES or all(v.constant for v in given)
            result.finite = all(v.finite for v in given) and not _singular(op_type, given)
        if op_type == "OneHot":
            self._one_hot[node.outputs[0]] = vals[0]  # type: ignore[assignment]
        return results if count > 1 else results[0]

    def _typed(self, newest: onnx.defs.OpSchema, inputs: Sequence[Operand]) -> list[Val | None]:
        """Make constants of bare numbers: each takes the type of an operand that shares its type variable."""
        bound = {
            _formal(newest, i).type_str: v.dtype
            for i, v in enumerate(inputs)
            if isinstance(v, Val) and v.dtype is not None
        }
        vals: list[Val | None] = []
        for i, v in enumerate(inputs):
            if v is None or isinstance(v, Val):
                vals.append(v)
            else:
                vals.append(self.constant(v, bound.get(_formal(newest, i).type_str)))
        return vals

    def _read(self, op_type: str, val: Val) -> ir.Value:
        own = val.value.dtype
        if val.primal and scale_of(val.value) is not None and op_type not in ("Shape", "Size"):
            return self.real(val.value).value
        if val.primal and own in FLOATS and own != ir.DataType.FLOAT and op_type not in ("Shape", "Size", "Cast"):
            return self.Cast(val, to=ir.DataType.FLOAT).value
        return self.resolve(val.value)

    def _output_types(
        self, newest: onnx.defs.OpSchema, vals: list[Val | None], attributes: dict[str, Any], count: int
    ) -> list[ir.DataType | None]:
        if newest.name == "Cast":
            return [ir.DataType(attributes["to"])]
        bound = {_formal(newest, i).type_str: v.dtype for i, v in enumerate(vals) if v is not None}
        types: list[ir.DataType | None] = []
        for i in range(count):
            text = newest.outputs[min(i, len(newest.outputs) - 1)].type_str
            if text in bound:
                types.append(bound[text])
            elif text == "tensor(int64)":
                types.append(ir.DataType.INT64)
            else:
                only = [c.allowed_type_strs for c in newest.type_constraints if c.type_param_str == text]
                types.append(_FIXED.get(only[0][0]) if only and len(only[0]) == 1 else None)
        return types

    def _fold(self, op_type: str, vals: list[Val | None], attributes: dict[str, Any]) -> Val | None:
        """Compute now what is known now: shapes, axes and paddings, never a weight."""
        if op_type not in FOLD or any(v is not None and v.known is None for v in vals):
            return None
        result = FOLD[op_type](*(None if v is None else v.known for v in vals), **attributes)
        return self.constant(np.asarray(result)) if np.size(result) <= LARGEST else None


_SIZES = {"Shape", "Size"}

_FIXED = {
    "tensor(bool)": ir.DataType.BOOL,
    "tensor(int64)": ir.DataType.INT64,
    "tensor(float)": ir.DataType.FLOAT,
}


def _singular(op_type: str, operands: Sequence[Val]) -> bool:
    """Whether finite operands may give infinity. Weights and sizes do not: the forward pass lives with them."""
    if op_type == "Pow":
        exponent = operands[1].known
        return exponent is None or bool((exponent < 0).any())
    return op_type in ("Div", "Log", "Reciprocal") and not operands[-1].constant


def _formal(schema: onnx.defs.OpSchema, index: int) -> onnx.defs.OpSchema.FormalParameter:
    return schema.inputs[min(index, len(schema.inputs) - 1)]


def _array(content: Any, dtype: ir.DataType | None) -> np.ndarray:
    if isinstance(content, (list, tuple)):
        return np.array(content, np.int64)
    if dtype is not None:
        return np.array(content, dtype.numpy())
    return np.array(content, np.float32 if isinstance(content, float) else np.int64)
