"""How a picture becomes the network's input, as data: what `engine.preprocess` does. Standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any

from cam_onnx.errors import InputError

__all__ = ["CHANNELS", "DTYPES", "FITS", "INTERPOLATIONS", "LAYOUTS", "Preprocess"]

FITS = ("stretch", "crop", "letterbox", "corner")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")
CHANNELS = ("RGB", "BGR", "GRAY")
LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "float16", "float64", "uint8")


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input: ``x = (pixel * scale - mean) / std``.

    Parameters
    ----------
    size : (height, width) or None
        Of the network's input. None: what the model's input says, or the picture's own size. One of the two None: it
        follows from the other by the picture's aspect ratio, as a line of text is fed.
    fit : {"stretch", "crop", "letterbox", "corner"}
        "stretch" changes the aspect ratio; "crop" resizes the picture until it covers the input and cuts
        the middle out; "letterbox" resizes it until it fits inside and fills the rest with `fill`; "corner" does so
        too, with the picture at the top left.
    crop_pct : float in (0, 1]
        With "crop": the part of the resized picture's shorter side that the cut keeps (224 / 256 = 0.875).
    fill : float
        Pixel value 0..255 around a letterboxed picture.
    interpolation : {"nearest", "bilinear", "bicubic", "area", "lanczos"}
    channels : {"RGB", "BGR", "GRAY"}
    scale : float
        Applied first; 1 leaves pixels in 0..255, 1/255 gives 0..1.
    mean, std : float or one per channel
        In the units that `scale` leaves, in the order of `channels`.
    layout : {"NCHW", "NHWC"}
    dtype : {"float32", "float16", "float64", "uint8"}
    multiple : int
        What `size` leaves to the picture is rounded up to a multiple of this, the network's largest stride.

    Raises
    ------
    InputError
        A field outside its range: the message names the field, the value and the choices.
    """

    size: tuple[int | None, int | None] | None = None
    fit: str = "stretch"
    crop_pct: float = 1.0
    fill: float = 114.0
    interpolation: str = "bilinear"
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    dtype: str = "float32"
    multiple: int = 1

    def __post_init__(self) -> None:
        choices = dict(fit=FITS, interpolation=INTERPOLATIONS, channels=CHANNELS, layout=LAYOUTS, dtype=DTYPES)
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"preprocess: {name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        try:
            for name in ("mean", "std"):
                value = getattr(self, name)
                values = value if isinstance(value, (list, tuple)) else (value,)
                object.__setattr__(self, name, tuple(float(v) for v in values))
            for name in ("scale", "crop_pct", "fill"):
                object.__setattr__(self, name, float(getattr(self, name)))
            if self.size is not None:
                size = (self.size, self.size) if isinstance(self.size, int) else self.size
                height, width = (None if s is None else int(s) for s in size)
                object.__setattr__(self, "size", None if height is None and width is None else (height, width))
            object.__setattr__(self, "multiple", int(self.multiple))
        except (TypeError, ValueError) as error:
            raise InputError(f"preprocess: {error}") from None
        count = 1 if self.channels == "GRAY" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, count):
                raise InputError(
                    f"preprocess: {name} has {len(getattr(self, name))} entries, {self.channels} takes 1 or {count}"
                )
        if not all(s == s and abs(s) > 0 for s in (*self.std, self.scale)):
            raise InputError(f"preprocess: std {self.std} and scale {self.scale} must not be 0 or NaN")
        if any(s is not None and s < 1 for s in self.size or ()):
            raise InputError(f"preprocess: size {self.size} must be positive (height, width)")
        if self.multiple < 1:
            raise InputError(f"preprocess: multiple is {self.multiple}, expected a positive number")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"preprocess: crop_pct is {self.crop_pct}, expected a number in (0, 1]")

    def extent(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that a picture of this size gets."""
        down, across = self.size or (None, None)
        if down is None and across is None:
            free = (height, width)
        else:
            free = (ceil(height * (across or 0) / width), ceil(width * (down or 0) / height))
        tall, wide = (ceil(n / self.multiple) * self.multiple for n in free)
        return down or tall, across or wide

    @classmethod
    def from_dict(cls, data: Any) -> Preprocess:
        """Build one from parsed JSON; unknown keys are an `InputError`."""
        if not isinstance(data, dict):
            raise InputError(f"preprocess: expected a JSON object, got {type(data).__name__}")
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(data) - set(known)):
            raise InputError(f"preprocess: unknown {', '.join(map(repr, unknown))}, expected {', '.join(known)}")
        return cls(**data)

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Build one from JSON text, the inverse of `to_json`."""
        try:
            return cls.from_dict(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"preprocess: not JSON ({error})") from None

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back."""
        return json.dumps(asdict(self), indent=1)
