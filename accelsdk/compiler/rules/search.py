"""CumSum and TopK: axis and count become attributes."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axis_of,
    integer,
    integers,
    ops,
    picked,
    refuse,
    required,
    rule,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _cumsum(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    given = integers(b, node, 1, "axis")
    if given is None or len(given) != 1:
        refuse(node, "it needs one axis")
    axis = axis_of(node, given[0], x.type.rank)
    return ops(b, "CumSum", x, outputs=1, axis=axis, **picked(node, "exclusive", "reverse"))


def _topk(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    k = integers(b, node, 1, "k")
    if k is None or len(k) != 1:
        refuse(node, "it needs one k")
    axis = axis_of(node, integer(node, "axis", -1), x.type.rank)
    carried = picked(node, "largest", "sorted")
    return ops(b, "TopK", x, outputs=2, k=k[0], axis=axis, **carried)


RULES: tuple[LoweringRule, ...] = (
    rule("CumSum", _cumsum, "exclusive reverse"),
    rule("TopK", _topk, "axis largest sorted k"),
)
