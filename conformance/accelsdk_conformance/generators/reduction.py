"""Reductions, indices of extremes, running sums, TopK."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, whole
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.doubled import total as total_of
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import (
    Acceptance,
    BelowProfile,
    Context,
    Exact,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)
from accelsdk_conformance.seeing import Seeing

#: Shapes by name, and the axes that are reduced.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "last": ((6, 129), (1,)),
    "first": ((65, 7), (0,)),
    "middle": ((3, 40, 5), (1,)),
    "two": ((4, 9, 11), (0, 2)),
    "all": ((5, 7, 9), (0, 1, 2)),
    "long": ((2, 3001), (1,)),
    "one": ((4, 1, 6), (1,)),
    "none": ((3, 5), ()),
    "empty": ((3, 0, 2), (1,)),
    "rank6": ((2, 1, 3, 2, 5, 2), (-1, 2, 0)),
    "vector": ((77,), (0,)),
    "rank0": ((), ()),
    "lanes": ((4, 48, 11), (0, 2)),
    "tall": ((1030, 5), (1,)),
    "wide": ((9, 1030), (1,)),
    **{f"k{k}": ((5, k), (1,)) for k in (2, 3, 7, 8, 9, 31, 33, 63, 65, 255, 4096)},
}


def fold(x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Moves the reduced axes last and makes one of them."""
    axes = tuple(axis % x.ndim for axis in axes)
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = x.transpose(*kept, *axes)
    return moved.reshape(math.prod([x.shape[a] for a in kept]), -1)


def folded_shape(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    """Returns the shape after a reduction, its axes kept with extent 1 or left out."""
    axes = tuple(axis % len(shape) for axis in axes)
    if keep:
        return tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def total(case: Case, context: Context) -> Problem:
    """ReduceSum on exact whole numbers, ordinary data, and NaN in every lane.

    Raises:
        BelowProfile: Sums are declared to have fewer bits than those of float32.
    """
    fmt = data.format_of(case, 0)
    spec = context.datasheet.reduction(case.op, fmt.name)
    if fmt.is_float and spec is not None and spec.significand_bits < 24:
        raise BelowProfile(
            f"reductions[{case.op}, {fmt}].significand_bits is {spec.significand_bits}; "
            f"profile {case.profile} asks for 24 or more"
        )
    rng = data.rng(case, context)
    shape, axes = SHAPES[str(case.parameters["shape"])]
    keep = bool(case.parameters.get("keepdims", 1))
    kind = str(case.parameters["data"])
    x = _values(fmt, shape, kind, rng)
    attributes: dict[str, Any] = {"axes": axes, "keepdims": int(keep)}

    def make(x: Tensor) -> Problem:
        if not fmt.is_float:
            flat = fold(x.integers, axes).sum(axis=1, dtype=np.int64)  # modulo 2**64
            expected = expect_exact(from_integers(flat, fmt))
        else:
            bits = max(fmt.precision, spec.significand_bits if spec else 24)
            claim = f"reductions[{case.op}, {fmt}]" if spec else ""
            expected = _summed(fold(x.values, axes), fmt, kind, bits, claim)
        expected = _reshaped(expected, folded_shape(x.shape, axes, keep))
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x,))


def _values(fmt: Format, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> Tensor:
    if kind == "normal" and not fmt.is_float:
        return from_integers(rng.integers(-(2**20), 2**20, shape), fmt)
    if kind == "normal":
        return encode(rng.normal(size=shape) * np.exp2(rng.integers(-6, 6, shape)), fmt)
    if kind == "wrap":
        return Tensor(fmt, data.noise(rng, fmt, math.prod(shape)).codes.reshape(shape))
    top = 200 if fmt.precision >= 24 or not fmt.is_float else 1
    values = rng.integers(-top, top + 1, shape).astype(np.float64)
    if not fmt.is_float:
        return from_integers(values, fmt)
    if kind == "nan" and values.size:
        # One NaN a row, at a lane that moves on from row to row.
        flat = values.reshape(-1)
        flat[:: max(1, shape[-1] + 1)] = np.nan
    if kind == "infinite" and values.size:
        # One infinity a row, and in every fifth row one of the other sign.
        flat = values.reshape(-1)
        flat[:: max(1, shape[-1] + 1)] = np.inf
        flat[7 :: 5 * shape[-1] + 3] = -np.inf
    return represent(values, fmt)


def _summed(rows: F64, fmt: Format, kind: str, bits: int, claim: str) -> Expected:
    """Sums of rows: exact ones, or within gamma_n of the sum of magnitudes in any order.

    The bound is Higham's (Accuracy and Stability of Numerical Algorithms, section 4.2), for
    roundings that may be directed; sums have the declared bits, those of float32 at least.
    """
    finite = np.where(np.isfinite(rows), rows, 0.0)
    up, down = (rows == np.inf).any(axis=1), (rows == -np.inf).any(axis=1)
    nan = np.isnan(rows).any(axis=1) | (up & down)
    value = total_of(finite, 1)
    infinite = np.where(up, np.inf, np.where(down, -np.inf, 0.0))
    special = up | down
    high = np.where(special, infinite, value.high)
    tensor = encode(high, fmt, low=np.where(special, 0.0, value.low))
    exact = Exact(tensor.codes, nan, None, signed_zero=False)
    if kind != "normal":
        return Expected(fmt, tensor.shape, ((Tier.T0, exact),), Tier.T0, claim)
    unit = 2.0 ** (1 - bits)
    count = (finite != 0).sum(axis=1)
    bound = count * unit / (1 - count * unit) * np.abs(finite).sum(axis=1) * (1 + 2.0**-40)
    within = Within(value, bound, nan, narrow=fmt.precision < bits)
    return Expected(fmt, tensor.shape, ((Tier.T0, exact), (Tier.T3, within)), Tier.T3, claim)


def _reshaped(expected: Expected, shape: tuple[int, ...]) -> Expected:
    tiers: list[tuple[Tier, Acceptance]] = []
    for tier, accept in expected.tiers:
        if isinstance(accept, Exact):
            nan = None if accept.nan is None else accept.nan.reshape(shape)
            free = None if accept.free is None else accept.free.reshape(shape)
            tiers.append((tier, Exact(accept.codes.reshape(shape), nan, free, accept.signed_zero)))
        else:
            value = Doubled(*(part.reshape(shape) for part in accept.value))
            nan = None if accept.nan is None else accept.nan.reshape(shape)
            tiers.append(
                (tier, Within(value, accept.bound.reshape(shape), nan, narrow=accept.narrow))
            )
    return Expected(expected.format, shape, tuple(tiers), expected.required, expected.claim)


def product(case: Case, context: Context) -> Problem:
    """ReduceProd of powers of two: exact in every order."""
    fmt = data.format_of(case, 0)
    shape, axes = SHAPES[str(case.parameters["shape"])]
    rng = data.rng(case, context)
    if fmt.is_float:
        few = rng.choice([1.0, 1.0, -1.0, 2.0, 0.5], shape)
        few = np.where(rng.random(shape) < 0.9, np.sign(few), few)
        x = represent(few, fmt)
    else:
        x = from_integers(rng.choice([1, -1, 3, -5, 1, 7], shape), fmt)  # odd: never wraps to 0
    keep = int(case.parameters.get("keepdims", 1))
    attributes: dict[str, Any] = {"axes": axes, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        if fmt.is_float:
            flat = represent(fold(x.values, axes).prod(axis=1), fmt)
        else:
            flat = from_integers(fold(x.integers, axes).prod(axis=1, dtype=np.int64), fmt)
        out = folded_shape(x.shape, axes, bool(keep))
        found = expect_exact(flat) if x.codes.size else _of_nothing(case, context, flat)
        expected = _reshaped(found, out)
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x,), separate_axes)


def extreme(case: Case, context: Context) -> Problem:
    """ReduceMax and ReduceMin: the extreme in every lane, NaN in every lane, all at an end."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    lanes = int(case.parameters["lanes"])
    x = _floats(case, fmt, lanes, rng) if fmt.is_float else _wholes(case, fmt, lanes, rng)
    spec = context.datasheet.reduction(case.op, fmt.name)
    ignore = spec is not None and spec.nan == "ignore"
    claim = f"reductions[{case.op}, {fmt}]" if spec else ""
    return _extreme(case, x, (1,), keep=0, ignore=ignore, claim=claim)


def _floats(case: Case, fmt: Format, lanes: int, rng: np.random.Generator) -> Tensor:
    largest = case.op == "ReduceMax"
    x = encode(rng.normal(size=(2 * lanes + 4, lanes)), fmt).values.copy()
    for lane in range(lanes):
        x[lane, lane] = 100.0 if largest else -100.0
        x[lanes + lane, lane] = np.nan
    x[-1], x[-2] = (-np.inf, np.inf) if largest else (np.inf, -np.inf)
    x[-3] = -fmt.max if largest else fmt.max
    return represent(x, fmt)


def _wholes(case: Case, fmt: Format, lanes: int, rng: np.random.Generator) -> Tensor:
    """Integers of every size, and the end that wins once in every lane of a row."""
    codes = data.noise(rng, fmt, (lanes + 2) * lanes).codes.reshape(-1, lanes)
    if fmt == BOOL:
        codes = codes & 1
    ends = [whole.constants([end], fmt).codes[0] for end in (whole.lowest(fmt), whole.highest(fmt))]
    if fmt == BOOL:
        ends = [np.uint8(0), np.uint8(1)]
    low, high = ends if case.op == "ReduceMax" else ends[::-1]
    for lane in range(lanes):
        codes[lane] = np.where(codes[lane] == high, low, codes[lane])
        codes[lane, lane] = high
    codes[-1] = low
    return Tensor(fmt, codes)


def extreme_over(case: Case, context: Context) -> Problem:
    """ReduceMax and ReduceMin over other axes, kept and not; NaN in some rows, or in all lanes."""
    fmt = data.format_of(case, 0)
    shape, axes = SHAPES[str(case.parameters["shape"])]
    keep = int(case.parameters["keepdims"])
    values = data.rng(case, context).integers(-99, 100, shape)
    if not fmt.is_float:
        return _extreme(case, from_integers(values, fmt), axes, keep=keep)
    spec = context.datasheet.reduction(case.op, fmt.name)
    x = represent(_with_nan(values.astype(np.float64), axes, alone=bool(keep)), fmt)
    ignore = spec is not None and spec.nan == "ignore"
    claim = f"reductions[{case.op}, {fmt}]" if spec else ""
    return _extreme(case, x, axes, keep=keep, ignore=ignore, claim=claim)


def _with_nan(x: F64, axes: tuple[int, ...], *, alone: bool) -> F64:
    """Puts a NaN into a lane of each of the first rows, or where rows are few, of every second.

    Args:
        x: Changed in place.
        axes: That are reduced.
        alone: Whether a row that has no other gets one, too.
    """
    axes = tuple(axis % x.ndim for axis in axes)
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    moved = x.transpose(*kept, *axes)
    shape, inner = moved.shape[: len(kept)], moved.shape[len(kept) :]
    rows, lanes = math.prod(shape), math.prod(inner)
    if rows > lanes:
        chosen = {row: row for row in range(lanes)}
    else:
        chosen = {row: (lanes - 1 - 3 * row) % lanes for row in range(int(not alone), rows, 2)}
    for row, lane in chosen.items():
        moved[(*np.unravel_index(row, shape), *np.unravel_index(lane, inner))] = np.nan
    return x


def _extreme(
    case: Case,
    x: Tensor,
    axes: tuple[int, ...],
    *,
    keep: int,
    ignore: bool = False,
    claim: str = "",
) -> Problem:
    fmt = x.format
    attributes: dict[str, Any] = {"axes": axes, "keepdims": keep}

    def make(operand: Tensor) -> Problem:
        rows = fold(operand.values if fmt.is_float else whole.whole(operand), axes)
        plain: np.ufunc = np.fmax if ignore else np.maximum
        if case.op == "ReduceMin":
            plain = np.fmin if ignore else np.minimum
        flat = plain.reduce(rows, axis=1)
        found = represent(flat, fmt) if fmt.is_float else whole.wrapped(flat, fmt)
        expected = expect_exact(found, signed_zero=False, claim=claim)
        out = folded_shape(operand.shape, axes, bool(keep))
        return Problem(
            op=case.op,
            operands=(operand,),
            attributes=attributes,
            oracle=always(_reshaped(expected, out)),
        )

    return shrinkable(make, (x,), separate_axes)


def extreme_empty(case: Case, context: Context) -> Problem:
    """The extreme of nothing is what is declared, or -Inf for Max, +Inf for Min."""
    fmt = data.format_of(case, 0)
    neutral = -np.inf if case.op == "ReduceMax" else np.inf
    attributes: dict[str, Any] = {"axes": (1,), "keepdims": 0}

    def make(x: Tensor) -> Problem:
        expected = _of_nothing(case, context, represent(np.full(x.shape[0], neutral), fmt))
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (represent(np.zeros((3, 0)), fmt),))


def _of_nothing(case: Case, context: Context, neutral: Tensor) -> Expected:
    """Returns what reductions of nothing are declared to be, else the neutral element."""
    spec = context.datasheet.reduction(case.op, neutral.format.name)
    empty = "identity" if spec is None else spec.empty
    if empty == "zero":
        neutral = Tensor(neutral.format, np.zeros_like(neutral.codes))
    free = np.full(neutral.shape, empty == "undefined")
    claim = f"reductions[{case.op}, {neutral.format}].empty" if spec else ""
    return expect_exact(neutral, free=free, claim=claim)


def arg_extreme(case: Case, context: Context) -> Problem:
    """ArgMax and ArgMin: ties everywhere, first or last, on every axis."""
    fmt = data.format_of(case, 0)
    axis, last = int(case.parameters["axis"]), int(case.parameters["select_last_index"])
    keep = int(case.parameters.get("keepdims", 1))
    rng = data.rng(case, context)
    values = rng.integers(-2, 3, (5, 33, 6)).astype(np.float64)
    values = values if fmt.is_signed else values + 2
    given = values
    if fmt.is_float:  # zeros of both signs are equal; infinities are extremes like others
        given = np.where(values == 0, np.copysign(0.0, rng.normal(size=values.shape)), values)
        given = np.where((np.abs(values) == 2) & (values < 0), -np.inf, given)
    x = represent(given, fmt) if fmt.is_float else from_integers(values, fmt)
    attributes: dict[str, Any] = {"axis": axis, "select_last_index": last, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        signed = x.values if case.op == "ArgMax" else -x.values
        if last:
            index = x.shape[axis] - 1 - np.flip(signed, axis).argmax(axis)
        else:
            index = signed.argmax(axis)
        if keep:
            index = np.expand_dims(index, axis)
        expected = expect_exact(from_integers(index, INT64))
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x,))


def running(case: Case, context: Context) -> Problem:
    """CumSum on whole numbers, in both directions, with and without the own element.

    Of floats some lanes hold NaN, or infinities of one sign or of both: from there on they stay,
    and nothing before sees them.
    """
    fmt = data.format_of(case, 0)
    axis = int(case.parameters["axis"])
    exclusive, reverse = int(case.parameters["exclusive"]), int(case.parameters["reverse"])
    top = 90 if fmt.precision >= 24 or not fmt.is_float else 3
    values = data.rng(case, context).integers(-top, top, (4, 33, 3)).astype(np.float64)
    if fmt.is_float:
        places = ([0, 1, 2, 3, 3], [7, 20, 5, 10, 25], [0, 1, 2, 0, 0])
        values[places] = [np.nan, np.inf, -np.inf, np.inf, -np.inf]
    attributes: dict[str, Any] = {"axis": axis, "exclusive": exclusive, "reverse": reverse}

    def make(x: Tensor) -> Problem:
        given = np.moveaxis(x.values if fmt.is_float else x.integers, axis, -1)
        turned = np.flip(given, -1) if reverse else given
        if exclusive:
            turned = np.concatenate([np.zeros_like(turned[..., :1]), turned[..., :-1]], axis=-1)
        with np.errstate(invalid="ignore"):  # Inf - Inf
            found = turned.cumsum(-1)
        found = np.moveaxis(np.flip(found, -1) if reverse else found, -1, axis)
        out = represent(found, fmt) if fmt.is_float else from_integers(found, fmt)
        expected = expect_exact(out, signed_zero=False)
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    x = represent(values, fmt) if fmt.is_float else from_integers(values, fmt)
    return shrinkable(make, (x,), separate_axes)


def top_k(case: Case, context: Context) -> Problem:
    """TopK with ties: of equals the lower index comes first; unsorted, in any order."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    most, largest = int(given["k"]), int(given["largest"])
    axis, ordered = int(given.get("axis", -1)), int(given.get("sorted", 1))
    values = data.rng(case, context).integers(0, 9, (6, 37) if axis else (37, 6)).astype(np.float64)

    def make(x: Tensor) -> Problem:
        attributes = {
            "k": min(most, x.shape[axis]),
            "axis": axis,
            "largest": largest,
            "sorted": ordered,
        }
        oracle = Seeing(chosen_items, (x,), attributes)
        return Problem(
            op=case.op,
            operands=(x,),
            attributes=attributes,
            outputs=2,
            oracle=always(*oracle(())) if ordered else oracle,
        )

    x = represent(values, fmt) if fmt.is_float else from_integers(values, fmt)
    return shrinkable(make, (x,), separate_axes)


def chosen_items(
    operands: Sequence[Tensor | None], how: Mapping[str, Any], outputs: tuple[Tensor, ...]
) -> tuple[Expected, ...]:
    """Judges TopK: where nothing is said of the order, that of the device's indices is right."""
    (x,) = operands
    if x is None:
        raise TypeError("TopK of nothing")
    axis = how["axis"]
    values = x.values if x.format.is_float else x.integers
    order = np.argsort(-values if how["largest"] else values, axis=axis, kind="stable")
    index = order = order.take(range(how["k"]), axis=axis)
    if not how["sorted"] and outputs and outputs[1].shape == order.shape:
        own = outputs[1].integers
        if np.array_equal(np.sort(own, axis=axis), np.sort(order, axis=axis)):
            index = own
    found = Tensor(x.format, np.take_along_axis(x.codes, index, axis=axis))
    return expect_exact(found), expect_exact(from_integers(index, INT64))
