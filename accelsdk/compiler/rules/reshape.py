"""Reshape, Flatten, Squeeze and Unsqueeze: all are Reshape to a static shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axes_of,
    axis_of,
    integer,
    integers,
    refuse,
    required,
    rule,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Shape, Value


def _reshape(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    wanted = integers(b, node, 1, "shape")
    if wanted is None:
        refuse(node, "it has no shape")
    return [b.op("Reshape", x, shape=_resolve(node, x.shape, wanted))]


def _resolve(node: Node, given: Shape, wanted: Sequence[int]) -> Shape:
    """Replaces the 0 (copy the extent) and the -1 (whatever remains) of ONNX Reshape."""
    shape = list(wanted)
    if not integer(node, "allowzero", 0):
        for axis, extent in enumerate(shape):
            if extent == 0 and axis >= len(given):
                refuse(node, f"shape {tuple(wanted)} copies axis {axis} of {given}")
            shape[axis] = extent or given[axis]
    if shape.count(-1) > 1 or min(shape, default=0) < -1:
        refuse(node, f"shape {tuple(wanted)} is not valid")
    if -1 in shape:
        known = -math.prod(shape)
        total = math.prod(given)
        if known == 0 or total % known:
            refuse(node, f"{given} cannot be reshaped to {tuple(wanted)}")
        shape[shape.index(-1)] = total // known
    if math.prod(shape) != math.prod(given):
        refuse(node, f"{given} cannot be reshaped to {tuple(wanted)}")
    return tuple(shape)


def _flatten(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    axis = integer(node, "axis", 1)
    axis = x.type.rank if axis == x.type.rank else axis_of(node, axis, x.type.rank)
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return [b.op("Reshape", x, shape=shape)]


def _squeeze(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    given = integers(b, node, 1, "axes")
    if given is None:
        axes: tuple[int, ...] = tuple(i for i, extent in enumerate(x.shape) if extent == 1)
    else:
        axes = axes_of(node, given, x.type.rank)
    if any(x.shape[axis] != 1 for axis in axes):
        refuse(node, f"axes {axes} of {x.shape} are not all of extent 1")
    shape = tuple(extent for axis, extent in enumerate(x.shape) if axis not in axes)
    return [b.op("Reshape", x, shape=shape)]


def _unsqueeze(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    given = integers(b, node, 1, "axes")
    if given is None:
        refuse(node, "it has no axes")
    shape = list(x.shape)
    for axis in axes_of(node, given, x.type.rank + len(given)):
        shape.insert(axis, 1)
    return [b.op("Reshape", x, shape=tuple(shape))]


RULES: tuple[LoweringRule, ...] = (
    rule("Reshape", _reshape, "allowzero shape"),
    rule("Flatten", _flatten, "axis"),
    rule("Squeeze", _squeeze, "axes"),
    rule("Unsqueeze", _unsqueeze, "axes"),
)
