"""One case in fleet mode: run twice, and again if it fails. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from accelsdk_conformance.case import Case
from accelsdk_conformance.examine import Attempt, Subject, attempt
from accelsdk_conformance.problem import BelowProfile, Context, NotApplicable, Problem
from accelsdk_conformance.registry import generator
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.study import between, masks, repeated


def soak_case(
    case: Case, subject: Subject, seed: int, retests: int, recover: Callable[[], None]
) -> Result:
    """Runs a problem twice, which must give the same bits; runs a failing one again.

    Args:
        case: What to run.
        subject: On what.
        seed: Added to the case's own seed.
        retests: How often a failing problem is run again on this unit.
        recover: Resets a device that a run has failed.
    """
    try:
        problem = generator(case.generator)(case, Context(subject.datasheet, seed))
    except NotApplicable as reason:
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=str(reason))
    except BelowProfile as reason:
        return Result(id=case.id, status=Status.BELOW_PROFILE, reason=str(reason))
    first = attempt(case, problem, subject)
    if first.result.status is Status.PASSED:
        return _second(case, problem, subject, first)
    if first.result.status is not Status.FAILED:
        return first.result
    results = []
    for _ in range(retests):
        recover()
        results.append(attempt(case, problem, subject).result)
    told = repeated(results) if results else ""
    return replace(first.result, repeats=told, xor=masks(first.outputs, first.expected))


def _second(case: Case, problem: Problem, subject: Subject, first: Attempt) -> Result:
    # Other bytes around it: an output that depends on what its memory held shows, too.
    second = attempt(case, problem, subject, problem.poison ^ 0xFF)
    if second.result.digest == first.result.digest:
        return first.result
    if second.result.status is not Status.PASSED:
        found = replace(second.result, xor=masks(second.outputs, second.expected))
        return replace(found, repeats="intermittent: passed, and failed when it was run again")
    return replace(
        second.result,
        status=Status.FAILED,
        reason="the same problem gave other bits when it was run again, both within their bound",
        repeats="intermittent: the bits change",
        xor=between(first.outputs, second.outputs),
    )
