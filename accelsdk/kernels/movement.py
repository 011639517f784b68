"""Ops that only move elements; most return views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.families.movement import slice_range
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Binders, Kernel, axis_of, integers, one, shape_of, text


def _bind_reshape(node: Node) -> Kernel:
    shape = integers(node, "shape")
    return one(lambda x: x.reshape(shape))


def _bind_transpose(node: Node) -> Kernel:
    perm = integers(node, "perm")
    return one(lambda x: x.transpose(perm))


def _bind_concat(node: Node) -> Kernel:
    axis = axis_of(node)
    return one(lambda *parts: np.concatenate(parts, axis=axis))


def _bind_slice(node: Node) -> Kernel:
    shape = shape_of(node, 0)
    cut = [slice(None)] * len(shape)
    settings = (integers(node, name) for name in ("starts", "ends", "axes", "steps"))
    for start, end, axis, step in zip(*settings, strict=True):
        taken = slice_range(start, end, step, shape[axis])
        # A range down to the first item stops at -1, which a slice would count from the end.
        cut[axis] = slice(taken.start, taken.stop if taken.stop >= 0 else None, step)
        if len(taken) == 0:
            cut[axis] = slice(0, 0)
    index = tuple(cut)
    return one(lambda x: x[index])


def _bind_split(node: Node) -> Kernel:
    axis = axis_of(node)
    ends = np.cumsum(integers(node, "split")).tolist()
    before = (slice(None),) * axis
    cuts = [(*before, slice(start, end)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return lambda x: tuple(x[cut] for cut in cuts)


def _bind_pad(node: Node) -> Kernel:
    shape, pads, mode = shape_of(node, 0), integers(node, "pads"), text(node, "mode")
    result = node.result.shape
    rank = len(shape)
    crop = tuple(
        slice(max(-pads[i], 0), extent + min(pads[i + rank], 0)) for i, extent in enumerate(shape)
    )
    grow = tuple((max(pads[i], 0), max(pads[i + rank], 0)) for i in range(rank))
    if mode == "constant":
        inner = tuple(
            slice(before, extent - after)
            for (before, after), extent in zip(grow, result, strict=True)
        )

        def pad(x: NDArray[Any], value: NDArray[Any] | None = None) -> NDArray[Any]:
            out = np.zeros(result, x.dtype) if value is None else np.full(result, value, x.dtype)
            out[inner] = x[crop]
            return out

        return one(pad)
    source = np.arange(max(int(np.prod(shape)), 1), dtype=np.intp)[: int(np.prod(shape))]
    numpy_mode: Any = mode
    index = np.pad(source.reshape(shape)[crop], grow, mode=numpy_mode)
    return one(lambda x, _value=None: x.reshape(-1)[index])


def _bind_expand(node: Node) -> Kernel:
    result = node.result.shape
    return one(lambda x: np.broadcast_to(x, result))


def _bind_tile(node: Node) -> Kernel:
    repeats = integers(node, "repeats")
    return one(lambda x: np.tile(x, repeats))


BINDERS: Binders = {
    "Reshape": _bind_reshape,
    "Transpose": _bind_transpose,
    "Concat": _bind_concat,
    "Slice": _bind_slice,
    "Split": _bind_split,
    "Pad": _bind_pad,
    "Expand": _bind_expand,
    "Tile": _bind_tile,
}
