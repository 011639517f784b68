"""Resize in every mode, against exact fractions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.resizing import Axis, Taps
from accelsdk_conformance.oracles.tensor import F64, Codes, Mask, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    Exact,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    separate_axes,
    shrinkable,
)

Shape = tuple[int, ...]
#: Source extents, result extents, and the scales if they are not the quotients.
_SIZES: dict[str, tuple[Shape, Shape, tuple[float, ...] | None]] = {
    "double": ((1, 2, 4, 6), (1, 2, 8, 12), None),
    "half": ((1, 1, 8, 6), (1, 1, 4, 3), None),
    "up": ((1, 2, 5, 7), (1, 2, 8, 10), None),
    "down": ((1, 1, 9, 8), (1, 1, 4, 5), None),
    "mixed": ((1, 1, 4, 9), (1, 1, 10, 4), None),
    "one": ((1, 2, 5, 4), (1, 2, 1, 1), None),
    "from_one": ((1, 1, 1, 3), (1, 1, 4, 3), None),
    "cut": ((1, 1, 5, 5), (1, 1, 8, 3), (1.0, 1.0, 1.75, 0.75)),  # 8.75 and 3.75 cut off
    "line": ((2, 3, 7), (2, 3, 11), None),
    "matrix": ((5, 6), (3, 8), None),
    "wide": ((1, 1, 2, 20), (1, 1, 3, 67), None),
    "narrow": ((1, 1, 2, 130), (1, 1, 2, 48), None),
    "planes": ((3, 35, 2, 3), (3, 35, 3, 4), None),
    # The scales of the broad ones are powers of two, or their sources short: what float32 loses
    # of a coordinate stays as small as in a small image.
    "broad": ((1, 1, 2, 70), (1, 1, 2, 140), None),
    "broader": ((1, 1, 2, 75), (1, 1, 3, 300), None),
    "stretched": ((1, 2, 2, 7), (1, 2, 2, 154), None),
    "halved": ((1, 1, 2, 516), (1, 1, 1, 258), None),
    "tall": ((1, 1, 70, 3), (1, 1, 140, 3), None),
    "channels": ((1, 130, 2, 3), (1, 130, 4, 6), None),
    "batch": ((17, 2, 3, 2), (17, 2, 6, 4), None),
    "broad_line": ((1, 2, 80), (1, 2, 160), None),
    "deep": ((1, 1, 33, 2, 3), (1, 1, 66, 4, 3), None),
    "volume": ((1, 1, 3, 4, 2), (1, 1, 5, 2, 4), None),
}
_LOST = Fraction(1, 1 << 18)  # of a coordinate in float32 arithmetic, a few units of 2**-24 * 32


def resize(case: Case, context: Context) -> Problem:
    """One mode, transformation and size, on whole numbers that differ from place to place."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    source, result, scales = _SIZES[str(given["size"])]
    scales = scales or tuple(float(np.float32(b / a)) for a, b in zip(source, result, strict=True))
    transform = str(given.get("transform", "half_pixel"))
    mode = str(given["mode"])
    attributes: dict[str, Any] = {
        "scales": scales,
        "mode": mode,
        "coordinate_transformation_mode": transform,
        "nearest_mode": str(given.get("nearest_mode", "round_prefer_floor")),
        "cubic_coeff_a": float(given.get("cubic_coeff_a", -0.75)),
        "exclude_outside": int(given.get("exclude_outside", 0)),
        "antialias": int(given.get("antialias", 0)),
        "extrapolation_value": float(given.get("extrapolation_value", 0.0)),
    }
    rank = len(source)
    roi = (*(0.0,) * (rank - 2), -0.25, 0.25, *(1.0,) * (rank - 2), 0.75, 1.25)
    if transform == "tf_crop_and_resize":
        attributes["roi"] = roi

    def make(x: Tensor) -> Problem:
        now = _result(x.shape, source, result, scales)
        axes = [
            Axis(
                source=x.shape[i],
                result=now[i],
                scale=Fraction(scales[i]),
                transform=transform,
                crop=(Fraction(roi[i]), Fraction(roi[i + rank])),
            )
            for i in range(rank)
        ]
        expected = (_nearest if mode == "nearest" else _weighted)(x, axes, attributes)
        return Problem(
            op="Resize",
            operands=(x,),
            attributes={**attributes, "output_shape": now},
            oracle=always(expected),
        )

    low, high = (-90, 91) if fmt.is_signed else (10, 201)
    values = data.rng(case, context).permutation(np.arange(low, high))
    if given.get("data") == "edges":  # steps from end to end: cubics leave the range beside them
        least, most = (-128, 127) if fmt.is_signed else (0, 255)
        values = np.where(data.rng(case, context).random(math.prod(source)) < 0.5, least, most)
    whole = np.resize(values, source).astype(np.float64)
    x = represent(whole, fmt) if fmt.is_float else from_integers(whole, fmt)
    return shrinkable(make, (x,), separate_axes)


def _result(given: Shape, source: Shape, result: Shape, scales: tuple[float, ...]) -> Shape:
    """Returns the extents that an input of any extents is resized to: as many times as large.

    Raises:
        ValueError: Nothing would be left.
    """
    found = tuple(
        after if now == before else math.floor(now * Fraction(scale))
        for now, before, after, scale in zip(given, source, result, scales, strict=True)
    )
    if min(found) < 1:
        raise ValueError("the result is empty")
    return found


def _nearest(x: Tensor, axes: Sequence[Axis], attributes: dict[str, Any]) -> Expected:
    """Exact; where a coordinate is as good as a threshold, the places on both sides are right."""
    mode = attributes["nearest_mode"]
    fill = _fill(x, attributes)
    choices = [
        [[axis.nearest(at, mode, shift) for at in range(axis.result)] for shift in _shifts(axis)]
        for axis in axes
    ]
    found = [_picked(x.codes, plan, fill) for plan in itertools.product(*choices)]
    accept = Exact(found[0], others=tuple(found[1:]))
    return Expected(x.format, found[0].shape, ((Tier.T0, accept),), Tier.T0)


def _shifts(axis: Axis) -> list[Fraction]:
    """No shift where every coordinate is exact in float32 arithmetic, else some both ways."""
    dyadic = axis.scale.numerator == 1 or axis.scale.denominator == 1
    if axis.source == axis.result or (dyadic and axis.transform != "align_corners"):
        return [Fraction(0)]
    return [Fraction(0), _LOST, -_LOST]


def _picked(codes: Codes, plan: Sequence[Sequence[Taps]], fill: int) -> Codes:
    outside = np.zeros([len(taps) for taps in plan], bool)
    for axis, taps in enumerate(plan):
        codes = codes.take([next(iter(t)) if t else 0 for t in taps], axis=axis)
        line = np.array([t is None for t in taps])
        outside |= line.reshape([-1 if a == axis else 1 for a in range(len(plan))])
    return np.where(outside, codes.dtype.type(fill), codes)


def _fill(x: Tensor, attributes: dict[str, Any]) -> int:
    value = np.array(attributes["extrapolation_value"])
    tensor = represent(value, x.format) if x.format.is_float else from_integers(value, x.format)
    return int(tensor.codes)


def _weighted(x: Tensor, axes: Sequence[Axis], attributes: dict[str, Any]) -> Expected:
    cubic = Fraction(attributes["cubic_coeff_a"]) if attributes["mode"] == "cubic" else None
    exclude, antialias = bool(attributes["exclude_outside"]), bool(attributes["antialias"])
    value: F64 = x.values
    size = np.abs(value)
    outside: Mask = np.zeros([axis.result for axis in axes], bool)
    taps_of_all = 1
    for i, axis in enumerate(axes):
        if (
            axis.source == axis.result
            and axis.scale == 1
            and axis.transform != "tf_crop_and_resize"
        ):
            continue
        matrix, most, line = _weights(axis, cubic, exclude, antialias)
        value = np.moveaxis(np.tensordot(matrix, value, axes=([1], [i])), 0, i)
        size = np.moveaxis(np.tensordot(np.abs(matrix), size, axes=([1], [i])), 0, i)
        taps_of_all += most + 1
        outside = outside | line.reshape([-1 if a == i else 1 for a in range(len(axes))])
    value = np.where(outside, float(attributes["extrapolation_value"]), value)
    return _expected(x, value, size, outside, taps_of_all)


@cache
def _weights(
    axis: Axis, cubic: Fraction | None, exclude: bool, antialias: bool
) -> tuple[F64, int, Mask]:
    """Returns an axis as a matrix, most weights of a result, and which results are outside.

    Kept, for an axis is the same in every format that is resized along it.
    """
    taps = [axis.weighted(at, cubic, exclude, antialias) for at in range(axis.result)]
    matrix = np.zeros((axis.result, axis.source))
    for at, found in enumerate(taps):
        for place, weight in (found or {}).items():
            matrix[at, place] = float(weight)
    matrix.flags.writeable = False
    return matrix, max(len(found or {}) for found in taps), np.array([t is None for t in taps])


def _expected(x: Tensor, value: F64, size: F64, outside: Mask, taps: int) -> Expected:
    """Returns results within the error of weights and coordinates in the format's arithmetic.

    A coordinate lost by d moves a result by at most 16 d of the largest magnitude: the sum of
    the slopes of both kernels, with room for normalised ones (antialiased, excluded).
    """
    fmt = x.format
    slope = 16 * float(np.abs(x.values).max(initial=0.0)) * 8 * 2.0**-24
    precision = fmt.precision if fmt.is_float else 24
    bound = slope + taps * 2.0 ** (1 - precision) * (size + np.abs(value))
    bound = np.where(outside, 0.0, bound)
    if fmt.is_float:
        within = Within(Doubled(value, np.zeros_like(value)), bound)
        return Expected(fmt, value.shape, ((Tier.T3, within),), Tier.T3)
    # ONNX does not say how integers are rounded: both neighbours are right.
    ends = [np.clip(f, fmt.min, fmt.max) for f in (np.floor(value - bound), np.ceil(value + bound))]
    middle = np.clip(np.rint(value), fmt.min, fmt.max)
    codes = [from_integers(end, fmt).codes for end in (middle, *ends)]
    accept = Exact(codes[0], others=tuple(codes[1:]))
    return Expected(fmt, value.shape, ((Tier.T0, accept),), Tier.T0)
