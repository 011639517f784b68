"""Arrays of numbers to and from every format: encode, decode, cast, pack, bytes.

The vectorised twin of ``rounding``. On the host one array item holds one element, in
``Format.dtype``; in device memory elements lie dense and row-major, and formats under 8 bits
are packed least significant bit first over the flattened tensor (int2 four to a byte, FP4 and
int4 two, element 0 in the low bits; FP6 four to three bytes), as ONNX and TOSA lay them out.

A float32 is encoded into a float format of up to 5 mantissa bits by one look-up: its upper
16 bits, the lower 16 or-ed into the last of them as a sticky bit, index a table of 64 K codes.
Those 7 upper mantissa bits hold every result bit, the bit after it and the sticky bit, so the
look-up is exact for every deterministic rounding and every overflow policy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format, Kind
from accelsdk.numerics import bitround
from accelsdk.numerics import rounding as scalar
from accelsdk.numerics.rounding import Overflow, Rounding, ScaleMode

#: Elements handled at a time: every temporary of one block stays in the second-level cache.
BLOCK = 1 << 16

_TABLE_MANTISSA_BITS = 5
_local = threading.local()
_FLOAT_INPUTS = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
_FLOAT_DTYPES = frozenset(fmt.dtype for fmt in _FLOAT_INPUTS)


def encode(
    x: NDArray[Any],
    fmt: Format,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
) -> NDArray[Any]:
    """Rounds floats to a format, each exactly once from its own precision.

    Args:
        x: float64, float32, float16 or bfloat16 array of any shape.
        fmt: Target format; see ``rounding.encode`` for NaN, integers and E8M0.
        rounding: Direction of inexact results.
        overflow: Treatment of results beyond the largest finite value.

    Returns:
        A new array of ``x``'s shape in ``fmt.dtype``.

    Raises:
        InvalidArgument: ``x`` holds no floats, or E8M0 is asked to round to odd.
    """
    x = _floats(x)
    if fmt.kind is Kind.SCALE:
        mode = scalar.scale_mode(rounding)
        codes = bitround.encode_e8m0(bitround.widen(x), mode, overflow is not Overflow.SPECIAL)
        if overflow is Overflow.SATURATE_FINITE:
            codes[x == math.inf] = 0xFF
        return codes.view(fmt.dtype)
    if fmt.kind is Kind.BOOL:
        return np.asarray(x != 0)
    if not fmt.is_float:
        return bitround.encode_integer(x, fmt, rounding).astype(fmt.dtype, copy=False)
    if fmt.mantissa_bits <= _TABLE_MANTISSA_BITS:
        single = _to_float32(x)
        out = np.empty(x.shape, np.uint8)
        look_up(single, encode_table(fmt, rounding, overflow), out)
        return out.view(fmt.dtype)
    native = _encode_native(x, fmt, rounding, overflow)
    return native if native is not None else _encode_general(x, fmt, rounding, overflow)


def _to_float32(x: NDArray[Any]) -> NDArray[np.float32]:
    """The values in float32, which is exact but for float64, where it keeps a sticky bit."""
    if x.dtype == np.float64:
        return bitround.to_float32_odd(x)
    if x.dtype == np.float32:
        return x
    with np.errstate(invalid="ignore"):  # signalling NaN
        return x.astype(np.float32)


def _floats(x: NDArray[Any]) -> NDArray[Any]:
    x = np.asarray(x)
    if x.dtype not in _FLOAT_DTYPES:
        raise InvalidArgument(
            f"encode takes floats, not {x.dtype}", remedy="use cast with the source format"
        )
    return x


def _encode_native(
    x: NDArray[Any], fmt: Format, rounding: Rounding, overflow: Overflow
) -> NDArray[Any] | None:
    """The conversions that NumPy and ml_dtypes already do right; None for all others."""
    if x.dtype == fmt.dtype and overflow is Overflow.SPECIAL:
        return x.copy()
    twice = x.dtype == np.float64 and fmt is BFLOAT16  # ml_dtypes goes through float32
    if rounding is not Rounding.NEAREST_EVEN or overflow is not Overflow.SPECIAL or twice:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(fmt.dtype)


def _encode_general(
    x: NDArray[Any], fmt: Format, rounding: Rounding, overflow: Overflow
) -> NDArray[Any]:
    out = np.empty(x.shape, fmt.dtype)
    source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    store = np.dtype(f"uint{fmt.bits}")
    for start in range(0, source.size, BLOCK):
        block = bitround.widen(source[start : start + BLOCK])
        if fmt is FLOAT64:
            codes = bitround.saturate_infinity(block, overflow)
        else:
            codes = bitround.encode_float(block, fmt, rounding, overflow).astype(store)
        target[start : start + BLOCK] = codes.view(fmt.dtype)
    return out


def scratch(role: str, dtype: DTypeLike, count: int) -> NDArray[Any]:
    """Returns uninitialised memory for one step of one block, flat.

    Blocks (up to ``BLOCK`` elements) get memory that this thread keeps for the role: a fresh
    array of that size would come from the system page by page, which costs more than the work.
    """
    if count > BLOCK:
        return np.empty(count, dtype)
    kept: dict[str, NDArray[Any]] = _local.__dict__
    if role not in kept:
        kept[role] = np.empty(BLOCK, dtype)
    return kept[role][:count]


@cache
def encode_table(fmt: Format, rounding: Rounding, overflow: Overflow) -> NDArray[np.uint8]:
    """Returns the code of each sticky upper half of a float32, indexed by its 16 bits.

    The table is built once, read-only, and 64 KiB.
    """
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    values = bitround.widen(upper.view(np.float32))
    table = bitround.encode_float(values, fmt, rounding, overflow).astype(np.uint8)
    table.setflags(write=False)
    return table


def look_up(x: NDArray[np.float32], table: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes ``table[sticky upper half of x]`` to ``out``, in cache-sized blocks.

    Args:
        x: Values; copied only if they are not C-contiguous.
        table: One of ``encode_table``.
        out: C-contiguous bytes of the same shape.
    """
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(-1)
    flat = out.reshape(-1)
    low = np.uint32(0xFFFF)
    for start in range(0, bits.size, BLOCK):
        block = bits[start : start + BLOCK]
        half = scratch("look_up.half", np.uint32, block.size)
        where = scratch("index", np.intp, block.size)
        # (lower + 0xFFFF) carries into bit 16 exactly when the lower half is not zero.
        np.bitwise_and(block, low, out=half)
        np.add(half, low, out=half)
        np.bitwise_or(half, block, out=half)
        np.right_shift(half, np.uint32(16), out=half)
        np.copyto(where, half)
        table.take(where, out=flat[start : start + BLOCK], mode="clip")


def decode(codes: NDArray[Any], fmt: Format, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Returns the values of elements as floats.

    Args:
        codes: Elements in ``fmt.dtype``, of any shape; their bytes for formats up to 8 bits.
        fmt: Format of the elements.
        dtype: float32 (exact for every float format of at most 32 bits) or any other float
            type, to which values are rounded once to nearest even, overflow to infinity.

    Returns:
        A new array of the same shape.
    """
    codes = np.asarray(codes)
    target = np.dtype(dtype)
    if fmt.bits <= 8 and fmt.kind is not Kind.BOOL:
        table = decode_table(fmt, target)
        out = np.empty(codes.shape, target)
        _gather(np.ascontiguousarray(codes).reshape(-1).view(np.uint8), table, out.reshape(-1))
        return out
    if codes.dtype != fmt.dtype:
        raise InvalidArgument(f"{codes.dtype} does not hold {fmt}", remedy=f"pass {fmt.dtype}")
    if fmt.is_integer and fmt.bits == 64 and target != np.float64:
        return cast(codes, fmt, _float_format(target))
    with np.errstate(over="ignore", invalid="ignore"):
        return codes.astype(target)


def _float_format(dtype: np.dtype[Any]) -> Format:
    for fmt in _FLOAT_INPUTS:
        if dtype == fmt.dtype:
            return fmt
    raise InvalidArgument(f"cannot decode to {dtype}", remedy="use a float of at least 16 bits")


@cache
def decode_table(fmt: Format, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns the value of each byte, read as an element of ``fmt``; unused high bits count not.

    The table has 256 entries and is read-only.
    """
    _float_format(dtype)
    values = np.array([scalar.decode(code, fmt) for code in range(256)], np.float64)
    with np.errstate(over="ignore", under="ignore"):
        table = values.astype(dtype)
    table.setflags(write=False)
    return table


def _gather(codes: NDArray[np.uint8], table: NDArray[Any], out: NDArray[Any]) -> None:
    for start in range(0, codes.size, BLOCK):
        block = codes[start : start + BLOCK]
        where = scratch("index", np.intp, block.size)
        np.copyto(where, block)
        table.take(where, out=out[start : start + BLOCK], mode="clip")


def cast(
    x: NDArray[Any],
    source: Format,
    target: Format,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow | None = None,
    scale_mode: ScaleMode = ScaleMode.UP,
) -> NDArray[Any]:
    """Converts elements from any format to any other by the rules of ONNX Cast.

    Float to float rounds once; float to integer truncates toward zero and, where ONNX leaves
    the result open, saturates (NaN becomes 0); integer to integer keeps the low bits; anything
    to bool is ``x != 0``. MXINT8, a fixed-point format that ONNX does not have, converts as
    the real number it means.

    Args:
        x: Elements in ``source.dtype``.
        source: Format of ``x``.
        target: Format of the result.
        rounding: Direction of inexact results; float to integer ignores it.
        overflow: None is ONNX's default: saturate in formats of up to 8 bits (``saturate=1``),
            infinity in wider ones.
        scale_mode: ONNX ``round_mode``, for E8M0 targets only.

    Returns:
        A new array of the same shape in ``target.dtype``.

    Raises:
        InvalidArgument: ``x`` does not hold ``source``, or 64-bit integers are to go to float64
            by another rounding than nearest even.
    """
    x = np.asarray(x)
    if x.dtype != source.dtype:
        raise InvalidArgument(
            f"cast from {source} got an array of {x.dtype}", remedy=f"pass {source.dtype}"
        )
    if overflow is None:
        overflow = Overflow.SATURATE if target.bits <= 8 else Overflow.SPECIAL
    if source is target:
        return x.copy()
    whole = source.is_integer or source.kind is Kind.BOOL
    if whole and target.is_integer:
        return _wrap(x, target)
    if whole and target is FLOAT64:
        return _to_float64(x, rounding)
    values = _integers_as_floats(x) if whole else _as_floats(x, source)
    if target.kind is Kind.BOOL:
        return np.asarray(values != 0)
    if target.is_integer:
        return encode(values, target, Rounding.TOWARD_ZERO)
    if target.kind is Kind.SCALE:
        saturate = overflow is not Overflow.SPECIAL
        codes = bitround.encode_e8m0(bitround.widen(values), scale_mode, saturate)
        return codes.view(target.dtype)
    return encode(values, target, rounding, overflow)


def _as_floats(x: NDArray[Any], source: Format) -> NDArray[Any]:
    return x if source in _FLOAT_INPUTS else decode(x, source)


def _to_float64(x: NDArray[Any], rounding: Rounding) -> NDArray[np.float64]:
    if x.dtype.itemsize == 8 and rounding is not Rounding.NEAREST_EVEN:
        raise InvalidArgument(
            f"64-bit integers do not round {rounding} to float64", remedy="use nearest_even"
        )
    return x.astype(np.float64)


def _integers_as_floats(x: NDArray[Any]) -> NDArray[np.float64]:
    """Integers as float64, rounded to odd, so that the one rounding that counts comes later."""
    if x.dtype.itemsize < 8:
        return x.astype(np.float64)
    sticky = (x & 0x7FF) != 0
    wide = np.abs(x.astype(np.float64)) >= 2.0**53
    odd = ((x >> 11) | sticky.astype(x.dtype)) << 11
    return np.where(wide, odd, x).astype(np.float64)


def _wrap(x: NDArray[Any], target: Format) -> NDArray[Any]:
    if x.dtype.itemsize == 1 and x.dtype != np.bool_:
        x = x.astype(np.int16)  # ml_dtypes' integers take no shifts
    if target.bits >= 8:
        return x.astype(target.dtype)
    low = (x & ((1 << target.bits) - 1)).astype(np.uint8)
    return _sign_extended(low, target).view(target.dtype)


def _sign_extended(codes: NDArray[np.uint8], fmt: Format) -> NDArray[np.uint8]:
    """Codes in the low bits as ml_dtypes stores them: those of signed integers fill the byte."""
    if not (fmt.is_integer and fmt.is_signed):
        return codes
    sign = np.uint8(1 << (fmt.bits - 1))
    extended: NDArray[np.uint8] = (codes ^ sign) - sign
    return extended


def pack(array: NDArray[Any], fmt: Format) -> NDArray[np.uint8]:
    """Returns the device bytes of the elements as a flat uint8 array.

    Formats of 8 bits and more give a view of the array where it is contiguous; the others a
    new array, its unused last bits zero.
    """
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if fmt.bits >= 8:
        return codes
    per_group = 8 // math.gcd(fmt.bits, 8)
    groups = -(-codes.size // per_group)
    lanes = np.zeros((groups, per_group), np.uint8)
    lanes.reshape(-1)[: codes.size] = codes
    lanes &= np.uint8((1 << fmt.bits) - 1)
    v = lanes.T
    if 8 % fmt.bits == 0:
        whole: NDArray[np.uint8] = v[0].copy()
        for lane in range(1, per_group):
            whole |= v[lane] << np.uint8(lane * fmt.bits)
        return whole
    packed = np.empty((groups, 3), np.uint8)
    packed[:, 0] = v[0] | v[1] << 6
    packed[:, 1] = v[1] >> 2 | v[2] << 4
    packed[:, 2] = v[2] >> 4 | v[3] << 2
    return packed.reshape(-1)[: fmt.nbytes(codes.size)]


def unpack(
    data: bytes | bytearray | memoryview | NDArray[np.uint8], fmt: Format, count: int
) -> NDArray[Any]:
    """Returns ``count`` elements of packed device bytes, flat, in ``fmt.dtype``.

    Formats of 8 bits and more give a view of ``data``; the others a new array.

    Raises:
        InvalidArgument: ``data`` does not have the ``fmt.nbytes(count)`` bytes.
    """
    raw = _bytes_of(data)
    if raw.size != fmt.nbytes(count):
        raise InvalidArgument(
            f"{count} elements of {fmt} take {fmt.nbytes(count)} bytes, not {raw.size}",
            remedy="pass the whole tensor, and its element count",
        )
    if fmt.bits >= 8:
        return raw.view(fmt.dtype)
    per_group = 8 // math.gcd(fmt.bits, 8)
    group_bytes = per_group * fmt.bits // 8
    groups = -(-count // per_group)
    if raw.size != groups * group_bytes:
        raw = np.concatenate([raw, np.zeros(groups * group_bytes - raw.size, np.uint8)])
    b = raw.reshape(groups, group_bytes).T
    lanes = np.empty((groups, per_group), np.uint8)
    if group_bytes == 1:
        for lane in range(per_group):
            lanes[:, lane] = b[0] >> np.uint8(lane * fmt.bits) & np.uint8((1 << fmt.bits) - 1)
    else:
        lanes[:, 0] = b[0] & 63
        lanes[:, 1] = (b[0] >> 6 | b[1] << 2) & 63
        lanes[:, 2] = (b[1] >> 4 | b[2] << 4) & 63
        lanes[:, 3] = b[2] >> 2
    return _sign_extended(lanes.reshape(-1)[:count], fmt).view(fmt.dtype)


def _bytes_of(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    view = memoryview(data)
    if view.nbytes == 0:  # frombuffer refuses empty buffers
        return np.empty(0, np.uint8)
    return np.frombuffer(view, np.uint8)


def to_bytes(array: NDArray[Any], fmt: Format) -> memoryview:
    """Returns the device bytes of an array: dense, row-major, packed.

    For formats of 8 bits and more of a C-contiguous array this is a view of the caller's
    memory, and writing through it writes the array; otherwise it is a new copy.

    Raises:
        InvalidArgument: The array's dtype does not hold ``fmt``.
    """
    array = np.asarray(array)
    if array.dtype != fmt.dtype:
        raise InvalidArgument(
            f"an array of {array.dtype} does not hold {fmt}", remedy=f"convert it to {fmt.dtype}"
        )
    return pack(array, fmt).data


def from_bytes(
    buffer: bytes | bytearray | memoryview | NDArray[np.uint8], fmt: Format, shape: Sequence[int]
) -> NDArray[Any]:
    """Returns the array that device bytes hold.

    For formats of 8 bits and more it is a view of ``buffer``, read-only if the buffer is, and
    the buffer must outlive it; sub-byte formats are unpacked into a new array.

    Raises:
        InvalidArgument: The buffer does not have the bytes that the shape takes.
    """
    return unpack(buffer, fmt, math.prod(shape)).reshape(tuple(shape))
