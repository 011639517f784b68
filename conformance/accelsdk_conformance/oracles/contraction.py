"""Exact sums of products, and the any-order bound.

A sum of products is exact in double-double, or better: where all values lie on one grid and no
sum can leave 53 bits, a plain float64 matrix product is exact by construction; else the operands
are cut into slices whose products are (Ozaki, Ogita, Oishi and Rump, "Error-free transformations
of matrix multiplication", Numerical Algorithms 59, 2012), and only their few sums are rounded, in
double-double. The any-order bound is that of Higham, ASNA 2nd ed., section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk_conformance.oracles.doubled import UNIT, Doubled, add, total, two_product

F64 = NDArray[np.float64]
I16 = NDArray[np.int16]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

#: Exponent of what is zero: never the largest, and no int16 sum of two overflows.
NOTHING = -12_000
_SLICES = 5  # operands cut into more than this many are summed directly
_CHUNK = 1 << 21  # products held at once


@dataclass(frozen=True, eq=False)
class Factors:
    """The finite operands of one matrix product, scales applied, and what alignment sees.

    Attributes:
        a: Left values [M, K]; Inf and NaN count as 0.
        b: Right values [K, N].
        a_field: Exponent field of each left value plus that of its scale; `NOTHING` for zero.
        b_field: The same of the right values.
        a_scale: Exponent of each left value's scale.
        b_scale: The same of the right values.
        bits: Significand bits of an exact product.
        addend: What is added to the sums [M, N], or None.
    """

    a: F64
    b: F64
    a_field: I16
    b_field: I16
    a_scale: I16
    b_scale: I16
    bits: int
    addend: F64 | None = None

    @property
    def depth(self) -> int:
        """K."""
        return int(self.a.shape[1])

    def part(self, rows: Indices, columns: Indices) -> Factors:
        """Returns the operands of some rows and columns of the product."""
        return Factors(
            self.a[rows],
            self.b[:, columns],
            self.a_field[rows],
            self.b_field[:, columns],
            self.a_scale[rows],
            self.b_scale[:, columns],
            self.bits,
            None if self.addend is None else self.addend[np.ix_(rows, columns)],
        )


@dataclass(frozen=True, eq=False)
class Contraction:
    """Everything that a verdict needs to know of one sum of products, per output.

    Attributes:
        factors: The operands.
        value: The exact sum of the finite products (Inf and NaN count as 0).
        magnitude: Sum of |a*b| (+ |c|), rounded up by at most one part in 2**50.
        terms: How many products (and addend) are not zero.
        unit: Exponent of a power of two that divides every term of every output.
        nan: Where NaN is required.
        positive: Where only +Inf products stand among finite ones.
        negative: The same for -Inf.
    """

    factors: Factors
    value: Doubled
    magnitude: F64
    terms: NDArray[np.int64]
    unit: int
    nan: Mask
    positive: Mask
    negative: Mask

    def part(self, rows: Indices, columns: Indices) -> Contraction:
        """Returns the sums of some rows and columns."""
        at = np.ix_(rows, columns)
        return Contraction(
            self.factors.part(rows, columns),
            Doubled(self.value.high[at], self.value.low[at]),
            self.magnitude[at],
            self.terms[at],
            self.unit,
            self.nan[at],
            self.positive[at],
            self.negative[at],
        )

    @cached_property
    def field(self) -> NDArray[np.int64]:
        """Largest exponent of a nonzero product, counted in the operands' exponent fields.

        Subnormals are at emin; very small where there is no product.
        """
        found = _extreme(self.factors.a_field, self.factors.b_field, largest=True)
        if self.factors.addend is None:
            return found
        return np.maximum(found, floor_log2(self.factors.addend))

    @cached_property
    def grain(self) -> NDArray[np.int64]:
        """Exponent of the largest power of two that divides every term; large if none is."""
        found = _extreme(_lowest_bit(self.factors.a), _lowest_bit(self.factors.b), largest=False)
        if self.factors.addend is None:
            return found
        return np.minimum(found, _lowest_bit(self.factors.addend))

    @cached_property
    def low_bits(self) -> F64:
        """Sum over nonzero products of 2**floor(log2 product), for rounded products."""
        found: F64 = np.zeros(self.value.high.shape)
        for rows in _row_chunks(len(found), self.factors.b.size):
            products = self.factors.a[rows][:, :, None] * self.factors.b[None]
            bits = products.view(np.int64)
            bits &= np.int64(0x7FF << 52)
            found[rows] = products.sum(axis=1)
        return found


def field_exponent(x: F64, fmt: Format) -> I16:
    """Returns the exponent field of each finite number as hardware sees it (subnormals: emin).

    Of MXINT8, a fixed-point format, it is the exponent of the leading digit.
    """
    exponent = (np.ascontiguousarray(x).view(np.int64) >> 52).astype(np.int16) & 0x7FF
    exponent -= 1023
    found: I16 = np.maximum(exponent, fmt.emin if fmt.is_float else -fmt.mantissa_bits)
    return found


def contract(
    a: F64,
    b: F64,
    a_format: Format,
    b_format: Format,
    *,
    a_exponent: NDArray[np.int64] | None = None,
    b_exponent: NDArray[np.int64] | None = None,
    addend: F64 | None = None,
) -> Contraction:
    """Sums the products of ``a[M, K]`` and ``b[K, N]`` exactly.

    Args:
        a: Left values; NaN and infinities allowed.
        b: Right values.
        a_format: Format of the left codes.
        b_format: Format of the right codes.
        a_exponent: Power of two that multiplies each left value (block scales), [M, K].
        b_exponent: The same for the right values, [K, N].
        addend: Values added to the sum, broadcast to [M, N] (bias).
    """
    shape = (a.shape[0], b.shape[1])
    left, right = _prepared(a, a_format, a_exponent), _prepared(b, b_format, b_exponent)
    bias = None
    if addend is not None:
        bias = np.broadcast_to(np.where(np.isfinite(addend), addend, 0.0), shape)
    bits = a_format.precision + b_format.precision
    factors = Factors(left[0], right[0], left[1], right[1], left[2], right[2], bits, bias)
    left_size, right_size = np.abs(factors.a), np.abs(factors.b)
    magnitude = left_size @ right_size
    unit = _coarse(left_size) + _coarse(right_size)
    value = _exact(factors, magnitude, unit)
    terms = _live(left_size, right_size)
    if bias is not None:
        value = add(value, Doubled(bias, np.zeros(shape)))
        magnitude, terms = magnitude + np.abs(bias), terms + (bias != 0)
        unit = min(unit, _coarse(np.abs(bias)))
    plain = left[0] is a and right[0] is b and (addend is None or np.isfinite(addend).all())
    nan, positive, negative = np.zeros((3, *shape), bool) if plain else _specials(a, b, addend)
    size = magnitude * (1 + 2.0**-50)
    return Contraction(factors, value, size, terms, unit, nan, positive, negative)


def _prepared(x: F64, fmt: Format, exponent: NDArray[np.int64] | None) -> tuple[F64, I16, I16]:
    """Returns finite values with their scales, exponent fields and exponents of the scales."""
    finite = np.isfinite(x)
    value = x if finite.all() else np.where(finite, x, 0.0)
    field = field_exponent(value, fmt)
    scale = np.zeros(x.shape, np.int16)
    if exponent is not None:
        scale = exponent.astype(np.int16)
        field += scale
        np.putmask(field, value == 0, NOTHING)
        return np.ldexp(value, exponent), field, scale
    np.putmask(field, value == 0, NOTHING)
    return value, field, scale


def _live(a: F64, b: F64) -> NDArray[np.int64]:
    """Counts the products that are not zero."""
    if a.all() and b.all():
        return np.full((a.shape[0], b.shape[1]), a.shape[1])
    found: NDArray[np.int64] = np.rint((a != 0).astype(np.float32) @ (b != 0)).astype(np.int64)
    return found


def _lowest_bit(x: F64) -> I16:
    """Returns the exponent of the lowest bit of each number that is set; large for zero."""
    bits = np.ascontiguousarray(x).view(np.int64)
    exponent = (bits >> 52) & 0x7FF
    digits = (bits & ((1 << 52) - 1)) | ((exponent > 0).astype(np.int64) << 52)
    place = (digits & -digits).astype(np.float64).view(np.int64) >> 52
    found = np.maximum(exponent, 1) + (place - (1023 + 1075))
    return np.where(digits == 0, -NOTHING, found).astype(np.int16)


def _extreme(a: I16, b: I16, *, largest: bool) -> NDArray[np.int64]:
    """Returns the largest (or smallest) ``a[i, k] + b[k, j]`` over k, without what is `NOTHING`.

    Each exponent stands for a power of a base that exceeds 2 K: the leading digit of the sum of
    the products of these powers is that of the largest one, however float64 rounds the sum.
    """
    if not largest:
        return -_extreme(-a, -b, largest=True)
    if not a.size or not b.size or max(a.max(), b.max()) == NOTHING:
        return np.full((a.shape[0], b.shape[1]), 2 * NOTHING)
    width = a.shape[1].bit_length() + 1
    tops = int(a.max()), int(b.max())
    lows = [int(x.min(where=x != NOTHING, initial=-NOTHING)) for x in (a, b)]
    if width * (sum(tops) - sum(lows)) > 1000:
        return _extreme_of_all(a, b)
    left, right = (_powers(x, top, width) for x, top in zip((a, b), tops, strict=True))
    found = (left @ right).view(np.int64) >> 52
    return np.where(found == 0, 2 * NOTHING, (found - 1023) // width + sum(tops))


def _powers(x: I16, top: int, width: int) -> F64:
    """Returns ``2**(width * (x - top))``, and 0 for what is `NOTHING`."""
    biased = 1023 + width * (x.astype(np.int64) - top)
    return (np.where(x == NOTHING, 0, biased) << 52).view(np.float64)


def _extreme_of_all(a: I16, b: I16) -> NDArray[np.int64]:
    """Returns the largest sums whatever the exponents, by looking at each."""
    found = np.full((a.shape[0], b.shape[1]), 2 * NOTHING, np.int16)
    step = max(1, _CHUNK // max(found.size, 1))
    for first in range(0, a.shape[1], step):
        part = slice(first, first + step)
        sums = a.T[part, :, None] + b[part, None, :]
        np.maximum(found, sums.max(axis=0), out=found)
    return found.astype(np.int64)


def _coarse(size: F64) -> int:
    """Returns the exponent of the largest power of two that divides all of these magnitudes."""
    top = size.max(initial=0.0)
    shift = 62 - math.frexp(top)[1]
    if top == 0 or abs(shift) > 1000:
        return int(_lowest_bit(size).min(initial=-NOTHING))
    steps = size * 2.0**shift
    whole = steps.astype(np.int64)
    if not np.array_equal(whole, steps):
        return int(_lowest_bit(size).min())
    common = int(np.bitwise_or.reduce(whole, axis=None))
    return (common & -common).bit_length() - 1 - shift


def _exact(factors: Factors, magnitude: F64, unit: int) -> Doubled:
    a, b = factors.a, factors.b
    if not magnitude.size or not a.shape[1]:
        return Doubled(np.zeros(magnitude.shape), np.zeros(magnitude.shape))
    if magnitude.max() < np.ldexp(1.0, min(unit + 53, 1023)):
        return Doubled(a @ b, np.zeros(magnitude.shape))
    width = (53 - max(a.shape[1] - 1, 1).bit_length()) // 2
    left, right = _slices(a, width, axis=1), _slices(b, width, axis=0)
    if left is not None and right is not None:
        sums = sorted(
            ((i + j, x @ y) for i, x in enumerate(left) for j, y in enumerate(right)),
            key=lambda pair: -pair[0],
        )
        zero = np.zeros(magnitude.shape)
        value = Doubled(zero, zero)
        for _, part in sums:
            value = add(value, Doubled(part, zero))
        return value
    parts = [_direct(a[rows], b, factors.bits) for rows in _row_chunks(a.shape[0], b.size)]
    return Doubled(*(np.concatenate([part[i] for part in parts]) for i in range(2)))


def _slices(x: F64, width: int, axis: int) -> list[F64] | None:
    """Cuts numbers into parts of ``width`` bits, aligned along an axis; None if too many."""
    rest, found = x.copy(), []
    largest = np.abs(x).max(axis=axis, keepdims=True)
    top = np.where(largest > 0, np.frexp(largest)[1], 0)
    for _ in range(_SLICES):
        top = top - width
        whole = np.ldexp(np.trunc(np.ldexp(rest, -top)), top)
        found.append(whole)
        rest -= whole
        if not rest.any():
            return found
    return None


def _row_chunks(rows: int, row_size: int) -> list[slice]:
    step = max(1, _CHUNK // max(row_size, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _direct(a: F64, b: F64, bits: int) -> Doubled:
    products = a[:, :, None] * b[None, :, :]
    low = two_product(a[:, :, None], b[None, :, :]).low if bits > 53 else None
    return total(products, axis=1, low=low)


def _specials(a: F64, b: F64, addend: F64 | None) -> tuple[Mask, Mask, Mask]:
    """Where NaN, +Inf and -Inf follow from the operands alone (IEEE 754 sections 6.1, 7.2)."""
    left, right = (np.asarray(np.isnan(x).any(axis=axis)) for x, axis in ((a, 1), (b, 0)))
    nan = left[:, None] | right[None, :]
    positive, negative = np.zeros((2, a.shape[0], b.shape[1]), bool)
    if np.isinf(a).any() or np.isinf(b).any():
        nan = nan | _any(np.isinf(a), b == 0) | _any(a == 0, np.isinf(b))
        plus, minus = a > 0, a < 0
        up, down = b > 0, b < 0
        for inf_a, inf_b in ((np.isinf(a), np.ones_like(up)), (np.ones_like(plus), np.isinf(b))):
            positive |= _any(plus & inf_a, up & inf_b) | _any(minus & inf_a, down & inf_b)
            negative |= _any(plus & inf_a, down & inf_b) | _any(minus & inf_a, up & inf_b)
    if addend is not None:
        full = np.broadcast_to(addend, positive.shape)
        nan, positive, negative = (
            nan | np.isnan(full),
            positive | (full == np.inf),
            negative | (full == -np.inf),
        )
    nan = nan | (positive & negative)
    return nan, positive & ~nan, negative & ~nan


def _any(a: Mask, b: Mask) -> Mask:
    found: Mask = (a.astype(np.float32) @ b.astype(np.float32)) > 0
    return found


def floor_log2(x: F64) -> NDArray[np.int64]:
    """Returns ``floor(log2|x|)``; very small for zero."""
    _, exponent = np.frexp(x)
    return np.where(x == 0, -100_000, exponent.astype(np.int64) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulator:
    """The fields of an accumulator that the any-order bound depends on.

    Attributes:
        significand_bits: Significand of the running sum.
        nearest_store: Whether the running sum is rounded to nearest.
        flush: Whether subnormal results become zero.
        emin: Smallest normal exponent of the running sum.
        split: Relative error of splitting the operands, summed over their pieces.
        pieces: How many partial products one product becomes.
    """

    significand_bits: int = 24
    nearest_store: bool = True
    flush: bool = False
    emin: int = -126
    split: float = 0.0
    pieces: int = 1


def any_order_bound(sums: Contraction, k: int, spec: Accumulator) -> F64:
    """T3: what any order of addition with ``significand_bits`` may miss by."""
    p = spec.significand_bits
    unit = 2.0**-p if spec.nearest_store else 2.0 ** (1 - p)
    terms = sums.terms.astype(np.float64) * spec.pieces
    gamma = terms * unit / np.maximum(1 - terms * unit, 2.0**-10)
    least = 2.0**spec.emin if spec.flush else 2.0 ** (spec.emin - p + 1)
    bound = (gamma + spec.split) * sums.magnitude + terms * least
    return bound + oracle_error(sums, k)


def oracle_error(sums: Contraction, k: int) -> F64:
    """Returns what the exact value itself may miss by: double-double is not quite exact."""
    return sums.magnitude * (max(k, 2).bit_length() + 2) * UNIT
