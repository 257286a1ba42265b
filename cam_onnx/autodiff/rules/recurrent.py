"""RNN, GRU and LSTM as a Scan of their equations: the derivative is the Scan's.

What does not depend on the state, the product with the input, is one product outside. The gates are computed again,
once: the operator keeps none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.nested import attach, closed
from cam_onnx.autodiff.rules.recurrent_activations import Activation, activations_of
from cam_onnx.autodiff.table import deflowering
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


@dataclass
class Step:
    """What a cell computes with: one direction at one time.

    Attributes
    ----------
    op : Emitter
        Of the Scan's body.
    x : Val
        (N, gates * H): the input's part, bias included.
    states : list of Val
        (N, H), hidden first.
    recurrent, recurrent_bias, peepholes : Val or None
        (H, gates * H), (gates * H,), (3 * H,).
    hidden : Val
        H, as one number in a list.
    functions : list
    clip : float or None
    """

    op: Emitter
    x: Val
    states: list[Val]
    recurrent: Val
    recurrent_bias: Val | None
    peepholes: Val | None
    hidden: Val
    functions: list[Activation]
    clip: float | None

    def part(self, v: Val, first: int, last: int, axis: int = -1) -> Val:
        """Return the gates `first` to `last` (exclusive) of something."""
        op = self.op
        return op.Slice(v, op.Mul(self.hidden, [first]), op.Mul(self.hidden, [last]), [axis])

    def gate(self, index: int, x: Val) -> Val:
        """Apply an activation; what enters is clipped."""
        if self.clip is not None and self.clip > 0:
            x = self.op.Clip(x, -self.clip, self.clip)
        return self.functions[index](self.op, x)


def rnn_cell(step: Step) -> list[Val]:
    total = step.x + step.op.MatMul(step.states[0], step.recurrent)
    return [step.gate(0, total if step.recurrent_bias is None else total + step.recurrent_bias)]


def gru_cell(step: Step, linear_before_reset: int) -> list[Val]:
    op, h = step.op, step.states[0]
    both = step.part(step.x, 0, 2) + op.MatMul(h, step.part(step.recurrent, 0, 2))
    if step.recurrent_bias is not None:
        both = both + step.part(step.recurrent_bias, 0, 2)
    gates = step.gate(0, both)
    update, reset = step.part(gates, 0, 1), step.part(gates, 1, 2)
    weight = step.part(step.recurrent, 2, 3)
    before = op.MatMul(h if linear_before_reset else reset * h, weight)
    if step.recurrent_bias is not None:
        before = before + step.part(step.recurrent_bias, 2, 3)
    new = step.gate(1, step.part(step.x, 2, 3) + (reset * before if linear_before_reset else before))
    return [(1.0 - update) * new + update * h]


def lstm_cell(step: Step, input_forget: int) -> list[Val]:
    op = step.op
    h, c = step.states
    total = step.x + op.MatMul(h, step.recurrent)
    if step.recurrent_bias is not None:
        total = total + step.recurrent_bias
    i, o, f, new = (step.part(total, k, k + 1) for k in range(4))
    if step.peepholes is not None:
        i = i + step.part(step.peepholes, 0, 1) * c
        f = f + step.part(step.peepholes, 2, 3) * c
    i = step.gate(0, i)
    f = 1.0 - i if input_forget else step.gate(0, f)
    cell = f * c + i * step.gate(1, new)
    if step.peepholes is not None:
        o = o + step.part(step.peepholes, 1, 2) * cell
    return [step.gate(0, o) * step.functions[2](op, cell), cell]


def recurrence(
    op: Emitter,
    cell: Callable[[Step], list[Val]],
    inputs: Sequence[Val | None],
    states: Sequence[Val | None],
    names: Sequence[Any],
    given: dict[str, Any],
    peepholes: Val | None = None,
) -> tuple[Val, ...]:
    """Lay a cell over time and directions.

    `inputs`: X, W, R, B, sequence_lens. Returns Y and the last of each state.
    """
    x, w, r, b, lengths = inputs
    assert x is not None
    assert w is not None
    assert r is not None
    direction, layout = given["direction"], given["layout"]
    count = 2 if direction == "bidirectional" else 1
    if layout:
        x = op.Transpose(x, perm=[1, 0, 2])
        states = [None if s is None else op.Transpose(s, perm=[1, 0, 2]) for s in states]
    hidden = op.constant([given["hidden_size"]]) if given["hidden_size"] else op.shape(r, 2, 3)
    functions = activations_of(names, given["activation_alpha"], given["activation_beta"])
    each = len(functions) // count
    sequences, lasts = [], []
    for d in range(count):
        weights = [None if v is None else op.Squeeze(op.Slice(v, [d], [d + 1], [0]), [0]) for v in (w, r, b, peepholes)]
        own = [None if s is None else op.Squeeze(op.Slice(s, [d], [d + 1], [0]), [0]) for s in states]
        backwards = direction == "reverse" or d == 1
        y, *last = one_direction(
            op, cell, x, weights, own, hidden, lengths, functions[d * each : (d + 1) * each], given["clip"], backwards
        )
        sequences.append(op.Unsqueeze(y, [1]))
        lasts.append([op.Unsqueeze(v, [0]) for v in last])
    whole = op.Concat(*sequences, axis=1) if count > 1 else sequences[0]
    ends = [op.Concat(*vs, axis=0) if count > 1 else vs[0] for vs in zip(*lasts, strict=True)]
    if layout:
        whole = op.Transpose(whole, perm=[2, 0, 1, 3])
        ends = [op.Transpose(v, perm=[1, 0, 2]) for v in ends]
    return (whole, *ends)


def one_direction(
    op: Emitter,
    cell: Callable[[Step], list[Val]],
    x: Val,
    weights: Sequence[Val | None],
    states: Sequence[Val | None],
    hidden: Val,
    lengths: Val | None,
    functions: list[Activation],
    clip: float | None,
    backwards: bool,
) -> tuple[Val, ...]:
    w, r, b, peepholes = weights
    assert w is not None
    assert r is not None
    shape = op.Shape(x)
    product = op.MatMul(x, op.Transpose(w, perm=[1, 0]))
    recurrent_bias = None
    if b is not None:
        half = op.Shape(b) / [2]
        product = product + op.Slice(b, [0], half, [0])
        recurrent_bias = op.Slice(b, half, op.Shape(b), [0])
    batch = op.Slice(shape, [1], [2], [0])
    nothing = op.Expand(op.constant(0.0, x.dtype), op.Concat(batch, hidden, axis=0))
    initial = [nothing if s is None else s for s in states]
    recurrent = op.Transpose(r, perm=[1, 0])

    sub = Emitter(op.opset, within=op)
    dtype = x.dtype or ir.DataType.FLOAT
    held = [sub.input(f"{op.scope}/state", dtype, None) for _ in initial]
    scanned = [sub.input(f"{op.scope}/x", dtype, None)]
    sequences = [product]
    if lengths is not None:
        scanned.append(sub.input(f"{op.scope}/runs", ir.DataType.BOOL, None))
        times = op.Unsqueeze(op.Range(0, op.Squeeze(op.shape(x, 0, 1), [0]), 1), [1, 2])
        sequences.append(op.Less(times, op.Unsqueeze(op.Cast(lengths, to=ir.DataType.INT64), [0, 2])))
    new = cell(Step(sub, scanned[0], held, recurrent, recurrent_bias, peepholes, hidden, functions, clip))
    y = new[0]
    if lengths is not None:  # behind its end a sequence keeps its state and gives 0
        runs = scanned[1]
        y = sub.Where(runs, y, 0.0)
        new = [sub.Where(runs, after, before) for after, before in zip(new, held, strict=True)]
    graph = closed(sub, [v.value for v in (*held, *scanned)], [*new, y], f"{op.scope}/step")
    turned = [int(backwards)] * len(sequences)
    results = attach(
        op,
        "Scan",
        [*initial, *sequences],
        {"body": graph},
        [dtype] * (len(new) + 1),
        num_scan_inputs=len(sequences),
        scan_input_directions=turned,
        scan_output_directions=turned[:1],
    )
    return (results[-1], *results[:-1])


def rnn(
    op: Emitter,
    x: Val,
    w: Val,
    r: Val,
    b: Val | None,
    sequence_lens: Val | None,
    initial_h: Val | None,
    activations: list[Any],
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
) -> tuple[Val, ...]:
    given = {**locals()}
    names = activations[: 2 if direction == "bidirectional" else 1]
    return recurrence(op, rnn_cell, [x, w, r, b, sequence_lens], [initial_h], names, given)


def gru(
    op: Emitter,
    x: Val,
    w: Val,
    r: Val,
    b: Val | None,
    sequence_lens: Val | None,
    initial_h: Val | None,
    activations: list[Any] | None,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    layout: int,
    linear_before_reset: int,
) -> tuple[Val, ...]:
    given = {**locals()}
    names = activations or ["Sigmoid", "Tanh"] * 2
    names = names[: 4 if direction == "bidirectional" else 2]
    inputs = [x, w, r, b, sequence_lens]
    return recurrence(op, lambda step: gru_cell(step, linear_before_reset), inputs, [initial_h], names, given)


def lstm(
    op: Emitter,
    x: Val,
    w: Val,
    r: Val,
    b: Val | None,
    sequence_lens: Val | None,
    initial_h: Val | None,
    initial_c: Val | None,
    p: Val | None,
    activations: list[Any] | None,
    activation_alpha: list[float] | None,
    activation_beta: list[float] | None,
    clip: float | None,
    direction: str,
    hidden_size: int | None,
    input_forget: int,
    layout: int,
) -> tuple[Val, ...]:
    given = {**locals()}
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * 2
    names = names[: 6 if direction == "bidirectional" else 3]
    inputs, states = [x, w, r, b, sequence_lens], [initial_h, initial_c]
    return recurrence(op, lambda step: lstm_cell(step, input_forget), inputs, states, names, given, p)


deflowering("RNN", rnn)
deflowering("GRU", gru)
deflowering("LSTM", lstm)
