"""Concat and Split."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axis_of,
    integer,
    integers,
    ops,
    refuse,
    required,
    rule,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _concat(b: Builder, node: Node) -> Sequence[Value | None]:
    axis = axis_of(node, integer(node, "axis", 0), required(node, 0).type.rank)
    return [b.op("Concat", *node.inputs, axis=axis)]


def _split(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    if not x.shape:
        refuse(node, "its operand is a scalar")
    axis = axis_of(node, integer(node, "axis", 0), x.type.rank)
    sizes = integers(b, node, 1, "split")
    if sizes is None:
        sizes = _equal_parts(node, x.shape[axis])
    if sum(sizes) != x.shape[axis] or len(sizes) != len(node.outputs):
        refuse(node, f"split {sizes} does not cut extent {x.shape[axis]} into its results")
    return ops(b, "Split", x, outputs=len(sizes), axis=axis, split=sizes)


def _equal_parts(node: Node, extent: int) -> tuple[int, ...]:
    parts = integer(node, "num_outputs", len(node.outputs))
    if not 1 <= parts <= len(node.outputs):
        refuse(node, f"num_outputs is {parts}")
    size = -(-extent // parts)  # the last part is the smaller one
    return (*(size,) * (parts - 1), extent - size * (parts - 1))


RULES: tuple[LoweringRule, ...] = (
    rule("Concat", _concat, "axis"),
    rule("Split", _split, "axis split num_outputs"),
)
