"""Vectorised rounding in integer arithmetic: the slow, general half of the codec.

A float64 is ``significand * 2**(exponent - 52)`` with a 53-bit integer significand, and so is
every value of every narrower format; rounding to any of them is one shift, with the bits
shifted out deciding the direction. The rules are those of ``rounding``; the tests compare the
two on every code and boundary. Every function returns new arrays and leaves its input alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.numerics.rounding import Overflow, Rounding, ScaleMode, max_code, nan_code

_SIGN = np.uint64(1 << 63)
_MANTISSA = np.uint64((1 << 52) - 1)
_HIDDEN = np.uint64(1 << 52)
_DEEPEST = 60  # a shift beyond all 53 significand bits: what remains is pure sticky


def widen(x: NDArray[Any]) -> NDArray[np.float64]:
    """Returns floats as float64, exactly; signalling NaN raises no warning."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64)


def to_float32_odd(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Narrows float64 to float32 by round-to-odd, so that a later rounding is the only one.

    Round-to-odd keeps a sticky bit in the last place: rounding the result to any format of at
    most 22 bits equals rounding ``x`` itself (Boldo and Melquiond, IEEE TC 57(4), 2008).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = np.asarray(x.astype(np.float32))
    bits = nearest.view(np.uint32)
    inexact = nearest != x
    bits -= (np.abs(nearest) > np.abs(x)).astype(np.uint32)  # toward zero first
    bits |= inexact
    return nearest


def encode_float(
    x: NDArray[np.float64], fmt: Format, rounding: Rounding, overflow: Overflow
) -> NDArray[np.uint64]:
    """Returns the codes of float64 values in a float format with fewer mantissa bits.

    Args:
        x: Values of any shape; NaN and infinities included.
        fmt: A float format with at most 51 mantissa bits.
        rounding: Direction of inexact results.
        overflow: Treatment of results beyond the largest finite value.
    """
    bits = x.view(np.uint64)
    negative = (bits & _SIGN) != 0
    magnitude = bits & ~_SIGN
    field = (magnitude >> np.uint64(52)).astype(np.int64)
    significand = (magnitude & _MANTISSA) | np.where(field > 0, _HIDDEN, np.uint64(0))
    exponent = np.maximum(field, 1) - 1023
    target = np.maximum(exponent, fmt.emin)
    shift = np.minimum(52 - fmt.mantissa_bits + target - exponent, _DEEPEST).astype(np.uint64)
    kept = _round_shift(significand, shift, negative, rounding)
    # The hidden bit of a normal number carries into the exponent field, and so does a
    # mantissa that rounds up to the next binade: codes are consecutive integers.
    code = ((target - fmt.emin).astype(np.uint64) << np.uint64(fmt.mantissa_bits)) + kept
    finite = field != 0x7FF
    limit = np.uint64(max_code(fmt))
    code = np.where(finite & (code > limit), _overflowed(fmt, rounding, overflow, negative), code)
    infinite = np.uint64(special_code(fmt, overflow is Overflow.SATURATE))
    code = np.where(finite, code, infinite)
    signed = negative if fmt.has_negative_zero else negative & (code != 0)
    code |= np.where(signed, np.uint64(1 << (fmt.bits - 1)), np.uint64(0))
    return _place_nan(code, np.isnan(x), negative, fmt)


def _round_shift(
    significand: NDArray[np.uint64],
    shift: NDArray[np.uint64],
    negative: NDArray[np.bool_],
    rounding: Rounding,
) -> NDArray[np.uint64]:
    one = np.uint64(1)
    kept = significand >> shift
    rest = significand & ((one << shift) - one)
    half = one << (shift - one)
    match rounding:
        case Rounding.NEAREST_EVEN:
            up = (rest > half) | ((rest == half) & ((kept & one) == one))
        case Rounding.NEAREST_AWAY:
            up = rest >= half
        case Rounding.TOWARD_ZERO:
            up = np.zeros_like(negative)
        case Rounding.UP:
            up = (rest != 0) & ~negative
        case Rounding.DOWN:
            up = (rest != 0) & negative
        case Rounding.TO_ODD:
            up = (rest != 0) & ((kept & one) == 0)
    rounded: NDArray[np.uint64] = kept + up
    return rounded


def special_code(fmt: Format, saturate: bool) -> int:
    """Returns the magnitude code of infinity: Inf, else NaN, else (or on request) max."""
    if saturate or not (fmt.has_inf or fmt.has_nan):
        return max_code(fmt)
    return max_code(fmt) + 1 if fmt.has_inf else nan_code(fmt)


def _overflowed(
    fmt: Format, rounding: Rounding, overflow: Overflow, negative: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """Codes of finite overflow: IEEE 754 section 7.4 where special values are asked for."""
    inward = np.full_like(negative, overflow is not Overflow.SPECIAL)
    if overflow is Overflow.SPECIAL:
        match rounding:
            case Rounding.TOWARD_ZERO | Rounding.TO_ODD:
                inward[...] = True
            case Rounding.UP:
                inward = negative
            case Rounding.DOWN:
                inward = ~negative
    top, special = np.uint64(max_code(fmt)), np.uint64(special_code(fmt, saturate=False))
    return np.where(inward, top, special)


def _place_nan(
    code: NDArray[np.uint64], nan: NDArray[np.bool_], negative: NDArray[np.bool_], fmt: Format
) -> NDArray[np.uint64]:
    if not nan.any():
        return code
    if not fmt.has_nan:
        return np.where(nan, np.uint64(max_code(fmt)), code)
    signed = np.where(negative, np.uint64(1 << (fmt.bits - 1)), np.uint64(0))
    return np.where(nan, np.uint64(nan_code(fmt)) | signed, code)


def round_integer(x: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    """Rounds floats to integers, still as floats (NaN and infinities pass)."""
    rounded: NDArray[np.float64]
    match rounding:
        case Rounding.NEAREST_EVEN:
            rounded = np.rint(x)
        case Rounding.NEAREST_AWAY:
            # x + 0.5 would round up just below a half; the fraction x - trunc(x) is exact.
            rounded = np.trunc(x)
            with np.errstate(invalid="ignore"):
                rounded += np.where(np.abs(x - rounded) >= 0.5, np.copysign(1.0, x), 0.0)
        case Rounding.TOWARD_ZERO:
            rounded = np.trunc(x)
        case Rounding.UP:
            rounded = np.ceil(x)
        case Rounding.DOWN:
            rounded = np.floor(x)
        case Rounding.TO_ODD:
            rounded = np.floor(x)
            rounded += (rounded != x) & (np.floor(rounded / 2) * 2 == rounded)
    return rounded


def store_dtype(fmt: Format) -> np.dtype[Any]:
    """Returns the NumPy integer type that holds an integer format while it is computed.

    It is ``fmt.dtype`` from 8 bits on; ml_dtypes' narrower integers have no own arithmetic.
    """
    return np.dtype(f"{'int' if fmt.is_signed else 'uint'}{max(fmt.bits, 8)}")


def encode_integer(x: NDArray[Any], fmt: Format, rounding: Rounding) -> NDArray[Any]:
    """Rounds floats to an integer or fixed-point format, saturating; NaN becomes 0.

    Returns:
        The stored integers in the narrowest NumPy integer type that holds the format.
    """
    store = store_dtype(fmt)
    low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
    high = low + (1 << fmt.bits) - 1
    work = widen(x)
    if fmt.mantissa_bits:
        work *= float(1 << fmt.mantissa_bits)
    steps = np.asarray(round_integer(work, rounding))
    if fmt.bits <= 32:  # both limits are float64 numbers
        np.nan_to_num(steps, copy=False, nan=0.0, posinf=high, neginf=low)
        return np.clip(steps, low, high).astype(store)
    above, below = steps >= float(high), steps <= float(low)  # float(high) rounds up to 2**n
    whole = np.where(above | below | np.isnan(steps), 0.0, steps).astype(store)
    whole[above], whole[below] = high, low
    return whole


def encode_e8m0(x: NDArray[np.float64], mode: ScaleMode, saturate: bool) -> NDArray[np.uint8]:
    """Returns E8M0 codes by the table of ONNX Cast-24 (see ``rounding.encode_e8m0``)."""
    fraction, exponent = np.frexp(x)  # x = fraction * 2**exponent, fraction in [0.5, 1)
    code = exponent.astype(np.int64) + 126
    match mode:
        case ScaleMode.UP:
            code += fraction > 0.5
        case ScaleMode.NEAREST:
            code += fraction >= 0.75
    code = np.where(x > 2.0**127, 0xFE if saturate else 0xFF, code)
    code = np.where(x < 2.0**-127, 0x00 if saturate else 0xFF, code)
    return np.where(np.isnan(x) | (x < 0), 0xFF, code).astype(np.uint8)


def saturate_infinity(x: NDArray[np.float64], overflow: Overflow) -> NDArray[np.float64]:
    """Encodes float64 in float64: the identity, but for infinities under ``SATURATE``."""
    if overflow is not Overflow.SATURATE:
        return x
    limit = np.finfo(np.float64).max
    return np.clip(x, -limit, limit)
