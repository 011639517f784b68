"""QLinearMatMul and QLinearConv: an integer contraction, then Requantize.

The multiplier is ``a_scale * b_scale / y_scale`` in float32, as ONNX defines it; it is
constant, and folded, wherever the scales are.
"""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, refuse, required, rule
from accelsdk.compiler.rules.windows import NAMES, window
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _flat(b: Builder, value: Value) -> Value:
    """A scale or zero point as a scalar, or as a vector for each channel."""
    shape = () if value.type.count == 1 else (value.type.count,)
    return value if value.shape == shape else b.op("Reshape", value, shape=shape)


def _multiplier(b: Builder, node: Node, a: Value, w: Value, y: Value) -> Value:
    a, w, y = (_flat(b, scale) for scale in (a, w, y))
    if a.shape or y.shape:
        refuse(node, "a scale for each row of the first operand or result is not supported")
    return b.op("Div", b.op("Mul", a, w), y)


def _matmul(b: Builder, node: Node) -> Sequence[Value | None]:
    a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero = (
        required(node, index) for index in range(8)
    )
    if w_scale.type.count > 1 and w.type.rank > 2:
        refuse(node, "scales for each column of stacked matrices are not supported")
    acc = b.op("MatMulInteger", a, w, _flat(b, a_zero), _flat(b, w_zero))
    multiplier = _multiplier(b, node, a_scale, w_scale, y_scale)
    zero = _flat(b, y_zero)
    axis = max(acc.type.rank - 1, 0)
    return [b.op("Requantize", acc, multiplier, None, zero, None, to=y_zero.format.name, axis=axis)]


def _conv(b: Builder, node: Node) -> Sequence[Value | None]:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (
        required(node, index) for index in range(8)
    )
    shape = window(node, x.shape, w.shape[2:])
    acc = b.op(
        "ConvInteger",
        *(x, w, _flat(b, x_zero), _flat(b, w_zero)),
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        group=integer(node, "group", 1),
    )
    multiplier = _multiplier(b, node, x_scale, w_scale, y_scale)
    zero, bias = _flat(b, y_zero), node.operand(8)
    target = y_zero.format.name
    return [b.op("Requantize", acc, multiplier, None, zero, bias, to=target, axis=1)]


RULES: tuple[LoweringRule, ...] = (
    rule("QLinearMatMul", _matmul),
    rule("QLinearConv", _conv, f"{NAMES} group"),
)
