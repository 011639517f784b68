"""A worker process: opens the plugin, runs the cases it is sent, answers line by line.

It is expendable. A plugin that crashes, hangs or writes to standard output harms this process
alone; the parent (`pool`) sees the end of the pipe or the missing answer, and starts another.

Protocol, one JSON value a line: the parent sends the settings, then lists of cases that may share
a program; the worker sends ``{"ready": {...}}`` or ``{"refused": code, "text": ...}`` once, then
for each list ``{"results": [...], "lost": ""}``, where ``lost`` says why the device does not come
back (then results may be missing).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, cast

from accelsdk.errors import AccelError
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.examine import Subject, examine
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.together import DeviceLost, Together

if TYPE_CHECKING:
    from accelsdk_conformance.subject import ClientSubject


def main() -> int:
    """Runs the protocol until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what the plugin prints must not reach the protocol
    settings = Settings.from_json(sys.stdin.readline())
    try:
        from accelsdk_conformance.subject import ClientSubject

        subject = ClientSubject(settings.plugin, settings.options, settings.device)
    except AccelError as error:
        _send(answers, {"refused": error.code.value, "text": str(error)})
        return 1
    _send(answers, {"ready": subject.describe()})
    # What is loaded stays: a collection between cases need not look at it again.
    # Cases leave few cycles, so it looks seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    for line in sys.stdin:
        results, lost = _answer(
            [Case.from_data(data) for data in json.loads(line)], subject, settings
        )
        _send(answers, {"results": [result.as_data() for result in results], "lost": lost})
        if lost:
            break
    with suppress(AccelError):  # of a device that is lost, or that a case has left in disorder
        subject.close()
    return 0


def _answer(
    cases: Sequence[Case], subject: ClientSubject, settings: Settings
) -> tuple[Iterable[Result], str]:
    """Runs cases as the settings say; returns their results, and why the device is lost."""

    def run_alone(case: Case) -> Result:
        if settings.study is None and settings.retests is None:
            return run_case(case, subject, settings.seed)
        return _looked_at(case, subject, settings)

    group = Together(subject, settings.seed, run_alone)
    try:
        group.run(cases)
    except DeviceLost as error:
        return group.results.values(), str(error)
    return group.results.values(), ""


def _looked_at(case: Case, subject: ClientSubject, settings: Settings) -> Result:
    """Studies or soaks a case; a foreign exception becomes the result, as in `run_case`."""
    from accelsdk_conformance.soak import soak_case
    from accelsdk_conformance.study import study_case

    try:
        if settings.retests is not None:
            return soak_case(case, subject, settings.seed, settings.retests, subject.recover)
        return study_case(
            case,
            subject,
            settings,
            lambda: run_case(case, subject, settings.seed),
            subject.recover,
        )
    except Exception as error:  # of a generator or of the suite: say so, go on
        return Result(id=case.id, status=Status.ERROR, reason=f"{type(error).__name__}: {error}")


def run_case(case: Case, subject: Subject, seed: int) -> Result:
    """Runs one case of any profile; a foreign exception becomes the case's result."""
    started = time.perf_counter()
    try:
        if case.profile is Profile.DEVICE:
            from accelsdk_conformance.scenarios.run import DeviceSubject, run_scenario

            result = run_scenario(case, cast("DeviceSubject", subject), seed)
        else:
            result = examine(case, subject, seed)
    except Exception as error:  # a defect of the suite or of a vendor's generator: say so, go on
        result = Result(id=case.id, status=Status.ERROR, reason=f"{type(error).__name__}: {error}")
    return replace(result, seconds=round(time.perf_counter() - started, 6))


def _send(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
