"""Inputs beside the picture: what the caller gives for them, and what is known of those that exporters are used to add.

Detectors are told how large the picture is and how it was scaled, so that boxes come out in its pixels, and which
pixels are padding. Of such inputs the value follows from the picture; any other has to be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cam_onnx.engine import Array, Tensor, find_input, npy
from cam_onnx.errors import shown
from cam_onnx.limits import Limits

__all__ = ["USUAL", "beside"]

Size = tuple[int, int]  # height, width

# name -> one sample's value, of the network's and the picture's size
USUAL: dict[str, Callable[[Size, Size], Any]] = {
    "im_shape": lambda network, picture: network,  # PaddleDetection: after resizing
    "scale_factor": lambda network, picture: (network[0] / picture[0], network[1] / picture[1]),
    "orig_target_sizes": lambda network, picture: (picture[1], picture[0]),  # D-FINE and RT-DETR: width first
    "image_shape": lambda network, picture: picture,  # YOLO v3 of Keras and the ONNX model zoo
    "pixel_mask": lambda network, picture: np.ones(network),  # DETR of Hugging Face: nothing is padding
}


def beside(
    tensors: Sequence[Tensor],
    given: Mapping[str, Any],
    taken: Sequence[str],
    sizes: Sequence[tuple[Size, Size]],
    limits: Limits,
) -> tuple[dict[str, Array], list[str]]:
    """Return feeds for the inputs beside the picture, and a note on each that nobody gave.

    Parameters
    ----------
    tensors : sequence of Tensor
        The model's inputs.
    given : dict of arrays or of .npy files' paths
    taken : sequence of str
        Names that need nothing more: the picture's input, the target's.
    sizes : sequence of ((height, width), (height, width))
        Of the network's input and of the picture, a sample each.

    Raises
    ------
    InputError
        An input that the model lacks, or a file that does not fit.
    """
    feeds: dict[str, Array] = {}
    for name, value in given.items():
        tensor = find_input(tensors, name)
        array = npy.read(value, tensor, limits) if isinstance(value, str) or hasattr(value, "__fspath__") else value
        array = np.asarray(array)
        feeds[name] = np.repeat(array, len(sizes), axis=0) if array.ndim and len(array) == 1 else array
    notes = []
    for tensor in tensors:
        rule = USUAL.get(tensor.name.casefold())
        if tensor.optional or tensor.name in feeds or tensor.name in taken or rule is None:
            continue
        try:
            values = np.stack([np.asarray(rule(*each), tensor.dtype) for each in sizes])
        except TypeError:  # a type that is no number
            continue
        if tensor.shape is None or len(tensor.shape) == values.ndim:
            feeds[tensor.name] = values
            first = values[0].tolist() if values[0].size <= 4 else "ones"
            notes.append(f"input {shown(tensor.name)!r} follows from the picture: {first}")
    return feeds, notes
