"""Pools over whole numbers: every window attribute, corners, both divisors, positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import INT64
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

Shape = tuple[int, ...]
#: Spatial extents, kernel, strides, pads, dilations.
Window = tuple[Shape, Shape, Shape, Shape, Shape]

_WINDOWS: dict[str, Window] = {
    "uneven": ((11, 9), (3, 2), (2, 1), (1, 0, 2, 1), (1, 1)),
    "dilated": ((11, 10), (3, 3), (1, 2), (0, 0, 0, 0), (2, 3)),
    "dilated_pad": ((9, 8), (3, 2), (2, 1), (2, 1, 1, 1), (2, 3)),
    "ceiled": ((10, 12), (3, 4), (2, 3), (0, 0, 0, 0), (1, 1)),
    "ceiled_pad": ((7, 8), (3, 3), (2, 3), (1, 1, 1, 1), (1, 1)),
    "gaps": ((13, 11), (2, 2), (4, 5), (0, 0, 0, 0), (1, 1)),
    "whole": ((6, 5), (6, 5), (1, 1), (0, 0, 0, 0), (1, 1)),
    "point": ((5, 4), (1, 1), (2, 1), (0, 0, 0, 0), (1, 1)),
    "line": ((23,), (4,), (3,), (2, 1), (1,)),
    "line_dilated": ((23,), (3,), (2,), (1, 3), (4,)),
    "wide": ((3, 150), (2, 3), (1, 2), (0, 1, 1, 0), (1, 1)),
    "volume": ((5, 4, 6), (2, 3, 2), (2, 1, 3), (0, 1, 1, 1, 1, 0), (1, 1, 1)),
    "seven": ((12, 13), (7, 7), (1, 2), (3, 3, 3, 3), (1, 1)),
    "seven_global": ((7, 7), (7, 7), (1, 1), (0, 0, 0, 0), (1, 1)),
    "nine_five": ((14, 9), (9, 5), (2, 1), (0, 2, 1, 0), (1, 1)),
    "five_nine": ((8, 17), (5, 9), (3, 2), (2, 1, 0, 4), (1, 1)),
    "global": ((17, 16), (17, 16), (1, 1), (0, 0, 0, 0), (1, 1)),
    "long_taps": ((140,), (65,), (9,), (1, 3), (1,)),
    "row_taps": ((3, 150), (1, 129), (1, 5), (0, 0, 0, 0), (1, 1)),
    "column_taps": ((150, 3), (129, 1), (5, 1), (0, 0, 0, 0), (1, 1)),
    "dilated_taps": ((26, 25), (7, 7), (2, 3), (1, 0, 2, 1), (3, 4)),
    "volume_taps": ((6, 7, 6), (4, 4, 4), (2, 1, 2), (1, 0, 0, 0, 2, 1), (1, 1, 1)),
    "far_strides": ((40, 37), (3, 2), (17, 18), (1, 0, 1, 0), (1, 1)),
    "tall": ((150, 3), (3, 2), (2, 1), (1, 0, 1, 1), (1, 1)),
}


def pool(case: Case, context: Context) -> Problem:
    """MaxPool and AveragePool: a named window, or a square one of two axes."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    window, attributes = _window(case)
    rng = data.rng(case, context)
    shape = (2, int(given.get("channels", 3)), *window[0])
    top = int(given.get("top", 60))
    whole = rng.integers(-top, top + 1, shape) if fmt.is_signed else rng.integers(0, 2 * top, shape)
    values = whole.astype(np.float64)
    if given.get("data") == "low" and fmt.is_float:
        # Where a maximum begins with the lowest number instead of -Inf, it shows.
        values = np.where(rng.random(shape) < 0.7, -np.inf, -fmt.max)
        values[0] = -np.inf
    if given.get("data") == "far":
        # Numbers whose sums lie beyond float16: sums of the profile are float32's at least.
        values = 1024 * rng.integers(20, 61, shape).astype(np.float64)
        values[1] = np.where(rng.random(shape[1:]) < 0.5, -values[1], values[1])
    x = represent(values, fmt) if fmt.is_float else from_integers(whole, fmt)

    def make(x: Tensor) -> Problem:
        own = (x.shape[2:], *window[1:])
        return (_average if case.op == "AveragePool" else _largest)(case, x, own, attributes)

    return shrinkable(make, (x,), separate_axes)


def _largest(case: Case, x: Tensor, window: Window, attributes: dict[str, Any]) -> Problem:
    fmt, given = x.format, case.parameters
    positions = np.arange(x.codes.size).reshape(x.shape).astype(np.float64)
    best, where = _maximum(x.values, positions, window, attributes["ceil_mode"])
    expected = [expect_exact(represent(best, fmt) if fmt.is_float else from_integers(best, fmt))]
    if given.get("indices"):
        order = int(given.get("storage_order", 0))
        attributes = {**attributes, "storage_order": order}
        flat = _by_column(where, window[0]) if order else where
        expected.append(expect_exact(from_integers(flat, INT64)))
    return Problem(
        op="MaxPool",
        operands=(x,),
        attributes=attributes,
        outputs=len(expected),
        oracle=always(*expected),
    )


def nan_positions(case: Case, context: Context) -> Problem:
    """MaxPool of planes with one NaN each: windows that see it, and its position.

    A maximum that is NaN stands where the NaN does; where NaN is declared to be ignored, the
    maximum is the largest number's, and so is the position.
    """
    fmt = data.format_of(case, 0)
    window, attributes = _window(case)
    shape = (2, 6, *window[0])
    values = data.rng(case, context).integers(-60, 61, shape).astype(np.float64)
    planes, size = values.reshape(12, -1), math.prod(window[0])
    planes[np.arange(12), np.arange(12) * 7 % size] = np.nan
    spec = context.datasheet.reduction("MaxPool", fmt.name)
    rank = -np.inf if spec is not None and spec.nan == "ignore" else np.inf

    def make(x: Tensor) -> Problem:
        if np.isinf(x.values).any():
            raise ValueError("an infinity")
        positions = np.arange(x.codes.size).reshape(x.shape).astype(np.float64)
        ranked = np.where(np.isnan(x.values), rank, x.values)
        own = (x.shape[2:], *window[1:])
        best, where = _maximum(ranked, positions, own, attributes["ceil_mode"])
        largest = represent(np.where(np.isinf(best), np.nan, best), fmt)
        expected = expect_exact(largest), expect_exact(from_integers(where, INT64))
        return Problem(
            op="MaxPool",
            operands=(x,),
            attributes={**attributes, "storage_order": 0},
            outputs=2,
            oracle=always(*expected),
        )

    return shrinkable(make, (represent(values, fmt),), separate_axes)


def _window(case: Case) -> tuple[Window, dict[str, Any]]:
    given = case.parameters
    if "window" in given:
        window = _WINDOWS[str(given["window"])]
    else:
        kernel, stride, pad = (int(given[key]) for key in ("kernel", "stride", "pad"))
        window = ((11, 9), (kernel,) * 2, (stride,) * 2, (pad,) * 4, (1, 1))
    _, kernel_shape, strides, pads, dilations = window
    ceil = int(given.get("ceil_mode", 0))
    return window, {
        "kernel_shape": kernel_shape,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "ceil_mode": ceil,
    }


def _results(window: Window, ceil: int) -> Shape:
    """Returns the extents of the result; no window begins in the padding at the end.

    Raises:
        ValueError: A window is wider than its axis with the padding.
    """
    extents, kernel, strides, pads, dilations = window
    found = []
    for i, extent in enumerate(extents):
        room = extent + pads[i] + pads[i + len(extents)] - (kernel[i] - 1) * dilations[i] - 1
        if room < 0:
            raise ValueError("a window is wider than its axis")
        steps = -(-room // strides[i]) if ceil else room // strides[i]
        while ceil and steps * strides[i] >= extent + pads[i]:
            steps -= 1
        found.append(steps + 1)
    return tuple(found)


def _taps(window: Window, results: Shape) -> tuple[NDArray[np.int64], Mask, Mask]:
    """Returns where each tap of each window lies, [taps in row-major order, *results].

    Returns:
        The index of the item in its plane, whether it lies inside, and whether it lies at least
        in the padding.
    """
    extents, kernel, strides, pads, dilations = window
    rank = len(extents)
    flat, inside, counted = np.zeros((), np.int64), np.array(True), np.array(True)
    for i, extent in enumerate(extents):
        steps = np.arange(results[i]) * strides[i] - pads[i]
        line = np.arange(kernel[i])[:, None] * dilations[i] + steps
        shape = [1] * (2 * rank)
        shape[i], shape[rank + i] = kernel[i], results[i]
        line = line.reshape(shape)
        flat = flat * extent + np.clip(line, 0, extent - 1)
        inside = inside & (line >= 0) & (line < extent)
        counted = counted & (line < extent + pads[i + rank])
    taps = (math.prod(kernel), *results)
    return flat.reshape(taps), inside.reshape(taps), counted.reshape(taps)


def _seen(x: F64, flat: NDArray[np.int64]) -> F64:
    """Returns the items [taps, N, C, *results] of each plane."""
    planes = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    return np.moveaxis(planes[:, :, flat], 2, 0)


def _maximum(x: F64, positions: F64, window: Window, ceil: int) -> tuple[F64, NDArray[np.int64]]:
    results = _results(window, ceil)
    best = np.full((*x.shape[:2], *results), -np.inf)
    where = np.full(best.shape, -1, np.int64)
    flat, inside, _ = _taps(window, results)
    views, places = _seen(x, flat), _seen(positions, flat).astype(np.int64)
    for view, place, there in zip(views, places, inside, strict=True):
        better = there & ((view > best) | (where < 0))  # of equals the first
        best = np.where(better, view, best)
        where = np.where(better, place, where)
    _check_seen(where >= 0)
    return best, where


def _check_seen(seen: Mask) -> None:
    """Refuses windows that see nothing but padding: ONNX does not say what comes of them.

    Raises:
        ValueError: There is one.
    """
    if not seen.all():
        raise ValueError("a window sees nothing")


def _by_column(flat: NDArray[np.int64], extents: Shape) -> NDArray[np.int64]:
    """Counts positions with the first spatial axis fastest."""
    count = math.prod(extents)
    plane, inner = flat // count, flat % count
    at = np.unravel_index(inner, extents)
    return plane * count + np.ravel_multi_index(at, extents, order="F")


def _average(case: Case, x: Tensor, window: Window, attributes: dict[str, Any]) -> Problem:
    """A mean of whole numbers: their sum is exact, and the quotient is rounded once or so."""
    include = int(case.parameters.get("count_include_pad", 0))
    results = _results(window, attributes["ceil_mode"])
    flat, inside, counted = _taps(window, results)
    total = np.where(inside[:, None, None], _seen(x.values, flat), 0.0).sum(axis=0)
    count = (counted if include else inside).sum(axis=0)
    _check_seen(count > 0)
    divisor = Carried.exact(np.broadcast_to(count, total.shape).astype(np.float64), x.format)
    mean = Carried.exact(total, x.format).divided(divisor, 1.0)
    return carried_problem(
        "AveragePool", (x,), {**attributes, "count_include_pad": include}, [mean]
    )
