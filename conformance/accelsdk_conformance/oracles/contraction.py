"""Exact sums of products, and the error bounds that follow from a declared accumulator.

Products of two numbers of at most 26 significand bits are exact in float64; sums are kept in
double-double, and where the generator has proved that every partial sum fits 53 bits, a plain
float64 matrix product is exact by construction. Bounds: docs/conformance.md, "Tiers"; the
derivation follows the error analysis of fused multi-term adders by Fasi, Higham, Mikaitis and
Pranesh, PeerJ CS 7:e330 (2021), with the any-order bound of Higham, ASNA 2nd ed., section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk_conformance.oracles.doubled import UNIT, Doubled, total, two_product

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CHUNK = 1 << 21  # products held at once


@dataclass(frozen=True, slots=True, eq=False)
class Contraction:
    """Everything that a verdict needs to know of one sum of products, per output.

    Attributes:
        value: The exact sum of the finite products (Inf and NaN count as 0).
        magnitude: Sum of |a*b| (+ |c|), rounded up by at most one part in 2**50.
        terms: How many products (and addend) are not zero.
        field: Largest exponent of a nonzero product, counted in the operands' exponent
            fields (subnormals at emin); very small where there is none.
        low_bits: Sum over nonzero products of 2**floor(log2 product), for rounded products.
        nan: Where NaN is required.
        positive: Where only +Inf products stand among finite ones.
        negative: The same for -Inf.
    """

    value: Doubled
    magnitude: F64
    terms: NDArray[np.int64]
    field: NDArray[np.int64]
    low_bits: F64
    nan: Mask
    positive: Mask
    negative: Mask


def field_exponent(x: F64, fmt: Format) -> NDArray[np.int64]:
    """Returns the exponent field of each number as hardware sees it (subnormals: emin)."""
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    plain = exponent.astype(np.int64) - 1
    if not fmt.is_float:
        # MXINT8 is a fixed-point number: its only exponent is that of the leading digit.
        return np.where(x == 0, -fmt.mantissa_bits, plain)
    return np.where(x == 0, fmt.emin, np.maximum(plain, fmt.emin))


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
    finite_a, finite_b = np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(b), b, 0.0)
    exponent_a, exponent_b = field_exponent(a, a_format), field_exponent(b, b_format)
    if a_exponent is not None:
        finite_a, exponent_a = np.ldexp(finite_a, a_exponent), exponent_a + a_exponent
    if b_exponent is not None:
        finite_b, exponent_b = np.ldexp(finite_b, b_exponent), exponent_b + b_exponent
    wide = a_format.precision + b_format.precision > 53
    parts = [
        _rows(finite_a[rows], finite_b, exponent_a[rows], exponent_b, wide)
        for rows in _row_chunks(a.shape[0], a.shape[1] * b.shape[1])
    ]
    shape = (a.shape[0], b.shape[1])
    high, low, exponent, bits = (
        np.concatenate([part[index] for part in parts] or [np.zeros(0)]).reshape(shape)
        for index in range(4)
    )
    value = Doubled(high, low)
    magnitude = np.abs(finite_a) @ np.abs(finite_b)
    terms = np.rint((finite_a != 0).astype(np.float64) @ (finite_b != 0)).astype(np.int64)
    field = exponent.astype(np.int64)
    if addend is not None:
        value, magnitude, terms, field = _with_addend(value, magnitude, terms, field, addend)
    nan, positive, negative = _specials(a, b, addend)
    return Contraction(
        value, magnitude * (1 + 2.0**-50), terms, field, bits, nan, positive, negative
    )


def _row_chunks(rows: int, row_size: int) -> list[slice]:
    step = max(1, _CHUNK // max(row_size, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _rows(
    a: F64, b: F64, a_exponent: NDArray[np.int64], b_exponent: NDArray[np.int64], wide: bool
) -> tuple[F64, F64, F64, F64]:
    products = a[:, :, None] * b[None, :, :]
    low = two_product(a[:, :, None], b[None, :, :]).low if wide else None
    value = total(products, axis=1, low=low)
    fields = a_exponent[:, :, None] + b_exponent[None, :, :]
    fields = np.where(products != 0, fields, -100_000)
    field = fields.max(axis=1, initial=-100_000).astype(np.float64)
    leading = np.ldexp(1.0, np.maximum(floor_log2(products), -1070))
    bits = np.where(products != 0, leading, 0.0).sum(axis=1)
    return value.high, value.low, field, bits


def _with_addend(
    value: Doubled, magnitude: F64, terms: NDArray[np.int64], field: NDArray[np.int64], addend: F64
) -> tuple[Doubled, F64, NDArray[np.int64], NDArray[np.int64]]:
    finite = np.broadcast_to(np.where(np.isfinite(addend), addend, 0.0), value.high.shape)
    stacked = np.stack([value.high, finite])
    lows = np.stack([value.low, np.zeros_like(finite)])
    _, exponent = np.frexp(finite)
    own = np.where(finite != 0, exponent.astype(np.int64) - 1, -100_000)
    return (
        total(stacked, 0, lows),
        magnitude + np.abs(finite),
        terms + (finite != 0),
        np.maximum(field, own),
    )


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
    """The fields of a declared accumulator that bounds depend on.

    Attributes:
        significand_bits: Significand of the running sum.
        align_bits: Fraction bits kept when products are aligned; None keeps all.
        align_floor: Lowest exponent that products are aligned to.
        nearest_align: Whether alignment rounds to nearest.
        nearest_store: Whether the running sum is rounded to nearest.
        width: Products added in one step, or None if unknown.
        product_bits: Bits to which a product is rounded first, or None if exact.
        flush: Whether subnormal results become zero.
        emin: Smallest normal exponent of the running sum.
        split: Relative error of splitting the operands, summed over their pieces.
        pieces: How many partial products one product becomes.
    """

    significand_bits: int = 24
    align_bits: int | None = None
    align_floor: int = -126
    nearest_align: bool = False
    nearest_store: bool = True
    width: int | None = None
    product_bits: int | None = None
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
    return bound + _oracle_error(sums, k)


def declared_bound(sums: Contraction, k: int, spec: Accumulator) -> F64:
    """T2 without a known order: the bound that follows from the declared fields.

    ``eps = alpha (n+m) 2**(Ea-F) + rho m 2**(E-p+1) + pi`` where n counts nonzero terms and m
    the roundings of the running sum; E is the largest exponent that a partial sum can have.
    """
    p, width = spec.significand_bits, spec.width
    alpha = 0.0 if spec.align_bits is None else 0.5 if spec.nearest_align else 1.0
    rho = 0.5 if spec.nearest_store else 1.0
    terms = sums.terms.astype(np.float64) * spec.pieces
    steps = terms - 1
    if width is not None and width > 1:
        steps = np.minimum(steps, -(-k // (width - 1)) + 8)
    steps = np.maximum(steps, 1)
    pi = np.zeros_like(terms)
    if spec.product_bits is not None:
        pi = rho * sums.low_bits * 2.0 ** (1 - spec.product_bits)
    bound = np.zeros_like(terms)
    for _ in range(3):
        top = np.maximum(floor_log2(sums.magnitude + bound), spec.emin)
        align = np.maximum(np.maximum(top, sums.field), spec.align_floor)
        bound = rho * steps * np.ldexp(1.0, top - p + 1) + pi
        if spec.align_bits is not None:
            bound = bound + alpha * (terms + steps) * np.ldexp(1.0, align - spec.align_bits)
    if spec.flush:
        bound = np.maximum(bound, 2.0**spec.emin)
    bound = np.where(sums.terms == 0, 0.0, bound + spec.split * sums.magnitude)
    return bound + _oracle_error(sums, k)


def _oracle_error(sums: Contraction, k: int) -> F64:
    return sums.magnitude * (max(k, 2).bit_length() + 2) * UNIT


def exact_domain(
    sums: Contraction, grain: float, bits: int, a: F64, b: F64, addend: F64 | None = None
) -> bool:
    """Says whether every order, width and rounding must give the same bits.

    Every product and the addend are multiples of ``grain``, a power of two, and no partial
    sum, in any order, can reach ``2**bits * grain``; nor is any product's exponent field so
    high that aligning to it drops a bit of the grain.
    """
    pieces = [np.unique(a), np.unique(b)]
    if all(len(piece) <= 512 for piece in pieces):
        products = np.multiply.outer(*pieces)
    else:
        products = (a[:, :, None] * b[None]) if a.size * b.shape[1] < _CHUNK else np.array([np.nan])
    whole = bool(np.all(products / grain == np.rint(products / grain)))
    if addend is not None:
        whole = whole and bool(np.all(addend / grain == np.rint(addend / grain)))
    aligned = sums.field.max(initial=-100_000) <= floor_log2(np.array(grain)) + bits - 1
    return whole and bool(aligned) and bool(np.all(sums.magnitude < 2.0**bits * grain))
