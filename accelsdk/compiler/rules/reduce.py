"""Reductions: axes as an attribute (older opsets) or a constant operand."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import axes_of, integer, integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Of one element, these are the element itself.
_PLAIN = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean")
_OTHERS = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")


def _reduce(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    axes = integers(b, node, 1, "axes")
    if not axes:
        if integer(node, "noop_with_empty_axes", 0):
            if node.op not in _PLAIN:
                refuse(node, "noop_with_empty_axes is supported for plain reductions alone")
            return [x]
        axes = tuple(range(x.type.rank))
    keepdims = integer(node, "keepdims", 1)
    return [b.op(node.op, x, axes=axes_of(node, axes, x.type.rank), keepdims=keepdims)]


RULES: tuple[LoweringRule, ...] = tuple(
    rule(name, _reduce, "axes keepdims noop_with_empty_axes") for name in (*_PLAIN, *_OTHERS)
)
