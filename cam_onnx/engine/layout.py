"""A layer's value as the network has it becomes (N, K, *S), and is put back where a method changes it.

A list of tokens is laid out on its grid. What is no position of the picture (class and register tokens) is left out,
and stays as it was where the rest is put back. Sizes of a grid that depend on the picture are settled here, from the
length of the list: patches are as long as they are wide, so that the grid has the picture's own ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from cam_onnx.contract import Axes, Contract, Layer, Tokens
from cam_onnx.engine import Array
from cam_onnx.errors import ContractError, InputError, shown

__all__ = ["Layout", "mismatch", "picture_axes", "picture_size"]


def picture_axes(contract: Contract, shape: Sequence[int]) -> Axes:
    """Return the axes of what goes to the picture's input."""
    if contract.input_axes is not None and len(contract.input_axes.order()) == len(shape):
        return contract.input_axes
    if contract.preprocess is None:
        last = len(shape) > 3 and shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    else:
        last = contract.preprocess.layout == "NHWC"
    space = range(1, len(shape) - 1) if last else range(2, len(shape))
    return Axes(0, len(shape) - 1 if last else 1, tuple(space))


def picture_size(contract: Contract, feeds: Mapping[str, Array]) -> tuple[int, ...] | None:
    """Return the spatial size of what goes to the picture's input, None where that is not among the feeds."""
    picture = feeds.get(contract.roles.get("image", ""))
    if picture is None or picture.ndim < 3:
        return None
    return tuple(picture.shape[axis] for axis in picture_axes(contract, picture.shape).spatial)


class Layout:
    """The way from a layer's value to (N, K, *S), and back.

    Parameters
    ----------
    layer : Layer
    size : sequence of int or None
        Of the picture: the grid of tokens may depend on it.
    """

    def __init__(self, layer: Layer, size: Sequence[int] | None) -> None:
        self._layer, self._size = layer, size
        self._order, self._tokens = layer.axes.order(), layer.axes.tokens

    def turned(self, value: Array) -> Array:
        """Return a value as (N, K, *S).

        Raises
        ------
        ContractError
            It does not have the axes that the contract promises.
        InputError
            The grid's sizes depend on the picture and do not follow from its size.
        """
        if sorted(self._order) != list(range(value.ndim)):
            raise mismatch(self._layer.name, value.shape, f"axes {self._order}")
        turned = value.transpose(self._order)
        if self._tokens is None:
            return turned
        first, grid = self._tokens.first, self._grid(turned.shape[-1])
        if first + math.prod(grid) > turned.shape[-1]:
            raise mismatch(self._layer.name, value.shape, f"{math.prod(grid)} tokens from {first} on")
        return turned[..., first : first + math.prod(grid)].reshape(*turned.shape[:2], *grid)

    def back(self, turned: Array, like: Array) -> Array:
        """Return (N, K, *S) as the network has it: tokens outside the grid, and the type, are those of `like`."""
        inverse = np.argsort(self._order)
        if self._tokens is None:
            return turned.transpose(inverse).astype(like.dtype, copy=False)
        whole = np.repeat(like.transpose(self._order)[:1], len(turned), axis=0)
        first, flat = self._tokens.first, turned.reshape(*turned.shape[:2], -1)
        whole[..., first : first + flat.shape[-1]] = flat
        return whole.transpose(inverse)

    def _grid(self, length: int) -> tuple[int, ...]:
        assert self._tokens is not None
        found = _settled(self._tokens, length, self._size)
        if found is None:
            of = "unknown size" if self._size is None else " x ".join(map(str, self._size))
            raise InputError(
                f"layer {shown(self._layer.name)!r}: {length - self._tokens.first} tokens of a picture of {of} are not "
                "known to be one grid: give the picture a size of whole patches, or name a layer with spatial axes"
            )
        return found


def _settled(tokens: Tokens, length: int, size: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the sizes of the grid in a list of `length` tokens, of a picture of `size`; None: not known."""
    known = [each for each in tokens.grid if each is not None]
    if len(known) == len(tokens.grid):
        return tuple(known)
    rest, remainder = divmod(length - tokens.first, math.prod(known))
    if rest < 1 or remainder:
        return None
    open_ = [axis for axis, each in enumerate(tokens.grid) if each is None]
    fits = [(rest,)] if len(open_) == 1 else []
    if len(open_) > 1 and size is not None and len(size) == len(tokens.grid):
        patch = (math.prod(size[axis] for axis in open_) / rest) ** (1 / len(open_))
        near = [{max(1, math.floor(size[axis] / patch)), math.ceil(size[axis] / patch)} for axis in open_]
        fits = [found for found in product(*near) if math.prod(found) == rest]
    if len(fits) != 1:
        return None
    chosen = dict(zip(open_, fits[0], strict=True))
    return tuple(chosen.get(axis, each or 1) for axis, each in enumerate(tokens.grid))


def mismatch(name: str, shape: tuple[int, ...], said: str) -> ContractError:
    return ContractError(
        f"{shown(name)!r} has shape {shape}, which does not fit its contract ({said}): convert the original again"
    )
