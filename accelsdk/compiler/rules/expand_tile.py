"""Expand and Tile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from accelsdk.compiler.rules.common import integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _expand(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    wanted = integers(b, node, 1, "shape")
    if wanted is None:
        refuse(node, "it has no shape")
    # Broadcasting goes both ways: a wanted 1 keeps the extent of the operand.
    pairs = list(zip_longest(reversed(x.shape), reversed(wanted), fillvalue=1))
    if any(a != c and 1 not in (a, c) for a, c in pairs):
        refuse(node, f"{x.shape} does not broadcast to {wanted}")
    shape = tuple(c if a == 1 else a for a, c in reversed(pairs))
    return [b.op("Expand", x, shape=shape)]


def _tile(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    repeats = integers(b, node, 1, "repeats")
    if repeats is None or len(repeats) != x.type.rank or min(repeats, default=0) < 0:
        refuse(node, f"repeats {repeats} do not fit rank {x.type.rank}")
    return [b.op("Tile", x, repeats=repeats)]


RULES: tuple[LoweringRule, ...] = (rule("Expand", _expand), rule("Tile", _tile))
