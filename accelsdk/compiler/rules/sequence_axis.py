"""ReverseSequence and TensorScatter: the time axis is indexed per item of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import axis_of, integer, refuse, required, rule, text
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _reverse_sequence(b: Builder, node: Node) -> Sequence[Value | None]:
    """Position t of a sequence of n items comes from n - 1 - t; behind its end, from t itself."""
    x, lengths = required(node, 0), required(node, 1)
    time, batch = integer(node, "time_axis", 0), integer(node, "batch_axis", 1)
    if x.type.rank < 2 or {time, batch} != {0, 1}:
        refuse(node, f"time_axis {time} and batch_axis {batch} must be the first two of {x.type}")
    if lengths.shape != (x.shape[batch],):
        refuse(node, f"sequence_lens {lengths.type} does not fit {x.shape[batch]} sequences")
    if x.type.count == 0:
        return [b.op("Reshape", x, shape=x.shape)]
    swap = (1, 0, *range(2, x.type.rank))
    rows = b.op("Transpose", x, perm=swap) if time == 0 else x
    steps = b.constant(np.arange(x.shape[time], dtype=np.int64))
    ends = b.op("Reshape", lengths, shape=(x.shape[batch], 1))
    mirrored = b.op("Sub", b.op("Sub", ends, b.scalar(1, INT64)), steps)
    taken = b.op("Where", b.op("Less", steps, ends), mirrored, steps)
    taken = b.op("Reshape", taken, shape=(x.shape[batch], x.shape[time], 1))
    made = b.op("GatherND", rows, taken, batch_dims=1)
    return [b.op("Transpose", made, perm=swap) if time == 0 else made]


def _tensor_scatter(b: Builder, node: Node) -> Sequence[Value | None]:
    """Writes the update into the cache from each batch item's own index on (opset 24)."""
    cache, update, start = required(node, 0), required(node, 1), node.operand(2)
    axis = axis_of(node, integer(node, "axis", -2), cache.type.rank)
    mode = text(node, "mode", "linear", ("linear", "circular"))
    if axis == 0 or cache.type.rank != update.type.rank:
        refuse(node, f"axis {axis} of {cache.type} and {update.type} is no sequence axis")
    extent, count = cache.shape[axis], update.shape[axis]
    if count > extent or any(
        i != axis and p != q for i, (p, q) in enumerate(zip(cache.shape, update.shape, strict=True))
    ):
        refuse(node, f"the update {update.type} does not fit the cache {cache.type}")
    if start is not None and start.shape != cache.shape[:1]:
        refuse(node, f"write_indices {start.type} does not fit {cache.shape[0]} batch items")
    if update.type.count == 0:
        return [b.op("Reshape", cache, shape=cache.shape)]
    along = [1] * cache.type.rank
    along[axis] = count
    at = b.constant(np.arange(count, dtype=np.int64).reshape(along))
    if start is not None:
        first = b.op("Reshape", start, shape=(cache.shape[0], *(1,) * (cache.type.rank - 1)))
        at = b.op("Add", first, at)
        if mode == "circular":
            at = b.op("Mod", at, b.scalar(extent, INT64))
    index = b.op("Expand", at, shape=update.shape)
    return [b.op("ScatterElements", cache, index, update, axis=axis)]


RULES: tuple[LoweringRule, ...] = (
    rule("ReverseSequence", _reverse_sequence, "batch_axis time_axis"),
    rule("TensorScatter", _tensor_scatter, "axis mode"),
)
