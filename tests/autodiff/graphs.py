"""The case table of bodies: functions, If, Loop, Scan, and what is lowered to them. One more row: nodes as ONNX text.

`of` are the outputs that are differentiated, by all floating-point inputs. "float[...]" in a subgraph is read as double
where the row runs in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.autodiff.cases import Case, exactly, given, ints, normal, off, positive


@dataclass(frozen=True)
class Graph(Case):
    outputs: tuple[str, ...] = ("y",)
    single: str = ""  # why the row runs in float32 only

    @property
    def of(self) -> tuple[str, ...]:
        return self.outputs

    def __str__(self) -> str:
        return self.why

    @property
    def op_type(self) -> str:
        return self.why.split(":")[0]


def graph(
    why: str,
    text: str,
    *functions: str,
    of: tuple[str, ...] = ("y",),
    opset: int = 17,
    static: str = "",
    reference: str = "",
    step: float = 1e-5,
    tol: float = 1e-6,
    single: str = "",
    **inputs: Any,
) -> Graph:
    """One row; `why` is its name, and begins with the operator whose rule it is for.

    `reference`: why the reference evaluator does not serve as the second engine.
    """
    header = f'<domain: "local", opset_import: ["": {opset}, "local": 1]>'
    bodies = " ".join(f"{header} {f}" for f in functions)
    row = (text, inputs, opset, why, step, tol, static, "", (), reference)
    return Graph(*row, functions=bodies, double=True, outputs=of, single=single)


def flag(value: bool) -> given:
    return given(np.array(value))


def count(value: int) -> given:
    return given(np.array(value, np.int64))


BRANCHES = """
    z = Tanh(x)
    u = Mul(z, x)
    y = If<then_branch = t () => (float[a, b] q) { s = Sigmoid(u) q = Mul(s, z) },
           else_branch = e () => (float[a, b] r) { r = Mul(z, z) }>(c)
"""
LOOP = """
    on = Constant<value = bool {1}>()
    y, s = Loop<body = b (int64 i, bool c, float[a, d] h) => (bool c1, float[a, d] h1, float[a, d] o) {
        c1 = Identity(c) q = Mul(h, w) h1 = Tanh(q) o = Mul(h1, h) }>(n, on, x)
"""
SCAN = """
    y, s = Scan<num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [0, 1],
                scan_output_axes = [1], scan_output_directions = [1],
                body = b (float[3] h0, float[3] xi, float[3] zi) => (float[3] h1, float[3] o) {
        q = Mul(h0, w) r = Add(q, xi) h1 = Tanh(r) o = Mul(h1, zi) }>(h, x, z)
"""
STACKS = "the reference evaluator lays iterations end to end, not on a new axis"
ATTRIBUTES = "the reference evaluator fails for attributes of functions"
AXES = "the reference evaluator's Scan knows no axes and directions"
PUTS = """e = SequenceEmpty() h, s = Loop<body = b (int64 i, bool c, float[2,3] h0, seq(float) s0)
    => (bool c1, float[2,3] h1, seq(float) s1) {
    c1 = Identity(c) h1 = Tanh(h0) q = Mul(h1, w) s1 = SequenceInsert(s0, q) }>(n, go, x, e)"""

GRAPHS = [
    # functions -----------------------------------------------------------------------------------------------------
    graph(
        "function: two outputs, an attribute, an output that is read inside",
        "y, v = local.F<k = 0.3>(x, x)",
        "F <k>(a, b) => (y, v) { p = LeakyRelu<alpha: float = @k>(a) t = Tanh(p) y = Mul(t, b) v = Mul(y, p) }",
        of=("y", "v"),
        x=off(0.0),
        reference=ATTRIBUTES,
    ),
    graph(
        "function: only the second output is wanted, and reads the first",
        "_y, y = local.F(x)",
        "F (a) => (y, v) { y = Exp(a) v = Mul(y, a) }",
        x=normal(2, 3),
    ),
    graph(
        "function: nested, with an attribute passed on, an input left out, a constant inside",
        "y = local.F<k = 0.3>(x)",
        "G <k>(a, z) => (y) { p = LeakyRelu<alpha: float = @k>(a) one = Constant<value_float = 1.5>() "
        "c = CastLike(one, a) q = Mul(p, c) y = Tanh(q) }",
        "F <k>(a) => (y) { p = local.G<k: float = @k>(a) y = local.G<k = 2.0>(p) }",
        opset=19,
        x=off(0.0),
        reference=ATTRIBUTES,
        single="no kernel of LeakyRelu in float64",
    ),
    graph(
        "function: called three times, values shared",
        "p = local.F(x) q = local.F(p) y = local.F(q)",
        "F (a) => (y) { t = Tanh(a) y = Mul(t, a) }",
        x=normal(2, 3),
    ),
    graph(
        "function: a subgraph inside that reads what the function computes",
        "y = local.F(x, c)",
        "F (a, c) => (y) { t = Tanh(a) y = If<then_branch = p () => (q) { q = Mul(t, a) }, "
        "else_branch = e () => (r) { r = Neg(t) }>(c) }",
        x=normal(2, 3),
        c=flag(True),
    ),
    # the standard's own definitions --------------------------------------------------------------------------------
    graph(
        "MeanVarianceNormalization: by its body",
        "y = MeanVarianceNormalization<axes = [0, 2, 3]>(x)",
        x=normal(2, 3, 4, 4),
        reference="its body has float32 constants",
        single="its body has float32 constants",
    ),
    graph(
        "Shrink: by its body",
        "y = Shrink<bias = 0.5, lambd = 0.7>(x)",
        opset=18,
        x=off(-0.7, 0.7),
        single="its kernel computes in float32",
    ),
    graph(
        "SoftmaxCrossEntropyLoss: by its body, which depends on the inputs' types",
        "y = SoftmaxCrossEntropyLoss(x, t)",
        x=normal(4, 3),
        t=given(ints(0, 2, 1, 2)),
    ),
    # If ------------------------------------------------------------------------------------------------------------
    graph("If: the branch that holds", BRANCHES, x=normal(2, 3), c=flag(True)),
    graph("If: the other branch, which does not read one of the values", BRANCHES, x=normal(2, 3), c=flag(False)),
    graph(
        "If: two outputs, one of them straight from outside",
        "t = Tanh(x) y, v = If<then_branch = p () => (float[a, b] q, float[a, b] k) { q = Mul(t, x) k = Identity(t) }, "
        "else_branch = e () => (float[a, b] r, float[a, b] l) { r = Neg(t) l = Exp(x) }>(c)",
        of=("y", "v"),
        x=normal(2, 3),
        c=flag(True),
    ),
    graph(
        "If: shapes that differ, an If inside",
        "y = If<then_branch = p () => (float[d] q) { q = ReduceSum<keepdims = 0>(x, ax) }, "
        "else_branch = e () => (float[d, f] r) { r = If<then_branch = p2 () => (float[d, f] q2) { q2 = Mul(x, x) }, "
        "else_branch = e2 () => (float[d, f] r2) { r2 = Exp(x) }>(c) }>(n)",
        x=normal(2, 3),
        ax=ints(1),
        c=flag(True),
        n=flag(False),
    ),
    # Loop ----------------------------------------------------------------------------------------------------------
    graph(
        "Loop: a state and a value per iteration",
        LOOP,
        of=("y", "s"),
        x=normal(2, 3),
        w=normal(3),
        n=count(4),
        reference=STACKS,
    ),
    graph("Loop: one iteration", LOOP, of=("y", "s"), x=normal(2, 3), w=normal(3), n=count(1), reference=STACKS),
    graph("Loop: none", LOOP, x=normal(2, 3), w=normal(3), n=count(0), reference=STACKS),
    graph(
        "Loop: linear, so that nothing is recorded",
        "on = Constant<value = bool {1}>() y = Loop<body = b (int64 i, bool c, float[a, d] h) => "
        "(bool c1, float[a, d] h1) { c1 = Identity(c) h1 = Add(h, w) }>(n, on, x)",
        x=normal(2, 3),
        w=normal(3),
        n=count(4),
    ),
    graph(
        "Loop: ends early, by its condition",
        "m = Constant<value_int = 10>() on = Constant<value = bool {1}>() lim = CastLike(limit, x) "
        "y = Loop<body = b (int64 i, bool c, float[a, d] h) => (bool c1, float[a, d] h1) "
        "{ t = ReduceMax<keepdims = 0>(h) c1 = Less(t, lim) e = Mul(w, w) h1 = Add(h, e) }>(m, on, x)",
        x=exactly([[1.0, 1.0, 1.0]]),
        w=exactly([1.0, 1.0, 1.0]),
        limit=np.array(3, np.int64),
    ),
    graph(
        "Loop: reads the counter, a sequence by it, and the state before; two states exchange places",
        "on = Constant<value = bool {1}>() y, v = Loop<body = b (int64 i, bool c, float[d] h, float[d] k) => "
        "(bool c1, float[d] k1, float[d] h1) { c1 = Identity(c) r = Gather(x, i) f = CastLike(i, r) "
        "p = Mul(r, f) k1 = Mul(k, p) q = Sin(h) h1 = Add(q, k) }>(n, on, s, t)",
        of=("y", "v"),
        x=normal(4, 3),
        s=normal(3),
        t=normal(3),
        n=count(4),
    ),
    graph(
        "Loop: a value that is the same in every iteration, and a size",
        "on = Constant<value = bool {1}>() y = Loop<body = b (int64 i, bool c, float[a, d] h) => "
        "(bool c1, float[a, d] h1) { c1 = Identity(c) e = Exp(w) m = ReduceMean<keepdims = 0>(h) p = Mul(e, m) "
        "h1 = Sub(h, p) }>(n, on, x)",
        x=normal(2, 3),
        w=normal(3),
        n=count(3),
    ),
    graph(
        "Loop: an If inside, inside a function",
        "y = local.F(x, n, w, k)",
        "F (x, n, w, k) => (y) { on = Constant<value = bool {1}>() "
        "y = Loop<body = b (int64 i, bool c, float[a, d] h) => (bool c1, float[a, d] h1) { c1 = Identity(c) "
        "q = Mul(h, w) h1 = If<then_branch = t () => (float[a, d] p) { p = Tanh(q) }, "
        "else_branch = e () => (float[a, d] p2) { p3 = Sigmoid(h) p2 = Mul(p3, q) }>(k) }>(n, on, x) }",
        x=normal(2, 3),
        w=normal(3),
        n=count(3),
        k=flag(False),
        reference=STACKS,
    ),
    graph(
        "Loop: a Loop inside",
        "on = Constant<value = bool {1}>() y = Loop<body = b (int64 i, bool c, float[a, d] h) => "
        "(bool c1, float[a, d] h1) { c1 = Identity(c) g = Mul(h, w) "
        "h1 = Loop<body = b2 (int64 i2, bool c2, float[a, d] k) => (bool c3, float[a, d] k1) "
        "{ c3 = Identity(c2) p = Mul(k, g) k1 = Tanh(p) }>(n, on, h) }>(n, on, x)",
        x=normal(2, 3),
        w=normal(3),
        n=count(2),
        reference=STACKS,
    ),
    graph(
        "Loop: a function inside",
        "on = Constant<value = bool {1}>() y = Loop<body = b (int64 i, bool c, float[a, d] h) => "
        "(bool c1, float[a, d] h1) { c1 = Identity(c) g = local.F(h, w) h1 = Mul(g, h) }>(n, on, x)",
        "F (a, w) => (y) { t = Tanh(a) y = Mul(t, w) }",
        x=normal(2, 3),
        w=normal(3),
        n=count(3),
        reference=STACKS,
    ),
    # Scan ----------------------------------------------------------------------------------------------------------
    graph(
        "Scan: axes and directions",
        SCAN,
        of=("y", "s"),
        h=normal(3),
        x=normal(4, 3),
        z=normal(3, 4),
        w=normal(3),
        reference=AXES,
    ),
    graph(
        "Scan: a running product",
        "y, s = Scan<num_scan_inputs = 1, body = b (float[3] h0, float[3] xi) => (float[3] h1, float[3] o) "
        "{ h1 = Mul(h0, xi) o = Identity(h1) }>(h, x)",
        of=("y", "s"),
        h=normal(3),
        x=positive(4, 3),
    ),
    graph(
        "Scan: no state",
        "y = Scan<num_scan_inputs = 1, body = b (float[3] xi) => (float[3] o) { t = Tanh(xi) o = Mul(t, w) }>(x)",
        x=normal(4, 3),
        w=normal(3),
    ),
    graph(
        "SequenceAt: what was inserted and erased, positions from either end",
        """p = Tanh(x) q = Mul(x, x) e = SequenceEmpty() s1 = SequenceInsert(e, p) s2 = SequenceInsert(s1, q)
           s3 = SequenceInsert(s2, x, minus) s4 = SequenceErase(s3) s5 = SequenceErase(s4, nought) t = Identity(s5)
           z = SequenceAt(t, minus) y = Mul(z, z)""",
        x=normal(2, 3),
        single="SequenceEmpty gives float32",
        reference="SequenceEmpty gives float32",
        minus=np.array(-1, np.int64),
        nought=np.array(0, np.int64),
    ),
    graph(
        "SequenceAt: a part of a split, without its axis",
        "u = Sin(x) s = SplitToSequence<axis = -1, keepdims = 0>(u) a = SequenceAt(s, at) y = Mul(a, a)",
        static="the parts are counted by the size of x",
        x=normal(2, 3),
        at=np.array(2, np.int64),
    ),
    graph(
        "SequenceAt: in a branch, of a sequence outside",
        """u = Sin(x) s = SequenceConstruct(u, x)
           y = If<then_branch = t () => (float[a, b] q) { v = SequenceAt(s, at) q = Mul(v, v) },
                  else_branch = e () => (float[a, b] r) { r = Neg(u) }>(c)""",
        x=normal(2, 3),
        at=np.array(0, np.int64),
        c=flag(True),
    ),
    graph(
        "Optional: of a tensor, and of a sequence",
        """u = Sin(x) o = Optional(u) v = OptionalGetElement(o) s = SequenceConstruct(x, v) p = Optional(s)
           t = OptionalGetElement(p) w = SequenceAt(t, one) y = Mul(v, w)""",
        reference="its OptionalGetElement of a sequence gives the first tensor",
        x=normal(2, 3),
        one=np.array(1, np.int64),
    ),
    graph(
        "SequenceAt: in a branch of a branch, of a sequence outside",
        """u = Sin(x) s = SequenceConstruct(u, x)
           y = If<then_branch = t () => (float[a, b] q) {
                    q = If<then_branch = t2 () => (float[a, b] m) { v = SequenceAt(s, at) m = Mul(v, v) },
                           else_branch = e2 () => (float[a, b] k) { k = Neg(x) }>(c) },
                  else_branch = e () => (float[a, b] r) { r = Neg(x) }>(c)""",
        x=normal(2, 3),
        at=np.array(0, np.int64),
        c=flag(True),
    ),
    graph(
        "SequenceAt: in every iteration of a loop, of a sequence outside",
        """u = Sin(x) s = SequenceConstruct(x, u)
           y = Loop<body = b (int64 i, bool c, float[2,3] h) => (bool c1, float[2,3] h1) {
               c1 = Identity(c) v = SequenceAt(s, at) h1 = Mul(h, v) }>(n, go, x)""",
        x=normal(2, 3),
        go=flag(True),
        at=np.array(1, np.int64),
        n=count(3),
        reference=STACKS,
    ),
    graph(
        "ConcatFromSequence: parts of two entries, the last one shorter, in another order",
        """u = Sin(x) s = SplitToSequence<axis = 1>(u, two) r = SequenceErase(s, nought) a = SequenceAt(s, nought)
           t = SequenceInsert(r, a) y = ConcatFromSequence<axis = 1>(t)""",
        static="the parts are counted by the size of x",
        x=normal(2, 5),
        two=np.array(2, np.int64),
        nought=np.array(0, np.int64),
    ),
    graph(
        "ConcatFromSequence: parts of given sizes",
        "u = Sin(x) s = SplitToSequence(u, sizes) y = ConcatFromSequence<axis = 0>(s)",
        x=normal(4, 2),
        sizes=ints(1, 3),
    ),
    graph(
        "ConcatFromSequence: on a new axis",
        "u = Sin(x) s = SequenceConstruct(u, x, u) y = ConcatFromSequence<axis = -1, new_axis = 1>(s)",
        x=normal(2, 3),
    ),
    *(
        graph(
            f"ConcatFromSequence: what the iterations of a loop put in, {where}",
            f"{PUTS} y = ConcatFromSequence<{attributes}>(s)",
            x=normal(2, 3),
            w=normal(2, 3),
            go=flag(True),
            n=count(3),
            single="SequenceEmpty gives float32",
            reference=STACKS,
        )
        for where, attributes in {
            "in front": "axis = 0, new_axis = 1",
            "on an axis between": "axis = 1, new_axis = 1",
            "on the last axis": "axis = -1, new_axis = 1",
            "joined at the first axis": "axis = 0",
            "joined at the last axis": "axis = -1",
            "joined at the last axis but one": "axis = -2",
        }.items()
    ),
    graph(
        "SequenceAt: what an iteration put behind what was there, from the end",
        """u = Sin(x) s0 = SequenceConstruct(u)
           h, s = Loop<body = b (int64 i, bool c, float[2,3] h0, seq(float[2,3]) s1)
               => (bool c1, float[2,3] h1, seq(float[2,3]) s2) {
               c1 = Identity(c) h1 = Tanh(h0) q = Mul(h1, w) s2 = SequenceInsert(s1, q) }>(n, go, x, s0)
           t = Identity(s) a = SequenceAt(t, third) b = SequenceAt(s, nought) y = Mul(a, b)""",
        static="whether all have one shape is told by the size of x",
        x=normal(2, 3),
        w=normal(2, 3),
        go=flag(True),
        n=count(3),
        third=np.array(-2, np.int64),
        nought=np.array(0, np.int64),
        reference=STACKS,
    ),
    graph(
        "SequenceAt: a position that only the run tells",
        "u = Sin(x) s = SequenceConstruct(u, x) at = ArgMax<keepdims = 0>(which) y = SequenceAt(s, at)",
        x=normal(2, 3),
        which=given(np.array([1, 3])),
    ),
    graph(
        "SequenceAt: in every iteration of a loop, the iteration's own part of a split",
        """u = Sin(x) s = SplitToSequence<axis = 1, keepdims = 0>(u) z = ReduceSum<keepdims = 0>(x, one)
           y = Loop<body = b (int64 i, bool c, float[a] h) => (bool c1, float[a] h1) {
               c1 = Identity(c) v = SequenceAt(s, i) h1 = Mul(h, v) }>(n, go, z)""",
        x=normal(2, 3),
        go=flag(True),
        n=count(3),
        one=np.array([1], np.int64),
        reference=STACKS,
    ),
    graph(
        "SequenceAt: of a sequence that a branch makes",
        """u = Sin(x) s = If<then_branch = t () => (seq(float[a, b]) q) { v = Exp(u) q = SequenceConstruct(v, x) },
                             else_branch = e () => (seq(float[a, b]) r) { r = SequenceConstruct(x, u) }>(c)
           y = SequenceAt(s, at)""",
        x=normal(2, 3),
        at=np.array(0, np.int64),
        c=flag(True),
    ),
    graph(
        "ConcatFromSequence: of a sequence that the other branch makes",
        """u = Sin(x) s = If<then_branch = t () => (seq(float[a, b]) q) { q = SequenceConstruct(x) },
                             else_branch = e () => (seq(float[a, b]) r) { r = SequenceConstruct(x, u) }>(c)
           y = ConcatFromSequence<axis = 1>(s)""",
        x=normal(2, 3),
        c=flag(False),
    ),
]


def recurrent(operator: str, gates: int, attributes: str = "", inputs: str = "x w r", of: str = "y h", **options: Any):
    """Return a row of a recurrent operator: 4 times, 2 samples, 3 inputs, 5 hidden."""
    directions = 2 if "bidirectional" in attributes else 1
    first = (2, 4) if "layout = 1" in attributes else (4, 2)
    state = (2, directions, 5) if "layout = 1" in attributes else (directions, 2, 5)
    shapes = {
        "x": (*first, 3),
        "w": (directions, gates * 5, 3),
        "r": (directions, gates * 5, 5),
        "b": (directions, gates * 10),
        "h0": state,
        "c0": state,
        "p": (directions, 15),
    }
    names = [name.strip("-") for name in inputs.split()]
    domains: dict[str, Any] = {n: normal(*shapes[n], scale=0.6) for n in names if n in shapes}
    if "l" in names:
        domains["l"] = given(np.array([3, 4], np.int32))
    outputs = [name.strip("-") for name in of.split()]
    text = f"{', '.join(outputs)} = {operator}<hidden_size = 5{attributes}>({', '.join(names)})"
    why = f"{operator}: {attributes.strip(', ')} {inputs} => {of}"
    return graph(
        why,
        text,
        of=tuple(filter(None, outputs)),
        reference="the reference evaluator knows one form only",
        **domains,
        **options,
    )


RECURRENT = [
    recurrent("RNN", 1),
    recurrent("RNN", 1, ', direction = "reverse", activations = ["Softsign"]', "x w r b l h0"),
    recurrent(
        "RNN",
        1,
        ', direction = "bidirectional", activations = ["Tanh", "Affine"], activation_alpha = [0.5], '
        "activation_beta = [0.1]",
        "x w r b l h0",
    ),
    recurrent("GRU", 3),
    recurrent("GRU", 3, ", linear_before_reset = 1", "x w r b l h0"),
    recurrent("GRU", 3, ', direction = "bidirectional"', "x w r b l h0"),
    recurrent("GRU", 3, ', direction = "reverse", activations = ["Sigmoid", "Softsign"], clip = 4.0', "x w r b"),
    recurrent("LSTM", 4, of="y h c"),
    recurrent("LSTM", 4, ', direction = "bidirectional"', "x w r b l h0 c0 p", "y h c"),
    recurrent("LSTM", 4, ', direction = "reverse"', "x w r b l h0 c0 p", "y h c"),
    recurrent("LSTM", 4, ", input_forget = 1", "x w r b - h0 c0 p", "y h c"),
    recurrent("LSTM", 4, "", "x w r b - - c0", "- - c", opset=14),
    recurrent(
        "LSTM",
        4,
        ', activations = ["Sigmoid", "ScaledTanh", "Softsign"], activation_alpha = [1.2], activation_beta = [0.7]',
        "x w r b",
        "y h c",
    ),
]

# Activations without a kernel in float64: only what they compute forwards is compared.
ACTIVATIONS = [
    recurrent("RNN", 1, ', direction = "bidirectional", activations = ["Softplus", "Elu"]', "x w r b - h0"),
    recurrent("RNN", 1, ', activations = ["LeakyRelu"], activation_alpha = [0.4]', "x w r b"),
    recurrent("RNN", 1, ', activations = ["ThresholdedRelu"], activation_alpha = [0.1]', "x w r b"),
    recurrent("RNN", 1, ', activations = ["Relu"], clip = 0.3', "x w r b"),
    recurrent(
        "LSTM",
        4,
        ', activations = ["HardSigmoid", "ScaledTanh", "Elu"], activation_alpha = [0.3, 1.2, 0.8], '
        "activation_beta = [0.4, 0.7], clip = 0.5",
        "x w r b",
        "y h c",
    ),
    recurrent("GRU", 3, ', activations = ["HardSigmoid", "Affine"], activation_alpha = [0.3, 1.2]', "x w r b l"),
]
