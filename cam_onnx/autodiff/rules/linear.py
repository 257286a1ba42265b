"""Matrix products. The cotangent of a factor is a product with the other one, transposed."""

from __future__ import annotations

import string
from collections.abc import Sequence

from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import broadcast, defvjp, each
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def transposed(op: Emitter, x: Val) -> Val:
    """Swap the last two axes."""
    axes = list(range(x.rank))
    return op.Transpose(x, perm=[*axes[:-2], axes[-1], axes[-2]])


# A vector operand is a matrix with one row (left) or one column (right), which the product drops again. Only the
# leading dimensions of two matrices broadcast.


def matmul_left(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    if b.rank == 1:
        return g * b if a.rank == 1 else op.MatMul(op.Unsqueeze(g, [-1]), op.Unsqueeze(b, [0]))
    if a.rank == 1:
        rows = op.MatMul(op.Unsqueeze(g, [-2]), transposed(op, b))
        return op.ReduceSum(rows, list(range(b.rank - 1)), keepdims=0)
    return sum_to(op, op.MatMul(g, transposed(op, b)), y.dims[:-2] + a.dims[-2:], a)


def matmul_right(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    if a.rank == 1:
        return g * a if b.rank == 1 else op.MatMul(op.Unsqueeze(a, [-1]), op.Unsqueeze(g, [-2]))
    if b.rank == 1:
        return op.ReduceSum(a * op.Unsqueeze(g, [-1]), list(range(a.rank - 1)), keepdims=0)
    return sum_to(op, op.MatMul(transposed(op, a), g), y.dims[:-2] + b.dims[-2:], b)


def gemm_left(
    op: Emitter, g: Val, y: Val, a: Val, b: Val, c: Val | None, alpha: float, transA: int, transB: int, **_: object
) -> Val:
    if transA:
        return op.Gemm(b, g, alpha=alpha, transA=transB, transB=1)
    return op.Gemm(g, b, alpha=alpha, transA=0, transB=1 - transB)


def gemm_right(
    op: Emitter, g: Val, y: Val, a: Val, b: Val, c: Val | None, alpha: float, transA: int, transB: int, **_: object
) -> Val:
    if transB:
        return op.Gemm(g, a, alpha=alpha, transA=1, transB=transA)
    return op.Gemm(a, g, alpha=alpha, transA=1 - transA, transB=0)


defvjp("MatMul", matmul_left, matmul_right)
defvjp("Gemm", gemm_left, gemm_right, broadcast(lambda op, g, y, a, b, c, beta, **_: g if beta == 1.0 else g * beta))


def einsum(op: Emitter, i: int, g: Val, y: Val, *xs: Val, equation: str) -> Val:
    """Another Einsum: the output takes the operand's place.

    An ellipsis becomes letters, aligned from the right. A label that stands twice in the operand reads its diagonal:
    the cotangent is laid along it.
    """
    terms, right, dots = spelled(equation, xs)
    own, x = terms[i], xs[i]
    others = [(term, other) for k, (term, other) in enumerate(zip(terms, xs, strict=True)) if k != i]
    there = set(right).union(*(term for term, _ in others))
    labels = "".join(dict.fromkeys(own))
    kept = "".join(label for label in labels if label in there)
    told = ",".join([right, *(term for term, _ in others)])
    product = op.Einsum(g, *(other for _, other in others), equation=f"{told}->{kept}")
    if kept != labels:  # summed alone: repeat along
        product = op.Unsqueeze(product, [a for a, label in enumerate(labels) if label not in there])
        alone = [
            op.constant([1]) if label in there else op.shape(x, own.index(label), own.index(label) + 1)
            for label in labels
        ]
        product = op.Expand(product, op.Concat(*alone, axis=0))
    places = [a for a, label in enumerate(own) if own.index(label) == a]
    twice = [a for a in range(len(own)) if a not in places]
    laid = op.Unsqueeze(product, twice) if twice else product
    for axis in twice:
        first = own.index(own[axis])
        along = [
            op.Reshape(
                op.Range(0, op.Squeeze(op.shape(x, a, a + 1), [0]), 1), [-1 if b == a else 1 for b in range(x.rank)]
            )
            for a in (first, axis)
        ]
        laid = op.Where(op.Equal(*along), laid, 0.0)
    if not any(label in dots for label in own):
        return laid
    sizes = {label: d for term, v in [(right, y), *others] for label, d in zip(term, v.dims, strict=True) if d != 1}
    wide = [sizes.get(label, 1) if label in there else d for label, d in zip(own, x.dims, strict=True)]
    return sum_to(op, laid, wide, x)  # the ellipsis of another operand may be larger


def spelled(equation: str, xs: Sequence[Val]) -> tuple[list[str], str, str]:
    """Return the operands' labels and the output's, one letter an axis; and the letters of the ellipsis' axes."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    free = [letter for letter in reversed(string.ascii_letters) if letter not in equation]
    ranks = [x.rank - len(term.replace("...", "")) for term, x in zip(left.split(","), xs, strict=True)]
    dots = "".join(free[: max(ranks)])[::-1]  # aligned from the right
    terms = [term.replace("...", dots[len(dots) - n :]) for term, n in zip(left.split(","), ranks, strict=True)]
    if not arrow:  # the labels that stand once, in order, behind the ellipsis
        plain = left.replace("...", "").replace(",", "")
        right = "..." * bool(dots) + "".join(sorted(c for c in set(plain) if plain.count(c) == 1))
    return terms, right.replace("...", dots), dots


defvjp("Einsum", each(einsum))


def det(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    """The matrix of cofactors: it is there where the inverse is not."""
    n = op.shape(x, x.rank - 1)
    if n.known is not None and n.known.item() == 1:
        return op.Unsqueeze(g, [-2, -1])
    size = op.Squeeze(n, [0])
    every = op.Range(0, size, 1)
    kept = op.Range(0, size - 1, 1)
    kept = kept + op.Cast(op.GreaterOrEqual(kept, op.Unsqueeze(every, [1])), to=7)  # (without, which): the others
    rows, columns = op.Unsqueeze(kept, [1, 3]), op.Unsqueeze(kept, [0, 2])
    flat = op.Reshape(x, op.Concat(op.shape(x, 0, x.rank - 2), [-1], axis=0) if x.rank > 2 else [-1])
    minors = op.Det(op.Gather(flat, rows * size + columns, axis=-1))
    odd = op.Unsqueeze(every, [1]) + every
    odd = odd - odd / [2] * [2]
    return op.Unsqueeze(g, [-2, -1]) * op.Where(op.Equal(odd, [1]), -minors, minors)


defvjp("Det", det)
