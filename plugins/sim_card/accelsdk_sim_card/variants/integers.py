"""Variants of the integer engine and its output stage, as declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import IntSpec, NumericsDatasheet, QuantSpec, RequantSpec
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, text
from accelsdk.numerics.affine import AffineRule
from accelsdk.numerics.rounding import Rounding
from accelsdk_sim_card.defects.defect import Array, Bind, after, fmt_of, is_op
from accelsdk_sim_card.engines import convert, integer, requantize
from accelsdk_sim_card.engines.convert import AffineUnit
from accelsdk_sim_card.engines.integer import IntUnit
from accelsdk_sim_card.engines.requantize import RequantUnit
from accelsdk_sim_card.variants.conversions import quantizing, requantizing
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_OPS = "MatMulInteger, ConvInteger"


def _away(x: Array) -> Array:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)  # exact: |x| < 2**52 and float64


def _rounding(to_integer: Callable[[Array], Array]) -> Bind:
    """Returns the binding of scaled float32 sums that are rounded in another way."""
    unit = RequantUnit(to_integer=lambda x: to_integer(x.astype(np.float64)))

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Requantize") or text(node, "arithmetic") != "float32":
            return None
        return requantize.bind_requantize(node, unit)

    return bind


def _unit(unit: IntUnit, *pairs: tuple[str, str]) -> Bind:
    """Returns the binding of integer products on another accumulator; of some pairs, or all."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "MatMulInteger", "ConvInteger"):
            return None
        names = tuple(fmt.name for fmt in (fmt_of(node), fmt_of(node, 1)) if fmt is not None)
        if pairs and names not in pairs:
            return None
        if node.op == "MatMulInteger":
            return integer.bind_matmul(node, unit)
        return integer.bind_conv(node, unit)

    return bind


def _short(bits: int) -> Bind:
    """Returns the binding of sums that wrap at fewer bits."""
    half = 1 << (bits - 1)

    def wrapped(y: Array) -> Array:
        return ((y.astype(np.int64) + half) % (2 * half) - half).astype(np.int32)

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "MatMulInteger", "ConvInteger"):
            return None
        return after(arithmetic.plain(node), wrapped)

    return bind


def _claims(spec: IntSpec, *pairs: tuple[str, str]) -> Declare:
    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        own = {("*", a, b, "*"): spec for a, b in pairs or (("*", "*"),)}
        return replace(sheet, integers={**sheet.integers, **own})

    return declare


def _quantize(rounding: Rounding) -> Bind:
    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Quantize"):
            return None
        return convert.bind_quantize(node, AffineUnit(rule=AffineRule(rounding=rounding)))

    return bind


_MIXED = ("uint8", "int8")

VARIANTS: tuple[Variant, ...] = (
    *(
        Variant(
            f"requantize_{rounding}",
            f"scaled float32 sums are rounded {words}",
            "declared rounding",
            "Requantize",
            bind=_rounding(function),
            declare=requantizing(RequantSpec(rounding=rounding)),
        )
        for rounding, words, function in (
            ("nearest_away", "to nearest, ties away from zero", _away),
            ("toward_zero", "towards zero", np.trunc),
            ("down", "down", np.floor),
            ("up", "up", np.ceil),
        )
    ),
    *(
        Variant(
            f"quantize_{rounding.value}",
            f"codes are rounded {rounding.value.replace('_', ' ')}",
            "declared rounding",
            "Quantize",
            bind=_quantize(rounding),
            declare=quantizing(QuantSpec(rounding=rounding.value)),
        )
        for rounding in (Rounding.TOWARD_ZERO, Rounding.DOWN, Rounding.UP)
    ),
    Variant(
        "integer_saturates",
        "integer sums saturate at 32 bits",
        "declared overflow",
        _OPS,
        bind=_unit(IntUnit(saturate=True)),
        declare=_claims(IntSpec(overflow="saturate")),
    ),
    Variant(
        "integer_pairs",
        "pairs of uint8 by int8 products saturate at 16 bits",
        "vpmaddubsw of x86 before VNNI, declared pair16",
        _OPS,
        bind=_unit(IntUnit(pair16=True), _MIXED),
        declare=_claims(IntSpec(pair16="saturate"), _MIXED),
    ),
    Variant(
        "integer_24_bits",
        "integer sums wrap at 24 bits",
        "declared acc_bits",
        _OPS,
        bind=_short(24),
        declare=_claims(IntSpec(acc_bits=24)),
    ),
    Variant(
        "integer_64_bits",
        "integer sums have 64 bits, and give their lower half",
        "declared acc_bits",
        _OPS,
        declare=_claims(IntSpec(acc_bits=64)),
    ),
)
