"""Products whose rounding errors must cancel in the mean if sums are rounded to nearest even.

See `oracles.bias` for why, and docs/datasheet.md. The sets are those of TOSA 1.1 in kind (S2: one
large product, and equal small ones onto it), made so that their errors are odd in random signs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from accelsdk.formats import E8M0, Format
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.products import (
    Product,
    output_format,
    problem,
    specification,
)
from accelsdk_conformance.generators.tiers import Verdict
from accelsdk_conformance.oracles.bias import Finding, leaning
from accelsdk_conformance.oracles.bounds import stores
from accelsdk_conformance.oracles.contraction import floor_log2
from accelsdk_conformance.oracles.tensor import F64, Tensor, represent
from accelsdk_conformance.problem import (
    Context,
    Diagnosis,
    Expected,
    Oracle,
    Problem,
    Remake,
    always,
)

_ROWS, _COLUMNS = 4, 512
_FINER = 4  # bits of the small products of `sums` below half a unit in the last place


@dataclass(frozen=True, slots=True, eq=False)
class _Leaning:
    """An oracle that also looks at all the errors of an output together.

    Attributes:
        wanted: What each element must be.
        verdict: The product and its claim.
        ulp: Unit in the last place of every result.
        stores: Roundings that one output may see.
    """

    wanted: Expected
    verdict: Verdict
    ulp: float
    stores: float

    def __call__(self, outputs: tuple[Tensor, ...]) -> tuple[Expected, ...]:
        found = self.found(outputs[0])
        if found is None:
            return (self.wanted,)
        claim = f"{self.verdict.name}.{found.field}"
        said = Diagnosis(claim, f"claim {found.field} is false", (found.field,))
        return (replace(self.wanted, objection=found.reason, diagnose=lambda _: said),)

    def found(self, out: Tensor) -> Finding | None:
        exact = self.verdict.sums.value
        if out.shape != exact.high.shape or not np.isfinite(out.values).all():
            return None  # element by element, this is wrong already
        errors = ((out.values - exact.high) - exact.low) / self.ulp
        return leaning(errors, np.sign(exact.high[:, 0]), self.stores)


def rounds_to_nearest(spec: AccumulatorSpec) -> bool:
    """Says whether a claim leaves rounding to nearest even as the only source of errors.

    Units that truncate are biased, and legal where they say so; ``bit_exact`` ones are held to
    every bit anyway.
    """
    return (
        spec.guarantee == "at_least"
        and spec.store_rounding == "rne"
        and (spec.input_precision, spec.algorithm) == ("native", "direct")
        and spec.align_bits is None
        and spec.product_bits is None
    )


def sums(case: Case, context: Context) -> Problem:
    """One large product and small ones of random signs onto it, at a random place of K.

    ``ties``: what is below the last place is exactly half of it; else it is anything.
    """
    formats = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    ties, k = bool(case.parameters["ties"]), int(case.parameters["k"])
    block = int(case.parameters.get("block_size", 0))
    precision = _precision(case, context)
    # The large product is 3 * 2**bits quanta, half a unit in its last place 2**(bits-p) or so;
    # the small ones are together less than its sixteenth part.
    bits = precision + (0 if ties else _FINER)
    room = min((bits - 5 - (k - 1).bit_length()) // 2, 8)
    a, b = (
        _signed(rng, fmt, shape, room, ties=ties)
        for fmt, shape in zip(formats, ((_ROWS, k), (k, _COLUMNS)), strict=True)
    )
    place = int(rng.integers(k))
    scales: tuple[Tensor | None, Tensor | None] = None, None
    if block:
        beside = np.arange(k) // block == place // block
        a[:, beside] = 0.0
        high = [0, 0]
        top = bits + sum(_quantum(fmt) for fmt in formats)
        scales = _block_scales(place, k, block, top)
    else:
        high = [min(fmt.emax, (bits + 1 - i) // 2) for i, fmt in enumerate(formats)]
        top = sum(high)
        down = bits - top
        a, b = np.ldexp(a, -(down // 2)), np.ldexp(b, -(down - down // 2))
    a[:, place], b[place] = np.ldexp(1.5 * _signs(), high[0]), np.ldexp(1.0, high[1])
    product = Product(
        a=represent(a, formats[0]),
        b=represent(b, formats[1]),
        a_scales=scales[0],
        b_scales=scales[1],
    )
    return _watched(case, context, product, 2.0 ** (top + 1 - precision))


def products(case: Case, context: Context) -> Problem:
    """Products that do not fit the result, K = 1: what is cut off takes every value alike.

    ``(1 + i 2**-s)(1 + j 2**(1-p))`` leaves ``i j mod 2**s`` below the last place; i is odd, so
    that a random j makes every remainder as likely as its complement.
    """
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    p = _precision(case, context)
    half = p // 2
    i = 2 * rng.integers(0, 1 << (half - 2), (_ROWS, 1)) + 1
    j = rng.integers(0, 1 << (p - 3), (1, _COLUMNS))
    a = _signs()[:, None] * (1.0 + np.ldexp(i.astype(np.float64), -half))
    b = 1.0 + np.ldexp(j.astype(np.float64), 1 - p)
    product = Product(a=represent(a, a_format), b=represent(b, b_format))
    return _watched(case, context, product, 2.0 ** (1 - p))


def _precision(case: Case, context: Context) -> int:
    """Returns the bits of a stored sum, or of the result if it has fewer."""
    a, b = data.format_of(case, 0), data.format_of(case, 1)
    spec, out = specification(case, context, a, b), output_format(case, a)
    if spec is None or not rounds_to_nearest(spec):
        return out.precision
    return min(spec.significand_bits, out.precision)


def _signs() -> F64:
    """Half of the large products are negative."""
    return np.where(np.arange(_ROWS) % 2 == 0, 1.0, -1.0)


def _quantum(fmt: Format) -> int:
    """Returns the exponent of what the small operands are whole multiples of."""
    return 0 if fmt.is_float else -fmt.mantissa_bits


def _signed(
    rng: np.random.Generator, fmt: Format, shape: tuple[int, int], room: int, *, ties: bool
) -> F64:
    """Draws multiples of the quantum that have few bits, and signs; odd ones for ties."""
    most = min((1 << min(room, fmt.precision)) - 1, int(np.ldexp(fmt.max, -_quantum(fmt))))
    size = rng.integers(0, (most + 1) // 2, shape) * 2 + 1 if ties else (
        rng.integers(1, most + 1, shape)
    )  # fmt: skip
    signs = rng.choice([-1.0, 1.0], shape)
    return np.ldexp(signs * size, _quantum(fmt))


def _block_scales(place: int, k: int, block: int, top: int) -> tuple[Tensor, Tensor]:
    """Returns scales of one, but for the block with the large product."""
    codes = np.full((2, -(-k // block)), 127, np.int64)
    codes[:, place // block] += [top - top // 2, top // 2]
    left, right = (row.astype(np.uint8) for row in codes)
    return (
        Tensor(E8M0, np.repeat(left[None], _ROWS, axis=0)),
        Tensor(E8M0, np.repeat(right[:, None], _COLUMNS, axis=1)),
    )


def _watched(case: Case, context: Context, product: Product, ulp: float) -> Problem:
    """Returns the problem of a product whose errors are looked at together, too."""

    def watch(verdict: Verdict) -> Oracle:
        wanted = verdict.expected()
        if verdict.spec is None or not rounds_to_nearest(verdict.spec):
            return always(wanted)
        exponent = floor_log2(verdict.sums.value.high)
        if np.any(exponent != round(np.log2(ulp)) + _precision(case, context) - 1):
            raise ValueError("without its large product it shows nothing")
        more = verdict.spec.significand_bits > verdict.out.precision
        return _Leaning(wanted, verdict, ulp, stores(verdict.sums, verdict.spec) + more)

    made = problem(case, context, product, watch)
    if made.remake is None:
        return made
    axes = made.remake.axes
    # The columns are the sample, and values are what makes their errors cancel.
    remake = Remake(made.remake.make, lambda given: tuple(axes(given))[:2], frozenset(range(4)))
    return replace(made, remake=remake)
