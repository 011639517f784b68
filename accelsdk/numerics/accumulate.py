"""Scalar models of the accumulators of matrix units, exact in Python integers.

A unit multiplies exactly, shifts the products of one *chunk* and the running sum to a common
exponent, drops what falls below, adds, and stores the sum with a limited significand. The fields
of ``AccumulatorSpec`` name the choices in that sentence. The model is that of Fasi, Higham,
Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores" (PeerJ CS 7:e330, 2021), and of
the public MATLAB-tensor-core and MMA-Sim projects; tests/numerics/test_accumulate.py replays
measured outputs of seven GPUs through it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk.numerics.rounding import Rounding

Mode = Literal["rne", "rz", "rd", "ru"]

_MODES = {
    "rne": Rounding.NEAREST_EVEN,
    "rz": Rounding.TOWARD_ZERO,
    "rd": Rounding.DOWN,
    "ru": Rounding.UP,
}


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
        order: How K is dealt to chunks: neighbours together, or of each two chunks' worth the
            even positions first and the odd ones second; None: unclaimed.
        tree: How chunks combine: one after the other, as a balanced tree, or in n contiguous
            parts (``split_k:n``) added one after the other; None: unclaimed.
        addend: Where C enters: as the running sum of the first chunk, after all products in
            float32 RNE, or as that running sum rounded to ``significand_bits`` first.
        product_bits: Significand bits of a product; None: exact.
        promote_every: Products after which the sum moves to an outer accumulator.
        promote_bits: Significand bits of the outer accumulator, which adds in RNE.
        input_precision: What the operands are cut to, or split into.
        algorithm: How a convolution or product is evaluated.
        subnormals_in: Whether subnormal operands count.
        subnormals_out: Whether subnormal sums are kept.
        overflow: What a stored sum beyond the largest number becomes; ``wide`` has no limit
            until the end.
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
    order: Literal["contiguous", "even_odd"] | None = None
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
    deterministic: bool = True

    def __post_init__(self) -> None:
        hints = get_type_hints(AccumulatorSpec)
        for row in fields(self):
            allowed = _choices(hints[row.name])
            if allowed and getattr(self, row.name) not in allowed:
                raise InvalidArgument(
                    f"{row.name}={getattr(self, row.name)!r}",
                    remedy="use one of " + ", ".join(map(repr, allowed)),
                )
        if not 2 <= self.significand_bits <= 64:
            raise InvalidArgument(f"significand_bits={self.significand_bits}", remedy="use 2 to 64")
        if (self.promote_every is None) != (self.promote_bits is None):
            raise InvalidArgument("promote_every and promote_bits belong together")
        for name in ("width", "align_bits", "product_bits", "promote_every", "promote_bits"):
            value = getattr(self, name)
            if value is not None and value < (0 if name in ("width", "align_bits") else 1):
                raise InvalidArgument(f"{name}={value}", remedy="use a positive number or None")
        _parts_of(self.tree)

    @property
    def keeps_sticky(self) -> bool:
        """Whether dropped bits still count as one bit."""
        return self.align_bits is None if self.sticky is None else self.sticky

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal sum: float32's, or float64's beyond 24 bits."""
        return (FLOAT32 if self.significand_bits <= FLOAT32.precision else FLOAT64).emin

    @property
    def emax(self) -> int:
        """Exponent of the largest sum."""
        return (FLOAT32 if self.significand_bits <= FLOAT32.precision else FLOAT64).emax


def _choices(hint: object) -> tuple[Any, ...]:
    """The literal values that a type hint allows; empty where it is not a choice."""
    found: list[Any] = []
    for part in (hint, *get_args(hint)):
        if part is type(None) or getattr(part, "__origin__", None) is Literal:
            found += get_args(part) or (None,)
    return tuple(found) if found != [None] else ()


def _parts_of(tree: str | None) -> int:
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


@dataclass(frozen=True, slots=True)
class _Term:
    value: int  # in units of the dot's common power of two
    exponent: int  # what alignment takes for its exponent
    block: int  # which block scale it has


def dot(
    a: Sequence[float],
    b: Sequence[float],
    c: float = 0.0,
    spec: AccumulatorSpec = EXACT,
    *,
    a_fmt: Format = FLOAT32,
    b_fmt: Format = FLOAT32,
    scales: Sequence[float] | None = None,
    block_size: int = 32,
) -> float:
    """Returns ``sum(a * b * scales) + c`` as the described unit computes it.

    Args:
        a: K operands, each a value of ``a_fmt``.
        b: K operands, each a value of ``b_fmt``.
        c: Addend, usually a float32 number.
        spec: The accumulator; ``width`` and ``order`` must be claimed (``tree``: sequential).
        a_fmt: Format of ``a``: its smallest exponent is the field of its subnormals.
        b_fmt: Format of ``b``.
        scales: Power of two by which each product is scaled (MX: both block scales multiplied).
        block_size: Products that share a scale.

    Returns:
        The stored sum, before any conversion to an output format. Signs of zero do not count.

    Raises:
        InvalidArgument: Lengths differ, or the spec cannot be simulated: unclaimed fields, an
            input precision other than native, an algorithm other than direct.
    """
    _check(a, b, scales, spec)
    weights = [1.0] * len(a) if scales is None else [float(w) for w in scales]
    left, right = _operands(a, a_fmt, spec), _operands(b, b_fmt, spec)
    special = _special(left, right, weights, c)
    if special is not None:
        return special
    factors = [
        (x.as_integer_ratio(), y.as_integer_ratio(), w.as_integer_ratio())
        for x, y, w in zip(left, right, weights, strict=True)
    ]
    depths = [sum(_log2(denominator) for _, denominator in product) for product in factors]
    addend, under = float(c).as_integer_ratio()
    unit = max([_log2(under), *depths])
    model = _Model(spec, unit)
    fields = [_field(x, a_fmt) + _field(y, b_fmt) for x, y in zip(left, right, strict=True)]
    terms = [
        model.term(x * y * w << (unit - depth), field, math.frexp(weight)[1] - 1, k // block_size)
        for k, (((x, _), (y, _), (w, _)), depth, field, weight) in enumerate(
            zip(factors, depths, fields, weights, strict=True)
        )
    ]
    return model.dot(terms, addend << (unit - _log2(under)))


def _check(
    a: Sequence[float], b: Sequence[float], scales: Sequence[float] | None, spec: AccumulatorSpec
) -> None:
    if len(a) != len(b) or (scales is not None and len(scales) != len(a)):
        raise InvalidArgument(f"operands of {len(a)} and {len(b)} elements")
    if spec.width is None or spec.order is None:
        raise InvalidArgument(
            "width or order is unclaimed", remedy="claim both, or use the order-free bound"
        )
    if spec.input_precision != "native" or spec.algorithm != "direct":
        raise InvalidArgument(
            f"no exact model of {spec.input_precision} inputs and {spec.algorithm} evaluation",
            remedy="use the any-order bound",
        )


def _operands(values: Sequence[float], fmt: Format, spec: AccumulatorSpec) -> list[float]:
    if spec.subnormals_in == "keep":
        return [float(v) for v in values]
    return [v if abs(v) >= fmt.smallest_normal or v != v else 0.0 for v in map(float, values)]


def _log2(power: int) -> int:
    return power.bit_length() - 1


def _field(value: float, fmt: Format) -> int:
    """Exponent of the operand's field: a subnormal has that of the smallest normal.

    A fixed-point number has no field; its exponent is that of its leading digit.
    """
    exponent = math.frexp(value)[1] - 1
    return max(exponent, fmt.emin) if fmt.is_float else exponent


def _special(
    left: Sequence[float], right: Sequence[float], weights: Sequence[float], c: float
) -> float | None:
    """IEEE rules for NaN and infinite operands; None if every operand is finite."""
    total = 0.0 if math.isfinite(c) else c
    for x, y, w in zip(left, right, weights, strict=True):
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w)):
            total += x * y * w  # 0 * Inf and Inf - Inf are NaN in Python too
    return None if total == 0.0 else total


class _Model:
    """The arithmetic of one unit; every finite sum is an integer times ``2**-unit``.

    A sum that overflowed to infinity is carried as a Python float instead.
    """

    def __init__(self, spec: AccumulatorSpec, unit: int) -> None:
        self.spec = spec
        self.unit = unit

    def term(self, value: int, field: int, scale: int, block: int) -> _Term:
        bits, mode = self.spec.product_bits, _MODES[self.spec.store_rounding]
        if bits is not None:
            value = _round_off(value, abs(value).bit_length() - bits, mode)
        match self.spec.align_exponent:
            case "operand_fields":
                return _Term(value, field + scale, block)
            case "normalized":
                return _Term(value, abs(value).bit_length() - 1 - self.unit, block)
            case "block_scale":
                return _Term(value, scale, block)

    def dot(self, terms: list[_Term], c: int) -> float:
        spec = self.spec
        start: int | float = 0 if spec.addend == "separate" else c
        if spec.addend == "initial":
            start = self.store(c, spec.significand_bits, spec.store_rounding)
        count = _parts_of(spec.tree) or max(1, -(-len(terms) // (spec.width or len(terms) or 1)))
        length = -(-len(terms) // count)
        if not _parts_of(spec.tree):
            length = spec.width or length
        parts = [terms[i : i + length] for i in range(0, len(terms), length)] if terms else [[]]
        sums = [self.part(part, 0 if i else start) for i, part in enumerate(parts)]
        total = self.combine(sums)
        if spec.addend == "separate":
            total = self.add(total, c, FLOAT32.precision, "rne")
        if isinstance(total, float):
            return total
        return self.to_float(total)

    def part(self, terms: list[_Term], start: int | float) -> int | float:
        """Sums one contiguous part of K, promoting as it goes."""
        every, bits = self.spec.promote_every, self.spec.promote_bits
        if every is None or bits is None:
            return self.chain(terms, start)
        outer: int | float = 0
        for i in range(0, max(len(terms), 1), every):
            outer = self.add(
                outer, self.chain(terms[i : i + every], 0 if i else start), bits, "rne"
            )
        return outer

    def chain(self, terms: list[_Term], start: int | float) -> int | float:
        """Feeds chunk after chunk into a running sum."""
        running = start
        width = self.spec.width or len(terms) or 1
        if self.spec.order == "even_odd":
            pairs = [terms[i : i + 2 * width] for i in range(0, len(terms), 2 * width)]
            chunks = [half for pair in pairs for half in (pair[0::2], pair[1::2])]
        else:
            chunks = [terms[i : i + width] for i in range(0, len(terms), width)]
        for chunk in chunks:
            running = self.fuse(chunk, running)
        return running

    def combine(self, sums: list[int | float]) -> int | float:
        bits, mode = self.spec.significand_bits, self.spec.store_rounding
        if _parts_of(self.spec.tree):
            total = sums[0]
            for part in sums[1:]:
                total = self.add(total, part, bits, mode)
            return total
        while len(sums) > 1:  # neighbours; an odd one out moves up a level
            pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
            sums = [self.add(p[0], p[1], bits, mode) if len(p) > 1 else p[0] for p in pairs]
        return sums[0]

    def fuse(self, chunk: list[_Term], running: int | float) -> int | float:
        """Aligns the products of a chunk and the running sum, adds them and stores the sum."""
        if isinstance(running, float):
            return running
        if self.spec.align_exponent == "block_scale":
            live = _merge(chunk)  # a block of zeros still has a scale to align to
        else:
            live = [term for term in chunk if term.value]
        values, exponents = [t.value for t in live], [t.exponent for t in live]
        if running:
            values.append(running)
            exponents.append(self.exponent(running))
        if self.spec.align_bits is not None and values:
            largest = max(*exponents, self.spec.align_floor)
            drop = self.unit + largest - self.spec.align_bits
            values = [self.align(value, drop) for value in values]
        return self.store(sum(values), self.spec.significand_bits, self.spec.store_rounding)

    def align(self, value: int, drop: int) -> int:
        if self.spec.keeps_sticky:
            return _round_off(value, drop - 1, Rounding.TO_ODD)
        return _round_off(value, drop, _MODES[self.spec.align_rounding])

    def exponent(self, value: int) -> int:
        return max(abs(value).bit_length() - 1 - self.unit, self.spec.emin)

    def add(self, x: int | float, y: int | float, bits: int, mode: Mode) -> int | float:
        total = x + y
        return total if isinstance(total, float) else self.store(total, bits, mode)

    def store(self, value: int, bits: int, mode: Mode) -> int | float:
        """Rounds a sum to ``bits`` significand bits in the range of the accumulator."""
        spec = self.spec
        stored = _round_off(value, self.unit + self.exponent(value) - bits + 1, _MODES[mode])
        if spec.subnormals_out == "flush" and _scaled(abs(stored), -spec.emin) < 1 << self.unit:
            return 0
        limit = self.limit(bits)
        if abs(stored) <= limit or spec.overflow == "wide":
            return stored
        if spec.overflow == "saturate":
            return limit if stored > 0 else -limit
        return math.copysign(math.inf, stored)

    def limit(self, bits: int) -> int:
        return ((1 << bits) - 1) << (self.spec.emax - bits + 1 + self.unit)

    def to_float(self, total: int) -> float:
        if abs(total) > self.limit(self.spec.significand_bits):
            return math.copysign(math.inf, total)
        return total / (1 << self.unit)  # the quotient of two ints is correctly rounded


def _merge(chunk: list[_Term]) -> list[_Term]:
    """The exact sum of each block's products."""
    blocks: dict[int, _Term] = {}
    for term in chunk:
        before = blocks[term.block].value if term.block in blocks else 0
        blocks[term.block] = _Term(before + term.value, term.exponent, term.block)
    return list(blocks.values())


def _scaled(value: int, exponent: int) -> int:
    return value << exponent if exponent >= 0 else value >> -exponent


def _round_off(value: int, drop: int, mode: Rounding) -> int:
    """Rounds to a multiple of ``2**drop``; nothing to do if ``drop`` is not positive."""
    if drop <= 0:
        return value
    below = value >> drop
    rest = value - (below << drop)
    half = 1 << (drop - 1)
    match mode:
        case Rounding.NEAREST_EVEN:
            up = rest > half or (rest == half and below % 2 == 1)
        case Rounding.TOWARD_ZERO:
            up = rest > 0 and value < 0
        case Rounding.UP:
            up = rest > 0
        case Rounding.DOWN:
            up = False
        case Rounding.TO_ODD:
            up = rest > 0 and below % 2 == 0
        case _:
            raise InvalidArgument(f"accumulators do not round {mode}")
    return (below + up) << drop
