"""The numerics datasheet: what a target's arithmetic claims to be.

Legal hardware differs: accumulator width and rounding, subnormals, overflow, MX scale rule,
requantise rounding. A backend declares what it does, conformance holds it to that. What is
not declared is unclaimed, which is never a failure; docs/datasheet.md explains each field.

Lookups take the most specific entry: ``(op, a, b, out)`` with ``"*"`` in any place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Literal, TypeVar, cast

from accelsdk.numerics.accumulate import AccumulatorSpec

#: (op, format of a, format of b, format of the output); ``"*"`` matches anything.
ContractionKey = tuple[str, str, str, str]
#: (op, format); ``"*"`` matches anything.
OpKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntSpec:
    """Integer accumulation: width, and what happens beyond it.

    Attributes:
        acc_bits: Bits of the accumulator, two's complement, up to 64.
        overflow: What a sum beyond it becomes before it is an int32.
        pair16: Whether the sum of two neighbouring products saturates at 16 bits, as
            ``vpmaddubsw`` does.
    """

    acc_bits: int = 32
    overflow: Literal["wrap", "saturate"] = "wrap"
    pair16: Literal["none", "saturate"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CastSpec:
    """Conversion into a narrow format.

    Attributes:
        rounding: A name of `accelsdk.numerics.rounding.Rounding`.
        overflow: What finite overflow becomes when saturation is not asked for.
        inf_to: What an infinity becomes when saturation is asked for.
        via: Format that the value is rounded to first (double rounding), or None.
    """

    rounding: str = "nearest_even"
    overflow: Literal["saturate", "special"] = "special"
    inf_to: Literal["max", "special"] = "max"
    via: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """Affine quantisation: how x/scale is formed, and when the zero point is added.

    Attributes:
        scaling: Division by the scale, or multiplication by its rounded reciprocal.
        zero_point: Added after rounding, before it, or in one fused multiply-add before it.
        rounding: A name of `accelsdk.numerics.rounding.Rounding`.
    """

    scaling: Literal["divide", "reciprocal"] = "divide"
    zero_point: Literal["after", "before", "fma"] = "after"
    rounding: str = "nearest_even"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequantSpec:
    """Requantisation of a 32-bit accumulator to 8 bits.

    Attributes:
        arithmetic: How a Requantize whose attribute says ``float32`` is computed; the fixed-point
            ones are what their attribute says.
        rounding: A name of `accelsdk.numerics.rounding.Rounding`, of the float modes.
        clamp: Whether results beyond the code range saturate; else they wrap.
    """

    arithmetic: Literal["float32", "float64", "fixed_single", "fixed_double", "inexact"] = "float32"
    rounding: str = "nearest_even"
    clamp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MxSpec:
    """Block quantisation to MX.

    Attributes:
        scale_rule: A name of `accelsdk.numerics.block.ScaleRule`, or ``"other"``.
        nan_rule: Scale of a block that holds NaN.
        inf_rule: Scale of a block that holds Inf.
        flush_fp32_subnormals: Whether subnormal float32 inputs count as zero.
        int8_min: Lowest MXINT8 code that is emitted.
        tail: What is done with a last block that is short.
    """

    scale_rule: str = "floor"
    nan_rule: Literal["nan", "other"] = "nan"
    inf_rule: Literal["nan", "max", "other"] = "nan"
    flush_fp32_subnormals: bool = False
    int8_min: Literal[-128, -127] = -128
    tail: Literal["short", "zero_pad", "reject"] = "short"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """An elementwise function: its error limit and its special cases.

    Attributes:
        ulp: Largest error in units in the last place of the result.
        floor: Absolute error allowed near zero, in units of 2**(1-p) times ``floor_of``.
        floor_of: ``"1"`` or ``"|x|"``.
        subnormals: Whether subnormal results and inputs are kept.
        domain: Finite arguments, from and to, that the limit holds for; None: all of them.
            Beyond it only NaN and infinities are held to their rules.
        nan: Whether a NaN operand gives NaN; ``ignore``: Max, Min and Clip give the other
            operand.
    """

    ulp: float
    floor: float = 0.0
    floor_of: Literal["1", "|x|"] = "1"
    subnormals: Literal["keep", "flush"] = "keep"
    domain: tuple[float, float] | None = None
    nan: Literal["propagate", "ignore"] = "propagate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceSpec:
    """A reduction.

    Attributes:
        significand_bits: Bits of a stored partial sum.
        order: In which order terms are added.
        variance: How normalisations compute their variance.
        normalization: How Instance- and GroupNormalization apply mean and deviation: ``folded``
            into a slope and an offset of each channel, x a + (b - mean a), which costs accuracy
            where the mean is large beside the deviation.
        nan: Whether a NaN among the operands of Max and Min is the result, in every lane.
        empty: Result of an empty reduction: the identity that ONNX names (0, 1, -Inf, +Inf), zero
            for every op, or anything.
        subnormals: Whether subnormal operands and results are kept; said of Softmax,
            normalisations, running sums and pools, too.
    """

    significand_bits: int = 24
    order: Literal["any", "sequential", "pairwise"] = "any"
    variance: Literal["two_pass", "one_pass", "welford"] = "two_pass"
    normalization: Literal["centred", "folded"] = "centred"
    nan: Literal["propagate", "ignore"] = "propagate"
    empty: Literal["identity", "zero", "undefined"] = "identity"
    subnormals: Literal["keep", "flush"] = "keep"


Spec = TypeVar("Spec")
Key = TypeVar("Key", bound=tuple[str, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericsDatasheet:
    """What a target's arithmetic claims to be. An absent entry is unclaimed."""

    contractions: Mapping[ContractionKey, AccumulatorSpec] = field(
        default_factory=lambda: MappingProxyType({})
    )
    integers: Mapping[ContractionKey, IntSpec] = field(default_factory=lambda: MappingProxyType({}))
    casts: Mapping[OpKey, CastSpec] = field(default_factory=lambda: MappingProxyType({}))
    quantize: QuantSpec | None = None
    requantize: RequantSpec | None = None
    mx: Mapping[OpKey, MxSpec] = field(default_factory=lambda: MappingProxyType({}))
    functions: Mapping[OpKey, FunctionSpec] = field(default_factory=lambda: MappingProxyType({}))
    reductions: Mapping[OpKey, ReduceSpec] = field(default_factory=lambda: MappingProxyType({}))

    def contraction(self, op: str, a: str, b: str, out: str) -> AccumulatorSpec | None:
        """Returns the claim for one contraction, or None if unclaimed."""
        return _lookup(self.contractions, (op, a, b, out))

    def integer(self, op: str, a: str, b: str, out: str) -> IntSpec | None:
        """Returns the claim for one integer contraction, or None if unclaimed."""
        return _lookup(self.integers, (op, a, b, out))

    def function(self, op: str, fmt: str) -> FunctionSpec | None:
        """Returns the claim for one elementwise function, or None if unclaimed."""
        return _lookup(self.functions, (op, fmt))

    def cast(self, source: str, target: str) -> CastSpec | None:
        """Returns the claim for one conversion, or None if unclaimed."""
        return _lookup(self.casts, (source, target))

    def block(self, source: str, element: str) -> MxSpec | None:
        """Returns the claim for one MX element format, or None if unclaimed."""
        return _lookup(self.mx, (source, element))

    def reduction(self, op: str, fmt: str) -> ReduceSpec | None:
        """Returns the claim for one reduction, or None if unclaimed."""
        return _lookup(self.reductions, (op, fmt))


def _lookup(table: Mapping[Key, Spec], key: Key) -> Spec | None:
    """Finds the entry with the fewest wildcards; among equals, the leftmost exact one."""
    choices = cast("Iterable[Key]", product(*((part, "*") for part in key)))
    for choice in sorted(choices, key=lambda parts: parts.count("*")):
        if choice in table:
            return table[choice]
    return None
