"""Defects of formats that are taken for their relatives, of packing, and of wider casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import (
    BFLOAT16,
    BOOL,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    FLOAT16,
    FLOAT32,
    INT2,
    INT64,
    UINT2,
    Format,
)
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer
from accelsdk.numerics import codec
from accelsdk.numerics.rounding import Overflow
from accelsdk_sim_card.defects.decoding import Table, misread_codes
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    When,
    after,
    before,
    fmt_of,
    is_op,
    of_format,
    operands,
    results,
    rows,
    target_of,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import flush_results
from accelsdk_sim_card.engines import convert
from accelsdk_sim_card.engines.convert import CastUnit

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_FNUZ = (E4M3FNUZ, E5M2FNUZ)
_SMALL = (E4M3, E5M2, E3M2, E2M3, E2M1)


def _into(*targets: Format, source: Format | None = None) -> When:
    """Concerns conversions into these formats, from one or from any."""

    def when(node: Node) -> bool:
        return target_of(node) in targets and source in (None, fmt_of(node))

    return when


# -- codes -----------------------------------------------------------------------------------


def _positive_zero(table: Table, fmt: Format) -> Table:
    return np.where(table == 0, 0.0, table)


def _partly_infinite(table: Table, fmt: Format) -> Table:
    table[[0x7D, 0xFD]] = np.inf, -np.inf
    return table


def _with_hidden_bit(table: Table, fmt: Format) -> Table:
    tiny = (np.abs(table) < fmt.smallest_normal) & (table != 0)
    return np.where(tiny, table + np.copysign(fmt.smallest_normal, table), table)


def _as_fn(table: Table, fmt: Format) -> Table:
    relative = E4M3 if fmt is E4M3FNUZ else E5M2
    return np.array(codec.decode_table(relative, np.dtype(np.float64)))


def _nan_is_zero(table: Table, fmt: Format) -> Table:
    table[0x80] = -0.0
    return table


def _relative_codes(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The exponent bias is that of the OCP format."""
    source, target = fmt_of(node), target_of(node)
    if not is_op(node, "Cast") or source is None or target not in _FNUZ or not source.is_float:
        return None
    half = np.float32(0.5)

    def shift(found: list[Array | None]) -> None:
        x = found[0]
        if x is not None and source.bits >= 16:
            found[0] = (x.astype(np.float64) * half).astype(x.dtype)

    return before(arithmetic.sound(node), shift)


def _emits_negative_zero(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    source = fmt_of(node)
    if not is_op(node, "Cast") or source is None or target_of(node) not in _FNUZ:
        return None
    if not source.is_float or source.bits < 16:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        (y,) = kernel(x)
        codes = y.view(np.uint8)
        lost = np.signbit(x) & (codes == 0)
        return (np.where(lost, np.uint8(0x80), codes).view(y.dtype),)

    return broken


def _clipped(limit: float) -> Callable[[list[Any], Node], None]:
    def change(found: list[Any], node: Node) -> None:
        x = found[0]
        found[0] = np.clip(x, x.dtype.type(-limit), x.dtype.type(limit))

    return change


# -- packing ---------------------------------------------------------------------------------


def _groups_reversed(size: int, *formats: Format) -> Bind:
    """Returns the binding of ops that read the elements of each group in reverse order."""
    ops = ("Cast", "Dequantize", "DequantizeBlock", "ScaledMatMul")

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        which = [i for i, v in enumerate(node.inputs) if v is not None and v.format in formats]
        if not which or not is_op(node, *ops):
            return None

        def turn(found: list[Array | None]) -> None:
            for index in which:
                x = found[index]
                if x is not None:
                    flat = x.reshape(-1).copy()
                    whole = flat.size // size * size
                    flat[:whole] = flat[:whole].reshape(-1, size)[:, ::-1].reshape(-1)
                    found[index] = flat.reshape(x.shape)

        return before(arithmetic.sound(node), turn)

    return bind


def _two_bits(change: Callable[[Array], Array], *formats: Format) -> Bind:
    """Returns the binding of readers of 2-bit integers that misread their values."""

    def wrong(found: list[Any], node: Node) -> None:
        x = found[0]
        found[0] = change(x.astype(np.int8)).astype(x.dtype)

    return operands(wrong, of_format(*formats), "Cast", "Dequantize")


def _unsigned_value(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """-1 and -2 are read as 3 and 2."""
    if not is_op(node, "Cast") or fmt_of(node) is not INT2:
        return None
    target = target_of(node)
    if target is None or target.bits < 8:
        return None
    return after(
        arithmetic.sound(node), lambda y: np.where(y < 0, y + y.dtype.type(4), y).astype(y.dtype)
    )


# -- wider casts -----------------------------------------------------------------------------


def _dithered(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Inexact values are rounded at random."""
    source, target = fmt_of(node), target_of(node)
    if not is_op(node, "Cast") or source is not FLOAT32 or target not in _SMALL:
        return None
    if target is None:
        return None
    kernel, steps = arithmetic.sound(node), np.random.default_rng(1)
    bits = target.mantissa_bits

    def broken(x: Array) -> tuple[Array, ...]:
        exact = kernel(x)[0].astype(np.float64) == x
        dust = steps.uniform(-0.5, 0.5, x.shape) * np.ldexp(1.0, np.frexp(x)[1] - 1 - bits)
        moved = np.where(exact | ~np.isfinite(x), x, (x + dust).astype(np.float32))
        return kernel(moved)

    return broken


def _upper_half(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The upper 16 bits after rounding: a NaN with a small payload becomes an infinity."""
    if not is_op(node, "Cast") or not _into(BFLOAT16, source=FLOAT32)(node):
        return None
    kernel = arithmetic.sound(node)

    def cut(x: Array) -> tuple[Array, ...]:
        (y,) = kernel(x)
        upper = (np.ascontiguousarray(x).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return (np.where(np.isnan(x), upper.reshape(x.shape), y.view(np.uint16)).view(y.dtype),)

    return cut


def _saturating_half(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    source = fmt_of(node)
    if not is_op(node, "Cast") or source not in (FLOAT32, BFLOAT16):
        return None
    if target_of(node) is not FLOAT16:
        return None
    return convert.bind_cast(node, CastUnit(overflow=Overflow.SATURATE))


def _truncated_bool(found: list[Any], node: Node) -> None:
    x = found[0]
    found[0] = np.where(np.isfinite(x), np.trunc(x), x).astype(x.dtype)


def _low_word(found: list[Any], node: Node) -> None:
    found[0] = found[0].astype(np.int32).astype(np.int64)


def _toward_zero(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Integers that float32 cannot hold are truncated."""
    source = fmt_of(node)
    if not is_op(node, "Cast") or source is None or not source.is_integer or source.bits < 32:
        return None
    if target_of(node) is not FLOAT32:
        return None

    def truncated(x: Array) -> tuple[Array, ...]:
        near = x.astype(np.float32)
        wide = near.astype(np.float64)
        over = np.abs(wide) > np.abs(x.astype(np.float64))
        return (np.where(over, np.nextafter(near, np.float32(0)), near),)

    return truncated


def _quantize_overflows(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The saturate flag is ignored."""
    target = target_of(node)
    if not is_op(node, "Quantize") or target is None or target.is_integer:
        return None
    if not integer(node, "saturate"):
        return None
    return arithmetic.sound(with_attributes(node, saturate=0))


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "negative_zero_lost",
        "the code of -0 decodes to +0",
        "Cast from FP8, FP6, FP4",
        "ocannl issue 646; two's complement for sign and magnitude",
        misread_codes(_SMALL, _positive_zero),
    ),
    _row(
        "e5m2_nan_partly",
        "code 0x7D decodes to Inf",
        "Cast from, and ScaledMatMul on, E5M2",
        "a comparison with the largest NaN code alone",
        misread_codes((E5M2,), _partly_infinite),
    ),
    _row(
        "subnormal_hidden_bit",
        "subnormal codes are read with the hidden bit of normal ones",
        "Cast from, and ScaledMatMul on, FP8, FP6, FP4",
        "a decoder without subnormals",
        misread_codes(_SMALL, _with_hidden_bit),
    ),
    _row(
        "fnuz_as_fn",
        "FNUZ codes are read as those of the OCP formats",
        "Cast from E4M3FNUZ and E5M2FNUZ",
        "one decoder for both families",
        misread_codes(_FNUZ, _as_fn),
    ),
    _row(
        "fnuz_nan_is_zero",
        "the NaN code 0x80 is read as -0",
        "Cast from E4M3FNUZ and E5M2FNUZ",
        "one decoder for both families",
        misread_codes(_FNUZ, _nan_is_zero),
    ),
    _row(
        "fnuz_bias",
        "values are encoded with the exponent bias of the OCP formats",
        "Cast to E4M3FNUZ and E5M2FNUZ",
        "one encoder for both families",
        _relative_codes,
    ),
    _row(
        "fnuz_negative_zero",
        "a negative zero is encoded as 0x80, which is NaN",
        "Cast to E4M3FNUZ and E5M2FNUZ",
        "a sign bit that is copied as it is",
        _emits_negative_zero,
    ),
    _row(
        "fnuz_limit",
        "magnitudes above 224 become 224",
        "Cast to E4M3FNUZ",
        "a limit of another format",
        operands(_clipped(224.0), _into(E4M3FNUZ, source=FLOAT32), "Cast"),
    ),
    _row(
        "int2_unsigned",
        "-2 and -1 are read as 2 and 3",
        "Cast from int2",
        "a sign bit that is not extended",
        _unsigned_value,
    ),
    _row(
        "int2_min",
        "-2 is read as -1",
        "Cast, Dequantize from int2",
        "symmetric hardware without the lowest code",
        _two_bits(lambda x: np.maximum(x, -1), INT2),
    ),
    _row(
        "uint2_wide",
        "3 is read as 2",
        "Cast, Dequantize from uint2",
        "a ternary unit",
        _two_bits(lambda x: np.minimum(x, 2), UINT2),
    ),
    _row(
        "crumb_order",
        "the four elements of each byte are read in reverse order",
        "Cast, Dequantize from int2 and uint2",
        "high bits first",
        _groups_reversed(4, INT2, UINT2),
    ),
    _row(
        "fp6_packing",
        "the four elements of each three bytes are read in reverse order",
        "Cast, DequantizeBlock, ScaledMatMul on FP6",
        "high bits first",
        _groups_reversed(4, E3M2, E2M3),
    ),
    _row(
        "cast_stochastic",
        "inexact values are rounded at random",
        "Cast to FP8, FP6, FP4 from float32",
        "stochastic rounding left on",
        _dithered,
    ),
    _row(
        "bf16_nan_payload",
        "a NaN keeps the upper 16 bits, and may become an infinity",
        "Cast to bfloat16 from float32",
        "taking the upper 16 bits",
        _upper_half,
    ),
    _row(
        "fp16_ftz",
        "subnormal results become zero",
        "Cast to float16",
        "flush-to-zero mode left on",
        results(flush_results, _into(FLOAT16), "Cast"),
    ),
    _row(
        "fp16_saturates",
        "overflow becomes 65504 instead of infinity",
        "Cast to float16",
        "a saturating converter",
        _saturating_half,
    ),
    _row(
        "bool_truncates",
        "magnitudes below 1 are false",
        "Cast to bool from floats",
        "a detour through an integer",
        operands(
            _truncated_bool,
            lambda node: target_of(node) is BOOL and fmt_of(node) is FLOAT32,
            "Cast",
        ),
    ),
    _row(
        "int64_low_word",
        "the upper 32 bits are lost",
        "Cast from int64 to floats",
        "64-bit numbers on 32-bit hardware",
        operands(_low_word, _into(FLOAT32, source=INT64), "Cast"),
    ),
    _row(
        "int_to_float_truncates",
        "integers that float32 cannot hold are truncated",
        "Cast from int32 and int64 to float32",
        "a converter that drops bits",
        _toward_zero,
    ),
    _row(
        "quantize_overflow",
        "overflow becomes NaN or Inf although saturation was asked for",
        "Quantize to FP8",
        "the saturate flag ignored",
        _quantize_overflows,
    ),
)
