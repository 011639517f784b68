"""Resize: every axis is a matrix of interpolation weights."""

import math
from functools import partial

import numpy as np
import pytest

from tests.compiler.rules.inexact import Inexact, exact, wide
from tests.compiler.rules.peers import Case, Draw, Recipes, check, fmt_of

RECIPES = Recipes()

_MODES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


@RECIPES(
    "Resize",
    "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside "
    "extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
    examples=150,
)
def _resize(d: Draw) -> Case:
    opset = d.opset(11, 13, 18, 19, 23)
    mode = d.attr("mode", "nearest", ("linear", "cubic", "nearest"))
    modes = [m for m in _MODES if opset >= 19 or m != "half_pixel_symmetric"]
    transform = d.attr("coordinate_transformation_mode", "half_pixel", modes)
    rank = d.int(1, 3 if mode != "cubic" else 2)
    x = d.array(np.float32, [d.int(1, 5) for _ in range(rank)])
    axes = tuple(range(rank))
    if opset >= 18 and d.flag():
        axes = d.attr("axes", axes, (list(d.axes(rank, 1)),))
    rounding = d.attr(
        "nearest_mode",
        "round_prefer_floor",
        ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    )
    a = d.attr("cubic_coeff_a", -0.75, (-0.5,))
    exclude = d.attr("exclude_outside", 0, (0, 1)) if mode == "cubic" else 0
    beyond = d.attr("extrapolation_value", 0.0, (7.5,))
    # Neither crops nor nearest are meant to be smoothed.
    smooth = opset >= 18 and mode != "nearest" and transform != "tf_crop_and_resize"
    antialias = d.attr("antialias", 0, (0, 1)) if smooth else 0
    roi, at = None, [a % rank for a in axes]
    if transform == "tf_crop_and_resize":
        begins = [d.pick((0.0, 0.25, -0.25)) for _ in axes]
        ends = [b + d.pick((0.5, 0.75, 1.0, 1.25)) for b in begins]
        roi = np.array([*begins, *ends], np.float32)
    scales = sizes = None
    if d.flag():
        scales = np.array([d.pick((0.5, 0.625, 1.0, 1.5, 2.0, 3.25)) for _ in axes], np.float32)
        part = (
            [1.0] * len(axes) if roi is None else [e - b for b, e in zip(begins, ends, strict=True)]
        )
        extents = [
            math.floor(x.shape[i] * float(s) * p) for i, s, p in zip(at, scales, part, strict=True)
        ]
        if min(extents) < 1:
            scales, extents = np.full(len(axes), 4, np.float32), None
            extents = [math.floor(x.shape[i] * 4 * p) for i, p in zip(at, part, strict=True)]
        ratios = [float(s) for s in scales]
    else:
        extents = [d.int(1, 7) for _ in axes]
        sizes = np.array(extents, np.int64)
        policy = "stretch"
        if opset >= 18:
            policies = ("not_larger", "not_smaller", "stretch")
            policy = d.attr("keep_aspect_ratio_policy", "stretch", policies)
        ratios = [n / x.shape[i] for i, n in zip(at, extents, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(ratios)
            extents = [math.floor(x.shape[i] * ratio + 0.5) for i in at]
    if opset < 13:
        roi = roi if roi is not None else np.zeros(0, np.float32)
        scales = scales if scales is not None else np.zeros(0, np.float32)
    y, beyond_crop = exact(x, wide(fmt_of(x))), np.zeros((1,) * rank, bool)
    for place, axis in enumerate(at):
        crop = (begins[place], ends[place]) if transform == "tf_crop_and_resize" else (0.0, 1.0)
        weights = _weights(
            x.shape[axis],
            extents[place],
            ratios[place],
            mode,
            transform,
            rounding,
            a,
            exclude,
            antialias,
            crop,
        )
        outside = np.isnan(weights).any(axis=1)
        spread = [-1 if i == axis else 1 for i in range(rank)]
        beyond_crop = np.logical_or(beyond_crop, outside.reshape(spread))
        y = y.combine(np.nan_to_num(weights), partial(_along, axis))
    # Coordinates and weights are numbers of order 8 computed in a few steps.
    y = Inexact(y.value, y.error + 64 * rank * 2.0**-24 * np.abs(x).max(), y.unit)
    y = Inexact(np.where(beyond_crop, beyond, y.value), np.where(beyond_crop, 0.0, y.error), y.unit)
    if mode == "nearest":
        y = Inexact(y.value, 0.0, y.unit)
    return Case([x, roi, scales, sizes], [y], constant=(1, 2, 3), opset=opset)


def _along(axis: int, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.moveaxis(x, axis, -1) @ weights.T, -1, axis)


def _weights(source, count, scale, mode, transform, rounding, a, exclude, antialias, crop):
    """The matrix by which one axis is interpolated (ONNX Resize); NaN where it extrapolates."""
    weights = np.zeros((count, source))
    for i in range(count):
        at = _coordinate(i, source, count, scale, transform, crop)
        if transform == "tf_crop_and_resize" and not 0 <= at <= source - 1:
            weights[i] = np.nan
            continue
        if mode == "nearest":
            near = {
                "round_prefer_floor": math.ceil(at - 0.5),
                "round_prefer_ceil": math.floor(at + 0.5),
                "floor": math.floor(at),
                "ceil": math.ceil(at),
            }[rounding]
            weights[i, min(max(near, 0), source - 1)] = 1
            continue
        reach = 1 if mode == "linear" else 2
        squeeze = min(scale, 1.0) if antialias else 1.0
        wide_reach = math.ceil(reach / squeeze)
        taps = range(math.floor(at) - wide_reach, math.floor(at) + wide_reach + 2)
        parts = [_kernel(mode, (t - at) * squeeze, a) for t in taps]
        cut = exclude
        total = sum(p for t, p in zip(taps, parts, strict=True) if not cut or 0 <= t < source)
        for t, part in zip(taps, parts, strict=True):
            if not cut or 0 <= t < source:
                weights[i, min(max(t, 0), source - 1)] += part / total
    return weights


def _coordinate(i, source, count, scale, transform, crop):
    match transform:
        case "half_pixel":
            return (i + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            exact_count = source * scale
            adjust = count / exact_count
            return source / 2 * (1 - adjust) + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if count > 1 else 0.0
        case "align_corners":
            return i * (source - 1) / (count - 1) if count > 1 else 0.0
        case "asymmetric":
            return i / scale
    begin, end = crop
    if count > 1:
        return begin * (source - 1) + i * (end - begin) * (source - 1) / (count - 1)
    return 0.5 * (begin + end) * (source - 1)


def _kernel(mode, t, a):
    t = abs(t)
    if mode == "linear":
        return max(0.0, 1 - t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
