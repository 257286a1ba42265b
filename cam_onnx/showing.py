"""An explanation as something to look at: rows of a figure, a notebook's table, a sheet of pictures.

Names of classes and files are other people's text: in HTML all of it is escaped. A notebook keeps what it shows, so
pictures go into it small, and of many samples the first ones.
"""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cam_onnx.errors import InputError, shown
from cam_onnx.render import image, tensors
from cam_onnx.render.figure import Row
from cam_onnx.render.overlay import overlay
from cam_onnx.render.regions import THRESHOLD, draw_regions
from cam_onnx.saving import said

if TYPE_CHECKING:
    from cam_onnx.explanation import Explanation

__all__ = ["SHOWN", "figure_rows", "heading", "html_table", "laid_over", "png"]

SHOWN = 20
"""Samples that a notebook shows of an explanation; the others are counted."""

CELL = (240, 320)  # height and width in pixels of a small picture
ACROSS = 3  # pictures side by side on a sheet

Picture = NDArray[np.uint8]


def heading(one: Explanation) -> str:
    """Return the class that was explained, with its probability, or its score where there is none."""
    index = int(one.target[0])
    probabilities = one.probabilities
    text = said(one)
    if probabilities is None:
        return f"{text}, score {float(one.score[0]):.4g}"
    of = " of the area" if one.contract.target.get("kind") == "area" else ""
    return f"{text}, {_percent(float(probabilities[0, index]))}{of}"


def laid_over(one: Explanation, alpha: float, colormap: str, regions: bool | float = False) -> Picture:
    """Return the map of one sample over what was explained; see `Explanation.overlay`."""
    drawn, picture = one.drawn(0), one.pictures[0]
    if picture is None:
        values = one.inputs[0] if one.inputs else None
        if values is None:
            raise InputError("there is no picture to lay the map over: tensors were explained; use heatmap()")
        return tensors.laid_over(values, drawn, alpha, colormap)
    blend = overlay(picture, drawn, alpha, colormap, one.boxes[0] if one.boxes else None)
    if regions is False:
        return blend
    return draw_regions(blend, one.regions(THRESHOLD if regions is True else regions))


def figure_rows(explanation: Explanation, alpha: float, colormap: str, regions: bool | float = False) -> list[Row]:
    """Return what `cam_onnx.render.figure.figure` needs, a row a sample."""
    rows = []
    for one in (explanation[i] for i in range(len(explanation))):
        values = one.drawn(0)
        largest = 1.0 if one.normalized else float(np.abs(one.saliency_map[0]).max(initial=0)) or 1.0
        rows.append(
            Row(
                values=values,
                title=heading(one),
                caption=f"{one.method} at {', '.join(one.layers)} · {one.names[0]}",
                picture=one.pictures[0],
                overlay=_overlay(one, alpha, colormap, regions),
                reason=one.reasons[0],
                largest=largest,
            )
        )
    return rows


def _overlay(one: Explanation, alpha: float, colormap: str, regions: bool | float) -> Picture | None:
    """Return what a figure shows beside the heatmap, or of a volume instead of it: all of its slices."""
    values = one.inputs[0] if one.inputs else None
    if values is not None and values.ndim == 4:
        return tensors.volume(values, one.drawn(0), alpha, colormap)
    return one.overlay(alpha, colormap, regions) if one.has_overlay else None


def png(explanation: Explanation) -> bytes | None:
    """Return the overlay (or heatmap) of one sample, or a sheet of the first ones; None where a map is no picture."""
    pictures = [_picture(explanation[i]) for i in range(min(len(explanation), SHOWN))]
    drawn = [picture for picture in pictures if picture is not None]
    if not drawn or len(drawn) < len(pictures):
        return None
    return image.encode(drawn[0] if len(explanation) == 1 else _sheet(drawn))


def html_table(explanation: Explanation) -> str:
    """Return a table of the first samples: picture, class, how it was explained, and why a map is blank."""
    rows = [_html_row(explanation[i]) for i in range(min(len(explanation), SHOWN))]
    if len(explanation) > SHOWN:
        rows.append(f'<tr><td colspan="2">and {len(explanation) - SHOWN} more</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def _html_row(one: Explanation) -> str:
    picture = _picture(one)
    if picture is None:
        cell = _escaped(f"a map of shape {one.drawn(0).shape}: no picture")
    else:
        data = base64.b64encode(image.encode(_small(picture), ".jpg")).decode("ascii")
        cell = f'<img src="data:image/jpeg;base64,{data}" alt="{_escaped(heading(one))}">'
    index, best = int(one.classes[0]), one.top(3)[0]
    known = one.probabilities is not None
    others = [f"{name} {_percent(value)}" for i, name, value in best if i != index and known]
    lines = [
        f"<b>{_escaped(heading(one))}</b>",
        _escaped(f"class {index}, score {float(one.score[0]):.4g}" if one.logits.shape[1] > 1 else ""),
        _escaped("also: " + ", ".join(others)) if others else "",
        _escaped(f"{one.method} at {', '.join(one.layers)}"),
        _escaped(one.names[0]),
        f"<i>{_escaped(f'blank: {one.reasons[0]}')}</i>" if one.reasons[0] else "",
    ]
    texts = "<br>".join(line for line in lines if line)
    return f'<tr><td>{cell}</td><td style="text-align: left; vertical-align: top">{texts}</td></tr>'


def _percent(share: float) -> str:
    """Return a probability with one decimal; a small one does not read as none."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _escaped(text: str) -> str:
    return html.escape(shown(text), quote=True)


def _picture(one: Explanation) -> Picture | None:
    if not one.has_overlay and one.drawn(0).ndim != 2:
        return None
    drawn: Picture = one.overlay() if one.has_overlay else one.heatmap()
    return drawn


def _small(picture: Picture) -> Picture:
    """Return `picture` so small that it fits into a cell; a smaller one as it is."""
    height, width = picture.shape[:2]
    factor = min(CELL[0] / height, CELL[1] / width, 1)
    return image.resize(picture, (max(1, round(height * factor)), max(1, round(width * factor))), "area")


def _sheet(pictures: list[Picture]) -> Picture:
    small, gap = [_small(picture) for picture in pictures], 6
    height = max(picture.shape[0] for picture in small) + gap
    width = max(picture.shape[1] for picture in small) + gap
    down, across = -(-len(small) // ACROSS), min(len(small), ACROSS)
    sheet = np.full((down * height - gap, across * width - gap, 3), 255, np.uint8)
    for i, picture in enumerate(small):
        y, x = i // ACROSS * height, i % ACROSS * width
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet
