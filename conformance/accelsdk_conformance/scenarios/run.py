"""Runs one scenario of the device profile, and looks for leaks after it."""

from __future__ import annotations

import gc
import importlib
from typing import cast

from accelsdk.errors import AccelError, NotFound, Unimplemented, UnsupportedGraph
from accelsdk_conformance.case import Case
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.scenarios.lab import Broken, Lab, Scenario
from accelsdk_conformance.subject import ClientSubject

_PACKAGE = "accelsdk_conformance.scenarios"


def scenario(name: str) -> Scenario:
    """Returns the scenario ``module.function``.

    Raises:
        NotFound: There is no such scenario.
    """
    module, _, function = name.rpartition(".")
    try:
        found: Scenario = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), function)
    except (ImportError, AttributeError) as error:
        raise NotFound(f"no scenario {name!r}", remedy="see docs/conformance.md") from error
    return found


def run_scenario(case: Case, subject: object) -> Result:
    """Runs one scenario on the subject's device and returns its verdict."""
    opened = cast("ClientSubject", subject)
    lab = Lab(opened.client, opened.device, case.seed)
    before = _in_use(opened)
    try:
        scenario(case.generator)(lab)
        lab.device.synchronize(30)
        after = _in_use(opened)
        if after != before:
            raise Broken(f"{after - before} bytes of device memory leaked")
    except NotApplicable as reason:
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=str(reason))
    except (UnsupportedGraph, Unimplemented) as reason:
        text = " ".join(str(reason).split())
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=text)
    except Broken as error:
        return Result(id=case.id, status=Status.FAILED, reason=str(error))
    except AccelError as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Result(id=case.id, status=Status.FAILED, reason=text)
    return Result(id=case.id, status=Status.PASSED, tier="T0", elements=1)


def _in_use(subject: ClientSubject) -> int:
    gc.collect()
    subject.device.trim()
    return subject.device.memory_stats().in_use
