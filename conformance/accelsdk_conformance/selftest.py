"""The suite tests itself: stand-ins that are right must pass, and wrong ones must fail.

A checker that has gone blind passes everything, and nobody notices. `self_test` takes seconds,
needs no backend, and says of each ability of the checker whether it is there. The project's own
tests break the checker in many ways and see it turn red (docs/kill-matrix.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import E4M3, FLOAT32, INT32, Format
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance import (
    case,
    catalogue,
    examine,
    judge,
    registry,
    selftest_run,
    stand_ins,
)
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import Mask, Tensor, encode
from accelsdk_conformance.problem import (
    Context,
    Exact,
    Expected,
    NotApplicable,
    Problem,
    Tier,
    Within,
    expect_exact,
)
from accelsdk_conformance.result import Status

_LARGEST = 40_000  # codes of operands that a sampled case may have
_PER_GROUP = 1  # cases of each generator and op that are sampled


@dataclass(frozen=True, slots=True)
class Check:
    """One ability of the checker.

    Attributes:
        name: What it is.
        fault: What is wrong with it; empty if nothing is.
    """

    name: str
    fault: str

    @property
    def ok(self) -> bool:
        """Whether the ability is there."""
        return not self.fault


def self_test() -> list[Check]:
    """Runs every check and returns what each found; an exception is a finding, too."""
    return list(checks())


def checks() -> Iterator[Check]:
    """Runs one check after the other, quick ones first, and yields what each found."""
    for check in _CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            faults = [fault for fault in check() if fault]
        except Exception as error:  # a check that breaks down has found something
            faults = [f"{type(error).__name__}: {error}"]
        yield Check(name, "; ".join(faults[:3]))


# -- what the checks run on ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sample:
    case: case.Case
    problem: Problem
    right: tuple[Tensor, ...]


@cache
def _samples() -> tuple[_Sample, ...]:
    """Returns one small case of every generator and op, with its right answer."""
    chosen: dict[tuple[str, str], int] = {}
    found = []
    for one in catalogue.bundled():
        group = (one.generator, one.op)
        if one.profile is case.Profile.DEVICE or chosen.get(group, 0) >= _PER_GROUP:
            continue
        if "empty" in one.id or not case.Level.STANDARD.holds(one.level):
            continue
        try:
            problem = registry.generator(one.generator)(one, Context(NumericsDatasheet(), 0))
        except NotApplicable:
            continue
        if sum(t.codes.size for t in problem.operands if t is not None) > _LARGEST:
            continue
        right = stand_ins.Perfect().run(problem, 0)
        if not sum(out.codes.size for out in right):
            continue
        chosen[group] = chosen.get(group, 0) + 1
        found.append(_Sample(one, problem, right))
    return tuple(found)


def _status(sample: _Sample, outputs: tuple[Tensor, ...]) -> Status:
    expected = sample.problem.oracle(outputs)
    return examine.verdict(sample.case, sample.problem, outputs, expected).status


def _differ(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    """Says whether outputs differ as numbers; a zero's sign and a NaN's payload do not count."""
    return any(
        not np.array_equal(x.values, y.values, equal_nan=True) for x, y in zip(a, b, strict=True)
    )


def _passes(change: stand_ins.Change) -> Iterator[str]:
    """Yields the sampled cases that pass although every output is changed."""
    for sample in _samples():
        wrong = tuple(change(sample.problem, out) for out in sample.right)
        if (
            _differ(wrong, sample.right)
            and not _free(sample)
            and (_status(sample, wrong) is Status.PASSED)
        ):
            yield f"{sample.case.id} passes"


def _free(sample: _Sample) -> bool:
    """Says whether a large part of a result may be anything."""
    for expected in sample.problem.oracle(sample.right):
        for _, accept in expected.tiers:
            if isinstance(accept, Exact) and accept.free is not None and accept.free.mean() > 0.5:
                return True
    return False


def _single(value: float, fmt: Format = FLOAT32) -> Tensor:
    return encode(np.array([value]), fmt)


def _within(
    value: float, bound: float, *, nan: Mask | None = None, positive: Mask | None = None
) -> Expected:
    high = np.array([value])
    accept = Within(Doubled(high, np.zeros(1)), np.array([bound]), nan=nan, positive=positive)
    return Expected(FLOAT32, (1,), ((Tier.T3, accept),), Tier.T3)


def _accepted(out: Tensor, expected: Expected, wanted: bool, what: str) -> str:
    return "" if judge.judge(out, expected).passed is wanted else what


# -- devices ---------------------------------------------------------------------------------


def _right_answers_pass() -> Iterator[str]:
    if len(_samples()) < 100:
        yield f"only {len(_samples())} kinds of case"
    for sample in _samples():
        result = examine.examine(sample.case, stand_ins.Perfect())
        if result.status is not Status.PASSED:
            yield f"{sample.case.id}: {result.status} {result.reason}"
        if result.elements != sum(math.prod(out.shape) for out in sample.right):
            yield f"{sample.case.id}: {result.elements} elements were judged"


def _all_zero_fails() -> Iterator[str]:
    yield from _passes(stand_ins.zeros)


def _echo_fails() -> Iterator[str]:
    yield from _passes(stand_ins.echo)


def _unwritten_output_fails() -> Iterator[str]:
    yield from _passes(stand_ins.poisoned)


def _one_element_decides() -> Iterator[str]:
    """The first, the last or one in the middle: NaN where a number is due, in every output."""
    for sample in _samples():
        expected = sample.problem.oracle(sample.right)
        for place in (0, -1):
            for index, (out, want) in enumerate(zip(sample.right, expected, strict=True)):
                spoiled = _spoiled(out, want, place)
                if spoiled is None:
                    continue
                outputs = (*sample.right[:index], spoiled, *sample.right[index + 1 :])
                if sample.problem.op != "QuantizeBlock" and (
                    _status(sample, outputs) is Status.PASSED
                ):
                    yield f"{sample.case.id}: element {place} of output {index} may be wrong"


def _spoiled(out: Tensor, want: Expected, place: int) -> Tensor | None:
    """Returns the output with NaN, or the other end of the range, in one place."""
    (accept,) = (accept for name, accept in want.tiers if name is want.required)
    flat = out.values.reshape(-1)
    if not flat.size:
        return None
    loose = (accept.free if isinstance(accept, Exact) else accept.overflow), accept.nan
    if any(mask is not None and bool(np.asarray(mask).reshape(-1)[place]) for mask in loose):
        return None
    if not np.isfinite(flat[place]):
        return None
    if out.format.has_nan:
        code = int(encode(np.array([np.nan]), out.format).codes[0])
    else:
        code = int(out.codes.reshape(-1)[place]) ^ (1 << (out.format.bits - 1))
    return stand_ins.at(place, lambda _: code)(_NO_PROBLEM, out)


_NO_PROBLEM = Problem(op="", operands=(), oracle=lambda outputs: ())


def _shape_format_and_number_count() -> Iterator[str]:
    expected = expect_exact(encode(np.array([1.0, 2.0]), FLOAT32))
    yield _accepted(_single(1.0), expected, False, "another shape passes")
    yield _accepted(Tensor(INT32, encode(np.array([1.0, 2.0]), FLOAT32).codes), expected, False,
                    "another format passes")  # fmt: skip
    sample = _samples()[0]
    for outputs in ((), (*sample.right, sample.right[0])):
        if _status(sample, outputs) is Status.PASSED:
            yield f"{len(outputs)} outputs pass where {len(sample.right)} are due"


# -- the judge -------------------------------------------------------------------------------


def _nan_is_seen() -> Iterator[str]:
    nan, due = _single(np.nan), np.array([True])
    yield _accepted(nan, _within(1.0, 1e30), False, "NaN lies within a bound")
    yield _accepted(nan, expect_exact(_single(1.0)), False, "NaN equals 1")
    yield _accepted(_single(0.0), _within(0.0, 1e30, nan=due), False, "0 passes for NaN")
    yield _accepted(_single(1.0), expect_exact(nan), False, "1 passes for an exact NaN")
    yield _accepted(nan, _within(0.0, 0.0, nan=due), True, "NaN fails where it is due")


def _infinities_are_seen() -> Iterator[str]:
    due = np.array([True])
    yield _accepted(_single(np.inf), _within(1.0, 1e30), False, "Inf lies within a bound")
    yield _accepted(_single(-np.inf), _within(0.0, 0.0, positive=due), False, "-Inf is +Inf")
    yield _accepted(_single(3e38), _within(0.0, 0.0, positive=due), False, "3e38 is Inf")
    yield _accepted(_single(-np.inf), expect_exact(_single(np.inf)), False, "-Inf equals Inf")
    yield _accepted(_single(np.inf), _within(0.0, 0.0, positive=due), True, "Inf fails")


def _bounds_are_kept() -> Iterator[str]:
    for factor, wanted in ((0.999, True), (1.001, False), (2.0, False), (9.0, False)):
        out = _single(1 + 2.0**-10 * factor)
        yield _accepted(out, _within(1.0, 2.0**-10), wanted, f"{factor} of the bound: {wanted}?")
    narrow = Within(Doubled(np.array([1.06]), np.zeros(1)), np.array([0.001]), narrow=True)
    expected = Expected(E4M3, (1,), ((Tier.T2, narrow),), Tier.T2)
    yield _accepted(_single(1.0, E4M3), expected, True, "the rounded neighbourhood fails")
    yield _accepted(_single(1.125, E4M3), expected, False, "a neighbour of it passes")


def _bounds_are_derived() -> Iterator[str]:
    """No bound of a sampled case is vacuous: most are far below the result's own magnitude."""
    for sample in _samples():
        for want in sample.problem.oracle(sample.right):
            for name, accept in want.tiers:
                if name is not want.required or not isinstance(accept, Within):
                    continue
                large = np.abs(accept.value.high)
                seen = np.isfinite(large) & (large > 1e-20)
                if accept.overflow is not None:
                    seen &= ~accept.overflow
                ratio = accept.bound[seen] / large[seen]
                if ratio.size and not np.isfinite(ratio).all():
                    yield f"{sample.case.id}: a bound is infinite"
                if ratio.size and np.median(ratio) > 0.25:
                    yield f"{sample.case.id}: half of the bounds exceed a quarter of the result"


def _signed_zeros_count() -> Iterator[str]:
    plus, minus = _single(0.0), _single(-0.0)
    yield _accepted(minus, expect_exact(plus), False, "-0 equals +0 where its sign counts")
    yield _accepted(minus, expect_exact(plus, signed_zero=False), True, "-0 fails where it is free")


def _tiers_are_told_apart() -> Iterator[str]:
    value = np.array([1.0])
    loose = Within(Doubled(value, value * 0), np.array([0.5]))
    tiers = ((Tier.T0, Exact(_single(1.0).codes)), (Tier.T3, loose))
    free = Expected(FLOAT32, (1,), tiers, Tier.T3)
    strict = Expected(FLOAT32, (1,), tiers, Tier.T0)
    yield _accepted(_single(1.25), strict, False, "a bound satisfies a claim of exact bits")
    for out, tier in ((1.0, Tier.T0), (1.25, Tier.T3)):
        reached = judge.judge(_single(out), free).tier
        if reached is not tier:
            yield f"{out} reaches {reached} and not {tier}"
    missing = Expected(FLOAT32, (1,), (), Tier.T0)
    yield _accepted(_single(1.0), missing, False, "a tier without acceptance passes")


def _claims_are_held() -> Iterator[str]:
    """A unit that is declared to the bit is not let off with a bound; a weak one is below."""
    one = next(c for c in catalogue.bundled() if c.id == "fp8/ScaledMatMul/e5m2xe5m2/normal/k129")
    key = ("ScaledMatMul", "*", "*", "*")
    exact = AccumulatorSpec(
        guarantee="bit_exact", width=32, order="contiguous", tree="sequential", align_bits=25
    )
    claimed = NumericsDatasheet(contractions={key: exact})
    right = examine.examine(one, stand_ins.Perfect(claimed))
    if (right.status, right.tier) != (Status.PASSED, "T1"):
        yield f"the declared unit itself: {right.status} at {right.tier}"
    code = stand_ins.at(0, lambda out: int(out.codes.flat[0]) ^ 1)
    if examine.examine(one, stand_ins.Changed(code, claimed)).status is not Status.FAILED:
        yield "one unit in the last place beside the declared bits passes"
    weak = NumericsDatasheet(contractions={key: replace(exact, significand_bits=8, align_bits=8)})
    if examine.examine(one, stand_ins.Perfect(weak)).status is not Status.BELOW_PROFILE:
        yield "8 significand bits are not below the profile"


# -- known answers ---------------------------------------------------------------------------

#: Case, output, element, and a value that needs no oracle to be known.
_KNOWN: Mapping[str, tuple[int, float]] = {
    "fp8/Cast/e4m3xfp32": (0x7E, 448.0),
    "mx/Cast/e2m1xfp32": (7, 6.0),
    "mx/Cast/e3m2xfp32": (31, 28.0),
}


def _known_answers() -> Iterator[str]:
    """The oracle is asked for what is printed in the formats' specifications."""
    by_id = {one.id: one for one in catalogue.bundled()}
    for name, (code, value) in _KNOWN.items():
        problem = registry.generator(by_id[name].generator)(
            by_id[name], Context(NumericsDatasheet(), 0)
        )
        operand = problem.operands[0]
        # An oracle that looks at the device would repeat this nonsense.
        (nonsense,) = stand_ins.Perfect().run(problem, 0)
        nonsense = Tensor(nonsense.format, np.zeros_like(nonsense.codes))
        out = stand_ins.answer(problem.oracle((nonsense,))[0])
        if operand is None:
            yield f"{name}: no operand"
            continue
        place = np.flatnonzero(operand.codes.reshape(-1) == code)
        if not len(place) or out.values.reshape(-1)[place[0]] != value:
            yield f"{name}: code {code:#x} is not {value}"


def _seeds_count() -> Iterator[str]:
    one = next(c for c in catalogue.bundled() if c.id == "fp32/MatMul/fp32xfp32/normal/k40")
    make = registry.generator(one.generator)
    first, same, other = (
        make(one, Context(NumericsDatasheet(), seed)).operands[0] for seed in (0, 0, 1)
    )
    if first is None or same is None or other is None:
        yield "a product without operands"
    elif first.codes.tobytes() != same.codes.tobytes():
        yield "equal seeds give different data"
    elif first.codes.tobytes() == other.codes.tobytes():
        yield "different seeds give equal data"


def _digests_tell_outputs_apart() -> Iterator[str]:
    digests = {examine.examine(s.case, stand_ins.Perfect()).digest for s in _samples()[:20]}
    if len(digests) < 15:
        yield f"{len(digests)} digests of 20 cases"
    if "" in digests:
        yield "a case has no digest"


_CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    _nan_is_seen,
    _infinities_are_seen,
    _bounds_are_kept,
    _signed_zeros_count,
    _tiers_are_told_apart,
    _claims_are_held,
    _known_answers,
    _seeds_count,
    selftest_run.errors_are_not_passes,
    selftest_run.faults_of_the_whole_are_seen,
    selftest_run.company_hides_nothing,
    selftest_run.exit_codes,
    selftest_run.waivers_cover_what_they_name,
    selftest_run.nothing_is_left_out,
    _shape_format_and_number_count,
    _digests_tell_outputs_apart,
    _right_answers_pass,
    _all_zero_fails,
    _echo_fails,
    _unwritten_output_fails,
    _one_element_decides,
    _bounds_are_derived,
)
