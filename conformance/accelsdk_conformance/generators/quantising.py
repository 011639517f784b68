"""Quantisation of what layers leave: sums of 32 bits, and channels along any axis of any rank."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, INT32, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import conversion, data
from accelsdk_conformance.oracles.tensor import encode, from_integers, represent
from accelsdk_conformance.problem import Context, Problem

#: Whole powers of two, where quotients are exact, and others. Half steps of the large ones reach
#: beyond 2**24; `sums` gives all but the first three some sums of that size besides.
_SCALES = (1.0, 2.0**8, 2.0**16, 2.0**20, 2.0**24, 3.0, 1000.5, 123457.0, 2.0**22 + 2)
_ROWS = 120


def sums(case: Case, context: Context) -> Problem:
    """Quantize of int32 over its whole range, in half steps of scales up to 2**24.

    Sums are numbers that float32 holds, for ONNX does not say how others are rounded; the
    largest and its neighbours saturate however they are.
    """
    target, rng = data.format_of(case, -1), data.rng(case, context)
    scale = np.array(_SCALES)
    x = np.rint(_steps(target, (_ROWS, len(scale)), rng) * scale)
    x[:6, 3:] = np.array([1e8, -1e8, 2.0**30, 2.0**31 - 128, -(2.0**31), 2.0**24 + 2])[:, None]
    x = x.astype(np.float32).astype(np.float64).clip(-(2.0**31), 2.0**31 - 128)
    x[:4, 0] = [2.0**31 - 1, 2.0**31 - 2, -(2.0**31), 1 - 2.0**31]
    zero = None
    if target.is_integer:
        zero = from_integers(rng.integers(int(target.min), int(target.max) + 1, len(scale)), target)
    operands = (from_integers(x, INT32), represent(scale, FLOAT32), zero)
    return conversion.quantize(case, context).with_operands(operands)


def _steps(target: Format, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns quotients: half steps about as far as the target reaches."""
    if target.is_float:
        return rng.normal(size=shape) * np.exp2(rng.uniform(0, math.log2(target.max) + 1, shape))
    span = 1 << target.bits
    return rng.integers(-2 * span, 2 * span + 1, shape) / 2


def channels(case: Case, context: Context) -> Problem:
    """Requantize with a multiplier, shift, zero point and bias of each channel along an axis."""
    target, given = data.format_of(case, 0), case.parameters
    extents = tuple(int(n) for n in given["extents"])
    axis, rng = int(given["axis"]), data.rng(case, context)
    count = extents[axis]
    bits = rng.integers(4, 22, count)  # sums of each channel have about so many more than codes
    across = np.moveaxis(np.zeros(extents), axis, -1).shape
    reach = np.ldexp(1.0, 8 + bits)
    values = np.rint(rng.uniform(-1, 1, across) * reach)
    acc = from_integers(np.ascontiguousarray(np.moveaxis(values, -1, axis)), INT32)
    bias = from_integers(np.rint(rng.uniform(-0.3, 0.3, count) * reach), INT32)
    zero = from_integers(rng.integers(int(target.min) // 2, int(target.max) // 2, count), target)
    factor = rng.uniform(0.5, 1, count)
    shift = None
    if given["arithmetic"] == "float32":
        multiplier = encode(np.ldexp(factor, -bits), FLOAT32)
    else:
        multiplier = from_integers(np.rint(np.ldexp(factor, 31)), INT32)
        shift = from_integers(31 + bits, INT32)
    return conversion.requantized(case, context, (acc, multiplier, shift, zero, bias))
