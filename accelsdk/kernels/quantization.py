"""Changes of number format, over `accelsdk.numerics`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E8M0, FLOAT32, FLOAT64, Format, Kind
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    format_of,
    integer,
    one,
    operand_format,
    shape_of,
    text,
)
from accelsdk.numerics import affine, block, codec, requantize
from accelsdk.numerics.rounding import Overflow, ScaleMode

Array = NDArray[Any]


def _bind_quantize(node: Node) -> Kernel:
    target, axis = format_of(node, "to"), integer(node, "axis")
    size, saturate = integer(node, "block_size"), bool(integer(node, "saturate"))

    def quantize(x: Array, scale: Array, zero: Array | None = None) -> Array:
        return affine.quantize(x, scale, zero, target, axis, size, saturate)

    return one(quantize)


def _bind_dequantize(node: Node) -> Kernel:
    source, target = operand_format(node, 0), format_of(node, "to")
    axis, size = integer(node, "axis"), integer(node, "block_size")

    def dequantize(q: Array, scale: Array, zero: Array | None = None) -> Array:
        return affine.dequantize(q, source, scale, zero, axis, size, target)

    return one(dequantize)


def _bind_requantize(node: Node) -> Kernel:
    target, axis = format_of(node, "to"), integer(node, "axis")
    arithmetic, relu = text(node, "arithmetic"), bool(integer(node, "relu"))
    rank = len(shape_of(node, 0))

    def along(x: Array) -> Array:
        """Shapes a per-channel operand so that it broadcasts along the axis."""
        return x if x.ndim == 0 else x.reshape(-1, *(1,) * (rank - 1 - axis % rank))

    def by_float(
        acc: Array,
        multiplier: Array,
        _shift: Array | None = None,
        zero: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        return requantize.requantize(
            acc, multiplier, 0 if zero is None else zero, target, axis, relu, bias
        )

    def by_integer(
        acc: Array,
        multiplier: Array,
        shift: Array,
        zero: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        total = acc if bias is None else acc + along(bias)
        offset = np.zeros((), np.int64) if zero is None else along(zero).astype(np.int64)
        codes = requantize.requantize_fixed(
            total, along(multiplier), along(shift), offset, target, arithmetic == "fixed_double"
        )
        return np.maximum(codes, offset.astype(codes.dtype)) if relu else codes

    return one(by_float if arithmetic == "float32" else by_integer)


def _bind_quantize_block(node: Node) -> Kernel:
    target, axis = format_of(node, "to"), integer(node, "axis")
    size, rule = integer(node, "block_size"), block.ScaleRule(text(node, "rule"))
    return lambda x: block.quantize_block(x, target, axis, size, rule)


def _bind_dequantize_block(node: Node) -> Kernel:
    source, target = operand_format(node, 0), format_of(node, "to")
    axis, size = integer(node, "axis"), integer(node, "block_size")

    def dequantize(elements: Array, scales: Array) -> Array:
        return block.dequantize_block(elements, source, scales, axis, size, target)

    return one(dequantize)


def _bind_cast(node: Node) -> Kernel:
    source, target = operand_format(node, 0), format_of(node, "to")
    if source is target:
        return one(lambda x: x)
    if target in (FLOAT32, FLOAT64) and _converts_once(source, target):
        return one(lambda x: x.astype(target.dtype))
    narrow = target.bits <= 8
    saturate = bool(integer(node, "saturate"))
    overflow = Overflow.SATURATE if narrow and saturate else Overflow.SPECIAL
    mode = ScaleMode(text(node, "round_mode")) if target is E8M0 else ScaleMode.UP
    return one(lambda x: codec.cast(x, source, target, overflow=overflow, scale_mode=mode))


def _converts_once(source: Format, target: Format) -> bool:
    """Says whether NumPy's own conversion is exact, or rounds once to nearest even."""
    whole = source.is_integer or source.kind is Kind.BOOL
    return (whole and source.bits >= 8) or (source.is_float and 16 <= source.bits <= target.bits)


BINDERS: Binders = {
    "Quantize": _bind_quantize,
    "Dequantize": _bind_dequantize,
    "Requantize": _bind_requantize,
    "QuantizeBlock": _bind_quantize_block,
    "DequantizeBlock": _bind_dequantize_block,
    "Cast": _bind_cast,
}
