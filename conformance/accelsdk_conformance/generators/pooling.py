"""Pools over whole numbers: every window attribute, corners, both divisors, positions."""

from __future__ import annotations

from collections.abc import Iterator
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


def _taps(x: F64, window: Window, results: Shape) -> Iterator[tuple[F64, Mask, Mask]]:
    """Yields what each tap of a window sees, in row-major order.

    Returns:
        The items [N, C, *results], whether they lie inside, and whether they lie at least in the
        padding.
    """
    extents, kernel, strides, pads, dilations = window
    rank = len(extents)
    for tap in np.ndindex(*kernel):
        lines = [
            np.arange(results[i]) * strides[i] - pads[i] + tap[i] * dilations[i]
            for i in range(rank)
        ]
        held = [np.clip(line, 0, n - 1) for line, n in zip(lines, extents, strict=True)]
        inside = _all([(line >= 0) & (line < n) for line, n in zip(lines, extents, strict=True)])
        counted = _all([line < extents[i] + pads[i + rank] for i, line in enumerate(lines)])
        at: Any = (slice(None), slice(None), *np.ix_(*held))
        yield x[at], inside, counted


def _all(lines: list[Mask]) -> Mask:
    """Combines a condition of each axis into one of all of them."""
    found = np.ones([len(line) for line in lines], bool)
    for axis, line in enumerate(lines):
        found &= line.reshape([-1 if a == axis else 1 for a in range(len(lines))])
    return found


def _maximum(x: F64, positions: F64, window: Window, ceil: int) -> tuple[F64, NDArray[np.int64]]:
    results = _results(window, ceil)
    best = np.full((*x.shape[:2], *results), -np.inf)
    where = np.full(best.shape, -1, np.int64)
    places = _taps(positions, window, results)
    for (view, inside, _), (place, _, _) in zip(_taps(x, window, results), places, strict=True):
        better = inside & ((view > best) | (where < 0))  # of equals the first
        best = np.where(better, view, best)
        where = np.where(better, place.astype(np.int64), where)
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
    count = int(np.prod(extents))
    plane, inner = flat // count, flat % count
    at = np.unravel_index(inner, extents)
    return plane * count + np.ravel_multi_index(at, extents, order="F")


def _average(case: Case, x: Tensor, window: Window, attributes: dict[str, Any]) -> Problem:
    """A mean of whole numbers: their sum is exact, and the quotient is rounded once or so."""
    include = int(case.parameters.get("count_include_pad", 0))
    results = _results(window, attributes["ceil_mode"])
    total, count = np.zeros((*x.shape[:2], *results)), np.zeros(results)
    for view, inside, counted in _taps(x.values, window, results):
        total += np.where(inside, view, 0.0)
        count += counted if include else inside
    _check_seen(count > 0)
    divisor = Carried.exact(np.broadcast_to(count, total.shape).astype(np.float64), x.format)
    mean = Carried.exact(total, x.format).divided(divisor, 1.0)
    return carried_problem(
        "AveragePool", (x,), {**attributes, "count_include_pad": include}, [mean]
    )
