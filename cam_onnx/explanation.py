"""What an explanation is: arrays as the network and the method gave them, and pictures drawn from them on request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx import ranking
from cam_onnx.contract import Contract

__all__ = ["Explanation", "LayerExplanation"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """One target layer's part.

    Attributes
    ----------
    activations, gradients : array (N, K, *S); no gradients (None) in a file for a method without
    weights : array that broadcasts to (N, K, *S), or None where the method makes the map itself
    saliency : array (N, *S)
        float32, signed, before ReLU, at the layer's resolution.
    """

    activations: Array
    gradients: Array | None
    weights: Array | None
    saliency: Array


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of N samples; ``e[i]`` is one of them.

    Attributes
    ----------
    logits : array (N, C)
        The score's source, before a final softmax or sigmoid.
    target : int64 array (N,)
        The class that was explained; -1 is resolved.
    score : array (N,)
        Its logit.
    layers : dict of LayerExplanation
        By the layers' names. `activations`, `gradients`, `weights` and `saliency` are the first one's.
    saliency_map : array (N, H, W), or a list of (H, W) where the pictures' sizes differ
        After ReLU, upsampling and min-max, at picture (or network input) size; of several layers, the mean.
    reasons : list of (str or None)
        Why a map is blank.
    pictures : list of (array (H, W, 3) or None)
        RGB u8.
    inputs : list of (array (C, *S) or None)
        What was explained where it is no picture but can be shown: signals, volumes, planes of one channel.
    names : list of str
        Of the samples, for file names.
    method, provider : str
    contract : Contract
        What the converted model says of itself.
    labels : tuple of str or None
        Class names, in class order.
    timings : dict
        Step to seconds.
    notes : list of str
        What the user should know, a line each: a guessed preprocessing, what was changed in a picture.
    normalized : bool
        Whether `saliency_map` is within [0, 1] (or [-1, 1]); False: raw values.
    interrupted : bool
        Ctrl-C came: later samples are missing, and the last one's map is of fewer runs.
    boxes : list of ((x0, y0, x1, y1) or None)
        What was explained of a detector, in pixels of the picture.
    """

    logits: Array
    target: Array
    score: Array
    layers: dict[str, LayerExplanation]
    saliency_map: Array | list[Array]
    reasons: list[str | None]
    pictures: list[Array | None]
    names: list[str]
    method: str
    contract: Contract
    labels: tuple[str, ...] | None = None
    provider: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    normalized: bool = True
    interrupted: bool = False
    boxes: list[Any] = field(default_factory=list)
    inputs: list[Array | None] = field(default_factory=list)

    @property
    def layer(self) -> str:
        """The first layer's name."""
        return next(iter(self.layers))

    @property
    def activations(self) -> Array:
        """Of the first layer, (N, K, *S)."""
        return self.layers[self.layer].activations

    @property
    def gradients(self) -> Array | None:
        """The score's derivative with respect to them, (N, K, *S); None where the method needs none."""
        return self.layers[self.layer].gradients

    @property
    def weights(self) -> Array | None:
        """What the method weights the activations by; None where it makes the map itself."""
        return self.layers[self.layer].weights

    @property
    def saliency(self) -> Array:
        """The first layer's map, (N, *S): signed, before ReLU, at its own resolution."""
        return self.layers[self.layer].saliency

    @property
    def has_overlay(self) -> bool:
        """Whether there is something to lay every map over: pictures, or what `inputs` has."""
        pairs = zip(self.pictures, self.inputs or self.pictures, strict=True)
        return all(picture is not None or values is not None for picture, values in pairs)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: int) -> Explanation:
        """Return sample `index` as an explanation of its own (arrays keep a batch axis of 1)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        at = slice(index % len(self), index % len(self) + 1)
        parts = {
            name: LayerExplanation(
                part.activations[at],
                None if part.gradients is None else part.gradients[at],
                None if part.weights is None else part.weights[at],
                part.saliency[at],
            )
            for name, part in self.layers.items()
        }
        return replace(
            self,
            logits=self.logits[at],
            target=self.target[at],
            score=self.score[at],
            layers=parts,
            saliency_map=self.saliency_map[at],
            reasons=self.reasons[at],
            pictures=self.pictures[at],
            names=self.names[at],
            boxes=self.boxes[at],
            inputs=self.inputs[at],
        )

    def label(self, index: int) -> str:
        """Return the name of class `index`, or the number where no name is known."""
        known = self.labels is not None and index < len(self.labels)
        return self.labels[index] if known and self.labels is not None else str(index)

    @property
    def probabilities(self) -> Array | None:
        """Per class, (N, C'): sigmoid where the model ends in one, else softmax; None for a single output or peaks."""
        return ranking.of_entries(self.logits, self.contract)

    @property
    def classes(self) -> Array:
        """The class that was explained of each sample, (N,): of a box or a letter the one in its row."""
        return self.target % (self.contract.each or np.iinfo(np.int64).max)

    def top(self, count: int = 5) -> list[list[tuple[int, str, float]]]:
        """Return per sample the best classes as (index, name, probability), best first.

        Where there is a single output, its value stands in for the probability.
        """
        values = ranking.of_classes(self.logits, self.contract)
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        return [
            [(int(c), self.label(int(c)), float(v)) for c, v in zip(row, values[i][row], strict=True)]
            for i, row in enumerate(order)
        ]

    def heatmap(self, colormap: str | None = None) -> Any:
        """Return the colour-mapped saliency map, RGB u8 (H, W, 3): an array for one sample, else a list."""
        from cam_onnx.render.colormap import colorize

        return self._each(lambda i: colorize(self.drawn(i), self.colours(colormap)))

    def overlay(self, alpha: float = 0.5, colormap: str | None = None, regions: bool | float = False) -> Any:
        """Return the heatmap blended onto the picture, RGB u8 (H, W, 3): an array for one sample, else a list.

        Where the map is 0 the picture keeps its pixels; where it is 1 the heatmap has the share `alpha`. A detector's
        box is drawn; with `regions`, True or their threshold, the warm areas are outlined. A signal is a curve before
        its map, a volume some of its slices, a plane of one channel a grey picture.

        Raises
        ------
        InputError
            Other tensors were explained, so that there is no picture; `alpha` or the threshold is out of range.
        """
        from cam_onnx.showing import laid_over

        return self._each(lambda i: laid_over(self[i], alpha, self.colours(colormap), regions))

    def regions(self, threshold: float = 0.5) -> Any:
        """Return the connected areas where the map is at least `threshold` of its scale, the largest share first.

        Returns
        -------
        list of cam_onnx.render.regions.Region
            Boxes, contours, areas, shares of the map, peaks; for several samples a list of such lists.

        Raises
        ------
        InputError
            The threshold is not above 0 and at most 1.
        """
        from cam_onnx.render.regions import regions

        return self._each(lambda i: regions(self.drawn(i), threshold))

    def figure(self, *, alpha: float = 0.5, colormap: str | None = None, regions: bool | float = False) -> Any:
        """Return a matplotlib Figure: picture, heatmap and overlay side by side, with a colour bar; a row a sample.

        It belongs to nobody but the caller (no pyplot): ``e.figure().savefig("cat.pdf")``.

        Raises
        ------
        RunFailed
            matplotlib is not installed: ``pip install 'cam-onnx[plot]'``.
        InputError
            Too many samples for one figure, or as for `overlay`.
        """
        from cam_onnx.render.figure import figure, require
        from cam_onnx.showing import figure_rows

        require()
        return figure(figure_rows(self, alpha, self.colours(colormap), regions), self.colours(colormap))

    def _repr_png_(self) -> bytes | None:
        from cam_onnx.showing import png

        return png(self)

    def _repr_html_(self) -> str:
        from cam_onnx.showing import html_table

        return html_table(self)

    def save(
        self, folder: str | os.PathLike[str], *, alpha: float = 0.5, colormap: str | None = None,
        regions: bool | float = False,
    ) -> list[str]:  # fmt: skip
        """Write four files per sample into `folder`, which is made if its parent exists.

        ``<name>.overlay.png`` (if there is something to lay the map over), ``<name>.heatmap.png`` (of two axes),
        ``<name>.saliency.npy`` (the first layer's signed saliency) and ``<name>.explanation.json``. With `regions`,
        True or their threshold, overlay and JSON have the warm areas.

        Returns
        -------
        list of str
            The paths.

        Raises
        ------
        WriteFailed
            Files that this call had made are taken back.
        """
        from cam_onnx.saving import save

        return save(self, folder, alpha, self.colours(colormap), regions)

    def to_dict(self, regions: bool | float = False) -> dict[str, Any]:
        """Return what can be said in JSON of one sample (the first); `regions` as for `overlay`."""
        from cam_onnx.saving import described

        return described(self, regions)

    def _each(self, draw: Any) -> Any:
        drawn = [draw(i) for i in range(len(self))]
        return drawn[0] if len(self) == 1 else drawn

    def colours(self, colormap: str | None = None) -> str:
        """Return the colour map to draw with: None takes jet, and for signed maps one whose middle is white."""
        from cam_onnx.render.colormap import DIVERGING

        return colormap or (DIVERGING if any(np.min(m, initial=0) < 0 for m in self.saliency_map) else "jet")

    def drawn(self, i: int) -> Array:
        """Return the map within [-1, 1]: raw values (normalize=None) are divided by the largest."""
        values = np.asarray(self.saliency_map[i])
        largest = float(np.abs(values).max(initial=0))
        return values if self.normalized or largest == 0 else values / largest
