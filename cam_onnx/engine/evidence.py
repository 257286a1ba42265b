"""Evidence: what one run of a converted model says, in the shapes that every method reads.

The model keeps its own layouts (a layer may be NHWC, a text recogniser has its batch on axis 1) and its
contract says which axis is what. Here, and nowhere later, values are turned to (N, K, *S) and (N, C), and lists of
tokens are laid out on their grid.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Array, Engine, check_feeds
from cam_onnx.engine.layout import Layout, mismatch, picture_size
from cam_onnx.errors import ContractError, InputError, RunFailed, shown

__all__ = ["Evidence", "LayerEvidence", "gather"]


@dataclass(frozen=True)
class LayerEvidence:
    """One layer's activations and the score's gradients with respect to them, both (N, K, *S).

    `gradients` is None where the file was made for a method without.
    """

    activations: Array
    gradients: Array | None

    def rows(self, at: Any) -> LayerEvidence:
        """Return some of the samples: a slice, or a list of indices."""
        return LayerEvidence(self.activations[at], None if self.gradients is None else self.gradients[at])


@dataclass(frozen=True)
class Evidence:
    """What one run says.

    `logits` (N, C) and `score` (N,) are float32, or float64 in a float64 model; `target` (N,) int64 is the
    class that was explained, with -1 resolved; `layers` maps the names in the original graph; `lists` has what is
    read of the inside of the network, arrays (N, ...) by the name of a method's need; `boxes` (N, A, 4) are the
    corners of each row of the logits, A 0 where there are none.
    """

    logits: Array
    target: Array
    score: Array
    layers: dict[str, LayerEvidence]
    lists: dict[str, list[Array]] = field(default_factory=dict)
    boxes: Array = field(default_factory=lambda: np.zeros((0, 0, 4), np.float32))


def gather(
    engine: Engine,
    contract: Contract,
    feeds: Mapping[str, Any],
    target: Any = -1,
    size: Sequence[int] | None = None,
    inner: Container[str] = (),
) -> Evidence:
    """Run a converted model once.

    Parameters
    ----------
    engine : Engine
        Of the converted model.
    contract : Contract
        From its metadata.
    feeds : dict of arrays
        The original inputs.
    target : int or (N,) integers
        Class indices in the flattened logits; -1 is the largest. Length 1 serves every sample.
    size : sequence of int, optional
        Of the picture, where it is not among the feeds: grids of tokens may depend on it.
    inner : names, optional
        Of feeds from inside a network; see `check_feeds`.

    Raises
    ------
    ContractError
        The model lacks an output or an axis that its contract promises.
    InputError
        See `check_feeds`; or `target` is not made of integers; or tokens are not known to be one grid.
    RunFailed
    """
    wanted = dict.fromkeys(contract.names())
    if absent := [name for name in wanted if name not in {output.name for output in engine.outputs}]:
        raise ContractError(
            f"the contract names an output {shown(absent[0])!r} that the model lacks: convert the original again"
        )
    classes = np.atleast_1d(np.asarray(target))
    if classes.dtype.kind not in "iu" or classes.ndim != 1:
        raise InputError(f"target: expected class indices, got {classes.dtype.name} of shape {classes.shape}")
    with_target = {**feeds, contract.roles["target"]: classes.astype(np.int64)}
    checked = check_feeds(engine, with_target, inner)
    corners = [name] if (name := contract.roles.get("boxes")) in {output.name for output in engine.outputs} else []
    found = engine.run(checked, [*wanted, *filter(None, corners)])
    size = picture_size(contract, checked) if size is None else size

    logits = found[contract.roles["logits"]]
    if contract.single:
        logits = logits.reshape(1, -1)
    elif not 0 <= contract.batch_axis < logits.ndim:
        raise mismatch(contract.score, logits.shape, f"batch axis {contract.batch_axis}")
    else:
        logits = np.moveaxis(logits, contract.batch_axis, 0)
        logits = logits.reshape(len(logits), -1) if logits.size else logits.reshape(len(logits), 0)
    layers = {}
    for layer in contract.layers:
        layout = Layout(layer, size)
        values = [_floating(layout.turned(found[name])) for name in (layer.activations, layer.gradients) if name]
        layers[layer.name] = LayerEvidence(values[0], values[1] if layer.gradients else None)
    explained = np.ascontiguousarray(found[contract.roles["class"]].reshape(-1), dtype=np.int64)
    _check_read(engine, contract, classes, explained)
    return Evidence(
        logits=_floating(logits),
        target=explained,
        score=_floating(found[contract.roles["score"]].reshape(-1)),
        layers=layers,
        lists={
            need: [_tokens_last(_of_samples(found[name], len(logits)), need, contract, layers) for name in names]
            for need, names in contract.lists.items()
        },
        boxes=_floating(found[corners[0]]) if corners and corners[0] else np.zeros((len(logits), 0, 4), np.float32),
    )


def _check_read(engine: Engine, contract: Contract, asked: Array, explained: Array) -> None:
    """Refuse (RunFailed) the map of a provider that took the target's default whatever was fed; of rows the class."""
    of_class = explained % contract.each if contract.each else explained
    other = (asked >= 0) & (explained != asked) & (of_class != asked)
    if other.any():
        i = int(other.argmax())
        raise RunFailed(
            f"class {np.broadcast_to(asked, other.shape)[i]} was asked for, and {engine.provider} explained "
            f"{explained[i]}: it does not read the input {contract.roles['target']}; convert with "
            'target_input="required" (--target-input required)'
        )


def _of_samples(value: Array, count: int) -> Array:
    """Return an array with the samples on axis 0: heads may be laid out along them."""
    if value.ndim and count and len(value) != count and len(value) % count == 0:
        value = value.reshape(count, -1, *value.shape[1:])
    return _floating(value)


def _tokens_last(value: Array, need: str, contract: Contract, layers: Mapping[str, LayerEvidence]) -> Array:
    """Return attention with the tokens of the layer's grid behind all others."""
    layer = contract.layers[0]
    tokens, count = layer.axes.tokens, math.prod(layers[layer.name].activations.shape[2:])
    if need == "biases" or tokens is None or value.ndim < 3 or tokens.first + count > value.shape[-1]:
        return value
    grid = range(tokens.first, tokens.first + count)
    order = [*(i for i in range(value.shape[-1]) if i not in grid), *grid]
    return value if value.shape[-2] != value.shape[-1] else value[..., order, :][..., order]


def _floating(value: Array) -> Array:
    return np.ascontiguousarray(value, dtype=value.dtype if value.dtype == np.float64 else np.float32)
