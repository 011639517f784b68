"""Composites along every axis of tensors of four and more axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import (
    reduced_problem,
    softmax_problem,
    softmax_rows,
)
from accelsdk_conformance.oracles.tensor import Tensor, encode, from_integers
from accelsdk_conformance.problem import Context, Problem


def softmax(case: Case, context: Context) -> Problem:
    """Softmax and LogSoftmax along an axis: every third row is a special one."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shape, axis = _shape(case), int(case.parameters["axis"])
    n = shape[axis]
    count = math.prod(shape) // max(n, 1)
    rows = rng.normal(size=(count, n)) * np.array([0.1, 1.0, 5.0])[rng.integers(0, 3, (count, 1))]
    special = softmax_rows(n, rng)
    chosen = np.arange(count) % 3 == 1
    rows[chosen] = np.resize(rng.permutation(special), (int(chosen.sum()), n))
    others = [extent for at, extent in enumerate(shape) if at != axis % len(shape)]
    x = encode(np.moveaxis(rows.reshape(*others, n), -1, axis), fmt)
    return softmax_problem(case.op, Tensor(fmt, np.ascontiguousarray(x.codes)), axis, context)


def reduce(case: Case, context: Context) -> Problem:
    """Reductions of several steps over axes of a tensor; every seventh row holds a NaN."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shape, axes = _shape(case), tuple(int(axis) for axis in case.parameters["axes"])
    keep = int(case.parameters.get("keepdims", 1))
    if not fmt.is_float:
        low = -300 if fmt.is_signed else 0
        given = from_integers(rng.integers(low, 300, shape), fmt)
        return reduced_problem(case.op, given, axes, keep, context)
    values = rng.normal(size=shape) * 2.0
    values = np.abs(values) + 0.5 if case.op == "ReduceLogSum" else values
    reduced = sorted({axis % len(shape) for axis in axes})
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    outer = tuple(shape[axis] for axis in kept)
    inner = tuple(shape[axis] for axis in reduced)
    # A view, so that what is written into it goes to its place in the tensor.
    moved = values.transpose(*kept, *reduced)
    for row in range(3, math.prod(outer), 7):
        lane = np.unravel_index(row % math.prod(inner), inner)
        moved[(*np.unravel_index(row, outer), *lane)] = np.nan
    return reduced_problem(case.op, encode(values, fmt), axes, keep, context)


def _shape(case: Case) -> tuple[int, ...]:
    extents: Any = case.parameters["shape"]
    return tuple(int(extent) for extent in extents)
