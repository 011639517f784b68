"""MatMulInteger, QLinearMatMul and QLinearConv: integer contractions, then Requantize.

The multiplier is ``a_scale * b_scale / y_scale`` in float32, as ONNX defines it; it is
constant, and folded, wherever the scales are. Scales of float16 and bfloat16 are widened first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import integer, refuse, required, reshaped, rule
from accelsdk.compiler.rules.windows import NAMES, window
from accelsdk.formats import FLOAT32, INT32
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def integer_product(
    b: Builder, a: Value, w: Value, a_zero: Value | None, w_zero: Value | None
) -> Value:
    """Emits the int32 sum of ``(a - a_zero) * (w - w_zero)``, wrapping.

    Args:
        b: Where to.
        a: 8-bit integers, [..., M, K].
        w: 8-bit integers, [..., K, N].
        a_zero: A scalar, one a row ([M] or [M, 1]), or one a row of each matrix ([..., M, 1]).
        w_zero: A scalar, one a column ([N] or [1, N]), or one a column of each matrix
            ([..., 1, N]).
    """
    rows, columns = _extent(a, -2), _extent(w, -1)
    if _fits(a_zero, rows) and _fits(w_zero, columns):
        zeros = tuple(None if zero is None else _flat(b, zero) for zero in (a_zero, w_zero))
        return b.op("MatMulInteger", a, w, *zeros)
    # Zero points that differ between the matrices of a stack: subtracted beforehand.
    left = _centred(b, a, None if a_zero is None else _column(b, a_zero, rows))
    return b.op("MatMul", left, _centred(b, w, w_zero))


def _extent(value: Value, axis: int) -> int | None:
    return value.shape[axis] if value.type.rank > 1 else None


def _fits(zero: Value | None, extent: int | None) -> bool:
    return zero is None or zero.type.count in (1, extent)


def _centred(b: Builder, codes: Value, zero: Value | None) -> Value:
    wide = b.op("Cast", codes, to=INT32.name)
    return wide if zero is None else b.op("Sub", wide, b.op("Cast", zero, to=INT32.name))


def _flat(b: Builder, value: Value) -> Value:
    """A scale or zero point as a scalar, or as a vector for each channel."""
    return reshaped(b, value, () if value.type.count == 1 else (value.type.count,))


def _column(b: Builder, value: Value, rows: int | None) -> Value:
    """A scale or zero point for each row, so that it broadcasts against [..., M, N]."""
    if value.type.rank == 1 and value.shape == (rows,):
        return reshaped(b, value, (value.type.count, 1))
    return value


def _wide(b: Builder, scale: Value) -> Value:
    return scale if scale.format is FLOAT32 else b.op("Cast", scale, to=FLOAT32.name)


def _matmul_integer(b: Builder, node: Node) -> Sequence[Value | None]:
    a, w = required(node, 0), required(node, 1)
    return [integer_product(b, a, w, node.operand(2), node.operand(3))]


def _matmul(b: Builder, node: Node) -> Sequence[Value | None]:
    a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero = (
        required(node, index) for index in range(8)
    )
    if a.format.is_float:
        return [_float_matmul(b, node)]
    acc = integer_product(b, a, w, a_zero, w_zero)
    a_scale, w_scale, y_scale = (_wide(b, s) for s in (a_scale, w_scale, y_scale))
    target, rank = y_zero.format.name, acc.type.rank
    per_row = a_scale.type.count > 1 or y_scale.type.count > 1 or y_zero.type.count > 1
    if not per_row and _fits(w_scale, _extent(w, -1)):
        product = b.op("Mul", _flat(b, a_scale), _flat(b, w_scale))
        multiplier = b.op("Div", product, _flat(b, y_scale))
        zero, axis = _flat(b, y_zero), max(rank - 1, 0)
        return [b.op("Requantize", acc, multiplier, None, zero, None, to=target, axis=axis)]
    rows = _extent(a, -2)
    a_scale, y_scale, y_zero = (_column(b, v, rows) for v in (a_scale, y_scale, y_zero))
    multiplier = b.op("Div", b.op("Mul", a_scale, w_scale), y_scale)
    scaled = b.op("Mul", b.op("Cast", acc, to=FLOAT32.name), multiplier)
    return [_rounded(b, node, scaled, y_zero)]


def _rounded(b: Builder, node: Node, scaled: Value, zero: Value) -> Value:
    """Codes of values already divided by their scale; ``zero`` is a scalar or one a row."""
    target, rank = zero.format.name, scaled.type.rank
    if zero.type.count == 1:
        one = b.scalar(1, FLOAT32)
        return b.op("Quantize", scaled, one, _flat(b, zero), to=target)
    wanted = (*scaled.shape[:-1], 1)
    if zero.type.rank > rank or zero.shape[-1] != 1:
        refuse(node, f"its y_zero_point {zero.shape} does not fit the result {scaled.shape}")
    every = b.op("Expand", zero, shape=wanted)
    ones = b.constant(np.ones(wanted, np.float32))
    block = max(scaled.shape[-1], 1)
    return b.op("Quantize", scaled, ones, every, to=target, axis=rank - 1, block_size=block)


def _float_matmul(b: Builder, node: Node) -> Value:
    """QLinearMatMul over FP8 codes: summed in float32, scaled once, quantised again."""
    a, a_scale, _, w, w_scale, _, y_scale, y_zero = (required(node, index) for index in range(8))
    a_scale, w_scale, y_scale = (_wide(b, s) for s in (a_scale, w_scale, y_scale))
    if y_scale.type.count > 1:
        refuse(node, "a scale for each row of an FP8 result is not supported")
    if a_scale.type.count > 1:
        column = _column(b, a_scale, _extent(a, -2))
        a_scale = b.op("Expand", column, shape=(*a.shape[:-1], 1))
    if w_scale.type.count > 1:
        w_scale = b.op("Expand", w_scale, shape=(*w.shape[:-2], 1, w.shape[-1]))
    scales = (s if s.type.count > 1 else _flat(b, s) for s in (a_scale, w_scale))
    y = b.op("ScaledMatMul", a, w, *scales)
    return b.op("Quantize", y, _flat(b, y_scale), to=y_zero.format.name)


def qlinear_conv(b: Builder, node: Node) -> Sequence[Value | None]:
    """Lowers QLinearConv, channels first."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (
        required(node, index) for index in range(8)
    )
    if x_scale.type.count > 1 or y_scale.type.count > 1:
        refuse(node, "a scale for each channel of its first operand or result is not ONNX")
    shape = window(node, x.shape, w.shape[2:])
    acc = b.op(
        "ConvInteger",
        *(x, w, _flat(b, x_zero), _flat(b, w_zero)),
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        group=integer(node, "group", 1),
    )
    scales = (_flat(b, _wide(b, s)) for s in (x_scale, w_scale))
    multiplier = b.op("Div", b.op("Mul", *scales), _flat(b, _wide(b, y_scale)))
    zero, bias = _flat(b, y_zero), node.operand(8)
    target = y_zero.format.name
    return [b.op("Requantize", acc, multiplier, None, zero, bias, to=target, axis=1)]


RULES: tuple[LoweringRule, ...] = (
    rule("MatMulInteger", _matmul_integer),
    rule("QLinearMatMul", _matmul),
    rule("QLinearConv", qlinear_conv, f"{NAMES} group"),
)
