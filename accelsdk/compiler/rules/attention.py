"""Attention of opset 23, in the forms that the core composite has.

Other forms (3-D operands, caches, soft caps, extra results) go through the function body
that ONNX defines for the op.
"""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, real, required
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import ONNX, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_KNOWN = frozenset({"is_causal", "scale", "softmax_precision", "qk_matmul_output_mode"})


def _unfit(b: Builder, node: Node) -> str | None:
    """Returns why the composite does not cover a node, or None if it does."""
    first = [required(node, index) for index in range(3)]
    if any(value.type.rank != 4 for value in first):
        return "its operands are not 4-D"
    if any(value is not None for value in (*node.inputs[4:], *node.outputs[1:])):
        return "it has a cache, or results past the first"
    extra = set(node.attributes) - _KNOWN
    if extra:
        return f"attributes {sorted(extra)} are not supported"
    q, k = first[0], first[1]
    if integer(node, "is_causal", 0) and q.shape[2] != k.shape[2]:
        return "causal attention needs as many queries as keys"
    mask = node.operand(3)
    if mask is not None and (mask.type.rank < 1 or mask.shape[-1] != k.shape[2]):
        return "its mask is shorter than the keys"
    if node.attributes.get("softmax_precision", q.format.name) not in (
        q.format.name,
        FLOAT32.name,
    ):
        return "its softmax has another precision"
    return None


def _attention(b: Builder, node: Node) -> Sequence[Value | None]:
    q = required(node, 0)
    causal = integer(node, "is_causal", 0)
    scale = real(node, "scale", 0.0)
    return [b.op("Attention", q, *node.inputs[1:4], is_causal=causal, scale=scale)]


RULES: tuple[LoweringRule, ...] = (
    LoweringRule(domain=ONNX, op="Attention", rewrite=_attention, guard=_unfit),
)
