"""Rotary position embedding (arXiv 2104.09864): pairs of a head turned by their position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import integer, real, refuse, required, reshaped
from accelsdk.compiler.rules.microsoft_common import microsoft, transposed
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def rotated(b: Builder, x: Value, cos: Value, sin: Value, interleaved: bool) -> Value:
    """Turns the first items of each head; the rest stay.

    Args:
        b: Where to.
        x: [batch, heads, length, size].
        cos: Cosines that broadcast against [batch, 1, length, half]; 2 * half <= size.
        sin: Sines of the same shape.
        interleaved: Whether a pair is two neighbours, rather than one item of each half.
    """
    half, size = cos.shape[-1], x.shape[-1]
    parts = b.split(x, 3, (2 * half, size - 2 * half) if 2 * half < size else (size,))
    turned = parts[0]
    if interleaved:
        pairs = reshaped(b, turned, (*x.shape[:3], half, 2))
        first, second = (reshaped(b, p, (*x.shape[:3], half)) for p in b.split(pairs, 4, (1, 1)))
    else:
        first, second = b.split(turned, 3, (half, half))
    left = b.op("Sub", b.op("Mul", first, cos), b.op("Mul", second, sin))
    right = b.op("Add", b.op("Mul", second, cos), b.op("Mul", first, sin))
    if interleaved:
        columns = [reshaped(b, v, (*v.shape, 1)) for v in (left, right)]
        turned = reshaped(b, b.op("Concat", *columns, axis=4), turned.shape)
    else:
        turned = b.op("Concat", left, right, axis=3)
    return turned if len(parts) == 1 else b.op("Concat", turned, parts[1], axis=3)


def angles(b: Builder, cache: Value, positions: Value) -> Value:
    """Rows of a cache [longest, half] at positions [batch, length], for all heads alike."""
    rows = b.op("Gather", cache, positions, axis=0)
    batch, length, half = rows.shape
    return reshaped(b, rows, (batch, 1, length, half))


def _rotary(b: Builder, node: Node) -> Sequence[Value | None]:
    """Of [batch, heads, length, size], or [batch, length, heads * size] as it was projected."""
    x, positions, cos, sin = (required(node, index) for index in range(4))
    if integer(node, "is_packed_batching", 0):
        refuse(node, "is_packed_batching is not supported")
    if x.type.rank not in (3, 4):
        refuse(node, f"its operand {x.shape} is neither 3-D nor 4-D")
    if (scale := real(node, "scale", 1.0)) != 1.0:
        refuse(node, f"scale {scale} is not supported; onnxruntime on CPU ignores it")
    heads = x if x.type.rank == 4 else _heads(b, node, x, cos)
    batch, _, length, _ = heads.shape
    if positions.type.count == 1:
        steps = b.constant(np.arange(length, dtype=np.int64).reshape(1, length), INT64)
        positions = b.op("Add", steps, reshaped(b, positions, (1, 1)))
    elif positions.shape != (batch, length):
        refuse(node, f"its position_ids {positions.shape} are not [batch, length]")
    interleaved = bool(integer(node, "interleaved", 0))
    turns = [angles(b, cache, positions) for cache in (cos, sin)]
    y = rotated(b, heads, turns[0], turns[1], interleaved)
    if x.type.rank == 4:
        return [y]
    return [reshaped(b, transposed(b, y, (0, 2, 1, 3)), x.shape)]


def _heads(b: Builder, node: Node, x: Value, cos: Value) -> Value:
    batch, length, hidden = x.shape
    count = integer(node, "num_heads", 0)
    size = hidden // count if count else 2 * cos.shape[-1]
    if size < 2 * cos.shape[-1] or hidden % size:
        refuse(node, f"{hidden} items are no heads of {size} with caches of {cos.shape[-1]}")
    split = reshaped(b, x, (batch, length, hidden // size, size))
    return transposed(b, split, (0, 2, 1, 3))


RULES: tuple[LoweringRule, ...] = (
    microsoft(
        "RotaryEmbedding",
        _rotary,
        "interleaved num_heads rotary_embedding_dim scale is_packed_batching",
    ),
)
