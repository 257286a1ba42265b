"""Figures for papers and reports: picture, heatmap and overlay side by side, a sample a row, with a colour bar.

The figure is made without pyplot, which keeps every figure in a global list: a service that draws would leak. So
matplotlib is imported here alone, when a figure is asked for. Names come from files: no mathematics in them.
"""

from __future__ import annotations

import io
import os
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx import files
from cam_onnx.errors import InputError, RunFailed, shown
from cam_onnx.render.colormap import DIVERGING, check, colorize
from cam_onnx.render.tensors import slices

__all__ = ["MOST", "SUFFIXES", "Row", "check_file", "figure", "require", "save"]

SUFFIXES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")
MOST = 30  # rows; beyond it the picture is too tall to be looked at, and for some formats to be written

PANEL = 3.4  # inches wide
DPI = 150


@dataclass(frozen=True, eq=False)
class Row:
    """One sample.

    Attributes
    ----------
    values : array (H, W), of a signal (L,), of a volume (D, H, W)
        The map within [0, 1] or [-1, 1]; of a volume slices are drawn.
    title, caption : str
        The first line of its title, and the second.
    picture, overlay : array (H, W, 3), of a volume (D, H, W, 3), or None
        RGB u8; None where there is nothing to show.
    reason : str or None
        Why the map is blank.
    largest : float
        What 1 stands for, for the scale of the bar.
    """

    values: NDArray[Any]
    title: str
    caption: str = ""
    picture: NDArray[np.uint8] | None = None
    overlay: NDArray[np.uint8] | None = None
    reason: str | None = None
    largest: float = 1.0


def figure(rows: Sequence[Row], colormap: str = "jet") -> Any:
    """Return a matplotlib Figure with a row of panels per sample.

    Parameters
    ----------
    rows : sequence of Row
        One to `MOST`.
    colormap : str
        The one that the overlays have. The bar runs from -1 to 1 where a map is signed, else from 0 to 1.

    Raises
    ------
    RunFailed
        matplotlib is not installed.
    InputError
        No rows, more than `MOST`, or a map that is not normalised or has more than three axes.
    UnknownName
        No such colour map.
    """
    require()
    name = check(colormap)
    if not 1 <= len(rows) <= MOST:
        raise InputError(f"a figure has 1 to {MOST} rows, got {len(rows)} samples: draw fewer at a time")
    from matplotlib.figure import Figure

    panels = [_panels(row, name) for row in rows]
    width = 0.75 + PANEL * max(2 if "signal" in each else len(each) for each in panels)
    titles = [_title(row, width) for row in rows]
    lines = [title.count("\n") + 1 for title in titles]
    heights = [_height(row) + 0.45 + 0.22 * count for row, count in zip(rows, lines, strict=True)]
    drawn = Figure(figsize=(width, sum(heights)), dpi=100, layout="constrained")
    parts = drawn.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, row, title, shown_panels in zip(parts, rows, titles, panels, strict=True):
        part.suptitle(title, fontsize=11, parse_math=False)
        axes = part.subplots(1, len(shown_panels), squeeze=False)[0]
        for axis, (heading, pixels) in zip(axes, shown_panels.items(), strict=True):
            axis.imshow(pixels)
            axis.set_axis_off()
            axis.set_title(heading, fontsize=9, color="0.35")
            if row.reason and axis is axes[len(axes) // 2 if row.picture is not None else 0]:
                _explain_blank(axis, row.reason)
        _bar(part, axes[-1], row, name)
    return drawn


def save(path: str | os.PathLike[str], drawn: Any) -> None:
    """Write a figure in the format of the path's suffix, atomically (InputError, WriteFailed)."""
    check_file(path)
    require()
    import matplotlib as mpl

    suffix = Path(path).suffix.lower()
    buffer = io.BytesIO()
    # no time of making and no random names: the same figure gives the same bytes
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    # a script that the font does not have comes out as boxes, and not as warnings
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "cam_onnx"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn.savefig(buffer, format=suffix.removeprefix("."), dpi=DPI, metadata=dates.get(suffix))
    files.write(path, buffer.getvalue())


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a figure cannot have that name."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{shown(path)}: no figure's suffix: use {', '.join(SUFFIXES)}")


def require() -> None:
    """Raise RunFailed where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise RunFailed("a figure needs matplotlib, which is not there: pip install 'cam-onnx[plot]'") from error


def _panels(row: Row, colormap: str) -> dict[str, NDArray[np.uint8]]:
    if row.values.ndim == 1 and row.overlay is not None:
        return {"signal": row.overlay}
    if row.values.ndim == 3:
        blend = colorize(row.values.reshape(-1, row.values.shape[-1]), colormap).reshape(*row.values.shape, 3)
        shown_over = blend if row.overlay is None else row.overlay
        return {f"slice {i} of {len(row.values)}": shown_over[i] for i in slices(row.values)}
    flat = row.values if row.values.ndim > 1 else np.repeat(row.values[None], max(1, len(row.values) // 8), axis=0)
    panels = {"picture": row.picture, "heatmap": colorize(flat, colormap), "overlay": row.overlay}
    return {heading: pixels for heading, pixels in panels.items() if pixels is not None}


def _height(row: Row) -> float:
    """Return a panel's height in inches: the picture's proportions, within reason."""
    if row.values.ndim == 1:
        height, width = (1, 8) if row.overlay is None else row.overlay.shape[:2]
        return float(np.clip(2 * PANEL * height / width, 0.8, 1.6 * PANEL))
    height, width = row.values.shape[-2:]
    return float(np.clip(PANEL * height / width, 1.2, 1.6 * PANEL))


def _title(row: Row, width: float) -> str:
    columns = int(width * 12)  # characters of 11 points
    lines = [shown(text, limit=200) for text in (row.title, row.caption) if text]
    return "\n".join(textwrap.fill(line, columns) for line in lines)


def _bar(part: Any, axis: Any, row: Row, colormap: str) -> None:
    """Put the scale at the right of `axis`, as high as its picture."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    signed = colormap == DIVERGING or bool(row.values.min() < 0)
    colours = colorize(np.linspace(-1.0 if signed else 0.0, 1, 255)[None], colormap)[0] / 255
    low, high = -row.largest if signed else 0.0, row.largest
    mappable = ScalarMappable(Normalize(low, high), ListedColormap(colours))
    bar = part.colorbar(mappable, cax=axis.inset_axes((1.03, 0, 0.045, 1)))
    ticks = [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _explain_blank(axis: Any, reason: str) -> None:
    axis.text(
        0.5, 0.5, textwrap.fill(shown(reason), 34), transform=axis.transAxes, ha="center", va="center", fontsize=8,
        color="black", parse_math=False, bbox={"facecolor": "white", "edgecolor": "none", "boxstyle": "round"},
    )  # fmt: skip
