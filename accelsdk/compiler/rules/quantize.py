"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, refuse, required, rule, text
from accelsdk.formats import UINT8
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _operands(b: Builder, node: Node) -> tuple[Value, ...]:
    """The operands; a scale of one element is per tensor, whatever its rank."""
    x, scale, zero = required(node, 0), required(node, 1), node.operand(2)
    if not integer(node, "block_size", 0) and scale.type.count == 1:
        scale = _scalar(b, scale)
        zero = None if zero is None else _scalar(b, zero)
    return (x, scale) if zero is None else (x, scale, zero)


def _scalar(b: Builder, value: Value) -> Value:
    return value if value.shape == () else b.op("Reshape", value, shape=())


def _axis(node: Node, rank: int) -> int:
    axis = integer(node, "axis", 1)
    # Per tensor the axis has no meaning, and may be out of range for low ranks.
    return axis % rank if rank and -rank <= axis < rank else 0


def _quantize(b: Builder, node: Node) -> Sequence[Value | None]:
    operands = _operands(b, node)
    x, scale = operands[:2]
    zero = operands[2] if len(operands) > 2 else None
    default = UINT8.name if zero is None else zero.format.name
    target = text(node, "output_dtype", default)
    if zero is not None and target != zero.format.name:
        refuse(node, f"output_dtype {target} differs from its zero point's {zero.format}")
    if text(node, "precision", scale.format.name) != scale.format.name:
        refuse(node, "a precision other than that of its scale is not supported")
    return [
        b.op(
            "Quantize",
            *operands,
            to=target,
            axis=_axis(node, x.type.rank),
            block_size=integer(node, "block_size", 0),
            saturate=integer(node, "saturate", 1),
        )
    ]


def _dequantize(b: Builder, node: Node) -> Sequence[Value | None]:
    operands = _operands(b, node)
    return [
        b.op(
            "Dequantize",
            *operands,
            to=text(node, "output_dtype", operands[1].format.name),
            axis=_axis(node, operands[0].type.rank),
            block_size=integer(node, "block_size", 0),
        )
    ]


RULES: tuple[LoweringRule, ...] = (
    rule("QuantizeLinear", _quantize, "axis block_size output_dtype precision saturate"),
    rule("DequantizeLinear", _dequantize, "axis block_size output_dtype"),
)
