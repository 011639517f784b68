"""Affine quantisation: ``value = (code - zero_point) * scale``, per tensor, channel or block.

The rules are those of ONNX QuantizeLinear and DequantizeLinear (opset 10 to 28); where FBGEMM
and torch differ, ``AffineRule`` says how. ``requantize`` has the arithmetic between an int32
accumulator and the next layer. Codes are held in ``Format.dtype``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import BFLOAT16, E8M0, FLOAT16, FLOAT32, UINT8, Format
from accelsdk.numerics import bitround, codec
from accelsdk.numerics.requantize import (
    choose_requantization_multiplier as choose_requantization_multiplier,
)
from accelsdk.numerics.requantize import fixed_multiply as fixed_multiply
from accelsdk.numerics.requantize import requantize as requantize
from accelsdk.numerics.requantize import requantize_fixed as requantize_fixed
from accelsdk.numerics.rounding import Overflow, Rounding


class ZeroPoint(StrEnum):
    """Where the zero point enters the quantisation of a value."""

    AFTER = "after"  # round, then add: ONNX, FBGEMM
    BEFORE = "before"  # add in float32, then round: Glow
    FMA = "fma"  # one fused multiply-add, then round: torch on CPU


@dataclass(frozen=True, slots=True)
class AffineRule:
    """The arithmetic of quantisation; the default is ONNX.

    Attributes:
        reciprocal: Multiply by ``float32(1 / scale)`` (FBGEMM, torch) rather than divide.
        zero_point: Where the zero point enters.
        rounding: Rounding of the scaled value.
    """

    reciprocal: bool = False
    zero_point: ZeroPoint = ZeroPoint.AFTER
    rounding: Rounding = Rounding.NEAREST_EVEN


ONNX = AffineRule()
FBGEMM = AffineRule(reciprocal=True)
TORCH = AffineRule(reciprocal=True, zero_point=ZeroPoint.FMA)


def quantize(
    x: NDArray[Any],
    scale: ArrayLike,
    zero_point: ArrayLike | None,
    fmt: Format,
    axis: int | None = None,
    block_size: int = 0,
    saturate: bool = True,
    rule: AffineRule = ONNX,
) -> NDArray[Any]:
    """Quantises floats: ``clamp(rne(x / scale) + zero_point)``; FP8 and narrower: ``x / scale``.

    The quotient is rounded to float32, or to the 16-bit float type of ``scale``. Infinities
    saturate; NaN, undefined in ONNX, becomes the lowest integer, as in onnxruntime.

    Args:
        x: Float (or int32) values of any shape.
        scale: Scalar; or 1-D along ``axis``; or, with ``block_size``, of ``x``'s rank with
            ``ceil(length / block_size)`` entries along ``axis``. E8M0 scales are decoded.
        zero_point: Of the shape of ``scale``, or None for 0; float formats take only 0.
        fmt: An integer format of at most 16 bits, or a float format of at most 8.
        axis: The axis of 1-D or blocked scales.
        block_size: Elements that share a scale along ``axis``; 0 for none.
        saturate: ONNX ``saturate``, for FP8 only (FP6 and FP4 always saturate).
        rule: Deviations from ONNX, for integer formats.

    Returns:
        A new array of ``x``'s shape in ``fmt.dtype``.

    Raises:
        InvalidArgument: Shapes do not fit, or the format is not as above.
    """
    x = np.asarray(x)
    scales = _expand(_scales(scale), x.shape, axis, block_size)
    work = scales.dtype
    if fmt.is_float and fmt.bits <= 8:
        if zero_point is not None and np.any(np.asarray(zero_point).astype(np.float32) != 0):
            raise InvalidArgument(f"{fmt} takes no zero point", remedy="pass 0 or None")
        with np.errstate(all="ignore"):
            quotient = _to(x, work) / scales
        policy = Overflow.SATURATE if saturate else Overflow.SPECIAL
        return codec.encode(quotient, fmt, rule.rounding, policy)
    if not fmt.is_integer or fmt.bits > 16:
        raise InvalidArgument(
            f"cannot quantise to {fmt}", remedy="use an integer of at most 16 bits, or FP8 or less"
        )
    zeros = _expand(_zero_points(zero_point), x.shape, axis, block_size)
    out = np.empty(x.shape, bitround.store_dtype(fmt))
    whole_scales, whole_zeros = np.broadcast_to(scales, x.shape), np.broadcast_to(zeros, x.shape)
    for part in _parts(x.shape):
        _quantize_part(
            _to(x[part], work), whole_scales[part], whole_zeros[part], rule, fmt, out[part]
        )
    return out.astype(fmt.dtype, copy=False)


def _quantize_part(
    x: NDArray[Any],
    scales: NDArray[Any],
    zeros: NDArray[np.float32],
    rule: AffineRule,
    fmt: Format,
    out: NDArray[Any],
) -> None:
    with np.errstate(all="ignore"):
        if rule.zero_point is ZeroPoint.FMA:
            scaled = _fma(x, (np.float32(1) / scales).astype(np.float32), zeros)
        else:
            product = (
                x * (np.float32(1) / scales).astype(x.dtype) if rule.reciprocal else x / scales
            )
            scaled = np.asarray(product).astype(np.float32, copy=False)
            if rule.zero_point is ZeroPoint.BEFORE:
                scaled += zeros
        steps = _round(scaled, rule.rounding)
        if rule.zero_point is ZeroPoint.AFTER:
            steps += zeros
    np.fmax(steps, np.float32(fmt.min), out=steps)  # NaN becomes the lowest code
    np.fmin(steps, np.float32(fmt.max), out=steps)
    out[...] = steps


def _round(x: NDArray[np.float32], rounding: Rounding) -> NDArray[np.float32]:
    if rounding is Rounding.NEAREST_EVEN:
        return np.rint(x, out=x)
    return np.asarray(bitround.round_integer(bitround.widen(x), rounding), np.float32)


def _fma(
    x: NDArray[Any], factor: NDArray[np.float32], addend: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``float32(x * factor + addend)`` with one rounding.

    The product of two float32 is exact in float64; the error of the float64 sum (Knuth's
    TwoSum) tells the last bit, so that rounding it to odd first makes the next rounding safe.
    """
    product = x.astype(np.float64) * factor
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even & np.isfinite(total), np.nextafter(total, toward), total)
    return odd.astype(np.float32)


def dequantize(
    q: NDArray[Any],
    fmt: Format,
    scale: ArrayLike,
    zero_point: ArrayLike | None = None,
    axis: int | None = None,
    block_size: int = 0,
    out_fmt: Format = FLOAT32,
) -> NDArray[Any]:
    """Returns ``(q - zero_point) * scale``, rounded once to ``out_fmt``.

    int32 codes are first converted to float32, as onnxruntime does.

    Args:
        q: Codes in ``fmt.dtype``.
        fmt: Format of ``q``.
        scale: As in ``quantize``.
        zero_point: As in ``quantize``.
        axis: As in ``quantize``.
        block_size: As in ``quantize``.
        out_fmt: Float format of the result.

    Raises:
        InvalidArgument: Shapes do not fit together.
    """
    q = np.asarray(q)
    scales = _expand(_scales(scale), q.shape, axis, block_size)
    if fmt.is_integer:
        zeros = _expand(_zero_points(zero_point), q.shape, axis, block_size)
        if fmt.bits > 16:
            values = (q.astype(np.int64) - zeros.astype(np.int64)).astype(np.float32)
        else:
            values = q.astype(np.float32)
            values -= zeros
    else:
        values = codec.decode(q, fmt)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if out_fmt is FLOAT32:
            values *= scales.astype(np.float32)
            return values
        exact = values.astype(np.float64) * scales.astype(np.float64)
    return codec.encode(exact, out_fmt, overflow=Overflow.SPECIAL)


def _scales(scale: ArrayLike) -> NDArray[Any]:
    found = np.asarray(scale)
    if found.dtype == E8M0.dtype:
        return codec.decode(found, E8M0)
    if found.dtype in (FLOAT16.dtype, BFLOAT16.dtype):
        return found
    return found.astype(np.float32)


def _zero_points(zero_point: ArrayLike | None) -> NDArray[np.float32]:
    return np.asarray(0 if zero_point is None else zero_point).astype(np.float32)


def _to(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return x.astype(dtype, copy=False)


def _parts(shape: tuple[int, ...]) -> list[Any]:
    """Cuts a shape along its first axis into parts whose temporaries stay in the cache."""
    if not shape or not shape[0]:
        return [...]
    row = max(1, int(np.prod(shape[1:])))
    step = max(1, codec.BLOCK // row)
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _expand(
    parameter: NDArray[Any], shape: tuple[int, ...], axis: int | None, block_size: int
) -> NDArray[Any]:
    """Shapes scales or zero points so that they broadcast against the tensor."""
    if parameter.size == 1:
        return parameter.reshape(())
    if axis is None or not -len(shape) <= axis < len(shape):
        raise InvalidArgument(
            f"scales of shape {parameter.shape} for a tensor of shape {shape} with axis {axis}",
            remedy="name the axis that the scales lie along",
        )
    axis %= len(shape)
    if not block_size and parameter.shape == (shape[axis],):
        return parameter.reshape([-1 if dim == axis else 1 for dim in range(len(shape))])
    blocks = -(-shape[axis] // block_size) if block_size else 0
    if block_size and parameter.shape == (*shape[:axis], blocks, *shape[axis + 1 :]):
        every = np.repeat(parameter, block_size, axis)
        return every[(slice(None),) * axis + (slice(shape[axis]),)]
    raise InvalidArgument(
        f"scales of shape {parameter.shape} do not fit a tensor of shape {shape} "
        f"with axis {axis} and block size {block_size}",
        remedy="pass a scalar, one per channel, or one per block",
    )


#: FBGEMM QuantUtils.h: scales below this are raised to it.
SMALL_SCALE_THRESHOLD = 6.1e-5


def choose_qparams(
    minimum: float, maximum: float, fmt: Format, symmetric: bool = False
) -> tuple[np.float32, int]:
    """Returns FBGEMM's scale and zero point for values in ``[minimum, maximum]``.

    Source: FBGEMM ``ChooseQuantizationParams``. The range is extended to include 0; the zero
    point comes from the end with the smaller error. float32 arithmetic is kept where it has it.

    Args:
        minimum: Smallest value.
        maximum: Largest value.
        fmt: Integer format of the codes.
        symmetric: Puts the zero point in the middle if the range has both signs.
    """
    low, high = np.float32(minimum), np.float32(maximum)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise InvalidArgument(f"no range: {minimum} to {maximum}", remedy="pass finite min <= max")
    qmin, qmax = int(fmt.min), int(fmt.max)
    both_signs = bool(low < 0 < high)
    if both_signs and symmetric:
        half = (qmax - qmin) // 2
        widest = max(abs(float(low) / -(half + 1)), abs(float(high) / half))
        low, high = np.float32(widest * -(half + 1)), np.float32(widest * half)
    low, high = min(low, np.float32(0)), max(high, np.float32(0))
    with np.errstate(over="ignore", divide="ignore"):
        scale = (float(high) - float(low)) / (qmax - qmin)
        if np.float32(scale) == 0 or np.isinf(np.float32(1) / np.float32(scale)):
            scale = 0.1
    if scale < SMALL_SCALE_THRESHOLD:
        low, high = _widen_range(low, high, scale, qmax - qmin)
        scale = SMALL_SCALE_THRESHOLD
    from_low, from_high = qmin - float(low) / scale, qmax - float(high) / scale
    low_error = abs(qmin) + abs(float(low) / scale)
    high_error = abs(qmax) + abs(float(high) / scale)
    zero = from_low if low_error < high_error else from_high
    if both_signs and symmetric:
        zero = (qmin + qmax) / 2
    return np.float32(scale), int(np.rint(min(max(zero, qmin), qmax)))


def _widen_range(
    low: np.float32, high: np.float32, scale: float, steps: int
) -> tuple[np.float32, np.float32]:
    """FBGEMM's range for a scale that was raised to the threshold."""
    if low == 0:
        return low, np.float32(SMALL_SCALE_THRESHOLD * steps)
    if high == 0:
        return np.float32(-SMALL_SCALE_THRESHOLD * steps), high
    amplifier = np.float32(SMALL_SCALE_THRESHOLD / float(np.float32(scale)))
    return low * amplifier, high * amplifier


def dynamic_quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.uint8], np.float32, np.uint8]:
    """ONNX DynamicQuantizeLinear: uint8 codes with the scale and zero point of the data.

    The range is extended to include 0. If it is empty the scale is 1, as in onnxruntime.

    Returns:
        Codes of ``x``'s shape, the scale, and the zero point.
    """
    zero = np.float32(0)
    low = min(np.float32(np.min(x, initial=zero)), zero)
    high = max(np.float32(np.max(x, initial=zero)), zero)
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    start = np.rint(np.clip(-low / scale, 0, 255))
    return quantize(x, scale, start, UINT8), scale, np.uint8(start)
