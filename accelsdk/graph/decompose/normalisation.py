"""Decompositions of Softmax and of the normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.decompose.common import cast_to, floating, reshape, whole, widened
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import product, required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def stable_softmax(b: Builder, x: Value, axis: int) -> Value:
    """Emits exp(x - max) / sum; a row of nothing but -Inf gives NaN, as in ONNX."""
    top = b.op("ReduceMax", x, axes=(axis,), keepdims=1)
    grown = b.op("Exp", b.op("Sub", x, top))
    return b.op("Div", grown, b.op("ReduceSum", grown, axes=(axis,), keepdims=1))


def softmax(b: Builder, node: Node) -> Values:
    """exp(x - max) / sum(exp(x - max))."""
    x = required(node, 0)
    y = stable_softmax(b, widened(b, x), whole(node, "axis") % x.type.rank)
    return (cast_to(b, y, x.format),)


def log_softmax(b: Builder, node: Node) -> Values:
    """(x - max) - log(sum(exp(x - max)))."""
    format, x = required(node, 0).format, widened(b, required(node, 0))
    axes = (whole(node, "axis") % x.type.rank,)
    shifted = b.op("Sub", x, b.op("ReduceMax", x, axes=axes, keepdims=1))
    total = b.op("ReduceSum", b.op("Exp", shifted), axes=axes, keepdims=1)
    return (cast_to(b, b.op("Sub", shifted, b.op("Log", total)), format),)


def _mean(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    total = b.op("ReduceSum", x, axes=axes, keepdims=1)
    return b.op("Div", total, b.scalar(product([x.shape[axis] for axis in axes]), x.format))


def _inverse_deviation(b: Builder, variance: Value, epsilon: float) -> Value:
    shifted = b.op("Add", variance, b.scalar(epsilon, variance.format))
    return b.op("Reciprocal", b.op("Sqrt", shifted))


def standardise(
    b: Builder, x: Value, axes: tuple[int, ...], epsilon: float
) -> tuple[Value, Value, Value]:
    """Emits (x - mean) / deviation over ``axes`` in two passes.

    Two passes (the mean first, then the mean of squared differences) stay right where the
    mean is large beside the deviation; the one-pass E[x^2] - E[x]^2 does not.

    Returns:
        The standardised tensor, the mean and the inverse deviation.
    """
    mean = _mean(b, x, axes)
    centred = b.op("Sub", x, mean)
    variance = _mean(b, b.op("Mul", centred, centred), axes)
    inverse = _inverse_deviation(b, variance, epsilon)
    return b.op("Mul", centred, inverse), mean, inverse


def layer(b: Builder, node: Node) -> Values:
    """Two-pass standardisation, then scale and bias in the format of X (ONNX 17)."""
    x, scale, bias = required(node, 0), required(node, 1), node.operand(2)
    axes = tuple(range(whole(node, "axis") % x.type.rank, x.type.rank))
    normal, mean, inverse = standardise(b, widened(b, x), axes, floating(node, "epsilon"))
    y = b.op("Mul", cast_to(b, normal, x.format), scale)
    if bias is not None:
        y = b.op("Add", y, bias)
    return y, mean, inverse


def rms(b: Builder, node: Node) -> Values:
    """X / sqrt(mean(x^2) + epsilon), then scale in the format of X (ONNX 23)."""
    x, scale = required(node, 0), required(node, 1)
    axes = tuple(range(whole(node, "axis") % x.type.rank, x.type.rank))
    wide = widened(b, x)
    square = _mean(b, b.op("Mul", wide, wide), axes)
    normal = b.op("Mul", wide, _inverse_deviation(b, square, floating(node, "epsilon")))
    return (b.op("Mul", cast_to(b, normal, x.format), scale),)


def _per_channel(b: Builder, given: Value, rank: int) -> Value:
    """Shapes a [C] operand so that it broadcasts along axis 1 of [N,C,...]."""
    return reshape(b, given, given.shape[0], *(1,) * (rank - 2))


def batch(b: Builder, node: Node) -> Values:
    """(x - mean) * (scale / sqrt(var + epsilon)) + B, in float32 at least."""
    x = required(node, 0)
    scale, bias, mean, variance = (widened(b, required(node, i)) for i in range(1, 5))
    factor = b.op("Mul", scale, _inverse_deviation(b, variance, floating(node, "epsilon")))
    rank = x.type.rank
    y = b.op("Sub", widened(b, x), _per_channel(b, mean, rank))
    y = b.op("Mul", y, _per_channel(b, factor, rank))
    return (cast_to(b, b.op("Add", y, _per_channel(b, bias, rank)), x.format),)


def instance(b: Builder, node: Node) -> Values:
    """Standardises over all axes but the first two, then scale and bias per channel."""
    x, rank = required(node, 0), required(node, 0).type.rank
    axes = tuple(range(2, rank))
    normal, _, _ = standardise(b, widened(b, x), axes, floating(node, "epsilon"))
    return (_channel_affine(b, cast_to(b, normal, x.format), node),)


def group(b: Builder, node: Node) -> Values:
    """Standardises each group of channels, then scale and bias per channel (ONNX 21)."""
    x, groups = required(node, 0), whole(node, "num_groups")
    rows = reshape(b, widened(b, x), x.shape[0], groups, product(x.shape[1:]) // groups)
    normal, _, _ = standardise(b, rows, (2,), floating(node, "epsilon"))
    normal = reshape(b, normal, *x.shape)
    return (_channel_affine(b, cast_to(b, normal, x.format), node),)


def _channel_affine(b: Builder, normal: Value, node: Node) -> Value:
    rank = normal.type.rank
    scaled = b.op("Mul", normal, _per_channel(b, required(node, 1), rank))
    return b.op("Add", scaled, _per_channel(b, required(node, 2), rank))
