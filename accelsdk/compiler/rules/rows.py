"""Softmax, LogSoftmax and Hardmax: along an axis, or (before opset 13) over rows of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from accelsdk.compiler.importer_rows import FIRST_AXIS
from accelsdk.compiler.rules.common import Rewrite, axis_of, integer, refuse, required, rule
from accelsdk.compiler.rules.select import steps_along
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Emits the op along one axis, and returns its result.
_Along = Callable[[Builder, Node, Value, int], Value]


def _rows(along: _Along) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        rank = x.type.rank
        if FIRST_AXIS not in node.attributes:
            return [along(b, node, x, axis_of(node, integer(node, "axis", -1), rank))]
        first = integer(node, FIRST_AXIS, 1)
        first = rank if first == rank else axis_of(node, first, rank)
        if first == rank - 1:
            return [along(b, node, x, first)]
        rows = b.op("Reshape", x, shape=(prod(x.shape[:first]), prod(x.shape[first:])))
        return [b.op("Reshape", along(b, node, rows, 1), shape=x.shape)]

    return rewrite


def _softmax(b: Builder, node: Node, x: Value, axis: int) -> Value:
    return b.op(node.op, x, axis=axis)


def _hardmax(b: Builder, node: Node, x: Value, axis: int) -> Value:
    if not x.shape:
        refuse(node, "its operand is a scalar")
    if x.type.count == 0:
        return x  # where ArgMax has nothing to choose from
    steps = steps_along(b, node, x.shape[axis], axis, x.type.rank)
    hit = b.op("Equal", b.op("ArgMax", x, axis=axis, keepdims=1), steps)
    return b.op("Cast", hit, to=x.format.name)


_NAMES = f"axis {FIRST_AXIS}"
RULES: tuple[LoweringRule, ...] = (
    rule("Softmax", _rows(_softmax), _NAMES),
    rule("LogSoftmax", _rows(_softmax), _NAMES),
    rule("Hardmax", _rows(_hardmax), _NAMES),
)
