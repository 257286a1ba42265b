"""The contract: what a converted file says about itself, in ``metadata_props["cam_onnx"]``.

It is the only link between the graph side, which writes it, and the run-time side, which reads it; neither
imports the other. Readers go through `Contract.roles` and `Layer`, never through literal output names: where
a model already had a name, ours got a suffix. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cam_onnx.axes import Axes, Tokens
from cam_onnx.errors import ContractError, InputError
from cam_onnx.preprocess import Preprocess

__all__ = ["KEY", "SCHEMA", "Axes", "Contract", "Layer", "Preprocess", "Tokens"]

KEY = "cam_onnx"
SCHEMA = 2  # what is written is 1 where no layer has tokens, which readers of 1 would take for a signal
LONGEST = 16 << 20  # characters of a contract; of those that people use the labels are most


@dataclass(frozen=True)
class Layer:
    """One exposed target layer.

    `name` is the value's name in the original graph, `activations` and `gradients` are output names ("": no gradient),
    and `head` says what lies behind: "average-pooling + linear", "max-pooling + linear", or "other" (no CAM there).
    """

    name: str
    activations: str
    gradients: str
    axes: Axes = field(default_factory=Axes)
    head: str = "other"


@dataclass(frozen=True)
class Contract:
    """The whole contract.

    Parameters
    ----------
    roles : dict
        Role to name: "image" (the input a picture goes to), "target" (our input), and the outputs "logits",
        "score", "class"; "boxes", the corners of each row of the logits. Activations and gradients stand in `layers`.
    layers : tuple of Layer
        In the order in which they were asked for.
    score : str
        The explained value's name; the logits output is this value.
    target_input : {"optional", "required"}
        Whether `target` has the default -1.
    activation : {"softmax", "sigmoid", ""}
        What the model itself does to the score at its end, if that was found.
    method : str
        What to compute of activations and gradients, if nothing else is asked for.
    preprocess : Preprocess or None
        How a picture becomes the input; None: nobody said.
    labels : tuple of str or None
        Class names, in class order.
    batch_axis, single : int, bool
        Of the score value; whether it has no such axis but is one sample's (C,).
    cuts_fusion : tuple of str
        Values inside a likely fusion of the runtime that are now read from outside it.
    raised : dict
        What had to be raised before conversion, e.g. ``{"opset": [9, 13], "ir_version": [3, 8]}``; else empty.
    tool, source_sha256 : str
        Name and version of the writer; the checksum of the original file.
    original : dict
        How many entries of each part of the graph are the original's, and a digest; empty in files of older versions.
    target : dict
        What kind of score is explained, with its parameters.
    table : str
        The rules of the way back; "" for the derivative.
    lists : dict
        What a method reads of the inside of the network, by need: names of outputs.
    each, task : int, str
        Of how many classes each row of the logits (a box, a letter) is, 0: there are no rows; what the model does.
    nothing : int
        Of the classes of a row the one that stands for nothing and is not explained; -1: there is none.
    unbatched : {"CHW", "HWC", ""}
        The picture's input has no batch axis; preprocessing speaks of a batch of one.
    input_axes : Axes or None
        Of a signal's or volume's input; None: channels first, or preprocessing says it.
    without_channels : bool
        The input is (N, L) or (N, H, W), a wave or a spectrogram; all else speaks of (N, 1, L) or (N, 1, H, W).
    origin : dict
        Where "preprocess" and "labels" are from, for people; "guess": what is guessed of them.
    """

    roles: dict[str, str]
    layers: tuple[Layer, ...]
    score: str
    target_input: str = "optional"
    activation: str = ""
    method: str = "grad-cam"
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    batch_axis: int = 0
    single: bool = False
    cuts_fusion: tuple[str, ...] = ()
    raised: dict[str, list[int]] = field(default_factory=dict)
    tool: str = ""
    source_sha256: str = ""
    original: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=lambda: {"kind": "class"})
    table: str = ""
    lists: dict[str, list[str]] = field(default_factory=dict)
    each: int = 0
    task: str = ""
    origin: dict[str, str] = field(default_factory=dict)
    unbatched: str = ""
    input_axes: Axes | None = None
    without_channels: bool = False
    nothing: int = -1

    @property
    def absent(self) -> int | None:
        """Which axis the picture's input lacks, of those that all else speaks of."""
        return 0 if self.unbatched else 1 if self.without_channels else None

    def to_json(self) -> str:
        """Return the metadata entry: compact JSON with sorted keys, so that equal contracts are equal bytes."""
        data = asdict(self)
        for entry, layer in zip(data["layers"], self.layers, strict=True):
            entry["axes"] = layer.axes.to_dict()
        if data["preprocess"] and data["preprocess"]["multiple"] == 1:  # readers of before do not know it
            del data["preprocess"]["multiple"]
        data["input_axes"] = None if self.input_axes is None else self.input_axes.to_dict()
        for name in ("lists", "origin", "each", "task", "unbatched", "input_axes", "without_channels"):
            if not data[name]:
                del data[name]
        if self.nothing < 0:
            del data["nothing"]
        schema = SCHEMA if any(layer.axes.tokens for layer in self.layers) else 1
        return json.dumps({"schema": schema, **data}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: str = "the model") -> Contract:
        """Read a metadata entry.

        Raises
        ------
        ContractError
            Not JSON, a newer schema, or fields missing or of the wrong kind.
        """
        if len(text) > LONGEST:
            raise ContractError(
                f"{where}: metadata entry {KEY!r} has {len(text):,} characters, a contract at most {LONGEST:,}; "
                "convert the original model again"
            )
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if not isinstance(schema, int) or schema > SCHEMA:
                raise ContractError(
                    f"{where}: its contract has schema {schema!r}, this cam_onnx reads up to {SCHEMA}: upgrade cam-onnx"
                )
            layers = tuple(_layer(entry) for entry in data.pop("layers"))
            preprocess = data.pop("preprocess", None)
            labels, axes = data.pop("labels", None), data.pop("input_axes", None)
            known = {f.name for f in fields(cls)}
            contract = cls(
                layers=layers,
                preprocess=None if preprocess is None else Preprocess.from_dict(preprocess),
                labels=None if labels is None else tuple(str(label) for label in labels),
                cuts_fusion=tuple(data.pop("cuts_fusion", ())),
                input_axes=None if axes is None else Axes.of(axes),
                **{key: value for key, value in data.items() if key in known},
            )
            if not contract.layers or not all(isinstance(n, str) for n in contract.roles.values()):
                raise ValueError("no layers or bad roles")
            for role in ("target", "logits", "score", "class"):
                contract.roles[role]
            typed = dict(original=dict, target=dict, batch_axis=int, each=int, nothing=int)
            for name in ("score", "method", "activation", "table", "task", *typed):
                if not isinstance(getattr(contract, name), typed.get(name, str)):
                    raise TypeError(f"{name} is {getattr(contract, name)!r}")
            if not all(isinstance(name, str) for names in contract.lists.values() for name in names):
                raise TypeError(f"lists are {contract.lists!r}")
            if not all(isinstance(text, str) for text in contract.origin.values()):
                raise TypeError(f"origin is {contract.origin!r}")
            return contract
        except ContractError:
            raise
        except (InputError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ContractError(
                f"{where}: metadata entry {KEY!r} is not a cam_onnx contract ({type(error).__name__}: {error}); "
                "convert the original model again, or remove the entry"
            ) from None

    def names(self) -> list[str]:
        """Return every output name that the contract promises."""
        names = [name for layer in self.layers for name in (layer.activations, layer.gradients)]
        listed = [name for each in self.lists.values() for name in each]
        return [self.roles[r] for r in ("logits", "score", "class")] + list(filter(None, names)) + listed

    def layer(self, name: str) -> Layer:
        """Return the layer called `name` (KeyError if there is none)."""
        return {layer.name: layer for layer in self.layers}[name]

    def agrees(self, layers: str | int | Sequence[str | int] | None, score: str | None) -> None:
        """Refuse (ContractError) layers or a score that the file was not converted for."""
        own = [layer.name for layer in self.layers]
        asked = own if layers is None else [layers] if isinstance(layers, (str, int)) else list(layers)
        for what, has, wants in (("layers", own, asked), ("score", self.score, score or self.score)):
            if has != wants:
                raise ContractError(
                    f"converted for {what} {has}, not {wants}: give the original, or convert --reconvert it"
                )

    def with_(self, **changes: Any) -> Contract:
        """Return a copy with some fields replaced."""
        return replace(self, **changes)


def _layer(entry: dict[str, Any]) -> Layer:
    return Layer(
        name=str(entry["name"]),
        activations=str(entry["activations"]),
        gradients=str(entry["gradients"]),
        axes=Axes.of(entry["axes"]),
        head=str(entry.get("head", "other")),
    )
