"""Decompositions of the activations, after the function bodies of ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.decompose.common import floating, text
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def _zero(b: Builder, x: Value) -> Value:
    return b.scalar(0, x.format)


def _negative(b: Builder, x: Value) -> Value:
    return b.op("Less", x, _zero(b, x))


def _expm1(b: Builder, x: Value) -> Value:
    # Emitted as ONNX writes it; near 0 it loses relative, never absolute, accuracy.
    return b.op("Sub", b.op("Exp", x), b.scalar(1, x.format))


def relu(b: Builder, node: Node) -> Values:
    """max(x, 0)."""
    x = required(node, 0)
    return (b.op("Max", x, _zero(b, x)),)


def _leaky(b: Builder, x: Value, slope: Value) -> Value:
    return b.op("Where", _negative(b, x), b.op("Mul", slope, x), x)


def leaky_relu(b: Builder, node: Node) -> Values:
    """x, or alpha * x below 0."""
    x = required(node, 0)
    return (_leaky(b, x, b.scalar(floating(node, "alpha"), x.format)),)


def prelu(b: Builder, node: Node) -> Values:
    """x, or slope * x below 0."""
    return (_leaky(b, required(node, 0), required(node, 1)),)


def elu(b: Builder, node: Node) -> Values:
    """x, or alpha * (exp(x) - 1) below 0."""
    x = required(node, 0)
    curve = b.op("Mul", b.scalar(floating(node, "alpha"), x.format), _expm1(b, x))
    return (b.op("Where", _negative(b, x), curve, x),)


def selu(b: Builder, node: Node) -> Values:
    """Gamma * (x, or alpha * exp(x) - alpha at and below 0)."""
    x = required(node, 0)
    alpha = b.scalar(floating(node, "alpha"), x.format)
    gamma = b.scalar(floating(node, "gamma"), x.format)
    curve = b.op("Sub", b.op("Mul", b.op("Exp", x), alpha), alpha)
    positive = b.op("Greater", x, _zero(b, x))
    return (b.op("Mul", gamma, b.op("Where", positive, x, curve)),)


def celu(b: Builder, node: Node) -> Values:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    x = required(node, 0)
    alpha = b.scalar(floating(node, "alpha"), x.format)
    curve = b.op("Mul", alpha, _expm1(b, b.op("Div", x, alpha)))
    upper, lower = b.op("Max", _zero(b, x), x), b.op("Min", _zero(b, x), curve)
    return (b.op("Add", upper, lower),)


def clamp01(b: Builder, x: Value, alpha: float, beta: float) -> Value:
    """max(0, min(1, alpha * x + beta))."""
    line = b.op("Mul", x, b.scalar(alpha, x.format))
    line = b.op("Add", line, b.scalar(beta, x.format))
    return b.op("Max", b.op("Min", line, b.scalar(1, x.format)), _zero(b, x))


def hard_sigmoid(b: Builder, node: Node) -> Values:
    """max(0, min(1, alpha * x + beta))."""
    x = required(node, 0)
    return (clamp01(b, x, floating(node, "alpha"), floating(node, "beta")),)


def hard_swish(b: Builder, node: Node) -> Values:
    """X * max(0, min(1, x / 6 + 1 / 2))."""
    x = required(node, 0)
    return (b.op("Mul", x, clamp01(b, x, 1 / 6, 0.5)),)


def stable_softplus(b: Builder, x: Value) -> Value:
    """max(x, 0) + log(1 + exp(-|x|)), which neither overflows nor loses large x."""
    tail = b.op("Exp", b.op("Neg", b.op("Abs", x)))
    tail = b.op("Log", b.op("Add", tail, b.scalar(1, x.format)))
    return b.op("Add", b.op("Max", x, _zero(b, x)), tail)


def softplus(b: Builder, node: Node) -> Values:
    """log(1 + exp(x))."""
    return (stable_softplus(b, required(node, 0)),)


def softsign(b: Builder, node: Node) -> Values:
    """X / (1 + |x|)."""
    x = required(node, 0)
    return (b.op("Div", x, b.op("Add", b.op("Abs", x), b.scalar(1, x.format))),)


def mish(b: Builder, node: Node) -> Values:
    """X * tanh(softplus(x))."""
    x = required(node, 0)
    return (b.op("Mul", x, b.op("Tanh", stable_softplus(b, x))),)


def thresholded_relu(b: Builder, node: Node) -> Values:
    """X above alpha, else 0."""
    x = required(node, 0)
    above = b.op("Less", b.scalar(floating(node, "alpha"), x.format), x)
    return (b.op("Where", above, x, _zero(b, x)),)


def swish(b: Builder, node: Node) -> Values:
    """X * sigmoid(alpha * x)."""
    x, alpha = required(node, 0), floating(node, "alpha")
    scaled = x if alpha == 1 else b.op("Mul", x, b.scalar(alpha, x.format))
    return (b.op("Mul", x, b.op("Sigmoid", scaled)),)


def gelu(b: Builder, node: Node) -> Values:
    """X / 2 * (1 + erf(x / sqrt 2)), or the tanh approximation."""
    x = required(node, 0)
    half, one = b.scalar(0.5, x.format), b.scalar(1, x.format)
    if text(node, "approximate") == "tanh":
        cube = b.op("Mul", b.op("Mul", x, x), x)
        inner = b.op("Add", x, b.op("Mul", b.scalar(0.044715, x.format), cube))
        curve = b.op("Tanh", b.op("Mul", b.scalar(math.sqrt(2 / math.pi), x.format), inner))
    else:
        curve = b.op("Erf", b.op("Mul", x, b.scalar(math.sqrt(0.5), x.format)))
    return (b.op("Mul", b.op("Mul", half, x), b.op("Add", one, curve)),)


def clip(b: Builder, node: Node) -> Values:
    """min(max(x, min), max), in that order, so that max wins where they cross."""
    x, low, high = required(node, 0), node.operand(1), node.operand(2)
    if low is not None:
        x = b.op("Max", x, low)
    if high is not None:
        x = b.op("Min", x, high)
    return (x,)
