"""More defects of MX: rules, shapes of blocks, special blocks, scales that are applied wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E4M3, E5M2, E8M0, FLOAT32, MXINT8, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, format_of, integer, text
from accelsdk.numerics import codec
from accelsdk.numerics.block import ScaleRule
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    before,
    fmt_of,
    is_op,
    misread,
    operands,
    rows,
    singles,
)
from accelsdk_sim_card.defects.tampering import without_subnormals
from accelsdk_sim_card.engines import blocks
from accelsdk_sim_card.engines.blocks import BlockUnit

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_PAIR = 2


def _floor_for_all(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "QuantizeBlock") or text(node, "rule") == ScaleRule.FLOOR:
        return None
    return blocks.bind_quantize_block(node, BlockUnit(rule=ScaleRule.FLOOR))


def _pairs_share(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Two blocks share the larger of their scales."""
    if not is_op(node, "QuantizeBlock"):
        return None
    target, size = format_of(node, "to"), integer(node, "block_size")
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        axis = integer(node, "axis") % x.ndim
        elements, scales = kernel(x)
        codes = np.moveaxis(scales.view(np.uint8), axis, -1).copy()
        whole = codes.shape[-1] // _PAIR * _PAIR
        if not whole or (codes == 0xFF).any():
            return elements, scales
        pairs = codes[..., :whole].reshape(*codes.shape[:-1], -1, _PAIR)
        pairs[:] = pairs.max(axis=-1, keepdims=True)
        codes[..., :whole] = pairs.reshape(codes[..., :whole].shape)
        shared = np.ascontiguousarray(np.moveaxis(codes, -1, axis))
        return blocks.encode(x, shared, target, axis, size), shared.view(E8M0.dtype)

    return broken


def _elements(change: Callable[[Array], Array]) -> Bind:
    """Returns the binding of a quantiser that reads other elements than it was given."""

    def wrong(found: list[Any], node: Node) -> None:
        found[0] = change(found[0])

    return operands(wrong, singles, "QuantizeBlock")


def _without_infinities(x: Array) -> Array:
    return np.where(np.isinf(x), np.copysign(np.float32(FLOAT32.max), x), x)


def _zero_is_nan(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A block of zeros has a NaN scale: 0 / 0."""
    if not is_op(node, "QuantizeBlock"):
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        elements, scales = kernel(x)
        axis, size = integer(node, "axis") % x.ndim, integer(node, "block_size")
        wide = np.moveaxis(np.abs(x), axis, -1)
        short = -wide.shape[-1] % size
        padded = np.pad(wide, [(0, 0)] * (wide.ndim - 1) + [(0, short)])
        split = padded.reshape(*wide.shape[:-1], -1, size)
        empty = np.asarray(np.logical_not(split.any(axis=-1)))
        codes = np.where(np.moveaxis(empty, -1, axis), np.uint8(0xFF), scales.view(np.uint8))
        return elements, codes.view(E8M0.dtype)

    return broken


def _other_elements(encode: Callable[[Array, Format], Array], *formats: Format) -> Bind:
    """Returns the binding of a quantiser with right scales and another encoder."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "QuantizeBlock") or format_of(node, "to") not in formats:
            return None
        kernel, target = arithmetic.sound(node), format_of(node, "to")
        size = integer(node, "block_size")

        def broken(x: Array) -> tuple[Array, ...]:
            axis = integer(node, "axis") % x.ndim
            elements, scales = kernel(x)
            spread = np.repeat(scales.view(np.uint8), size, axis=axis)
            spread = spread[(slice(None),) * axis + (slice(x.shape[axis]),)]
            powers = 127 - spread.astype(np.int32)
            made = encode(np.ldexp(x.astype(np.float64), powers), target)
            known = (spread != 0xFF) & np.isfinite(x)
            codes = np.where(known, made.view(np.uint8), elements.view(np.uint8))
            return codes.view(elements.dtype), scales

        return broken

    return bind


def _overflowing(x: Array, target: Format) -> Array:
    return codec.encode(x, target, overflow=Overflow.SPECIAL)


def _symmetric(x: Array, target: Format) -> Array:
    codes = np.clip(np.rint(x * 64), -127, 127).astype(np.int8)
    return np.asarray(codes.view(np.uint8))


def _read(change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]], *ops: str) -> Bind:
    """Returns the binding of ops that read other scales than they were given.

    Args:
        change: Makes the wrong codes of right ones and the axis of the blocks.
        ops: DequantizeBlock, ScaledMatMul.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        first = {"DequantizeBlock": 1, "ScaledMatMul": 2}.get(node.op, 0)
        if not is_op(node, *ops) or fmt_of(node, first) is not E8M0:
            return None
        axes = (integer(node, "axis"),) if first == 1 else (-1, -2)

        def tamper(found: list[Array | None]) -> None:
            for index, axis in enumerate(axes, first):
                codes = found[index]
                if codes is not None:
                    wrong = change(codes.view(np.uint8), axis)
                    found[index] = np.ascontiguousarray(wrong).view(E8M0.dtype)

        return before(arithmetic.sound(node), tamper)

    return bind


def _clamped(codes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    return np.where(codes == 0xFF, codes, np.clip(codes, 127 - 63, 127 + 63))


def _bias_128(codes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    return np.where((codes == 0xFF) | (codes == 0), codes, codes - np.uint8(1))


def _first_line(codes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    across = -1 - axis % codes.ndim if codes.ndim == 2 else 0
    other = (codes.ndim + across) % codes.ndim if across < 0 else across
    return np.broadcast_to(codes.take([0], axis=other), codes.shape)


def _blocks_reversed(codes: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    return np.flip(codes, axis)


_row = rows("")
_READS = "DequantizeBlock, ScaledMatMul on blocks"
_READERS = ("DequantizeBlock", "ScaledMatMul")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "mx_scale_floor",
        "the scale exponent is rounded down, whatever rule is asked for",
        "QuantizeBlock, every element",
        "OCP's floor in place of the rule of the model",
        _floor_for_all,
    ),
    _row(
        "mx_block_64",
        "two neighbouring blocks share the larger scale",
        "QuantizeBlock, every element",
        "a block of 64 in place of 32",
        _pairs_share,
    ),
    _row(
        "mx_input_ftz",
        "subnormal inputs count as zero",
        "QuantizeBlock, every element",
        "flush-to-zero mode left on",
        _elements(without_subnormals),
    ),
    _row(
        "mx_infinity_clamped",
        "an infinity counts as the largest float32",
        "QuantizeBlock, every element",
        "a clamp in front of the quantiser",
        _elements(_without_infinities),
    ),
    _row(
        "mx_zero_block_nan",
        "a block of zeros has a NaN scale",
        "QuantizeBlock, every element",
        "0 / 0",
        _zero_is_nan,
    ),
    _row(
        "mx_elements_away",
        "ties of elements round away from zero",
        "QuantizeBlock, every element",
        "microxcaling's default rounding",
        lambda node, arithmetic: (
            blocks.bind_quantize_block(node, BlockUnit(rounding=Rounding.NEAREST_AWAY))
            if is_op(node, "QuantizeBlock")
            else None
        ),
    ),
    _row(
        "mx_elements_overflow",
        "elements beyond the largest become NaN or Inf instead of the largest",
        "QuantizeBlock of E4M3 and E5M2",
        "the saturate flag ignored",
        _other_elements(_overflowing, E4M3, E5M2),
    ),
    _row(
        "mxint8_min",
        "-128 is emitted as -127",
        "QuantizeBlock of MXINT8",
        "symmetric hardware without the lowest code",
        _other_elements(_symmetric, MXINT8),
    ),
    _row(
        "mx_scale_clamped",
        "scales are limited to 2**-63 .. 2**63",
        _READS,
        "an exponent adder of 7 bits",
        _read(_clamped, *_READERS),
    ),
    _row(
        "mx_scale_bias",
        "scales are half of what they should be",
        _READS,
        "a bias of 128 for 127",
        _read(_bias_128, *_READERS),
    ),
    _row(
        "mx_scale_first_line",
        "every row has the scales of the first",
        _READS,
        "a stride of zero",
        _read(_first_line, *_READERS),
    ),
    _row(
        "mx_scale_reversed",
        "the scales of a row are read from the last to the first",
        "ScaledMatMul on blocks",
        "a swizzle for another unit",
        _read(_blocks_reversed, "ScaledMatMul"),
    ),
    _row(
        "mx_rule_even",
        "ceil and rceil round the scale exponent to the nearest",
        "QuantizeBlock, every element",
        "mlx, until it rounded up",
        misread(
            "QuantizeBlock",
            when=lambda node: text(node, "rule") in ("ceil", "rceil", "tosa"),
            rule="even",
        ),
    ),
)
