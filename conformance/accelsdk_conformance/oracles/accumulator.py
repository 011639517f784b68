"""The declared accumulator, simulated on whole arrays: what tier T1 compares with.

A second writing of the model in ``accelsdk.numerics.accumulate`` (whose scalar form the tests
hold it against), from the same sentence: multiply exactly, align the products of one chunk and
the running sum to their largest exponent, drop what falls below, add, store. Every field of the
declaration is modelled. Numbers are float64; where an aligned sum might not fit its 53 bits,
the sum is formed in limbs and rounded to odd, so that the store is the one rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.oracles.contraction import (
    F64,
    NOTHING,
    Factors,
    floor_log2,
)
from accelsdk_conformance.oracles.doubled import two_sum
from accelsdk_conformance.oracles.tensor import to_odd

I64 = NDArray[np.int64]
Lane = slice | I64  # positions of K
#: Products that a unit with block scales sums exactly (the model's own limit).
_EXACT_GROUP = 16
_STEPS = 300  # chunks that one case may take: more would cost more than they tell


def orders(spec: AccumulatorSpec) -> bool:
    """Says whether a claim fixes which products meet in which order."""
    return None not in (spec.width, spec.order, spec.tree)


def simulate(
    factors: Factors, spec: AccumulatorSpec, block: int = 0, *, most: int = _STEPS
) -> F64 | None:
    """Returns ``a[M, K] @ b[K, N] + c`` as the declared unit computes it.

    Args:
        factors: Finite operands; the addend enters where the claim says.
        spec: The claim.
        block: Products that share a scale, or 0.
        most: Chunks that a simulation may take.

    Returns:
        The stored sums, or None if the claim leaves open what a simulation needs.
    """
    exact = factors.bits <= 53 and spec.significand_bits <= 50 and (spec.promote_bits or 0) <= 50
    if not (exact and orders(spec)):
        return None
    if spec.input_precision != "native" or spec.algorithm != "direct":
        return None
    plain = spec.lanes == 1 and spec.stage_bits is None and spec.inside == "fused"
    if spec.align_exponent == "block_scale" and not (plain and spec.product_overflow == "wide"):
        return None  # no unit is known that has both
    if len(chunks(factors.depth, spec)) > most:
        return None
    if spec.subnormals_in == "flush":
        factors = flushed(factors, spec)
    with np.errstate(invalid="ignore", over="ignore"):
        return _Unit(factors, spec, block).run()


def flushed(factors: Factors, spec: AccumulatorSpec) -> Factors:
    """Returns operands without their subnormals: those below what their field says."""
    a, b = (
        np.where(np.abs(x) < np.ldexp(1.0, np.maximum(field, -1000)), 0.0, x)
        for x, field in ((factors.a, factors.a_field), (factors.b, factors.b_field))
    )
    c = factors.addend
    return replace(
        factors,
        a=a,
        b=b,
        a_field=np.where(a == 0, NOTHING, factors.a_field).astype(np.int16),
        b_field=np.where(b == 0, NOTHING, factors.b_field).astype(np.int16),
        addend=None if c is None else np.where(np.abs(c) < 2.0**spec.emin, 0.0, c),
    )


def parts(k: int, spec: AccumulatorSpec) -> list[slice]:
    """Returns the contiguous parts of K that are summed apart and joined afterwards."""
    match (spec.tree or "sequential").split(":"):
        case ["pairwise"]:
            length = spec.width or k
        case ["split_k", count]:
            length = -(-k // int(count))
        case _:
            length = k
    length = max(length, 1)
    return [slice(i, min(i + length, k)) for i in range(0, k, length)] or [slice(0, 0)]


def dealt(start: int, stop: int, spec: AccumulatorSpec) -> list[Lane]:
    """Returns the positions of K that each chunk of one run takes."""
    if spec.order == "contiguous":
        width = spec.width or max(stop - start, 1)
        return [slice(i, min(i + width, stop)) for i in range(start, stop, width)]
    return [np.array(lane) for lane in spec.deal(range(start, stop))]


def chunks(k: int, spec: AccumulatorSpec) -> list[Lane]:
    """Returns the positions that each chunk takes, in the order of the declaration."""
    return [
        lane
        for part in parts(k, spec)
        for run in _runs(part, spec)
        for lane in dealt(run.start, run.stop, spec)
    ]


def _runs(part: slice, spec: AccumulatorSpec) -> list[slice]:
    """Cuts a part where the sum moves to the outer accumulator."""
    every = spec.promote_every or max(part.stop - part.start, 1)
    starts = range(part.start, max(part.stop, part.start + 1), every)
    return [slice(i, min(i + every, part.stop)) for i in starts]


class _Unit:
    """One product, from the first chunk to the last."""

    def __init__(self, factors: Factors, spec: AccumulatorSpec, block: int) -> None:
        self.factors = factors
        self.spec = spec
        self.group = min(block or 32, _EXACT_GROUP)
        self.shape = (factors.a.shape[0], factors.b.shape[1])

    def run(self) -> F64:
        spec, c = self.spec, self.factors.addend
        start = np.zeros(self.shape) if c is None or spec.addend == "separate" else c
        if spec.addend == "initial" and c is not None:
            start = self.store(c, spec.significand_bits, spec.store_rounding)
        sums = [
            self.part(part, start if i == 0 else np.zeros(self.shape))
            for i, part in enumerate(parts(self.factors.depth, spec))
        ]
        total = self.combine(sums)
        if spec.addend == "separate" and c is not None:
            added = self.add(total, c, spec.range_format.precision, "rne")
            total = np.where(c == 0, total, added)
        limit = self.limit(spec.significand_bits)
        return np.where(np.abs(total) > limit, np.copysign(np.inf, total), total)

    def part(self, part: slice, start: F64) -> F64:
        if self.spec.promote_every is None:
            return self.chain(part, start)
        outer = np.zeros(self.shape)
        for i, run in enumerate(_runs(part, self.spec)):
            inner = self.chain(run, np.zeros(self.shape) if i else start)
            outer = self.add(outer, inner, self.spec.promote_bits or 24, "rne")
        return outer

    def chain(self, run: slice, running: F64) -> F64:
        for lane in dealt(run.start, run.stop, self.spec):
            running = self.fuse(lane, running)
        return running

    def combine(self, sums: list[F64]) -> F64:
        bits, mode = self.spec.significand_bits, self.spec.store_rounding
        if self.spec.tree != "pairwise":
            total = sums[0]
            for part in sums[1:]:
                total = self.add(total, part, bits, mode)
            return total
        while len(sums) > 1:  # neighbours; an odd one out moves up a level
            pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
            sums = [self.add(p[0], p[1], bits, mode) if len(p) > 1 else p[0] for p in pairs]
        return sums[0]

    def terms(self, lane: Lane) -> tuple[F64, I64]:
        """Returns the terms of one chunk [terms, M, N], and the exponents they align by."""
        f, spec = self.factors, self.spec
        values = f.a.T[lane, :, None] * f.b[lane, None, :]
        if spec.product_bits is not None:
            step = np.ldexp(1.0, floor_log2(values).clip(-1000) - spec.product_bits + 1)
            values = drop(values, step, spec.store_rounding)
        match spec.align_exponent:
            case "operand_fields":
                exponents = f.a_field.T[lane, :, None] + f.b_field[lane, None, :]
                return values, exponents.astype(np.int64)
            case "normalized":
                return values, floor_log2(values)
            case "block_scale":
                return self.merged(lane, values)

    def merged(self, lane: Lane, values: F64) -> tuple[F64, I64]:
        """The exact sum of each block's products, at the exponent of its scales."""
        f = self.factors
        block = np.arange(f.depth)[lane] // self.group
        firsts = np.flatnonzero(np.diff(block, prepend=-1))
        sums = np.stack(
            [exact_sum(part) for part in np.split(values, firsts[1:])] or [np.zeros(self.shape)]
        )
        left, right = f.a_scale.T[lane][firsts], f.b_scale[lane][firsts]
        return sums, (left[:, :, None] + right[:, None, :]).astype(np.int64)

    def fuse(self, lane: Lane, running: F64) -> F64:
        """Adds the products of a chunk and the running sum, and stores the sum."""
        values, exponents = self.terms(lane)
        infinite = np.zeros(self.shape)
        if self.spec.product_overflow == "inf":
            beyond = np.abs(values) / 2.0 >= 2.0**self.spec.emax
            infinite = np.where(beyond, np.copysign(np.inf, values), 0.0).sum(axis=0)
        if self.spec.inside == "pairwise":  # whose own additions may overflow the other way
            return np.where(infinite == 0, self.pairwise(values, running), running + infinite)
        lost = ~np.isfinite(running) | ~np.isfinite(infinite)
        rest = np.where(lost, 0.0, running)
        if self.spec.stage_bits is not None or self.spec.lanes > 1:
            found = self.staged(values, exponents, rest)
        else:
            total, _ = self.aligned([*values, rest], [*exponents, self.exponent(rest)])
            found = self.store(total, self.spec.significand_bits, self.spec.store_rounding)
        return np.where(lost, running + infinite, found)

    def exponent(self, running: F64) -> I64:
        return np.where(running != 0, np.maximum(floor_log2(running), self.spec.emin), NOTHING)

    def aligned(
        self, terms: Sequence[F64] | F64, exponents: Sequence[I64] | I64
    ) -> tuple[F64, I64]:
        """The sum of terms, cut where alignment cuts them, and the exponent they align to."""
        spec, values = self.spec, np.asarray(terms)
        live = exponents if spec.align_exponent == "block_scale" else (
            np.where(values != 0, np.asarray(exponents), NOTHING)
        )  # fmt: skip
        largest = np.maximum(np.max(live, axis=0), spec.align_floor)
        if spec.align_bits is None:
            return exact_sum(values), largest
        sticky = spec.keeps_sticky
        unit = np.ldexp(1.0, largest - spec.align_bits - sticky)
        values = drop(values, unit, "odd" if sticky else spec.align_rounding)
        if np.all(np.abs(values).sum(axis=0) < unit * 2.0**53):
            return values.sum(axis=0), largest
        return exact_sum(values), largest

    def staged(self, values: F64, exponents: I64, running: F64) -> F64:
        """The products first, in one lane or two; then their sum and the running sum."""
        spec, kept = self.spec, self.spec.align_bits or 0
        blank = np.zeros((1, *self.shape)), np.full((1, *self.shape), NOTHING)
        found = [
            self.aligned(
                np.concatenate([values[i :: spec.lanes], blank[0]]),
                np.concatenate([exponents[i :: spec.lanes], blank[1]]),
            )
            for i in range(spec.lanes)
        ]
        largest = np.max([exponent for _, exponent in found], axis=0)
        unit = np.ldexp(1.0, largest - kept)
        total = exact_sum([drop(value, unit, "rd") for value, _ in found])
        top = np.maximum(largest, self.exponent(running))
        stage = kept if spec.stage_bits is None else spec.stage_bits
        total = exact_sum(
            [
                drop(total, np.ldexp(1.0, top - stage), "rd"),
                drop(running, np.ldexp(1.0, top - kept), "rd"),
            ]
        )
        return self.store(total, spec.significand_bits, spec.store_rounding)

    def pairwise(self, values: F64, running: F64) -> F64:
        """A balanced tree of stored additions, and one more for the running sum."""
        bits, mode = self.spec.significand_bits, self.spec.store_rounding
        sums = [self.store(value, bits, mode) for value in values]
        while len(sums) > 1:
            pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
            sums = [self.add(p[0], p[1], bits, mode) if len(p) > 1 else p[0] for p in pairs]
        return self.add(running, sums[0], bits, mode) if sums else running

    def add(self, x: F64, y: F64, bits: int, mode: str) -> F64:
        exact = two_sum(x, y)
        finite = np.isfinite(exact.high)
        if bits == 53 and mode == "rne":
            return self.store(exact.high, bits, mode)
        total = to_odd(np.where(finite, exact.high, 0.0), np.where(finite, exact.low, 0.0))
        return np.where(finite, self.store(total, bits, mode), exact.high)

    def store(self, x: F64, bits: int, mode: str) -> F64:
        """Rounds sums to ``bits`` significand bits in the range of the accumulator."""
        spec = self.spec
        exponent = np.maximum(floor_log2(x), spec.emin)
        stored = drop(x, np.ldexp(1.0, exponent - bits + 1), mode)
        if spec.subnormals_out == "flush":
            stored = np.where(np.abs(stored) < 2.0**spec.emin, 0.0, stored)
        if spec.overflow == "wide":
            return stored
        limit = self.limit(bits)
        beyond = limit if spec.overflow == "saturate" else np.inf
        return np.where(np.abs(stored) > limit, np.copysign(beyond, stored), stored)

    def limit(self, bits: int) -> float:
        return float((1 << bits) - 1) * 2.0 ** (self.spec.emax - bits + 1)


def drop(x: F64, unit: F64, mode: str) -> F64:
    """Rounds to multiples of ``unit``, powers of two; ``odd``: to the odd one of two."""
    steps = x / unit
    match mode:
        case "rz":
            whole = np.trunc(steps)
        case "rd":
            whole = np.floor(steps)
        case "ru":
            whole = np.ceil(steps)
        case "odd":
            below = np.floor(steps)
            whole = below + ((steps != below) & (np.mod(below, 2.0) == 0))
        case _:
            whole = np.rint(steps)
    return whole * unit


def exact_sum(terms: Sequence[F64] | F64) -> F64:
    """Sums arrays exactly and rounds to odd at 53 bits.

    Terms are cut into limbs below the largest one; each limb adds up exactly, and limbs are
    joined from the lowest, on the magnitude, where nothing cancels.
    """
    stack = np.asarray(terms)
    if len(stack) == 1:
        return np.asarray(stack[0])
    width = 51 - len(stack).bit_length()
    top = floor_log2(np.abs(stack).max(axis=0)).clip(-1000)
    rest = np.ldexp(stack, width - 1 - top)
    limbs: list[F64] = []
    while rest.any() or not limbs:
        whole = np.trunc(rest)
        limbs.append(whole.sum(axis=0))
        rest = (rest - whole) * 2.0**width
    negative = _carried(limbs, width)[0] < 0
    limbs = _carried([np.where(negative, -limb, limb) for limb in limbs], width)
    found = np.zeros(top.shape)
    for limb in reversed(limbs):
        found = to_odd(*two_sum(limb, found * 2.0**-width))
    sign = np.where(negative, -1.0, 1.0)
    return np.asarray(sign * np.ldexp(found, top - width + 1))


def _carried(limbs: list[F64], width: int) -> list[F64]:
    """Moves carries up, so that only the first limb has a sign."""
    found = list(limbs)
    for i in reversed(range(1, len(found))):
        carry = np.floor(found[i] * 2.0**-width)
        found[i] = found[i] - carry * 2.0**width
        found[i - 1] = found[i - 1] + carry
    return found
