"""Elementwise functions of floats: one operand and two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles import functions
from accelsdk_conformance.oracles.contraction import floor_log2
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import (
    F64,
    Codes,
    Mask,
    Tensor,
    encode,
    from_integers,
    represent,
)
from accelsdk_conformance.problem import (
    BelowProfile,
    Context,
    Expected,
    NotApplicable,
    Oracle,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
    shrinkable,
)
from accelsdk_conformance.seeing import Either

_WIDE = 4096
#: Least range of arguments that a claim may be about: the inputs of any model's activations.
_LEAST_DOMAIN = 16.0
#: What float64 arithmetic itself rounds correctly (or exactly).
_CORRECT = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Mod", "Min", "Max", "PRelu", "LeakyRelu"}
)


def unary(case: Case, context: Context) -> Problem:
    """One function: every code of 16 bits, binades and edges of float32 and float64."""
    fmt = data.format_of(case, 0)
    parameters = dict(case.parameters)
    x = _shaped(fmt, parameters.pop("shape", "all"), data.rng(case, context))
    return _unary(case, context, x, parameters)


def sweep(case: Case, context: Context) -> Problem:
    """One of the parts into which all of [1/2, 2) and (-1, -1/4] of float32 is cut."""
    fmt = data.format_of(case, 0)
    parameters = dict(case.parameters)
    part, parts = int(parameters.pop("part")), int(parameters.pop("parts"))
    codes = [
        np.arange(start + part, start + (1 << 24), parts, dtype=np.uint32)
        for start in (0x3F000000, 0xBE800000)
    ]
    return _unary(case, context, Tensor(fmt, np.concatenate(codes)), parameters)


def _unary(case: Case, context: Context, x: Tensor, attributes: dict[str, Any]) -> Problem:
    return shrinkable(lambda given: _unary_of(case, context, given, attributes), (x,))


def _unary_of(case: Case, context: Context, x: Tensor, attributes: dict[str, Any]) -> Problem:
    fmt = x.format

    def expected(flush: bool) -> Expected:
        given = flushed(x.values, fmt) if flush else x.values
        reference, rest = _reference(case.op, attributes, given, fmt)
        free = given == -np.inf if case.op in functions.LIMIT_FREE else None
        if case.op == "Softsign":
            free = np.isinf(given)
        if case.op == "ThresholdedRelu":  # the formula (x if x > alpha else 0) sends NaN to 0
            free = np.isnan(given)
        heavy = functions.weight(case.op, attributes)
        return judged(case.op, given, reference, fmt, context, free, rest, flush, heavy)

    oracle = either(case.op, fmt, context, expected)
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=oracle)


def either(op: str, fmt: Format, context: Context, expected: Callable[[bool], Expected]) -> Oracle:
    """Returns the oracle of a function that may be declared to flush subnormal numbers.

    Such a device may flush every operand and result, or none; it may not mix the two.
    """
    kept = expected(False)
    spec = context.datasheet.function(op, fmt.name)
    if spec is None or spec.subnormals != "flush":
        return always(kept)
    return Either(((expected(True),), (kept,)))


def flushed(x: F64, fmt: Format) -> F64:
    """Returns values, those that are subnormal in a format as zeros of their sign."""
    return np.where(np.abs(x) < fmt.smallest_normal, np.copysign(0.0, x), x)


def _reference(op: str, attributes: Mapping[str, Any], x: F64, fmt: Format) -> tuple[F64, F64]:
    """Returns a function's values as float64, and what is left of them beyond."""
    function = functions.unary(op, attributes)
    with np.errstate(all="ignore"):
        if fmt != FLOAT64 or op not in functions.LIMITS or op in _CORRECT:
            found = function(x)
            return found, np.zeros_like(found)
        return _halves(function(_extended(x)))


def _extended(x: F64) -> F64:
    """Returns float64 values in the extended precision that references of float64 need."""
    if np.finfo(np.longdouble).nmant < 60:
        raise NotApplicable("this host has no arithmetic wider than float64 to refer to")
    return x.astype(np.longdouble)


def _halves(wide: F64) -> tuple[F64, F64]:
    with np.errstate(all="ignore"):
        high = wide.astype(np.float64)
        low = np.where(np.isfinite(high), (wide - high).astype(np.float64), 0.0)
    return high, low


def _shaped(fmt: Format, shape: str, rng: np.random.Generator) -> Tensor:
    if shape == "all":
        return _samples(fmt, rng)
    some = encode(rng.normal(size=64) * 2, fmt).codes
    sizes: dict[str, tuple[int, ...]] = {
        "rank0": (),
        "five": (5,),
        "six": (1, 2, 3, 1, 5, 2),
        "empty": (3, 0),
    }
    return Tensor(fmt, some[: math.prod(sizes[shape])].reshape(sizes[shape]))


def _samples(fmt: Format, rng: np.random.Generator) -> Tensor:
    if fmt.bits <= 16:
        return _every(fmt)
    lanes = data.in_every_lane(data.specials(fmt), fmt)
    limits = [88.7228, 88.7229, -87.3365, -103.97, 89.0, 710.0, 2.0**15, 9.0, 0.54, -1.0, 1.0]
    halves = np.arange(-40, 41) / 4  # ties of rounding to whole numbers among them
    small = [encode(np.array(limits), fmt).codes, represent(halves, fmt).codes, lanes.codes]
    if fmt == FLOAT64:
        near = encode(rng.normal(size=_WIDE) * np.exp2(rng.integers(-30, 9, _WIDE)), fmt)
        far = [data.noise(rng, fmt, 512).codes, near.codes]
        return Tensor(fmt, np.concatenate([*far, *small]))
    # Strides are prime, so that no lane of a vector and no bit of a mantissa stands still.
    start, end = 0x3F000000, 0x40000000
    binades = np.arange(start, end, 1021, dtype=np.uint32)  # [1/2, 2)
    negative = np.arange(0xBE800000, 0xBF800000, 2039, dtype=np.uint32)  # (-1, -1/4]
    wide = np.exp2(rng.uniform(-30, 10, _WIDE)) * rng.choice([-1.0, 1.0], _WIDE)
    parts = [encode(wide, fmt).codes, data.noise(rng, fmt, _WIDE).codes]
    return Tensor(fmt, np.concatenate([binades, negative, *parts, *small]))


@cache
def _every(fmt: Format) -> Tensor:
    """Returns every code of a narrow format, and the edges in every lane of a vector."""
    lanes = data.in_every_lane(data.specials(fmt), fmt)
    codes = np.concatenate([data.all_codes(fmt).codes, lanes.codes])
    codes.flags.writeable = False
    return Tensor(fmt, codes)


def judged(
    op: str,
    x: F64,
    reference: F64,
    fmt: Format,
    context: Context,
    free: NDArray[Any] | None = None,
    rest: F64 | None = None,
    flush: bool = False,
    weight: float = 1.0,
) -> Expected:
    """Returns the expectation of a function: exact, or within its limit.

    Args:
        op: Name of the op.
        x: What its error floor and domain are measured in.
        reference: Results in float64.
        fmt: Format of operands and results.
        context: Holds the claims.
        free: Where the result is not defined.
        rest: What the results are beyond float64.
        flush: Whether subnormal results become zero.
        weight: Factor of the error floor.
    """
    limit = functions.LIMITS.get(op)
    spec = context.datasheet.function(op, fmt.name)
    if spec is not None and spec.domain is not None:
        outside = _outside(spec.domain, f"functions[{op}, {fmt}]", x)
        free = outside if free is None else free | outside
    low = rest if rest is not None and rest.any() else None
    rounded = encode(reference, fmt, low=low)
    kept = encode(flushed(reference, fmt), fmt, low=low) if flush else rounded
    # Tininess is found before or after rounding (IEEE 754-2019, 7.5): what rounds up to the
    # smallest normal number may be flushed, or not.
    edge = np.abs(rounded.values) == fmt.smallest_normal
    exact = expect_exact(
        kept,
        others=(np.where(edge, rounded.codes, kept.codes),) if flush else (),
        signed_zero=op not in functions.ZERO_FREE and not flush,
        free=free,
        claim=f"functions[{op}, {fmt}]" if spec else "",
    )
    if limit is None:
        return exact
    ulp, floor, of = limit.default(fmt), limit.floor, limit.of
    if spec is not None:
        if spec.ulp > limit.largest(fmt):
            raise BelowProfile(
                f"functions[{op}, {fmt}].ulp is {spec.ulp}; at most {limit.largest(fmt)} is allowed"
            )
        ulp, floor = spec.ulp, min(spec.floor, limit.floor_cap)
        of = spec.floor_of
    if ulp <= 0.5:
        return exact
    size = np.abs(np.where(np.isfinite(x), x, 0.0)) if of == "|x|" else np.full(x.shape, weight)
    with np.errstate(over="ignore", invalid="ignore"):
        within = _within(op, x, reference, fmt, ulp, floor * size, limit, free)
        if op == "Sigmoid" and spec is None:
            within = _decomposed(within, reference, fmt)
    if rest is not None:
        within = replace(within, value=Doubled(within.value.high, rest))
    if flush:
        within = replace(within, also_zero=np.abs(reference) < fmt.smallest_normal + within.bound)
    return Expected(fmt, exact.shape, (*exact.tiers, (Tier.U, within)), Tier.U, exact.claim)


def _outside(domain: tuple[float, float], entry: str, x: F64) -> Mask:
    """Says which finite arguments a claim leaves out.

    Raises:
        BelowProfile: It leaves out what any model uses.
    """
    if domain[0] > -_LEAST_DOMAIN or domain[1] < _LEAST_DOMAIN:
        raise BelowProfile(
            f"{entry}.domain is {list(domain)}; it must hold {[-_LEAST_DOMAIN, _LEAST_DOMAIN]}"
        )
    return np.isfinite(x) & ((x < domain[0]) | (x > domain[1]))


def _within(
    op: str,
    x: F64,
    reference: F64,
    fmt: Format,
    ulp: float,
    floor: F64,
    limit: functions.Limit,
    free: NDArray[Any] | None,
) -> Within:
    finite = np.isfinite(reference)
    value = np.where(finite, reference, 0.0)
    step = _last_place(value, fmt)
    count: float | F64 = ulp
    if op == "Sigmoid" and ulp > 1:
        count = ulp * (1 + np.abs(np.where(np.isfinite(x), x, 0.0)))
    bound = np.maximum(count * step, floor * 2.0 ** (1 - fmt.precision))
    bound = bound * (1 + 2.0**-20)  # the reference's own error
    size = np.abs(value)
    edge = finite & (size + bound >= fmt.max)
    beyond = edge & (size >= fmt.max + bound)
    edge &= ~beyond
    positive = (reference == np.inf) | (beyond & (value > 0))
    negative = (reference == -np.inf) | (beyond & (value < 0))
    if limit.domain is not None:
        outside = np.isfinite(x) & (np.abs(x) > limit.domain)
        edge = edge | outside
        bound = np.where(outside, 1e300, bound)
    if free is not None:
        edge, bound = edge | free, np.where(free, 1e300, bound)
    return Within(
        Doubled(value, np.zeros_like(value)),
        bound,
        np.isnan(reference),
        positive,
        negative,
        edge,
    )


def _decomposed(within: Within, reference: F64, fmt: Format) -> Within:
    """Widens the limit of Sigmoid to that of 1 / (1 + exp(-x)), which a compiler may make of it.

    The exponential's error counts for the share 1 - sigmoid(x) that it has of the sum; the sum and
    the quotient add half a unit each. A relative error of one unit is up to two in the last
    place. Where the exponential is infinite, the quotient is zero.
    """
    share = np.where(np.isfinite(reference), 1 - reference, 0.0)
    units = 2 * (functions.LIMITS["Exp"].default(fmt) * share + 1)
    bound = np.maximum(within.bound, units * _last_place(within.value.high, fmt) * (1 + 2.0**-20))
    return replace(within, bound=bound, also_zero=reference * fmt.max < 1)


def _last_place(value: F64, fmt: Format) -> F64:
    """Returns the unit in the last place of finite values."""
    if fmt == FLOAT64:
        steps: F64 = np.ldexp(1.0, np.maximum(floor_log2(value), fmt.emin) - fmt.mantissa_bits)
        return steps
    # float64 has an exponent for each of them: shift it down to where its bits lie
    exponent = (np.abs(value).view(np.int64) >> 52) - 1023
    place = np.maximum(exponent, fmt.emin) - fmt.mantissa_bits
    found: F64 = ((place + 1023) << 52).view(np.float64)
    return found


def binary(case: Case, context: Context) -> Problem:
    """One function of two operands: edges against edges, built ties, noise, cancellation."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shape = str(case.parameters.get("shape", "same"))
    x, y = data.paired(fmt, _pool(case.op, fmt, rng), rng, shape)
    attributes = {k: v for k, v in case.parameters.items() if k == "fmod"}
    if _ignores_nan(case, context):  # of a signaling NaN, too: maximumNumber; or not: maxNum
        x, y = (Tensor(fmt, _quiet(t.codes, fmt)) for t in (x, y))
    return _binary(case, context, x, y, attributes)


def power(case: Case, context: Context) -> Problem:
    """Pow with an exponent of another format: whole numbers of both signs."""
    base, exponent = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    x = Tensor(base, _pool("Pow", base, rng)[:, None])
    if exponent.is_float:
        y = Tensor(exponent, _pool("Pow", exponent, rng)[None])
    else:
        low = -20 if exponent.is_signed else 0
        y = from_integers(np.array([[*range(low, 21), 100, 127]]), exponent)
    return _binary(case, context, x, y, {})


def _binary(
    case: Case, context: Context, x: Tensor, y: Tensor, attributes: dict[str, Any]
) -> Problem:
    return shrinkable(lambda a, b: _binary_of(case, context, a, b, attributes), (x, y))


def _binary_of(
    case: Case, context: Context, x: Tensor, y: Tensor, attributes: dict[str, Any]
) -> Problem:
    fmt, op = x.format, case.op
    ignore = _ignores_nan(case, context)

    def expected(flush: bool) -> Expected:
        a, b = np.broadcast_arrays(x.values, y.values)
        if flush:
            a, b = flushed(a, fmt), flushed(b, y.format) if y.format.is_float else b
        with np.errstate(all="ignore"):
            if fmt == FLOAT64 and op == "Pow":
                wide = functions.binary(op, _extended(a), _extended(b))
                reference, rest = _halves(wide)
                return judged(op, a, reference, fmt, context, None, rest, flush)
            reference = functions.binary(op, a, b, fmod=True, ignore=ignore)
        if fmt == FLOAT64 and op in _CORRECT and not flush:
            return expect_exact(
                Tensor(fmt, reference.view(np.uint64)), signed_zero=op not in functions.ZERO_FREE
            )
        return judged(op, a, reference, fmt, context, flush=flush)

    oracle = either(op, fmt, context, expected)
    return Problem(op=op, operands=(x, y), attributes=attributes, oracle=oracle)


def _ignores_nan(case: Case, context: Context) -> bool:
    spec = context.datasheet.function(case.op, data.format_of(case, 0).name)
    return spec is not None and spec.nan == "ignore"


def _pool(op: str, fmt: Format, rng: np.random.Generator) -> Codes:
    """Returns codes that meet each other in pairs."""
    edges = represent(data.specials(fmt), fmt).codes
    plain = encode(rng.normal(size=64) * np.exp2(rng.integers(-8, 8, 64)), fmt).codes
    built = [edges, represent(_built(op, fmt), fmt).codes, plain]
    pool = np.concatenate([*built, data.noise(rng, fmt, 48).codes])
    return _quiet(pool, fmt) if op == "Pow" else pool


def _quiet(codes: Codes, fmt: Format) -> Codes:
    """Returns codes whose NaNs do not signal.

    ``pow(x, 0)`` is 1 for a quiet NaN, and NaN or 1 for another (IEEE 754-2019, 9.2.1).
    """
    if not fmt.is_float:
        return codes
    bit = codes.dtype.type(1 << (fmt.mantissa_bits - 1))
    return np.where(np.isnan(Tensor(fmt, codes).values), codes | bit, codes)


def _built(op: str, fmt: Format) -> F64:
    """Returns operands whose sums and products are ties, or whose powers are special."""
    p = fmt.precision
    if op == "Pow":  # whole and half exponents of both parities, the largest odd one included
        some = np.array([0.5, 2.0, 3.0, 4.0, 5.0, 1 / 4, 2.0**p - 1, 2.0 ** (p - 1)])
        return data.both_signs(some)
    if op in ("Add", "Sub"):
        steps = np.arange(4) * 2.0 ** (1 - p)
        halves = [2.0**-p * (1 + sign * 2.0 ** (1 - p)) for sign in (0, 1)]
        return data.both_signs(np.concatenate([1 + steps, halves, [2.0**-p * (1 - 2.0**-p)]]))
    if op in ("Mul", "Div"):  # (1 + 2**-i) (1 + 2**-j) with i + j = p lies halfway
        return data.both_signs(1 + np.exp2(-np.arange(1.0, min(p, 24))))
    if op == "Mod":
        return data.both_signs(np.array([2.0, 3.0, 0.1015625, 7.0, 2.0 ** (fmt.emax - 1)]))
    return np.array([0.5])
