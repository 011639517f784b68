"""A worker process: opens the plugin, runs the cases it is sent, answers line by line.

It is expendable. A plugin that crashes, hangs or writes to standard output harms this process
alone; the parent (`pool`) sees the end of the pipe or the missing answer, and starts another.

Protocol, one JSON object a line: the parent sends the settings, then cases; the worker sends
``{"ready": {...}}`` or ``{"refused": code, "text": ...}`` once, then for each case
``{"start": id}`` and ``{"result": {...}}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import IO, Any, cast

from accelsdk.errors import AccelError
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.examine import Subject, examine
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings


def main() -> int:
    """Runs the protocol until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what the plugin prints must not reach the protocol
    settings = Settings.from_json(sys.stdin.readline())
    try:
        from accelsdk_conformance.subject import ClientSubject

        subject = ClientSubject(settings.plugin, settings.options)
    except AccelError as error:
        _send(answers, {"refused": error.code.value, "text": str(error)})
        return 1
    _send(answers, {"ready": subject.describe()})
    for line in sys.stdin:
        case = Case.from_json(line)
        _send(answers, {"start": case.id})
        result = run_case(case, subject, settings.seed)
        if not result.status.conformant:
            with suppress(AccelError):  # a device that stays failed fails the next case, too
                subject.recover()
        _send(answers, {"result": asdict(result)})
    subject.close()
    return 0


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
