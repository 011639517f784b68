"""GridSample over any number of spatial axes (ONNX GridSample-22).

Linear and cubic samples weigh 2 and 4 pixels an axis. Coordinates outside the image are clipped
(border) or folded back at the image's edges (reflection); so are the positions of taps. Cubic
samples with border padding clip positions alone, as PyTorch and onnxruntime do, from which ONNX
took the op; `onnx.reference` clips coordinates too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from accelsdk.compiler.rules.common import integer, refuse, required, rule, text
from accelsdk.compiler.rules.sampling import (
    Pixels,
    Tap,
    cast,
    cell,
    clipped,
    cubic,
    first_rows,
    inside,
    linear,
    pixels,
    sample,
    working,
)
from accelsdk.formats import FLOAT32, FLOAT64, INT64, Format
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Parameter of the cubic kernel, which ONNX fixes here.
_CUBIC = -0.75
_MODES = {"nearest": "nearest", "linear": "linear", "cubic": "cubic"}
_OLD_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # as opset 16 calls them


@dataclass(frozen=True, slots=True)
class _Way:
    """How samples are taken."""

    mode: str
    padding: str
    align: bool


def _grid_sample(b: Builder, node: Node) -> Sequence[Value | None]:
    x, grid = required(node, 0), required(node, 1)
    modes = _MODES | _OLD_MODES
    way = _Way(
        modes[text(node, "mode", "linear", tuple(modes))],
        text(node, "padding_mode", "zeros", ("zeros", "border", "reflection")),
        bool(integer(node, "align_corners", 0)),
    )
    axes = x.type.rank - 2
    if axes < 1 or grid.type.rank != axes + 2 or grid.shape[-1] != axes:
        refuse(node, f"the grid {grid.type} does not fit {x.type}")
    if grid.shape[0] != x.shape[0]:
        refuse(node, f"the grid {grid.type} is not for {x.shape[0]} images")
    result = (*x.shape[:2], *grid.shape[1:-1])
    if prod(result) == 0:
        return [b.op("Expand", b.scalar(0, x.format), shape=result)]
    if prod(x.shape[2:]) == 0:
        refuse(node, f"there is nothing to sample in {x.type}")
    source = x if way.mode == "nearest" else cast(b, x, _value_format(node, x.format))
    image = pixels(b, source)
    kind = working(grid.format)
    points = b.op("Reshape", cast(b, grid, kind), shape=(x.shape[0], prod(result[2:]), axes))
    taps = [_taps(b, way, image, _column(b, points, axes - 1 - i), i) for i in range(axes)]
    made = sample(b, image, first_rows(b, image, 2), taps)
    moved = b.op("Transpose", made, perm=(0, 2, 1))
    return [cast(b, b.op("Reshape", moved, shape=result), x.format)]


def _value_format(node: Node, kind: Format) -> Format:
    """The float format in which pixels are weighed; integers are cast back at the end."""
    if kind.is_float:
        return working(kind)
    if not kind.is_integer:
        refuse(node, f"{kind.name} pixels cannot be interpolated")
    return FLOAT32 if kind.bits <= 16 else FLOAT64


def _column(b: Builder, points: Value, index: int) -> Value:
    """One coordinate of each point, [N, points]."""
    last = b.op("Slice", points, starts=(index,), ends=(index + 1,), axes=(2,), steps=(1,))
    return b.op("Reshape", last, shape=points.shape[:2])


def _taps(b: Builder, way: _Way, image: Pixels, place: Value, axis: int) -> list[Tap]:
    """Returns the taps along one axis for normalised coordinates."""
    extent, kind = image.extents[axis], place.format
    shifted = b.op("Add", place, b.scalar(1, kind))
    half = b.scalar(0.5, kind)
    if way.align:
        at = b.op("Mul", b.op("Mul", shifted, half), b.scalar(extent - 1, kind))
    else:
        reach = b.op("Mul", shifted, b.scalar(extent, kind))
        at = b.op("Mul", b.op("Sub", reach, b.scalar(1, kind)), half)
    if way.mode == "nearest":
        at = b.op("Round", at)  # before it is bounded, so that ties do not depend on the edge
    at = _bounded(b, way, at, extent)
    first, fraction = cell(b, at)
    if way.mode == "nearest":
        return [_tap(b, way, first, extent, None)]
    weights = linear(b, fraction) if way.mode == "linear" else cubic(b, fraction, _CUBIC)
    made = []
    for index, weight in enumerate(weights):
        shift = index - (len(weights) // 2 - 1)
        position = b.op("Add", first, b.scalar(shift, INT64)) if shift else first
        made.append(_tap(b, way, position, extent, cast(b, weight, image.rows.format)))
    return made


def _bounded(b: Builder, way: _Way, at: Value, extent: int) -> Value:
    """Coordinates after the padding mode; those within the image's edges stay as they are."""
    if way.padding == "border" and way.mode != "cubic":
        return clipped(b, at, 0, extent - 1)
    if way.padding != "reflection":
        # Beyond this far all taps are outside; infinity would become NaN as a distance.
        return clipped(b, at, -3, extent + 2)
    low, high = (0.0, extent - 1.0) if way.align else (-0.5, extent - 0.5)
    if high == low:
        return b.op("Expand", b.scalar(0, at.format), shape=at.shape)
    # Folding at both edges repeats every two widths; fmod is exact.
    period = b.scalar(2 * (high - low), at.format)
    edge = b.scalar(low, at.format)
    away = b.op("Mod", b.op("Abs", b.op("Sub", at, edge)), period, fmod=1)
    moved = b.op("Add", edge, b.op("Min", away, b.op("Sub", period, away)))
    beyond = b.op(
        "Or",
        b.op("Less", at, b.scalar(low, at.format)),
        b.op("Greater", at, b.scalar(high, at.format)),
    )
    return b.op("Where", beyond, moved, at)


def _tap(b: Builder, way: _Way, position: Value, extent: int, weight: Value | None) -> Tap:
    """A tap whose position is brought into the image, or known to be outside."""
    if way.padding == "zeros":
        return Tap(position, weight, inside(b, position, extent))
    if way.padding == "border" or extent == 1:
        return Tap(clipped(b, position, 0, extent - 1), weight)
    period, last = (2 * (extent - 1),) * 2 if way.align else (2 * extent, 2 * extent - 1)
    folded = b.op("Mod", position, b.scalar(period, INT64))
    mirrored = b.op("Sub", b.scalar(last, INT64), folded)
    return Tap(b.op("Min", folded, mirrored), weight)


RULES: tuple[LoweringRule, ...] = (
    rule("GridSample", _grid_sample, "align_corners mode padding_mode"),
)
