"""DeformConv: samples at shifted places, then one matrix product (arXiv 1703.06211, 1811.11168)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.rules.common import integer, refuse, required, rule
from accelsdk.compiler.rules.sampling import (
    cast,
    first_rows,
    linear_or_zero,
    pixels,
    sample,
    working,
)
from accelsdk.compiler.rules.windows import Window, window
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _deform_conv(b: Builder, node: Node) -> Sequence[Value | None]:
    """Each tap of the kernel reads X where its offset says, with zeros around the image."""
    x, w, offset = required(node, 0), required(node, 1), required(node, 2)
    bias, mask = node.operand(3), node.operand(4)
    shape = window(node, x.shape, w.shape[2:])
    group, offsets = integer(node, "group", 1), integer(node, "offset_group", 1)
    grid = _grid(node, x, shape)
    count, taps, points = len(grid), prod(shape.kernel), prod(grid)
    batch, channels = x.shape[:2]
    if group < 1 or w.shape[0] % group or channels != w.shape[1] * group:
        refuse(node, f"{x.type} and a kernel {w.type} do not fit {group} groups")
    if offsets < 1 or channels % offsets:
        refuse(node, f"{channels} channels do not fit {offsets} groups of offsets")
    if offset.shape != (batch, offsets * taps * count, *grid):
        refuse(node, f"offset {offset.type} does not fit a result of {grid}")
    if mask is not None and mask.shape != (batch, offsets * taps, *grid):
        refuse(node, f"mask {mask.type} does not fit a result of {grid}")
    result = (batch, w.shape[0], *grid)
    if 0 in result or 0 in x.shape:
        refuse(node, f"{x.type} has nothing to sample")
    kind = working(x.format)
    image = pixels(b, cast(b, x, kind), offsets)
    shifts = b.op("Reshape", cast(b, offset, kind), shape=(batch * offsets, taps, count, points))
    places = _places(shape, grid)
    axes = []
    for axis, extent in enumerate(image.extents):
        cut = b.op("Slice", shifts, starts=(axis,), ends=(axis + 1,), axes=(2,), steps=(1,))
        moved = b.op("Reshape", cut, shape=(batch * offsets, taps, points))
        fixed = b.constant(places[axis].astype(kind.dtype), kind)
        axes.append(linear_or_zero(b, b.op("Add", fixed, moved), extent, kind))
    columns = sample(b, image, first_rows(b, image, 3), axes)
    if mask is not None:
        weights = b.op("Reshape", cast(b, mask, kind), shape=(*columns.shape[:-1], 1))
        columns = b.op("Mul", columns, weights)
    # [batch * offsets, taps, points, channels] to [batch, group, channels * taps, points]
    columns = b.op("Transpose", columns, perm=(0, 3, 1, 2))
    depth = channels // group * taps
    columns = b.op("Reshape", columns, shape=(batch, group, depth, points))
    kernel = b.op("Reshape", cast(b, w, kind), shape=(group, w.shape[0] // group, depth))
    made = b.op("Reshape", b.op("MatMul", kernel, columns), shape=result)
    if bias is not None:
        spread = b.op("Reshape", cast(b, bias, kind), shape=(w.shape[0], *(1,) * count))
        made = b.op("Add", made, spread)
    return [cast(b, made, x.format)]


def _grid(node: Node, x: Value, shape: Window) -> tuple[int, ...]:
    """Returns the spatial extents of the result."""
    count = len(shape.kernel)
    found = tuple(
        (
            x.shape[2 + i]
            + shape.pads[i]
            + shape.pads[i + count]
            - (shape.kernel[i] - 1) * shape.dilations[i]
            - 1
        )
        // shape.strides[i]
        + 1
        for i in range(count)
    )
    if min(found) < 1:
        refuse(node, f"a kernel of {shape.kernel} does not fit {x.type}")
    return found


def _places(shape: Window, grid: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Returns where each tap reads without offsets, by axis, [taps, points]."""
    taps, points = np.indices(shape.kernel), np.indices(grid)
    return [
        taps[i].reshape(-1, 1) * shape.dilations[i]
        + points[i].reshape(1, -1) * shape.strides[i]
        - shape.pads[i]
        for i in range(len(grid))
    ]


RULES: tuple[LoweringRule, ...] = (
    rule("DeformConv", _deform_conv, "dilations group kernel_shape offset_group pads strides"),
)
