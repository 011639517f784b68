"""Constructions that single out one property of an accumulator, packed as rows of one product.

Each row cancels what is large and leaves what one property decides: the bits that alignment
keeps and how it drops the others, the bits of a stored sum and its rounding, the sticky bit,
the range, the smallest exponent, or who is added to whom. The probes are those of Fasi, Higham,
Mikaitis and Pranesh (PeerJ CS 7:e330, 2021) and of FPRev (Xie et al., arXiv 2411.00442).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accelsdk.formats import E8M0, Format
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.products import (
    Product,
    floor_bits,
    output_format,
    problem,
    specification,
)
from accelsdk_conformance.oracles.tensor import F64, Tensor, represent
from accelsdk_conformance.problem import Context, NotApplicable, Problem

#: Where the copies of the lanes begin: in the first chunk, beyond most, and beyond any known.
_PLACES = (0, 16, 64)
_NEXT, _FAR = 1, 2
_REACH = 60  # exponents of the lanes, of formats with the range of float32
_BLOCK = 32
_BLOCKS = 4  # no row has more terms


@dataclass(frozen=True, slots=True)
class Term:
    """One product ``mantissa * 2**exponent``, in one of the copies of the lanes."""

    exponent: int
    mantissa: float = 1.0
    at: int = 0


Row = tuple[Term, ...]


def probes(case: Case, context: Context) -> Problem:
    """Rows that each turn on one bit of the declaration."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    spec = specification(case, context, a_format, b_format) or AccumulatorSpec(
        significand_bits=floor_bits(case), align_bits=floor_bits(case) - 1
    )
    narrow = output_format(case, a_format).precision < 24
    scaled = bool(case.parameters.get("block_size", 0))
    wide = a_format.bits >= 16 and a_format.emax > 100
    plain = a_format.emax + b_format.emax - a_format.emin - b_format.emin >= 24
    if not a_format.is_float or not b_format.is_float:
        plain = False
    top = 14 if narrow else 16
    if plain:
        top = min(top, a_format.emax + b_format.emax)
    rows = [*_aligned(spec, top), *_ordered(spec, top), *_stored(spec, top)]
    if wide or not plain:
        rows += [*_tiny(spec), *_huge()]
    if not plain:
        return problem(case, context, _in_blocks(rows, a_format, b_format))
    product = _in_lanes(rows, a_format, b_format)
    if scaled:
        product = _unscaled(product)
    return problem(case, context, product)


def _aligned(spec: AccumulatorSpec, top: int) -> Iterator[Row]:
    """Large ones that cancel, and a small one at each place where alignment may cut."""
    kept = spec.align_bits if spec.align_bits is not None else spec.significand_bits + 6
    places = {kept - 2, kept - 1, kept, kept + 1, kept + 2, kept + 3, 12, 13, 14, 23, 24, 25, 26}
    for place in sorted(p for p in places if p > 2):
        for mantissa in (1.0, -1.0, 1.5, -1.5):
            yield Term(top), Term(top, -1.0), Term(top - place, mantissa)
        yield Term(top), Term(top, -1.0), Term(top - place, at=_FAR), Term(top - place)
        # Both factors are 1.5: the exponent of the product is one more than its fields say.
        yield Term(top - 1, 2.25), Term(top - 1, -2.25), Term(top - 1 - place), Term(top - 5)


def _ordered(spec: AccumulatorSpec, top: int) -> Iterator[Row]:
    """Small ones that survive only if the large ones have cancelled before they are met."""
    kept = spec.align_bits if spec.align_bits is not None else spec.significand_bits
    for drop in sorted({kept + 2, kept + 4, spec.significand_bits + 2}):
        for place in (0, _NEXT, _FAR):
            yield Term(top), Term(top, -1.0), Term(top - drop, 1.5, place), Term(top - drop + 1)
            yield Term(top), Term(top, -1.0, place), Term(top - drop, 1.5, _NEXT)
            yield Term(top, at=_NEXT), Term(top, -1.0, _NEXT), Term(top - drop, 1.5, place)


def _stored(spec: AccumulatorSpec, top: int) -> Iterator[Row]:
    """A large one and what lies at, below and above half of its last place."""
    for bits in sorted({spec.significand_bits, spec.significand_bits + 1, 11, 14, 24}):
        for sign in (1.0, -1.0):
            for mantissa in (1.0, 1.5, -1.5):
                yield Term(top, sign), Term(top - bits, mantissa * sign)
                yield Term(top, sign), Term(top - bits, mantissa * sign, at=_FAR)
            yield Term(top, sign), Term(top - bits + 1, sign), Term(top - bits, sign, at=_FAR)
            yield (Term(top, sign), Term(top, -sign, at=_FAR), Term(top - bits, sign))
            yield Term(top, sign), Term(top - bits, sign), Term(top - bits - 9, sign)
            yield Term(top, sign), Term(top - bits, sign), Term(top - bits - 9, -sign)


def _tiny(spec: AccumulatorSpec) -> Iterator[Row]:
    """Products and sums around and below the smallest normal number, and the floor."""
    for exponent in (-126, -127, -132, -133, -140, -148, -149, -150):
        yield (Term(exponent),)
        yield (Term(exponent, 1.5), Term(exponent - 1, at=_FAR))
        yield Term(-126), Term(exponent, -1.5)
    kept = spec.align_bits or 24
    for floor in (-126, -132, -133, -149):
        yield Term(floor - 2), Term(floor - kept, 1.5), Term(floor - kept + 1)
        yield Term(floor - 2), Term(floor - 2, -1.0), *(Term(floor - kept, 1.5),) * 2
        yield Term(floor - 2, -1.0), Term(floor - kept - 1, -1.5)


def _huge() -> Iterator[Row]:
    """Sums that leave the range on their way and come back."""
    for sign in (1.0, -1.0):
        yield Term(127, sign), Term(127, sign), Term(127, -sign), Term(127, -sign)
        yield Term(127, sign), Term(127, sign), Term(127, -1.5 * sign, at=_FAR)
        yield Term(128, sign), Term(128, -sign), Term(1, sign)
        yield Term(127, 1.5 * sign), Term(126, sign), Term(126, -sign, at=_FAR)


def _in_lanes(rows: list[Row], a_format: Format, b_format: Format) -> Product:
    """Lanes have powers of two of their own on the right; rows pick lanes on the left."""
    ends = max(b_format.emin, -_REACH), min(b_format.emax, _REACH)
    lanes = np.repeat(np.exp2([ends[1], 0, ends[0]]), 4) * np.tile([1.0, 1.0, 1.0, 1.5], 3)
    lanes[-1] = 2.0 ** ends[0]
    lanes[2] = 1.5 * 2.0 ** (ends[1] - 1)
    lanes[3] = 1.5 * 2.0 ** (ends[1] - 1)
    depth = _PLACES[-1] + len(lanes)
    right = np.zeros(depth)
    for start in _PLACES:
        right[start : start + len(lanes)] = lanes
    found = []
    for row in rows:
        left = np.zeros(depth)
        if all(_placed(left, term, lanes, a_format) for term in row):
            found.append(left)
    return Product(
        a=represent(np.array(found), a_format),
        b=represent(np.stack([right, -right], axis=1), b_format),
    )


def _placed(left: F64, term: Term, lanes: F64, fmt: Format) -> bool:
    """Puts a term into a free lane where the left value is normal; says whether there is one."""
    start = _PLACES[term.at]
    for lane, right in enumerate(lanes.tolist()):
        value = term.mantissa * 2.0**term.exponent / right
        whole = (abs(term.mantissa) > 2) == (math.frexp(right)[0] == 0.75)
        held = fmt.smallest_normal <= abs(value) <= fmt.max and _short(value, fmt)
        if whole and held and left[start + lane] == 0:
            left[start + lane] = value
            return True
    return False


def _short(value: float, fmt: Format) -> bool:
    steps = math.frexp(value)[0] * 2.0**fmt.precision
    return steps == round(steps)


def _unscaled(product: Product) -> Product:
    (m, k), n = product.a.shape, product.b.shape[1]
    ones = [np.full(shape, 127, np.uint8) for shape in ((m, -(-k // _BLOCK)), (-(-k // _BLOCK), n))]
    return Product(
        a=product.a, b=product.b, a_scales=Tensor(E8M0, ones[0]), b_scales=Tensor(E8M0, ones[1])
    )


def _in_blocks(rows: list[Row], a_format: Format, b_format: Format) -> Product:
    """Each term has a block of its own, whose left scale gives its exponent."""
    rows = [row for row in rows if all(-127 <= term.exponent <= 127 for term in row)]
    depth = _BLOCKS * _BLOCK
    left, scales = np.zeros((len(rows), depth)), np.full((len(rows), _BLOCKS), 127)
    right = np.ones(depth)
    right[3::4] = 1.5  # where both factors are 1.5
    for index, row in enumerate(rows):
        for block, term in enumerate(row):
            lane = 4 * ((5 * index) % 8)
            square = abs(term.mantissa) > 2
            left[index, block * _BLOCK + lane + 3 * square] = term.mantissa / (1.5 if square else 1)
            scales[index, block] += term.exponent
    return Product(
        a=represent(left, a_format),
        b=represent(np.stack([right, -right], axis=1), b_format),
        a_scales=Tensor(E8M0, scales.astype(np.uint8)),
        b_scales=Tensor(E8M0, np.full((_BLOCKS, 2), 127, np.uint8)),
    )


def order(case: Case, context: Context) -> Problem:
    """FPRev: two large ones that cancel among units: what survives tells who met whom.

    The number of units in the result is that of the products added after the two have met, so
    each pair of places measures the subtree over it.
    """
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    spec = specification(case, context, a_format, b_format) or AccumulatorSpec()
    drop = max(spec.significand_bits, (spec.align_bits or 0) + 1) + 2
    blocks = bool(case.parameters.get("block_size", 0))
    k = int(case.parameters["k"])
    later = [n for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64) if n < k]
    pairs = [(0, n) for n in later] + [(k - 1 - n, k - 1) for n in later[::3]]
    if blocks:
        return problem(case, context, _met_in_blocks(pairs[:8], a_format, b_format, drop))
    top = 14 if output_format(case, a_format).precision < 24 else 16
    top = min(top, a_format.emax + b_format.emax)
    high, low = (top + 1) // 2, (top - drop) // 2
    if min(low - a_format.emin + a_format.mantissa_bits,
           top - drop - low - b_format.emin + b_format.mantissa_bits) < 0:  # fmt: skip
        raise NotApplicable(f"{a_format} and {b_format} do not span the {drop} bits of the claim")
    left, right = (
        np.full((len(pairs), k), 2.0**low),
        np.full((k, len(pairs)), 2.0 ** (top - drop - low)),
    )
    for index, (i, j) in enumerate(pairs):
        left[index, [i, j]] = 2.0**high, -(2.0**high)
        right[[i, j], index] = 2.0 ** (top - high)
    return problem(
        case, context, Product(a=represent(left, a_format), b=represent(right, b_format))
    )


def _met_in_blocks(
    pairs: list[tuple[int, int]], a_format: Format, b_format: Format, drop: int
) -> Product:
    count = 8
    left, right = np.ones((len(pairs), count * _BLOCK)), np.ones((count * _BLOCK, 2))
    scales = np.full((len(pairs), count), 127)
    for index, (i, j) in enumerate(pairs):
        for block, sign in ((i % count, 1.0), (j % count, -1.0)):
            part = slice(block * _BLOCK, (block + 1) * _BLOCK)
            left[index, part] = 0.0
            left[index, block * _BLOCK + index] = sign
            scales[index, block] = 127 + drop
    right[:, 1] = -1.0
    return Product(
        a=represent(left, a_format),
        b=represent(right, b_format),
        a_scales=Tensor(E8M0, scales.astype(np.uint8)),
        b_scales=Tensor(E8M0, np.full((count, 2), 127, np.uint8)),
    )
