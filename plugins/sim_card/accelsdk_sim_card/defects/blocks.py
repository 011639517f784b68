"""Defects of MX blocks: the shared scale, and which elements it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E8M0, MXINT8
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, format_of, integer, text
from accelsdk.numerics import block
from accelsdk.numerics.block import ScaleRule
from accelsdk.numerics.rounding import Rounding
from accelsdk_sim_card.defects.defect import Array, Bind, Defect, before, fmt_of, is_op
from accelsdk_sim_card.defects.tampering import through_bfloat16
from accelsdk_sim_card.engines import blocks
from accelsdk_sim_card.engines.blocks import BlockUnit

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

#: Returns the largest magnitude that the engine takes, of ``[..., blocks, size]`` values.
Amax = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_UNSCALED = 127


def _unit(unit: BlockUnit) -> Bind:
    """Returns the binding of a block engine with other parameters."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        return blocks.bind_quantize_block(node, unit) if is_op(node, "QuantizeBlock") else None

    return bind


def _amax(largest: Amax, tail: float = 0.0) -> Bind:
    """Returns the binding of a block engine that takes another value for the largest.

    Args:
        largest: What it takes.
        tail: What lies behind the end of a short block.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "QuantizeBlock"):
            return None
        target, size = format_of(node, "to"), integer(node, "block_size")
        rule = ScaleRule(text(node, "rule"))

        def quantize(x: Array) -> tuple[Array, ...]:
            axis = integer(node, "axis") % x.ndim
            wide = np.moveaxis(x.astype(np.float32), axis, -1)
            short = -wide.shape[-1] % size
            widths = [(0, 0)] * (wide.ndim - 1) + [(0, short)]
            padded = np.pad(wide, widths, constant_values=tail)
            split = padded.reshape(*wide.shape[:-1], -1, size)
            codes = block.scale_codes(largest(split), target, rule)
            codes = np.ascontiguousarray(np.moveaxis(codes, -1, axis))
            elements = blocks.encode(x, codes, target, axis, size)
            return elements, codes.view(E8M0.dtype)

        return quantize

    return bind


def _magnitude(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.abs(values).max(axis=-1))


def _through_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return through_bfloat16(_magnitude(values))


def _ignoring_nan(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.fmax.reduce(np.abs(values), axis=-1))


def _scale_off(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "QuantizeBlock"):
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        elements, scales = kernel(x)
        codes = scales.view(np.uint8)
        return elements, np.where(codes < 0xFE, codes + 1, codes).astype(np.uint8).view(E8M0.dtype)

    return broken


def _scales_changed(change: Callable[[list[NDArray[np.uint8]]], None]) -> Bind:
    """Returns the binding of an engine that reads other scales than it was given."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        first = {"DequantizeBlock": 1, "ScaledMatMul": 2}.get(node.op)
        if first is None or fmt_of(node, first) is not E8M0 or not is_op(node, node.op):
            return None

        def tamper(operands: list[Array | None]) -> None:
            scales = [s.view(np.uint8) for s in operands[first:] if s is not None]
            change(scales)
            operands[first:] = [codes.view(E8M0.dtype) for codes in scales]

        return before(arithmetic.sound(node), tamper)

    return bind


def _largest_for_nan(scales: list[NDArray[np.uint8]]) -> None:
    scales[:] = [np.where(codes == 0xFF, np.uint8(0xFE), codes) for codes in scales]


def _once(scales: list[NDArray[np.uint8]]) -> None:
    scales[1:] = [np.full_like(codes, _UNSCALED) for codes in scales[1:]]


def _neighbour(scales: list[NDArray[np.uint8]]) -> None:
    scales[:] = [np.roll(codes.reshape(-1), 1).reshape(codes.shape) for codes in scales]


def _zero_scale(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "DequantizeBlock"):
        return None
    kernel, size = arithmetic.sound(node), integer(node, "block_size")

    def broken(elements: Array, scales: Array) -> tuple[Array, ...]:
        axis = integer(node, "axis") % elements.ndim
        (y,) = kernel(elements, scales)
        spread = np.repeat(scales.view(np.uint8), size, axis=axis)
        spread = spread[(slice(None),) * axis + (slice(elements.shape[axis]),)]
        return (np.where(spread == 0, y.dtype.type(0), y),)

    return broken


def _int8_fraction(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "DequantizeBlock") or fmt_of(node) is not MXINT8:
        return None
    kernel = arithmetic.sound(node)
    return lambda elements, scales: ((kernel(elements, scales)[0] * 64).astype(_dtype(node)),)


def _dtype(node: Node) -> np.dtype[np.generic]:
    return node.result.format.dtype


def _quantising(name: str, summary: str, seen: str, bind: Bind) -> Defect:
    return Defect(
        name=name, summary=summary, breaks="QuantizeBlock, every element", seen=seen, bind=bind
    )


def _reading(name: str, summary: str, seen: str, bind: Bind) -> Defect:
    breaks = "DequantizeBlock, block-scaled ScaledMatMul"
    return Defect(name=name, summary=summary, breaks=breaks, seen=seen, bind=bind)


DEFECTS: tuple[Defect, ...] = (
    _quantising(
        "mx_scale_off_by_one",
        "scales are twice what the elements were divided by",
        "a bias of 126 for 127",
        _scale_off,
    ),
    _quantising(
        "mx_scale_ceil",
        "the scale exponent is rounded up, whatever rule is asked for",
        "torchao's CEIL and FBGEMM's default in place of OCP's floor",
        _unit(BlockUnit(rule=ScaleRule.CEIL)),
    ),
    _quantising(
        "mx_scale_nearest",
        "the scale exponent is rounded to the nearest, so that the largest values clip",
        "mlx, until it rounded up",
        _unit(BlockUnit(rule=ScaleRule.EVEN)),
    ),
    _quantising(
        "mx_amax_bf16",
        "the largest magnitude goes through bfloat16, and may reach the next power of two",
        "torchao, bfloat16 amax",
        _amax(_through_bf16),
    ),
    _quantising(
        "mx_amax_signed",
        "the largest value is taken, not the largest magnitude",
        "max in place of absmax",
        _amax(lambda values: np.asarray(np.abs(values.max(axis=-1)))),
    ),
    _quantising(
        "mx_amax_last_lane",
        "the last element of a block does not count for its scale",
        "a reduction tree of 31 leaves",
        _amax(lambda values: _magnitude(values[..., :-1])),
    ),
    _quantising(
        "mx_block_16",
        "the scale is that of the first 16 elements of a block",
        "NVFP4's block of 16 in place of 32",
        _amax(lambda values: _magnitude(values[..., :16])),
    ),
    _quantising(
        "mx_tail_garbage",
        "lanes behind the end of a short block count for its scale",
        "stale vector lanes; tails are tested by no public suite",
        _amax(_magnitude, tail=1e30),
    ),
    _quantising(
        "mx_nan_dropped",
        "NaN in a block does not make its scale NaN",
        "a maximum that drops NaN",
        _amax(_ignoring_nan),
    ),
    _quantising(
        "mx_elements_truncated",
        "elements are truncated instead of rounded to nearest even",
        "an optional rounding of OCP MX 6.3 where RNE is mandatory",
        _unit(BlockUnit(rounding=Rounding.TOWARD_ZERO)),
    ),
    _reading(
        "mx_nan_scale_finite",
        "scale 0xFF is read as the largest finite one, not as NaN",
        "an exponent adder without special cases",
        _scales_changed(_largest_for_nan),
    ),
    Defect(
        name="mx_zero_scale",
        summary="scale 0x00 is read as zero, not as 2**-127",
        breaks="DequantizeBlock, every element",
        seen="the zero exponent of a float taken for zero",
        bind=_zero_scale,
    ),
    Defect(
        name="mx_scale_used_once",
        summary="the second operand's scales are ignored",
        breaks="block-scaled ScaledMatMul",
        seen="one scale register for two operands",
        bind=_scales_changed(_once),
    ),
    _reading(
        "mx_scale_neighbour",
        "each block is read with its neighbour's scale",
        "a scale layout swizzled wrongly",
        _scales_changed(_neighbour),
    ),
    Defect(
        name="mxint8_fraction",
        summary="MXINT8 elements are read as whole numbers, without the factor 2**-6",
        breaks="DequantizeBlock of MXINT8",
        seen="MXINT8 taken for int8",
        bind=_int8_fraction,
    ),
)
