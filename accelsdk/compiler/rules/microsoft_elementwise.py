"""Quantised elementwise ops of com.microsoft: dequantise, compute in float32, quantise.

That is how onnxruntime documents them. Its kernels fold the scales into two multipliers and
the zero point into one addend before they round, or read a table: a result next to a tie may
differ by one code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from accelsdk.compiler.rules.common import axis_of, integer, real, refuse, required, reshaped
from accelsdk.compiler.rules.microsoft_common import (
    dequantized,
    microsoft,
    only_integers,
    quantized,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_Unary = Callable[[Builder, Node, Value], Value]


def _binary(core: str) -> Callable[[Builder, Node], Sequence[Value | None]]:
    """Operands: A, scale, zero?, B, scale, zero?, then scale and zero? of the result."""

    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        a, c = required(node, 0), required(node, 3)
        only_integers(node, a, c)
        left = dequantized(b, a, required(node, 1), node.operand(2))
        right = dequantized(b, c, required(node, 4), node.operand(5))
        y = b.op(core, left, right)
        return [quantized(b, y, required(node, 6), node.operand(7), a.format)]

    return rewrite


def _unary(function: _Unary) -> Callable[[Builder, Node], Sequence[Value | None]]:
    """Operands: X, scale, zero?, then scale and zero? of the result."""

    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        only_integers(node, x)
        y = function(b, node, dequantized(b, x, required(node, 1), node.operand(2)))
        return [quantized(b, y, required(node, 3), node.operand(4), x.format)]

    return rewrite


def _sigmoid(b: Builder, _node: Node, x: Value) -> Value:
    return b.op("Sigmoid", x)


def _leaky_relu(b: Builder, node: Node, x: Value) -> Value:
    return b.op("LeakyRelu", x, alpha=real(node, "alpha", 0.01))


def _softmax(b: Builder, node: Node, x: Value) -> Value:
    """Until opset 12 all axes from `axis` on are one; its default is -1 in any opset."""
    opset, shape = integer(node, "opset", 13), x.shape
    axis = axis_of(node, integer(node, "axis", -1), x.type.rank)
    if opset >= 13:
        return b.op("Softmax", x, axis=axis)
    if x.type.count == 0:
        return x
    joined = reshaped(b, x, (*shape[:axis], math.prod(shape[axis:])))
    return reshaped(b, b.op("Softmax", joined, axis=axis), shape)


def _reduce_mean(b: Builder, node: Node, x: Value) -> Value:
    axes = node.attributes.get("axes", ())
    if not isinstance(axes, tuple):
        refuse(node, f"axes is {axes!r} instead of integers")
    found = {axis_of(node, int(axis), x.type.rank) for axis in axes} or range(x.type.rank)
    return b.op("ReduceMean", x, axes=tuple(sorted(found)), keepdims=integer(node, "keepdims", 1))


def _where(b: Builder, node: Node) -> Sequence[Value | None]:
    """Both branches are brought to the scale of the result, then chosen."""
    condition, scale, zero = required(node, 0), required(node, 7), required(node, 8)
    branches = []
    for at in (1, 4):
        codes, own_scale, own_zero = (required(node, at + i) for i in range(3))
        only_integers(node, codes)
        branches.append(_rescaled(b, codes, own_scale, own_zero, scale, zero))
    return [b.op("Where", condition, *branches)]


def _rescaled(
    b: Builder, codes: Value, own_scale: Value, own_zero: Value, scale: Value, zero: Value
) -> Value:
    """Codes at another scale; as they are if it is the same value of the model."""
    if (own_scale, own_zero) == (scale, zero):
        return codes
    return quantized(b, dequantized(b, codes, own_scale, own_zero), scale, zero, zero.format)


def _concat(b: Builder, node: Node) -> Sequence[Value | None]:
    """Operands: scale and zero point of the result, then codes, scale, zero point of each."""
    scale, zero = required(node, 0), required(node, 1)
    count, rest = divmod(len(node.inputs) - 2, 3)
    if count < 1 or rest:
        refuse(node, f"{len(node.inputs)} operands are no two and a triple for each part")
    parts = []
    for at in range(2, len(node.inputs), 3):
        codes, own_scale, own_zero = (required(node, at + i) for i in range(3))
        only_integers(node, codes)
        parts.append(_rescaled(b, codes, own_scale, own_zero, scale, zero))
    axis = axis_of(node, integer(node, "axis", 0), parts[0].type.rank)
    return [parts[0] if count == 1 else b.op("Concat", *parts, axis=axis)]


RULES: tuple[LoweringRule, ...] = (
    microsoft("QLinearAdd", _binary("Add")),
    microsoft("QLinearMul", _binary("Mul")),
    microsoft("QLinearSigmoid", _unary(_sigmoid)),
    microsoft("QLinearLeakyRelu", _unary(_leaky_relu), "alpha"),
    microsoft("QLinearSoftmax", _unary(_softmax), "axis opset"),
    microsoft("QLinearReduceMean", _unary(_reduce_mean), "axes keepdims"),
    microsoft("QLinearWhere", _where),
    microsoft("QLinearConcat", _concat, "axis"),
)
