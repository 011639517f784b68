"""Runs made up of results, so that no test of a report has to run anything."""

from accelsdk_conformance.case import Level
from accelsdk_conformance.result import Failure, Result, Status
from accelsdk_conformance.run import Run, environment
from accelsdk_conformance.settings import Settings

ABOUT = {
    "backend": "acme",
    "vendor": "Acme",
    "version": "1.2",
    "kind": "NPU 7",
    "claims": [["casts", "*, *", "rounding='nearest_even'"], ["quantize", "", "scaling='divide'"]],
}
FAILURE = Failure(
    output=0,
    element=(1, 2),
    inputs="1.0 (0x3C00) <b>",
    actual="2.0 (0x4000)",
    expected="1.0",
    bound="exact",
    ulp="1024",
)


def passed(case, **more):
    return Result(id=case.id, status=Status.PASSED, tier="T0", elements=7, digest="ab", **more)


def failed(case, **more):
    return Result(
        id=case.id, status=Status.FAILED, reason="wrong", wrong=1, failures=(FAILURE,), **more
    )


def make_run(cases, results, **more):
    more.setdefault("level", Level.STANDARD)
    more.setdefault("profiles", ())
    return Run(
        settings=Settings(plugin="acme", options={"speed": "fast"}),
        cases={case.id: case for case in cases},
        results=tuple(results),
        about=ABOUT,
        environment=environment(),
        **more,
    )
