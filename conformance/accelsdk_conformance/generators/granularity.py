"""Where scales and zero points lie: of a tensor, along any axis, or of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk_conformance.case import Case

#: Shape of a tensor, axis and block size of its scales.
Layout = tuple[tuple[int, ...], int, int]

NAMED: dict[str, Layout] = {
    "tensor": ((8, 515), 1, 0),
    "power2": ((8, 515), 1, 0),
    "symmetric": ((8, 515), 1, 0),
    "channel0": ((7, 200), 0, 0),
    "channel1": ((3, 37, 19), 1, 0),
    "channel_last": ((5, 3, 41), -1, 0),
    "block16": ((5, 128), 1, 16),
    "block_tail": ((5, 150), 1, 32),
    "block_axis0": ((70, 6), 0, 32),
    "block_middle": ((3, 21, 7), -2, 5),
    "vector": ((77,), 0, 0),
    "rank0": ((), 0, 0),
    "empty": ((3, 0), 0, 0),
}


def layout_of(case: Case) -> Layout:
    """Returns the layout that a case names, or says with ``extents``, ``axis`` and ``block``."""
    given = case.parameters
    if "extents" not in given:
        return NAMED[str(given["scales"])]
    extents: Sequence[int] = given["extents"]
    return tuple(extents), int(given.get("axis", 1)), int(given.get("block", 0))


def scale_extents(mode: str, layout: Layout) -> tuple[int, ...]:
    """Returns the extents of the scales of a layout; () where a tensor has one."""
    shape, axis, block = layout
    if block:
        at = axis % len(shape)
        return (*shape[:at], -(-shape[at] // block), *shape[at + 1 :])
    return (shape[axis],) if mode.startswith("channel") else ()


def spread(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Spreads scales or zero points over the shape of the data."""
    shape, axis, block = layout
    if values.ndim == 0:
        return np.broadcast_to(values, shape)
    if block:
        return np.repeat(values, block, axis=axis).take(range(shape[axis]), axis=axis)
    extents = [1] * len(shape)
    extents[axis] = shape[axis]
    return np.broadcast_to(values.reshape(extents), shape)
