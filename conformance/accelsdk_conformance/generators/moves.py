"""Movements as data: shapes, indices and attributes of a node, and what it does to arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from accelsdk_conformance.oracles.tensor import Codes

Shape = tuple[int, ...]
PadMode = Literal["constant", "reflect", "edge", "wrap"]
#: Operand shapes, indices, attributes and the reference of one movement.
Move = tuple[list[Shape], list[Codes], dict[str, Any], Callable[..., Any]]


def plain(shape: Shape, attributes: dict[str, Any], reference: Callable[..., Any]) -> Move:
    """Returns a movement of one tensor."""
    return [shape], [], attributes, reference


def reshape(before: Shape, after: Shape) -> Move:
    """Returns a Reshape."""
    return plain(before, {"shape": after}, lambda x: x.reshape(after))


def transpose(shape: Shape, *perm: int) -> Move:
    """Returns a Transpose."""
    return plain(shape, {"perm": perm}, lambda x: x.transpose(perm))


def expand(before: Shape, shape: Shape) -> Move:
    """Returns an Expand to what both shapes broadcast to."""
    full = np.broadcast_shapes(before, shape)
    return plain(before, {"shape": shape}, lambda x: np.broadcast_to(x, full))


def tile(shape: Shape, *repeats: int) -> Move:
    """Returns a Tile."""
    return plain(shape, {"repeats": repeats}, lambda x: np.tile(x, repeats))


def concat(axis: int, *shapes: Shape) -> Move:
    """Returns a Concat."""
    return list(shapes), [], {"axis": axis}, lambda *x: np.concatenate(x, axis=axis)


def split(shape: Shape, axis: int, *parts: int) -> Move:
    """Returns a Split into parts of given extents."""
    ends = np.cumsum(parts)[:-1]
    return plain(shape, {"axis": axis, "split": parts}, lambda x: np.split(x, ends, axis))


def slices(shape: Shape, at: slice | tuple[slice, ...], **given: Shape) -> Move:
    """Returns a Slice, with its attributes and with what they mean in NumPy."""
    return plain(shape, dict(given), lambda x: x[at])
