"""The conversion engine: casts, and affine quantisation to and from codes.

Its parameters are those of real converters; the sound card has the defaults, which are the
rules of ONNX, and the datasheet is made of the same objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    format_of,
    integer,
    operand_format,
    text,
)
from accelsdk.numerics import affine, codec
from accelsdk.numerics.rounding import Overflow, Rounding, ScaleMode

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CastUnit:
    """How the engine converts.

    Attributes:
        rounding: Direction of inexact results.
        via: Format that a value is rounded to first, or None.
        overflow: What overflow becomes, whatever the node asks for; None: as it asks.
    """

    rounding: Rounding = Rounding.NEAREST_EVEN
    via: Format | None = None
    overflow: Overflow | None = None


SOUND = CastUnit()


def bind_cast(node: Node, unit: CastUnit = SOUND) -> Kernel:
    """Returns the kernel of a Cast."""
    source, target = operand_format(node, 0), format_of(node, "to")
    asked = None if integer(node, "saturate") else Overflow.SPECIAL
    overflow = unit.overflow or asked
    mode = ScaleMode(text(node, "round_mode"))
    via = unit.via if source.is_float and target.is_float else None

    def cast(x: Array) -> tuple[Array, ...]:
        if via is None:
            return (codec.cast(x, source, target, unit.rounding, overflow, mode),)
        wide = codec.cast(x, source, via)
        return (codec.cast(wide, via, target, unit.rounding, overflow, mode),)

    return cast


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineUnit:
    """How the engine quantises.

    Attributes:
        rule: Division, place of the zero point, rounding.
    """

    rule: affine.AffineRule = affine.ONNX


def bind_quantize(node: Node, unit: AffineUnit | None = None) -> Kernel:
    """Returns the kernel of a Quantize."""
    rule = (unit or AffineUnit()).rule
    target, axis = format_of(node, "to"), integer(node, "axis")
    block, saturate = integer(node, "block_size"), bool(integer(node, "saturate"))

    def quantize(x: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
        return (affine.quantize(x, scale, zero, target, axis, block, saturate, rule),)

    return quantize


def bind_dequantize(node: Node) -> Kernel:
    """Returns the kernel of a Dequantize."""
    source, target = operand_format(node, 0), format_of(node, "to")
    axis, block = integer(node, "axis"), integer(node, "block_size")

    def dequantize(q: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
        return (np.asarray(affine.dequantize(q, source, scale, zero, axis, block, target)),)

    return dequantize


BINDERS: Binders = {
    "Cast": bind_cast,
    "Quantize": bind_quantize,
    "Dequantize": bind_dequantize,
}
