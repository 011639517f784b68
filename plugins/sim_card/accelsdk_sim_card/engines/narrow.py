"""The matrix engine on FP8, FP6, FP4 and MXINT8 codes, scaled per tensor, row or block."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, format_of, integer, operand_format
from accelsdk.numerics import codec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card.engines import accumulator
from accelsdk_sim_card.engines.accumulator import Operand

Array = NDArray[Any]
#: Turns the codes of a format into values.
Decoder = Callable[[Array, Format], NDArray[np.float64]]
_NAN_SCALE = 0xFF
_SCALE_BIAS = 127


def decode(codes: Array, fmt: Format) -> NDArray[np.float64]:
    """Returns the values of codes, exact in float64."""
    return codec.decode(codes, fmt, np.float64)


def bind(node: Node, spec: AccumulatorSpec, decoder: Decoder = decode) -> Kernel:
    """Returns the kernel of a ScaledMatMul on an accumulator, behind a decoder of codes."""
    accumulator.check(spec)
    a_format, b_format = operand_format(node, 0), operand_format(node, 1)
    target, block = format_of(node, "to"), integer(node, "block_size")

    def per_tensor(a: Array, b: Array, a_scale: Array, b_scale: Array) -> tuple[Array, ...]:
        sums = stacked(
            decoder(a, a_format),
            decoder(b, b_format),
            (a_format, b_format),
            spec,
        )
        return (codec.cast(np.asarray(sums * a_scale * b_scale), FLOAT32, target),)

    def per_block(a: Array, b: Array, a_scale: Array, b_scale: Array) -> tuple[Array, ...]:
        a_values, a_powers = _scaled(decoder(a, a_format), a_scale, -1, block)
        b_values, b_powers = _scaled(decoder(b, b_format), b_scale, -2, block)
        sums = stacked(a_values, b_values, (a_format, b_format), spec, (a_powers, b_powers))
        return (codec.cast(sums, FLOAT32, target),)

    return per_block if block else per_tensor


def _scaled(
    values: NDArray[np.float64], scales: Array, axis: int, block: int
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Returns values, and the power of two of each; a NaN scale makes its values NaN."""
    raw = np.repeat(scales.view(np.uint8), block, axis=axis)
    length = values.shape[axis]
    raw = raw[..., :length] if axis == -1 else raw[..., :length, :]
    return np.where(raw == _NAN_SCALE, np.nan, values), raw.astype(np.int16) - np.int16(_SCALE_BIAS)


def stacked(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    formats: tuple[Format, Format],
    spec: AccumulatorSpec,
    powers: tuple[NDArray[np.int16], NDArray[np.int16]] | None = None,
) -> NDArray[np.float32]:
    """Multiplies matrices, or stacks of them, on an accumulator.

    Args:
        a: ``[..., M, K]`` values of ``formats[0]``.
        b: ``[..., K, N]`` values of ``formats[1]``; batches broadcast.
        formats: Of both operands.
        spec: The accumulator.
        powers: Power of two that scales each value of ``a`` and of ``b``, or None.
    """
    a_powers, b_powers = powers or (None, None)
    if b.ndim == 2:
        # All rows meet one right-hand side: one product of many rows.
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        scale = None if a_powers is None else a_powers.reshape(rows.shape)
        left, right = (
            Operand.of(rows, formats[0], scale, spec),
            Operand.of(b, formats[1], b_powers, spec),
        )
        return accumulator.contract(left, right, spec).reshape(*a.shape[:-1], b.shape[-1])
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
    a, b = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
    if a_powers is not None and b_powers is not None:
        a_powers, b_powers = np.broadcast_to(a_powers, a.shape), np.broadcast_to(b_powers, b.shape)
    for index in np.ndindex(batch):
        left_power = None if a_powers is None else a_powers[index]
        right_power = None if b_powers is None else b_powers[index]
        left = Operand.of(a[index], formats[0], left_power, spec)
        right = Operand.of(b[index], formats[1], right_power, spec)
        out[index] = accumulator.contract(left, right, spec)
    return out
