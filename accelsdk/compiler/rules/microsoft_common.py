"""What the rules of the domain com.microsoft share.

onnxruntime is the only implementation of the domain, and its documentation (ContribOperators.md)
the only definition. Where its kernels take short cuts (look-up tables, multipliers folded in
float32, rounding after the zero point is added), a quantised result may differ from the
definition by one code; these rules follow the definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from accelsdk.compiler.rules.common import Rewrite, refuse, reshaped, rule
from accelsdk.formats import FLOAT32, Format
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

MICROSOFT = "com.microsoft"


def microsoft(op: str, rewrite: Rewrite, attributes: str = "") -> LoweringRule:
    """Returns a rule for an op of com.microsoft; see `rule`."""
    return rule(op, rewrite, attributes, MICROSOFT)


def same_as(rules: Iterable[LoweringRule], op: str) -> Rewrite:
    """Returns the rewrite of an op of ai.onnx, for an op that means the same."""
    return next(found.rewrite for found in rules if found.op == op)


def transposed(b: Builder, value: Value, perm: Sequence[int]) -> Value:
    """Returns a value with its axes in another order."""
    if tuple(perm) == tuple(range(value.type.rank)):
        return value
    return b.op("Transpose", value, perm=tuple(perm))


def flat(b: Builder, value: Value) -> Value:
    """Returns a scale or zero point as a scalar, or as a vector if it has several items."""
    return reshaped(b, value, () if value.type.count == 1 else (value.type.count,))


def dequantized(
    b: Builder, q: Value, scale: Value, zero: Value | None, axis: int = 0, to: Format = FLOAT32
) -> Value:
    """Returns ``(q - zero) * scale``; parameters of several items lie along ``axis``."""
    operands = (q, flat(b, scale), *(() if zero is None else (flat(b, zero),)))
    return b.op("Dequantize", *operands, axis=axis, to=to.name)


def quantized(b: Builder, x: Value, scale: Value, zero: Value | None, to: Format) -> Value:
    """Returns codes of ``x``; scale and zero point are per tensor."""
    operands = (x, flat(b, scale), *(() if zero is None else (flat(b, zero),)))
    return b.op("Quantize", *operands, to=to.name)


def widened_sum(b: Builder, acc: Value, scale: Value, bias: Value | None) -> Value:
    """Returns ``float32(acc) * scale + bias``; both broadcast against the last axis."""
    result = b.op("Mul", b.op("Cast", acc, to=FLOAT32.name), scale)
    return result if bias is None else b.op("Add", result, bias)


def only_integers(node: Node, *values: Value) -> None:
    """Refuses operands that are no 8-bit integers."""
    for value in values:
        if not value.format.is_integer or value.format.bits != 8:
            refuse(node, f"an operand is {value.format}; it must be int8 or uint8")
