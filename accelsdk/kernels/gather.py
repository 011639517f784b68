"""Gathering and scattering by index; indices may count from the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    axis_of,
    integer,
    is_half,
    one,
    operand_format,
    shape_of,
    text,
)

_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def checked(indices: NDArray[Any], extent: int, node: str) -> NDArray[Any]:
    """Returns indices as non-negative positions.

    Raises:
        InvalidArgument: An index lies outside the axis.
    """
    if indices.size == 0:
        return indices.astype(np.intp)
    low, high = int(indices.min()), int(indices.max())
    if low < -extent or high >= extent:
        wrong = low if low < -extent else high
        raise InvalidArgument(
            f"index {wrong} is outside an axis of {extent}",
            node=node,
            remedy=f"indices may be {-extent} .. {extent - 1}",
        )
    positions = indices.astype(np.intp, copy=False)
    return np.where(positions < 0, positions + extent, positions) if low < 0 else positions


def _bind_gather(node: Node) -> Kernel:
    axis, name = axis_of(node), node.name
    extent = shape_of(node, 0)[axis]

    def gather(x: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
        return np.take(x, checked(indices, extent, name), axis=axis)

    return one(gather)


def _grid(shape: tuple[int, ...], axis: int) -> Callable[[NDArray[Any]], tuple[Any, ...]]:
    """Returns what turns positions along ``axis`` into an index of every element."""
    open_grid = np.ix_(*map(np.arange, shape)) if shape else ()

    def index(positions: NDArray[Any]) -> tuple[Any, ...]:
        return (*open_grid[:axis], positions, *open_grid[axis + 1 :])

    return index


def _bind_gather_elements(node: Node) -> Kernel:
    axis, name = axis_of(node), node.name
    extent, index = shape_of(node, 0)[axis], _grid(shape_of(node, 1), axis)

    def gather(x: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(x[index(checked(indices, extent, name))])

    return one(gather)


def _flat_positions(
    indices: NDArray[Any], extents: tuple[int, ...], batch: int, node: str
) -> NDArray[np.intp]:
    """Returns the flat position of each index tuple within the axes it names.

    Args:
        indices: Tuples along the last axis.
        extents: Extents of the batch axes and the axes that tuples name.
        batch: Number of leading axes that indices share with the data.
        node: Name for messages.
    """
    depth = indices.shape[-1]
    flat = np.zeros(indices.shape[:-1], np.intp)
    for axis in range(batch):
        along = np.arange(extents[axis]).reshape(-1, *(1,) * (flat.ndim - axis - 1))
        flat = flat * extents[axis] + along
    for item in range(depth):
        extent = extents[batch + item]
        flat = flat * extent + checked(indices[..., item], extent, node)
    return flat


def _bind_gather_nd(node: Node) -> Kernel:
    shape, batch, name = shape_of(node, 0), integer(node, "batch_dims"), node.name
    named = batch + shape_of(node, 1)[-1]
    rows = (math.prod(shape[:named]), *shape[named:])

    def gather(x: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
        positions = _flat_positions(indices, shape[:named], batch, name)
        return np.take(x.reshape(rows), positions, axis=0)

    return one(gather)


def _scatter(
    x: NDArray[Any], index: tuple[Any, ...], updates: NDArray[Any], reduction: str, fmt: Format
) -> NDArray[Any]:
    """Returns ``x`` with updates applied in order, duplicates included."""
    if reduction == "none":
        out = x.copy()
        out[index] = updates
        return out
    half = is_half(fmt)
    out = x.astype(np.float32) if half else x.copy()
    _REDUCTIONS[reduction].at(out, index, updates.astype(out.dtype, copy=False))
    return out.astype(x.dtype, copy=False)


def _bind_scatter_elements(node: Node) -> Kernel:
    axis, name, reduction = axis_of(node), node.name, text(node, "reduction")
    fmt = operand_format(node, 0)
    extent, index = shape_of(node, 0)[axis], _grid(shape_of(node, 1), axis)

    def scatter(x: NDArray[Any], indices: NDArray[Any], updates: NDArray[Any]) -> NDArray[Any]:
        return _scatter(x, index(checked(indices, extent, name)), updates, reduction, fmt)

    return one(scatter)


def _bind_scatter_nd(node: Node) -> Kernel:
    shape, name, reduction = shape_of(node, 0), node.name, text(node, "reduction")
    fmt, depth = operand_format(node, 0), shape_of(node, 1)[-1]
    rows = (math.prod(shape[:depth]), *shape[depth:])

    def scatter(x: NDArray[Any], indices: NDArray[Any], updates: NDArray[Any]) -> NDArray[Any]:
        positions = _flat_positions(indices, shape[:depth], 0, name)
        found = _scatter(x.reshape(rows), (positions,), updates, reduction, fmt)
        return found.reshape(shape)

    return one(scatter)


BINDERS: Binders = {
    "Gather": _bind_gather,
    "GatherND": _bind_gather_nd,
    "GatherElements": _bind_gather_elements,
    "ScatterElements": _bind_scatter_elements,
    "ScatterND": _bind_scatter_nd,
}
