"""Every conformance case as a pytest item; collected by ``--pyargs accelsdk_conformance``."""

from __future__ import annotations

import pytest

from accelsdk_conformance.case import Case
from accelsdk_conformance.result import Status
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.subject import ClientSubject
from accelsdk_conformance.worker import run_case


def test_conformance(
    conformance_case: Case,
    conformance_subject: ClientSubject,
    conformance_settings: Settings,
) -> None:
    """The backend conforms, or says that it does not support the case."""
    result = run_case(conformance_case, conformance_subject, 0)
    if result.status is Status.UNSUPPORTED:
        pytest.skip(result.reason)
    if not result.status.conformant:
        lines = [
            f"element {list(f.element)}: {f.inputs}; actual {f.actual}, expected {f.expected}, "
            f"bound {f.bound}, {f.ulp} ulp"
            for f in result.failures
        ]
        text = "\n".join([f"{result.status}: {result.reason}", *lines])
        pytest.fail(f"{text}\n{conformance_settings.replay(result.id)}", pytrace=False)
