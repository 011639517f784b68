"""The readable truth about number formats: one value at a time, exact rational arithmetic.

Everything here computes with ``fractions.Fraction``, so that each rule can be read off the
page and checked against its source: IEEE 754-2019 sections 4.3 and 7.4 (rounding, overflow),
arXiv 2209.05433 and OCP OFP8 v1.0 (FP8), arXiv 2206.02915 (FNUZ), OCP MX v1.0 section 5.3 (FP6,
FP4, MXINT8, E8M0), ONNX Cast-24 (float to E8M0). It is slow on purpose:
``accelsdk.numerics.codec`` is the fast twin, and the tests walk both over every code and every
boundary. Oracles import this module and never the codec.

A *code* is the unsigned bit pattern of one element, ``0 <= code < 2**fmt.bits``, for every
format, two's complement ones included.
"""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format, Kind, Specials


class Rounding(StrEnum):
    """How an inexact value moves to a neighbour on the grid of the format."""

    NEAREST_EVEN = "nearest_even"  # ties to the even code; IEEE 754 roundTiesToEven
    NEAREST_AWAY = "nearest_away"  # ties away from zero
    TOWARD_ZERO = "toward_zero"
    UP = "up"  # toward +Inf
    DOWN = "down"  # toward -Inf
    TO_ODD = "to_odd"  # inexact: the neighbour with an odd code (safe to round again)


class Overflow(StrEnum):
    """What becomes of a value whose rounded magnitude exceeds the largest finite one."""

    SATURATE = "saturate"  # OFP8 saturating mode: finite overflow and Inf become max
    SPECIAL = "special"  # OFP8 non-saturating, IEEE 754: Inf, else NaN, else max
    SATURATE_FINITE = "saturate_finite"  # arXiv 2209.05433: finite to max, Inf to Inf or NaN


class ScaleMode(StrEnum):
    """ONNX ``round_mode`` of a cast to E8M0; ``NEAREST`` resolves ties upward."""

    UP = "up"
    DOWN = "down"
    NEAREST = "nearest"


def exact(value: float | Fraction) -> Fraction:
    """Returns the exact rational value of a finite number.

    Raises:
        InvalidArgument: The value is NaN or infinite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(
            f"{value} has no exact rational value", remedy="handle NaN and Inf before rounding"
        )
    return Fraction(value)


def floor_log2(magnitude: Fraction) -> int:
    """Returns the exact ``floor(log2(magnitude))`` of a positive rational."""
    if magnitude <= 0:
        raise InvalidArgument(f"log2 of {magnitude}, which is not positive")
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if magnitude >= power_of_two(guess) else guess - 1


def power_of_two(exponent: int) -> Fraction:
    """Returns ``2**exponent`` exactly, for any integer exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def round_integer(value: Fraction, rounding: Rounding = Rounding.NEAREST_EVEN) -> int:
    """Rounds a rational to an integer; every other rounding here is this one, scaled."""
    below = math.floor(value)
    rest = value - below
    if rest == 0:
        return below
    match rounding:
        case Rounding.NEAREST_EVEN:
            up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1)
        case Rounding.NEAREST_AWAY:
            up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and value > 0)
        case Rounding.TOWARD_ZERO:
            up = value < 0
        case Rounding.UP:
            up = True
        case Rounding.DOWN:
            up = False
        case Rounding.TO_ODD:
            up = below % 2 == 0
    return below + up


def round_fraction(
    x: Fraction, fmt: Format, rounding: Rounding = Rounding.NEAREST_EVEN
) -> Fraction:
    """Rounds ``x`` to the grid of ``fmt`` as if its exponent had no upper end.

    Underflow is gradual (never flushed). A float format with no upper end is what the
    overflow rules of OFP8 and IEEE 754 section 7.4 are stated on.
    """
    if fmt.kind is Kind.SCALE:
        raise InvalidArgument(f"{fmt} has no linear grid", remedy="use encode_e8m0")
    if not fmt.is_float:
        quantum = power_of_two(-fmt.mantissa_bits)
    elif x == 0:
        return x
    else:
        quantum = power_of_two(max(floor_log2(abs(x)), fmt.emin) - fmt.mantissa_bits)
    return round_integer(x / quantum, rounding) * quantum


def decode(code: int, fmt: Format) -> float:
    """Returns the value of a code: exact, with NaN and infinities where the format has them.

    Integer formats return a Python int, so that 64-bit values stay exact.
    """
    code &= (1 << fmt.bits) - 1
    match fmt.kind:
        case Kind.FLOAT:
            return _decode_float(code, fmt)
        case Kind.SCALE:
            return math.nan if code == nan_code(fmt) else math.ldexp(1.0, code - fmt.bias)
        case Kind.BOOL:
            return int(code != 0)
        case Kind.UINT:
            return code
    signed = code - (1 << fmt.bits) if code >> (fmt.bits - 1) else code
    return signed if fmt.kind is Kind.INT else math.ldexp(signed, -fmt.mantissa_bits)


def _decode_float(code: int, fmt: Format) -> float:
    sign = -1.0 if code >> (fmt.bits - 1) else 1.0
    magnitude = code & ((1 << (fmt.bits - 1)) - 1)
    if fmt.specials is Specials.FNUZ and code == nan_code(fmt):
        return math.nan
    if magnitude > max_code(fmt):
        is_inf = fmt.has_inf and magnitude == max_code(fmt) + 1
        return sign * math.inf if is_inf else math.nan
    exponent, mantissa = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    if exponent:
        mantissa += 1 << fmt.mantissa_bits
    return sign * math.ldexp(mantissa, max(exponent, 1) - fmt.bias - fmt.mantissa_bits)


def max_code(fmt: Format) -> int:
    """Returns the code of the largest finite value of a float or scale format."""
    ones = (1 << (fmt.exponent_bits + fmt.mantissa_bits)) - 1
    if fmt.kind is Kind.SCALE or fmt.specials is Specials.FN:
        return ones - 1
    return ones - (1 << fmt.mantissa_bits) if fmt.specials is Specials.IEEE else ones


def nan_code(fmt: Format) -> int:
    """Returns the canonical positive NaN code (IEEE: quiet; E4M3 0x7F, E5M2 0x7E, E8M0 0xFF).

    The one NaN of an FNUZ format, 0x80 in FP8, has the sign bit set.

    Raises:
        InvalidArgument: The format has no NaN.
    """
    if not fmt.has_nan:
        raise InvalidArgument(f"{fmt} has no NaN")
    quiet = 1 << (fmt.mantissa_bits - 1) if fmt.specials is Specials.IEEE else 0
    return max_code(fmt) + 1 + quiet


def encode(
    value: float | Fraction,
    fmt: Format,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
) -> int:
    """Returns the code nearest to ``value`` under the given rules, rounded exactly once.

    The sign of zero and of a result that underflows to zero is kept; FNUZ formats have +0
    alone. NaN where the format has no NaN is undefined by OCP and ONNX; here it is +max for
    floats (ONNX float4 text, PTX ``cvt``) and 0 for integers and MXINT8. Integers always
    saturate. E8M0 takes UP, DOWN or TOWARD_ZERO, and ONNX's nearest for both nearest modes.

    Args:
        value: Any Python number; a Fraction is rounded as the exact rational it is.
        fmt: Target format.
        rounding: Direction of inexact results.
        overflow: Treatment of results beyond the largest finite value.
    """
    match fmt.kind:
        case Kind.BOOL:
            return int(value != 0)
        case Kind.SCALE:
            return _encode_scale(value, rounding, overflow)
        case Kind.FLOAT:
            return _encode_float(value, fmt, rounding, overflow)
    if isinstance(value, float) and not math.isfinite(value):
        limit = 0.0 if math.isnan(value) else fmt.max if value > 0 else fmt.min
        value = limit
    steps = round_integer(exact(value) * (1 << fmt.mantissa_bits), rounding)
    low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
    return min(max(steps, low), low + (1 << fmt.bits) - 1) & ((1 << fmt.bits) - 1)


def _encode_float(
    value: float | Fraction, fmt: Format, rounding: Rounding, overflow: Overflow
) -> int:
    special = isinstance(value, float) and not math.isfinite(value)
    negative = math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0
    sign = int(negative) << (fmt.bits - 1)
    if special and math.isnan(value):
        return sign | nan_code(fmt) if fmt.has_nan else max_code(fmt)
    if special:
        return sign | _infinity(fmt, overflow is Overflow.SATURATE)
    rounded = abs(round_fraction(exact(value), fmt, rounding))
    if rounded > exact(fmt.max):
        inward = overflow is not Overflow.SPECIAL or _rounds_inward(rounding, negative)
        return sign | _infinity(fmt, inward)
    if rounded == 0 and not fmt.has_negative_zero:
        return 0
    if rounded < exact(fmt.smallest_normal):
        return sign | int(rounded / exact(fmt.smallest_subnormal))
    exponent = floor_log2(rounded)
    significand = int(rounded / power_of_two(exponent - fmt.mantissa_bits))
    return sign | ((exponent - fmt.emin) << fmt.mantissa_bits) + significand


def _infinity(fmt: Format, saturate: bool) -> int:
    """Returns the magnitude that stands for infinity: Inf, else NaN, else the maximum."""
    if saturate or not (fmt.has_inf or fmt.has_nan):
        return max_code(fmt)
    return max_code(fmt) + 1 if fmt.has_inf else nan_code(fmt)


def _rounds_inward(rounding: Rounding, negative: bool) -> bool:
    """IEEE 754 section 7.4: overflow gives max where the mode points toward zero."""
    match rounding:
        case Rounding.TOWARD_ZERO | Rounding.TO_ODD:
            return True
        case Rounding.UP:
            return negative
        case Rounding.DOWN:
            return not negative
        case _:
            return False


def _encode_scale(value: float | Fraction, rounding: Rounding, overflow: Overflow) -> int:
    if overflow is Overflow.SATURATE_FINITE and value == math.inf:
        return 0xFF
    return encode_e8m0(value, scale_mode(rounding), overflow is not Overflow.SPECIAL)


def scale_mode(rounding: Rounding) -> ScaleMode:
    """Returns the E8M0 mode that a general rounding mode means.

    Raises:
        InvalidArgument: TO_ODD, which has no meaning on a grid of powers of two.
    """
    match rounding:
        case Rounding.UP:
            return ScaleMode.UP
        case Rounding.DOWN | Rounding.TOWARD_ZERO:
            return ScaleMode.DOWN
        case Rounding.NEAREST_EVEN | Rounding.NEAREST_AWAY:
            return ScaleMode.NEAREST
    raise InvalidArgument(
        "E8M0 cannot round to odd", remedy="use up, down, toward_zero or a nearest mode"
    )


def encode_e8m0(
    value: float | Fraction, mode: ScaleMode = ScaleMode.UP, saturate: bool = True
) -> int:
    """Returns the E8M0 code of ``value`` by the table of ONNX Cast-24.

    NaN becomes 0xFF. With ``saturate``, +Inf and values above 2**127 become 0xFE, and zero
    and values below 2**-127 become 0x00; without it all four become 0xFF. Negative values
    are unspecified by ONNX; here they are 0xFF, and -0 is 0.
    """
    if value != value or value < 0:
        return 0xFF
    if value > power_of_two(127):
        return 0xFE if saturate else 0xFF
    if value < power_of_two(-127):
        return 0x00 if saturate else 0xFF
    x = exact(value)
    exponent = floor_log2(x)
    mantissa = x / power_of_two(exponent)
    match mode:
        case ScaleMode.UP:
            exponent += mantissa > 1
        case ScaleMode.NEAREST:
            exponent += mantissa >= Fraction(3, 2)
    return exponent + 127
