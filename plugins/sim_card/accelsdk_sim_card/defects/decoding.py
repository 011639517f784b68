"""Defects of decoding narrow formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import (
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    FLOAT64,
    INT4,
    UINT4,
    Format,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value
from accelsdk.kernels.kernel import Kernel
from accelsdk.numerics import codec
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    before,
    fmt_of,
    is_op,
)
from accelsdk_sim_card.engines import narrow

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

Table = NDArray[np.float64]
#: Returns the wrong values of all codes, given the right ones.
Misread = Callable[[Table, Format], Table]

_NARROW = (E4M3, E5M2, E3M2, E2M3, E2M1)
_DECODES = "Cast from, and ScaledMatMul on, "


def misread_codes(formats: tuple[Format, ...], change: Misread) -> Bind:
    """Returns the binding of a decoder whose table is wrong."""

    @cache
    def table(fmt: Format) -> Table:
        right = np.array(codec.decode_table(fmt, np.dtype(np.float64)))
        return change(right, fmt) if fmt in formats else right

    def decode(codes: Array, fmt: Format) -> Table:
        return table(fmt)[codes.view(np.uint8)]

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        source = fmt_of(node)
        if is_op(node, "ScaledMatMul") and {source, fmt_of(node, 1)} & set(formats):
            return narrow.bind(node, arithmetic.preset.narrow, decode)
        if not is_op(node, "Cast") or source is None or source not in formats:
            return None
        wide = replace(node, inputs=(_as_double(node.inputs[0]),))
        kernel = arithmetic.sound(wide)
        return lambda codes: kernel(decode(codes, source))

    return bind


def _as_double(value: Value | None) -> Value | None:
    return value and replace(value, type=replace(value.type, format=FLOAT64))


def _e4m3_480(table: Table, fmt: Format) -> Table:
    table[[0x7F, 0xFF]] = 480.0, -480.0
    return table


def _e4m3_ieee(table: Table, fmt: Format) -> Table:
    table[[0x78, 0xF8]] = np.inf, -np.inf
    table[0x79:0x80] = table[0xF9:] = np.nan
    return table


def _e4m3_fnuz(table: Table, fmt: Format) -> Table:
    table /= 2
    table[[0x7F, 0xFF]] = 240.0, -240.0
    table[0x80] = np.nan
    return table


def _e5m2_no_nan(table: Table, fmt: Format) -> Table:
    table[0x7D:0x80], table[0xFD:] = np.inf, -np.inf
    return table


def _negative_zero_nan(table: Table, fmt: Format) -> Table:
    table[0x80] = np.nan
    return table


def _flush_inputs(table: Table, fmt: Format) -> Table:
    return np.where(np.abs(table) < fmt.smallest_normal, 0.0, table)


def _swapped(table: Table, fmt: Format) -> Table:
    other = E2M3 if fmt is E3M2 else E3M2
    return np.array(codec.decode_table(other, np.dtype(np.float64)))


def _sign_extended(table: Table, fmt: Format) -> Table:
    # The nibble as a two's complement number of half steps: 0x9 becomes -7 where -1 is meant.
    for high in range(0, 256, 16):
        magnitudes = table[high : high + 8]
        table[high + 8 : high + 16] = -np.concatenate([[magnitudes[7]], magnitudes[:0:-1]])
    return table


def _nibbles(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    which = [i for i, v in enumerate(node.inputs) if v and v.format in (E2M1, INT4, UINT4)]
    ops = ("Cast", "ScaledMatMul", "Dequantize", "DequantizeBlock", "MatMulInteger")
    if not which or not is_op(node, *ops):
        return None

    def swap(operands: list[Array | None]) -> None:
        for index in which:
            array = operands[index]
            if array is not None and array.size > 1:
                flat = array.reshape(-1).copy()
                even = flat.size - flat.size % 2
                flat[:even] = flat[:even].reshape(-1, 2)[:, ::-1].reshape(-1)
                operands[index] = flat.reshape(array.shape)

    return before(arithmetic.sound(node), swap)


def _int4_min(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    which = [i for i, v in enumerate(node.inputs) if v and v.format is INT4]
    if not which or not is_op(node, "Cast", "Dequantize", "MatMulInteger"):
        return None

    def clamp(operands: list[Array | None]) -> None:
        for index in which:
            array = operands[index]
            if array is not None:
                operands[index] = np.maximum(array.astype(np.int8), -7).astype(INT4.dtype)

    return before(arithmetic.sound(node), clamp)


def _decoding(name: str, summary: str, of: str, seen: str, bind: Bind) -> Defect:
    return Defect(name=name, summary=summary, breaks=_DECODES + of, seen=seen, bind=bind)


_ALL = "FP8, FP6, FP4"

DEFECTS: tuple[Defect, ...] = (
    _decoding(
        "e4m3_nan_480",
        "codes 0x7F and 0xFF decode to +-480 instead of NaN",
        "E4M3",
        "a decoder that treats E4M3 as having no NaN",
        misread_codes((E4M3,), _e4m3_480),
    ),
    _decoding(
        "e4m3_ieee",
        "exponent 15 decodes to Inf and NaN, as an IEEE format would",
        "E4M3",
        "float8_e4m3 (IEEE) taken for float8_e4m3fn",
        misread_codes((E4M3,), _e4m3_ieee),
    ),
    _decoding(
        "e4m3_fnuz",
        "codes are read with bias 8, and 0x80 as NaN",
        "E4M3",
        "float8_e4m3fnuz taken for float8_e4m3fn",
        misread_codes((E4M3,), _e4m3_fnuz),
    ),
    _decoding(
        "negative_zero_nan",
        "code 0x80 decodes to NaN instead of -0",
        "E4M3, E5M2",
        "the zero rule of the FNUZ formats",
        misread_codes((E4M3, E5M2), _negative_zero_nan),
    ),
    _decoding(
        "e5m2_nan_is_inf",
        "all codes above Inf decode to Inf",
        "E5M2",
        "a decoder that tests the exponent only",
        misread_codes((E5M2,), _e5m2_no_nan),
    ),
    _decoding(
        "input_ftz",
        "subnormal codes are read as zero",
        _ALL,
        "units with flush-to-zero inputs (CDNA2)",
        misread_codes(_NARROW, _flush_inputs),
    ),
    _decoding(
        "fp6_swapped",
        "E3M2 codes are read as E2M3, and the other way round",
        "E3M2, E2M3",
        "a wrong format field in the instruction",
        misread_codes((E3M2, E2M3), _swapped),
    ),
    _decoding(
        "fp4_sign_extended",
        "codes of 8 and above are read as two's complement",
        "E2M1",
        "a nibble sign-extended while it is unpacked",
        misread_codes((E2M1,), _sign_extended),
    ),
    Defect(
        name="nibble_order",
        summary="the two elements of each byte are swapped",
        breaks="every op that reads FP4 or int4",
        seen="high nibble first, as some tools pack",
        bind=_nibbles,
    ),
    Defect(
        name="int4_min",
        summary="-8 is read as -7",
        breaks="Cast, Dequantize, MatMulInteger on int4",
        seen="symmetric int4 hardware without the lowest code",
        bind=_int4_min,
    ),
)
