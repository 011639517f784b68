"""Comparison, classification, selection and limits: nothing is computed, all is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, whole
from accelsdk_conformance.generators.elementwise import either, flushed
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype, encode, represent
from accelsdk_conformance.problem import (
    Context,
    Expected,
    Problem,
    always,
    expect_exact,
    shrinkable,
)

_COMPARISONS = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}


def compare(case: Case, context: Context) -> Problem:
    """Comparisons: NaN is unordered, zeros are equal, edges against edges."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    if fmt.is_float:
        edges = represent(data.specials(fmt), fmt).codes
        codes = np.concatenate([edges, edges ^ edges.dtype.type(1), data.noise(rng, fmt, 96).codes])
    elif fmt == BOOL:
        codes = np.resize(np.array([0, 1, 1], np.uint8), 97)
    else:
        codes = whole.pool(fmt, rng)
    shape = str(case.parameters.get("shape", "grid"))
    if shape not in ("grid", "same"):
        codes = np.resize(codes[:23], 115)  # few, so that some are equal
    x, y = data.paired(fmt, codes, rng, shape)
    if fmt == BOOL:
        y = Tensor(BOOL, y.codes & 1)

    def make(x: Tensor, y: Tensor) -> Problem:
        a, b = _ordered(x), _ordered(y)
        value = _COMPARISONS[case.op](a, b)
        expected = expect_exact(Tensor(BOOL, np.asarray(value).astype(np.uint8)))
        return Problem(op=case.op, operands=(x, y), oracle=always(expected))

    return shrinkable(make, (x, y))


def classify(case: Case, context: Context) -> Problem:
    """IsNaN and IsInf over every code or many."""
    fmt = data.format_of(case, 0)
    x = data.samples(fmt, data.rng(case, context))
    lanes = data.in_every_lane(data.specials(fmt), fmt)
    x = Tensor(fmt, np.concatenate([x.codes, lanes.codes]))
    up, down = (bool(case.parameters.get(f"detect_{s}", 1)) for s in ("positive", "negative"))

    def make(x: Tensor) -> Problem:
        found = np.isnan(x.values)
        if case.op == "IsInf":
            found = ((x.values == np.inf) & up) | ((x.values == -np.inf) & down)
        expected = expect_exact(Tensor(BOOL, found.astype(np.uint8)))
        return Problem(
            op=case.op, operands=(x,), attributes=dict(case.parameters), oracle=always(expected)
        )

    return shrinkable(make, (x,))


#: Shapes of the condition and of both branches.
_SELECTED: dict[str, tuple[tuple[int, ...], ...]] = {
    "mixed": ((515,), (515,), (515,)),
    "wide": ((7, 1, 5), (3, 1), ()),
    "row": ((1, 9), (13, 1), (13, 9)),
    "rank0": ((), (), ()),
}


def where(case: Case, context: Context) -> Problem:
    """Selection: NaN and -0 pass as they are, and the branch not taken has no effect."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shapes = _SELECTED[str(case.parameters.get("shape", "mixed"))]
    pool = data.samples(fmt, rng).codes
    if fmt.is_float:  # every other one is an edge, or none would be met
        edges = represent(data.specials(fmt), fmt).codes
        pool = np.concatenate([pool, np.resize(edges, len(pool))])
    chosen = rng.integers(0, 2, shapes[0]).astype(np.uint8)
    x, y = (Tensor(fmt, pool[rng.integers(0, len(pool), shape)]) for shape in shapes[1:])

    def make(condition: Tensor, x: Tensor, y: Tensor) -> Problem:
        codes = np.where(condition.codes != 0, x.codes, y.codes)
        value = Tensor(fmt, codes.astype(code_dtype(fmt)))
        nan = np.isnan(value.values) if fmt.has_nan else None
        return Problem(
            op="Where",
            operands=(condition, x, y),
            oracle=always(expect_exact(value, nan=nan)),
        )

    return shrinkable(make, (Tensor(BOOL, chosen), x, y))


def clip(case: Case, context: Context) -> Problem:
    """Clip with both limits, one, none, or crossed ones (the upper wins); NaN passes."""
    fmt = data.format_of(case, 0)
    x = data.samples(fmt, data.rng(case, context))
    if fmt.is_float:
        lanes = data.in_every_lane(data.specials(fmt), fmt)
        x = Tensor(fmt, np.concatenate([x.codes[::5], lanes.codes]))
    which = str(case.parameters["limits"])
    low, high = ((-1, 2) if fmt.is_float else (-5, 100)) if fmt.is_signed else (5, 100)
    if which == "crossed":
        low, high = high, low
    ends = [_constant(case, end) for end in (low, high)]
    given: list[Tensor | None] = [
        end if which in ("both", "crossed", name) else None
        for end, name in zip(ends, ("min", "max"), strict=True)
    ]

    spec = context.datasheet.function("Clip", fmt.name)
    ignore = spec is not None and spec.nan == "ignore"

    def make(x: Tensor, low: Tensor | None, high: Tensor | None) -> Problem:
        def expected(flush: bool) -> Expected:
            given = encode(flushed(x.values, fmt), fmt) if flush else x
            return expect_exact(_clipped(given, low, high, ignore), signed_zero=False)

        oracle = either("Clip", fmt, context, expected)
        return Problem(op="Clip", operands=(x, low, high), oracle=oracle)

    return shrinkable(make, (x, *given))


def _clipped(x: Tensor, low: Tensor | None, high: Tensor | None, ignore: bool) -> Tensor:
    """Returns a tensor between limits; of a NaN that is ignored, the first limit is left."""
    fmt, codes = x.format, x.codes
    if low is not None:
        codes = np.where(_ordered(x) < _ordered(low), low.codes, codes)
    if high is not None:
        codes = np.where(_ordered(Tensor(fmt, codes)) > _ordered(high), high.codes, codes)
    first = high if low is None else low
    if ignore and fmt.is_float and first is not None:
        codes = np.where(np.isnan(x.values), first.codes, codes)
    return Tensor(fmt, codes.astype(code_dtype(fmt)))


def _ordered(x: Tensor) -> NDArray[Any]:
    return x.values if x.format.is_float else whole.whole(x)


def _constant(case: Case, value: int) -> Tensor:
    fmt = data.format_of(case, 0)
    if fmt.is_float:
        return data.scalar(float(value), fmt)
    return Tensor(fmt, whole.constants([value], fmt).codes.reshape(()))
