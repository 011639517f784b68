"""Elementwise arithmetic, logic and shifts of integers: every code where there are few."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, Format, Kind
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.oracles.tensor import (
    Codes,
    Tensor,
    code_dtype,
    decode_integers,
    from_integers,
)
from accelsdk_conformance.problem import (
    Context,
    Expected,
    Problem,
    always,
    expect_exact,
    shrinkable,
)

Whole = NDArray[Any]  # int64, or uint64 for uint64 tensors

_POOL = 160


def whole(tensor: Tensor) -> Whole:
    """Returns exact integers: int64, and uint64 where int64 is too narrow."""
    if tensor.format.kind is Kind.UINT and tensor.format.bits == 64:
        return tensor.codes.astype(np.uint64)
    return decode_integers(tensor.codes, tensor.format)


def wrapped(values: Whole, fmt: Format) -> Tensor:
    """Wraps whole numbers of either kind into the codes of a format."""
    return from_integers(values.view(np.int64) if values.dtype == np.uint64 else values, fmt)


def lowest(fmt: Format) -> int:
    """Returns the least integer of a format."""
    return -(1 << (fmt.bits - 1)) if fmt.is_signed else 0


def highest(fmt: Format) -> int:
    """Returns the greatest integer of a format."""
    return lowest(fmt) + (1 << fmt.bits) - 1


def constants(values: list[int], fmt: Format) -> Tensor:
    """Returns Python integers as a vector, modulo the width of the format."""
    mask = (1 << fmt.bits) - 1
    return Tensor(fmt, np.array([v & mask for v in values], np.uint64).astype(code_dtype(fmt)))


def pool(fmt: Format, rng: np.random.Generator) -> Whole:
    """Returns codes that meet each other in pairs: all of 8 bits, else edges and a sample."""
    if fmt.bits <= 8:
        return data.all_codes(fmt).codes
    low, high = lowest(fmt), highest(fmt)
    ends = [low, high, 0, 1, low + 1, high - 1, -1, 2, -2, 3, -3, 10, -7]
    # Equal upper halves, lower halves of either sign: for arithmetic in two words.
    word, sign = 1 << (fmt.bits // 2), 1 << (fmt.bits // 2 - 1)
    ends += [sign, sign - 1, word, word + sign, word - 1, -sign, -word, -word - sign, 1 - word]
    every = data.integers_of(fmt, rng).codes
    return np.concatenate(
        [constants(ends, fmt).codes, every[np.linspace(0, len(every) - 1, _POOL).astype(np.int64)]]
    )


def binary(case: Case, context: Context) -> Problem:
    """Two integer operands: each of a pool against each, in several shapes."""
    fmt = data.format_of(case, 0)
    x, y = pairs(fmt, data.rng(case, context), str(case.parameters.get("shape", "grid")))
    attributes = {k: v for k, v in case.parameters.items() if k == "fmod"}

    def make(x: Tensor, y: Tensor) -> Problem:
        expected = _expected(case, fmt, *np.broadcast_arrays(whole(x), whole(y)))
        return Problem(op=case.op, operands=(x, y), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (x, y))


def pairs(fmt: Format, rng: np.random.Generator, shape: str) -> tuple[Tensor, Tensor]:
    """Returns two operands of integers that broadcast in the way that ``shape`` names."""
    codes = pool(fmt, rng)
    return data.paired(fmt, codes, rng, shape)


def _expected(case: Case, fmt: Format, a: Whole, b: Whole) -> Expected:
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
            case "PRelu":
                value = np.where(a < 0, a * b, a)
            case _:
                return _divided(case, fmt, a, b)
    return expect_exact(wrapped(value, fmt))


def _divided(case: Case, fmt: Format, a: Whole, b: Whole) -> Expected:
    """Division and remainder; a zero divisor and MIN / -1 are undefined in ONNX."""
    undefined = b == 0
    if fmt.is_signed:
        undefined |= (a == lowest(fmt)) & (b == -1)
    safe = np.where(undefined, b.dtype.type(1), b)
    floor = np.floor_divide(a, safe)
    truncated = floor + ((floor < 0) & (floor * safe != a)).astype(a.dtype)
    match case.op:
        case "Div":
            value = truncated
        case "Mod" if case.parameters.get("fmod"):
            value = a - truncated * safe
        case _:
            value = a - floor * safe
    return expect_exact(wrapped(value, fmt), free=undefined)


def unary(case: Case, context: Context) -> Problem:
    """Abs, Neg, Sign, Relu and BitwiseNot of integers: MIN wraps, as two's complement does."""
    fmt = data.format_of(case, 0)
    x = data.integers_of(fmt, data.rng(case, context))
    return shrinkable(lambda given: _unary(case, given), (x,))


def _unary(case: Case, x: Tensor) -> Problem:
    a = whole(x)
    with np.errstate(all="ignore"):
        match case.op:
            case "Abs":
                value = np.abs(a)
            case "Neg":
                value = -a
            case "Sign":
                value = np.sign(a)
            case "BitwiseNot":
                value = ~a
            case _:
                value = np.maximum(a, 0)
    expected = expect_exact(wrapped(value, x.format))
    return Problem(op=case.op, operands=(x,), oracle=always(expected))


def shift(case: Case, context: Context) -> Problem:
    """Logical shifts by every amount below the width."""
    fmt = data.format_of(case, 0)
    x = data.integers_of(fmt, data.rng(case, context)).codes[:512, None]
    amounts = np.arange(fmt.bits).astype(code_dtype(fmt))[None]
    left = case.parameters["direction"] == "LEFT"

    def make(x: Tensor, amounts: Tensor) -> Problem:
        value = (x.codes << amounts.codes) if left else (x.codes >> amounts.codes)
        return Problem(
            op="BitShift",
            operands=(x, amounts),
            attributes=dict(case.parameters),
            oracle=always(expect_exact(Tensor(fmt, value.astype(code_dtype(fmt))))),
        )

    return shrinkable(make, (Tensor(fmt, x), Tensor(fmt, amounts)))


def power(case: Case, context: Context) -> Problem:
    """Integer bases: powers wrap, negative exponents truncate 1 / x**n, 0**-n is undefined.

    A float exponent is a whole number here, and one step towards zero is allowed: the power is
    a float function whose result is cut off.
    """
    base, exponent = data.format_of(case, 0), data.format_of(case, 1)
    signed = exponent.is_float or exponent.is_signed
    x = np.array([0, 1, -1, 2, -2, 3, -3, 5, 7, 10, -11, 100, lowest(base), highest(base)])
    y = np.array([0, 1, 2, 3, 4, 5, 6, 7, *([-1, -2, -3] if signed else [])])
    if exponent.is_float:
        x, y = x[:-2], y[y >= 0]
    else:
        y = np.concatenate([y, [31, 63, 64]])
    bases = Tensor(base, constants([int(v) for v in x], base).codes[:, None])
    if exponent.is_float:
        return shrinkable(_power_of, (bases, data.vector(y.astype(np.float64), exponent)))
    return shrinkable(_power_of, (bases, constants([int(v) for v in y], exponent)))


def wide_power(case: Case, context: Context) -> Problem:
    """Bases and powers of every size: many that no float of their width holds, and wraps.

    Of 64 bits those are odd numbers of 54 to 63 bits, and 3**39.
    """
    base, exponent = data.format_of(case, 0), data.format_of(case, 1)
    large = [
        *(1 << bits for bits in (16, 31, 32, 52, 53, 57, 62)),
        46340,
        3037000499,
        (1 << 63) - 2,
    ]
    x = [3, -3, 5, -6, 7, 10, 15, -17, lowest(base), highest(base)]
    x += [sign * (value + 1) for value in large for sign in (1, -1) if value < highest(base)]
    y = [0, 1, 2, 3, 4, 13, 14, 18, 19, 20, 21, 22, 23, 27, 31, 34, 39, 40, 41, 61, 62, 63, 64]
    return shrinkable(
        _power_of,
        (Tensor(base, constants(x, base).codes[:, None]), constants(y, exponent)),
    )


def _power_of(x: Tensor, y: Tensor) -> Problem:
    base = x.format
    a, b = np.broadcast_arrays(x.integers, y.values)
    if (b != np.rint(b)).any():
        raise ValueError("no whole exponents")
    grid = [_power(int(i), int(j)) for i, j in zip(a.flat, b.flat, strict=True)]
    value = np.array([v & (2**64 - 1) for v in grid], np.uint64).reshape(a.shape)
    found = from_integers(value.view(np.int64), base)
    free = (a == 0) & (b < 0)
    others: tuple[Codes, ...] = ()
    if y.format.is_float:
        fits = np.array([abs(v) < 2 ** (base.bits - 1) for v in grid], bool)
        free |= ~fits.reshape(a.shape)
        nearer = found.integers - np.sign(found.integers) * (np.abs(found.integers) > 1)
        others = (from_integers(nearer, base).codes,)
    expected = expect_exact(found, free=free, others=others)
    return Problem(op="Pow", operands=(x, y), oracle=always(expected))


def _power(x: int, y: int) -> int:
    """Returns x**y, or beyond 2**64 what is equal to it modulo 2**64 and is as far beyond."""
    if y > 64 and abs(x) > 1:
        return (1 << 64) + pow(x, y, 1 << 64)
    if y >= 0:
        return int(x**y)
    return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)


def logic(case: Case, context: Context) -> Problem:
    """Truth tables, on rows that are longer than any vector."""
    bits = data.rng(case, context).integers(0, 2, (2, 67)).astype(np.uint8)
    bits[:, :4] = [[0, 0, 1, 1], [0, 1, 0, 1]]

    def make(x: Tensor, y: Tensor | None = None) -> Problem:
        a = x.codes != 0
        b = a if y is None else y.codes != 0
        value = {"And": a & b, "Or": a | b, "Xor": a ^ b, "Not": ~a}[case.op]
        expected = expect_exact(Tensor(BOOL, value.astype(np.uint8)))
        operands = (x,) if y is None else (x, y)
        return Problem(op=case.op, operands=operands, oracle=always(expected))

    return shrinkable(make, [Tensor(BOOL, row) for row in bits[: 1 if case.op == "Not" else 2]])


def product(case: Case, context: Context) -> Problem:
    """MatMul of 32- and 64-bit integers: sums of full-range products wrap.

    With ``bits``, magnitudes of so many bits: a unit may multiply small numbers another way, in
    floats of 24 or 53 bits or in limbs of 16, and must know where that ends to be exact.
    """
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    shapes: list[tuple[int, ...]] = [tuple(shape) for shape in case.parameters["shapes"]]
    a, b = (_factor(fmt, shape, case.parameters.get("bits"), rng) for shape in shapes)

    def make(a: Tensor, b: Tensor) -> Problem:
        left, right = a.codes.astype(np.uint64), b.codes.astype(np.uint64)
        if fmt.is_signed:  # modulo 2**64 the sign is all that the width adds
            left, right = (decode_integers(t.codes, fmt).view(np.uint64) for t in (a, b))
        value = np.matmul(left, right)  # wraps modulo 2**64
        return Problem(
            op="MatMul", operands=(a, b), oracle=always(expect_exact(wrapped(value, fmt)))
        )

    return shrinkable(make, (a, b), axes.product)


def _factor(
    fmt: Format, shape: tuple[int, ...], bits: int | None, rng: np.random.Generator
) -> Tensor:
    if bits is None:
        return Tensor(fmt, data.noise(rng, fmt, math.prod(shape)).codes.reshape(shape))
    values = rng.integers(1 << (bits - 1), 1 << bits, shape)
    return from_integers(values * rng.choice([-1, 1], shape) if fmt.is_signed else values, fmt)
