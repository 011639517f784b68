"""Scalar models of the accumulators of matrix units, exact in Python integers.

A unit multiplies exactly, shifts the products of one *chunk* and the running sum to a common
exponent, drops what falls below, adds, and stores the sum with a limited significand. The fields
of ``AccumulatorSpec`` name the choices in that sentence. The model is that of Fasi, Higham,
Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores" (PeerJ CS 7:e330, 2021), and of
the public MATLAB-tensor-core and MMA-Sim projects; tests/numerics/test_accumulate.py replays
measured outputs of seven GPUs through it. Units that add in two steps or in rounded pairs are
those of MMA-Sim (Xie et al., arXiv 2511.10909).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT32, Format
from accelsdk.numerics.accumulator_spec import EXACT as EXACT
from accelsdk.numerics.accumulator_spec import AccumulatorSpec as AccumulatorSpec
from accelsdk.numerics.accumulator_spec import Mode as Mode
from accelsdk.numerics.accumulator_spec import parts_of
from accelsdk.numerics.rounding import Rounding

#: Products that a unit with block scales sums exactly (tcgen05 and mma, kind mxf4).
_EXACT_GROUP = 16
_MODES = {
    "rne": Rounding.NEAREST_EVEN,
    "rz": Rounding.TOWARD_ZERO,
    "rd": Rounding.DOWN,
    "ru": Rounding.UP,
}


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
        c: Addend, usually a float32 number; zero adds nothing, wherever it enters.
        spec: The accumulator; ``width`` and ``order`` must be claimed (``tree``: sequential).
        a_fmt: Format of ``a``: its smallest exponent is the field of its subnormals.
        b_fmt: Format of ``b``.
        scales: Power of two by which each product is scaled (MX: both block scales multiplied).
        block_size: Products that share a scale. Where scales set the exponents, 16 products or
            fewer are summed exactly first.

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
    addend, under = _flushed(float(c), spec).as_integer_ratio()
    finest = max(spec.significand_bits, spec.promote_bits or 0) - 1 - spec.emax
    unit = max([_log2(under), *depths, finest])  # the largest stored sum is whole, too
    model = _Model(spec, unit)
    group = min(block_size, _EXACT_GROUP)
    fields = [_field(x, a_fmt) + _field(y, b_fmt) for x, y in zip(left, right, strict=True)]
    terms = [
        model.term(x * y * w << (unit - depth), field, math.frexp(weight)[1] - 1, k // group)
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


def _flushed(c: float, spec: AccumulatorSpec) -> float:
    return 0.0 if spec.subnormals_in == "flush" and abs(c) < 2.0**spec.emin else c


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
        count = parts_of(spec.tree) or max(1, -(-len(terms) // (spec.width or len(terms) or 1)))
        length = -(-len(terms) // count)
        if not parts_of(spec.tree):
            length = spec.width or length
        parts = [terms[i : i + length] for i in range(0, len(terms), length)] if terms else [[]]
        sums = [self.part(part, 0 if i else start) for i, part in enumerate(parts)]
        total = self.combine(sums)
        if spec.addend == "separate" and c:
            total = self.add(total, c, spec.range_format.precision, "rne")
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
        for chunk in self.spec.deal(terms):
            running = self.fuse(chunk, running)
        return running

    def combine(self, sums: list[int | float]) -> int | float:
        bits, mode = self.spec.significand_bits, self.spec.store_rounding
        if parts_of(self.spec.tree):
            total = sums[0]
            for part in sums[1:]:
                total = self.add(total, part, bits, mode)
            return total
        while len(sums) > 1:  # neighbours; an odd one out moves up a level
            pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
            sums = [self.add(p[0], p[1], bits, mode) if len(p) > 1 else p[0] for p in pairs]
        return sums[0]

    def fuse(self, chunk: Sequence[_Term], running: int | float) -> int | float:
        """Adds the products of a chunk and the running sum, and stores the sum."""
        infinite = self.infinite(chunk)
        if infinite:
            return running + infinite if isinstance(running, float) else infinite
        if self.spec.inside == "pairwise":
            return self.pairwise(chunk, running)
        if isinstance(running, float):
            return running
        if self.spec.stage_bits is not None or self.spec.lanes > 1:
            return self.staged(chunk, running)
        if self.spec.align_exponent == "block_scale":
            live = _merge(chunk)  # a block of zeros still has a scale to align to
        else:
            live = [term for term in chunk if term.value]
        if running:
            live.append(_Term(running, self.exponent(running), -1))
        total, _ = self.aligned(live)
        return self.store(total, self.spec.significand_bits, self.spec.store_rounding)

    def infinite(self, chunk: Sequence[_Term]) -> float:
        """The sum of the products that are beyond the range; 0 if all are within."""
        if self.spec.product_overflow == "wide":
            return 0.0
        limit = _scaled(1 << self.unit, self.spec.emax + 1)
        return sum(math.copysign(math.inf, t.value) for t in chunk if abs(t.value) >= limit)

    def aligned(self, live: Sequence[_Term]) -> tuple[int, int]:
        """The sum of terms, cut where alignment cuts them, and the exponent they align to."""
        if not live:
            return 0, self.spec.align_floor
        largest = max(*(term.exponent for term in live), self.spec.align_floor)
        if self.spec.align_bits is None:
            return sum(term.value for term in live), largest
        drop = self.unit + largest - self.spec.align_bits
        return sum(self.align(term.value, drop) for term in live), largest

    def staged(self, chunk: Sequence[_Term], running: int) -> int | float:
        """The products first, in one lane or two; then their sum and the running sum."""
        spec, kept = self.spec, self.spec.align_bits or 0
        lanes = [chunk[i :: spec.lanes] for i in range(spec.lanes)]
        found = [self.aligned([term for term in lane if term.value]) for lane in lanes]
        largest = max(exponent for _, exponent in found)
        total = sum(_cut(value, self.unit + largest - kept) for value, _ in found)
        if running:
            largest = max(largest, self.exponent(running))
        stage = kept if spec.stage_bits is None else spec.stage_bits
        total = _cut(total, self.unit + largest - stage)
        total += _cut(running, self.unit + largest - kept)
        return self.store(total, spec.significand_bits, spec.store_rounding)

    def pairwise(self, chunk: Sequence[_Term], running: int | float) -> int | float:
        """A balanced tree of stored additions, and one more for the running sum."""
        bits, mode = self.spec.significand_bits, self.spec.store_rounding
        sums = [self.store(term.value, bits, mode) for term in chunk]
        while len(sums) > 1:
            pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
            sums = [self.add(p[0], p[1], bits, mode) if len(p) > 1 else p[0] for p in pairs]
        return self.add(running, sums[0], bits, mode) if sums else running

    def align(self, value: int, drop: int) -> int:
        if self.spec.keeps_sticky:
            return _round_off(value, drop - 1, Rounding.TO_ODD)
        return _round_off(value, drop, _MODES[self.spec.align_rounding])

    def exponent(self, value: int) -> int:
        return max(abs(value).bit_length() - 1 - self.unit, self.spec.emin)

    def add(self, x: int | float, y: int | float, bits: int, mode: Mode) -> int | float:
        if isinstance(x, float) or isinstance(y, float):  # Inf or NaN: the other may be any size
            return sum(part for part in (x, y) if isinstance(part, float))
        return self.store(x + y, bits, mode)

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


def _merge(chunk: Sequence[_Term]) -> list[_Term]:
    """The exact sum of each block's products."""
    blocks: dict[int, _Term] = {}
    for term in chunk:
        before = blocks[term.block].value if term.block in blocks else 0
        blocks[term.block] = _Term(before + term.value, term.exponent, term.block)
    return list(blocks.values())


def _cut(value: int, drop: int) -> int:
    return _round_off(value, drop, Rounding.DOWN)


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
