"""The façade: a model (plain or converted), pictures or tensors in, an `Explanation` out.

A plain model is converted first, in memory; a converted one is run as it is, and then neither onnx nor onnx_ir is
imported. Sessions are made anew in another process: what is pickled is the converted file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cam_onnx import blank, maps, picks, reading, smoothing, targets
from cam_onnx.contract import Preprocess
from cam_onnx.engine import Engine
from cam_onnx.engine.evidence import Evidence
from cam_onnx.engine.samples import given
from cam_onnx.errors import InputError
from cam_onnx.explanation import Explanation
from cam_onnx.kinds import Boxes, Kind, Logit, Similarity
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.methods.table import find
from cam_onnx.opened import Opened
from cam_onnx.options import is_session, read_labels, read_preprocess
from cam_onnx.reading import Converting
from cam_onnx.words import read_kind

if TYPE_CHECKING:
    from cam_onnx.graph.lost import Probe
    from cam_onnx.verification import Verification

__all__ = ["Explainer", "Explanation"]


class Explainer(Opened):
    """Explains one model. Safe to call from several threads; a context manager; picklable.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, onnx_ir.Model or onnxruntime.InferenceSession
        Plain or converted. A session of a converted model is what runs; where a further one is needed, it gets the same
        providers.
    layers : str, int or sequence of them, optional
        Target layers, see `cam_onnx.convert`. Of a converted model: must be the ones it was converted for.
    score : str, optional
        The explained value, see `cam_onnx.convert`.
    method : str, optional
        A registered method. None: what a converted file says, else "grad-cam", of boxes, letters and peaks "layer-cam".
    target : Kind or its word, optional
        The kind of score that `explain` explains unless it is told another; None: the task's, of a classifier a class's
        logit.
    preprocess : Preprocess, dict of its fields, name of a preset or path of a JSON file, optional
        None: what the file or a file beside it says, else a guess, which `notes` has; `contract.origin` says where it
        is from. Single fields lie over that.
    labels : sequence of str or path of a text file, optional
        Class names in class order; in a file, one a line. None: what the file or a file beside it says.
    backend : {"onnxruntime", "reference"}
        "reference" is pure NumPy, slow, and needs no runtime.
    providers : str, sequence of str or (str, dict), optional
        Of ONNX Runtime, plug-ins included; in a name's place a device of `onnxruntime.get_ep_devices()`. None takes
        what works.
    limits : Limits
        On the model, the pictures, and the time of a run.
    options : dict, optional
        Of the method, by name (`cam-onnx methods` lists them).
    fallback : bool
        Where a gradient is refused, take the first method that needs none; `notes` says so.

    Attributes
    ----------
    contract : Contract
        What the converted model says of itself.
    limits : Limits
    provider : str
        What really runs.
    notes : list of str
        What the user should know, a line each.

    Raises
    ------
    CamOnnxError
        See `cam_onnx.convert`; UnknownName for a method or backend; RunFailed without a runtime.
    """

    def __init__(
        self,
        model: Any,
        layers: str | int | Sequence[str | int] | None = None,
        score: str | None = None,
        method: str | None = None,
        target: Any = None,
        preprocess: Preprocess | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        labels: Iterable[str] | str | os.PathLike[str] | None = None,
        backend: str = "onnxruntime",
        providers: Any = None,
        limits: Limits = DEFAULTS,
        options: Mapping[str, Any] | None = None,
        fallback: bool = False,
    ) -> None:
        started = time.perf_counter()
        chosen = None if method is None else find(method)
        self._options = {} if options is None else dict(options)
        self._settings = {"preprocess": read_preprocess(preprocess), "labels": read_labels(labels)}
        if is_session(model) and providers is None:
            providers = [(name, options) for name, options in model.get_provider_options().items()]
        self._backend, self._providers, self.limits = backend, providers, limits
        kind, self._vectors = read_kind(target), {}
        if isinstance(kind, Similarity) and kind.picture is not None:  # what the model says of it comes first
            with type(self)(
                model, layers, score, method, Logit(), **self._settings, backend=backend, providers=providers,
                limits=limits, options=options, fallback=fallback,
            ) as plain:  # fmt: skip
                kind, self._vectors = plain._compared(kind), plain._vectors
        name = None if chosen is None else chosen.name
        self._asked = Converting(layers, score, name, kind, fallback, limits, self._options, **self._settings)
        read_ = reading.read(model, self._asked)
        self._timings = {"convert" if read_.plain else "read": time.perf_counter() - started}
        self.notes: list[str] = []
        taken = name is None or (read_.plain and read_.contract.method != name)
        self._take(read_, find(read_.contract.method if taken else name or ""), kind)

    def __repr__(self) -> str:
        layers = ", ".join(layer.name for layer in self.contract.layers)
        return f"<cam_onnx.Explainer {self.contract.method} at {layers}, {self.provider}>"

    def explain(
        self,
        images: Any = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        target: Any = -1,
        relu: bool | None = None,
        normalize: str | None = "minmax",
        options: Mapping[str, Any] | None = None,
        fusion: str = "mean",
        smooth: str | None = None,
        progress: Callable[[float, int], None] | None = None,
    ) -> Explanation:
        """Explain pictures, or tensors that the caller has prepared.

        Parameters
        ----------
        images : path, RGB u8 array (H, W, 3), or a list of either
            A .npy file in a picture's place holds the tensor of the picture's input, as the network takes it.
        inputs : dict of arrays or of .npy files' paths, instead of `images`
            The model's own inputs. With `images`: those beside the picture.
        target : int, str, Kind, sequence or nested sequence
            -1: the predicted class. A class index or, where labels are known, name; "top:K": the K classes of the
            highest scores; or a kind of score, as an object or a word (`cam_onnx.kinds`). A flat sequence has one per
            sample (length 1 or N); a nested one several of one sample: N·T explanations, sample by sample.
        relu : bool, optional
            Drop what speaks against the class; None takes the method's default.
        normalize : {"minmax", None}; None leaves raw values in `saliency_map`.
        options : dict, optional
            Of the method, by name; beside or over those of the Explainer.
        fusion : {"mean", "product", "max"} of the maps of several layers.
        smooth : {"aug", "eigen", "noise"}, optional
            "aug": the mean of the maps of the picture flipped or not, times 1, 0.9 and 1.1, turned back. "noise": of
            eight noisy pictures. "eigen": the first component of the weighted activations in the place of their sum.
        progress : callable, optional
            Called as ``progress(done, total)``, in explanations (and fractions of one), after every run of the network.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError, UnknownName
            A picture, tensor, target, class name or option that does not fit.
        ContractError
            Another kind of target than a converted file was made for.
        RunFailed
            The engine could not: memory, a node that failed, the time limit.
        """
        smoothing.check(smooth)
        same: dict[str, Any] = dict(
            inputs=inputs, relu=relu, normalize=normalize, options=options, fusion=fusion, smooth=smooth,
            progress=progress,
        )  # fmt: skip
        kind, chosen = targets.split(target, self.contract.labels)
        settled = self._method.settle({**self._options, **(options or {})})
        if (other := self._of(kind, options or {})) is not self:
            return other.explain(images, target=chosen, **same)
        clock = dict(self._timings)
        started = time.perf_counter()
        samples = given(images, inputs, self.contract, self._running().inputs, self.limits)
        clock["preprocess"] = time.perf_counter() - started

        started = time.perf_counter()
        count = self.contract.each or targets.classes(self._running().outputs, self.contract)
        wanted = targets.resolve(self._ranked(chosen, samples), samples.count, count, self.contract.labels)
        first: Evidence | None = None
        if self._chooses(kind, wanted):
            first = self._runs.evidence(samples, [[-1]] * samples.count, list(range(samples.count)), None)
            wanted = picks.picked(kind or self._kind, self.contract, first, wanted)
        owner = [i for i, group in enumerate(wanted) for _ in group]
        tell = None if self._method.calls or smooth in ("aug", "noise") else progress
        evidence = self._runs.evidence(samples, wanted, owner, tell)
        clock["run"] = time.perf_counter() - started

        started = time.perf_counter()
        how = maps.Drawing(
            self._method, settled, self._runs.parts(), relu, normalize, fusion,
            self._guided, progress, smooth, self._again,
        )  # fmt: skip
        evidence, drawn = maps.draw(how, evidence, samples, owner)
        clock["map"] = time.perf_counter() - started
        owner = owner[: len(evidence.target)]
        rectangles, entries = samples.boxes, evidence.target.tolist()
        at, rows = (evidence, list(range(len(owner)))) if first is None else (first, owner)
        boxes = picks.placed(at, self.contract, samples.feeds, [rectangles[i] for i in owner] if first is None
                             else rectangles, rows, entries)  # fmt: skip
        drawn["reasons"] = blank.with_places(
            drawn["reasons"], drawn["layers"], samples.feeds, samples.count, owner, evidence.target, self._probe
        )
        return Explanation(
            logits=evidence.logits,
            target=evidence.target,
            score=evidence.score,
            pictures=[samples.pictures[i] for i in owner],
            names=[samples.names[i] for i in owner],
            method=self._method.name,
            contract=self.contract,
            labels=self.contract.labels,
            provider=self.provider,
            timings=clock,
            notes=[
                *self.notes, *filter(None, [self._guess if samples.seen else None]), *samples.notes,
                *targets.saturated(self.contract, evidence.score), *drawn.pop("notes"),
            ],
            normalized=normalize is not None,
            boxes=boxes,
            inputs=[samples.inputs[i] for i in owner] if samples.inputs else [],
            **drawn,
        )  # fmt: skip

    def verify(
        self,
        images: Any = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        target: Any = -1,
        exact: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Compare every layer's gradient with differences of the score, and the outputs with the plain file's.

        Parameters
        ----------
        images, inputs, target, progress
            As for `explain`; without any images and inputs: a seeded input. Pictures get a little noise.
        exact : bool
            Let any difference in the original outputs fail, be it rounding.

        Returns
        -------
        Verification

        Raises
        ------
        InputError, UnknownName, RunFailed
            As `explain` does; also where the file's way back has other rules, so that there is no gradient in it.
        """
        from cam_onnx.verifying import Subject, prepare, verify

        if self.contract.table:
            raise InputError(
                f"the way back in this file is no derivative, its rules are {self.contract.table!r}: there is nothing "
                "to compare with differences. Verify a file of the same model for another method, such as gradient"
            )
        kind, chosen = targets.split(target, self.contract.labels)
        if (other := self._of(kind)) is not self:
            return other.verify(images, inputs=inputs, target=chosen, exact=exact, progress=progress)
        samples = prepare(images, inputs, self.contract, self._running().inputs, self.limits)
        count = targets.classes(self._running().outputs, self.contract)
        wanted = targets.resolve(chosen, len(samples), count, self.contract.labels)
        subject = Subject(self._read.data, self._read.folder, self.contract, partial(self._open, exact=True))
        return verify(subject, samples, wanted, exact, progress, self.notes)

    def _chooses(self, kind: Kind | None, wanted: list[list[int]]) -> bool:
        """Whether boxes or letters have to be chosen in what a first run says; the best box is, in the file."""
        kind = kind or self._kind
        best = not isinstance(kind, Boxes) or kind.count == 1
        best &= self.contract.target.get("kind") == "boxes" and all(set(group) == {-1} for group in wanted)
        return self.contract.each > 0 and not best

    def _probe(self) -> tuple[Probe, Engine]:
        from cam_onnx.graph.lost import probe

        found = probe(self._read.data, self._read.folder, self.contract)
        return found, self._open(found.model.SerializeToString())
