"""The samples of one call: pictures or tensors, as feeds and as what is needed to draw over them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cam_onnx.contract import Contract, Preprocess
from cam_onnx.engine import Array, Tensor, extras, find_input, npy, preprocess
from cam_onnx.engine.layout import picture_axes, picture_size
from cam_onnx.errors import InputError, shown
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.render import image
from cam_onnx.render.tensors import drawable

__all__ = ["Samples", "from_inputs", "from_pictures", "given"]


@dataclass(frozen=True)
class Samples:
    """N samples.

    Attributes
    ----------
    feeds : dict of arrays
    count : int
        N.
    names : list of str
        For file names.
    pictures : list of (array (H, W, 3) or None)
    boxes : list of (tuple or None)
        The rectangle of each picture that the network sees.
    sizes : list of (tuple or None)
        Over which each map is drawn: the picture's, or the network input's; None: the layer's own.
    notes : list of str
    inputs : list of (array (C, *S) or None)
        What is shown in a picture's place.
    """

    feeds: dict[str, Array]
    count: int
    names: list[str]
    pictures: list[Array | None]
    boxes: list[Any]
    sizes: list[tuple[int, ...] | None]
    notes: list[str] = field(default_factory=list)
    inputs: list[Array | None] = field(default_factory=list)

    @property
    def seen(self) -> bool:
        """Whether a picture is among them."""
        return any(picture is not None for picture in self.pictures)

    def rows(self, owner: Sequence[int]) -> dict[str, Array]:
        """Return feeds with sample ``owner[i]`` in row i."""
        at = list(owner)
        return {name: v[at] if v.ndim and len(v) == self.count else v for name, v in self.feeds.items()}


def given(
    images: Any, inputs: Mapping[str, Any] | None, contract: Contract, tensors: Sequence[Tensor], limits: Limits
) -> Samples:
    """Return what a caller gave, pictures or tensors; with pictures, tensors of the other inputs.

    A .npy file in a picture's place holds what the network takes there: a signal, a volume, prepared pictures.

    Raises
    ------
    InputError, LimitExceeded
        Both or neither; see `from_pictures` and `from_inputs`.
    """
    name = contract.roles.get("image", "")
    if images is None and inputs is None:
        raise InputError("give either images or inputs=")
    if images is not None and inputs is not None and name in inputs:
        raise InputError(f"give either images or inputs= (--input) for {shown(name)!r}, not both")
    if (file := _tensor_file(images)) is not None and name:
        return from_inputs({name: file, **(inputs or {})}, contract, tensors, limits)
    if images is None and inputs is not None:
        return from_inputs(inputs, contract, tensors, limits)
    found = from_pictures(images, contract.preprocess, next((t for t in tensors if t.name == name), None), limits)
    assert contract.preprocess is not None
    axes = slice(1, 3) if contract.preprocess.layout == "NHWC" else slice(2, 4)
    height, width = found.feeds[name].shape[axes]
    sizes = [((height, width), (size[0], size[1])) for size in found.sizes if size is not None]
    others, notes = extras.beside(tensors, inputs or {}, (name, contract.roles["target"]), sizes, limits)
    return replace(found, feeds={**found.feeds, **others}, notes=[*found.notes, *notes])


def from_pictures(
    images: Any, settings: Preprocess | None, tensor: Tensor | None, limits: Limits = DEFAULTS
) -> Samples:
    """Load and prepare a picture or a list of them.

    Raises
    ------
    InputError
        Not a picture, or pictures of different sizes for a model that takes any.
    """
    if settings is None or tensor is None:
        raise InputError(
            "this model has no input that a picture fits: give its tensor as a .npy file in the picture's place, or "
            "all of them by inputs= (--input NAME=FILE.npy)"
        )
    sources = list(images) if isinstance(images, (list, tuple)) else [images]
    if not sources:
        raise InputError("no pictures: the list is empty")
    notes: list[str] = []
    pictures, tensors, boxes = [], [], []
    for source in sources:
        if isinstance(source, (str, os.PathLike, bytes)):
            loaded = image.load(source, max_pixels=limits.max_pixels)
            pixels = loaded.pixels
            notes += [f"{shown(loaded.name)}: {note}" for note in loaded.notes]
        else:
            pixels = image.as_picture(source)
        height, width = settings.extent(*pixels.shape[:2])
        own = "{}x{}".format(*pixels.shape)
        limits.check("max_pixels", height * width, f"a picture of {own} becomes", "pixels")
        if settings.multiple > 1 and (height, width) != pixels.shape[:2] and None in (settings.size or (None,)):
            notes.append(
                f"{own} pixels are fed as {height}x{width}: the network takes multiples of {settings.multiple} "
                "(set size, --size, for others)"
            )
        prepared, box = preprocess.apply(settings, pixels)
        pictures.append(pixels)
        tensors.append(prepared)
        boxes.append(box)
    if len({t.shape for t in tensors}) > 1:
        raise InputError(
            "pictures of different sizes do not fit into one batch, and this model takes any size: explain them one by "
            "one, or set size in preprocess="
        )
    return Samples(
        feeds={tensor.name: np.concatenate(tensors)},
        count=len(sources),
        names=[_stem(source, i) for i, source in enumerate(sources)],
        pictures=list(pictures),
        boxes=boxes,
        sizes=[p.shape[:2] for p in pictures],
        notes=notes,
    )


def from_inputs(
    inputs: Mapping[str, Any], contract: Contract, tensors: Sequence[Tensor] = (), limits: Limits = DEFAULTS
) -> Samples:
    """Take tensors that the caller has prepared: arrays, which are checked when they are run, or .npy files.

    Raises
    ------
    InputError, LimitExceeded
        See `cam_onnx.engine.npy.read`.
    """
    if contract.roles["target"] in inputs:
        raise InputError(f"input {shown(contract.roles['target'])!r} is the target's: give it by target=")
    paths = {name: value for name, value in inputs.items() if isinstance(value, (str, os.PathLike))}
    image_name, absent = contract.roles.get("image", ""), contract.absent

    def own(name: str) -> Tensor:
        tensor = find_input(tensors, name)
        if absent is None or name != image_name or not tensor.shape:
            return tensor
        return replace(tensor, shape=(*tensor.shape[:absent], *tensor.shape[absent + 1 :]))

    feeds = {
        name: npy.read(paths[name], own(name), limits) if name in paths else np.asarray(value)
        for name, value in inputs.items()
    }
    ranks = [len(tensor.shape) for tensor in tensors if tensor.name == image_name and tensor.shape]
    if absent is not None and image_name in feeds and feeds[image_name].ndim + 1 in ranks:
        feeds[image_name] = np.expand_dims(feeds[image_name], absent)
    first = feeds.get(image_name, next(iter(feeds.values()), None))
    count = 1 if contract.single or first is None or not first.ndim else len(first)
    size: tuple[int, ...] | None = None
    if image_name in feeds and feeds[image_name].ndim == contract.layers[0].axes.extent + 2:
        size = picture_size(contract, feeds)
    stem = next((_stem(path, 0) for path in paths.values()), None)
    names = [f"sample{i}" if stem is None else f"{stem}.{i}" for i in range(count)]
    return Samples(
        feeds=feeds,
        count=count,
        names=[stem] if stem is not None and count == 1 else names,
        pictures=[None] * count,
        boxes=[None] * count,
        sizes=[size] * count,
        inputs=[None] * count if size is None else _seen(contract, feeds[image_name]),
    )


def _seen(contract: Contract, values: Array) -> list[Array | None]:
    """Return every sample as (C, *S), None where it cannot be shown."""
    turned = values.transpose(picture_axes(contract, values.shape).order())
    return [one if drawable(one) else None for one in turned]


def _tensor_file(images: Any) -> str | os.PathLike[str] | None:
    """Return the .npy file that stands in a picture's place."""
    one = images[0] if isinstance(images, (list, tuple)) and len(images) == 1 else images
    named = isinstance(one, (str, os.PathLike)) and os.fspath(one).lower().endswith(".npy")
    return one if named else None


def _stem(source: Any, index: int) -> str:
    """Return a file name stem for a picture: its path's, else the sample's number."""
    if isinstance(source, (str, os.PathLike)):
        if os.fspath(source) == "-":
            return "stdin"
        return os.path.splitext(os.path.basename(os.fspath(source)))[0] or f"sample{index}"
    return f"sample{index}"
