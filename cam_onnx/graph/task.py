"""What a model does, and what is explained where nobody says it: a table of recognisers.

Each looks at the outputs, their shapes and what gives them, and knows one task or none. What two of them claim, or what
could be one thing as well as another, is asked about: the error lists what it could be, each with the target that says
so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cam_onnx import kinds
from cam_onnx.autodiff.model import Model
from cam_onnx.errors import ScoreNotFound
from cam_onnx.expression import quoted
from cam_onnx.graph import dense_tasks, detectors
from cam_onnx.graph.embeddings import are_places, is_embedding, is_normalised
from cam_onnx.graph.ends import Output, Task, outputs_of
from cam_onnx.graph.locate import find_score, picture_input
from cam_onnx.kinds import Kind
from cam_onnx.sources.purpose import Purpose

__all__ = ["RECOGNISERS", "Task", "find_task", "known_task"]

UNKNOWN = Purpose()


def find_task(model: Model, purpose: Purpose = UNKNOWN) -> Task:
    """Return what the model does; `purpose`: what files beside it say.

    Raises
    ------
    ScoreNotFound
        No recogniser knows it, or what it is has to be said first.
    """
    outputs = outputs_of(model)
    for level in RECOGNISERS:
        found = [_said(task, purpose) for recognise in level if (task := recognise(model, outputs)) is not None]
        sure = [task for task in found if not task.asks]
        if len(sure) == 1:
            return sure[0]
        if found:
            listed = "; ".join(f"{task.name} ({task.why}): {task.asks or 'name the target'}" for task in found)
            raise ScoreNotFound(f"{model.name}: what it does has to be said (target=, --target). It could be: {listed}")
    find_score(model, None)  # says what is missing
    raise AssertionError("a score that no recogniser knows")


def _said(task: Task, purpose: Purpose) -> Task:
    for other in task.could:
        if other.name == purpose.task:
            return replace(other, why=f"{task.why}; {purpose.where}")
    return task


def known_task(model: Model, kind: Kind | None) -> Task | None:
    """Return what the model does, where it is explained by this kind of target; None: something else, or unknown."""
    try:
        found = find_task(model)
    except ScoreNotFound:
        return None
    return found if type(found.kind) is type(kind) else None


# -- detection -------------------------------------------------------------------------------------------------------


def _detection(model: Model, outputs: list[Output]) -> Task | None:
    head = detectors.find(model)
    if head is None:
        return None
    if isinstance(head, str):
        return Task("detection", "", head, asks="value:EXPRESSION of one of its values, such as value:boxes[0,4,7]")
    kept = head.activation if head.activation == "sigmoid" else ""
    return Task("detection", head.scores.name or "", head.why, kinds.Boxes(), activation=kept)


# -- one vector a picture --------------------------------------------------------------------------------------------


_SIMILAR = (
    "similar:FILE, another picture or a vector in a .npy file; on the command line, of two pictures, similar alone: "
    "each is compared with the other"
)


def _embedding(model: Model, outputs: list[Output]) -> Task | None:
    """A vector of length 1, or one that is called an embedding and beside which there are no scores of classes."""
    vectors = [output for output in outputs if len(output.sizes) == 2]
    for output in vectors:
        if not output.end and is_normalised(output.value):
            why = f"{output.value.name}: a vector of length 1"
            return Task("image embedding", output.value.name or "", why,
                        asks=_SIMILAR)  # fmt: skip
    if vectors and all(is_embedding(output.value) and not output.end for output in vectors):
        name = vectors[0].value.name or ""
        asks = f"{_SIMILAR}; or class, if they are logits"
        logits = Task("classification", vectors[0].source.name or "", "")
        return Task("image embedding", name, f"an output called {name}", asks=asks, could=(logits,))
    return None


def _places(model: Model, outputs: list[Output]) -> Task | None:
    """Landmarks or boxes, by their names, beside which there are no scores of classes."""
    vectors = [output for output in outputs if len(output.sizes) == 2]
    named = [o for o in outputs if len(o.sizes) in (2, 3) and are_places(o.value) and not o.end]
    if not named or not all(output in named for output in vectors):
        return None
    name, sizes = named[0].value.name or "", named[0].sizes
    which = ",".join(["I", *"0" * (len(sizes) - 2)])
    return Task("landmarks or boxes", named[0].source.name or "", f"an output called {name}",
                asks=f"value:{quoted(name)}[:,{which}], one of its numbers; or class, if they are logits")  # fmt: skip


def _classifier(model: Model, outputs: list[Output]) -> Task | None:
    """The first output with one number a class."""
    try:
        score = find_score(model, None)
    except ScoreNotFound:
        return None
    activation = {"softmax": ", before its softmax", "sigmoid": ", before its sigmoid"}.get(score.activation, "")
    picture = picture_input(model)
    rank = 0 if picture is None or picture.shape is None else len(picture.shape)
    of = {3: " of signals", 5: " of volumes or video"}.get(rank, "")
    if score.classes == 1:
        name = "binary classification" if score.activation == "sigmoid" else "regression, or one logit"
        return Task(name + of, score.name, f"one number a sample{activation}")
    count = "one number a class" if score.classes is None else f"{score.classes} numbers a sample"
    several = "multi-label " if score.activation == "sigmoid" else ""
    vectors = [o for o in outputs if len(o.sizes) == 2 and o.sizes[1] != 1]
    more = f", of the first of {len(vectors)} heads" if len({o.source.name for o in vectors}) > 1 else ""
    asks = f"{_SIMILAR}; or class, if they are logits"
    vector = () if score.activation or "logit" in score.name else (Task("image embedding", score.name, "", asks=asks),)
    return Task(f"{several}classification{of}", score.name, f"{count}{activation}{more}", could=vector)


RECOGNISERS: tuple[tuple[Callable[[Model, list[Output]], Task | None], ...], ...] = (
    (dense_tasks.anomalies,),
    (dense_tasks.plane,),
    (_detection,),
    (_embedding, _places),
    (_classifier,),
    (dense_tasks.keypoints, dense_tasks.queries),
    (dense_tasks.sequence, dense_tasks.segmentation, dense_tasks.probability_map),
    (dense_tasks.picture_made, dense_tasks.grids),
)
"""By level: where one level knows the task, those behind it are not asked."""
