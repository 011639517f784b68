"""How far two results may differ: equality, units in the last place, and derived bounds.

No bound here is a chosen tolerance. Each follows from what a unit does (docs/numerics.md has
the derivations):

- ``bound_declared`` (T2): the declared accumulator, walked in its own order;
- ``bound_free`` (T2 free): the declared accumulator in an unknown order;
- ``bound_any_order`` (T3): n rounded additions in any order, Higham's gamma_n ("Accuracy and
  Stability of Numerical Algorithms", 2nd ed., section 4.2), with underflow;
- ``bound_ulp`` (U): n units in the last place, with a floor where a function's result is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk.numerics import codec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk.numerics.rounding import Overflow, exact, floor_log2, power_of_two


class Equality(StrEnum):
    """What counts as the same result."""

    BITS = "bits"  # the same code, NaN payload and sign of zero included
    VALUE = "value"  # the same number: zeros are equal, and so are all NaN


def equal(
    a: NDArray[Any], b: NDArray[Any], fmt: Format, mode: Equality = Equality.VALUE
) -> NDArray[np.bool_]:
    """Returns where two arrays of one format agree.

    Args:
        a: Elements in ``fmt.dtype``.
        b: Elements in ``fmt.dtype``, broadcastable to ``a``.
        fmt: Format of both.
        mode: What counts as the same.
    """
    if mode is Equality.BITS:
        return np.asarray(_codes(a, fmt) == _codes(b, fmt))
    if not fmt.is_float:
        return np.asarray(a == b)
    x, y = codec.decode(a, fmt, np.float64), codec.decode(b, fmt, np.float64)
    return np.asarray((x == y) | (np.isnan(x) & np.isnan(y)))


def _codes(x: NDArray[Any], fmt: Format) -> NDArray[Any]:
    array = np.asarray(x)
    if array.dtype != fmt.dtype:
        raise InvalidArgument(f"{array.dtype} does not hold {fmt}", remedy=f"pass {fmt.dtype}")
    return array.view(np.dtype(f"uint{array.dtype.itemsize * 8}"))


#: ``ulp_distance`` where exactly one of the two is NaN.
FAR = np.uint64((1 << 64) - 1)


def ulp_distance(a: NDArray[Any], b: NDArray[Any], fmt: Format) -> NDArray[np.uint64]:
    """Returns how many steps of a float format lie between two arrays.

    Zeros of both signs are one number, NaN is at distance 0 from NaN and ``FAR`` from all else,
    and infinity is one step beyond the largest finite number.

    Args:
        a: Elements in ``fmt.dtype``.
        b: Elements in ``fmt.dtype``, of ``a``'s shape.
        fmt: A float format.
    """
    if not fmt.is_float:
        raise InvalidArgument(f"{fmt} has no units in the last place", remedy="compare exactly")
    x, y = _ordered(a, fmt), _ordered(b, fmt)
    distance = np.where(x > y, x - y, y - x)
    if not fmt.has_nan:
        return distance
    x_nan, y_nan = (np.isnan(codec.decode(v, fmt, np.float64)) for v in (a, b))
    return np.where(x_nan | y_nan, np.where(x_nan & y_nan, np.uint64(0), FAR), distance)


def _ordered(x: NDArray[Any], fmt: Format) -> NDArray[np.uint64]:
    """Codes as unsigned integers in the order of the numbers; both zeros at the middle."""
    codes = np.asarray(_codes(x, fmt)).astype(np.uint64)
    sign = np.uint64(1 << (fmt.bits - 1))
    magnitude = codes & (sign - np.uint64(1))
    return np.where(codes & sign, sign - magnitude, sign + magnitude)


def ulp(x: ArrayLike, fmt: Format) -> NDArray[np.float64]:
    """Returns ``2**(max(floor(log2 |x|), emin) - precision + 1)``; NaN where x is not finite."""
    value = np.abs(np.asarray(x, np.float64))
    _, exponent = np.frexp(value)
    exponent = np.where(value == 0, fmt.emin, exponent - 1)
    size = np.ldexp(1.0, np.maximum(exponent, fmt.emin) - fmt.mantissa_bits)
    return np.where(np.isfinite(value), size, np.nan)


def bound_ulp(
    reference: ArrayLike, fmt: Format, ulps: float, floor: float = 0.0, floor_of: ArrayLike = 1.0
) -> NDArray[np.float64]:
    """Returns ``max(ulps * ulp(reference), floor * 2**(1 - precision) * |floor_of|)``.

    The floor is for functions whose result is much smaller than what they are computed from:
    cos near pi/2 has an absolute error of order ``2**(1 - precision)``, however small it is.
    """
    smallest = floor * 2.0 ** (1 - fmt.precision) * np.abs(np.asarray(floor_of, np.float64))
    return np.maximum(ulps * ulp(reference, fmt), smallest)


def within(
    out: NDArray[Any],
    reference: ArrayLike,
    bound: ArrayLike,
    fmt: Format,
    overflow: Overflow = Overflow.SPECIAL,
) -> NDArray[np.bool_]:
    """Returns where ``out`` is the rounding of some number within ``bound`` of ``reference``.

    Rounding is monotone, so these are the values from ``RN(reference - bound)`` to
    ``RN(reference + bound)``: what an accumulator may leave after conversion to a narrow format.

    Args:
        out: Results in ``fmt.dtype``.
        reference: Exact results, float64; where NaN, ``out`` must be NaN.
        bound: Largest error before the conversion, not negative.
        fmt: Float format of ``out``.
        overflow: How the conversion overflows.
    """
    ref, radius = np.asarray(reference, np.float64), np.asarray(bound, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        # float64 rounds the ends of the interval; one step outward keeps it whole.
        low = np.where(radius > 0, np.nextafter(ref - radius, -np.inf), ref)
        high = np.where(radius > 0, np.nextafter(ref + radius, np.inf), ref)
    ends = [
        codec.decode(codec.encode(np.asarray(end), fmt, overflow=overflow), fmt, np.float64)
        for end in (low, high)
    ]
    value = codec.decode(out, fmt, np.float64)
    if fmt.has_nan and not fmt.has_inf:
        # Overflow is NaN here: an end beyond the range admits NaN and everything up to it.
        open_ends = [np.isnan(ends[0]) & ~np.isnan(low), np.isnan(ends[1]) & ~np.isnan(high)]
        ends = [np.where(open_ends[0], -np.inf, ends[0]), np.where(open_ends[1], np.inf, ends[1])]
        spilled = np.isnan(value) & (open_ends[0] | open_ends[1])
    else:
        spilled = np.zeros(value.shape, np.bool_)
    inside = (ends[0] <= value) & (value <= ends[1])
    return np.asarray(np.where(np.isnan(ref), np.isnan(value), inside | spilled))


#: Relative error of a product whose operands are cut or split (verified on (1 + 2**-23)**2),
#: and the number of partial products that each term becomes.
_INPUT_ERROR = {
    "native": (0.0, 1),
    "tf32": (2.0**-9, 1),
    "bf16x9": (0.0, 9),
    "bf16x6": (2.0**-22, 6),
    "bf16x3": (3 * 2.0**-16, 3),
    "bf16": (2.0**-7, 1),
}


def bound_any_order(
    sum_abs: ArrayLike, n: ArrayLike, spec: AccumulatorSpec | None = None
) -> NDArray[np.float64]:
    """T3: ``gamma_n S + delta S + n 2**(emin - p + 1)``, for any order of additions.

    Args:
        sum_abs: S, the sum of the magnitudes of all products and the addend (float64).
        n: Number of terms that are not zero.
        spec: What is known of precision, rounding, input precision and underflow; None takes
            float32 with directed rounding, the weakest legal unit.

    Returns:
        The largest error; infinite where ``n`` is too large for any.
    """
    total, terms = np.asarray(sum_abs, np.float64), np.asarray(n, np.float64)
    bits, nearest, flush, delta, pieces = 24, False, False, 0.0, 1
    if spec is not None:
        bits, nearest = spec.significand_bits, spec.store_rounding == "rne"
        flush = spec.subnormals_out == "flush"
        delta, pieces = _INPUT_ERROR[spec.input_precision]
        if spec.algorithm != "direct":
            raise InvalidArgument(
                f"{spec.algorithm} has no componentwise bound", remedy="judge it normwise"
            )
    terms = terms * pieces
    unit = 2.0**-bits if nearest else 2.0 ** (1 - bits)
    nu = terms * unit
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma = np.where(nu < 1, nu / (1 - nu), np.inf)
    emin = FLOAT32.emin if spec is None else spec.emin
    tiny = 2.0 ** (emin if flush else emin - bits + 1)
    with np.errstate(invalid="ignore"):
        bound = np.where(total > 0, (gamma + delta) * total, 0.0) + terms * tiny
    return bound * (1 + (terms + 8) * 2.0**-52)  # S and this formula are float64 themselves


def _factor(mode: str) -> float:
    """Largest error of a rounding, in units of the last place kept."""
    return 0.5 if mode == "rne" else 1.0


def bound_free(
    sum_abs: ArrayLike,
    n: ArrayLike,
    length: int,
    largest_field: ArrayLike,
    spec: AccumulatorSpec,
    product_ulps: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    """T2 free: the declared accumulator, with its order (or width, or addend) unknown.

    Args:
        sum_abs: S, the sum of the magnitudes of all products and the addend (float64).
        n: Number of terms that are not zero.
        length: K, zero products included.
        largest_field: Largest ``e_a + e_b`` of the exponent fields of nonzero products, and
            exponent of the addend.
        spec: The declared accumulator.
        product_ulps: Sum of ``2**floor(log2 |product|)`` over the nonzero products, where the
            operands' significands together exceed ``significand_bits``; 0 elsewhere.

    Returns:
        The largest error.
    """
    terms = np.asarray(n, np.float64)
    total = np.asarray(sum_abs, np.float64) * (1 + terms * 2.0**-52)
    stores = np.maximum(terms - 1, 1)
    width = length if spec.width == 0 else spec.width
    if width is not None and width > 1:
        stores = np.maximum(np.minimum(stores, -(-length // (width - 1)) + 8), 1)
    bits = spec.significand_bits
    if spec.addend == "initial":  # it is stored before the first product
        stores = stores + 1
    alpha = 0.0 if spec.align_bits is None else _factor(spec.align_rounding)
    rho = _factor(spec.store_rounding)
    products = rho * np.asarray(product_ulps, np.float64) * 2.0 ** (1 - bits)
    error = np.zeros(np.broadcast(total, terms, products).shape)
    for _ in range(3):  # the error raises the exponents that it is made of
        exponent = np.maximum(_floor_log2(total + error), spec.emin)
        stored = rho * stores * np.ldexp(1.0, exponent - bits + 1)
        aligned = np.zeros_like(error)
        if spec.align_bits is not None:
            largest = np.maximum(exponent, np.asarray(largest_field, np.int64))
            largest = np.maximum(largest, spec.align_floor)
            aligned = alpha * (terms + stores) * np.ldexp(1.0, largest - spec.align_bits)
        error = aligned + stored + products
        if spec.addend == "separate":  # one addition behind the unit, in the format of its results
            error = error + 0.5 * np.ldexp(1.0, exponent - spec.range_format.precision + 1)
        if spec.subnormals_out == "flush":
            error = error + (stores + (spec.addend == "separate")) * 2.0**spec.emin
    return np.where(terms > 0, error * (1 + 2.0**-50), 0.0)


def _floor_log2(x: NDArray[np.float64]) -> NDArray[np.int64]:
    _, exponent = np.frexp(x)
    return np.where(x > 0, exponent - 1, -2000).astype(np.int64)


def bound_declared(
    a: Sequence[float],
    b: Sequence[float],
    c: float,
    spec: AccumulatorSpec,
    *,
    a_fmt: Format = FLOAT32,
    b_fmt: Format = FLOAT32,
    scales: Sequence[float] | None = None,
) -> float:
    """T2: the largest error of the declared accumulator on finite operands, in its order.

    After each chunk the error grows by what alignment drops from each nonzero operand and by
    one rounding of the stored sum, both at the exponents that the error itself allows.

    Args:
        a: K operands, values of ``a_fmt``.
        b: K operands, values of ``b_fmt``.
        c: Addend.
        spec: The declared accumulator, with width, order and a sequential tree.
        a_fmt: Format of ``a``.
        b_fmt: Format of ``b``.
        scales: Power of two by which each product is scaled.

    Raises:
        InvalidArgument: The order is not declared or not sequential, there is promotion, or
            chunks are not aligned in one step.
    """
    sequential = spec.tree in (None, "sequential", "split_k:1") and spec.promote_every is None
    if spec.width is None or spec.order is None or not sequential:
        raise InvalidArgument("the order is not sequential", remedy="use bound_free")
    if spec.inside == "pairwise" or spec.lanes > 1 or spec.stage_bits is not None:
        raise InvalidArgument("chunks add up in several steps", remedy="use the exact model")
    if spec.align_exponent == "block_scale":
        raise InvalidArgument("block scales set the exponents", remedy="use the exact model")
    weights = [1.0] * len(a) if scales is None else list(scales)
    terms = [
        (exact(x) * exact(y) * exact(w), _field(x, a_fmt) + _field(y, b_fmt) + _field(w, FLOAT64))
        for x, y, w in zip(a, b, weights, strict=True)
    ]
    walk = _Walk(spec, exact(c) if spec.addend != "separate" else Fraction(0))
    if spec.addend == "initial":
        walk.store(spec.significand_bits, _factor(spec.store_rounding))
    for chunk in spec.deal(terms):
        walk.chunk([term for term in chunk if term[0]])
    if spec.addend == "separate" and c:
        walk.total += exact(c)
        walk.store(spec.range_format.precision, 0.5)
    return math.nextafter(float(walk.error), math.inf) if walk.error else 0.0


def _field(value: float, fmt: Format) -> int:
    exponent = math.frexp(value)[1] - 1
    return max(exponent, fmt.emin) if fmt.is_float else exponent  # fixed point has no field


class _Walk:
    """An exact prefix sum, and the largest error that the unit's sum can have there."""

    def __init__(self, spec: AccumulatorSpec, start: Fraction) -> None:
        self.spec = spec
        self.total = start
        self.error = Fraction(0)

    def reach(self) -> int | None:
        """Exponent of the largest sum that the unit can hold here; None if it holds zero."""
        most = abs(self.total) + self.error
        return floor_log2(most) if most else None

    def chunk(self, terms: list[tuple[Fraction, int]]) -> None:
        spec, reach = self.spec, self.reach()
        count = len(terms) + (reach is not None)
        if spec.align_bits is not None and count:
            exponents = [field for _, field in terms] + ([] if reach is None else [reach])
            if spec.align_exponent == "normalized":
                exponents = [e + 1 for e in exponents]  # a product may reach the next binade
            quantum = power_of_two(max(*exponents, spec.align_floor) - spec.align_bits)
            self.error += count * exact(_factor(spec.align_rounding)) * quantum
        if spec.product_bits is not None:
            kept = (power_of_two(floor_log2(abs(v)) - spec.product_bits + 1) for v, _ in terms)
            self.error += exact(_factor(spec.store_rounding)) * sum(kept, Fraction(0))
        self.total += sum((value for value, _ in terms), Fraction(0))
        self.store(spec.significand_bits, _factor(spec.store_rounding))

    def store(self, bits: int, factor: float) -> None:
        reach = self.reach()
        if reach is None:
            return
        emin = self.spec.emin
        self.error += exact(factor) * power_of_two(max(reach, emin) - bits + 1)
        if self.spec.subnormals_out == "flush":
            # The unit's sum is within the error of ours, and below 2**emin when it is flushed.
            self.error += power_of_two(emin)
