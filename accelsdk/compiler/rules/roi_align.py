"""RoiAlign: the mean or maximum of samples in each bin of each region (arXiv 1703.06870)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.rules.common import (
    integer,
    real,
    refuse,
    refuse_varying,
    required,
    rule,
    text,
)
from accelsdk.compiler.rules.sampling import (
    Tap,
    cast,
    cell,
    clipped,
    linear,
    pixels,
    sample,
    working,
)
from accelsdk.formats import INT64
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


@dataclass(frozen=True, slots=True)
class _Axis:
    """One spatial axis of the regions.

    Attributes:
        begin: Where each region begins, [regions, 1, 1].
        size: Its size.
        bins: Bins along the axis.
        samples: Most samples in a bin along the axis.
        counts: Samples in a bin of each region, [regions or 1, 1, 1].
    """

    begin: Value
    size: Value
    bins: int
    samples: int
    counts: NDArray[np.int64]


def _roi_align(b: Builder, node: Node) -> Sequence[Value | None]:
    x, rois, batch = required(node, 0), required(node, 1), required(node, 2)
    if x.type.rank != 4 or rois.type.rank != 2 or rois.shape[1] != 4:
        refuse(node, f"{x.type} and {rois.type} are no images and regions")
    if batch.shape != rois.shape[:1]:
        refuse(node, f"batch_indices {batch.type} does not fit {rois.shape[0]} regions")
    mode = text(node, "mode", "avg", ("avg", "max"))
    bins = integer(node, "output_height", 1), integer(node, "output_width", 1)
    result = (rois.shape[0], x.shape[1], *bins)
    if min(bins) < 1:
        refuse(node, f"the result would be {result}")
    if 0 in result:
        return [b.op("Expand", b.scalar(0, x.format), shape=result)]
    if 0 in x.shape:
        refuse(node, f"there is nothing to sample in {x.type}")
    kind = working(x.format)
    image = pixels(b, cast(b, x, kind))
    first = b.op("Mul", batch, b.scalar(image.count, INT64))
    first = b.op("Reshape", first, shape=(result[0], 1, 1, 1, 1))
    corners = cast(b, rois, kind)
    axes = [_axis(b, node, corners, i, bins[i]) for i in range(2)]
    taps = [_taps(b, axis, x.shape[2 + i], i, mode) for i, axis in enumerate(axes)]
    # [regions, bins, samples, bins, samples, channels]
    found = sample(b, image, first, taps, "Add" if mode == "avg" else "Max")
    counts = axes[0].counts * axes[1].counts
    any_samples = b.constant(np.minimum(axes[0].counts, axes[1].counts)[..., None] > 0)
    if mode == "avg":
        total = b.op("ReduceSum", found, axes=(2, 4), keepdims=0)
        shares = np.maximum(counts, 1).astype(kind.dtype)[..., None]
        made = b.op("Div", total, b.constant(shares, kind))
    else:
        made = b.op("ReduceMax", found, axes=(2, 4), keepdims=0)
    if (counts <= 0).any():
        made = b.op("Where", any_samples, made, b.scalar(0, kind))
    return [cast(b, b.op("Transpose", made, perm=(0, 3, 1, 2)), x.format)]


def _axis(b: Builder, node: Node, corners: Value, axis: int, bins: int) -> _Axis:
    """Reads begin and size of the regions along height (0) or width (1)."""
    half_pixel = (
        text(
            node,
            "coordinate_transformation_mode",
            "half_pixel",
            ("half_pixel", "output_half_pixel"),
        )
        == "half_pixel"
    )
    kind, scale = corners.format, real(node, "spatial_scale", 1.0)
    samples = integer(node, "sampling_ratio", 0)

    def edge(column: int) -> Value:
        cut = b.op("Slice", corners, starts=(column,), ends=(column + 1,), axes=(1,), steps=(1,))
        scaled = b.op("Mul", cut, b.scalar(scale, kind))
        shifted = b.op("Sub", scaled, b.scalar(0.5, kind)) if half_pixel else scaled
        return b.op("Reshape", shifted, shape=(corners.shape[0], 1, 1))

    begin, end = edge(1 - axis), edge(3 - axis)
    size = b.op("Sub", end, begin)
    if not half_pixel:
        size = b.op("Max", size, b.scalar(1, kind))  # malformed regions become 1 x 1
    if samples > 0:
        counts = np.full((1, 1, 1), samples, np.int64)
    elif samples < 0:
        refuse(node, f"sampling_ratio is {samples}; it must not be negative")
    else:
        counts = _adaptive(b, node, axis, bins, half_pixel)
        samples = max(int(counts.max()), 1)
    return _Axis(begin, size, bins, samples, counts)


def _adaptive(b: Builder, node: Node, axis: int, bins: int, half_pixel: bool) -> NDArray[np.int64]:
    """Returns the number of samples in a bin of each region: its extent, rounded up."""
    regions = required(node, 1)
    rois = b.known(regions)
    if rois is None:
        what = "with sampling_ratio 0 the regions say how many samples to take: operand 1"
        refuse_varying(node, regions, what)
    kind = working(required(node, 1).format).dtype
    edges = rois.astype(kind) * np.asarray(real(node, "spatial_scale", 1.0), kind)
    edges -= np.asarray(0.5 if half_pixel else 0, kind)
    size = edges[:, 3 - axis] - edges[:, 1 - axis]
    if not half_pixel:
        size = np.maximum(size, np.asarray(1, kind))
    counts = np.ceil(size / np.asarray(bins, kind)).clip(0).astype(np.int64)
    return np.asarray(counts).reshape(-1, 1, 1)


def _taps(b: Builder, axis: _Axis, extent: int, index: int, mode: str) -> list[Tap]:
    """Returns the taps along one axis; a sample a pixel or more outside counts as zero.

    Regions with fewer samples than others repeat their last one, which a maximum does not
    notice, and a mean takes as zero.
    """
    kind = axis.begin.format
    bins = np.arange(axis.bins).reshape(1, -1, 1)
    steps = np.arange(axis.samples).reshape(1, 1, -1)
    used = np.minimum(steps, np.maximum(axis.counts - 1, 0)) + 0.5
    width = b.op("Div", axis.size, b.scalar(axis.bins, kind))
    start = b.op("Add", axis.begin, b.op("Mul", width, b.constant(bins.astype(kind.dtype), kind)))
    inner = b.op("Mul", width, b.constant(used.astype(kind.dtype), kind))
    parts = np.maximum(axis.counts, 1).astype(kind.dtype)
    at = b.op("Add", start, b.op("Div", inner, b.constant(parts, kind)))
    inside = b.op(
        "And",
        b.op("GreaterOrEqual", at, b.scalar(-1, kind)),
        b.op("LessOrEqual", at, b.scalar(extent, kind)),
    )
    extra = steps >= axis.counts
    if mode == "avg" and extra.any():
        inside = b.op("And", inside, b.constant(~extra))
    first, fraction = cell(b, clipped(b, at, 0, extent - 1))
    second = b.op("Min", b.op("Add", first, b.scalar(1, INT64)), b.scalar(extent - 1, INT64))
    before, behind = linear(b, fraction)
    shape = (at.shape[0], axis.bins, axis.samples)
    spread = (shape[0], *shape[1:], 1, 1) if index == 0 else (shape[0], 1, 1, *shape[1:])

    def tap(position: Value, weight: Value) -> Tap:
        around = (b.op("Reshape", v, shape=spread) for v in (position, weight, inside))
        return Tap(*around)

    return [tap(first, before), tap(second, behind)]


RULES: tuple[LoweringRule, ...] = (
    rule(
        "RoiAlign",
        _roi_align,
        "coordinate_transformation_mode mode output_height output_width sampling_ratio "
        "spatial_scale",
    ),
)
