"""Tensors from .npy files. What the header says is compared with what the model takes before anything else is read.

A file may announce a terabyte, or hold a pickle, which is a program. Only plain arrays are read, never more bytes than
type and shape need, and no archives (.npz): a megabyte of them can be a gigabyte.
"""

from __future__ import annotations

import io
import math
import os
import tokenize
import warnings
from typing import Any, NamedTuple

import numpy as np

from cam_onnx import files
from cam_onnx.engine import Array, Tensor, check_form
from cam_onnx.errors import InputError, shown
from cam_onnx.limits import DEFAULTS, Limits

__all__ = ["Header", "header", "read"]

HEAD = 1 << 14  # bytes; the header of a plain array has about a hundred
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

OTHERS = {
    b"PK": "an archive (.npz, .pt): save the one array with numpy.save",
    b"\x80": "a pickle, which is a program: save the array with numpy.save",
}


class Header(NamedTuple):
    """What a .npy file says of itself; its data begin at byte `start`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def header(path: str | os.PathLike[str]) -> Header:
    """Return the header of a .npy file, of which no more than the start is read.

    Raises
    ------
    InputError
        No such file, not a .npy file, or not a plain array.
    """
    data = files.read(path, what="tensor", head=HEAD)
    where = f"tensor {shown(path)}"
    stream = io.BytesIO(data)
    if not data.startswith(b"\x93NUMPY"):
        what = next((text for start, text in OTHERS.items() if data.startswith(start)), "no .npy file (numpy.save)")
        raise InputError(f"{where}: {what}")
    try:
        version = np.lib.format.read_magic(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on headers that Python 2 wrote
            shape, fortran, dtype = READERS[version](stream)
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        reason = shown(str(error).partition("\n")[0], limit=80)
        raise InputError(f"{where}: its header is damaged ({type(error).__name__}: {reason}); save it again") from None
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise InputError(f"{where}: its elements are {shown(dtype, limit=80)}, not numbers; save a plain array")
    if any(n < 0 for n in shape):
        raise InputError(f"{where}: its shape {shown(shape)} is negative; save it again")
    return Header(dtype, shape, fortran, stream.tell())


def read(path: str | os.PathLike[str], tensor: Tensor, limits: Limits = DEFAULTS) -> Array:
    """Return the array of a .npy file for the input `tensor` of a model.

    Parameters
    ----------
    path : path
    tensor : Tensor
        The batch may have any length: runs are split.
    limits : Limits
        Of these, `max_input_bytes`.

    Raises
    ------
    InputError
        Not a plain .npy file, another type or shape than the model's, or cut off.
    LimitExceeded
    """
    found = header(path)
    where = f"tensor {shown(path)}"
    try:
        check_form(tensor, found.dtype.name, found.shape, any_batch=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    limits.check("max_input_bytes", found.nbytes, f"{where}: by its header")
    end = found.start + found.nbytes
    data = files.read(path, what="tensor", head=end + 1)
    if len(data) != end:
        what = "holds more than this array" if len(data) > end else f"is cut off at {len(data):,}"
        raise InputError(f"{where}: its header promises {end:,} bytes, but it {what}; save it again")
    flat = np.frombuffer(data, found.dtype, offset=found.start)
    return flat.reshape(found.shape[::-1]).T if found.fortran else flat.reshape(found.shape)
