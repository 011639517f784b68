"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, refuse, required, rule, text
from accelsdk.formats import FLOAT32, UINT8
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


def quantize_linear(b: Builder, node: Node) -> Sequence[Value | None]:
    """Lowers QuantizeLinear; its `precision` is the format in which x / scale is computed."""
    x, scale, *zero = _operands(b, node)
    default = UINT8.name if not zero else zero[0].format.name
    target = text(node, "output_dtype", default)
    if zero and target != zero[0].format.name:
        refuse(node, f"output_dtype {target} differs from its zero point's {zero[0].format}")
    precision = text(node, "precision", scale.format.name)
    if precision != scale.format.name:
        scale = b.op("Cast", scale, to=precision)
    return [
        b.op(
            "Quantize",
            *(x, scale, *zero),
            to=target,
            axis=_axis(node, x.type.rank),
            block_size=integer(node, "block_size", 0),
            saturate=integer(node, "saturate", 1),
        )
    ]


def dequantize_linear(b: Builder, node: Node) -> Sequence[Value | None]:
    """Lowers DequantizeLinear."""
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


def dynamically_quantized(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """Emits uint8 codes of a float32 tensor, their scale and their zero point.

    The range of the data, extended to include 0, becomes 0 to 255. Data that are all zero get
    the scale 1, as in onnxruntime; ONNX's own function body divides 0 by 0 there.
    """
    nothing, one = b.scalar(0, FLOAT32), b.scalar(1, FLOAT32)
    low = high = nothing
    if x.type.count:
        axes = tuple(range(x.type.rank))
        low = b.op("Min", b.op("ReduceMin", x, axes=axes, keepdims=0), nothing)
        high = b.op("Max", b.op("ReduceMax", x, axes=axes, keepdims=0), nothing)
    scale = b.op("Div", b.op("Sub", high, low), b.scalar(255, FLOAT32))
    scale = b.op("Where", b.op("Equal", scale, nothing), one, scale)
    start = b.op("Div", b.op("Neg", low), scale)
    start = b.op("Round", b.op("Clip", start, nothing, b.scalar(255, FLOAT32)))
    zero = b.op("Cast", start, to=UINT8.name)
    return b.op("Quantize", x, scale, zero, to=UINT8.name), scale, zero


def _dynamic(b: Builder, node: Node) -> Sequence[Value | None]:
    return dynamically_quantized(b, required(node, 0))


RULES: tuple[LoweringRule, ...] = (
    rule("QuantizeLinear", quantize_linear, "axis block_size output_dtype precision saturate"),
    rule("DequantizeLinear", dequantize_linear, "axis block_size output_dtype"),
    rule("DynamicQuantizeLinear", _dynamic),
)
