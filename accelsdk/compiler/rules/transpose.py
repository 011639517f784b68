"""Transpose: the default permutation made explicit."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _transpose(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    perm = integers(b, node, 1, "perm") or tuple(reversed(range(x.type.rank)))
    if sorted(perm) != list(range(x.type.rank)):
        refuse(node, f"perm {perm} does not permute {x.type.rank} axes")
    return [b.op("Transpose", x, perm=perm)]


RULES: tuple[LoweringRule, ...] = (rule("Transpose", _transpose, "perm"),)
