"""From int32 accumulators to the narrow codes of the next layer.

Float multipliers are the arithmetic of ONNX QLinearMatMul and FBGEMM's ``RequantizeOutput``;
fixed-point ones are FBGEMM's (single rounding, TOSA SINGLE_ROUND) and gemmlowp's or TFLite's
(double rounding, TOSA DOUBLE_ROUND). In all of them the zero point is added after rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format
from accelsdk.numerics import bitround

MIN_SHIFT, MAX_SHIFT = 2, 62  # TOSA RESCALE


def requantize(
    acc: NDArray[np.int32],
    multiplier: ArrayLike,
    zero_point: ArrayLike,
    fmt: Format,
    axis: int = -1,
    relu: bool = False,
    bias: NDArray[np.int32] | None = None,
) -> NDArray[Any]:
    """Returns ``clamp(rne(float32(acc + bias) * multiplier) + zero_point)``.

    Args:
        acc: int32 accumulators of any shape.
        multiplier: ``a_scale * b_scale / y_scale`` as float32; a scalar, or one per channel.
        zero_point: Zero point of the result; a scalar, or one per channel.
        fmt: Integer format of the result, at most 16 bits.
        axis: The channel axis of ``multiplier``, ``zero_point`` and ``bias``.
        relu: Clamps from below at the zero point, which is the value 0.
        bias: int32, a scalar or one per channel; the sum wraps at 32 bits, as in hardware.

    Returns:
        A new array of ``acc``'s shape in ``fmt.dtype``.
    """
    acc = np.asarray(acc)
    _check(acc, fmt)
    if bias is not None:
        acc = acc + _channels(bias, np.int32, acc.shape, axis)
    zeros = _channels(zero_point, np.float32, acc.shape, axis)
    scaled = np.asarray(acc.astype(np.float32))
    with np.errstate(over="ignore"):
        scaled *= _channels(multiplier, np.float32, acc.shape, axis)
    np.rint(scaled, out=scaled)
    scaled += zeros
    low = np.maximum(zeros, np.float32(fmt.min)) if relu else np.float32(fmt.min)
    np.clip(scaled, low, np.float32(fmt.max), out=scaled)
    return scaled.astype(bitround.store_dtype(fmt)).astype(fmt.dtype, copy=False)


def choose_requantization_multiplier(multiplier: float) -> tuple[int, int]:
    """Returns ``(q31, shift)`` with ``multiplier ~ q31 * 2**-shift`` and q31 in [2**30, 2**31).

    Source: FBGEMM ``ChooseRequantizationMultiplier``; multipliers of 1 and more get a shift
    of 31 and less.

    Raises:
        InvalidArgument: The multiplier is not positive, or needs a shift outside 2 .. 62.
    """
    if not (multiplier > 0 and math.isfinite(multiplier)):
        raise InvalidArgument(f"multiplier {multiplier}", remedy="pass a finite number above 0")
    fraction, exponent = math.frexp(multiplier)
    q31 = round(fraction * (1 << 31))  # Python rounds ties to even
    if q31 == 1 << 31:
        q31, exponent = 1 << 30, exponent + 1
    shift = 31 - exponent
    if not MIN_SHIFT <= shift <= MAX_SHIFT:
        raise InvalidArgument(
            f"multiplier {multiplier} needs a shift of {shift}",
            remedy=f"scale it so that the shift is {MIN_SHIFT} to {MAX_SHIFT}",
        )
    return q31, shift


def fixed_multiply(
    acc: NDArray[np.int32], q31: ArrayLike, shift: ArrayLike, double_round: bool = False
) -> NDArray[np.int64]:
    """Returns ``acc * q31 * 2**-shift`` as an integer, ties toward +Inf.

    With ``double_round`` a shift above 31 first adds 2**30 with the sign of ``acc``: what
    gemmlowp's two roundings come to (TOSA 1.1 ``apply_scale_32``).

    Args:
        acc: int32 accumulators.
        q31: Multiplier, below 2**31, broadcastable to ``acc``.
        shift: Right shift, 2 to 62, broadcastable to ``acc``.
        double_round: Rounds twice.
    """
    wide = acc.astype(np.int64)
    shifts = np.asarray(shift, np.int64)
    if np.any((shifts < MIN_SHIFT) | (shifts > MAX_SHIFT)):
        raise InvalidArgument(f"shift outside {MIN_SHIFT} .. {MAX_SHIFT}")
    half = np.int64(1) << (shifts - 1)
    if double_round:
        extra = np.where(wide >= 0, 1 << 30, -(1 << 30))
        half = half + np.where(shifts > 31, extra, 0)
    product = wide * np.asarray(q31, np.int64) + half
    return np.asarray(product >> shifts, np.int64)


def requantize_fixed(
    acc: NDArray[np.int32],
    q31: ArrayLike,
    shift: ArrayLike,
    zero_point: ArrayLike,
    fmt: Format,
    double_round: bool = False,
) -> NDArray[Any]:
    """Returns ``clamp(fixed_multiply(acc) + zero_point)`` in ``fmt.dtype``.

    Args:
        acc: int32 accumulators of any shape.
        q31: Multiplier, broadcastable to ``acc``.
        shift: Right shift, broadcastable to ``acc``.
        zero_point: Zero point of the result, broadcastable to ``acc``.
        fmt: Integer format of the result, at most 16 bits.
        double_round: Rounds twice, as gemmlowp does.
    """
    acc = np.asarray(acc)
    _check(acc, fmt)
    steps = fixed_multiply(acc, q31, shift, double_round) + np.asarray(zero_point, np.int64)
    np.clip(steps, int(fmt.min), int(fmt.max), out=steps)
    return steps.astype(bitround.store_dtype(fmt)).astype(fmt.dtype, copy=False)


def _check(acc: NDArray[Any], fmt: Format) -> None:
    if acc.dtype != np.int32:
        raise InvalidArgument(f"accumulators are {acc.dtype}", remedy="pass int32")
    if not fmt.is_integer or fmt.bits > 16:
        raise InvalidArgument(
            f"cannot requantise to {fmt}", remedy="use an integer format of at most 16 bits"
        )


def _channels(
    value: ArrayLike, dtype: DTypeLike, shape: tuple[int, ...], axis: int
) -> NDArray[Any]:
    found = np.asarray(value).astype(dtype)
    if found.size == 1:
        return found.reshape(())
    if not -len(shape) <= axis < len(shape) or found.shape != (shape[axis],):
        raise InvalidArgument(
            f"per-channel values of shape {found.shape} for axis {axis} of shape {shape}",
            remedy="pass a scalar, or one value per channel",
        )
    return found.reshape([-1 if dim == axis % len(shape) else 1 for dim in range(len(shape))])
