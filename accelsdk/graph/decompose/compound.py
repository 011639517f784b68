"""Decompositions of Gemm and Attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import BOOL
from accelsdk.graph.decompose.common import cast_to, floating, reshape, transpose, whole, widened
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def _scaled(b: Builder, x: Value, factor: float) -> Value:
    if factor == 1:
        return x
    if x.format.is_float:
        return b.op("Mul", x, b.scalar(factor, x.format))
    # ONNX scales integers by the factor truncated to their type.
    return b.op("Mul", x, b.scalar(int(factor), x.format))


def gemm(b: Builder, node: Node) -> Values:
    """Alpha * (A B) + beta * C."""
    a, weights, c = required(node, 0), required(node, 1), node.operand(2)
    left = transpose(b, a, 1, 0) if whole(node, "transA") else a
    right = transpose(b, weights, 1, 0) if whole(node, "transB") else weights
    y = _scaled(b, b.op("MatMul", left, right), floating(node, "alpha"))
    if c is not None:
        y = b.op("Add", y, _scaled(b, c, floating(node, "beta")))
    return (y,)


def attention(b: Builder, node: Node) -> Values:
    """softmax(Q K' * scale + mask) V, in which a fully masked row gives zeros."""
    q, k, v = (required(node, index) for index in range(3))
    scale = floating(node, "scale") or 1 / math.sqrt(max(q.shape[3], 1))
    # The root of the scale on both operands keeps the products small in float16 (ONNX 23).
    root = b.scalar(math.sqrt(abs(scale)), q.format)
    query = b.op("Mul", q, root if scale > 0 else b.op("Neg", root))
    keys = b.op("Mul", transpose(b, _repeated(b, k, q.shape[1]), 0, 1, 3, 2), root)
    scores = b.op("MatMul", query, keys)
    for mask in _masks(b, node, scores):
        if mask.format == BOOL:
            nothing = b.scalar(-np.inf, scores.format)
            scores = b.op("Where", mask, scores, nothing)
        else:
            scores = b.op("Add", scores, mask)
    weights = cast_to(b, _masked_softmax(b, widened(b, scores)), scores.format)
    return (b.op("MatMul", weights, _repeated(b, v, q.shape[1])),)


def _masks(b: Builder, node: Node, scores: Value) -> list[Value]:
    masks = [mask for mask in (node.operand(3),) if mask is not None]
    if whole(node, "is_causal"):
        rows, columns = scores.shape[2:]
        masks.append(b.constant(np.tri(rows, columns, dtype=np.bool_)))
    return masks


def _repeated(b: Builder, x: Value, heads: int) -> Value:
    """Repeats each head of K or V for the queries that share it."""
    batch, own, length, size = x.shape
    if own == heads:
        return x
    x = reshape(b, x, batch, own, 1, length, size)
    x = b.op("Expand", x, shape=(batch, own, heads // own, length, size))
    return reshape(b, x, batch, heads, length, size)


def _masked_softmax(b: Builder, scores: Value) -> Value:
    """Softmax over the last axis in which a row of nothing but -Inf gives zeros."""
    if scores.shape[3] == 0:
        return scores
    top = b.op("ReduceMax", scores, axes=(3,), keepdims=1)
    zero = b.scalar(0, scores.format)
    masked = b.op("IsInf", top, detect_positive=0)
    grown = b.op("Exp", b.op("Sub", scores, b.op("Where", masked, zero, top)))
    total = b.op("ReduceSum", grown, axes=(3,), keepdims=1)
    return b.op("Div", grown, b.op("Where", masked, b.scalar(1, scores.format), total))
