"""Det: Gaussian elimination with partial pivoting, a step a row (Golub and Van Loan, 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from accelsdk.compiler.rules.common import refuse, required, rule
from accelsdk.compiler.rules.sampling import cast, working
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Largest matrix: each row takes a dozen nodes.
_LARGEST = 128


def _det(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    if x.type.rank < 2 or x.shape[-1] != x.shape[-2]:
        refuse(node, f"{x.type} holds no square matrices")
    size, result = x.shape[-1], x.shape[:-2]
    if size > _LARGEST:
        refuse(node, f"matrices of {size} rows are too large; at most {_LARGEST} are supported")
    kind = working(x.format)
    if size == 0 or prod(result) == 0:
        return [b.op("Expand", b.scalar(1, x.format), shape=result)]
    rows = b.op("Reshape", cast(b, x, kind), shape=(prod(result), size, size))
    total: Value | None = None
    for _ in range(size - 1):
        pivot, rows = _step(b, rows)
        total = pivot if total is None else b.op("Mul", total, pivot)
    last = b.op("Reshape", rows, shape=(prod(result), 1))
    total = last if total is None else b.op("Mul", total, last)
    return [cast(b, b.op("Reshape", total, shape=result), x.format)]


def _step(b: Builder, rows: Value) -> tuple[Value, Value]:
    """Eliminates one column.

    Args:
        b: Where to.
        rows: Matrices, [batch, n, n].

    Returns:
        The pivot, [batch, 1], negative if rows were swapped; what is left, [batch, n-1, n-1].
    """
    batch, count, _ = rows.shape
    kind = rows.format
    column = b.op("Slice", rows, starts=(0,), ends=(1,), axes=(2,), steps=(1,))
    column = b.op("Reshape", column, shape=(batch, count))
    best = b.op("ArgMax", b.op("Abs", column), axis=1, keepdims=1)
    chosen = b.op("GatherND", rows, best, batch_dims=1)
    pivot = b.op("Slice", chosen, starts=(0,), ends=(1,), axes=(1,), steps=(1,))
    # The first row takes the place of the chosen one.
    places = b.constant(np.arange(1, count, dtype=np.int64))
    others = b.op("Where", b.op("Equal", places, best), b.scalar(0, INT64), places)
    others = b.op("Reshape", others, shape=(batch, count - 1, 1))
    below = b.op("GatherND", rows, others, batch_dims=1)
    # A pivot of zero tops a column of zeros: nothing to eliminate, and the result is zero.
    zero = b.scalar(0, kind)
    divisor = b.op("Where", b.op("Equal", pivot, zero), b.scalar(1, kind), pivot)
    parts = [(0, 1), (1, count)]
    first, rest = (
        b.op("Slice", below, starts=(low,), ends=(high,), axes=(2,), steps=(1,))
        for low, high in parts
    )
    factors = b.op("Div", first, b.op("Reshape", divisor, shape=(batch, 1, 1)))
    tail = b.op("Slice", chosen, starts=(1,), ends=(count,), axes=(1,), steps=(1,))
    tail = b.op("Reshape", tail, shape=(batch, 1, count - 1))
    left = b.op("Sub", rest, b.op("Mul", factors, tail))
    swapped = b.op("Greater", best, b.scalar(0, INT64))
    return b.op("Where", swapped, b.op("Neg", pivot), pivot), left


RULES: tuple[LoweringRule, ...] = (rule("Det", _det),)
