"""Elementwise functions, comparisons, logic and selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles import functions
from accelsdk_conformance.oracles.contraction import floor_log2
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import (
    F64,
    Tensor,
    code_dtype,
    encode,
    from_integers,
    represent,
)
from accelsdk_conformance.problem import (
    Acceptance,
    BelowProfile,
    Context,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
)

_SAMPLES = 8192


def unary(case: Case, context: Context) -> Problem:
    """One function: every code of 16 bits, strided binades and edges of float32."""
    fmt = data.format_of(case, 0)
    x = _samples(fmt, data.rng(case, context))
    with np.errstate(all="ignore"):
        reference = functions.unary(case.op, case.parameters)(x.values)
    free = x.values == -np.inf if case.op in functions.LIMIT_FREE else None
    if case.op == "Softsign":
        free = np.isinf(x.values)
    if case.op == "ThresholdedRelu":  # the formula (x if x > alpha else 0) sends NaN to 0
        free = np.isnan(x.values)
    expected = judged(case.op, x.values, reference, fmt, context, free)
    attributes = dict(case.parameters)
    return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))


def _samples(fmt: Format, rng: np.random.Generator) -> Tensor:
    if fmt.bits <= 16:
        return data.all_codes(fmt)
    if fmt == FLOAT64:
        return data.samples(fmt, rng)
    start, end = 0x3F000000, 0x40000000  # [1/2, 2): all of both binades, strided by a prime
    binades = np.arange(start, end, 1021, dtype=np.uint32)
    negative = np.arange(0xBE800000, 0xBF800000, 2039, dtype=np.uint32)  # (-1, -1/4]
    wide = np.exp2(rng.uniform(-30, 10, _SAMPLES)) * rng.choice([-1.0, 1.0], _SAMPLES)
    parts = [represent(data.specials(fmt), fmt), encode(wide, fmt), data.noise(rng, fmt, _SAMPLES)]
    limits = [88.7228, 88.7229, -87.3365, -103.97, 89.0, 710.0, 2.0**15, 9.0, 0.54, -1.0, 1.0]
    parts.append(encode(np.array(limits), fmt))
    return Tensor(fmt, np.concatenate([binades, negative, *(part.codes for part in parts)]))


def judged(
    op: str, x: F64, reference: F64, fmt: Format, context: Context, free: NDArray[Any] | None = None
) -> Expected:
    """Returns the expectation of a function: exact, or within its limit.

    Args:
        op: Name of the op.
        x: What its error floor and domain are measured in.
        reference: Results in float64.
        fmt: Format of operands and results.
        context: Holds the claims.
        free: Where the result is not defined.
    """
    limit = functions.LIMITS.get(op)
    spec = context.datasheet.function(op, fmt.name)
    exact = expect_exact(
        encode(reference, fmt),
        signed_zero=op not in functions.ZERO_FREE,
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
    tiers: tuple[tuple[Tier, Acceptance], ...] = exact.tiers
    if ulp <= 0.5:
        return exact
    size = np.abs(np.where(np.isfinite(x), x, 0.0)) if of == "|x|" else np.ones_like(x)
    within = _within(op, x, reference, fmt, ulp, floor * size, limit, free)
    return Expected(fmt, exact.shape, (*tiers, (Tier.U, within)), Tier.U, exact.claim)


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
    step = np.ldexp(1.0, np.maximum(floor_log2(value), fmt.emin) - fmt.mantissa_bits)
    count = np.full(value.shape, ulp)
    if op == "Sigmoid" and ulp > 1:
        count = ulp * (1 + np.abs(np.where(np.isfinite(x), x, 0.0)))
    with np.errstate(over="ignore", invalid="ignore"):
        bound = np.maximum(count * step, floor * 2.0 ** (1 - fmt.precision))
    bound = bound * (1 + 2.0**-20)  # the reference's own error
    beyond = finite & (np.abs(value) >= fmt.max + bound)
    edge = finite & ~beyond & (np.abs(value) + bound >= fmt.max)
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


def binary(case: Case, context: Context) -> Problem:
    """One function of two operands: edges against edges, noise, and cancellation."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    x, y = _pairs(fmt, rng, str(case.parameters.get("shape", "same")))
    attributes = {k: v for k, v in case.parameters.items() if k in ("fmod", "direction")}
    if fmt.is_float:
        with np.errstate(all="ignore"):
            a, b = np.broadcast_arrays(x.values, y.values)
            reference = functions.binary(case.op, a, b, fmod=True)
        left = np.broadcast_to(x.values, reference.shape)
        if fmt == FLOAT64 and case.op in ("Add", "Sub", "Mul", "Div"):
            expected = expect_exact(Tensor(fmt, reference.view(np.uint64)))
        else:
            expected = judged(case.op, left, reference, fmt, context)
    else:
        expected = _integers(case, fmt, x, y)
    return Problem(op=case.op, operands=(x, y), attributes=attributes, oracle=always(expected))


def _pairs(fmt: Format, rng: np.random.Generator, shape: str) -> tuple[Tensor, Tensor]:
    if fmt.is_float:
        edges = represent(data.specials(fmt), fmt).codes
        plain = encode(rng.normal(size=64) * np.exp2(rng.integers(-8, 8, 64)), fmt).codes
        pool = np.concatenate([edges, plain, data.noise(rng, fmt, 48).codes])
    else:
        every = data.integers_of(fmt, rng).codes
        pool = every[np.linspace(0, len(every) - 1, 160).astype(np.int64)]
        low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
        ends = from_integers(np.array([low, low + (1 << fmt.bits) - 1, 0, 1, low + 1]), fmt)
        pool = np.concatenate([ends.codes, pool])
    if shape == "channel":  # PRelu: the slope broadcasts to the operand, never the other way
        return Tensor(fmt, pool[:120].reshape(2, 5, 12)), Tensor(fmt, pool[60:65].reshape(5, 1))
    if shape == "grid":
        return Tensor(fmt, pool[:, None]), Tensor(fmt, pool[None])
    if shape == "scalar":
        return Tensor(fmt, pool), Tensor(fmt, pool[7].reshape(()))
    if shape == "ranks":
        return Tensor(fmt, pool[:60].reshape(3, 1, 5, 4)), Tensor(fmt, pool[60:90].reshape(6, 5, 1))
    if shape == "empty":
        return Tensor(fmt, pool[:0].reshape(0, 3)), Tensor(fmt, pool[:3])
    near = pool[rng.integers(0, len(pool), 4096)]
    other = np.where(rng.random(4096) < 0.5, near ^ near.dtype.type(1), rng.permutation(near))
    return Tensor(fmt, near), Tensor(fmt, other.astype(near.dtype))


def _integers(case: Case, fmt: Format, x: Tensor, y: Tensor) -> Expected:
    a, b = np.broadcast_arrays(x.integers, y.integers)
    with np.errstate(all="ignore"):
        match case.op:
            case "Add":
                value = a + b
            case "Sub":
                value = a - b
            case "Mul":
                value = a * b
            case "Min":
                value = np.minimum(a, b)
            case "Max":
                value = np.maximum(a, b)
            case "BitwiseAnd":
                value = a & b
            case "BitwiseOr":
                value = a | b
            case "BitwiseXor":
                value = a ^ b
            case _:
                return _divided(case, fmt, a, b)
    return expect_exact(from_integers(value, fmt))


def _divided(case: Case, fmt: Format, a: NDArray[np.int64], b: NDArray[np.int64]) -> Expected:
    """Division and remainder; a zero divisor and MIN / -1 are undefined in ONNX."""
    low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
    undefined = (b == 0) | ((a == low) & (b == -1) & fmt.is_signed)
    safe = np.where(undefined, 1, b)
    floor = np.floor_divide(a, safe)
    truncated = floor + ((floor < 0) & (floor * safe != a))
    match case.op:
        case "Div":
            value = truncated
        case "Mod" if case.parameters.get("fmod"):
            value = a - truncated * safe
        case _:
            value = a - floor * safe
    return expect_exact(from_integers(value, fmt), free=undefined)


def shift(case: Case, context: Context) -> Problem:
    """Logical shifts by every amount below the width."""
    fmt = data.format_of(case, 0)
    x = data.integers_of(fmt, data.rng(case, context)).codes[:512, None]
    amounts = np.arange(fmt.bits).astype(code_dtype(fmt))[None]
    left = case.parameters["direction"] == "LEFT"
    value = (x << amounts) if left else (x >> amounts)
    return Problem(
        op="BitShift",
        operands=(Tensor(fmt, x), Tensor(fmt, amounts)),
        attributes=dict(case.parameters),
        oracle=always(expect_exact(Tensor(fmt, value.astype(code_dtype(fmt))))),
    )


def compare(case: Case, context: Context) -> Problem:
    """Comparisons: NaN is unordered, zeros are equal, edges against edges."""
    fmt = data.format_of(case, 0)
    x, y = _pairs(fmt, data.rng(case, context), str(case.parameters.get("shape", "grid")))
    a, b = (x.values, y.values) if fmt.is_float else (x.integers, y.integers)
    value = {
        "Equal": np.equal,
        "Less": np.less,
        "LessOrEqual": np.less_equal,
        "Greater": np.greater,
        "GreaterOrEqual": np.greater_equal,
    }[case.op](a, b)
    expected = expect_exact(Tensor(BOOL, value.astype(np.uint8)))
    return Problem(op=case.op, operands=(x, y), oracle=always(expected))


def logic(case: Case, context: Context) -> Problem:
    """Truth tables, on rows that are longer than any vector."""
    bits = np.array([0, 1], np.uint8)
    x = Tensor(BOOL, np.tile(np.repeat(bits, 2), 17))
    y = Tensor(BOOL, np.tile(bits, 34))
    a, b = x.codes != 0, y.codes != 0
    value = {"And": a & b, "Or": a | b, "Xor": a ^ b, "Not": ~a}[case.op]
    operands = (x,) if case.op == "Not" else (x, y)
    expected = expect_exact(Tensor(BOOL, value.astype(np.uint8)))
    return Problem(op=case.op, operands=operands, oracle=always(expected))


def classify(case: Case, context: Context) -> Problem:
    """IsNaN and IsInf over every code or many."""
    fmt = data.format_of(case, 0)
    x = data.samples(fmt, data.rng(case, context))
    values = x.values
    up, down = (bool(case.parameters.get(f"detect_{s}", 1)) for s in ("positive", "negative"))
    found = np.isnan(values)
    if case.op == "IsInf":
        found = ((values == np.inf) & up) | ((values == -np.inf) & down)
    expected = expect_exact(Tensor(BOOL, found.astype(np.uint8)))
    return Problem(
        op=case.op, operands=(x,), attributes=dict(case.parameters), oracle=always(expected)
    )


def integer_unary(case: Case, context: Context) -> Problem:
    """Abs, Neg, Sign, Relu and BitwiseNot of integers: MIN wraps, as two's complement does."""
    fmt = data.format_of(case, 0)
    x = data.integers_of(fmt, data.rng(case, context))
    a = x.integers
    with np.errstate(all="ignore"):
        value = {
            "Abs": np.abs(a),
            "Neg": -a,
            "Sign": np.sign(a) if fmt.is_signed else (x.codes != 0).astype(np.int64),
            "BitwiseNot": ~a,
            "Relu": np.maximum(a, 0),
        }[case.op]
    expected = expect_exact(from_integers(value, fmt))
    return Problem(op=case.op, operands=(x,), oracle=always(expected))


def where(case: Case, context: Context) -> Problem:
    """Selection: NaN and -0 pass as they are, and the branch not taken has no effect."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    count = 515
    pool = data.samples(fmt, rng).codes
    x, y = (Tensor(fmt, pool[rng.integers(0, len(pool), count)]) for _ in range(2))
    chosen = rng.integers(0, 2, count).astype(np.uint8)
    value = Tensor(fmt, np.where(chosen != 0, x.codes, y.codes))
    nan = np.isnan(value.values) if fmt.has_nan else None
    return Problem(
        op="Where",
        operands=(Tensor(BOOL, chosen), x, y),
        oracle=always(expect_exact(value, nan=nan)),
    )


def clip(case: Case, context: Context) -> Problem:
    """Clip with both limits, one, none; NaN passes."""
    fmt = data.format_of(case, 0)
    x = data.samples(fmt, data.rng(case, context))
    which = str(case.parameters["limits"])
    low, high = (-1.0, 2.0) if fmt.is_float else (-5.0 if fmt.is_signed else 5.0, 100.0)
    limits = [
        represent(np.array(limit), fmt) if fmt.is_float else from_integers(np.array(limit), fmt)
        for limit in (low, high)
    ]
    values = x.values
    if which in ("both", "min"):
        values = np.where(values < low, low, values)
    if which in ("both", "max"):
        values = np.where(values > high, high, values)
    given: list[Tensor | None] = [
        limit if which in ("both", name) else None
        for limit, name in zip(limits, ("min", "max"), strict=True)
    ]
    tensor = encode(values, fmt) if fmt.is_float else from_integers(values, fmt)
    expected = expect_exact(tensor, signed_zero=False)
    return Problem(op="Clip", operands=(x, *given), oracle=always(expected))
