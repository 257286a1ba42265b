"""onnx's reference evaluator as an engine: pure NumPy, slow, and there wherever onnx is.

It shares no code with ONNX Runtime, so where both agree, neither is likely to be wrong. It knows only the
operators of the standard. The only part of the run-time side that imports onnx.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cam_onnx.engine import Array, Provider, Tensor, known_outputs
from cam_onnx.errors import InputError, InvalidModel, RunFailed, shown

if TYPE_CHECKING:
    from cam_onnx.external import External

__all__ = ["ReferenceEngine", "open"]


class ReferenceEngine:
    """A model in onnx's `ReferenceEvaluator`."""

    provider = "onnx reference evaluator"
    note: str | None = None

    def __init__(self, evaluator: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        self._evaluator = evaluator
        self.inputs = inputs
        self.outputs = outputs

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the named outputs; see `Engine.run`. An optional input that is not fed keeps its default."""
        names = known_outputs(self, outputs)
        try:
            with np.errstate(all="ignore"):  # NaN and infinity are results here, as in every other engine
                found = self._evaluator.run(names, feeds)
        except MemoryError as error:
            raise RunFailed(f"{_failing(error)} needs more memory than there is; try a smaller batch") from error
        except Exception as error:  # its operators raise whatever NumPy and Python raise
            raise RunFailed(f"{_failing(error)} failed in {self.provider}: {_line(error)}") from error
        return dict(zip(names, found, strict=True))


def open(  # noqa: A001
    model: bytes,
    *,
    folder: str | None = None,
    external: Sequence[External] = (),
    providers: str | Sequence[Provider] | None = None,
    timeout: float | None = None,
    exact: bool = False,
) -> ReferenceEngine:
    """Load a serialized model; see `cam_onnx.engine.open`. It is always `exact`."""
    if providers is not None:
        raise InputError("backend 'reference' has no providers: leave them out, or take backend 'onnxruntime'")
    if timeout is not None:
        raise InputError("backend 'reference' cannot be stopped: leave timeout out, or take backend 'onnxruntime'")
    try:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise RunFailed(f'onnx cannot be imported ({_line(error)}): pip install "onnx>=1.21"') from error
    try:
        proto = onnx.load_model_from_string(model)
        if external:
            _fill(proto.graph.initializer, {found.name: found for found in external})
        if folder is not None:
            load_external_data_for_model(proto, folder)
    except Exception as error:  # protobuf's DecodeError, onnx's ValidationError, OSError
        raise InvalidModel(f"onnx cannot load the model: {_line(error)}") from error
    try:
        evaluator = ReferenceEvaluator(proto)
    except Exception as error:  # NotImplementedError, RuntimeContextError, TypeError, ...
        raise RunFailed(f"onnx's reference evaluator cannot run the model: {_line(error)}") from error
    graph = proto.graph
    defaults = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    tensors = [_tensor(value, value.name in defaults) for value in graph.input]
    inputs = tuple(sorted(tensors, key=lambda tensor: tensor.optional))
    return ReferenceEngine(evaluator, inputs, tuple(_tensor(value, False) for value in graph.output))


def _fill(initializers: Any, external: dict[str, External]) -> None:
    """Read checked external tensors: onnx's own loader refuses links, also those that were found harmless."""
    for tensor in initializers:
        found = external.get(tensor.name)
        if found is not None and tensor.data_location == tensor.EXTERNAL:
            with builtins.open(found.file, "rb") as stream:
                stream.seek(found.offset)
                tensor.raw_data = stream.read(found.nbytes)
            tensor.data_location = tensor.DEFAULT
            del tensor.external_data[:]


def _tensor(value: Any, optional: bool) -> Tensor:
    import onnx

    if value.type.WhichOneof("value") != "tensor_type":
        return Tensor(value.name, f"{value.type.WhichOneof('value')}()", None, optional)
    kind = value.type.tensor_type
    if kind.elem_type == onnx.TensorProto.STRING:
        dtype = "str"
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    if not kind.HasField("shape"):
        return Tensor(value.name, dtype, None, optional)
    dims = (d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Tensor(value.name, dtype, tuple(dims), optional)


def _failing(error: BaseException) -> str:
    """Return operator and name of the innermost node that the evaluator was at."""
    found = "the model"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = getattr(frame.f_locals.get("node"), "onnx_node", None)
        if node is not None:
            found = f"{shown(node.op_type)} {shown(node.name or ', '.join(node.output))!r}"
    return found


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shown(text[0])}" if text else type(error).__name__
