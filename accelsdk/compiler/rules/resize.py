"""Resize and Upsample: scales and sizes for every axis, explicit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accelsdk.compiler.rules.common import (
    axis_of,
    constant,
    integer,
    integers,
    real,
    refuse,
    required,
    rule,
    text,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _resize(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    rank = x.type.rank
    given = node.attributes.get("axes", tuple(range(rank)))
    if not isinstance(given, tuple):
        refuse(node, f"axes {given!r} are no integers")
    axes = tuple(axis_of(node, int(axis), rank) for axis in given)
    transform = text(node, "coordinate_transformation_mode", "half_pixel")
    roi: tuple[float, ...] = ()
    if transform == "tf_crop_and_resize":
        roi = _full_roi(b, node, axes, rank)
    scales, shape = _target(b, node, x, axes, roi)
    return [
        b.op(
            "Resize",
            x,
            output_shape=shape,
            scales=scales,
            mode=text(node, "mode", "nearest"),
            coordinate_transformation_mode=transform,
            cubic_coeff_a=real(node, "cubic_coeff_a", -0.75),
            nearest_mode=text(node, "nearest_mode", "round_prefer_floor"),
            exclude_outside=integer(node, "exclude_outside", 0),
            extrapolation_value=real(node, "extrapolation_value", 0.0),
            antialias=integer(node, "antialias", 0),
            roi=roi,
        )
    ]


def _full_roi(b: Builder, node: Node, axes: Sequence[int], rank: int) -> tuple[float, ...]:
    array = constant(b, node, 1, "roi")
    if array is None or array.size != 2 * len(axes):
        refuse(node, "tf_crop_and_resize needs a begin and an end of the roi for each axis")
    numbers = [float(v) for v in array.reshape(-1).tolist()]
    begins, ends = [0.0] * rank, [1.0] * rank
    for index, axis in enumerate(axes):
        begins[axis], ends[axis] = numbers[index], numbers[index + len(axes)]
    return (*begins, *ends)


def _target(
    b: Builder, node: Node, x: Value, axes: Sequence[int], roi: Sequence[float]
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Returns scale and extent of every axis."""
    scales, shape = [1.0] * x.type.rank, list(x.shape)
    given = constant(b, node, 2, "scales")
    if given is not None and given.size:
        if given.size != len(axes):
            refuse(node, f"{given.size} scales for {len(axes)} axes")
        for axis, scale in zip(axes, given.reshape(-1).tolist(), strict=True):
            part = roi[axis + x.type.rank] - roi[axis] if roi else 1.0
            scales[axis], shape[axis] = float(scale), math.floor(x.shape[axis] * part * scale)
        return tuple(scales), tuple(shape)
    sizes = integers(b, node, 3, "sizes")
    if sizes is None or len(sizes) != len(axes):
        refuse(node, "it needs scales or sizes for each axis")
    if any(x.shape[axis] == 0 for axis in axes):
        refuse(node, "its operand is empty")
    ratios = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    policy = text(
        node, "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
    )
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(axes)
        sizes = tuple(math.floor(ratio * x.shape[axis] + 0.5) for axis in axes)
    for axis, ratio, size in zip(axes, ratios, sizes, strict=True):
        scales[axis], shape[axis] = ratio, size
    return tuple(scales), tuple(shape)


RULES: tuple[LoweringRule, ...] = (
    rule(
        "Resize",
        _resize,
        "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside "
        "extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
    ),
)
