"""Integer matrix products of com.microsoft: an int32 sum, then one scale."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, real, refuse, required
from accelsdk.compiler.rules.microsoft_common import (
    flat,
    microsoft,
    only_integers,
    transposed,
    widened_sum,
)
from accelsdk.compiler.rules.qlinear import integer_product
from accelsdk.compiler.rules.quantize import dynamically_quantized
from accelsdk.formats import FLOAT32, INT32
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _to_float(b: Builder, node: Node) -> Sequence[Value | None]:
    """MatMulIntegerToFloat: (A - a_zero)(B - b_zero) * (a_scale * b_scale) + bias."""
    a, w, a_scale, w_scale = (required(node, index) for index in range(4))
    only_integers(node, a, w)
    acc = integer_product(b, a, w, node.operand(4), node.operand(5))
    if a_scale.type.count != 1:
        refuse(node, "a scale for each row of A is not supported by onnxruntime either")
    scale = b.op("Mul", flat(b, a_scale), _columns(b, node, w, w_scale))
    return [widened_sum(b, acc, scale, node.operand(6))]


def _dynamic(b: Builder, node: Node) -> Sequence[Value | None]:
    """DynamicQuantizeMatMul: A is quantised to uint8 by its own range."""
    a, w, w_scale = (required(node, index) for index in range(3))
    only_integers(node, w)
    codes, a_scale, a_zero = dynamically_quantized(b, a)
    acc = integer_product(b, codes, w, a_zero, node.operand(3))
    scale = b.op("Mul", a_scale, _columns(b, node, w, w_scale))
    return [widened_sum(b, acc, scale, node.operand(4))]


def _columns(b: Builder, node: Node, w: Value, scale: Value) -> Value:
    """A scale as a scalar, or one for each column of B."""
    if scale.type.count not in (1, w.shape[-1]) and scale.type.rank < 2:
        refuse(node, f"its scale {scale.shape} does not fit the columns of {w.shape}")
    return flat(b, scale) if scale.type.count in (1, w.shape[-1]) else scale


def _gemm(b: Builder, node: Node) -> Sequence[Value | None]:
    """QGemm: alpha * (A' B' + C), C at the scale of the sum; float32 if there is no y_scale."""
    a, a_scale, a_zero, w, w_scale, w_zero = (required(node, index) for index in range(6))
    bias, y_scale, y_zero = (node.operand(index) for index in (6, 7, 8))
    only_integers(node, a, w)
    if a_scale.type.count != 1:
        refuse(node, "a scale for each row of A is not supported")
    left = transposed(b, a, (1, 0)) if integer(node, "transA", 0) else a
    right = transposed(b, w, (1, 0)) if integer(node, "transB", 0) else w
    acc = integer_product(b, left, right, flat(b, a_zero), flat(b, w_zero))
    vector = bias is not None and bias.shape in ((), (acc.shape[-1],))
    if bias is not None and not vector:
        acc = b.op("Add", acc, bias)
    scale = b.op("Mul", flat(b, a_scale), flat(b, w_scale))
    if (alpha := real(node, "alpha", 1.0)) != 1.0:
        scale = b.op("Mul", b.scalar(alpha, FLOAT32), scale)
    if y_scale is None:
        total = b.op("Add", acc, bias) if vector and bias is not None else acc
        return [widened_sum(b, total, scale, None)]
    multiplier = b.op("Div", scale, flat(b, y_scale))
    zero = None if y_zero is None else flat(b, y_zero)
    target = (a if y_zero is None else y_zero).format.name
    return [
        b.op(
            *("Requantize", acc, multiplier, None, zero, bias if vector else None),
            to=target,
            axis=1,
        )
    ]


def _int16(b: Builder, node: Node) -> Sequence[Value | None]:
    """MatMulInteger16: int16 operands, int32 sums."""
    wide = (b.op("Cast", required(node, index), to=INT32.name) for index in range(2))
    return [b.op("MatMul", *wide)]


RULES: tuple[LoweringRule, ...] = (
    microsoft("MatMulIntegerToFloat", _to_float),
    microsoft("DynamicQuantizeMatMul", _dynamic),
    microsoft("QGemm", _gemm, "alpha transA transB"),
    microsoft("MatMulInteger16", _int16),
)
