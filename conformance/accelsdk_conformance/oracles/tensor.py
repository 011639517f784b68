"""Tensors as codes: the oracles' own decoding, encoding and packing.

Nothing here is shared with the vectorised codec that plugins compute with. Formats of up to
8 bits decode by a table made from the scalar truth in ``accelsdk.numerics.rounding``; 16-bit
and wider floats are IEEE 754 bit patterns that NumPy reads by itself. Encoding compares with
the exact midpoints between neighbours, so it knows the result and every tie without rounding
anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format, Kind
from accelsdk.numerics import rounding
from accelsdk.numerics.rounding import Overflow, Rounding

F64 = NDArray[np.float64]
Codes = NDArray[Any]  # unsigned integers
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tensor:
    """Codes of one format: what travels to a device and back.

    Attributes:
        format: Number format of the codes.
        codes: Unsigned bit patterns, one an item, of the tensor's shape.
    """

    format: Format
    codes: Codes

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the tensor."""
        return tuple(self.codes.shape)

    @cached_property
    def values(self) -> F64:
        """Exact values as float64 (64-bit integers beyond 2**53 are not: use `integers`).

        They are decoded once, and cannot be written to.
        """
        found = np.asarray(decode(self.codes, self.format))
        found.flags.writeable = False
        return found

    @property
    def integers(self) -> NDArray[np.int64]:
        """Exact values of an integer format as int64 (uint64 wraps)."""
        return decode_integers(self.codes, self.format)

    def packed(self) -> bytes:
        """Bytes in device memory: dense, row-major, sub-byte codes LSB first."""
        return pack(self.codes, self.format)


_DTYPES = {
    bits: np.dtype(f"uint{next(width for width in (8, 16, 32, 64) if width >= bits)}")
    for bits in range(1, 65)
}


def code_dtype(fmt: Format) -> np.dtype[Any]:
    """Returns the unsigned dtype that holds one code."""
    return _DTYPES[fmt.bits]


@cache
def decode_table(fmt: Format) -> F64:
    """Returns the value of every code of a format of up to 8 bits."""
    table = np.array([float(rounding.decode(code, fmt)) for code in range(1 << fmt.bits)])
    table.flags.writeable = False
    return table


def decode(codes: Codes, fmt: Format) -> F64:
    """Returns the values of codes as float64."""
    codes = np.asarray(codes, dtype=code_dtype(fmt), order="C")
    if fmt.bits <= 8:
        return np.asarray(decode_table(fmt).take(codes))
    with np.errstate(invalid="ignore"):  # signalling NaN patterns are legal test data
        match fmt.name:
            case "float16":
                return codes.view(np.float16).astype(np.float64)
            case "bfloat16":
                return (
                    (codes.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
                )
            case "float32":
                return codes.view(np.float32).astype(np.float64)
            case "float64":
                return codes.view(np.float64).copy()
            case "uint64":
                return codes.astype(np.float64)
    return decode_integers(codes, fmt).astype(np.float64)


def decode_integers(codes: Codes, fmt: Format) -> NDArray[np.int64]:
    """Returns the values of integer codes as int64 (uint64 wraps)."""
    wide = codes.astype(np.uint64)
    if fmt.kind is Kind.INT and fmt.bits < 64:
        sign = np.uint64(1 << (fmt.bits - 1))
        return (wide ^ sign).astype(np.int64) - np.int64(1 << (fmt.bits - 1))
    return wide.astype(np.int64)


def from_integers(values: NDArray[Any], fmt: Format) -> Tensor:
    """Wraps integers into the codes of an integer or bool format (two's complement)."""
    dtype = code_dtype(fmt)
    codes = np.asarray(values).astype(np.int64).astype(dtype)  # wraps
    if fmt.bits != 8 * dtype.itemsize:
        codes &= dtype.type((1 << fmt.bits) - 1)
    return Tensor(fmt, codes)


@cache
def magnitudes(fmt: Format) -> F64:
    """Returns the ascending magnitudes of a float format, and one step beyond the largest.

    Index and magnitude code are equal; the last entry is where overflow begins to be nearer.
    """
    top = rounding.max_code(fmt)
    table = decode(np.arange(top + 1), fmt)
    return np.append(table, 2 * table[-1] - table[-2])


def round_to(
    x: F64, fmt: Format, mode: Rounding = Rounding.NEAREST_EVEN, low: F64 | None = None
) -> NDArray[np.int64]:
    """Rounds ``|x + low|`` to magnitude codes of a float format of up to 16 bits.

    Args:
        x: Finite values.
        fmt: Target; its largest code plus one stands for overflow.
        mode: Direction of inexact results.
        low: What is to be added to ``x`` (the low half of a double-double), at most half an
            ulp of ``x``.
    """
    if low is not None:
        x = to_odd(x, low)
    size = np.abs(x)
    if mode is Rounding.NEAREST_EVEN and fmt.mantissa_bits:
        return _nearest_even(size, fmt)
    table = magnitudes(fmt)
    below = np.searchsorted(table, size, side="right") - 1
    above = np.minimum(below + 1, len(table) - 1)
    exact = table[below] == size
    middle = (table[below] + table[above]) / 2
    negative = np.signbit(x)
    match mode:
        case Rounding.NEAREST_EVEN:
            up = (size > middle) | ((size == middle) & (below % 2 == 1))
        case Rounding.NEAREST_AWAY:
            up = size >= middle
        case Rounding.TOWARD_ZERO:
            up = np.zeros(x.shape, bool)
        case Rounding.UP:
            up = ~negative
        case Rounding.DOWN:
            up = negative
        case Rounding.TO_ODD:
            up = below % 2 == 0
    return np.where(exact, below, below + up)


def _nearest_even(size: F64, fmt: Format) -> NDArray[np.int64]:
    """Rounds magnitudes in units of their last place: the power of two is exact, and so is rint.

    Consecutive codes are consecutive multiples of that unit, across binades too.
    """
    size = np.asarray(size, np.float64, order="C")
    exponent = np.maximum((size.view(np.int64) >> 52) - 1023, fmt.emin)
    unit = ((fmt.mantissa_bits - exponent + 1023) << 52).view(np.float64)
    code = np.rint(size * unit).astype(np.int64) + ((exponent - fmt.emin) << fmt.mantissa_bits)
    found: NDArray[np.int64] = np.minimum(code, rounding.max_code(fmt) + 1)
    return found


def encode(
    x: F64,
    fmt: Format,
    mode: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SPECIAL,
    low: F64 | None = None,
) -> Tensor:
    """Rounds values once to a float, integer or fixed-point format.

    Args:
        x: Values; NaN and infinities follow ``overflow`` as in ``rounding.encode``.
        fmt: Target format.
        mode: Direction of inexact results.
        overflow: What becomes of results beyond the largest finite value.
        low: Optional low half of a double-double.
    """
    x = np.asarray(x, np.float64)
    if not fmt.is_float:
        return _encode_integer(x, fmt, mode)
    if fmt.bits > 16:
        return _encode_wide(x, fmt, mode, overflow, low)
    finite = np.isfinite(x)
    plain = bool(finite.all())
    code = round_to(x if plain else np.where(finite, x, 0.0), fmt, mode, low)
    top = rounding.max_code(fmt)
    if plain and fmt.has_negative_zero and not (code > top).any():
        code |= np.signbit(x).astype(np.int64) << (fmt.bits - 1)
        return Tensor(fmt, code.astype(code_dtype(fmt)))
    special = rounding.nan_code(fmt) if fmt.has_nan and not fmt.has_inf else top + fmt.has_inf
    infinity = top if overflow is Overflow.SATURATE else special
    beyond = special if overflow is Overflow.SPECIAL else top
    if overflow is Overflow.SPECIAL and mode in (Rounding.TOWARD_ZERO, Rounding.TO_ODD):
        beyond = top
    over = np.full(x.shape, beyond)
    if overflow is Overflow.SPECIAL and mode in (Rounding.UP, Rounding.DOWN):
        over[np.signbit(x) == (mode is Rounding.UP)] = top
    # A directed mode reports one past the largest code for every larger value, too.
    code = np.where(finite, np.where(code > top, over, code), infinity)
    nan = rounding.nan_code(fmt) if fmt.has_nan else top
    code = np.where(np.isnan(x), nan, code)
    sign = np.signbit(x) & ~(np.isnan(x) & (not fmt.has_nan))
    if not fmt.has_negative_zero:
        sign &= code != 0
    code = code | (sign.astype(np.int64) << (fmt.bits - 1))
    return Tensor(fmt, code.astype(code_dtype(fmt)))


def _encode_wide(
    x: F64, fmt: Format, mode: Rounding, overflow: Overflow, low: F64 | None
) -> Tensor:
    """float32 and float64: the float64 is made odd where ``low`` is not zero, then narrowed."""
    if mode is not Rounding.NEAREST_EVEN or overflow is not Overflow.SPECIAL:
        raise InvalidArgument(f"the oracle rounds {fmt} to nearest even only")
    if fmt.name == "float64":
        return Tensor(fmt, x.copy().view(np.uint64))
    if low is not None:
        x = to_odd(x, low)
    with np.errstate(over="ignore", invalid="ignore"):
        return Tensor(fmt, np.asarray(x.astype(np.float32)).view(np.uint32))


def to_odd(x: F64, low: F64) -> F64:
    """Makes the last bit of ``x`` a sticky bit for ``low`` (round to odd).

    Rounding the result to a format of at most 51 bits equals rounding ``x + low`` itself
    (Boldo and Melquiond, IEEE TC 57(4), 2008).
    """
    bits = x.copy().view(np.int64)
    inexact = (low != 0) & np.isfinite(x) & (x != 0)
    inward = inexact & (np.signbit(low) != np.signbit(x))
    bits -= inward
    bits |= inexact
    return bits.view(np.float64)


def _encode_integer(x: F64, fmt: Format, mode: Rounding) -> Tensor:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = x * float(1 << fmt.mantissa_bits)
    steps = round_whole(scaled, mode)
    low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
    high = low + (1 << fmt.bits) - 1
    if fmt.bits > 32:
        raise InvalidArgument(f"the oracle does not round to {fmt}")
    steps = np.clip(np.where(np.isnan(steps), 0.0, steps), low, high)
    plain = Format(name=f"int{fmt.bits}", kind=Kind.INT, bits=fmt.bits)
    return Tensor(fmt, from_integers(steps, plain).codes)


def round_whole(x: F64, mode: Rounding) -> F64:
    """Rounds floats to whole numbers, still as floats."""
    match mode:
        case Rounding.NEAREST_EVEN:
            return np.rint(x)
        case Rounding.TOWARD_ZERO:
            return np.trunc(x)
        case Rounding.UP:
            return np.ceil(x)
        case Rounding.DOWN:
            return np.floor(x)
        case Rounding.NEAREST_AWAY:
            whole = np.trunc(x)
            with np.errstate(invalid="ignore"):
                return whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(1.0, x), 0.0)
    raise InvalidArgument(f"no whole-number rounding {mode}")


def represent(x: NDArray[Any], fmt: Format) -> Tensor:
    """Encodes values that the format holds exactly.

    Raises:
        InvalidArgument: A value is not on the format's grid: a defect of a generator.
    """
    values = np.asarray(x, np.float64)
    tensor = encode(values, fmt)
    back = tensor.values
    if not (np.array_equal(back, values) or np.array_equal(back, values, equal_nan=True)):
        wrong = np.atleast_1d(~((back == values) | (np.isnan(back) & np.isnan(values))))
        bad = np.atleast_1d(values)[wrong][0]
        raise InvalidArgument(f"{bad!r} is not a {fmt} number")
    return tensor


def pack(codes: Codes, fmt: Format) -> bytes:
    """Packs codes into device bytes: bit i of the stream is bit i%8 of byte i//8."""
    flat = np.ascontiguousarray(codes, dtype=code_dtype(fmt)).reshape(-1)
    if fmt.bits % 8 == 0:
        return flat.tobytes()
    bits = (flat[:, None] >> np.arange(fmt.bits, dtype=flat.dtype)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack(data: bytes | memoryview, fmt: Format, shape: tuple[int, ...]) -> Tensor:
    """Reads codes back from device bytes; padding bits of the last byte are ignored."""
    count = math.prod(shape)
    if fmt.bits % 8 == 0:
        codes = np.frombuffer(data, dtype=code_dtype(fmt), count=count)
        return Tensor(fmt, codes.reshape(shape))
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * fmt.bits, bitorder="little")
    weights = (1 << np.arange(fmt.bits)).astype(np.uint8)
    codes = (bits.reshape(count, fmt.bits) * weights).sum(axis=1, dtype=np.uint8)
    return Tensor(fmt, codes.reshape(shape))
