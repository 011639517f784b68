"""Interpolated samples of an image at computed places: Gather, Mul and Add.

GridSample, RoiAlign and DeformConv differ in how they find coordinates and in what lies outside
the image. From then on they are alike: along each axis a sample has a few taps, each a position
and a weight; a sample is the sum over all combinations of taps. Pixels are rows [N * pixels, C],
so that one Gather of rows serves all channels. Taps outside the image read a row of zeros, and
not a pixel times zero, which would be NaN for infinite pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, INT64, Format
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import Value


@dataclass(frozen=True, slots=True)
class Tap:
    """One of the pixels along an axis that a sample reads.

    Attributes:
        position: Positions along the axis, int64; broadcastable with those of other axes.
        weight: Their weights; None: 1.
        inside: Which of them lie in the image; None: all.
    """

    position: Value
    weight: Value | None = None
    inside: Value | None = None


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image batch as rows of channels, a row of zeros behind them.

    Attributes:
        rows: [groups * pixels + 1, channels].
        extents: Spatial extents of an image.
        groups: Number of images.
    """

    rows: Value
    extents: tuple[int, ...]
    groups: int

    @property
    def count(self) -> int:
        """Pixels of one image."""
        return prod(self.extents)

    @property
    def channels(self) -> int:
        """Channels of one image."""
        return self.rows.shape[1]


def working(kind: Format) -> Format:
    """Returns the format in which samples are computed for operands of a float format."""
    return FLOAT32 if kind in (FLOAT16, BFLOAT16) else kind


def cast(b: Builder, x: Value, kind: Format) -> Value:
    """Emits a Cast unless ``x`` has that format."""
    return x if x.format is kind else b.op("Cast", x, to=kind.name)


def pixels(b: Builder, x: Value, groups: int = 1) -> Pixels:
    """Lays images [N, C, ...] out as rows; ``groups`` splits channels into that many images."""
    batch, channels, extents = x.shape[0], x.shape[1] // groups, x.shape[2:]
    count = prod(extents)
    flat = b.op("Reshape", x, shape=(batch * groups, channels, count))
    moved = b.op("Transpose", flat, perm=(0, 2, 1))
    rows = b.op("Reshape", moved, shape=(batch * groups * count, channels))
    return Pixels(b.op("Pad", rows, pads=(0, 0, 1, 0)), extents, batch * groups)


def first_rows(b: Builder, image: Pixels, rank: int) -> Value:
    """Returns the row of each image's first pixel, [groups, 1, ...] of that rank."""
    starts = np.arange(image.groups, dtype=np.int64) * image.count
    return b.constant(starts.reshape(-1, *(1,) * (rank - 1)))


def sample(
    b: Builder, image: Pixels, first: Value, axes: Sequence[Sequence[Tap]], combine: str = "Add"
) -> Value:
    """Emits samples of an image.

    Args:
        b: Where to.
        image: The pixels; weights have its format.
        first: Row of the first pixel of the image that each sample reads, int64.
        axes: The taps along each spatial axis.
        combine: Core op that joins weighted taps.

    Returns:
        [points, channels], where points is the shape that positions and ``first`` broadcast to.
    """
    zeros = b.scalar(image.groups * image.count, INT64)
    found: list[Value] = []

    def visit(axis: int, row: Value, weight: Value | None, inside: Value | None) -> None:
        if axis == len(axes):
            at = row if inside is None else b.op("Where", inside, row, zeros)
            pixel = b.op("Gather", image.rows, at, axis=0)
            if weight is not None:
                column = b.op("Reshape", weight, shape=(*weight.shape, 1))
                pixel = b.op("Mul", pixel, column)
            found.append(pixel)
            return
        stride = b.scalar(prod(image.extents[axis + 1 :]), INT64)
        for tap in axes[axis]:
            at = b.op("Add", row, b.op("Mul", tap.position, stride))
            visit(
                axis + 1,
                at,
                _joined(b, "Mul", weight, tap.weight),
                _joined(b, "And", inside, tap.inside),
            )

    visit(0, first, None, None)
    total = found[0]
    for pixel in found[1:]:
        total = b.op(combine, total, pixel)
    return total


def _joined(b: Builder, op: str, left: Value | None, right: Value | None) -> Value | None:
    if left is None or right is None:
        return left if right is None else right
    return b.op(op, left, right)


def linear(b: Builder, fraction: Value) -> tuple[Value, Value]:
    """Returns the weights of the pixels before and behind, by the distance from the first."""
    return b.op("Sub", b.scalar(1, fraction.format), fraction), fraction


def cubic(b: Builder, fraction: Value, a: float) -> tuple[Value, Value, Value, Value]:
    """Returns the weights of the two pixels before and the two behind.

    The kernel of Keys (IEEE Trans. ASSP 29(6), 1981) with parameter ``a``, as products: with s
    and t the distances from the inner pixels, a t s^2 outside and s (1 + t - (a + 2) t^2)
    inside. So no weight is a difference of larger numbers.
    """
    one = b.scalar(1, fraction.format)
    near, far = fraction, b.op("Sub", one, fraction)

    def outer(t: Value, s: Value) -> Value:
        return b.op("Mul", b.op("Mul", b.scalar(a, t.format), t), b.op("Mul", s, s))

    def inner(t: Value, s: Value) -> Value:
        bent = b.op("Mul", b.op("Mul", b.scalar(a + 2, t.format), t), t)
        return b.op("Mul", s, b.op("Sub", b.op("Add", one, t), bent))

    return outer(near, far), inner(near, far), inner(far, near), outer(far, near)


def inside(b: Builder, position: Value, extent: int) -> Value:
    """Returns which positions lie in an axis of that extent."""
    return b.op(
        "And",
        b.op("GreaterOrEqual", position, b.scalar(0, INT64)),
        b.op("Less", position, b.scalar(extent, INT64)),
    )


def clipped(b: Builder, x: Value, low: float, high: float) -> Value:
    """Returns ``x`` limited to low .. high; NaN stays."""
    return b.op("Max", b.op("Min", x, b.scalar(high, x.format)), b.scalar(low, x.format))


def cell(b: Builder, at: Value) -> tuple[Value, Value]:
    """Returns the last position not behind each coordinate (int64), and the distance from it."""
    floor = b.op("Floor", at)
    return b.op("Cast", floor, to=INT64.name), b.op("Sub", at, floor)


def linear_or_zero(b: Builder, at: Value, extent: int, kind: Format) -> tuple[Tap, Tap]:
    """Returns the taps of linear interpolation in an image that zeros surround.

    Args:
        b: Where to.
        at: Coordinates along the axis.
        extent: Extent of the axis.
        kind: Format of the weights.
    """
    # Beyond this far all taps are outside anyway; infinity would become NaN as a distance.
    first, fraction = cell(b, clipped(b, at, -2, extent + 1))
    second = b.op("Add", first, b.scalar(1, INT64))
    before, behind = (cast(b, weight, kind) for weight in linear(b, fraction))
    return (
        Tap(first, before, inside(b, first, extent)),
        Tap(second, behind, inside(b, second, extent)),
    )
