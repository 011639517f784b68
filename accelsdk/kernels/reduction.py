"""Reductions, positions of extremes, running sums and the largest items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binder,
    Binders,
    Kernel,
    axes_of,
    axis_of,
    computing,
    integer,
    is_half,
    one,
    operand_format,
    shape_of,
)

#: Reduces an array over the axes: (x, axes, keepdims).
Reducer = Callable[[NDArray[Any], tuple[int, ...], bool], NDArray[Any]]


def accumulator(x: NDArray[Any]) -> np.dtype[Any]:
    """Returns the dtype in which sums of ``x`` run: float64 for floats, else its own."""
    return np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype


def wide_total(x: NDArray[Any], axes: tuple[int, ...], keepdims: bool) -> NDArray[Any]:
    """Sums, and leaves the sums in the dtype of `accumulator`."""
    return np.asarray(np.sum(x, axis=axes, dtype=accumulator(x), keepdims=keepdims))


def total(x: NDArray[Any], axes: tuple[int, ...], keepdims: bool) -> NDArray[Any]:
    """Sums; float32 in float64, rounded once."""
    return wide_total(x, axes, keepdims).astype(x.dtype, copy=False)


def _multiplied(x: NDArray[Any], axes: tuple[int, ...], keepdims: bool) -> NDArray[Any]:
    products = np.prod(x, axis=axes, dtype=accumulator(x), keepdims=keepdims)
    return np.asarray(products).astype(x.dtype, copy=False)


def reducer(function: Reducer) -> Binder:
    """Binds a reduction with the attributes axes and keepdims."""

    def bind(node: Node) -> Kernel:
        axes, keepdims = axes_of(node), bool(integer(node, "keepdims"))
        return one(computing(operand_format(node, 0), lambda x: function(x, axes, keepdims)))

    return bind


def _identity(fmt: Format, ufunc: np.ufunc) -> float | int | bool:
    """Returns the maximum (or minimum) of nothing: the lowest (highest) value there is."""
    is_max = ufunc is np.maximum
    if fmt.is_integer:
        return int(np.iinfo(fmt.name).min if is_max else np.iinfo(fmt.name).max)
    if fmt is BOOL:
        return not is_max
    return -np.inf if is_max else np.inf


def _extreme(ufunc: np.ufunc) -> Binder:
    def bind(node: Node) -> Kernel:
        axes, keepdims = axes_of(node), bool(integer(node, "keepdims"))
        fmt = operand_format(node, 0)
        start = _identity(fmt, ufunc)

        def reduce(x: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(ufunc.reduce(x, axis=axes, keepdims=keepdims, initial=start))

        return one(computing(fmt, reduce))

    return bind


def _arg(function: Callable[..., Any]) -> Binder:
    """Binds ArgMax or ArgMin; NaN is the extreme, as in NumPy."""

    def bind(node: Node) -> Kernel:
        axis, keepdims = axis_of(node), bool(integer(node, "keepdims"))
        last, half = integer(node, "select_last_index"), is_half(operand_format(node, 0))
        extent = shape_of(node, 0)[axis]

        def position(x: NDArray[Any]) -> NDArray[Any]:
            wide = x.astype(np.float32) if half else x
            if last:
                found = extent - 1 - function(np.flip(wide, axis), axis=axis, keepdims=keepdims)
            else:
                found = function(wide, axis=axis, keepdims=keepdims)
            return np.asarray(found, np.int64)

        return one(position)

    return bind


def _bind_cumsum(node: Node) -> Kernel:
    axis = axis_of(node)
    exclusive, reverse = integer(node, "exclusive"), integer(node, "reverse")
    before = (slice(None),) * axis

    def cumsum(x: NDArray[Any]) -> NDArray[Any]:
        x = np.flip(x, axis) if reverse else x
        sums = np.cumsum(x, axis=axis, dtype=accumulator(x)).astype(x.dtype, copy=False)
        if exclusive:
            shifted = np.zeros_like(sums)
            shifted[(*before, slice(1, None))] = sums[(*before, slice(None, -1))]
            sums = shifted
        return np.flip(sums, axis) if reverse else sums

    return one(computing(operand_format(node, 0), cumsum))


def _bind_top_k(node: Node) -> Kernel:
    k, axis, largest = integer(node, "k"), axis_of(node), integer(node, "largest")
    half = is_half(operand_format(node, 0))

    def top_k(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        keys = x.astype(np.float32) if half else x
        if largest:
            # Both reverse the order; the complement does so without overflow.
            keys = np.negative(keys) if keys.dtype.kind == "f" else np.invert(keys)
        order = np.argsort(keys, axis=axis, kind="stable")
        kept = np.take(order, np.arange(k), axis=axis)
        return np.take_along_axis(x, kept, axis=axis), kept.astype(np.int64, copy=False)

    return top_k


BINDERS: Binders = {
    "ReduceSum": reducer(total),
    "ReduceProd": reducer(_multiplied),
    "ReduceMax": _extreme(np.maximum),
    "ReduceMin": _extreme(np.minimum),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "CumSum": _bind_cumsum,
    "TopK": _bind_top_k,
}
