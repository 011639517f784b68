"""The matrix engine for floating point: products, alignment and stores as the spec says.

One fused step takes a chunk of products and the running sum, shifts all of them to the
largest exponent, drops what falls below the kept fraction bits, adds, and stores the sum with
a limited significand (Fasi, Higham, Mikaitis and Pranesh, PeerJ CS 7:e330, 2021). Each step is
computed for all outputs at once in float64, where every intermediate is exact: an aligned
term is an integer below 2**(F+2), and a chunk of them stays below 2**53. Units that add in two
steps, or in a tree of rounded pairs, are those of MMA-Sim (arXiv 2511.10909).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import Unimplemented
from accelsdk.formats import FLOAT32, Format
from accelsdk.numerics.accumulate import AccumulatorSpec

#: Products that are formed at a time: their temporaries stay in the second-level cache.
_TILE = 1 << 16
#: Exponent of a zero product: never the largest.
_NO_EXPONENT = -(1 << 13)
#: Products that a unit with block scales sums exactly.
_EXACT_GROUP = 16
#: Fraction bits of one limb where nothing may be dropped.
_LIMB = 44

Doubles = NDArray[np.float64]
Exponents = NDArray[np.int16]
#: Positions of K that one chunk takes.
Part = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product: values, and the exponent fields that alignment looks at."""

    values: Doubles
    exponents: Exponents

    @classmethod
    def of(
        cls,
        values: Doubles,
        fmt: Format,
        scale: NDArray[np.int16] | None = None,
        spec: AccumulatorSpec | None = None,
    ) -> Operand:
        """Makes an operand of finite values.

        Args:
            values: Values of ``fmt``, exact in float64.
            fmt: Its smallest exponent is the field of a subnormal.
            scale: Exponent of the power of two that multiplies each value, or None.
            spec: The unit that takes them in; None: one that looks at the fields of all.
        """
        if spec is not None and spec.subnormals_in == "flush":
            values = np.where(np.abs(values) < fmt.smallest_normal, 0.0, values)
        if spec is not None and spec.align_exponent == "block_scale":
            if scale is None:
                return cls(values, np.zeros(values.shape, np.int16))
            return cls(np.ldexp(values, scale), scale)
        exponents = np.frexp(values)[1].astype(np.int16)
        exponents -= 1
        if fmt.is_float:  # fixed-point numbers have no field but their leading digit
            np.maximum(exponents, fmt.emin, out=exponents)
        if scale is not None:
            values = np.ldexp(values, scale)
            exponents += scale
        exponents[values == 0] = _NO_EXPONENT
        return cls(values, exponents)


def check(spec: AccumulatorSpec) -> None:
    """Raises Unimplemented if the engine cannot be built to a spec."""
    plain = (
        spec.width is not None
        and spec.order is not None
        and (spec.tree or "sequential") == "sequential"
        and spec.align_exponent in ("operand_fields", "block_scale")
        and spec.input_precision == "native"
        and spec.algorithm == "direct"
        and spec.significand_bits <= 24
        and (spec.align_bits is None or spec.align_bits <= 40)
        and (spec.stage_bits is None or spec.stage_bits <= 40)
        and (spec.align_bits is None or not spec.sticky)
    )
    if not plain:
        raise Unimplemented(
            f"the matrix engine has no {spec}",
            remedy="claim width and order, a sequential tree and at most 40 alignment bits",
        )


def contract(
    a: Operand, b: Operand, spec: AccumulatorSpec, c: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Returns ``a @ b + c`` as the described unit computes it.

    Args:
        a: ``[M, K]``; may hold NaN and infinities.
        b: ``[K, N]``, likewise.
        spec: The accumulator; see `check`.
        c: Addend ``[M, N]``, or None for zero.
    """
    rows, length = a.values.shape
    columns = b.values.shape[1]
    out = np.zeros((rows, columns), np.float32)
    if c is None and (not length or not out.size):
        return out
    finite = np.isfinite(a.values).all() and np.isfinite(b.values).all()
    left, right = (a, b) if finite else (_finite(a), _finite(b))
    if spec.subnormals_in == "flush" and c is not None:
        c = np.where(np.abs(c) < 2.0**spec.emin, np.float32(0), c)
    width = max(spec.width or length, 1)
    step = max(1, _TILE // max(1, min(width, length) * columns))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        addend = None if c is None else c[part].astype(np.float64)
        unit = _Unit(spec, left.values[part], left.exponents[part], right)
        out[part] = unit.run(width, addend)
    if not finite:
        _place_special(out, a.values, b.values)
    return out


def _finite(operand: Operand) -> Operand:
    bad = ~np.isfinite(operand.values)
    return Operand(
        np.where(bad, 0.0, operand.values), np.where(bad, _NO_EXPONENT, operand.exponents)
    )


def _place_special(out: NDArray[np.float32], a: Doubles, b: Doubles) -> None:
    """IEEE rules for NaN and infinite operands: a float64 product knows them all."""
    with np.errstate(invalid="ignore", over="ignore"):
        plain = np.matmul(a, b)
    special = ~np.isfinite(plain)
    out[special] = plain[special]


class _Unit:
    """Rows of one output tile, from the first chunk to the last."""

    def __init__(self, spec: AccumulatorSpec, a: Doubles, exponents: Exponents, b: Operand) -> None:
        self._spec = spec
        # [K, M, 1] times [K, 1, N]: the sum over a chunk runs over the outermost axis.
        self._a = np.ascontiguousarray(a.T)[:, :, None]
        self._a_exponents = np.ascontiguousarray(exponents.T)[:, :, None]
        self._b = b.values[:, None, :]
        self._b_exponents = b.exponents[:, None, :]
        self._shape = (a.shape[0], b.values.shape[1])

    def run(self, width: int, c: Doubles | None) -> NDArray[np.float32]:
        spec = self._spec
        running = np.zeros(self._shape) if c is None or spec.addend == "separate" else c
        fuse = {"fused": self._fuse, "pairwise": self._pairwise}[spec.inside]
        if spec.stage_bits is not None or spec.lanes > 1:
            fuse = self._staged
        if spec.addend == "initial" and c is not None:
            running = store(c, spec)
        outer = np.zeros(self._shape) if spec.promote_every else None
        length = self._a.shape[0]
        for start in range(0, max(length, 1), spec.promote_every or max(length, 1)):
            stop = min(start + (spec.promote_every or length), length)
            for chunk in _chunks(start, stop, width, spec.order):
                infinite, before = self._infinite(chunk), running
                running = fuse(chunk, running)
                if infinite is not None:
                    with np.errstate(invalid="ignore"):
                        running = np.where(infinite == 0, running, before + infinite)
            if outer is not None:
                with np.errstate(invalid="ignore"):
                    bits = spec.promote_bits or 24
                    outer = _round(outer + running, bits, "rne", emin=spec.emin)
                running = np.zeros(self._shape)
        total = running if outer is None else outer
        if spec.addend == "separate" and c is not None:
            total = total + c  # one rounding, to float32, below
            if spec.range_format is not FLOAT32:
                total = store(total, replace(spec, store_rounding="rne"))
        with np.errstate(over="ignore"):
            return total.astype(np.float32)

    def _terms(self, chunk: Part) -> Doubles:
        terms: Doubles = self._a[chunk] * self._b[chunk]
        if self._spec.product_bits is not None:
            bits = self._spec.product_bits
            terms = _round(terms, bits, self._spec.store_rounding, emin=None)
        if self._spec.align_exponent == "block_scale":  # groups are summed exactly
            groups = range(0, len(terms), _EXACT_GROUP)
            terms = np.stack([terms[i : i + _EXACT_GROUP].sum(axis=0) for i in groups])
        return terms

    def _infinite(self, chunk: Part) -> Doubles | None:
        """The sum of the products beyond the range, or None if there is none."""
        if self._spec.product_overflow == "wide":
            return None
        terms = self._terms(chunk)
        over = np.abs(terms) >= 2.0 ** (self._spec.emax + 1)
        if not over.any():
            return None
        with np.errstate(invalid="ignore"):
            total: Doubles = np.where(over, np.copysign(np.inf, terms), 0.0).sum(axis=0)
        return total

    def _fuse(self, chunk: Part, running: Doubles) -> Doubles:
        """One step: align, add, store."""
        spec = self._spec
        terms = self._terms(chunk)
        exponent = (self._a_exponents[chunk] + self._b_exponents[chunk]).max(axis=0)
        exponent = np.maximum(exponent.astype(np.int32), _exponent(running, spec.emin))
        np.maximum(exponent, spec.align_floor, out=exponent)
        if spec.align_bits is None:
            return store(_exact_sum(terms, running, exponent), spec)
        scale = np.ldexp(1.0, spec.align_bits - exponent)
        terms *= scale
        align = _ROUND[spec.align_rounding]
        align(terms, out=terms)
        total = terms.sum(axis=0)
        with np.errstate(invalid="ignore"):
            total += align(running * scale)
        total /= scale
        return store(total, spec)

    def _staged(self, chunk: Part, running: Doubles) -> Doubles:
        """The products first, in one lane or two; then their sum and the running sum."""
        spec, kept = self._spec, self._spec.align_bits or 0
        terms = self._terms(chunk)
        exponents = (self._a_exponents[chunk] + self._b_exponents[chunk]).astype(np.int32)
        found = []
        for lane in range(min(spec.lanes, len(terms))):
            top = np.maximum(exponents[lane :: spec.lanes].max(axis=0), spec.align_floor)
            scale = np.ldexp(1.0, kept - top)
            found.append((_ROUND[spec.align_rounding](terms[lane :: spec.lanes] * scale), top))
        largest = np.max([top for _, top in found], axis=0)
        total = sum(np.floor(np.ldexp(part.sum(axis=0), top - largest)) for part, top in found)
        reach = np.maximum(largest, _exponent(running, spec.emin))
        stage = kept if spec.stage_bits is None else spec.stage_bits
        total = np.floor(np.ldexp(total, largest - reach + stage - kept))
        total = np.ldexp(total, reach - stage)
        with np.errstate(invalid="ignore"):
            total += np.ldexp(np.floor(np.ldexp(running, kept - reach)), reach - kept)
        return store(total, spec)

    def _pairwise(self, chunk: Part, running: Doubles) -> Doubles:
        """A balanced tree of stored additions, and one more for the running sum."""
        sums = store(self._terms(chunk), self._spec)
        while len(sums) > 1:
            even = len(sums) // 2 * 2
            with np.errstate(invalid="ignore"):
                joined = store(sums[0:even:2] + sums[1:even:2], self._spec)
            sums = np.concatenate([joined, sums[even:]])
        with np.errstate(invalid="ignore"):
            return store(running + sums[0], self._spec)


def _chunks(start: int, stop: int, width: int, order: str | None) -> Iterator[Part]:
    """Yields the positions of each chunk; where two are dealt alternately, one after the other."""
    if order == "contiguous":
        for first in range(start, stop, width):
            yield slice(first, min(first + width, stop))
        return
    if order == "interleaved":  # pairs of neighbours
        for first in range(start, stop, 2 * width):
            pair = np.arange(first, min(first + 2 * width, stop))
            second = (pair - first) // 2 % 2 == 1
            yield from (part for part in (pair[~second], pair[second]) if part.size)
        return
    for first in range(start, stop, 2 * width):
        last = min(first + 2 * width, stop)
        yield slice(first, last, 2)
        if first + 1 < last:
            yield slice(first + 1, last, 2)


_ROUND = {"rz": np.trunc, "rne": np.rint, "rd": np.floor, "ru": np.ceil}


def _exponent(running: Doubles, emin: int) -> NDArray[np.int32]:
    """Exponent field of a stored sum; that of zero is never the largest."""
    exponent = np.maximum(np.frexp(running)[1] - 1, emin)
    return np.where(running == 0, _NO_EXPONENT, exponent)


def store(total: Doubles, spec: AccumulatorSpec) -> Doubles:
    """Returns sums as the accumulator keeps them, still in float64."""
    bits = spec.significand_bits
    plain = spec.store_rounding == "rne" and spec.overflow == "inf"
    if plain and bits == 24 and spec.range_format is FLOAT32:
        with np.errstate(over="ignore"):
            stored = total.astype(np.float32).astype(np.float64)
    else:
        stored = _round(total, bits, spec.store_rounding, emin=spec.emin)
        limit = (2.0**bits - 1) * 2.0 ** (spec.emax - bits + 1)
        if spec.overflow == "saturate":
            stored = np.clip(stored, -limit, limit)
        elif spec.overflow == "inf":
            stored = np.where(np.abs(stored) > limit, np.copysign(np.inf, stored), stored)
    if spec.subnormals_out == "flush":
        stored = np.where(np.abs(stored) < 2.0**spec.emin, 0.0, stored)
    return stored


def _round(x: Doubles, bits: int, mode: str, *, emin: int | None) -> Doubles:
    """Rounds to a significand of ``bits``; ``emin``: smallest exponent, or None."""
    exponent = np.frexp(x)[1] - 1
    if emin is not None:
        exponent = np.maximum(exponent, emin)
    with np.errstate(invalid="ignore"):
        quantum = np.ldexp(1.0, exponent - bits + 1)
        rounded = _ROUND[mode](x / quantum) * quantum
    return np.where(np.isfinite(x), rounded, x)


def _exact_sum(terms: Doubles, running: Doubles, exponent: NDArray[np.int32]) -> Doubles:
    """The exact sum, rounded to odd at 53 bits, so that the store is the one rounding.

    Terms are cut into limbs of `_LIMB` bits below the largest exponent; each limb adds up
    exactly, and the limbs are joined from the lowest with round-to-odd.
    """
    stack = np.concatenate([terms, running[None]])
    lost = ~np.isfinite(stack).all(axis=0)
    stack[:, lost] = 0.0
    stack *= np.ldexp(1.0, _LIMB - 8 - exponent)
    limbs: list[Doubles] = []
    while stack.any():
        whole = np.trunc(stack)
        limbs.append(whole.sum(axis=0))
        stack -= whole
        stack *= 2.0**_LIMB
    total = np.zeros(running.shape)
    for index in reversed(range(len(limbs))):
        limb = limbs[index]
        if index:  # keep what is carried up out of the limb, so that no sum cancels twice
            carry = np.rint(limb * 2.0**-_LIMB)
            limbs[index - 1] += carry
            limb = limb - carry * 2.0**_LIMB
        total = _add_odd(limb, total * 2.0**-_LIMB)
    result = np.ldexp(total, exponent - (_LIMB - 8))
    result[lost] = running[lost]
    return result


def _add_odd(x: Doubles, y: Doubles) -> Doubles:
    """``x + y`` rounded to odd (Boldo and Melquiond, IEEE TC 57(4), 2008)."""
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)  # Knuth's TwoSum: exact
    bits = total.view(np.int64)
    even = (error != 0) & (bits & 1 == 0)
    # Toward the error: away from zero where both have one sign, else toward it.
    step = np.where((error > 0) == (total > 0), 1, -1)
    return (bits + np.where(even, step, 0)).view(np.float64)
