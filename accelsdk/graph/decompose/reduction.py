"""Decompositions of the composite reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.decompose.common import axes_of, reshape, whole
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import product, required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def _reduce(b: Builder, op: str, x: Value, node: Node, keepdims: int | None = None) -> Value:
    kept = whole(node, "keepdims") if keepdims is None else keepdims
    return b.op(op, x, axes=axes_of(node, x.type.rank), keepdims=kept)


def mean(b: Builder, node: Node) -> Values:
    """Sum divided by the number of items; of nothing, 0 / 0."""
    x = required(node, 0)
    count = product([x.shape[axis] for axis in axes_of(node, x.type.rank)])
    return (b.op("Div", _reduce(b, "ReduceSum", x, node), b.scalar(count, x.format)),)


def l1(b: Builder, node: Node) -> Values:
    """Sum of magnitudes."""
    return (_reduce(b, "ReduceSum", b.op("Abs", required(node, 0)), node),)


def sum_square(b: Builder, node: Node) -> Values:
    """Sum of squares."""
    x = required(node, 0)
    return (_reduce(b, "ReduceSum", b.op("Mul", x, x), node),)


def l2(b: Builder, node: Node) -> Values:
    """Root of the sum of squares."""
    x = required(node, 0)
    return (b.op("Sqrt", _reduce(b, "ReduceSum", b.op("Mul", x, x), node)),)


def log_sum(b: Builder, node: Node) -> Values:
    """Logarithm of the sum."""
    return (b.op("Log", _reduce(b, "ReduceSum", required(node, 0), node)),)


def finite_max(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    """Emits the maximum over ``axes``, kept as extents of 1, with infinities made 0.

    It is what exponents are shifted by: any shift is right, and a finite one never turns
    Inf - Inf into NaN.
    """
    top = b.op("ReduceMax", x, axes=axes, keepdims=1)
    return b.op("Where", b.op("IsInf", top), b.scalar(0, x.format), top)


def log_sum_exp(b: Builder, node: Node) -> Values:
    """Max + log(sum(exp(x - max))), which neither overflows nor vanishes."""
    x = required(node, 0)
    top = finite_max(b, x, axes_of(node, x.type.rank))
    total = _reduce(b, "ReduceSum", b.op("Exp", b.op("Sub", x, top)), node)
    return (b.op("Add", reshape(b, top, *total.shape), b.op("Log", total)),)
