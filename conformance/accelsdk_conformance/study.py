"""Looks at a failing case more closely: is it repeatable, what is its smallest input?

Runs in a worker process, for a study may crash as the case did. Its findings travel in the
fields ``repeats``, ``shrunk``, ``xor`` and ``folder`` of a `Result`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from accelsdk.errors import AccelError
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.examine import Attempt, Subject, attempt
from accelsdk_conformance.judge import compare
from accelsdk_conformance.oracles.tensor import Codes, Mask, Tensor, encode, from_integers
from accelsdk_conformance.problem import Context, Exact, Expected, Problem
from accelsdk_conformance.registry import generator
from accelsdk_conformance.replay import export, folder_name
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings, Study
from accelsdk_conformance.shrink import Shrunk, describe, shrink

_MASKS = 4  # wrong codes that are shown with their masks


def study_case(
    case: Case,
    subject: Subject,
    settings: Settings,
    again: Callable[[], Result],
    recover: Callable[[], None],
) -> Result:
    """Runs a failing case again and again, shrinks it, and writes its replay folder.

    Args:
        case: What failed.
        subject: On what.
        settings: With ``study``.
        again: Runs the case as it was run.
        recover: Resets a device that a candidate has failed; what it raises ends the study.
    """
    study = settings.study or Study()
    if case.profile is Profile.DEVICE:
        results = []
        for _ in range(study.repeats):
            results.append(again())
            recover()
        return replace(results[-1], repeats=repeated(results))
    problem = generator(case.generator)(case, Context(subject.datasheet, settings.seed))
    folder = folder_name(case.id) if study.folder else ""
    # Before anything runs: a case that takes the process down leaves its input behind.
    unknown = Attempt(Result(id=case.id, status=Status.CRASHED))
    _exported(study, folder, case, settings, problem, unknown)
    attempts = []
    for _ in range(study.repeats):
        attempts.append(attempt(case, problem, subject))
        recover()
    found = repeated([one.result for one in attempts])
    failing = [one for one in attempts if one.result.status is Status.FAILED]
    if not failing:
        return replace(attempts[-1].result, repeats=found, folder=folder)
    last, words = failing[-1], ""
    if len(failing) == len(attempts) and study.budget:

        def fails(candidate: Problem) -> bool:
            nonlocal last
            one = attempt(case, candidate, subject)
            if one.result.status is not Status.FAILED or _kind(one) != _kind(last):
                return False
            recover()
            last = one
            return True

        outcome = shrink(problem, fails, study.budget)
        if outcome.executions:
            problem = outcome.problem
            words = _words(problem, last.result, outcome)
    _exported(study, folder, case, settings, problem, last)
    shown = replace(last.result, repeats=found, shrunk=words, folder=folder)
    return replace(shown, xor=masks(last.outputs, last.expected))


def _kind(one: Attempt) -> str:
    """Tells wrong outputs from errors, and those from each other: what shrinks must stay."""
    return "" if one.outputs else one.result.reason.partition(":")[0]


def _words(problem: Problem, result: Result, outcome: Shrunk) -> str:
    """Returns the smallest input, and what comes of it."""
    parts = [describe(problem)]
    for failure in result.failures[:1]:
        parts.append(f"actual {failure.actual}, expected {failure.expected}")
        parts.append(f"bound {failure.bound}, distance {failure.ulp} ulp")
    if not result.failures:
        parts.append(result.reason)
    if not outcome.complete:
        parts.append(f"not smaller within {outcome.executions} executions")
    return "; ".join(parts)


def _exported(
    study: Study, folder: str, case: Case, settings: Settings, problem: Problem, one: Attempt
) -> None:
    if folder:
        export(study.folder, folder, case, settings, problem, one)


def repeated(results: Sequence[Result]) -> str:
    """Says in words whether a failure is repeatable on its unit."""
    failing = [result for result in results if not result.status.conformant]
    count = f"{len(failing)} of {len(results)} times"
    if not failing:
        return f"intermittent: passed {len(results)} times when it was run again"
    digests = {result.digest for result in failing if result.digest}
    bits = "with the same bits" if len(digests) == 1 else f"with {len(digests)} different outputs"
    bits = f", {bits}" if digests else ""
    if len(failing) < len(results):
        return f"intermittent: failed {count} when it was run again{bits}"
    return f"persistent: failed {count} when it was run again{bits}"


def masks(outputs: Sequence[Tensor], expected: Sequence[Expected]) -> tuple[str, ...]:
    """Returns ``actual ^ expected`` of the first wrong codes, with offset and element.

    Where a value may differ within a bound, the mask is against the exact result, rounded.
    """
    found: list[str] = []
    for index, (out, want) in enumerate(zip(outputs, expected, strict=True)):
        accept = next((one for tier, one in want.tiers if tier is want.required), None)
        if accept is None or (out.format, out.shape) != (want.format, want.shape):
            continue
        compared = compare(out, accept)
        codes = accept.codes if isinstance(accept, Exact) else _codes(compared.expected, out)
        found += _xor(index, out, np.broadcast_to(codes, out.shape), compared.wrong)
    return tuple(found[:_MASKS])


def between(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[str, ...]:
    """Returns the masks between the outputs of two runs of one problem."""
    found: list[str] = []
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.shape == other.shape:
            found += _xor(index, other, one.codes, one.codes != other.codes)
    return tuple(found[:_MASKS])


def _xor(index: int, out: Tensor, right: Codes, wrong: Mask) -> list[str]:
    digits = -(-out.format.bits // 4)
    told = []
    for place in np.flatnonzero(wrong.reshape(-1))[:_MASKS].tolist():
        got, good = int(out.codes.reshape(-1)[place]), int(right.reshape(-1)[place])
        told.append(
            f"output {index}, offset {place}: 0x{got:0{digits}X} ^ 0x{good:0{digits}X} = "
            f"0x{got ^ good:0{digits}X}"
        )
    return told


def _codes(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], like: Tensor) -> Codes:
    if like.format.is_float:
        return encode(values, like.format).codes
    with suppress(AccelError):
        return from_integers(np.rint(values), like.format).codes
    return like.codes
