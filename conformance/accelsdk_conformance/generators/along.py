"""Order, running sums and selection along each axis of each rank, and over the whole range.

Integers lie at both ends of their range and beside them: a comparison of another kind, in a
narrower type or through a float takes some of them for equal, or turns their order round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, selection, whole
from accelsdk_conformance.generators.ranks import SHAPES
from accelsdk_conformance.oracles.tensor import Codes, Tensor, code_dtype, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

Shape = tuple[int, ...]
_Flags = tuple[int, ...]


def along(case: Case, context: Context) -> Problem:
    """CumSum, ArgMax, ArgMin, TopK, Unique and Compress along an axis named from either end.

    ``flags`` has a digit for each of the op: select_last_index and keepdims of ArgMax and ArgMin;
    largest, and whether all are asked for, of TopK; exclusive and reverse of CumSum; sorted of
    Unique; whether Compress is given fewer conditions than there are slices.
    """
    shape = SHAPES[int(case.parameters["rank"])]
    axis = int(case.parameters["axis"])
    flags = tuple(map(int, case.parameters["flags"]))
    fmt, rng = data.format_of(case, 0), data.rng(case, context)
    return _ALONG[case.op](case.op, fmt, shape, axis, flags, rng)


def _steps(fmt: Format) -> list[int]:
    """Returns some integers of a format in ascending order, each the neighbour of another."""
    low, high = whole.lowest(fmt), whole.highest(fmt)
    middle = (low + high) // 2
    return [low, low + 1, middle - 1, middle, middle + 1, middle + 2, high - 1, high]


def _ordered(fmt: Format, shape: Shape, rng: np.random.Generator) -> Tensor:
    """Returns a tensor of few different values."""
    return _valued(fmt, rng.integers(0, _count(fmt), shape))


def _count(fmt: Format) -> int:
    return 2 if fmt == BOOL else 8


def _valued(fmt: Format, places: NDArray[np.int64]) -> Tensor:
    """Returns the values at places in the order of all."""
    if fmt.is_float:
        steps = np.array([-np.inf, -fmt.max, -1.0, 0.0, fmt.smallest_normal, 1.0, 1.5, np.inf])
        return represent(steps[places], fmt)
    codes = whole.constants(_steps(fmt) if fmt != BOOL else [0, 1], fmt).codes
    return Tensor(fmt, codes[places])


def _places(x: Tensor) -> NDArray[np.int64]:
    """Returns the place of each element in the order of all."""
    values = x.values if x.format.is_float else whole.whole(x)
    _, places = np.unique(values, return_inverse=True)
    return places.reshape(x.shape).astype(np.int64)


def _position(
    op: str, fmt: Format, shape: Shape, axis: int, flags: _Flags, rng: np.random.Generator
) -> Problem:
    last, keep = flags
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

    return shrinkable(make, (_ordered(fmt, shape, rng),), separate_axes)


def _top(
    op: str, fmt: Format, shape: Shape, axis: int, flags: _Flags, rng: np.random.Generator
) -> Problem:
    largest, every = flags

    def make(x: Tensor) -> Problem:
        extent = x.shape[axis]
        k = extent if every else (extent + 1) // 2
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

    return shrinkable(make, (_ordered(fmt, shape, rng),), separate_axes)


def _running(
    op: str, fmt: Format, shape: Shape, axis: int, flags: _Flags, rng: np.random.Generator
) -> Problem:
    exclusive, reverse = flags
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


def _unique(
    op: str, fmt: Format, shape: Shape, axis: int, flags: _Flags, rng: np.random.Generator
) -> Problem:
    """All slices but one are drawn, and of three or more the first that is drawn stands twice."""
    (ascending,) = flags
    extent = shape[axis]
    rest = tuple(n for at, n in enumerate(shape) if at != axis % len(shape))
    slices = _near(fmt, (max(extent - 1, 2), math.prod(rest)), rng)
    chosen = rng.permutation(np.resize(np.arange(len(slices)), extent))
    x = np.moveaxis(slices[chosen].reshape(extent, *rest), 0, axis)
    return selection.distinct(Tensor(fmt, np.ascontiguousarray(x)), axis, ascending=ascending)


def _near(fmt: Format, shape: tuple[int, int], rng: np.random.Generator) -> Codes:
    """Returns slices each of which differs from the first one in one element, the last in its last.

    So the first that differs may be any, and a comparison of some elements takes slices for equal.
    """
    count, size = shape
    places = np.tile(rng.integers(0, _count(fmt), size), (count, 1))
    at = rng.integers(0, size, count)
    at[-1] = size - 1
    others = rng.integers(1, _count(fmt), count)
    others[0] = 0  # the first one stays as it is
    places[np.arange(count), at] += others
    return _valued(fmt, places % _count(fmt)).codes


def _compress(
    op: str, fmt: Format, shape: Shape, axis: int, flags: _Flags, rng: np.random.Generator
) -> Problem:
    (short,) = flags
    kept = rng.random(max(shape[axis] - short, 1)) < 0.6
    kept[0], kept[-1] = len(kept) == 1, True
    x = data.ramp(fmt, shape) if fmt == BOOL else _ordered(fmt, shape, rng)
    return selection.compressed(x, kept, axis)


_ALONG: dict[str, Callable[[str, Format, Shape, int, _Flags, np.random.Generator], Problem]] = {
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
    x = _ordered(fmt, shape, rng)
    return selection.distinct(x, axis, ascending=int(case.parameters["sorted"]))
