"""Ops whose results are as large as the data says: the size is part of what must be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, FLOAT32, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, whole
from accelsdk_conformance.oracles.tensor import F64, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Expected,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

_SHAPES: Mapping[str, tuple[int, ...]] = {
    "vector": (67,),
    "matrix": (7, 13),
    "cube": (3, 5, 4),
    "long": (5003,),
    "rows": (300, 3),
    "scalar": (),
    "empty": (3, 0, 2),
}
#: How often an element is not 0, or a slice is kept.
_DENSITY: Mapping[str, float] = {"none": 0.0, "few": 0.1, "half": 0.5, "all": 1.0}


def nonzero(case: Case, context: Context) -> Problem:
    """NonZero of none, some and all elements; -0 is 0, NaN and subnormals are not."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shape = _SHAPES[str(case.parameters["shape"])]
    taken = rng.random(shape) < _DENSITY[str(case.parameters["density"])]
    x = _spiced(taken, fmt, rng)

    def make(x: Tensor) -> Problem:
        expected = expect_exact(from_integers(np.argwhere(x.values != 0).T, INT64))
        return Problem(op=case.op, operands=(x,), oracle=always(expected))

    return shrinkable(make, (x,), separate_axes)


def _spiced(taken: NDArray[np.bool_], fmt: Format, rng: np.random.Generator) -> Tensor:
    """Returns values that are 0 just where nothing is taken."""
    if fmt == BOOL:
        return from_integers(taken.astype(np.int64), fmt)
    if not fmt.is_float:
        return from_integers(taken * rng.integers(1, 100, taken.shape), fmt)
    some = np.array([1.0, -2.5, np.nan, np.inf, -np.inf, fmt.smallest_subnormal, -fmt.max])
    zeros = np.where(rng.random(taken.shape) < 0.5, 0.0, -0.0)
    return represent(np.where(taken, rng.choice(some, taken.shape), zeros), fmt)


def compress(case: Case, context: Context) -> Problem:
    """Compress along every axis, by conditions as long as the axis and shorter."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    axis, short = int(case.parameters["axis"]), int(case.parameters["short"])
    x = data.ramp(fmt, (5, 9, 6))
    kept = rng.random(x.shape[axis] - short) < _DENSITY[str(case.parameters["density"])]
    return compressed(x, kept, axis)


def compressed(x: Tensor, kept: NDArray[np.bool_], axis: int) -> Problem:
    """Returns the problem of keeping some slices along an axis.

    Args:
        x: Data.
        kept: The condition: as many as there are slices, or fewer.
        axis: Of the slices.
    """

    def make(x: Tensor, condition: Tensor) -> Problem:
        if len(condition.codes) > x.shape[axis]:
            raise ValueError("a condition longer than its axis")
        slices = np.flatnonzero(condition.codes)
        return Problem(
            op="Compress",
            operands=(x, condition),
            attributes={"axis": axis},
            oracle=always(expect_exact(Tensor(x.format, x.codes.take(slices, axis=axis)))),
        )

    def axes(x: Tensor, condition: Tensor) -> list[Axis]:
        return [(Along(0, axis), Along(1, 0)), *separate_axes(x, condition)]

    return shrinkable(make, (x, from_integers(kept.astype(np.int64), BOOL)), axes)


def unique(case: Case, context: Context) -> Problem:
    """Unique slices along an axis, sorted and not: few values, so that many are equal."""
    fmt = data.format_of(case, 0)
    axis, ascending = int(case.parameters["axis"]), int(case.parameters["sorted"])
    outputs = int(case.parameters.get("outputs", 4))
    x = _repeating(case, fmt, data.rng(case, context), axis)
    return distinct(x, axis, ascending=ascending, outputs=outputs)


def distinct(x: Tensor, axis: int, *, ascending: int = 1, outputs: int = 4) -> Problem:
    """Returns the problem of finding the different slices along an axis.

    Args:
        x: Data.
        axis: Of the slices.
        ascending: Whether the result is sorted.
        outputs: How many results are asked for.
    """

    def make(x: Tensor) -> Problem:
        values = x.values if x.format.is_float else whole.whole(x)
        lines = np.moveaxis(values, axis, 0).reshape(x.shape[axis], -1).tolist()
        keys = [tuple(_order(item) for item in line) for line in lines]
        first: dict[tuple[tuple[int, float], ...], int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        kinds = sorted(first) if ascending else list(first)
        indices = np.array([first[key] for key in kinds], np.int64)
        inverse = np.array([kinds.index(key) for key in keys], np.int64)
        counts = np.array([keys.count(key) for key in kinds], np.int64)
        found = Tensor(x.format, x.codes.take(indices, axis=axis))
        expected: list[Expected] = [expect_exact(found)]
        expected += [expect_exact(from_integers(a, INT64)) for a in (indices, inverse, counts)]
        return Problem(
            op="Unique",
            operands=(x,),
            attributes={"axis": axis, "sorted": ascending},
            outputs=outputs,
            oracle=always(*expected[:outputs]),
        )

    return shrinkable(make, (x,), separate_axes)


def _repeating(case: Case, fmt: Format, rng: np.random.Generator, axis: int) -> Tensor:
    """Returns a vector, or a matrix of few different slices, with what is hard to compare."""
    count = int(case.parameters.get("count", 41))
    ranks = {1: (count,), 2: (14, 3) if axis == 0 else (3, 14)}
    shape = ranks[int(case.parameters["rank"])]
    items = rng.integers(0, 2 if fmt == BOOL or len(shape) > 1 else 9, shape)
    if not fmt.is_float:
        return from_integers(items, fmt)
    values = items - (1.0 if len(shape) > 1 else 4.0)
    if case.parameters.get("special"):
        values[rng.random(shape) < 0.2] = np.nan
        values[rng.random(shape) < 0.2] = -0.0
        values[rng.random(shape) < 0.2] = np.inf
    return represent(values, fmt)


def _order(value: float) -> tuple[int, float]:
    """A key that puts NaN last and makes all NaN, and both zeros, equal; integers stay whole."""
    return (1, 0.0) if value != value else (0, value + 0)


# -- NonMaxSuppression -------------------------------------------------------------------------


def suppress(case: Case, context: Context) -> Problem:
    """NonMaxSuppression of boxes on a grid of whole numbers, with ties among the scores.

    Areas are small whole numbers and the threshold is dyadic: a quotient of areas that differs
    from it does so by far more than a rounding.
    """
    rng = data.rng(case, context)
    batches, classes, count = 2, 3, int(case.parameters["boxes"])
    most, centred = int(case.parameters["most"]), int(case.parameters["center_point_box"])
    # Without thresholds, what overlaps at all is left out, and every score counts (ONNX).
    limit = float(case.parameters.get("iou", 0.0))
    least = float(case.parameters.get("score", -np.inf))
    low = rng.integers(0, 12, (batches, count, 2)) * 2
    size = rng.integers(0, 7, (batches, count, 2)) * 2  # one in seven has no area
    scores = rng.integers(0, 9, (batches, classes, count)) / 8
    boxes = np.concatenate([low, low + size], axis=-1)
    if centred:
        given = np.concatenate([low + size / 2, size.astype(np.float64)], axis=-1)
    else:
        turned = rng.random((batches, count, 1)) < 0.5  # any two opposite corners will do
        given = np.where(turned, np.roll(boxes, 2, axis=-1), boxes).astype(np.float64)
    attributes: dict[str, Any] = {"max_output_boxes_per_class": most, "center_point_box": centred}

    def make(boxes: Tensor, scores: Tensor, *ends: Tensor | None) -> Problem:
        apart = [_apart(corners, limit) for corners in _corners(boxes.values, centred)]
        rows = [
            (batch, label, box)
            for batch, label in np.ndindex(*scores.shape[:2])
            for box in _kept(apart[batch], scores.values[batch, label].tolist(), least, most)
        ]
        found = np.array(rows, np.int64).reshape(-1, 3)
        return Problem(
            op=case.op,
            operands=(boxes, scores, *ends),
            attributes=attributes,
            oracle=always(expect_exact(from_integers(found, INT64))),
        )

    def axes(boxes: Tensor, scores: Tensor, *ends: Tensor | None) -> list[Axis]:
        return [(Along(0, 0), Along(1, 0)), (Along(1, 1),), (Along(0, 1), Along(1, 2))]

    operands = (
        represent(given, FLOAT32),
        represent(scores, FLOAT32),
        data.scalar(limit) if "iou" in case.parameters else None,
        data.scalar(least) if "score" in case.parameters else None,
    )
    return shrinkable(make, operands, axes, fixed=(2, 3))


def _corners(boxes: F64, centred: int) -> F64:
    """Returns lower and upper corners of boxes, whichever two were given.

    Raises:
        ValueError: A box is not on the grid on which everything is exact.
    """
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    found = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)
    if (found != np.rint(found)).any() or (centred and (boxes[..., 2:] < 0).any()):
        raise ValueError("boxes of no whole corners")
    return found


def _kept(apart: NDArray[np.bool_], scores: list[float], least: float, most: int) -> list[int]:
    left = sorted((-score, box) for box, score in enumerate(scores) if score > least)
    kept: list[int] = []
    for _, box in left:
        if len(kept) < most and apart[box, kept].all():
            kept.append(box)
    return kept


def _apart(boxes: F64, limit: float) -> NDArray[np.bool_]:
    """Says of each two boxes whether the quotient of their areas is at most ``limit``.

    Areas are small whole numbers and the limit is dyadic: the products are exact.
    """
    a, b = boxes[:, None], boxes[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    return np.asarray(shared <= limit * (area[:, None] + area[None] - shared))
