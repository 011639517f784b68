"""What one accumulator does, as a record: the choices of "align, add, drop, store"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT16, FLOAT32, FLOAT64, Format

T = TypeVar("T")

Mode = Literal["rne", "rz", "rd", "ru"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulatorSpec:
    """What a backend claims of one accumulator; ``None`` marks a field as unclaimed or exact.

    Attributes:
        guarantee: Whether results equal the model's (``bit_exact``) or may be closer.
        significand_bits: Bits of a stored sum, hidden bit included.
        align_bits: Fraction bits below the largest exponent that alignment keeps; None: all.
        align_rounding: What happens to the bits that alignment drops.
        align_exponent: The exponent of a product: sum of the operands' exponent fields, that of
            the normalised product, or that of the block scales alone (block sums are exact).
        align_floor: Smallest exponent to align to.
        store_rounding: Rounding of a stored sum.
        sticky: Dropped bits are or-ed into one further bit; None: yes if alignment is exact.
        width: Products added in one chunk; 0: all of K; None: unclaimed.
        order: How K is dealt to chunks: neighbours together; or of each two chunks' worth the
            even positions first and the odd ones second; or ``interleaved``, the same with
            pairs of neighbours (0, 1, 4, 5, ... first); None: unclaimed.
        inside: How the products of a chunk add up: aligned at once, or in a balanced tree of
            additions that are each stored, as is the addition to the running sum.
        lanes: 2: the even and the odd products of a chunk are fused apart, and their sums cut
            downwards to ``align_bits`` where they meet.
        stage_bits: If given, the running sum does not take part in the alignment of the
            products: their sum, cut downwards to these fraction bits, meets the running sum,
            cut downwards to ``align_bits``, in a second step. None: one step.
        tree: How chunks combine: one after the other, as a balanced tree, or in n contiguous
            parts (``split_k:n``) added one after the other; None: unclaimed.
        addend: Where C enters: as the running sum of the first chunk, after all products in
            the store's whole format in RNE, or as that running sum rounded to
            ``significand_bits`` first. Where C is zero nothing is added, and a sum keeps the
            bits that it has.
        product_bits: Significand bits of a product; None: exact.
        promote_every: Products after which the sum moves to an outer accumulator.
        promote_bits: Significand bits of the outer accumulator, which adds in RNE.
        input_precision: What the operands are cut to, or split into.
        algorithm: How a convolution or product is evaluated.
        subnormals_in: Whether subnormal operands count.
        subnormals_out: Whether subnormal sums are kept.
        overflow: What a stored sum beyond the largest number becomes; ``wide`` has no limit
            until the end.
        product_overflow: Whether a product beyond the range of the accumulator is infinite.
            Infinities among sums follow IEEE 754-2019, 6.1 and 7.2: one of them stays, two of
            opposite signs are NaN, and NaN stays NaN.
        store_range: Format whose exponents a stored sum has; None: float32, or beyond 24 bits
            float64.
        deterministic: Whether equal inputs give equal bits every time.
    """

    guarantee: Literal["bit_exact", "at_least"] = "at_least"
    significand_bits: int = 24
    align_bits: int | None = None
    align_rounding: Mode = "rz"
    align_exponent: Literal["operand_fields", "normalized", "block_scale"] = "operand_fields"
    align_floor: int = -126
    store_rounding: Mode = "rne"
    sticky: bool | None = None
    width: int | None = None
    order: Literal["contiguous", "even_odd", "interleaved"] | None = None
    inside: Literal["fused", "pairwise"] = "fused"
    lanes: Literal[1, 2] = 1
    stage_bits: int | None = None
    tree: str | None = None
    addend: Literal["in_chunk", "separate", "initial"] = "in_chunk"
    product_bits: int | None = None
    promote_every: int | None = None
    promote_bits: int | None = None
    input_precision: Literal["native", "tf32", "bf16x9", "bf16x6", "bf16x3", "bf16"] = "native"
    algorithm: Literal["direct", "winograd_f2", "winograd_f4", "strassen", "fft"] = "direct"
    subnormals_in: Literal["keep", "flush"] = "keep"
    subnormals_out: Literal["keep", "flush"] = "keep"
    overflow: Literal["inf", "saturate", "wide"] = "inf"
    product_overflow: Literal["wide", "inf"] = "wide"
    store_range: Literal["float16", "float32", "float64"] | None = None
    deterministic: bool = True

    def __post_init__(self) -> None:
        for name, allowed in _allowed().items():
            if getattr(self, name) not in allowed:
                raise InvalidArgument(
                    f"{name}={getattr(self, name)!r}",
                    remedy="use one of " + ", ".join(map(repr, allowed)),
                )
        if not 2 <= self.significand_bits <= 64:
            raise InvalidArgument(f"significand_bits={self.significand_bits}", remedy="use 2 to 64")
        if (self.promote_every is None) != (self.promote_bits is None):
            raise InvalidArgument("promote_every and promote_bits belong together")
        if self.align_bits is None and (self.stage_bits is not None or self.lanes > 1):
            raise InvalidArgument(
                "stage_bits and lanes without align_bits", remedy="give align_bits as well"
            )
        for name in (
            "width",
            "align_bits",
            "stage_bits",
            "product_bits",
            "promote_every",
            "promote_bits",
        ):
            value = getattr(self, name)
            if value is not None and value < (
                0 if name in ("width", "align_bits", "stage_bits") else 1
            ):
                raise InvalidArgument(f"{name}={value}", remedy="use a positive number or None")
        parts_of(self.tree)

    @property
    def keeps_sticky(self) -> bool:
        """Whether dropped bits still count as one bit."""
        return self.align_bits is None if self.sticky is None else self.sticky

    @property
    def range_format(self) -> Format:
        """The format whose range, and for a separate addend whose precision, a sum has."""
        if self.store_range is not None:
            return _RANGES[self.store_range]
        return FLOAT32 if self.significand_bits <= FLOAT32.precision else FLOAT64

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal sum."""
        return self.range_format.emin

    @property
    def emax(self) -> int:
        """Exponent of the largest sum."""
        return self.range_format.emax

    def deal(self, items: Sequence[T]) -> list[Sequence[T]]:
        """Returns the chunks, in order, that ``width`` and ``order`` make of a row of K."""
        width = self.width or len(items) or 1
        if self.order not in _PERIODS:
            return [items[i : i + width] for i in range(0, len(items), width)]
        run = _PERIODS[self.order]
        found: list[Sequence[T]] = []
        for i in range(0, len(items), 2 * width):
            pair = items[i : i + 2 * width]
            found += [[x for j, x in enumerate(pair) if j // run % 2 == half] for half in (0, 1)]
        return [chunk for chunk in found if chunk]


_RANGES = {fmt.name: fmt for fmt in (FLOAT16, FLOAT32, FLOAT64)}
#: Neighbours that stay together where two chunks are dealt alternately.
_PERIODS: dict[str | None, int] = {"even_odd": 1, "interleaved": 2}


@cache
def _allowed() -> dict[str, tuple[Any, ...]]:
    """The values that each field with a choice of literals may have."""
    hints = get_type_hints(AccumulatorSpec)
    choices = {row.name: _choices(hints[row.name]) for row in fields(AccumulatorSpec)}
    return {name: allowed for name, allowed in choices.items() if allowed}


def _choices(hint: object) -> tuple[Any, ...]:
    """The literal values that a type hint allows; empty where it is not a choice."""
    found: list[Any] = []
    for part in (hint, *get_args(hint)):
        if part is type(None) or getattr(part, "__origin__", None) is Literal:
            found += get_args(part) or (None,)
    return tuple(found) if found != [None] else ()


def parts_of(tree: str | None) -> int:
    """Parts of K that are summed apart: 1 for sequential, 0 for one each chunk."""
    match (tree or "sequential").split(":"):
        case ["sequential"]:
            return 1
        case ["pairwise"]:
            return 0
        case ["split_k", parts] if parts.isdecimal() and int(parts) > 0:
            return int(parts)
    raise InvalidArgument(f"tree={tree!r}", remedy="use sequential, pairwise, split_k:n or None")


#: One chunk for all of K, nothing dropped, one rounding to float32 at the end.
EXACT = AccumulatorSpec(guarantee="bit_exact", width=0, order="contiguous", tree="sequential")
