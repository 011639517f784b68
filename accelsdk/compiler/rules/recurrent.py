"""LSTM, GRU and RNN: composites of the core table under the same name."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import Rewrite, integer, ops, refuse, required, rule
from accelsdk.graph.graph import Attribute, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_COMMON = "direction hidden_size activations activation_alpha activation_beta clip layout"


def _recurrent(results: int) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        r = required(node, 2)
        hidden = integer(node, "hidden_size", r.shape[-1] if r.shape else 0)
        if not r.shape or hidden != r.shape[-1]:
            refuse(node, f"hidden_size {hidden} differs from the recurrent weights' {r.shape}")
        carried: dict[str, Attribute] = {**node.attributes, "hidden_size": hidden}
        made = ops(b, node.op, *node.inputs, outputs=results, **carried)
        return [
            value if index < len(node.outputs) and node.outputs[index] is not None else None
            for index, value in enumerate(made)
        ]

    return rewrite


RULES: tuple[LoweringRule, ...] = (
    rule("LSTM", _recurrent(3), f"{_COMMON} input_forget"),
    rule("GRU", _recurrent(2), f"{_COMMON} linear_before_reset"),
    rule("RNN", _recurrent(2), _COMMON),
)
