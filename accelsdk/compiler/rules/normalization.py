"""Normalisations: most are composites of the core table."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axis_of,
    integer,
    only_result,
    ops,
    real,
    refuse,
    required,
    rule,
)
from accelsdk.formats import FLOAT32, FLOAT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: LRN over more neighbours than this is taken for a mistake: each is an op of its own.
_WIDEST = 1024


def _batch(b: Builder, node: Node) -> Sequence[Value | None]:
    if integer(node, "training_mode", 0):
        refuse(node, "training mode is not supported")
    only_result(node)
    # Before opset 14 `momentum` alone did not mean training; it has no use in inference.
    epsilon = real(node, "epsilon", 1e-5)
    operands = [required(node, index) for index in range(5)]
    kind = operands[0].format
    if all(value.format is kind for value in operands):
        return [b.op("BatchNormalization", *operands, epsilon=epsilon)]
    # From opset 15 on, statistics may be wider than the operand: computed in the widest.
    wide = FLOAT64 if any(value.format is FLOAT64 for value in operands) else FLOAT32
    cast = [v if v.format is wide else b.op("Cast", v, to=wide.name) for v in operands]
    y = b.op("BatchNormalization", *cast, epsilon=epsilon)
    return [y if kind is wide else b.op("Cast", y, to=kind.name)]


def _layer(b: Builder, node: Node) -> Sequence[Value | None]:
    axis = axis_of(node, integer(node, "axis", -1), required(node, 0).type.rank)
    _float32_stash(node)
    epsilon = real(node, "epsilon", 1e-5)
    count = max((i + 1 for i, v in enumerate(node.outputs) if v is not None), default=1)
    return ops(b, node.op, *node.inputs, outputs=count, axis=axis, epsilon=epsilon)


def _float32_stash(node: Node) -> None:
    if integer(node, "stash_type", 1) != 1:
        refuse(node, "stash_type other than float32 is not supported")


def _instance(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.op("InstanceNormalization", *node.inputs, epsilon=real(node, "epsilon", 1e-5))]


def _group(b: Builder, node: Node) -> Sequence[Value | None]:
    _float32_stash(node)
    groups = integer(node, "num_groups", 0)
    epsilon = real(node, "epsilon", 1e-5)
    return [b.op("GroupNormalization", *node.inputs, epsilon=epsilon, num_groups=groups)]


def _lp(b: Builder, node: Node) -> Sequence[Value | None]:
    x, p = required(node, 0), integer(node, "p", 2)
    if p not in (1, 2):
        refuse(node, f"p = {p}; only 1 and 2 are supported")
    axis = axis_of(node, integer(node, "axis", -1), x.type.rank)
    norm = b.op(f"ReduceL{p}", x, axes=(axis,), keepdims=1)
    zero = b.scalar(0, x.format)
    # Opset 22: a vector of norm 0 stays 0 instead of becoming NaN.
    return [b.op("Where", b.op("Equal", norm, zero), zero, b.op("Div", x, norm))]


def _lrn(b: Builder, node: Node) -> Sequence[Value | None]:
    """X / (bias + alpha/size * sum of x^2 over `size` neighbouring channels)^beta."""
    x, size = required(node, 0), integer(node, "size", 0)
    if x.type.rank < 3 or size < 1:
        refuse(node, f"size {size} or operand {x.shape} is not valid")
    rank, channels = x.type.rank, x.shape[1]
    # Neighbours beyond the first and the last channel add nothing.
    before, after = (min(n, max(channels - 1, 0)) for n in ((size - 1) // 2, size // 2))
    if before + after >= _WIDEST:
        refuse(node, f"size {size} is not supported; at most {_WIDEST:,} is")
    pads = [0] * (2 * rank)
    pads[1], pads[1 + rank] = before, after
    padded = b.op("Pad", b.op("Mul", x, x), pads=tuple(pads))
    parts = [
        b.op("Slice", padded, starts=(i,), ends=(i + channels,), axes=(1,), steps=(1,))
        for i in range(before + 1 + after)
    ]
    total = functools.reduce(lambda a, c: b.op("Add", a, c), parts)
    ratio = real(node, "alpha", 1e-4) / size
    scaled = b.op("Mul", total, b.scalar(ratio, x.format))
    base = b.op("Add", scaled, b.scalar(real(node, "bias", 1.0), x.format))
    return [b.op("Div", x, b.op("Pow", base, b.scalar(real(node, "beta", 0.75), x.format)))]


RULES: tuple[LoweringRule, ...] = (
    rule("BatchNormalization", _batch, "epsilon momentum training_mode spatial"),
    rule("LayerNormalization", _layer, "axis epsilon stash_type"),
    rule("RMSNormalization", _layer, "axis epsilon stash_type"),
    rule("InstanceNormalization", _instance, "epsilon"),
    rule("GroupNormalization", _group, "epsilon num_groups stash_type"),
    rule("LpNormalization", _lp, "axis p"),
    rule("LRN", _lrn, "alpha beta bias size"),
)
