"""The block engine: quantisation to MX and back (OCP MX v1.0 sections 5 and 6.3)."""

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
from accelsdk.numerics import block, codec
from accelsdk.numerics.block import ScaleRule
from accelsdk.numerics.rounding import Rounding

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockUnit:
    """How the engine quantises a block.

    Attributes:
        rounding: Of the elements.
        rule: Of the scale, whatever the node asks for; None: as it asks.
    """

    rounding: Rounding = Rounding.NEAREST_EVEN
    rule: ScaleRule | None = None


SOUND = BlockUnit()


def bind_quantize_block(node: Node, unit: BlockUnit = SOUND) -> Kernel:
    """Returns the kernel of a QuantizeBlock."""
    target, axis = format_of(node, "to"), integer(node, "axis")
    size = integer(node, "block_size")
    rule = unit.rule or ScaleRule(text(node, "rule"))

    def quantize(x: Array) -> tuple[Array, ...]:
        return block.quantize_block(x, target, axis, size, rule, unit.rounding)

    return quantize


def bind_dequantize_block(node: Node) -> Kernel:
    """Returns the kernel of a DequantizeBlock."""
    source, target = operand_format(node, 0), format_of(node, "to")
    axis, size = integer(node, "axis"), integer(node, "block_size")

    def dequantize(elements: Array, scales: Array) -> tuple[Array, ...]:
        return (block.dequantize_block(elements, source, scales, axis, size, target),)

    return dequantize


def encode(x: Array, scales: NDArray[np.uint8], fmt: Format, axis: int, size: int) -> Array:
    """Returns elements of ``fmt`` for given scales: ``x * 2**(127 - scale)``, rounded once."""
    spread = np.repeat(scales, size, axis=axis)
    spread = spread[(slice(None),) * axis + (slice(x.shape[axis]),)]
    power = 127 - spread.astype(np.int32)
    return codec.encode(np.ldexp(x.astype(np.float64), power), fmt)


BINDERS: Binders = {
    "QuantizeBlock": bind_quantize_block,
    "DequantizeBlock": bind_dequantize_block,
}
