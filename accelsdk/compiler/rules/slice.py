"""Slice: starts and ends clamped and made explicit for every sliced axis."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import axis_of, integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _slice(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    starts, ends = integers(b, node, 1, "starts"), integers(b, node, 2, "ends")
    if starts is None or ends is None:
        refuse(node, "it needs starts and ends")
    axes = integers(b, node, 3, "axes") or tuple(range(len(starts)))
    steps = integers(b, node, 4, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        refuse(node, f"starts {starts}, ends {ends}, axes {axes}, steps {steps} do not match")
    if axes and not x.shape:
        refuse(node, "its operand is a scalar")
    axes = tuple(axis_of(node, axis, x.type.rank) for axis in axes)
    bounds = [
        _clamp(start, end, step, x.shape[axis])
        for start, end, step, axis in zip(starts, ends, steps, axes, strict=True)
    ]
    return [
        b.op(
            "Slice",
            x,
            starts=tuple(start for start, _ in bounds),
            ends=tuple(end for _, end in bounds),
            axes=axes,
            steps=steps,
        )
    ]


def _clamp(start: int, end: int, step: int, extent: int) -> tuple[int, int]:
    """Clamps as ONNX says; the end "before element 0" of a negative step stays negative."""
    start, end = (v + extent if v < 0 else v for v in (start, end))
    if step > 0:
        return min(max(start, 0), extent), min(max(end, 0), extent)
    end = min(max(end, -1), extent - 1)
    return min(max(start, 0), max(extent - 1, 0)), end if end >= 0 else -extent - 1


RULES: tuple[LoweringRule, ...] = (rule("Slice", _slice, "starts ends axes"),)
