"""Reductions: axes as an attribute (older opsets) or a constant operand."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from accelsdk.compiler.rules.common import axes_of, integer, integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_NAMES = (
    *("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"),
    *("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
)


def _reduce(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    axes = integers(b, node, 1, "axes")
    if not axes:
        if integer(node, "noop_with_empty_axes", 0):
            return [_each_alone(b, node.op, x)]
        axes = tuple(range(x.type.rank))
    axes = axes_of(node, axes, x.type.rank)
    keepdims = integer(node, "keepdims", 1)
    if node.op == "ReduceMean" and x.format.is_integer:
        return [_integer_mean(b, node, x, axes, keepdims)]
    return [b.op(node.op, x, axes=axes, keepdims=keepdims)]


def _each_alone(b: Builder, op: str, x: Value) -> Value:
    """Over no axes at all, each element is reduced by itself (ONNX, noop_with_empty_axes)."""
    match op:
        case "ReduceL1" | "ReduceL2":
            return b.op("Abs", x)
        case "ReduceSumSquare":
            return b.op("Mul", x, x)
        case "ReduceLogSum":
            return b.op("Log", x)
    return x


def _integer_mean(b: Builder, node: Node, x: Value, axes: tuple[int, ...], keepdims: int) -> Value:
    """The sum over the count, truncated as ONNX divides integers."""
    count = prod(x.shape[axis] for axis in axes)
    if count == 0:
        refuse(node, "there is no mean of no integers")
    total = b.op("ReduceSum", x, axes=axes, keepdims=keepdims)
    return b.op("Div", total, b.scalar(count, x.format))


RULES: tuple[LoweringRule, ...] = tuple(
    rule(name, _reduce, "axes keepdims noop_with_empty_axes") for name in _NAMES
)
