"""Pools: maximum or sum over a sliding window, which one axis after the other can find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    computing,
    integer,
    integers,
    is_half,
    one,
    operand_format,
    shape_of,
    wants,
)
from accelsdk.kernels.windows import Taps, Window, pad

#: Items of an operand handled at a time, to stay in cache.
_ITEMS = 1 << 16


def lowest(fmt: Format) -> float:
    """Returns the identity of max: what padding holds, and the maximum of nothing."""
    return -math.inf if fmt.is_float else fmt.min


def _slide(
    x: NDArray[Any], window: Window, ufunc: np.ufunc, fill: float, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Combines every window with ``ufunc``: axis by axis, a few channels at a time.

    Outer axes go first: there whole rows combine, and fewer are left for the last axis.
    """
    out = np.empty(shape, x.dtype)
    step = max(1, _ITEMS // max(shape[0] * math.prod(window.padded), 1))
    for start in range(0, shape[1] if out.size else 0, step):
        part = slice(start, start + step)
        found = pad(x[:, part], window, fill)
        for axis in range(window.rank):
            found = _along(found, axis, window, ufunc)
        out[:, part] = found
    return out


def _along(x: NDArray[Any], axis: int, window: Window, ufunc: np.ufunc) -> NDArray[Any]:
    taps, stride = window.kernel[axis], window.strides[axis]
    reach = (window.results[axis] - 1) * stride + 1
    before = (slice(None),) * (axis + 2)
    starts = [tap * window.dilations[axis] for tap in range(taps)]
    views = [x[(*before, slice(start, start + reach, stride))] for start in starts]
    if taps == 1:
        return views[0]
    if window.results[axis] == 1 and window.dilations[axis] == 1:
        only = x[(*before, slice(0, taps))]  # a long stride leaves items after the one window
        return np.asarray(ufunc.reduce(only, axis=axis + 2, keepdims=True))
    found = ufunc(views[0], views[1])
    for view in views[2:]:
        ufunc(found, view, out=found)
    return np.asarray(found)


def _bind_max_pool(node: Node) -> Kernel:
    window = Window.of(node, integers(node, "kernel_shape"))
    fmt, shape = operand_format(node, 0), node.result.shape
    fill = lowest(fmt)
    if wants(node, 1):
        return _with_positions(node, window)

    return one(computing(fmt, lambda x: _slide(x, window, np.maximum, fill, shape)))


def _with_positions(node: Node, window: Window) -> Kernel:
    """MaxPool with the flat position in X of each maximum; the first one wins."""
    fmt, shape = operand_format(node, 0), node.result.shape
    x_shape, by_column = shape_of(node, 0), integer(node, "storage_order") == 1
    extents = x_shape[2:]
    order = range(len(extents)) if by_column else reversed(range(len(extents)))
    steps, step = [0] * len(extents), 1
    for axis in order:
        steps[axis] = step
        step *= extents[axis]
    planes = np.arange(math.prod(x_shape[:2])).reshape(*x_shape[:2], *(1,) * len(extents)) * step
    corners = [
        np.arange(result) * stride - begin
        for result, stride, begin in zip(window.results, window.strides, window.begin, strict=True)
    ]
    rows = slice(0, window.results[0])

    def pool(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        wide = x.astype(np.float32) if is_half(fmt) else x
        taps = Taps(wide, window, lowest(fmt))
        best = np.full(shape, lowest(fmt), wide.dtype)
        position = np.full(shape, -1, np.int64)
        for tap in window.taps():
            found = taps.crop(np.array(taps.view(tap, rows)), rows)
            inside = np.ones((), bool)
            offset = np.zeros((), np.int64)
            for axis, (corner, shift) in enumerate(zip(corners, tap, strict=True)):
                spread = (slice(None), *(None,) * (len(extents) - 1 - axis))
                at = (corner + shift)[spread]
                inside = inside & (at >= 0) & (at < extents[axis])
                offset = offset + at * steps[axis]
            better = (found > best) | (position < 0) | (np.isnan(found) & ~np.isnan(best))
            better &= inside
            best = np.where(better, found, best)
            position = np.where(better, offset, position)
        return best.astype(x.dtype, copy=False), position + planes

    return pool if math.prod(shape) else lambda x: (x.reshape(shape), np.empty(shape, np.int64))


def _bind_average_pool(node: Node) -> Kernel:
    window = Window.of(node, integers(node, "kernel_shape"))
    fmt, shape = operand_format(node, 0), node.result.shape
    count = _counts(node, window)

    def pool(x: NDArray[Any]) -> NDArray[Any]:
        out = _slide(x, window, np.add, 0, shape)
        out /= count.astype(out.dtype)
        return out

    return one(computing(fmt, pool))


def _counts(node: Node, window: Window) -> NDArray[Any]:
    """How many items each window averages: padding counts only if the node says so."""
    pads = integers(node, "pads")
    include = integer(node, "count_include_pad")
    count = np.ones((), np.int64)
    for axis in range(window.rank):
        low = -window.begin[axis] if include else 0
        high = window.extents[axis] + (pads[axis + window.rank] if include else 0)
        start = np.arange(window.results[axis]) * window.strides[axis] - window.begin[axis]
        taps = np.arange(window.kernel[axis]) * window.dilations[axis]
        at = start[:, None] + taps
        inside = ((at >= low) & (at < high)).sum(axis=1)
        count = count[..., None] * inside
    return count


BINDERS: Binders = {"MaxPool": _bind_max_pool, "AveragePool": _bind_average_pool}
