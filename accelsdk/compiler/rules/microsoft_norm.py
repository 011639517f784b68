"""Normalisations of com.microsoft, with the sums and embeddings that come before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import (
    axis_of,
    integer,
    ops,
    real,
    refuse,
    required,
    reshaped,
    rule,
)
from accelsdk.compiler.rules.microsoft_common import dequantized, microsoft
from accelsdk.formats import FLOAT32, INT32
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _simplified(b: Builder, node: Node) -> Sequence[Value | None]:
    """Root-mean-square normalisation; onnxruntime has it in ai.onnx, ONNX itself does not."""
    x, scale = required(node, 0), required(node, 1)
    if integer(node, "stash_type", 1) != 1:
        refuse(node, "stash_type other than float32 is not supported")
    axis = axis_of(node, integer(node, "axis", -1), x.type.rank)
    epsilon = real(node, "epsilon", 1e-5)
    y = b.op("RMSNormalization", x, scale, axis=axis, epsilon=epsilon)
    if len(node.outputs) < 2 or node.outputs[1] is None:
        return [y]
    return [y, _inverse_root(b, x, axis, epsilon)]


def _inverse_root(b: Builder, x: Value, axis: int, epsilon: float) -> Value:
    """1 / sqrt(mean of squares + epsilon), in float32."""
    wide = x if x.format is FLOAT32 else b.op("Cast", x, to=FLOAT32.name)
    axes = tuple(range(axis, x.type.rank))
    mean = b.op("ReduceMean", b.op("Mul", wide, wide), axes=axes, keepdims=1)
    return b.op("Reciprocal", b.op("Sqrt", b.op("Add", mean, b.scalar(epsilon, FLOAT32))))


def _skip_layer(b: Builder, node: Node) -> Sequence[Value | None]:
    """Layer normalisation of input + skip + bias over the last axis."""
    total = _sum(b, node, 4)
    gamma, beta = required(node, 2), node.operand(3)
    axis, epsilon = total.type.rank - 1, real(node, "epsilon", 1e-12)
    count = max((i for i in (1, 2, 3) if _wanted(node, i - 1)), default=1)
    made = ops(
        b, "LayerNormalization", total, gamma, beta, outputs=count, axis=axis, epsilon=epsilon
    )
    return [*made, *(None,) * (3 - len(made)), total]


def _skip_simplified(b: Builder, node: Node) -> Sequence[Value | None]:
    """Root-mean-square normalisation of input + skip + bias over the last axis."""
    if _wanted(node, 1):
        refuse(node, "its result 'mean' is not supported: the op computes no mean")
    total = _sum(b, node, 3)
    axis, epsilon = total.type.rank - 1, real(node, "epsilon", 1e-12)
    y = b.op("RMSNormalization", total, required(node, 2), axis=axis, epsilon=epsilon)
    inverse = _inverse_root(b, total, axis, epsilon) if _wanted(node, 2) else None
    return [y, None, inverse, total]


def _wanted(node: Node, index: int) -> bool:
    return index < len(node.outputs) and node.outputs[index] is not None


def _sum(b: Builder, node: Node, bias: int) -> Value:
    """Input + skip + bias; skip may lack the batch, which then broadcasts."""
    total = b.op("Add", required(node, 0), required(node, 1))
    if total.shape != required(node, 0).shape:
        refuse(node, f"its skip {required(node, 1).shape} does not broadcast to its input")
    extra = node.operand(bias)
    return total if extra is None else b.op("Add", total, extra)


def _embed(b: Builder, node: Node) -> Sequence[Value | None]:
    """Layer normalisation of the sum of word, position and segment embeddings."""
    word, position = required(node, 2), required(node, 3)
    segment, gamma, beta = node.operand(4), required(node, 5), required(node, 6)
    total = _embedded(b, node, word, position, segment, node.operand(8))
    counts = _mask_counts(b, node)
    return [_normalised(b, node, total, gamma, beta), counts, total]


def _quantised_embed(b: Builder, node: Node) -> Sequence[Value | None]:
    """EmbedLayerNormalization over quantised tables; only the rows that are read are widened."""
    word, position, segment, gamma, beta = (
        None if node.operand(at) is None else _Table(b, node, at) for at in range(2, 7)
    )
    if word is None or position is None or gamma is None or beta is None:
        refuse(node, "a table is missing")
    total = word.rows(required(node, 0))
    total = b.op("Add", total, position.rows(_positions(b, node, position.table)))
    if segment is not None and node.operand(1) is not None:
        total = b.op("Add", total, segment.rows(required(node, 1)))
    y = _normalised(b, node, total, gamma.whole(), beta.whole())
    return [y, _mask_counts(b, node)]


class _Table:
    """A quantised embedding table or vector, with its scale and zero point."""

    def __init__(self, b: Builder, node: Node, at: int) -> None:
        self.b, self.table = b, required(node, at)
        # Five tables, then their scales after the mask, then their zero points.
        self.scale, self.zero = required(node, at + 6), required(node, at + 11)

    def rows(self, indices: Value) -> Value:
        picked = self.b.op("Gather", self.table, indices, axis=0)
        return dequantized(self.b, picked, self.scale, self.zero)

    def whole(self) -> Value:
        return dequantized(self.b, self.table, self.scale, self.zero)


def _embedded(
    b: Builder, node: Node, word: Value, position: Value, segment: Value | None, at: Value | None
) -> Value:
    indices = required(node, 0)
    if indices.type.rank != 2:
        refuse(node, f"its input_ids {indices.shape} are not [batch, length]")
    total = b.op("Gather", word, indices, axis=0)
    where = _positions(b, node, position) if at is None else at
    total = b.op("Add", total, b.op("Gather", position, where, axis=0))
    kinds = node.operand(1)
    if kinds is None or segment is None:
        return total
    return b.op("Add", total, b.op("Gather", segment, kinds, axis=0))


def _positions(b: Builder, node: Node, table: Value) -> Value:
    length = required(node, 0).shape[-1]
    if length > table.shape[0]:
        refuse(node, f"length {length} exceeds its position_embedding of {table.shape[0]} rows")
    return b.constant(np.arange(length, dtype=np.int32), INT32)


def _normalised(b: Builder, node: Node, total: Value, gamma: Value, beta: Value) -> Value:
    axis, epsilon = total.type.rank - 1, real(node, "epsilon", 1e-12)
    return b.op("LayerNormalization", total, gamma, beta, axis=axis, epsilon=epsilon)


def _mask_counts(b: Builder, node: Node) -> Value:
    """Unmasked positions of each item; zeros if there is no mask."""
    mask, batch = node.operand(7), required(node, 0).shape[0]
    if mask is None or integer(node, "mask_index_type", 1) == 0:
        return b.constant(np.zeros(batch, np.int32))
    ones = b.op("Cast", b.op("Equal", mask, b.scalar(1, mask.format)), to=INT32.name)
    return reshaped(b, b.op("ReduceSum", ones, axes=(1,), keepdims=0), (batch,))


RULES: tuple[LoweringRule, ...] = (
    rule("SimplifiedLayerNormalization", _simplified, "axis epsilon stash_type"),
    microsoft("SkipLayerNormalization", _skip_layer, "epsilon"),
    microsoft("SkipSimplifiedLayerNormalization", _skip_simplified, "epsilon"),
    microsoft("EmbedLayerNormalization", _embed, "epsilon mask_index_type"),
    microsoft("QEmbedLayerNormalization", _quantised_embed, "epsilon"),
)
