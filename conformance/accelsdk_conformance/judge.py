"""The judge: compares what came out with what may come out, element by element.

It never asks whether an array is "close": each output has acceptances (`problem`), and every
element must satisfy the one that the backend's declaration demands. NaN is never equal to
anything by accident: comparisons are on codes or on finite values, and each class of special
value has its own rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accelsdk.formats import Format, Kind
from accelsdk.numerics.rounding import Overflow
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, encode
from accelsdk_conformance.problem import Acceptance, Exact, Expected, Tier, Within


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One output against one acceptance.

    Attributes:
        wrong: Which elements are not accepted.
        ratio: Error over bound per element (0 where exact, inf where a class is wrong).
        bound: The bound per element; 0 where bits are compared.
        show: Returns what should have come out; see `expected`.
    """

    wrong: Mask
    ratio: F64
    bound: F64
    show: Callable[[], F64]

    @property
    def expected(self) -> F64:
        """What should have come out, as values for people; of what is right nobody asks."""
        return self.show()


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The verdict on one output.

    Attributes:
        passed: Whether the output satisfies the demanded tier. Bits that happen to be the
            correctly rounded ones do not satisfy a claim of other bits.
        tier: The strictest tier reached, or None.
        demanded: The comparison that decides.
        problem: What is wrong with the output as a whole, or empty.
    """

    passed: bool
    tier: Tier | None
    demanded: Comparison | None
    problem: str = ""


def judge(actual: Tensor, expected: Expected) -> Judgement:
    """Judges one output of a device.

    Args:
        actual: What came out.
        expected: What may come out.
    """
    if actual.format != expected.format or actual.shape != expected.shape:
        return Judgement(
            False,
            None,
            None,
            f"output is {actual.format}{list(actual.shape)}, "
            f"not {expected.format}{list(expected.shape)}",
        )
    if all(name is not expected.required for name, _ in expected.tiers):
        return Judgement(False, None, None, f"no acceptance for tier {expected.required}")
    reached: Tier | None = None
    for tier, acceptance in expected.tiers:
        demanded = compare(actual, acceptance)
        passed = not demanded.wrong.any()
        if reached is None and passed:
            reached = tier
        if tier is expected.required:
            break
    if passed and expected.objection:
        return Judgement(False, None, demanded, expected.objection)
    return Judgement(passed, reached if passed else None, demanded)


def compare(actual: Tensor, acceptance: Acceptance) -> Comparison:
    """Compares every element of an output with one acceptance."""
    match acceptance:
        case Exact():
            return _compare_exact(actual, acceptance)
        case Within():
            return _compare_within(actual, acceptance)


def _compare_exact(actual: Tensor, accept: Exact) -> Comparison:
    right = actual.codes == accept.codes
    for other in accept.others:
        right |= actual.codes == other
    values = actual.values if actual.format.bits <= 32 or actual.format.is_float else None
    if values is not None and not accept.signed_zero:
        for codes in (accept.codes, *accept.others):
            right |= (values == 0) & (Tensor(actual.format, codes).values == 0)
    if accept.nan is not None and values is not None:
        right = np.where(accept.nan, np.isnan(values), right & ~np.isnan(values))
    if accept.free is not None:
        right = right | accept.free

    def show() -> F64:
        expected = np.array(Tensor(actual.format, accept.codes).values)  # of rank 0, too
        if accept.nan is not None and actual.format.has_nan:
            expected[accept.nan] = np.nan
        return expected

    zero = np.zeros(actual.shape)
    return Comparison(~right, zero if right.all() else np.where(right, 0.0, np.inf), zero, show)


def _compare_within(actual: Tensor, accept: Within) -> Comparison:
    values = actual.values
    finite = np.isfinite(values)
    error = accept.value.distance(np.where(finite, values, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(error == 0, 0.0, error / accept.bound)
    right = error <= accept.bound
    low, high = _ends(accept)
    if accept.narrow:
        narrow_low, narrow_high = (
            _narrow(end, actual.format, accept.saturate) for end in (low, high)
        )
        inside = (narrow_low <= values) & (values <= narrow_high)
        right, ratio = inside, np.where(inside, np.minimum(ratio, 1.0), ratio)
        finite = finite | inside  # Inf where the rounded neighbourhood reaches it
    right = right & finite
    if accept.also_zero is not None:
        right |= accept.also_zero & (values == 0)
    if accept.overflow is not None:
        right |= accept.overflow & ~np.isfinite(values)
    specials = (
        (accept.nan, np.isnan(values), np.nan),
        (accept.positive, values == np.inf, np.inf),
        (accept.negative, values == -np.inf, -np.inf),
    )
    for where, rule, _ in specials:
        if where is not None:
            right = np.where(where, rule, right)

    def show() -> F64:
        expected = np.array(accept.value.high)
        for where, _, special in specials:
            if where is not None:
                expected[where] = special
        return expected

    ratio = np.where(right, np.minimum(np.where(np.isfinite(ratio), ratio, 0.0), 1.0), ratio)
    ratio = np.where(~right & ~np.isfinite(values), np.inf, ratio)
    return Comparison(~right, ratio, accept.bound, show)


def _ends(accept: Within) -> tuple[Doubled, Doubled]:
    return (
        Doubled(accept.value.high, accept.value.low - accept.bound),
        Doubled(accept.value.high, accept.value.low + accept.bound),
    )


def _narrow(end: Doubled, fmt: Format, saturate: bool) -> F64:
    high = end.high + end.low
    low = (end.high - high) + end.low
    overflow = Overflow.SATURATE if saturate else Overflow.SPECIAL
    return encode(high, fmt, overflow=overflow, low=low).values


def ulp_distance(actual: F64, expected: F64, fmt: Format) -> F64:
    """Returns ``|actual - expected|`` in units of the last place of ``expected`` in ``fmt``.

    For E8M0, whose neighbours are a factor of two apart, the distance of the codes.
    """
    if fmt.kind is Kind.SCALE:
        with np.errstate(invalid="ignore", divide="ignore"):
            codes: F64 = np.abs(np.log2(actual) - np.log2(expected))
            return codes
    if not fmt.is_float:
        return np.abs(actual - expected) / fmt.smallest_subnormal
    with np.errstate(invalid="ignore", over="ignore"):
        _, exponent = np.frexp(np.where(np.isfinite(expected), expected, 1.0))
        exponent = np.maximum(exponent.astype(np.int64) - 1, fmt.emin)
        steps: F64 = np.abs(actual - expected) / np.ldexp(1.0, exponent - fmt.mantissa_bits)
        return steps
