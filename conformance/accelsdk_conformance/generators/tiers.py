"""What the outputs of a contraction must be: every tier of verdict, from one exact sum.

The order of the tiers is that of docs/datasheet.md: where the declaration leaves no choice the
bits are exact (T0), else they equal the declared accumulator (T1), lie within the bound that the
declaration gives (T2), or, where nothing is declared, within that of any order (T3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.judge import compare
from accelsdk_conformance.oracles import accumulator
from accelsdk_conformance.oracles.bounds import declared_bound, exact_domain
from accelsdk_conformance.oracles.contraction import (
    Accumulator,
    Contraction,
    Factors,
    any_order_bound,
)
from accelsdk_conformance.oracles.diagnosis import explanations, settled
from accelsdk_conformance.oracles.doubled import Doubled, scale
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, encode
from accelsdk_conformance.problem import Acceptance, Diagnosis, Exact, Expected, Tier, Within

#: Puts a matrix [M, N] into the shape of the output, or back.
Arrange = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Verdict:
    """One contraction and what it is held to.

    Attributes:
        sums: The exact sums.
        spec: The claim, or None.
        name: Entry of the datasheet, ``contractions[MatMul, ...]``.
        out: Format of the output.
        floor: Bits of the weakest accumulator that the profile admits.
        scales: Factors that multiply the stored sums, float32, in order.
        block: Products that share a scale, or 0.
        nan: Where NaN is required beyond what the operands say.
        raw: Operands with their subnormals, where the claim flushes them; None: as summed.
        to_output: From [M, N] to the output's shape; None if it is that.
        to_matrix: The way back.
    """

    sums: Contraction
    spec: AccumulatorSpec | None
    name: str
    out: Format
    floor: int
    scales: tuple[F64, ...] = ()
    block: int = 0
    nan: Mask | None = None
    raw: Factors | None = None
    to_output: Arrange | None = None
    to_matrix: Arrange | None = None

    def expected(self) -> Expected:
        """Returns the tiers, and the one that the declaration demands."""
        inside = exact_domain(self.sums, self.spec or weakest(self.floor))
        if self.spec is not None and self.spec.subnormals_out == "flush":
            inside &= np.abs(self.sums.value.high) >= self.out.smallest_normal
            inside |= self.sums.terms == 0
        tiers: list[tuple[Tier, Acceptance]] = [(Tier.T0, self.exact(self.sums.value))]
        required = Tier.T0
        if not inside.all():
            tier, acceptance = self.demanded(inside)
            tiers.append((tier, acceptance))
            required = tier
        arranged = tuple((tier, self.arranged(accept)) for tier, accept in tiers)
        shape = self.sums.terms.shape
        if self.to_output is not None:
            shape = self.to_output(self.sums.terms).shape
        claim = self.name if self.spec is not None else ""
        return Expected(self.out, shape, arranged, required, claim, self.diagnose)

    def turned(self, to_output: Arrange, to_matrix: Arrange) -> Verdict:
        """Returns the verdict on an output of another shape."""
        return replace(self, to_output=to_output, to_matrix=to_matrix)

    def demanded(self, inside: Mask) -> tuple[Tier, Acceptance]:
        """Returns what the declaration demands where it leaves a choice."""
        spec = self.spec
        if spec is None:
            return Tier.T3, self.within(unclaimed_bound(self.sums, self.out), inside, 24)
        if spec.guarantee == "bit_exact":
            modelled = accumulator.simulate(self.sums.factors, spec, self.block)
            if modelled is not None:
                return Tier.T1, self.modelled(modelled)
        bound = declared_bound(self.sums, spec, self.block)
        return Tier.T2, self.within(bound, inside, spec.significand_bits)

    # -- acceptances ---------------------------------------------------------------------------

    def specials(self) -> tuple[Mask, Mask, Mask, Mask]:
        """Where NaN, +Inf, -Inf are due, and where a sum may leave the range on its way."""
        sums = self.sums
        nan = sums.nan if self.nan is None else sums.nan | self.nan
        limit = self.out.max
        if self.spec is not None:
            limit = min(limit, 2.0**self.spec.emax)
        size = sums.magnitude
        for factor in self.scales:
            size = size * np.abs(factor)
        return nan, sums.positive & ~nan, sums.negative & ~nan, size * (1 + 2.0**-10) >= limit

    def exact(self, value: Doubled) -> Exact:
        """Accepts the correctly rounded result alone."""
        nan, _, _, overflow = self.specials()
        return Exact(self.codes(value), nan, overflow & ~nan, signed_zero=False)

    def modelled(self, stored: F64) -> Exact:
        """Accepts what the declared accumulator gives; it knows its own overflow."""
        nan, positive, negative, _ = self.specials()
        special = np.isnan(stored) & ~positive & ~negative
        value = Doubled(np.where(special, 0.0, stored), np.zeros_like(stored))
        return Exact(self.codes(value), nan | special, signed_zero=False)

    def codes(self, value: Doubled) -> NDArray[Any]:
        """Returns the codes of sums after scales, rounding and special values."""
        nan, positive, negative, _ = self.specials()
        scaled = self.scaled(value)
        found = encode(scaled.high, self.out, low=scaled.low).codes
        if not (nan.any() or positive.any() or negative.any()):
            return found
        infinity = encode(np.full(found.shape, np.inf), self.out).codes
        sign = (infinity.astype(np.uint64) | np.uint64(1 << (self.out.bits - 1))).astype(
            infinity.dtype
        )
        found = np.where(positive, infinity, np.where(negative, sign, found))
        return np.where(nan, encode(np.array(np.nan), self.out).codes, found)

    def scaled(self, value: Doubled) -> Doubled:
        """Applies the float32 scales of the op as it says: in order, one rounding each."""
        if not self.scales:
            return value
        high = encode(value.high, FLOAT32, low=value.low).values
        for factor in self.scales:
            with np.errstate(over="ignore", invalid="ignore"):
                high = encode(high * factor, FLOAT32).values
        return Doubled(high, np.zeros_like(high))

    def within(self, bound: F64, inside: Mask, bits: int) -> Within:
        """Accepts a neighbourhood of the exact sum; of those inside, the exact sum alone."""
        nan, positive, negative, overflow = self.specials()
        value = self.sums.value
        for factor in self.scales:
            value = scale(value, np.broadcast_to(factor, value.high.shape))
            bound = bound * np.abs(factor) * (1 + 2.0**-20)
        if self.scales:
            bound = bound + (np.abs(value.high) + bound) * 2.0**-22 + 2.0**-148
            once = self.scaled(self.sums.value)
            value = Doubled(
                np.where(inside, once.high, value.high), np.where(inside, once.low, value.low)
            )
        tiny = None
        if self.spec is not None and self.spec.subnormals_out == "flush":
            tiny = np.abs(value.high) - bound < self.out.smallest_normal
        return Within(
            value,
            np.where(inside, 0.0, bound),
            nan,
            positive,
            negative,
            overflow,
            narrow=self.out.precision < bits,
            also_zero=tiny,
            )  # fmt: skip

    def arranged(self, accept: Acceptance) -> Acceptance:
        """Returns an acceptance in the shape of the output."""
        turn = self.to_output
        if turn is None:
            return accept

        def mask(given: Mask | None) -> Mask | None:
            return None if given is None else turn(given)

        if isinstance(accept, Exact):
            return replace(
                accept, codes=turn(accept.codes), nan=mask(accept.nan), free=mask(accept.free)
            )
        return replace(
            accept,
            value=Doubled(turn(accept.value.high), turn(accept.value.low)),
            bound=turn(accept.bound),
            nan=mask(accept.nan),
            positive=mask(accept.positive),
            negative=mask(accept.negative),
            overflow=mask(accept.overflow),
            also_zero=mask(accept.also_zero),
        )

    # -- diagnosis -----------------------------------------------------------------------------

    def diagnose(self, actual: Tensor) -> Diagnosis:
        """Says which field of the declaration is false, as far as these outputs tell."""
        spec = self.spec
        if spec is None:
            return Diagnosis("", "")
        if self.to_matrix is not None:
            actual = Tensor(actual.format, self.to_matrix(actual.codes))
        found = self.explained(actual, spec)
        if found:
            first, *others = found
            also = "".join(f"; so would {name}={value}" for name, value in others[:4])
            was = _value_of(spec, first[0])
            reason = f"claim {first[0]}={was} is false: the outputs fit {first[1]}{also}"
            return Diagnosis(f"{self.name}.{first[0]}", reason, tuple(dict(found)))
        if spec.guarantee == "bit_exact" and self.holds(actual, spec):
            reason = "claim guarantee=bit_exact is false: the outputs are only within the bound"
            return Diagnosis(f"{self.name}.guarantee", reason, ("guarantee",))
        # Of convolutions a fast algorithm is likelier than operands that are cut.
        fast = self.name.startswith("contractions[Conv")
        for name in sorted(_BY_BOUND, reverse=not fast):
            if exact_domain(self.sums, spec).all():
                break
            for value in _BY_BOUND[name]:  # each of the type of the field of that name
                other = replace(spec, **{name: value})
                if getattr(spec, name) != value and self.holds(actual, other):
                    was = getattr(spec, name)
                    reason = f"claim {name}={was} may be false: {value} bounds the errors"
                    return Diagnosis(f"{self.name}.{name}", reason, (name,))
        return Diagnosis(self.name, "no change of one field of the claim explains the outputs")

    def explained(self, actual: Tensor, spec: AccumulatorSpec) -> list[tuple[str, object]]:
        """Returns the changes of one field that give these outputs, looking at few of them."""
        declared = accumulator.simulate(self.sums.factors, settled(spec), self.block)
        if declared is None:
            return []
        wrong = np.argwhere(compare(actual, self.modelled(declared)).wrong)
        if not len(wrong):
            return []
        spread = wrong[:: max(1, len(wrong) // 6)]
        rows, columns = np.unique(spread[:, 0]), np.unique(spread[:, 1])[:4]
        few = self.part(rows, columns)
        seen = Tensor(actual.format, actual.codes[np.ix_(rows, columns)])

        def fits(stored: F64) -> bool:
            return not compare(seen, few.modelled(stored)).wrong.any()

        found = explanations(few.raw or few.sums.factors, spec, self.block, fits)
        if not found or few.sums.terms.size == self.sums.terms.size:
            return found

        def fit(stored: F64) -> bool:
            return not compare(actual, self.modelled(stored)).wrong.any()

        names = {name for name, _ in found}
        whole = explanations(self.raw or self.sums.factors, spec, self.block, fit, names)
        return whole

    def part(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Verdict:
        """Returns the verdict on some rows and columns."""
        at, shape = np.ix_(rows, columns), self.sums.terms.shape
        return replace(
            self,
            sums=self.sums.part(rows, columns),
            raw=None if self.raw is None else self.raw.part(rows, columns),
            nan=None if self.nan is None else self.nan[at],
            scales=tuple(np.broadcast_to(scale, shape)[at] for scale in self.scales),
            to_output=None,
            to_matrix=None,
        )

    def holds(self, actual: Tensor, spec: AccumulatorSpec) -> bool:
        """Says whether outputs lie within the bound of a claim."""
        bound = declared_bound(self.sums, spec, self.block)
        inside = exact_domain(self.sums, spec)
        if inside.all():
            return False  # every accumulator gives these bits: it is no matter of precision
        loose = self.within(bound, inside, spec.significand_bits)
        return not compare(actual, loose).wrong.any()


#: Fields that only bounds can tell of, and what else they may be.
_BY_BOUND: dict[str, tuple[Any, ...]] = {
    "input_precision": ("bf16x6", "bf16x3", "tf32", "bf16"),
    "algorithm": ("winograd_f2", "winograd_f4", "strassen"),
}


def _value_of(spec: AccumulatorSpec, name: str) -> object:
    if name == "promote":
        return spec.promote_every and (spec.promote_every, spec.promote_bits)
    return getattr(spec, name)


@cache
def weakest(bits: int) -> AccumulatorSpec:
    """Returns the accumulator at a profile's floor."""
    return AccumulatorSpec(significand_bits=bits, align_bits=bits - 1)


def unclaimed_bound(sums: Contraction, out: Format) -> F64:
    """T3: IEEE arithmetic of the output's width, in any order, rounded in any direction."""
    wide = out == FLOAT64
    plain = Accumulator(
        significand_bits=53 if wide else 24, nearest_store=False, emin=-1022 if wide else -126
    )
    return any_order_bound(sums, sums.factors.depth, plain)
