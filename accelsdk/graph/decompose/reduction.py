"""Decompositions of the composite reductions. 16-bit floats are summed in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.decompose.common import axes_of, cast_to, reshape, whole, widened
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import product, required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def _reduce(b: Builder, op: str, x: Value, node: Node) -> Value:
    return b.op(op, x, axes=axes_of(node, x.type.rank), keepdims=whole(node, "keepdims"))


def _in_float32(
    rule: Callable[[Builder, Node, Value], Value],
) -> Callable[[Builder, Node], Values]:
    """Returns a decomposition that works in float32 at least and rounds its result."""

    def decompose(b: Builder, node: Node) -> Values:
        x = required(node, 0)
        return (cast_to(b, rule(b, node, widened(b, x)), x.format),)

    decompose.__doc__ = rule.__doc__
    return decompose


@_in_float32
def mean(b: Builder, node: Node, x: Value) -> Value:
    """Sum divided by the number of items; of nothing, 0 / 0."""
    count = product([x.shape[axis] for axis in axes_of(node, x.type.rank)])
    return b.op("Div", _reduce(b, "ReduceSum", x, node), b.scalar(count, x.format))


@_in_float32
def l1(b: Builder, node: Node, x: Value) -> Value:
    """Sum of magnitudes."""
    return _reduce(b, "ReduceSum", b.op("Abs", x), node)


@_in_float32
def sum_square(b: Builder, node: Node, x: Value) -> Value:
    """Sum of squares."""
    return _reduce(b, "ReduceSum", b.op("Mul", x, x), node)


@_in_float32
def l2(b: Builder, node: Node, x: Value) -> Value:
    """Root of the sum of squares."""
    return b.op("Sqrt", _reduce(b, "ReduceSum", b.op("Mul", x, x), node))


@_in_float32
def log_sum(b: Builder, node: Node, x: Value) -> Value:
    """Logarithm of the sum."""
    return b.op("Log", _reduce(b, "ReduceSum", x, node))


def finite_max(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    """Emits the maximum over ``axes``, kept as extents of 1, with infinities made 0.

    It is what exponents are shifted by: any shift is right, and a finite one never turns
    Inf - Inf into NaN.
    """
    top = b.op("ReduceMax", x, axes=axes, keepdims=1)
    return b.op("Where", b.op("IsInf", top), b.scalar(0, x.format), top)


@_in_float32
def log_sum_exp(b: Builder, node: Node, x: Value) -> Value:
    """Max + log(sum(exp(x - max))), which neither overflows nor vanishes."""
    top = finite_max(b, x, axes_of(node, x.type.rank))
    total = _reduce(b, "ReduceSum", b.op("Exp", b.op("Sub", x, top)), node)
    return b.op("Add", reshape(b, top, *total.shape), b.op("Log", total))
