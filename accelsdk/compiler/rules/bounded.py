"""NonZero, Compress, Unique and NonMaxSuppression: their results have bounded types."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axis_of,
    constant,
    integer,
    ops,
    picked,
    refuse,
    required,
    rule,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _nonzero(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.op("NonZero", required(node, 0))]


def _along(b: Builder, node: Node) -> tuple[Value, int]:
    """Returns the operand and its axis; without one, ONNX flattens the operand."""
    x = required(node, 0)
    if "axis" not in node.attributes:
        return (x if x.type.rank == 1 else b.op("Reshape", x, shape=(x.type.count,))), 0
    if not x.type.rank:
        refuse(node, "a scalar has no axis")
    return x, axis_of(node, integer(node, "axis", 0), x.type.rank)


def _compress(b: Builder, node: Node) -> Sequence[Value | None]:
    x, axis = _along(b, node)
    condition = required(node, 1)
    extent = x.shape[axis]
    if condition.type.rank == 1 and condition.shape[0] > extent:
        # What it says of slices beyond the last is not looked at.
        condition = b.op("Slice", condition, starts=(0,), ends=(extent,), axes=(0,), steps=(1,))
    return [b.op("Compress", x, condition, axis=axis)]


def _unique(b: Builder, node: Node) -> Sequence[Value | None]:
    x, axis = _along(b, node)
    return ops(b, "Unique", x, outputs=4, axis=axis, **picked(node, "sorted"))


def _non_max_suppression(b: Builder, node: Node) -> Sequence[Value | None]:
    most = constant(b, node, 2, "max_output_boxes_per_class")
    if most is not None and most.size != 1:
        refuse(node, f"max_output_boxes_per_class has {most.size} items instead of one")
    thresholds = []
    for index in (3, 4):
        value = node.operand(index)
        if value is not None and value.type.count == 1 and value.type.rank:
            value = b.op("Reshape", value, shape=())
        thresholds.append(value)
    return ops(
        b,
        "NonMaxSuppression",
        required(node, 0),
        required(node, 1),
        *thresholds,
        outputs=1,
        # Left out, it is 0, and nothing is selected; below 0 it means the same.
        max_output_boxes_per_class=0 if most is None else max(0, int(most.reshape(()).item())),
        **picked(node, "center_point_box"),
    )


RULES: tuple[LoweringRule, ...] = (
    rule("NonZero", _nonzero),
    rule("Compress", _compress, "axis"),
    rule("Unique", _unique, "axis sorted"),
    rule("NonMaxSuppression", _non_max_suppression, "center_point_box"),
)
