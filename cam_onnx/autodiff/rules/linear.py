"""Matrix products. The cotangent of a factor is a product with the other one, transposed."""

from __future__ import annotations

from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import broadcast, defvjp, each
from cam_onnx.autodiff.val import Refused, Val

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
    """Another Einsum: the output takes the operand's place."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "->" not in equation:  # implicit: the labels that stand once, in order
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    own = terms[i]
    if "." in equation or len(set(own)) < len(own):
        raise Refused(f"equation {equation}: ellipsis or a repeated label")
    others = [(term, x) for k, (term, x) in enumerate(zip(terms, xs, strict=True)) if k != i]
    there = set(right).union(*(term for term, _ in others))
    result = "".join(label for label in own if label in there)
    product = op.Einsum(
        g, *(x for _, x in others), equation=f"{','.join([right, *(term for term, _ in others)])}->{result}"
    )
    summed = [axis for axis, label in enumerate(own) if label not in there]  # summed alone: repeat along
    return op.Expand(op.Unsqueeze(product, summed), op.shape(xs[i])) if summed else product


defvjp("Einsum", each(einsum))
