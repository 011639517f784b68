import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from example_runs import failed, make_run, passed

from accelsdk_conformance.case import Profile, select
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.report.data import as_json
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.waivers import Waiver


@pytest.fixture(scope="session")
def device_cases():
    return select(bundled(), profiles=[Profile.DEVICE])


@pytest.fixture
def whole(device_cases):
    """A whole and conformant run of one profile."""
    return make_run(device_cases, map(passed, device_cases), profiles=(Profile.DEVICE,))


@pytest.fixture
def mixed():
    """A selection with everything in it that a report can tell of."""
    ids = ["fp8/Cast/fp32xe4m3/saturate1", "fp8/Cast/fp32xe4m3/saturate0"]
    cases = select(bundled(), patterns=[*ids, "fp32/Exp/", "fp32/Softmax/"])
    by_op = {op: [case for case in cases if case.op == op] for op in ("Cast", "Exp", "Softmax")}
    claim = "casts[float32, float8_e4m3fn].rounding"
    results = [failed(by_op["Cast"][0], claim=claim), passed(by_op["Cast"][1], claim=claim)]
    for rank, case in enumerate([*by_op["Cast"][2:], *by_op["Exp"], *by_op["Softmax"]]):
        results.append(Result(id=case.id, status=Status.PASSED, tier="U", ratio=0.9 / 3**rank))
    results[-1] = Result(id=results[-1].id, status=Status.HUNG, reason="no answer within 3 s")
    results[-2] = Result(id=results[-2].id, status=Status.UNSUPPORTED, reason="no <such> op")
    waiver = Waiver(results[-3].id, "firmware 1.2", "https://example.org/7", expected=True)
    results[-3] = Result(
        id=results[-3].id, status=Status.XFAIL, reason=f"{waiver.reason} ({waiver.link})"
    )
    return make_run(cases, results, partial=True, waivers=(waiver,))


@pytest.fixture
def report(mixed):
    return as_json(mixed)
