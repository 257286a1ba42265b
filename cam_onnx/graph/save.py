"""Writing a model that has external data: every tensor is streamed, checked, into one file beside the output.

An entry is never passed through unread: it would dangle in another folder, and point wherever a stranger's file
says. The two files appear by rename, the weights first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx

from cam_onnx import files
from cam_onnx.autodiff.weights import Held, pieces
from cam_onnx.errors import InputError, shown
from cam_onnx.external import External

__all__ = ["save"]

_ALIGNMENT = 4096  # of each tensor: runtimes may map them
_CHUNK = 1 << 22


def save(
    model: onnx.ModelProto, weights: Mapping[str, Held], entries: Sequence[External], path: str | os.PathLike[str]
) -> None:
    """Write `model` with its `weights`, whose checked external data is `entries`, to `path` (and ``<path>.data``).

    Raises
    ------
    WriteFailed
        Nothing was written, or what was there before is intact.
    InputError
        The output would replace the original's weights.
    """
    path = os.fspath(path)
    files.check_writable(path)
    if not entries:
        files.write(path, pieces(model, weights))
        return
    beside = f"{path}.data"
    files.check_writable(beside)
    targets = {os.path.realpath(path), os.path.realpath(beside)}
    if taken := [entry.file for entry in entries if os.path.realpath(entry.file) in targets]:
        raise InputError(f"{shown(taken[0])} holds the original's own weights: choose another output name")
    distinct = list({(e.location, e.offset): e for e in entries}.values())
    offsets: dict[tuple[str, int], int] = {}
    end = 0
    for entry in distinct:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        offsets[entry.location, entry.offset] = start
        end = start + (entry.length or 0)
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    for tensor in _tensors(moved):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            said = {item.key: item.value for item in tensor.external_data}
            start = offsets[said["location"], int(said.get("offset", 0))]
            length = next(e.length for e in distinct if offsets[e.location, e.offset] == start)
            del tensor.external_data[:]
            for key, value in (("location", os.path.basename(beside)), ("offset", start), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
    is_new = not os.path.lexists(beside)
    files.write(beside, _stream(distinct, [offsets[e.location, e.offset] for e in distinct]))
    try:
        files.write(path, pieces(moved, weights))
    except BaseException:
        if is_new:  # weights without their model are of no use to anybody
            os.unlink(beside)
        raise


def _stream(entries: Sequence[External], offsets: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for entry, start in zip(entries, offsets, strict=True):
        yield bytes(start - at)
        at, left = start, entry.length or 0
        with open(entry.file, "rb") as source:
            source.seek(entry.offset)
            while left:
                chunk = source.read(min(_CHUNK, left))
                if not chunk:
                    raise InputError(f"{shown(entry.file)} became shorter while it was read: try again")
                left -= len(chunk)
                at += len(chunk)
                yield chunk


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers, attributes, subgraphs, functions."""
    graphs = [model.graph]
    nodes: list[Iterable[onnx.NodeProto]] = [function.node for function in model.functions]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.append(graph.node)
        for node in nodes.pop() if nodes else ():
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                graphs.extend([attribute.g] if attribute.HasField("g") else [])
                graphs.extend(attribute.graphs)
