"""A model as the differentiator sees it: the original bytes beside a typed view of the graph.

The view (`onnx_ir`) is for reading and for new nodes. The original is never written through it: a round trip
re-encodes the user's nodes. `append` adds to a copy of the original ModelProto, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from itertools import count

import onnx
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir

from cam_onnx import wire
from cam_onnx.autodiff import sizes
from cam_onnx.autodiff.bodies import Bodies
from cam_onnx.autodiff.check import check
from cam_onnx.autodiff.classical import DOMAIN, written_out
from cam_onnx.autodiff.functions import all_names, raised, scans_whole_batches
from cam_onnx.autodiff.linked import follow_links
from cam_onnx.autodiff.quantised import annotate
from cam_onnx.autodiff.raising import Unraisable, declare_ranks, each_channel, keep_old_meanings, keep_types
from cam_onnx.autodiff.typed import inferred, readable, retype, values_of
from cam_onnx.autodiff.weights import Held, filled, lift, show
from cam_onnx.contract import KEY
from cam_onnx.declared import check_tensors
from cam_onnx.errors import InvalidModel, UnsupportedOpset, shown
from cam_onnx.external import External
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.options import check_model, read_model

__all__ = ["Model", "ModelLike", "load"]

ModelLike = str | os.PathLike[str] | bytes | onnx.ModelProto
_ROUNDS = 64  # of inference, each of which may settle sizes that the next one needs: some a block, in older exports
_KEEP = {"Cast", "Identity", "LogSoftmax", "Relu", "Sigmoid", "Softmax", "Tanh"}  # operators that keep the shape


@dataclass
class Model:
    """A loaded model.

    Attributes
    ----------
    proto : onnx.ModelProto
        The original, or its raised form; without the data of its `weights`.
    graph : onnx_ir.Graph
        The view, with inferred types and shapes.
    folder : str or None
        Where external data lies.
    source_sha256 : str
        Of the bytes that were read.
    external : list of External
        Its checked entries.
    sparse : list of onnx_ir.Value
        Sparse initializers, which the view does not know: values that nothing in it gives.
    raised : dict
        What was raised, e.g. ``{"opset": [9, 13]}``.
    weights : dict of Held
        By name; large initializers of the graph.
    """

    proto: onnx.ModelProto
    folder: str | None = None
    name: str = "the model"
    source_sha256: str = ""
    raised: dict[str, list[int]] = field(default_factory=dict)
    external: list[External] = field(default_factory=list)
    weights: dict[str, Held] = field(default_factory=dict)
    sparse: list[ir.Value] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.opset = next((o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.graph = view(self)
        self.values = {value.name: value for value in (*values_of(self.graph), *self.sparse)}
        self.bodies = Bodies(self.proto, self.opset, all_names(self.proto), inferred)
        self.graph.meta["bodies"] = self.bodies
        hints: dict[str, onnx.TypeProto] = {}
        for rounds in count():
            told = {}
            if rounds < _ROUNDS:  # first, since it finds which branches are taken
                found = sizes.told(self.graph, self.bodies.taken_branch)
                told = {name: kind for name, kind in found.items() if hints.get(name) != kind}
            told = self.bodies.told(self.graph) | told
            if not told:
                break
            hints |= told
            retype([*values_of(self.graph), *self.sparse], inferred(self.proto, self.name, hints))
        annotate(self.graph)

    def names(self) -> set[str]:
        """Return every name of a value or node in the model, its functions, and the bodies that were written out."""
        return self.bodies.taken | {n for n in self.values if n}

    def of(self, proto: onnx.ModelProto, raised: dict[str, list[int]] | None = None) -> Model:
        """Return this model with another message, which has no weights beyond its own."""
        kept = {tensor.name for tensor in proto.graph.initializer}
        weights = {name: held for name, held in self.weights.items() if name in kept}
        return replace(self, proto=proto, raised=self.raised if raised is None else raised, weights=weights)

    def whole(self) -> onnx.ModelProto:
        """Return the message with its weights."""
        return filled(self.proto, self.weights)

    def raise_to(self, opset: int) -> Model:
        """Return the model raised to `opset` by onnx's version converter.

        Raises
        ------
        UnsupportedOpset
            The converter cannot: the message has its reason.
        """
        if self.opset < 7:
            raise UnsupportedOpset(f"{self.name}: opset {self.opset} is below 7: export it again at opset 13 or newer")
        if self.opset < 9 and not scans_whole_batches(self.proto.graph.node):
            raise UnsupportedOpset(
                f"{self.name}: Scan with sequence lengths, or in a subgraph, changed at opset 9: export it again "
                f"at opset 9 or newer"
            )
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        if proto.ir_version < 4:  # the converter wants every initializer among the inputs below 4, none above
            _without_initializer_inputs(proto)
            proto.ir_version = 4
        if self.opset < 9:
            each_channel(proto, self.values)
        if self.opset < 13:
            declare_ranks(proto, self.values)
        try:
            converted = onnx.version_converter.convert_version(proto, opset)
        except Exception as error:  # the converter raises RuntimeError, ConvertError, ...
            reason = _reason(error)
            raise UnsupportedOpset(
                f"{self.name}: opset {self.opset} must be raised to {opset}, and onnx's version converter cannot"
                f"{_blamed(proto, opset, reason, self.name)} ({reason}): export it again at opset {opset} or newer"
            ) from error
        try:
            converted.functions.extend(raised(self.proto, opset, self.names()))  # the converter drops functions
        except Unraisable as error:
            raise UnsupportedOpset(
                f"{self.name}: opset {self.opset} must be raised to {opset}, and {error}: export it again at opset "
                f"{opset} or newer"
            ) from error
        keep_old_meanings(self.proto, converted)
        keep_types(converted, self.values)
        del converted.metadata_props[:]
        converted.metadata_props.extend(self.proto.metadata_props)
        converted.ir_version = max(proto.ir_version, converted.ir_version, 4)
        record = {**self.raised, "opset": [self.raised.get("opset", [self.opset])[0], opset]}
        if self.proto.ir_version != converted.ir_version:
            record["ir_version"] = [self.raised.get("ir_version", [self.proto.ir_version])[0], converted.ir_version]
        return self.of(converted, record)


def load(model: ModelLike, limits: Limits = DEFAULTS, whole: bool = False) -> Model:
    """Load a model from a path, bytes or a ModelProto; `whole` if a message with its weights is what is wanted of it.

    External data stays where it is: every entry is checked, none is read. A file of IR version below 4 is raised
    to 4, since a runtime would treat its weights as variables; linear models of ai.onnx.ml are written in standard
    operators.

    Raises
    ------
    InputError
        The path does not lead to a readable file.
    InvalidModel
        Not ONNX, truncated, inconsistent, or with unsafe external data.
    LimitExceeded
        More bytes or nodes than `limits` allow.
    """
    data, given = read_model(model, limits)
    path, name = (None, "the model") if given is None else (os.path.abspath(given), shown(given))
    wire.metadata(data, name)
    entries = check_model(data, given, limits)
    check_tensors(data, name)
    proto = onnx.ModelProto()
    light, weights = (data, {}) if whole else lift(data)
    try:
        proto.ParseFromString(light)
    except Exception as error:  # protobuf's DecodeError
        raise InvalidModel(f"{name}: not an ONNX model, or damaged ({error})") from error
    source = hashlib.sha256(data).hexdigest()
    del data, light  # unless there are weights in it
    check(proto, name)
    raised: dict[str, list[int]] = {}
    if proto.ir_version < 4:
        raised["ir_version"] = [proto.ir_version, 4]
        _without_initializer_inputs(proto)
        proto.ir_version = 4
    converted = any(entry.key == KEY for entry in proto.metadata_props)  # which has counted its nodes
    if not converted and (count := written_out(proto, name)):
        raised[f"nodes of {DOMAIN}"] = [count, 0]
    return Model(proto, os.path.dirname(path) if path else None, name, source, raised, entries, weights)


def _reason(error: Exception) -> str:
    """Return the last line of what the version converter says, without its source file and assertion."""
    lines = str(error).strip().splitlines()
    if lines and "no registered schema" in lines[-1]:  # its own words have holes where names belong
        return "no operator of the standard"
    return shown(re.sub(r"^\S+\.(?:h|cc):\d+: .*? failed: ", "", lines[-1])) if lines else type(error).__name__


def _blamed(proto: onnx.ModelProto, opset: int, reason: str, name: str) -> str:
    """Name the node that the converter fails at for the same reason when it is alone: it does not say which."""
    types = inferred(proto, name)
    for node in proto.graph.node:
        alone = onnx.ModelProto(ir_version=proto.ir_version)
        alone.opset_import.extend(proto.opset_import)
        alone.graph.name = "alone"
        alone.graph.node.append(node)
        for names, part in ((node.input, alone.graph.input), (node.output, alone.graph.output)):
            part.extend(onnx.ValueInfoProto(name=n, type=types.get(n)) for n in dict.fromkeys(names) if n)
        try:
            onnx.version_converter.convert_version(alone, opset)
        except Exception as error:  # noqa: BLE001  (as above)
            if _reason(error) == reason:
                return f" raise {shown(node.op_type)} {shown(node.name or node.output[0])!r}"
    return ""


def _without_initializer_inputs(proto: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [i for i in proto.graph.input if i.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def view(model: Model) -> ir.Graph:
    """Return the typed view of the graph."""
    proto, sparse = readable(model.proto)
    try:
        graph = ir.from_proto(proto).graph
    except Exception as error:  # onnx_ir's SerdeError and others
        raise InvalidModel(f"{model.name}: {str(error).strip().splitlines()[0]}") from error
    model.sparse = [value for value in graph.inputs if value.name in sparse]
    for value in [*model.sparse, *(x for x in graph.inputs if x.name in graph.initializers)]:  # weights, not fed
        graph.inputs.remove(value)
    show(graph, model.weights)
    if model.folder:
        follow_links(graph, model.folder)
    retype([*values_of(graph), *model.sparse], inferred(model.proto, model.name))
    for node in reversed(graph):  # inference goes forwards only; these tell their input's shape too
        x = node.inputs[0] if node.inputs else None
        if node.op_type in _KEEP and x is not None and x.shape is None and node.outputs[0].shape is not None:
            x.shape = node.outputs[0].shape.copy()
    return graph
