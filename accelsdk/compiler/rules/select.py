"""Trilu and OneHot: Where against constant indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import (
    affordable,
    axis_of,
    constant,
    integer,
    refuse,
    required,
    rule,
)
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _trilu(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    if x.type.rank < 2:
        refuse(node, "its operand has less than two axes")
    given = constant(b, node, 1, "k")
    k = 0 if given is None else int(given.reshape(()).item())
    affordable(node, *x.shape[-2:])
    k = min(max(k, -x.shape[-2]), x.shape[-1])  # beyond, nothing changes and integers wrap
    rows, columns = np.arange(x.shape[-2])[:, None] + k, np.arange(x.shape[-1])
    mask = columns >= rows if integer(node, "upper", 1) else columns <= rows
    return [b.op("Where", b.constant(mask), x, b.scalar(0, x.format))]


def _one_hot(b: Builder, node: Node) -> Sequence[Value | None]:
    indices, values = required(node, 0), required(node, 2)
    given = constant(b, node, 1, "depth")
    depth = 0 if given is None else int(given.reshape(()).item())
    if depth < 1:
        refuse(node, f"depth {depth} is not supported")
    rank = indices.type.rank + 1
    axis = axis_of(node, integer(node, "axis", -1), rank)
    wide = indices
    if indices.format is not INT64:
        wide = b.op("Cast", indices, to=INT64.name)
    # A negative index counts from the end; one out of range matches nothing.
    wide = b.op(
        "Where",
        b.op("Less", wide, b.scalar(0, INT64)),
        b.op("Add", wide, b.scalar(depth, INT64)),
        wide,
    )
    shape = list(indices.shape)
    shape.insert(axis, 1)
    wide = b.op("Reshape", wide, shape=tuple(shape))
    hit = b.op("Equal", wide, steps_along(b, node, depth, axis, rank))
    off, on = (
        b.op(
            "Reshape",
            b.op("Slice", values, starts=(i,), ends=(i + 1,), axes=(0,), steps=(1,)),
            shape=(),
        )
        for i in (0, 1)
    )
    return [b.op("Where", hit, on, off)]


def steps_along(b: Builder, node: Node, count: int, axis: int, rank: int) -> Value:
    """Returns 0, 1, 2, ... along one axis, int64, broadcastable to ``rank``."""
    affordable(node, count)
    shape = [1] * rank
    shape[axis] = count
    return b.constant(np.arange(count, dtype=np.int64).reshape(shape))


RULES: tuple[LoweringRule, ...] = (
    rule("Trilu", _trilu, "upper"),
    rule("OneHot", _one_hot, "axis"),
)
