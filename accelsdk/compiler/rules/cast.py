"""Cast and CastLike."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, required, rule, text
from accelsdk.formats import E8M0
from accelsdk.graph.graph import Attribute, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _cast(b: Builder, node: Node) -> Sequence[Value | None]:
    return [_to(b, node, text(node, "to", ""))]


def _cast_like(b: Builder, node: Node) -> Sequence[Value | None]:
    return [_to(b, node, required(node, 1).format.name)]


def _to(b: Builder, node: Node, target: str) -> Value:
    x = required(node, 0)
    if x.format.name == target:
        return x
    saturate = integer(node, "saturate", 1)
    if target == E8M0.name:
        mode: Attribute = text(node, "round_mode", "up")
        return b.op("Cast", x, to=target, saturate=saturate, round_mode=mode)
    return b.op("Cast", x, to=target, saturate=saturate)


RULES: tuple[LoweringRule, ...] = (
    rule("Cast", _cast, "to saturate round_mode"),
    rule("CastLike", _cast_like, "saturate round_mode"),
)
