"""Attention, QAttention and MultiHeadAttention of com.microsoft.

A masked key is not left out: `mask_filter_value`, -10000 by default, is added to its score.
Keys ahead of a query are left out altogether where attention is causal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import integer, real, refuse, required, reshaped
from accelsdk.compiler.rules.microsoft_common import flat, microsoft, transposed, widened_sum
from accelsdk.compiler.rules.qlinear import integer_product
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_MASKED = -10000.0


def heads(b: Builder, x: Value, count: int) -> Value:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, hidden = x.shape
    return transposed(b, reshaped(b, x, (batch, length, count, hidden // count)), (0, 2, 1, 3))


def joined(b: Builder, x: Value) -> Value:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, count, length, size = x.shape
    return reshaped(b, transposed(b, x, (0, 2, 1, 3)), (batch, length, count * size))


def causal(b: Builder, rows: int, columns: int, like: Value, window: int = 0) -> Value:
    """What to add to scores so that a query sees no key ahead of it.

    Args:
        b: Where to.
        rows: Queries; the last of them is at the position of the last key.
        columns: Keys.
        like: The scores' format.
        window: Keys that a query sees, itself included; 0: all up to its own position.
    """
    ahead = columns - rows
    seen = np.tri(rows, columns, ahead, dtype=np.bool_)
    if window:
        seen &= ~np.tri(rows, columns, ahead - window, dtype=np.bool_)
    mask = np.where(seen, 0, -np.inf).astype(like.format.dtype)
    return b.constant(mask.reshape(1, 1, rows, columns), like.format)


def total(b: Builder, parts: Sequence[Value | None]) -> Value | None:
    """The sum of those addends that there are."""
    found: Value | None = None
    for part in parts:
        if part is not None:
            found = part if found is None else b.op("Add", found, part)
    return found


def _attention(b: Builder, node: Node) -> Sequence[Value | None]:
    """Projects the input to Q, K and V, then attends."""
    _no_sharing(node, 6)
    x, weights, bias = required(node, 0), required(node, 1), node.operand(2)
    projected = b.op("MatMul", x, weights)
    if bias is not None:
        projected = b.op("Add", projected, bias)
    given = node.attributes.get("qkv_hidden_sizes")
    widths = (projected.shape[-1] // 3,) * 3
    if isinstance(given, tuple):
        widths = (int(given[0]), int(given[1]), int(given[2]))
    return _projected(b, node, projected, widths, node.operand(3), node.operand(4), node.operand(5))


def _quantised_attention(b: Builder, node: Node) -> Sequence[Value | None]:
    """Attention whose projection is an integer product."""
    _no_sharing(node, 9)
    x, weights, bias, x_scale, w_scale = (required(node, index) for index in range(5))
    acc = integer_product(b, x, weights, node.operand(6), node.operand(7))
    scale = b.op("Mul", flat(b, x_scale), flat(b, w_scale))
    projected = widened_sum(b, acc, scale, bias)
    widths = (projected.shape[-1] // 3,) * 3
    return _projected(b, node, projected, widths, node.operand(5), node.operand(8), None)


def _no_sharing(node: Node, first: int) -> None:
    if integer(node, "past_present_share_buffer", 0) or node.operand(first) is not None:
        refuse(node, "past and present in one buffer (past_present_share_buffer) is not supported")
    if integer(node, "do_rotary", 0):
        refuse(node, "do_rotary is not supported; onnxruntime has it on other devices only")


def _projected(
    b: Builder,
    node: Node,
    projected: Value,
    widths: tuple[int, int, int],
    mask: Value | None,
    past: Value | None,
    bias: Value | None,
) -> Sequence[Value | None]:
    count = integer(node, "num_heads", 0)
    if projected.type.rank != 3 or count < 1 or any(width % count for width in widths):
        refuse(node, f"num_heads {count} does not divide {widths} of {projected.shape}")
    q, k, v = (heads(b, part, count) for part in b.split(projected, 2, widths))
    if past is not None:
        halves = (reshaped(b, p, p.shape[1:]) for p in b.split(past, 0, (1, 1)))
        k, v = (b.op("Concat", old, new, axis=2) for old, new in zip(halves, (k, v), strict=True))
    present = None
    if len(node.outputs) > 1 and node.outputs[1] is not None:
        present = b.op("Concat", *(reshaped(b, p, (1, *p.shape)) for p in (k, v)), axis=0)
    return [_attended(b, node, q, k, v, mask, bias), present]


def _attended(
    b: Builder, node: Node, q: Value, k: Value, v: Value, mask: Value | None, bias: Value | None
) -> Value:
    rows, columns = q.shape[2], k.shape[2]
    addends = [
        causal(b, rows, columns, q) if integer(node, "unidirectional", 0) else None,
        None if mask is None else _mask(b, node, mask, q, columns),
        bias,
    ]
    scale = real(node, "scale", 0.0)
    return joined(b, b.op("Attention", q, k, v, total(b, addends), scale=scale))


def _mask(b: Builder, node: Node, mask: Value, q: Value, columns: int) -> Value:
    """What to add to scores [batch, heads, rows, columns] for one of the forms of a mask."""
    batch, _, rows, _ = q.shape
    if mask.shape in ((batch,), (2 * batch,)):
        # Where the keys of each item end and, after all ends, where they start.
        steps = b.constant(np.arange(columns, dtype=np.int64).reshape(1, columns), INT64)
        wide = b.op("Cast", mask, to=INT64.name)
        bounds = b.split(wide, 0, (batch,) * (mask.type.count // batch))
        seen = b.op("Less", steps, reshaped(b, bounds[0], (batch, 1)))
        if len(bounds) > 1:
            from_start = b.op("GreaterOrEqual", steps, reshaped(b, bounds[1], (batch, 1)))
            seen = b.op("And", seen, from_start)
        shape = (batch, 1, 1, columns)
    elif mask.shape in ((batch, columns), (batch, rows, columns)):
        seen = b.op("Greater", mask, b.scalar(0, mask.format))
        shape = (batch, 1, rows if mask.type.rank == 3 else 1, columns)
    else:
        refuse(
            node,
            f"its mask {mask.shape} is not supported; it may be ({batch},), ({2 * batch},), "
            f"({batch}, {columns}) or ({batch}, {rows}, {columns})",
        )
    zero, low = b.scalar(0, q.format), b.scalar(real(node, "mask_filter_value", _MASKED), q.format)
    return b.op("Where", reshaped(b, seen, shape), zero, low)


def _multi_head(b: Builder, node: Node) -> Sequence[Value | None]:
    """Attention over queries, keys and values that are projected already."""
    if any(node.operand(index) is not None for index in range(8, 11)):
        refuse(node, "past_sequence_length and cache_indirection are not supported")
    if len(node.outputs) > 3 and node.outputs[3] is not None:
        refuse(node, "its result 'qk' is not supported")
    count = integer(node, "num_heads", 0)
    if count < 1:
        refuse(node, f"num_heads is {count}")
    q, k, v = _unpacked(b, node, count)
    past = (node.operand(6), node.operand(7))
    if past[0] is not None and past[1] is not None:
        k, v = b.op("Concat", past[0], k, axis=2), b.op("Concat", past[1], v, axis=2)
    y = _attended(b, node, q, k, v, node.operand(4), node.operand(5))
    return [y, k, v]


def _unpacked(b: Builder, node: Node, count: int) -> tuple[Value, Value, Value]:
    """Q, K and V as [batch, heads, length, size], their bias added."""
    query, key, value = required(node, 0), node.operand(1), node.operand(2)
    if query.type.rank == 5 and key is None:
        parts = _pieces(b, query, 3)
    elif query.type.rank == 3 and key is not None and key.type.rank == 5:
        parts = (query, *_pieces(b, key, 2))
    elif query.type.rank == 3 and key is not None and value is not None:
        parts = (query, key, value)
    else:
        refuse(node, f"query {query.shape} goes with no known form of key and value")
    bias = node.operand(3)
    if bias is not None:
        widths = tuple(p.shape[2] if p.type.rank == 3 else p.shape[1] * p.shape[3] for p in parts)
        if any(p.type.rank == 4 for p in parts):
            refuse(node, "a bias with keys and values that are split into heads is not supported")
        biases = b.split(bias, 0, widths)
        parts = tuple(b.op("Add", p, own) for p, own in zip(parts, biases, strict=True))
    q, k, v = (p if p.type.rank == 4 else heads(b, p, count) for p in parts)
    return q, k, v


def _pieces(b: Builder, packed: Value, count: int) -> tuple[Value, ...]:
    """Parts of [batch, length, heads, parts, size], each [batch, length, heads * size]."""
    batch, length, own, _, size = packed.shape
    pieces = b.split(packed, 3, (1,) * count)
    return tuple(reshaped(b, piece, (batch, length, own * size)) for piece in pieces)


_COMMON = "num_heads mask_filter_value scale unidirectional"
_OWN = f"{_COMMON} do_rotary past_present_share_buffer"
RULES: tuple[LoweringRule, ...] = (
    microsoft("Attention", _attention, f"{_OWN} qkv_hidden_sizes rotary_embedding_dim"),
    microsoft("QAttention", _quantised_attention, _OWN),
    microsoft("MultiHeadAttention", _multi_head, _COMMON),
)
