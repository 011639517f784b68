"""Runs device cases on a backend object, in this process; what never answers is hung."""

import threading
from contextlib import suppress

from accelsdk.errors import AccelError
from accelsdk.runtime.client import Client
from accelsdk_conformance.case import Level, Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.scenarios.run import run_scenario

#: Seconds that one wait of a scenario, and a whole case, may take.
PATIENCE, LIMIT = 1.5, 5.0

CASES = {
    case.id: case
    for case in bundled()
    if case.profile is Profile.DEVICE and Level.STANDARD.holds(case.level)
}


class Subject:
    """A client of a backend object, as the scenarios want it."""

    def __init__(self, backend, options=None):
        self.client = Client(backend, options)
        self.device = self.client.device(0)

    def release(self):
        pass

    def close(self):
        self.client.close(timeout=PATIENCE)


def judge(case, subject, patience=PATIENCE, limit=LIMIT):
    """Returns the result of one case; ``hung`` if there is none in time."""
    found = []

    def run():
        try:
            found.append(run_scenario(case, subject, patience=patience))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            found.append(Result(id=case.id, status=Status.ERROR, reason=text))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if not found:
        return Result(id=case.id, status=Status.HUNG, reason=f"no answer within {limit:g} s")
    return found[0]


def first_kill(backend, ids=tuple(CASES), options=None):
    """Returns the first result that is not conformant, or None if the backend survives."""
    subject = None
    try:
        subject = Subject(backend, options)
        for name in ids:
            result = judge(CASES[name], subject)
            if not result.status.conformant:
                return result
    except AccelError as error:
        return Result(id="open", status=Status.ERROR, reason=f"{type(error).__name__}: {error}")
    finally:
        if subject is not None:
            _close(subject)
    return None


def every_result(backend, ids=tuple(CASES), options=None):
    """Returns the results of all cases on one client."""
    subject = Subject(backend, options)
    try:
        return [judge(CASES[name], subject, patience=20.0, limit=120.0) for name in ids]
    finally:
        subject.close()


def _close(subject):
    thread = threading.Thread(target=_quietly, args=(subject.close,), daemon=True)
    thread.start()
    thread.join(2 * PATIENCE)


def _quietly(function):
    with suppress(AccelError):  # a faulty card may fail to close: that is what it is for
        function()
