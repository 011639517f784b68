"""Ops whose results are as large as the data says: they return arrays of the real shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
)

Array = NDArray[Any]
Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


def _bind_nonzero(node: Node) -> Kernel:
    rank = len(shape_of(node, 0))

    def nonzero(x: Array) -> Array:
        # Of a scalar, ONNX gives a column of no rows where it is not 0.
        return np.stack(np.nonzero(x)) if rank else np.zeros((0, np.count_nonzero(x)), np.int64)

    return one(nonzero)


def _bind_compress(node: Node) -> Kernel:
    axis = axis_of(node)
    return one(lambda x, condition: np.take(x, np.flatnonzero(condition), axis=axis))


# -- Unique ----------------------------------------------------------------------------------


def _bind_unique(node: Node) -> Kernel:
    axis, ascending = axis_of(node), bool(integer(node, "sorted"))
    half = is_half(operand_format(node, 0))

    def unique(x: Array) -> tuple[Array, ...]:
        rows = np.moveaxis(x, axis, 0)
        rows = rows.reshape(len(rows), -1) if rows.size else np.zeros((len(rows), 1), bool)
        first, inverse, counts = _distinct(rows.astype(np.float32) if half else rows)
        if not ascending:
            order = np.argsort(first)
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            first, inverse, counts = first[order], rank[inverse], counts[order]
        return np.take(x, first, axis=axis), first, inverse, counts

    return lambda x: unique(x)[: len(node.outputs)]


def _distinct(rows: Array) -> tuple[Positions, Positions, Positions]:
    """Returns where each distinct row is first, which one each row is, and how often each is.

    The distinct rows ascend. NumPy's own ``unique`` sees rows as records, among which a NaN
    differs from itself.
    """
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    same = ordered[1:] == ordered[:-1]
    if rows.dtype.kind == "f":
        same |= np.isnan(ordered[1:]) & np.isnan(ordered[:-1])
    starts = np.ones(len(rows), bool)
    starts[1:] = ~same.all(axis=1)
    inverse = np.empty(len(rows), np.int64)
    inverse[order] = np.cumsum(starts) - 1
    counts = np.diff(np.append(np.flatnonzero(starts), len(rows)))
    # The sort is stable: the first of a group is the one that occurs first.
    return order[starts], inverse, counts.astype(np.int64, copy=False)


# -- NonMaxSuppression -----------------------------------------------------------------------


def _bind_non_max_suppression(node: Node) -> Kernel:
    most = integer(node, "max_output_boxes_per_class")
    corners = _centred if integer(node, "center_point_box") else _opposite

    def suppress(
        boxes: Floats,
        scores: Floats,
        iou_threshold: Floats | None = None,
        score_threshold: Floats | None = None,
    ) -> Array:
        limit = np.float32(0) if iou_threshold is None else np.float32(iou_threshold)
        found = []
        for batch, own in enumerate(corners(boxes)):
            for label, score in enumerate(scores[batch]):
                kept = _candidates(score, score_threshold)
                chosen = _greedy(own[kept], limit, most)
                place = np.full((len(chosen), 3), (batch, label, 0), np.int64)
                place[:, 2] = kept[chosen]
                found.append(place)
        return np.concatenate(found) if found else np.zeros((0, 3), np.int64)

    return one(suppress)


def _candidates(score: Floats, threshold: Floats | None) -> Positions:
    """Returns the boxes above the threshold, highest score first; of equal ones the lower."""
    order = np.argsort(-score, kind="stable")
    return order if threshold is None else order[score[order] > np.float32(threshold)]


def _greedy(corners: Floats, limit: np.float32, most: int) -> Positions:
    """Takes the first box, drops those that overlap it too much, and so on."""
    left = np.arange(len(corners))
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        chosen.append(int(left[0]))
        rest = left[1:]
        left = rest[~_overlaps(corners[left[0]], corners[rest], limit)]
    return np.array(chosen, np.int64)


def _opposite(boxes: Floats) -> Floats:
    """Returns [.., (low, high), (first, second coordinate)] of boxes given by any two corners."""
    pairs = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return np.stack([pairs.min(axis=-2), pairs.max(axis=-2)], axis=-2)


def _centred(boxes: Floats) -> Floats:
    """Returns the same of boxes given by centre and size."""
    centre, half = boxes[..., :2], boxes[..., 2:] / np.float32(2)
    return np.stack([centre - half, centre + half], axis=-2)


def _overlaps(box: Floats, others: Floats, limit: np.float32) -> NDArray[np.bool_]:
    """Says of which boxes the intersection over union with ``box`` is above the limit.

    In float32 and in the order of onnxruntime's kernel, so that ties fall as they do there.
    """
    low, high = np.maximum(box[0], others[:, 0]), np.minimum(box[1], others[:, 1])
    sides = high - low
    area, own, shared = _area(others[:, 1] - others[:, 0]), _area(box[1] - box[0]), _area(sides)
    union = own + area - shared
    meet = (sides > 0).all(axis=1) & (shared > 0) & (own > 0) & (area > 0) & (union > 0)
    return np.asarray(meet & (shared / np.where(meet, union, np.float32(1)) > limit), np.bool_)


def _area(sides: Floats) -> Floats:
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


BINDERS: Binders = {
    "NonZero": _bind_nonzero,
    "Compress": _bind_compress,
    "Unique": _bind_unique,
    "NonMaxSuppression": _bind_non_max_suppression,
}
