"""Checks of what surrounds the judge: errors, exit codes, waivers, selection (`selftest`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count

import numpy as np

from accelsdk.errors import AccelError, DeviceFault, InvalidArgument, NotFound, UnsupportedGraph
from accelsdk.formats import INT8
from accelsdk_conformance import (
    case,
    catalogue,
    examine,
    judge,
    run,
    settings,
    stand_ins,
    together,
    waivers,
    worker,
)
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Problem, Promise, always, expect_exact
from accelsdk_conformance.result import Result, Status


def errors_are_not_passes() -> Iterator[str]:
    """What a device raises fails; what the suite raises is an error; neither passes."""
    one = next(c for c in catalogue.bundled() if c.profile is case.Profile.FP32)
    for error, wanted in (
        (DeviceFault("the device fell off the bus"), Status.FAILED),
        (examine.SentinelOverwritten("byte 7 changed"), Status.FAILED),
        (AccelError("the driver gave up"), Status.FAILED),
        (UnsupportedGraph("not claimed"), Status.UNSUPPORTED),
        (RuntimeError("a foreign exception"), Status.ERROR),
    ):
        found = worker.run_case(one, stand_ins.Raising(error), 0).status
        if found is not wanted:
            yield f"{type(error).__name__} gives {found} and not {wanted}"


_BYTES = Tensor(INT8, np.arange(8, dtype=np.uint8))
_COPY = Problem(op="Identity", operands=(_BYTES,), oracle=always(expect_exact(_BYTES)))


def faults_of_the_whole_are_seen() -> Iterator[str]:
    """Outputs fail if they are wrong as a whole, change from run to run, or break a promise."""
    one = next(c for c in catalogue.bundled() if c.profile is case.Profile.FP32)
    if judge.judge(_BYTES, replace(expect_exact(_BYTES), objection="biased")).passed:
        yield "an objection is ignored"
    right = stand_ins.Perfect()
    if examine.attempt(one, replace(_COPY, repeats=3), right).result.status is not Status.PASSED:
        yield "equal bits fail a claim of equal bits"
    runs = count()
    second = stand_ins.Changed(
        lambda problem, out: stand_ins.zeros(problem, out) if next(runs) == 1 else out
    )
    if examine.attempt(one, replace(_COPY, repeats=3), second).result.status is not Status.FAILED:
        yield "bits that change pass a claim of equal bits"

    def refuses(problem: Problem, out: Tensor) -> Tensor:
        if problem.promise is not None:
            raise UnsupportedGraph("not with a tail")
        return out

    promised = replace(_COPY, promise=Promise("tail", _COPY))
    found = examine.attempt(one, promised, stand_ins.Changed(refuses)).result
    if (found.status, found.claim) != (Status.FAILED, "tail"):
        yield f"a broken promise gives {found.status}"
    neither = stand_ins.Raising(UnsupportedGraph("no such op"))
    if examine.attempt(one, promised, neither).result.status is not Status.UNSUPPORTED:
        yield "a device that takes neither breaks a promise"


def company_hides_nothing() -> Iterator[str]:
    """Cases that share a program get the verdicts that they get alone, and are wrong if it is."""
    some = [c for c in catalogue.bundled() if c.generator == "elementwise.binary"][:5]
    sick = stand_ins.Changed(stand_ins.zeros)
    for subject in (stand_ins.Perfect(), sick, stand_ins.Raising(DeviceFault("gone"))):
        alone = {one.id: worker.run_case(one, subject, 0).status for one in some}
        found = {name: result.status for name, result in _together(some, subject).items()}
        if found != alone:
            yield f"{type(subject).__name__} gives {found} in company and {alone} alone"

    def breaks(problem: Problem, out: Tensor) -> Tensor:
        raise DeviceFault("the card left the bus")

    for change in (stand_ins.zeros, breaks):
        results = _together(some, stand_ins.Sociable(change)).values()
        wrong = [result for result in results if result.status is Status.FAILED]
        if not wrong or not all(result.company for result in wrong):
            yield f"a program that goes wrong ({change.__name__}) fails {len(wrong)} of its cases"


def _together(cases: Sequence[case.Case], subject: together.Company) -> dict[str, Result]:
    group = together.Together(subject, 0, lambda one: worker.run_case(one, subject, 0))
    group.run(cases)
    return group.results


def exit_codes() -> Iterator[str]:
    """Every status has the exit code of docs/conformance.md."""
    passed, how = Result(id="a", status=Status.PASSED), settings.Settings(plugin="none")
    table: list[tuple[tuple[Status, ...], int]] = [
        ((), run.COULD_NOT_RUN),
        ((Status.PASSED,), run.CONFORMANT),
        ((Status.UNSUPPORTED,), run.COULD_NOT_RUN),
        ((Status.PASSED, Status.XFAIL, Status.WAIVED, Status.UNSUPPORTED), run.CONFORMANT),
        ((Status.PASSED, Status.ERROR), run.COULD_NOT_RUN),
    ]
    bad = (Status.FAILED, Status.CRASHED, Status.HUNG, Status.XPASS, Status.BELOW_PROFILE)
    table += [((Status.PASSED, status), run.NON_CONFORMANT) for status in bad]
    for statuses, wanted in table:
        results = tuple(replace(passed, status=status) for status in statuses)
        found = run.Run(
            settings=how, level=case.Level.STANDARD, profiles=(), cases={}, results=results
        ).exit_code
        if found != wanted:
            yield f"{[str(s) for s in statuses]} exit with {found} and not {wanted}"


def waivers_cover_what_they_name() -> Iterator[str]:
    """A waiver covers what it names, and a stale one fails."""
    failed = [Result(id=name, status=Status.FAILED) for name in ("a/b", "a/c")]
    passed = [Result(id="a/d", status=Status.PASSED)]
    entry = waivers.Waiver("a/b", "known", "https://example.org", expected=False)
    found = {r.id: r.status for r in waivers.apply([*failed, *passed], [entry])}
    if found != {"a/b": Status.WAIVED, "a/c": Status.FAILED, "a/d": Status.PASSED}:
        yield f"a waiver of a/b gives {found}"
    stale = waivers.apply(passed, [entry])
    if all(result.status.conformant for result in stale):
        yield "a waiver that covers nothing passes"
    surprise = waivers.apply(passed, [replace(entry, pattern="a/d", expected=True)])
    if all(result.status.conformant for result in surprise):
        yield "an unexpected pass passes"


def nothing_is_left_out() -> Iterator[str]:
    """No grid, pattern, level or profile drops cases silently."""
    text = '[[group]]\nid = "fp8/x{k}"\nprofile = "fp8"\ngenerator = "a.b"\ngrid = { k = [] }\n'
    with suppress(InvalidArgument):
        yield f"an empty grid expands to {len(list(catalogue.expand(text, 'test')))} cases"
    every = catalogue.bundled()
    with suppress(NotFound):
        yield f"an unknown pattern selects {len(case.select(every, patterns=['no/such/case']))}"
    if len(case.select(every, level=case.Level.EXHAUSTIVE)) != len(every):
        yield "the exhaustive level leaves cases out"
    parts = [
        case.select(every, profiles=[one], level=case.Level.EXHAUSTIVE) for one in case.Profile
    ]
    if sum(map(len, parts)) != len(every) or not all(parts):
        yield "the profiles are not the whole suite"
