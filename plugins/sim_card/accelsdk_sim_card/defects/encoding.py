"""Defects of encoding: rounding, overflow and special values of conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    FLOAT32,
    Format,
)
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, format_of
from accelsdk.numerics import codec
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    after,
    before,
    fmt_of,
    is_op,
    target_of,
    with_attributes,
)
from accelsdk_sim_card.engines import convert
from accelsdk_sim_card.engines.convert import CastUnit

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_NARROW = (E4M3, E5M2, E3M2, E2M3, E2M1)


def _narrow_cast(node: Node, formats: tuple[Format, ...] = _NARROW) -> bool:
    source = fmt_of(node)
    return (
        is_op(node, "Cast")
        and source is not None
        and source.is_float
        and (target_of(node) in formats)
    )


def _unit(unit: CastUnit, formats: tuple[Format, ...] = _NARROW) -> Bind:
    """Returns the binding of a converter with other parameters."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        return convert.bind_cast(node, unit) if _narrow_cast(node, formats) else None

    return bind


def _input_changed(change: Callable[[Array, Format], Array], *formats: Format) -> Bind:
    """Returns the binding of a converter that tampers with the float32 that it converts."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not _narrow_cast(node, formats or _NARROW):
            return None
        target = format_of(node, "to")

        def tamper(operands: list[Array | None]) -> None:
            x = operands[0]
            if x is not None:
                operands[0] = change(x, target).astype(x.dtype)

        return before(arithmetic.sound(node), tamper)

    return bind


def _half_up(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not _narrow_cast(node) or fmt_of(node) is not FLOAT32:
        return None
    away = convert.bind_cast(node, CastUnit(rounding=Rounding.NEAREST_AWAY))

    def toward_plus(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None:  # a negative tie, one step nearer to zero, rounds up
            operands[0] = np.where(x < 0, np.nextafter(x, np.zeros_like(x)), x)

    return before(away, toward_plus)


def _flush_outputs(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not _narrow_cast(node):
        return None
    target = format_of(node, "to")
    tiny = np.abs(codec.decode_table(target, np.dtype(np.float64))) < target.smallest_normal
    return after(
        arithmetic.sound(node),
        lambda y: np.where(tiny[y.view(np.uint8)], np.uint8(0), y.view(np.uint8)).view(y.dtype),
    )


def _nan_to_max(x: Array, target: Format) -> Array:
    return np.where(np.isnan(x), target.max, x.astype(np.float64)) if target.has_nan else x


def _inf_to_max(x: Array, target: Format) -> Array:
    wide = x.astype(np.float64)
    return np.where(np.isinf(wide), np.copysign(target.max, wide), wide)


def _float_to_int(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    source, target = fmt_of(node), target_of(node)
    if not is_op(node, "Cast") or source is None or not source.is_float:
        return None
    if target is None or not target.is_integer:
        return None

    def nearest(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None and source.bits >= 16:
            operands[0] = np.rint(x)

    return before(arithmetic.sound(node), nearest)


def _int_saturates(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    source, target = fmt_of(node), target_of(node)
    if not is_op(node, "Cast") or source is None or target is None:
        return None
    if not (source.is_integer and target.is_integer and target.bits < 64 and source.bits >= 8):
        return None

    def clamp(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None:
            low, high = int(target.min), int(target.max)
            info = np.iinfo(x.dtype)
            operands[0] = np.clip(x, max(low, int(info.min)), min(high, int(info.max)))

    return before(arithmetic.sound(node), clamp)


def _scale_down(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    target = target_of(node)
    if not is_op(node, "Cast") or target is None or target.name != "float8_e8m0fnu":
        return None
    return arithmetic.sound(with_attributes(node, round_mode="down"))


def _encoding(name: str, summary: str, to: str, seen: str, bind: Bind) -> Defect:
    return Defect(name=name, summary=summary, breaks=f"Cast to {to}", seen=seen, bind=bind)


_ALL = "FP8, FP6, FP4"

DEFECTS: tuple[Defect, ...] = (
    _encoding(
        "cast_rtz",
        "inexact values are truncated",
        _ALL,
        "conversion by dropping bits",
        _unit(CastUnit(rounding=Rounding.TOWARD_ZERO)),
    ),
    _encoding(
        "cast_ties_away",
        "ties round away from zero",
        _ALL,
        "microxcaling's default rounding; FBGEMM MX4",
        _unit(CastUnit(rounding=Rounding.NEAREST_AWAY)),
    ),
    _encoding(
        "cast_half_up",
        "ties round toward +Inf, so that signs differ",
        f"{_ALL} from float32",
        "floor(x + 0.5)",
        _half_up,
    ),
    _encoding(
        "output_ftz",
        "subnormal results become zero",
        _ALL,
        "units with flush-to-zero outputs (CDNA2)",
        _flush_outputs,
    ),
    _encoding(
        "early_saturation",
        "magnitudes above 240 become 240",
        "E4M3",
        "the maximum of float8_e4m3fnuz",
        _input_changed(lambda x, _: np.clip(x, -240, 240), E4M3),
    ),
    _encoding(
        "overflow_special",
        "overflow becomes NaN or Inf although saturation was asked for",
        "E4M3, E5M2",
        "the saturate flag ignored",
        _unit(CastUnit(overflow=Overflow.SPECIAL), (E4M3, E5M2)),
    ),
    _encoding(
        "overflow_saturates",
        "overflow becomes the maximum although saturation was not asked for",
        "E4M3, E5M2",
        "the saturate flag stuck at one",
        _unit(CastUnit(overflow=Overflow.SATURATE), (E4M3, E5M2)),
    ),
    _encoding(
        "inf_clamped",
        "an infinity becomes the maximum although saturation was not asked for",
        "E4M3, E5M2",
        "a clamp in front of the converter",
        _input_changed(_inf_to_max, E4M3, E5M2),
    ),
    _encoding(
        "nan_clamped",
        "NaN becomes the maximum",
        "E4M3, E5M2",
        "clamping with minimum and maximum that drop NaN",
        _input_changed(_nan_to_max, E4M3, E5M2),
    ),
    _encoding(
        "double_rounding",
        "values are rounded to bfloat16 first",
        _ALL,
        "float32 to FP8 through a 16-bit register",
        _unit(CastUnit(via=BFLOAT16)),
    ),
    _encoding(
        "bf16_truncated",
        "float32 is truncated",
        "bfloat16",
        "taking the upper 16 bits",
        _unit(CastUnit(rounding=Rounding.TOWARD_ZERO), (BFLOAT16,)),
    ),
    _encoding(
        "float_to_int_rounds",
        "floats round to the nearest integer instead of toward zero",
        "integers",
        "the rounding mode of the float unit left on",
        _float_to_int,
    ),
    _encoding(
        "int_cast_saturates",
        "integers out of range saturate instead of keeping their low bits",
        "narrower integers",
        "a saturating pack instruction",
        _int_saturates,
    ),
    _encoding(
        "e8m0_rounds_down",
        "round_mode is ignored: the exponent is always rounded down",
        "E8M0",
        "the exponent field copied as it is",
        _scale_down,
    ),
)
