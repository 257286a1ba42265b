"""Which axis of a target layer is what, and where in a list of tokens the positions of the picture stand."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Axes", "Tokens"]


@dataclass(frozen=True)
class Tokens:
    """Positions as a list: the grid's stand in it row by row, from `first` on; class and register tokens do not count.

    `grid` has the size of each axis, None where it depends on the picture.
    """

    first: int = 0
    grid: tuple[int | None, ...] = (None, None)


@dataclass(frozen=True)
class Axes:
    """Which axes of a value are batch, channel and spatial. Spatial may be empty (a layer without extent).

    With `tokens` there is one spatial axis, which holds a list of them.
    """

    batch: int = 0
    channel: int = 1
    spatial: tuple[int, ...] = (2, 3)
    tokens: Tokens | None = None

    @property
    def extent(self) -> int:
        """How many axes a map of the layer has."""
        return len(self.spatial if self.tokens is None else self.tokens.grid)

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Axes:
        """Read an entry of a contract.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is none.
        """
        spatial, given = tuple(int(axis) for axis in entry["spatial"]), entry.get("tokens")
        tokens = None if given is None else Tokens(int(given["first"]), tuple(map(_size, given["grid"])))
        if tokens is not None and (len(spatial) != 1 or tokens.first < 0 or not tokens.grid):
            raise ValueError(f"{tokens} on {len(spatial)} axes")
        return cls(int(entry["batch"]), int(entry["channel"]), spatial, tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of a contract."""
        entry = asdict(self)
        if self.tokens is None:
            del entry["tokens"]
        return entry

    def order(self) -> tuple[int, ...]:
        """Return the permutation that brings the value to (N, K, *S)."""
        return (self.batch, self.channel, *self.spatial)


def _size(value: Any) -> int | None:
    size = None if value is None else int(value)
    if size is not None and size < 1:
        raise ValueError(f"a grid of {size} positions")
    return size
