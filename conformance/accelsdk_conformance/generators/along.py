"""Order, running sums and selection along each axis of each rank, and over the whole range.

Integers lie at both ends of their range and beside them: a comparison of another kind, in a
narrower type or through a float takes some of them for equal, or turns their order round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, selection, whole
from accelsdk_conformance.generators.ranks import SHAPES
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

Shape = tuple[int, ...]


def along(case: Case, context: Context) -> Problem:
    """CumSum, ArgMax, ArgMin, TopK, Unique and Compress along an axis named from either end.

    Flags take both values as rank and axis go on.
    """
    shape = SHAPES[int(case.parameters["rank"])]
    axis = int(case.parameters["axis"])
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    return _ALONG[case.op](case.op, fmt, shape, axis, rng)


def _flags(shape: Shape, axis: int) -> tuple[int, int]:
    """Returns two flags that take all four pairs of values among the axes of a rank."""
    place = len(shape) + axis % len(shape) + 2 * (axis < 0)
    return place % 2, place // 2 % 2


def _steps(fmt: Format) -> list[int]:
    """Returns some integers of a format in ascending order, each the neighbour of another."""
    low, high = whole.lowest(fmt), whole.highest(fmt)
    middle = (low + high) // 2
    return [low, low + 1, middle - 1, middle, middle + 1, middle + 2, high - 1, high]


def _ordered(
    fmt: Format, shape: Shape, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.int64]]:
    """Returns a tensor of few different values, and their places in the order of all."""
    count = 8 if fmt != BOOL else 2
    places = rng.integers(0, count, shape)
    if fmt.is_float:
        steps = np.array([-np.inf, -fmt.max, -1.0, 0.0, fmt.smallest_normal, 1.0, 1.5, np.inf])
        return represent(steps[places], fmt), places
    steps = whole.constants(_steps(fmt) if fmt != BOOL else [0, 1], fmt).codes
    return Tensor(fmt, steps[places]), places


def _places(x: Tensor) -> NDArray[np.int64]:
    """Returns the place of each element in the order of all."""
    values = x.values if x.format.is_float else whole.whole(x)
    _, places = np.unique(values, return_inverse=True)
    return places.reshape(x.shape).astype(np.int64)


def _position(op: str, fmt: Format, shape: Shape, axis: int, rng: np.random.Generator) -> Problem:
    last, keep = _flags(shape, axis)
    attributes: dict[str, Any] = {"axis": axis, "select_last_index": last, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        places = _places(x) if op == "ArgMax" else -_places(x)
        index = places.argmax(axis)
        if last:
            index = x.shape[axis] - 1 - np.flip(places, axis).argmax(axis)
        if keep:
            index = np.expand_dims(index, axis)
        expected = expect_exact(from_integers(index, INT64))
        return Problem(op=op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (_ordered(fmt, shape, rng)[0],), separate_axes)


def _top(op: str, fmt: Format, shape: Shape, axis: int, rng: np.random.Generator) -> Problem:
    largest, whole_axis = _flags(shape, axis)

    def make(x: Tensor) -> Problem:
        extent = x.shape[axis]
        k = extent if whole_axis else (extent + 1) // 2
        places = -_places(x) if largest else _places(x)
        index = np.argsort(places, axis=axis, kind="stable").take(range(k), axis=axis)
        found = Tensor(fmt, np.take_along_axis(x.codes, index, axis=axis))
        return Problem(
            op=op,
            operands=(x,),
            attributes={"k": k, "axis": axis, "largest": largest, "sorted": 1},
            outputs=2,
            oracle=always(expect_exact(found), expect_exact(from_integers(index, INT64))),
        )

    return shrinkable(make, (_ordered(fmt, shape, rng)[0],), separate_axes)


def _running(op: str, fmt: Format, shape: Shape, axis: int, rng: np.random.Generator) -> Problem:
    exclusive, reverse = _flags(shape, axis)
    attributes: dict[str, Any] = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
    if fmt.is_float:
        x = represent(rng.integers(-3, 4, shape), fmt)
    else:  # the first differences of sums of every size; whole sums wrap
        x = Tensor(fmt, data.noise(rng, fmt, int(np.prod(shape))).codes.reshape(shape))

    def make(x: Tensor) -> Problem:
        given = x.values if fmt.is_float else x.integers
        turned = np.flip(given, axis) if reverse else given
        found = turned.cumsum(axis) - (turned if exclusive else 0)  # modulo 2**64
        found = np.flip(found, axis) if reverse else found
        out = represent(found, fmt) if fmt.is_float else from_integers(found, fmt)
        expected = expect_exact(out, signed_zero=False)
        return Problem(op=op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x,), separate_axes)


def _unique(op: str, fmt: Format, shape: Shape, axis: int, rng: np.random.Generator) -> Problem:
    """Slices that differ from each other in one element, each in another, some of them equal."""
    extent = shape[axis]
    rest = tuple(n for at, n in enumerate(shape) if at != axis % len(shape))
    common, _ = _ordered(fmt, rest, rng)
    kinds = np.stack([common.codes] * max(extent - 1, 2)).reshape(max(extent - 1, 2), -1)
    if not rest:
        kinds = _ordered(fmt, (len(kinds), 1), rng)[0].codes
    others = _ordered(fmt, (len(kinds),), rng)[0].codes
    at = rng.integers(0, kinds.shape[1], len(kinds))
    at[-1] = kinds.shape[1] - 1
    kinds[np.arange(len(kinds)), at] = others
    chosen = rng.permutation(np.resize(np.arange(len(kinds)), extent))
    x = np.moveaxis(kinds[chosen].reshape(extent, *rest), 0, axis)
    ascending, _ = _flags(shape, axis)
    return selection.distinct(Tensor(fmt, np.ascontiguousarray(x)), axis, ascending=1 - ascending)


def _compress(op: str, fmt: Format, shape: Shape, axis: int, rng: np.random.Generator) -> Problem:
    short, _ = _flags(shape, axis)
    kept = rng.random(max(shape[axis] - short, 1)) < 0.6
    kept[0], kept[-1] = len(kept) == 1, True
    x = data.ramp(fmt, shape) if fmt == BOOL else _ordered(fmt, shape, rng)[0]
    return selection.compressed(x, kept, axis)


_ALONG: dict[str, Callable[[str, Format, Shape, int, np.random.Generator], Problem]] = {
    "ArgMax": _position,
    "ArgMin": _position,
    "TopK": _top,
    "CumSum": _running,
    "Unique": _unique,
    "Compress": _compress,
}


def nonzero(case: Case, context: Context) -> Problem:
    """NonZero at every rank; integers that are not zero have one bit, each bit in turn."""
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    shape = SHAPES[int(case.parameters["rank"])]
    taken = rng.random(shape) < 0.5
    bits = np.uint64(1) << np.arange(taken.size, dtype=np.uint64) % np.uint64(fmt.bits)
    if fmt.is_float:
        numbers: Sequence[float] = (1.0, -fmt.max, fmt.smallest_normal, np.inf, np.nan)
        x = represent(np.where(taken, np.resize(np.array(numbers), shape), 0.0), fmt)
    else:
        x = Tensor(fmt, (taken * bits.reshape(shape)).astype(code_dtype(fmt)))

    def make(x: Tensor) -> Problem:
        flags = (x.codes != 0) if not fmt.is_float else (x.values != 0)
        expected = expect_exact(from_integers(np.argwhere(flags).T, INT64))
        return Problem(op=case.op, operands=(x,), oracle=always(expected))

    return shrinkable(make, (x,), separate_axes)


def kinds(case: Case, context: Context) -> Problem:
    """Unique items of a vector, or slices, over the whole range: neighbours at its ends."""
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    shape = {1: (61,), 2: (24, 2), 3: (2, 25, 1)}[int(case.parameters["rank"])]
    axis = int(case.parameters["axis"])
    x, _ = _ordered(fmt, shape, rng)
    return selection.distinct(x, axis, ascending=int(case.parameters["sorted"]))
