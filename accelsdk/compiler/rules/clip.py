"""Clip: bounds are operands, or attributes before opset 11."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _clip(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    low, high = (_bound(b, node, x, index, name) for index, name in ((1, "min"), (2, "max")))
    return [x] if low is None and high is None else [b.op("Clip", x, low, high)]


def _bound(b: Builder, node: Node, x: Value, index: int, name: str) -> Value | None:
    given = node.attributes.get(name)
    if isinstance(given, (int, float)):
        return b.scalar(given, x.format)
    value = node.operand(index)
    if value is None:
        return None
    if value.format is not x.format:  # onnx makes float32 operands of the old attributes
        value = b.op("Cast", value, to=x.format.name)
    if value.shape == ():
        return value
    return b.op("Reshape", value, shape=())  # some exporters write one-element vectors


RULES: tuple[LoweringRule, ...] = (rule("Clip", _clip, "min max"),)
