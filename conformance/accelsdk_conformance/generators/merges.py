"""Reductions and scatters that merge numbers: the whole range of integers, NaN, every rank.

Integers add and multiply modulo their range, and are compared in their own order; a path through
a float loses what lies beyond its significand.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, reduction, whole
from accelsdk_conformance.generators.ranks import SHAPES
from accelsdk_conformance.oracles.tensor import Codes, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

Shape = tuple[int, ...]


# -- reductions --------------------------------------------------------------------------------


def total(case: Case, context: Context) -> Problem:
    """Reductions of integers: sums beyond 2**53 that fit, or numbers of every size that wrap."""
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    shape = SHAPES[int(case.parameters["rank"])]
    over = tuple(int(axis) for axis in case.parameters["axes"])
    keep = int(case.parameters.get("keepdims", 0))
    wraps = case.parameters["data"] == "wrap"
    x = _noise(fmt, shape, rng) if wraps else _fitting(case.op, fmt, shape, over, rng)
    attributes: dict[str, Any] = {"axes": over, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        rows = reduction.fold(whole.whole(x), over)
        found = whole.wrapped(_folded(case.op, rows), fmt)
        out = reduction.folded_shape(x.shape, over, bool(keep))
        expected = expect_exact(Tensor(fmt, found.codes.reshape(out)))
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x,), separate_axes)


def _folded(op: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Returns the reduction of rows, modulo 2**64.

    Raises:
        ValueError: It is none of integers.
    """
    known = "ReduceSum, ReduceProd, ReduceL1, ReduceSumSquare, ReduceMax, ReduceMin"
    with np.errstate(over="ignore"):
        match op:
            case "ReduceSum":
                found = rows.sum(axis=1, dtype=rows.dtype)
            case "ReduceProd":
                found = rows.prod(axis=1, dtype=rows.dtype)
            case "ReduceL1":
                found = np.abs(rows).sum(axis=1, dtype=rows.dtype)
            case "ReduceSumSquare":
                found = (rows * rows).sum(axis=1, dtype=rows.dtype)
            case "ReduceMax":
                found = rows.max(axis=1)
            case "ReduceMin":
                found = rows.min(axis=1)
            case _:
                raise ValueError(f"{op} is none of {known}")
    return np.asarray(found)


def _noise(fmt: Format, shape: Shape, rng: np.random.Generator) -> Tensor:
    return Tensor(fmt, data.noise(rng, fmt, math.prod(shape)).codes.reshape(shape))


def _fitting(op: str, fmt: Format, shape: Shape, over: Shape, rng: np.random.Generator) -> Tensor:
    """Returns numbers whose reduction fits, the last bit of which a float of their width loses.

    The result of each line is odd, and larger than the significand of such a float.
    """
    extents = tuple(shape[axis] for axis in over)
    lines = (math.prod(shape) // math.prod(extents), math.prod(extents))
    drawn = (_factors if op == "ReduceProd" else _summands)(op, fmt, lines, rng)
    values = rng.permuted(drawn, axis=1)
    kept = [axis for axis in range(len(shape)) if axis not in over]
    across = values.reshape(*(shape[axis] for axis in kept), *extents)
    return from_integers(across.transpose(np.argsort([*kept, *over])), fmt)


def _factors(
    op: str, fmt: Format, lines: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Returns lines of a few odd factors and ones: products have almost all bits that fit."""
    few = min(3, lines[1])
    top = 1 << (fmt.bits - 2) // few
    values = rng.choice([1, -1], lines) if fmt.is_signed else np.ones(lines, np.int64)
    values[:, :few] *= rng.integers(top // 2, top, (lines[0], few)) | 1
    return values


def _summands(
    op: str, fmt: Format, lines: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Returns lines of large numbers: an odd number of odd ones, few of them negative."""
    count = lines[1]
    limit = (1 << (fmt.bits - 1)) // (2 * count)
    limit = math.isqrt(limit) if op == "ReduceSumSquare" else limit
    values = (limit - rng.integers(0, max(limit // 4, 2), lines)) | 1
    values[:, 0] -= 1 - count % 2
    if fmt.is_signed:
        values[:, : count // 4] *= -1
    return values


# -- scatters ----------------------------------------------------------------------------------

_UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
_IGNORING = {"max": np.fmax, "min": np.fmin}


def scatter(case: Case, context: Context) -> Problem:
    """ScatterElements along ``axis``, or ScatterND of tuples of ``depth``; places are hit often.

    Integers are of every size. Of floats there are NaN and infinities, among the data and among
    the updates, which a maximum, a minimum, a sum or a product hands on.
    """
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    shape, how = SHAPES[int(case.parameters["rank"])], str(case.parameters["reduction"])
    spec = context.datasheet.reduction(case.op, fmt.name)
    ignore = spec is not None and spec.nan == "ignore" and how in _IGNORING
    merge: np.ufunc = (_IGNORING if ignore else _UFUNCS)[how]
    attributes: dict[str, Any] = {"reduction": how}
    if case.op == "ScatterElements":
        axis = attributes["axis"] = int(case.parameters["axis"])
        at = tuple(n + 2 * (a == axis % len(shape)) for a, n in enumerate(shape))
        index = rng.integers(-shape[axis], shape[axis], at)
    else:
        depth = int(case.parameters["depth"])
        extents = np.array(shape[:depth])
        spots = rng.integers(-extents, extents, (3, depth))  # few, so that each is hit often
        index = np.concatenate([spots, spots - np.sign(spots + 0.5).astype(int) * extents, spots])
        at = (len(index), *shape[depth:])
    before, updates = (_numbers(fmt, extent, how, rng) for extent in (shape, at))

    def make(before: Tensor, index: Tensor, updates: Tensor) -> Problem:
        after = (before.values if fmt.is_float else whole.whole(before)).copy()
        given = updates.values if fmt.is_float else whole.whole(updates)
        with np.errstate(all="ignore"):  # Inf - Inf, and integers that wrap
            merge.at(after, _spots(case.op, attributes, before.shape, index.integers), given)
        found = represent(after, fmt) if fmt.is_float else whole.wrapped(after, fmt)
        return Problem(
            op=case.op,
            operands=(before, index, updates),
            attributes=attributes,
            oracle=always(expect_exact(found, signed_zero=False)),
        )

    def parts(before: Tensor, index: Tensor, updates: Tensor) -> list[Axis]:
        if case.op == "ScatterND":
            return [(Along(1, 0), Along(2, 0))]
        return [(Along(1, a), Along(2, a)) for a in range(len(before.shape))]

    operands = (before, from_integers(index, INT64), updates)
    return shrinkable(make, operands, parts, fixed=(1,))


def _spots(op: str, attributes: dict[str, Any], shape: Shape, index: Codes) -> tuple[Any, ...]:
    """Returns the place of each update, as an index into the data."""
    if op == "ScatterND":
        return tuple(np.moveaxis(index, -1, 0))
    spots: list[Any] = list(np.ix_(*map(range, index.shape)))
    spots[attributes["axis"]] = index
    return tuple(spots)


def _numbers(fmt: Format, shape: Shape, how: str, rng: np.random.Generator) -> Tensor:
    """Returns integers of every size, or small whole floats with NaN and infinities."""
    if not fmt.is_float:
        return _noise(fmt, shape, rng)
    if how == "mul":
        values = rng.choice([1.0, 1.0, 1.0, -1.0, -1.0, 2.0, 0.5], shape)
    else:
        values = rng.integers(-6, 12, shape).astype(np.float64)
    chance = rng.random(shape)
    values = np.where(chance < 0.04, np.nan, values)
    values = np.where(chance > 0.97, np.inf, values)
    return represent(np.where(chance > 0.985, -np.inf, values), fmt)
