"""The façade: a model (plain or converted), pictures or tensors in, an `Explanation` out.

A plain model is converted first, in memory; a converted one is run as it is, and then neither onnx nor onnx_ir is
imported. Sessions are made anew in another process: what is pickled is the converted file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from cam_onnx import blank, engine, maps, wire
from cam_onnx.contract import KEY, Contract, Preprocess
from cam_onnx.engine import Engine, Tensor, batches
from cam_onnx.engine.samples import given
from cam_onnx.errors import RunFailed, shown
from cam_onnx.explanation import Explanation
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.methods.table import find
from cam_onnx.options import check_model, read_labels, read_model, read_preprocess
from cam_onnx.targets import classes, resolve

if TYPE_CHECKING:
    from cam_onnx.graph.head import Head
    from cam_onnx.graph.lost import Probe
    from cam_onnx.verification import Verification

__all__ = ["Explainer", "Explanation"]


class Explainer:
    """Explains one model. Safe to call from several threads; a context manager; picklable.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Plain or converted.
    layers : str or sequence of str, optional
        Target layers, see `cam_onnx.convert`. Of a converted model: must be the ones it was converted for.
    score : str, optional
        The explained value, see `cam_onnx.convert`.
    method : str, optional
        A registered method. None: what a converted file says, else "grad-cam".
    preprocess : Preprocess, name of a preset or path of a JSON file, optional
        None: what a converted file says, else a guess, which `notes` has.
    labels : sequence of str or path of a text file, optional
        Class names in class order; in a file, one a line. None: what a converted file says.
    backend : {"onnxruntime", "reference"}
        "reference" is pure NumPy, slow, and needs no runtime.
    providers : str, sequence of str or (str, dict), optional
        Of ONNX Runtime; None takes what works.
    limits : Limits
        On the model, the pictures, and the time of a run.

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
        layers: str | Sequence[str] | None = None,
        score: str | None = None,
        method: str | None = None,
        preprocess: Preprocess | str | os.PathLike[str] | None = None,
        labels: Iterable[str] | str | os.PathLike[str] | None = None,
        backend: str = "onnxruntime",
        providers: Any = None,
        limits: Limits = DEFAULTS,
    ) -> None:
        started = time.perf_counter()
        chosen = None if method is None else find(method)
        settings = {"preprocess": read_preprocess(preprocess), "labels": read_labels(labels)}
        self._backend, self._providers, self.limits = backend, providers, limits
        self._lock = threading.Lock()
        self._cut: tuple[Head, Engine, Engine] | None = None
        self._guess: str | None = None
        self.notes: list[str] = []
        data, path = read_model(model, limits)
        entry = wire.metadata(data, "the model" if path is None else path).get(KEY)
        if entry is None:
            check_model(data, path, limits)  # convert does so too, but importing it takes a second
            from cam_onnx.graph.convert import convert

            chosen_method = method or "grad-cam"
            converted = convert(path or data, layers=layers, score=score, method=chosen_method, limits=limits)
            data, contract, self._external = converted.to_bytes(), converted.contract, converted.external
            self.notes += converted.notes
        else:
            contract = Contract.from_json(entry, "the model" if path is None else shown(path))
            contract.agrees(layers, score)
            self._external = check_model(data, path, limits)
        self.contract = contract.with_(
            method=contract.method if chosen is None else chosen.name,
            **{name: given for name, given in settings.items() if given is not None},
        )
        self._method = find(self.contract.method)
        for layer in self.contract.layers:
            self._method.check(layer.head, layer.name)
        self._data = data
        self._folder = None if path is None else os.path.dirname(os.path.abspath(path))
        self._timings = {"convert" if entry is None else "read": time.perf_counter() - started}
        started = time.perf_counter()
        self._engine: Engine | None = self._open(data)
        self._timings["session"] = time.perf_counter() - started
        self._settle_preprocess()

    def _open(self, data: bytes, exact: bool = False) -> Engine:
        opened = engine.open(
            data,
            folder=self._folder,
            external=self._external,
            backend=self._backend,
            providers=self._providers,
            timeout=self.limits.timeout,
            exact=exact,
        )
        self.provider = opened.provider
        if opened.note and opened.note not in self.notes:
            self.notes.append(opened.note)
        return opened

    def _settle_preprocess(self) -> None:
        from cam_onnx.engine import preprocess

        if (tensor := self._image) is not None:
            settled, self._guess = preprocess.settle(self.contract.preprocess, tensor.shape, tensor.dtype)
            self.contract = self.contract.with_(preprocess=settled)

    @property
    def _image(self) -> Tensor | None:
        name = self.contract.roles.get("image")
        return next((t for t in self._running().inputs if t.name == name), None)

    def _running(self) -> Engine:
        if self._engine is None:
            raise RunFailed("this Explainer is closed: make a new one")
        return self._engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the session back; a closed Explainer cannot explain."""
        with self._lock:
            self._engine = self._cut = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_engine=None, _cut=None, _lock=None, _closed=self._engine is None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        closed = state.pop("_closed")
        self.__dict__.update(state)
        self._lock = threading.Lock()
        if not closed:
            self._engine = self._open(self._data)

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
        progress: Callable[[int, int], None] | None = None,
    ) -> Explanation:
        """Explain pictures, or tensors that the caller has prepared.

        Parameters
        ----------
        images : path, RGB u8 array (H, W, 3), or a list of either
        inputs : dict of arrays or of .npy files' paths, instead of `images`
            The model's own inputs.
        target : int, str, sequence or nested sequence
            -1: the predicted class. A class index, or a class name where labels are known. A flat sequence has one
            target per sample (length 1 or N); a nested one several of one sample: N·T explanations, sample by sample.
        relu : bool, optional
            Drop what speaks against the class; None takes the method's default.
        normalize : {"minmax", None}
            None leaves raw values in `saliency_map`.
        progress : callable, optional
            Called as ``progress(done, total)``, in explanations, after every run of the network.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError
            A picture, tensor or target that does not fit.
        UnknownName
            A class name that no label has.
        RunFailed
            The engine could not: memory, a node that failed, the time limit.
        """
        clock = dict(self._timings)
        started = time.perf_counter()
        samples = given(images, inputs, self.contract, self._running().inputs, self.limits)
        clock["preprocess"] = time.perf_counter() - started

        started = time.perf_counter()
        wanted = resolve(target, samples.count, classes(self._running().outputs, self.contract), self.contract.labels)
        owner = [i for i, group in enumerate(wanted) for _ in group]
        if len(owner) == samples.count:
            firsts = [group[0] for group in wanted]
            evidence = batches.run(self._running(), self.contract, samples.feeds, firsts, progress)
        else:
            cut, trunk, head = self._halves()
            evidence = batches.run_head(trunk, head, cut, samples.feeds, wanted, progress)
        clock["run"] = time.perf_counter() - started

        started = time.perf_counter()
        drawn = maps.draw(evidence, samples, owner, self._method, relu, normalize)
        clock["map"] = time.perf_counter() - started
        drawn["reasons"] = blank.with_places(
            drawn["reasons"], drawn["layers"], samples.feeds, samples.count, owner, evidence.target, self._probe
        )
        return Explanation(
            logits=evidence.logits,
            target=evidence.target,
            score=evidence.score,
            **drawn,
            pictures=[samples.pictures[i] for i in owner],
            names=[samples.names[i] for i in owner],
            method=self._method.name,
            contract=self.contract,
            labels=self.contract.labels,
            provider=self.provider,
            timings=clock,
            notes=[*self.notes, *([self._guess] if self._guess and inputs is None else []), *samples.notes],
            normalized=normalize is not None,
        )

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
            As `explain` does.
        """
        from cam_onnx.verifying import Subject, prepare, verify

        samples = prepare(images, inputs, self.contract, self._running().inputs, self.limits)
        wanted = resolve(target, len(samples), classes(self._running().outputs, self.contract), self.contract.labels)
        subject = Subject(self._data, self._folder, self.contract, partial(self._open, exact=True))
        return verify(subject, samples, wanted, exact, progress, self.notes)

    def _halves(self) -> tuple[Head, Engine, Engine]:
        with self._lock:
            if self._cut is None:
                from cam_onnx.graph.head import cut_head

                cut = cut_head(self._data, self._folder, self.contract)
                self._cut = cut, self._open(cut.trunk.SerializeToString()), self._open(cut.head.SerializeToString())
            return self._cut

    def _probe(self) -> tuple[Probe, Engine]:
        from cam_onnx.graph.lost import probe

        found = probe(self._data, self._folder, self.contract)
        return found, self._open(found.model.SerializeToString())
