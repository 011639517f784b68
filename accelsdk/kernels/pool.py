"""Pools: a running maximum or sum over the taps of a sliding window."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from accelsdk.kernels.windows import Taps, Window

#: Items of an operand handled at a time, so that sums stay in cache.
_ITEMS = 1 << 16


def lowest(fmt: Format) -> float:
    """Returns the identity of max: what padding holds, and the maximum of nothing."""
    return -math.inf if fmt.is_float else fmt.min


def _parts(channels: int, per_channel: int) -> Iterator[slice]:
    step = max(1, _ITEMS // max(per_channel, 1))
    for start in range(0, channels, step):
        yield slice(start, min(start + step, channels))


def _slide(
    x: NDArray[Any], window: Window, ufunc: np.ufunc, fill: float, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Combines the taps of every window with ``ufunc``, a few channels at a time."""
    out = np.empty(shape, x.dtype)
    if out.size == 0:
        return out
    rows = slice(0, window.results[0])
    for part in _parts(shape[1], shape[0] * math.prod(window.padded)):
        taps = Taps(x[:, part], window, fill)
        total = None
        for tap in window.taps():
            view = taps.view(tap, rows)
            total = view.copy() if total is None else ufunc(total, view, out=total)
        out[:, part] = taps.crop(np.asarray(total), rows)
    return out


def _bind_max_pool(node: Node) -> Kernel:
    window = Window.of(node, integers(node, "kernel_shape"))
    fmt, shape = operand_format(node, 0), node.result.shape
    fill = lowest(fmt)
    if wants(node, 1):
        return _with_positions(node, window)

    def pool(x: NDArray[Any]) -> NDArray[Any]:
        return _slide(x, window, np.maximum, fill, shape)

    return one(computing(fmt, pool))


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
