"""Resize: along each axis, a weighted sum of a few source positions per result position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    integer,
    one,
    operand_format,
    real,
    reals,
    shape_of,
    text,
)

Float64 = NDArray[np.float64]

#: Steps per source element to which coordinates are rounded.
_GRID = 2.0**30


@dataclass(frozen=True, slots=True)
class Axis:
    """What one axis of the result takes from the source.

    Attributes:
        axis: Which.
        positions: Source positions of each tap, [taps, results].
        weights: Weight of each tap, [taps, results]; None: one tap, as it is.
        outside: Results that lie outside the source and are extrapolated, or None.
    """

    axis: int
    positions: NDArray[np.intp]
    weights: Float64 | None
    outside: NDArray[np.bool_] | None


def _coordinates(
    mode: str, source: int, result: int, scale: float, roi: tuple[float, float]
) -> Float64:
    """Returns the source coordinate of each result position (ONNX 19, Resize)."""
    at = np.arange(result, dtype=np.float64)
    match mode:
        case "align_corners":
            return at * ((source - 1) / (result - 1)) if result > 1 else at
        case "asymmetric":
            return at / scale
        case "tf_crop_and_resize":
            start, end = roi
            if result > 1:
                return start * (source - 1) + at * (end - start) * (source - 1) / (result - 1)
            return at + 0.5 * (start + end) * (source - 1)
        case "pytorch_half_pixel" if result <= 1:
            return at
        case "half_pixel_symmetric":
            centred = source / 2 * (1 - result / (scale * source))
            return centred + (at + 0.5) / scale - 0.5
        case _:
            return (at + 0.5) / scale - 0.5


def _nearest(x: Float64, mode: str) -> Float64:
    match mode:
        case "round_prefer_floor":
            return np.ceil(x - 0.5)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case "floor":
            return np.floor(x)
        case _:
            return np.ceil(x)


def _triangle(distance: Float64) -> Float64:
    return np.maximum(1.0 - np.abs(distance), 0.0)


def _keys(distance: Float64, a: float) -> Float64:
    """The cubic kernel of Keys, IEEE Trans. ASSP 29(6), 1981, with parameter ``a``."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _plan_axis(node: Node, axis: int) -> Axis:
    source, result = shape_of(node, 0)[axis], node.result.shape[axis]
    scale = reals(node, "scales")[axis]
    roi = reals(node, "roi")
    crop = (roi[axis], roi[axis + len(roi) // 2]) if roi else (0.0, 1.0)
    transform = text(node, "coordinate_transformation_mode")
    x = _coordinates(transform, source, result, scale, crop)
    # What is a whole number in exact arithmetic must be one here: it decides floor and ceil.
    x = np.rint(x * _GRID) / _GRID
    cropped = transform == "tf_crop_and_resize"
    outside = (x < 0) | (x > source - 1) if cropped else None
    mode = text(node, "mode")
    if mode == "nearest":
        at = np.clip(_nearest(x, text(node, "nearest_mode")), 0, source - 1)
        return Axis(axis, at.astype(np.intp)[None], None, outside)
    shrink = min(scale, 1.0) if integer(node, "antialias") else 1.0
    reach = 1 if mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    at = np.floor(x) + np.arange(first, 2 - first)[:, None]
    distance = (at - x) * shrink
    weights = (
        _triangle(distance) if mode == "linear" else _keys(distance, real(node, "cubic_coeff_a"))
    )
    if integer(node, "exclude_outside"):
        weights = np.where((at < 0) | (at >= source), 0.0, weights)
    total = weights.sum(axis=0)
    # Far outside a crop no tap is left; such results are extrapolated.
    weights = weights / np.where(total == 0, 1.0, total)
    used = np.any(weights != 0, axis=1)
    used[0] |= not used.any()  # something to give results of that extent, to be extrapolated
    positions = np.clip(at, 0, source - 1).astype(np.intp)
    return Axis(axis, positions[used], weights[used], outside)


def _along(x: NDArray[Any], plan: Axis) -> NDArray[Any]:
    """Applies one axis; taps are added in order, in the dtype of ``x``."""
    if plan.weights is None:
        return np.asarray(np.take(x, plan.positions[0], axis=plan.axis))
    spread = (slice(None), *(None,) * (x.ndim - plan.axis - 1))
    out: NDArray[Any] | None = None
    for positions, weights in zip(plan.positions, plan.weights, strict=True):
        term = np.take(x, positions, axis=plan.axis)
        term *= weights.astype(x.dtype)[spread]
        out = term if out is None else np.add(out, term, out=out)
    return x if out is None else out


def _bind_resize(node: Node) -> Kernel:
    fmt, shape = operand_format(node, 0), shape_of(node, 0)
    result, scales = node.result.shape, reals(node, "scales")
    cropped = text(node, "coordinate_transformation_mode") == "tf_crop_and_resize"
    if math.prod(result) == 0:
        return one(lambda x: np.zeros(result, x.dtype))
    axes = [
        _plan_axis(node, axis)
        for axis in range(len(shape))
        if cropped or shape[axis] != result[axis] or scales[axis] != 1
    ]
    axes.sort(key=lambda plan: result[plan.axis] / shape[plan.axis])  # shrink first
    moves = all(plan.weights is None for plan in axes)
    fill = real(node, "extrapolation_value")
    outside = _outside(axes, result)

    def resize(x: NDArray[Any]) -> NDArray[Any]:
        out = x if moves else x.astype(_working(fmt), copy=False)
        for plan in axes:
            out = _along(out, plan)
        out = _narrow(out, fmt)
        return np.where(outside, out.dtype.type(fill), out) if outside is not None else out

    return one(resize)


def _outside(axes: list[Axis], result: tuple[int, ...]) -> NDArray[np.bool_] | None:
    found = None
    for plan in axes:
        if plan.outside is not None and plan.outside.any():
            spread = (slice(None), *(None,) * (len(result) - plan.axis - 1))
            mask = np.broadcast_to(plan.outside[spread], result)
            found = mask if found is None else found | mask
    return found


def _working(fmt: Format) -> type[np.floating[Any]]:
    return np.float64 if fmt is FLOAT64 else np.float32


def _narrow(x: NDArray[Any], fmt: Format) -> NDArray[Any]:
    if x.dtype == fmt.dtype:
        return x
    if fmt.is_integer:
        x = np.clip(np.rint(x), fmt.min, fmt.max)
    return x.astype(fmt.dtype)


BINDERS: Binders = {"Resize": _bind_resize}
