"""Reductions, indices of extremes, running sums, TopK."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles.contraction import Accumulator, any_order_bound, contract
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import (
    Acceptance,
    Context,
    Exact,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
)

_SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "last": ((6, 129), (1,)),
    "first": ((65, 7), (0,)),
    "middle": ((3, 40, 5), (1,)),
    "two": ((4, 9, 11), (0, 2)),
    "all": ((5, 7, 9), (0, 1, 2)),
    "long": ((2, 3001), (1,)),
    "one": ((4, 1, 6), (1,)),
    "none": ((3, 5), ()),
    "empty": ((3, 0, 2), (1,)),
}


def _fold(x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Moves the reduced axes last and makes one of them."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = x.transpose(*kept, *axes)
    return moved.reshape(int(np.prod([x.shape[a] for a in kept], dtype=np.int64)), -1)


def _shape(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    if keep:
        return tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def total(case: Case, context: Context) -> Problem:
    """ReduceSum on exact whole numbers, ordinary data, and NaN in every lane."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shape, axes = _SHAPES[str(case.parameters["shape"])]
    keep = bool(case.parameters.get("keepdims", 1))
    kind = str(case.parameters["data"])
    x = _values(fmt, shape, kind, rng)
    attributes: dict[str, Any] = {"axes": axes, "keepdims": int(keep)}
    out = _shape(shape, axes, keep)
    if not fmt.is_float:
        flat = _fold(x.integers.astype(np.float64), axes).sum(axis=1)
        expected = expect_exact(from_integers(flat.astype(np.int64), fmt))
    else:
        expected = _summed(_fold(x.values, axes), fmt, kind)
    expected = _reshaped(expected, out)
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))


def _values(fmt: Format, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> Tensor:
    if kind == "normal" and not fmt.is_float:
        return from_integers(rng.integers(-(2**20), 2**20, shape), fmt)
    if kind == "normal":
        return encode(rng.normal(size=shape) * np.exp2(rng.integers(-6, 6, shape)), fmt)
    top = 200 if fmt.precision >= 24 or not fmt.is_float else 1
    whole = rng.integers(-top, top + 1, shape).astype(np.float64)
    if not fmt.is_float:
        return from_integers(whole, fmt)
    if kind == "nan" and whole.size:
        # One NaN a row, at a lane that moves on from row to row.
        flat = whole.reshape(-1)
        flat[:: max(1, shape[-1] + 1)] = np.nan
    return represent(whole, fmt)


def _summed(rows: F64, fmt: Format, kind: str) -> Expected:
    sums = contract(rows, np.ones((rows.shape[1], 1)), fmt, fmt)
    tensor = encode(sums.value.high[:, 0], fmt, low=sums.value.low[:, 0])
    nan = sums.nan[:, 0]
    exact = Exact(tensor.codes, nan, None, signed_zero=False)
    if kind != "normal":
        return Expected(fmt, tensor.shape, ((Tier.T0, exact),), Tier.T0)
    bits = 53 if fmt == FLOAT64 else min(24, max(fmt.precision, 24))
    spec = Accumulator(significand_bits=bits, nearest_store=False, emin=fmt.emin)
    bound = any_order_bound(sums, rows.shape[1], spec)[:, 0]
    value = Doubled(sums.value.high[:, 0], sums.value.low[:, 0])
    within = Within(value, bound, nan, narrow=fmt.precision < 24)
    return Expected(fmt, tensor.shape, ((Tier.T0, exact), (Tier.T3, within)), Tier.T3)


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
    shape, axes = _SHAPES[str(case.parameters["shape"])]
    rng = data.rng(case, context)
    if fmt.is_float:
        few = rng.choice([1.0, 1.0, -1.0, 2.0, 0.5], shape)
        few = np.where(rng.random(shape) < 0.9, np.sign(few), few)
        x = represent(few, fmt)
        flat = represent(_fold(x.values, axes).prod(axis=1), fmt)
    else:
        x = from_integers(rng.integers(-3, 4, shape), fmt)
        flat = from_integers(_fold(x.integers, axes).prod(axis=1), fmt)
    expected = _reshaped(expect_exact(flat), _shape(shape, axes, True))
    attributes: dict[str, Any] = {"axes": axes, "keepdims": 1}
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))


def extreme(case: Case, context: Context) -> Problem:
    """ReduceMax and ReduceMin: the extreme in every lane, NaN in every lane, all at an end."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    lanes = int(case.parameters["lanes"])
    largest = case.op == "ReduceMax"
    if fmt.is_float:
        x = encode(rng.normal(size=(2 * lanes + 3, lanes)), fmt).values
        for lane in range(lanes):
            x[lane, lane] = 100.0 if largest else -100.0
            x[lanes + lane, lane] = np.nan
        x[-1], x[-2] = (-np.inf, np.inf) if largest else (np.inf, -np.inf)
        operand = represent(x, fmt)
        flat = x.max(axis=1) if largest else x.min(axis=1)
        expected = expect_exact(represent(flat, fmt), signed_zero=False)
    else:
        low, high = int(fmt.min), int(min(fmt.max, 2**62))
        codes = rng.integers(low // 2, high // 2, (lanes + 2, lanes))
        for lane in range(lanes):
            codes[lane, lane] = high if largest else low
        codes[-1] = low if largest else high
        operand = from_integers(codes, fmt)
        whole = operand.integers
        flat = whole.max(axis=1) if largest else whole.min(axis=1)
        expected = expect_exact(from_integers(flat, fmt))
    attributes: dict[str, Any] = {"axes": (1,), "keepdims": 0}
    return Problem(op=case.op, operands=(operand,), attributes=attributes, oracle=always(expected))


def extreme_empty(case: Case, context: Context) -> Problem:
    """The extreme of nothing is the neutral element: -Inf for Max, +Inf for Min."""
    fmt = data.format_of(case, 0)
    operand = represent(np.zeros((3, 0)), fmt)
    neutral = -np.inf if case.op == "ReduceMax" else np.inf
    expected = expect_exact(represent(np.full(3, neutral), fmt))
    attributes: dict[str, Any] = {"axes": (1,), "keepdims": 0}
    return Problem(op=case.op, operands=(operand,), attributes=attributes, oracle=always(expected))


def arg_extreme(case: Case, context: Context) -> Problem:
    """ArgMax and ArgMin: ties everywhere, first or last, on every axis."""
    fmt = data.format_of(case, 0)
    axis, last = int(case.parameters["axis"]), int(case.parameters["select_last_index"])
    keep = int(case.parameters.get("keepdims", 1))
    whole = data.rng(case, context).integers(-2, 3, (5, 33, 6))
    whole = whole if fmt.is_signed else whole + 2
    x = represent(whole, fmt) if fmt.is_float else from_integers(whole, fmt)
    signed = whole if case.op == "ArgMax" else -whole
    if last:
        index = whole.shape[axis] - 1 - np.flip(signed, axis).argmax(axis)
    else:
        index = signed.argmax(axis)
    if keep:
        index = np.expand_dims(index, axis)
    attributes: dict[str, Any] = {"axis": axis, "select_last_index": last, "keepdims": keep}
    expected = expect_exact(from_integers(index, INT64))
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))


def running(case: Case, context: Context) -> Problem:
    """CumSum on whole numbers, in both directions, with and without the own element."""
    fmt = data.format_of(case, 0)
    axis = int(case.parameters["axis"])
    exclusive, reverse = int(case.parameters["exclusive"]), int(case.parameters["reverse"])
    top = 90 if fmt.precision >= 24 or not fmt.is_float else 3
    whole = data.rng(case, context).integers(-top, top, (4, 33, 3)).astype(np.float64)
    flipped = np.flip(whole, axis) if reverse else whole
    found = flipped.cumsum(axis) - (flipped if exclusive else 0)
    found = np.flip(found, axis) if reverse else found
    if fmt.is_float:
        x, out = represent(whole, fmt), represent(found, fmt)
    else:
        x, out = from_integers(whole, fmt), from_integers(found, fmt)
    attributes: dict[str, Any] = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
    expected = expect_exact(out, signed_zero=False)
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))


def top_k(case: Case, context: Context) -> Problem:
    """TopK with ties: of equals the lower index comes first."""
    fmt = data.format_of(case, 0)
    k, largest = int(case.parameters["k"]), int(case.parameters["largest"])
    whole = data.rng(case, context).integers(0, 9, (6, 37))
    order = np.argsort(-whole if largest else whole, axis=1, kind="stable")[:, :k]
    x = represent(whole, fmt) if fmt.is_float else from_integers(whole, fmt)
    values = Tensor(fmt, np.take_along_axis(x.codes, order, axis=1))
    attributes: dict[str, Any] = {"k": k, "axis": -1, "largest": largest, "sorted": 1}
    return Problem(
        op=case.op,
        operands=(x,),
        attributes=attributes,
        outputs=2,
        oracle=always(expect_exact(values), expect_exact(from_integers(order, INT64))),
    )
