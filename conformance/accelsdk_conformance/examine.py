"""One case from data to verdict: make the problem, run it, judge the outputs, explain."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.errors import AccelError, Unimplemented, UnsupportedGraph
from accelsdk.formats import Format
from accelsdk_conformance.blame import blame
from accelsdk_conformance.case import Case
from accelsdk_conformance.judge import Comparison, Judgement, judge, ulp_distance
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import (
    BelowProfile,
    Context,
    Expected,
    NotApplicable,
    Problem,
    Tier,
)
from accelsdk_conformance.registry import generator
from accelsdk_conformance.result import Failure, Result, Status

_SHOWN = 3  # failing elements that a result carries
_ORDER = [*Tier]


class Subject(Protocol):
    """Whatever runs problems: a device behind the SDK, or a stand-in of a test."""

    @property
    def datasheet(self) -> NumericsDatasheet:
        """What the subject claims its arithmetic to be."""

    def run(self, problem: Problem, poison: int) -> tuple[Tensor, ...]:
        """Runs one problem.

        Args:
            problem: What to run.
            poison: Byte that output memory is filled with before, and its surroundings,
                which must still hold it afterwards.

        Raises:
            UnsupportedGraph: The subject does not claim the op.
            SentinelOverwritten: Memory around an output changed.
        """


class SentinelOverwritten(Exception):
    """The device wrote outside of an output; the text says where."""


def examine(case: Case, subject: Subject, seed: int = 0) -> Result:
    """Runs one case of an op profile and returns its verdict.

    Args:
        case: What to run.
        subject: On what.
        seed: Added to the case's own seed.
    """
    problem = made(case, subject.datasheet, seed)
    if isinstance(problem, Result):
        return problem
    found = attempt(case, problem, subject)
    if found.result.status is not Status.FAILED or not found.expected:
        return found.result
    context = Context(subject.datasheet, seed)
    said = blame(case, context, problem, found.outputs, found.expected)
    words = "; ".join(part for part in (found.result.reason, said.reason) if part)
    return replace(found.result, claim=said.claim or found.result.claim, reason=words)


def made(case: Case, datasheet: NumericsDatasheet, seed: int) -> Problem | Result:
    """Makes the problem of a case; or its result, if there is nothing to run."""
    try:
        return generator(case.generator)(case, Context(datasheet, seed))
    except NotApplicable as reason:
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=str(reason))
    except BelowProfile as reason:
        return Result(id=case.id, status=Status.BELOW_PROFILE, reason=str(reason))


class Attempt(NamedTuple):
    """One execution of a problem.

    Attributes:
        result: The verdict.
        outputs: What came out; empty if nothing did.
        expected: What was to come out; empty if nothing came out.
    """

    result: Result
    outputs: tuple[Tensor, ...] = ()
    expected: tuple[Expected, ...] = ()


def attempt(case: Case, problem: Problem, subject: Subject, poison: int | None = None) -> Attempt:
    """Runs a problem once and judges what comes out; by default with the problem's poison."""
    try:
        outputs = subject.run(problem, problem.poison if poison is None else poison)
        again = (subject.run(problem, problem.poison) for _ in range(1, problem.repeats))
        changed = any(_digest(other) != _digest(outputs) for other in again)
    except (UnsupportedGraph, Unimplemented) as reason:
        return Attempt(_refused(case, problem, subject, _line(reason)))
    except (AccelError, SentinelOverwritten) as error:
        text = f"{type(error).__name__}: {_line(error)}"
        return Attempt(Result(id=case.id, status=Status.FAILED, reason=text))
    expected = problem.oracle(outputs)
    if changed:
        entry = next((want.claim for want in expected), "")
        text = f"{problem.repeats} runs of one program on equal operands differ"
        claim = f"{entry}.deterministic"
        return Attempt(Result(id=case.id, status=Status.FAILED, reason=text, claim=claim))
    return Attempt(verdict(case, problem, outputs, expected), outputs, expected)


def _refused(case: Case, problem: Problem, subject: Subject, reason: str) -> Result:
    """A refusal is no failure, unless what the device claims contradicts it."""
    promise = problem.promise
    if promise is not None:
        try:
            subject.run(promise.given, promise.given.poison)
        except (AccelError, SentinelOverwritten):
            promise = None  # it takes neither: then it is not for the field's sake
    if promise is None:
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=reason)
    text = f"claim {promise.claim} is false: {reason}"
    return Result(id=case.id, status=Status.FAILED, reason=text, claim=promise.claim)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def verdict(
    case: Case, problem: Problem, outputs: Sequence[Tensor], expected: Sequence[Expected]
) -> Result:
    """Judges all outputs of a case and puts the failures into words."""
    if len(outputs) != len(expected) or not expected:
        reason = f"{len(outputs)} outputs, {len(expected)} expected"
        return Result(id=case.id, status=Status.FAILED, reason=reason)
    judgements = [judge(out, want) for out, want in zip(outputs, expected, strict=True)]
    passed = all(one.passed for one in judgements)
    tiers = [one.tier for one in judgements if one.tier is not None]
    failures: list[Failure] = []
    for index, (one, out) in enumerate(zip(judgements, outputs, strict=True)):
        if not one.passed and one.demanded is not None:
            failures += _failures(index, problem, out, one.demanded)
    broken = [want for one, want in zip(judgements, expected, strict=True) if not one.passed]
    return Result(
        id=case.id,
        status=Status.PASSED if passed else Status.FAILED,
        tier=max(tiers, key=_ORDER.index) if passed and tiers else "",
        reason="" if passed else _reason(judgements, outputs, expected),
        claim=next((want.claim for want in broken or expected if want.claim), ""),
        elements=sum(math.prod(out.shape) for out in outputs),
        wrong=0 if passed else sum(int(o.demanded.wrong.sum()) for o in judgements if o.demanded),
        ratio=max((_worst(one) for one in judgements), default=0.0),
        digest=_digest(outputs),
        failures=tuple(failures[:_SHOWN]),
    )


def _worst(judgement: Judgement) -> float:
    demanded = judgement.demanded
    if demanded is None or not demanded.ratio.size:
        return 0.0
    worst = float(demanded.ratio.max())
    return min(worst, 1e300) if worst == worst else 1e300


def _digest(outputs: Sequence[Tensor]) -> str:
    state = hashlib.sha256()
    for out in outputs:
        state.update(out.packed())
    return state.hexdigest()[:16]


def _reason(
    judgements: Sequence[Judgement], outputs: Sequence[Tensor], expected: Sequence[Expected]
) -> str:
    parts = []
    for index, (one, out, want) in enumerate(zip(judgements, outputs, expected, strict=True)):
        if one.passed:
            continue
        if one.problem:
            parts.append(f"output {index}: {one.problem}")
        elif one.demanded is not None:
            wrong = int(one.demanded.wrong.sum())
            parts.append(
                f"output {index}: {wrong} of {math.prod(out.shape)} {out.format} elements "
                f"miss tier {want.required}"
            )
    return "; ".join(parts)


def _failures(index: int, problem: Problem, out: Tensor, compared: Comparison) -> list[Failure]:
    """Describes the simplest wrong elements: least expected magnitude first."""
    where = np.argwhere(compared.wrong)
    size = np.abs(np.nan_to_num(compared.expected[compared.wrong], nan=0.0, posinf=1e300))
    order = np.argsort(size, kind="stable")[:_SHOWN]
    found = []
    for row in where[order]:
        element = tuple(int(i) for i in row)
        got, want = out.values[element], compared.expected[element]
        bound = compared.bound[element]
        found.append(
            Failure(
                output=index,
                element=element,
                inputs=(problem.explain or _meeting(problem))(element),
                actual=show(float(got), int(out.codes[element]), out.format),
                expected=f"{float(want)!r}",
                bound=f"{float(bound):.6g}" if bound else "exact",
                ulp=f"{float(ulp_distance(np.array(got), np.array(want), out.format)):.6g}",
            )
        )
    return found


def show(value: float, code: int, fmt: Format) -> str:
    """Returns a value with its code, for people."""
    return f"{value!r} (0x{code:0{-(-fmt.bits // 4)}X})"


def _meeting(problem: Problem) -> Callable[[tuple[int, ...]], str]:
    """Explains an output element by the operand elements that broadcast to it."""

    def explain(element: tuple[int, ...]) -> str:
        parts = []
        for position, operand in enumerate(problem.operands):
            if operand is None or operand.codes.size == 0:
                continue
            shape = operand.shape
            if len(shape) > len(element):
                parts.append(f"operand {position}: {operand.format}{list(shape)}")
                continue
            tail = element[len(element) - len(shape) :]
            if all(extent in (1,) or i < extent for extent, i in zip(shape, tail, strict=True)):
                at = tuple(min(i, extent - 1) for i, extent in zip(tail, shape, strict=True))
                value, code = operand.values[at], int(operand.codes[at])
                parts.append(show(float(value), code, operand.format))
            else:
                parts.append(f"operand {position}: {operand.format}{list(shape)}")
        return ", ".join(parts) or "no operands"

    return explain
