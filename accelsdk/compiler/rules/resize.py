"""Resize and Upsample: scales and sizes for every axis, explicit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from accelsdk.compiler.rules.common import (
    axis_of,
    constant,
    integer,
    integers,
    ops,
    real,
    refuse,
    required,
    rule,
    text,
)
from accelsdk.formats import FLOAT32, FLOAT64, INT64
from accelsdk.graph.families.sets import BYTES, FLOATS
from accelsdk.graph.graph import Attribute, Node
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
    if math.prod(shape) == 0:
        return [b.op("Expand", b.scalar(0, x.format), shape=shape)]
    how: dict[str, Attribute] = {
        "mode": text(node, "mode", "nearest"),
        "coordinate_transformation_mode": transform,
        "cubic_coeff_a": real(node, "cubic_coeff_a", -0.75),
        "nearest_mode": text(node, "nearest_mode", "round_prefer_floor"),
        "exclude_outside": integer(node, "exclude_outside", 0),
        "extrapolation_value": real(node, "extrapolation_value", 0.0),
        "antialias": integer(node, "antialias", 0),
    }
    if x.format in (*FLOATS, *BYTES):
        return ops(b, "Resize", x, outputs=1, output_shape=shape, scales=scales, roi=roi, **how)
    if how["mode"] == "nearest":
        return [_picked(b, x, shape, scales, roi, how)]
    return [_rounded(b, node, x, shape, scales, roi, how)]


def _picked(
    b: Builder,
    x: Value,
    shape: tuple[int, ...],
    scales: tuple[float, ...],
    roi: tuple[float, ...],
    how: Mapping[str, Attribute],
) -> Value:
    """Resizes any format by picking items: positions are resized instead, axis by axis."""
    outside: Value | None = None
    made, rank = x, x.type.rank
    for axis, extent in enumerate(shape):
        crop = (roi[axis], roi[axis + rank]) if roi else ()
        if not crop and extent == x.shape[axis] and scales[axis] == 1:
            continue
        # float64 holds every position; -1 marks what is extrapolated.
        here: dict[str, Attribute] = {**how, "extrapolation_value": -1.0, "roi": crop}
        steps = b.constant(np.arange(x.shape[axis], dtype=np.float64))
        (found,) = ops(
            b,
            "Resize",
            steps,
            outputs=1,
            output_shape=(extent,),
            scales=(scales[axis],),
            **here,
        )
        place = b.op("Cast", found, to=INT64.name)
        zero = b.scalar(0, INT64)
        made = b.op("Gather", made, b.op("Max", place, zero), axis=axis)
        if crop:
            along = (extent, *(1,) * (rank - axis - 1))
            beyond = b.op("Reshape", b.op("Less", place, zero), shape=along)
            outside = beyond if outside is None else b.op("Or", outside, beyond)
    if outside is None:
        return made
    fill = np.array(how["extrapolation_value"]).astype(x.format.dtype)
    return b.op("Where", outside, b.constant(fill, x.format), made)


def _rounded(
    b: Builder,
    node: Node,
    x: Value,
    shape: tuple[int, ...],
    scales: tuple[float, ...],
    roi: tuple[float, ...],
    how: Mapping[str, Attribute],
) -> Value:
    """Interpolates wide integers as floats; as for bytes, results are rounded and saturate."""
    if not x.format.is_integer or x.format.bits > 32:
        refuse(node, f"{x.format.name} items can be resized by mode 'nearest' alone")
    wide = FLOAT32 if x.format.bits <= 16 else FLOAT64
    (found,) = ops(
        b,
        "Resize",
        b.op("Cast", x, to=wide.name),
        outputs=1,
        output_shape=shape,
        scales=scales,
        roi=roi,
        **how,
    )
    low, high = b.scalar(x.format.min, wide), b.scalar(x.format.max, wide)
    kept = b.op("Max", b.op("Min", b.op("Round", found), high), low)
    return b.op("Cast", kept, to=x.format.name)


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
        numbers = given.astype(np.float64)
        if not (np.isfinite(numbers) & (numbers > 0)).all() or not np.isfinite(roi).all():
            refuse(node, f"scales {given.tolist()} or roi {tuple(roi)} are not valid")
        for axis, scale in zip(axes, given.reshape(-1).tolist(), strict=True):
            part = roi[axis + x.type.rank] - roi[axis] if roi else 1.0
            scales[axis], shape[axis] = float(scale), math.floor(x.shape[axis] * part * scale)
        return tuple(scales), tuple(shape)
    sizes = integers(b, node, 3, "sizes")
    if sizes is None or len(sizes) != len(axes):
        refuse(node, "it needs scales or sizes for each axis")
    if any(x.shape[axis] == 0 < size for axis, size in zip(axes, sizes, strict=True)):
        refuse(node, "its operand is empty")
    ratios = [size / max(x.shape[axis], 1) for axis, size in zip(axes, sizes, strict=True)]
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
