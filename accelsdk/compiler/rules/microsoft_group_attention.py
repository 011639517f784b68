"""GroupQueryAttention of com.microsoft: the attention of decoders, with their cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import constant, integer, real, refuse, required, reshaped, text
from accelsdk.compiler.rules.microsoft_attention import causal, heads, joined, total
from accelsdk.compiler.rules.microsoft_common import microsoft, transposed
from accelsdk.compiler.rules.microsoft_rotary import angles, rotated
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Operands that are refused, by index.
_REFUSED = {12: "k_scale", 13: "v_scale", 14: "q_norm_weight", 15: "k_norm_weight"}


def _group_query(b: Builder, node: Node) -> Sequence[Value | None]:
    """Causal attention in which several heads share keys and values.

    The length of the cache is read from `seqlens_k`, which must be constant, and the same for
    the whole batch, where there is a cache.
    """
    _check(node)
    count, shared = integer(node, "num_heads", 0), integer(node, "kv_num_heads", 0)
    if shared < 1 or count % shared:
        refuse(node, f"kv_num_heads {shared} does not divide num_heads {count}")
    q, k, v = _heads(b, node, count, shared)
    rows = q.shape[2]
    before = _length_before(b, node, rows)
    if integer(node, "do_rotary", 0):
        q, k = _turned(b, node, q, k, before)
    keys, present_keys = _cached(b, node.operand(3), k, before)
    values, present_values = _cached(b, node.operand(4), v, before)
    y = _attended(b, node, q, keys, values)
    return [joined(b, y), present_keys, present_values]


def _check(node: Node) -> None:
    for index, name in _REFUSED.items():
        if node.operand(index) is not None:
            refuse(node, f"operand {name!r} is not supported; onnxruntime on CPU has it neither")
    for name in ("k_quant_type", "v_quant_type"):
        if text(node, name, "NONE") != "NONE":
            refuse(node, f"attribute {name!r}: a quantised cache is not supported")
    if integer(node, "qk_output", 0) or (len(node.outputs) > 3 and node.outputs[3] is not None):
        refuse(node, "its result 'output_qk' is not supported")
    if integer(node, "sliding_window_cache", 0) or integer(node, "kv_cache_bit_width", 0):
        refuse(node, "a sliding or quantised cache is not supported")


def _heads(b: Builder, node: Node, count: int, shared: int) -> tuple[Value, Value, Value]:
    query, key, value = required(node, 0), node.operand(1), node.operand(2)
    if query.type.rank != 3:
        refuse(node, f"its query {query.shape} is not [batch, length, hidden]")
    if key is None or value is None:
        size, rest = divmod(query.shape[2], count + 2 * shared)
        if rest:
            refuse(node, f"its packed query {query.shape} holds no {count} + 2 x {shared} heads")
        widths = (count * size, shared * size, shared * size)
        query, key, value = b.split(query, 2, widths)
    return heads(b, query, count), heads(b, key, shared), heads(b, value, shared)


def _length_before(b: Builder, node: Node, rows: int) -> int:
    """Positions in the cache before the first query."""
    past = node.operand(3)
    if past is None or past.shape[2] == 0:
        return 0
    ends = constant(b, node, 5, "seqlens_k")
    if ends is None or ends.size == 0:
        refuse(node, "it has a cache and no seqlens_k")
    lengths = {int(end) + 1 for end in ends.reshape(-1)}
    if len(lengths) > 1:
        refuse(node, f"the items of the batch have caches of different lengths {sorted(lengths)}")
    before = lengths.pop() - rows
    if not 0 <= before <= past.shape[2]:
        refuse(node, f"seqlens_k leaves {before} positions for a cache of {past.shape[2]}")
    return before


def _turned(b: Builder, node: Node, q: Value, k: Value, before: int) -> tuple[Value, Value]:
    cos, sin, positions = required(node, 7), required(node, 8), node.operand(9)
    rows = q.shape[2]
    steps = b.constant(np.arange(before, before + rows, dtype=np.int64).reshape(1, rows))
    if positions is None:
        positions = steps
    elif before == 0:
        # Of a prompt the op's documentation reads the first position alone.
        first = reshaped(b, positions, (positions.type.count,))
        first = b.op("Slice", first, starts=(0,), ends=(1,), axes=(0,), steps=(1,))
        positions = b.op("Add", steps, reshaped(b, first, (1, 1)))
    turns = [angles(b, cache, positions) for cache in (cos, sin)]
    interleaved = bool(integer(node, "rotary_interleaved", 0))
    first, second = (rotated(b, x, turns[0], turns[1], interleaved) for x in (q, k))
    return first, second


def _cached(b: Builder, past: Value | None, new: Value, before: int) -> tuple[Value, Value]:
    """Keys (or values) to attend to, and the whole cache, which ends in zeros if it is longer."""
    if past is None or past.shape[2] == 0:
        return new, new
    after = before + new.shape[2]
    used = new
    if before:
        old = b.split(past, 2, _spans(before, past.shape[2]))[0]
        used = b.op("Concat", old, new, axis=2)
    if after >= past.shape[2]:
        return used, used
    return used, b.op("Pad", used, pads=(0, 0, 0, 0, 0, 0, past.shape[2] - after, 0))


def _spans(first: int, length: int) -> tuple[int, ...]:
    return (first,) if first == length else (first, length - first)


def _attended(b: Builder, node: Node, q: Value, k: Value, v: Value) -> Value:
    rows, columns = q.shape[2], k.shape[2]
    window = max(integer(node, "local_window_size", -1), 0)
    seen = causal(b, rows, columns, q, window) if integer(node, "causal", 1) else None
    mask = total(b, [seen, node.operand(10)])
    cap, scale = real(node, "softcap", 0.0), real(node, "scale", 0.0)
    sink = node.operand(11)
    if sink is None and integer(node, "smooth_softmax", 0) == 1:
        sink = b.constant(np.zeros(q.shape[1], q.format.dtype), q.format)
    if cap == 0.0 and sink is None:
        return b.op("Attention", q, k, v, mask, scale=scale)
    return _by_steps(b, (q, k, v), mask, scale, cap, sink)


def _by_steps(
    b: Builder,
    operands: tuple[Value, Value, Value],
    mask: Value | None,
    scale: float,
    cap: float,
    sink: Value | None,
) -> Value:
    """Attention whose scores are capped by tanh, or share their softmax with a sink a head."""
    q, k, v = operands
    batch, count, rows, size = q.shape
    k, v = _repeated(b, k, count), _repeated(b, v, count)
    scores = b.op("MatMul", q, transposed(b, k, (0, 1, 3, 2)))
    scores = b.op("Mul", scores, b.scalar(scale or size**-0.5, q.format))
    if cap:
        limit = b.scalar(cap, q.format)
        scores = b.op("Mul", b.op("Tanh", b.op("Div", scores, limit)), limit)
    if mask is not None:
        scores = b.op("Add", scores, mask)
    columns = scores.shape[3]
    if sink is not None:
        extra = b.op("Expand", reshaped(b, sink, (1, count, 1, 1)), shape=(batch, count, rows, 1))
        scores = b.op("Concat", scores, extra, axis=3)
    weights = b.op("Softmax", scores, axis=3)
    if sink is not None:
        weights = b.split(weights, 3, (columns, 1))[0]
    return b.op("MatMul", weights, v)


def _repeated(b: Builder, x: Value, count: int) -> Value:
    batch, shared, length, size = x.shape
    if shared == count:
        return x
    wide = reshaped(b, x, (batch, shared, 1, length, size))
    wide = b.op("Expand", wide, shape=(batch, shared, count // shared, length, size))
    return reshaped(b, wide, (batch, count, length, size))


RULES: tuple[LoweringRule, ...] = (
    microsoft(
        "GroupQueryAttention",
        _group_query,
        "num_heads kv_num_heads scale softcap do_rotary rotary_interleaved local_window_size "
        "smooth_softmax causal qk_norm_epsilon qk_output k_quant_type v_quant_type "
        "sliding_window_cache kv_cache_bit_width",
    ),
)
