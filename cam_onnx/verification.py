"""What was found when a converted model was verified: a verdict a gradient, and what became of the original outputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cam_onnx.beside import CLAUSES
from cam_onnx.differences import AGREES

__all__ = ["GradientCheck", "Verification"]


@dataclass(frozen=True)
class GradientCheck:
    """One layer's gradient for one input and target.

    Attributes
    ----------
    layer, sample : str
    target : int
        The class whose score was explained; -1 is resolved.
    verdict : {"agrees", "wrong", "inconclusive"}
    error : float
        The largest relative error along the gradient; NaN where there is none.
    runs : int
        Forward runs of the part behind the layer.
    text : str
        Why it does not agree, or what is odd; else empty.
    """

    layer: str
    sample: str
    target: int
    verdict: str
    error: float
    runs: int
    text: str = ""


@dataclass(frozen=True)
class Verification:
    """What `Explainer.verify` found; `print` shows it.

    Attributes
    ----------
    gradients : tuple of GradientCheck
        Of every layer, for every input and target.
    outputs : {"bit-identical", "float rounding", "one quantisation step", "worse", "not compared"}
        How the original outputs of the converted file compare with those of the plain file: the weakest of all inputs.
    output, difference : str, float
        The one that differs most, and by how much, in parts of its largest entry.
    exact : bool
        Whether anything but "bit-identical" fails.
    provider : str
        What ran both files.
    notes : tuple of str
        What the user should know, a line each.
    """

    gradients: tuple[GradientCheck, ...]
    outputs: str
    output: str = ""
    difference: float = 0.0
    exact: bool = False
    provider: str = ""
    notes: tuple[str, ...] = ()

    @property
    def outputs_hold(self) -> bool:
        """Whether the original outputs are what was promised."""
        return self.outputs in (CLAUSES[:1] if self.exact else CLAUSES[:3])

    @property
    def ok(self) -> bool:
        """Whether all gradients agree and the outputs are what was promised."""
        return self.outputs_hold and all(check.verdict == AGREES for check in self.gradients)

    def to_dict(self) -> dict[str, Any]:
        """Return what can be said in JSON."""
        return {**asdict(self), "ok": self.ok}

    def rows(self) -> list[tuple[str, str, int, str, str, int]]:
        """Return layer, input, target, verdict, error and runs of every check, as texts to be shown."""
        return [
            (c.layer, c.sample, c.target, c.verdict, "-" if np.isnan(c.error) else f"{c.error:.3%}", c.runs)
            for c in self.gradients
        ]

    def sentences(self) -> list[str]:
        """Return what is said below the rows: every text, the clause, the result."""
        texts = [f"{c.layer}, {c.sample}: {c.verdict}: {c.text}" for c in self.gradients if c.text]
        by = f": {self.output!r} by {self.difference:.1e} of its largest entry" if self.output else ""
        held = "" if self.outputs_hold else "; --exact asks for the same bits" if self.outputs in CLAUSES[:3] else ""
        clause = f"original outputs: {self.outputs}{by}{held}"
        agree = sum(check.verdict == AGREES for check in self.gradients)
        counted = f"{agree} of {len(self.gradients)} gradients agree with differences of the score"
        failed = "" if self.outputs_hold else ", the original outputs do not hold"
        return [*texts, clause, f"{'verified' if self.ok else 'NOT VERIFIED'}: {counted}{failed}"]

    def __str__(self) -> str:
        listed = [f"{layer}, {sample}, target {target}: {verdict}, error {error}, {runs} runs"
                  for layer, sample, target, verdict, error, runs in self.rows()]  # fmt: skip
        return "\n".join([*listed, *self.sentences()])
