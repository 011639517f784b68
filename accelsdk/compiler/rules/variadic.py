"""Sum, Mean, Max and Min of any number of operands, as chains of two-operand ops.

The chain goes from left to right, which is the order in which NumPy and onnxruntime add.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from accelsdk.compiler.rules.common import Rewrite, refuse, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _chain(core: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        operands = [value for value in node.inputs if value is not None]
        if not operands:
            refuse(node, "it has no operands")
        return [reduce(lambda x, y: b.op(core, x, y), operands)]

    return rewrite


def _mean(b: Builder, node: Node) -> Sequence[Value | None]:
    total = _chain("Add")(b, node)[0]
    if total is None or len(node.inputs) == 1:
        return [total]
    return [b.op("Div", total, b.scalar(len(node.inputs), total.format))]


RULES: tuple[LoweringRule, ...] = (
    rule("Sum", _chain("Add")),
    rule("Max", _chain("Max")),
    rule("Min", _chain("Min")),
    rule("Mean", _mean),
)
