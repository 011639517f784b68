"""Every defect of the simulated card is killed by the suite, and the sound card is not.

The whole matrix, defect by case, is ``python -m tests.conformance.kill --full``.
"""

import pytest

from accelsdk_conformance.result import Status
from accelsdk_conformance.subject import ClientSubject
from accelsdk_conformance.worker import run_case
from accelsdk_sim_card.defects import catalogue
from tests.conformance.kill.matrix import Kept, first, op_cases, together

CASES = op_cases()


@pytest.fixture(scope="module")
def bench():
    kept = Kept()
    yield kept
    kept.sound.close()


@pytest.mark.parametrize("name", catalogue.BY_NAME)
def test_the_suite_kills(name, bench):
    row = first(name, CASES, bench)
    assert row.killers, f"{name} survives: {row.summary}"
    assert not row.faults, "a defect computes something else; it does not break the device"
    assert not bench.alarms


@pytest.mark.parametrize("name", [*catalogue.BY_NAME][::12])
def test_the_suite_kills_in_company(name):
    """In programs as a run makes them; of all: ``python -m tests.conformance.kill --together``."""
    assert together(name, CASES).killers


@pytest.mark.parametrize("preset", ["v100", "a100", "ada", "h100", "b200"])
def test_honest_units_raise_no_alarm(preset):
    """Published accumulators, honestly declared: other widths, orders and roundings pass."""
    kinds = ("all_ones", "ladder", "normal/k40", "tosa_s2/k129", "exact_grid/k129", "all_pairs")
    cases = [
        case
        for case in CASES
        if case.op in ("MatMul", "ScaledMatMul") and any(kind in case.id for kind in kinds)
    ]
    subject = ClientSubject("sim_card", {"preset": preset})
    try:
        results = [run_case(case, subject, 0) for case in cases]
    finally:
        subject.close()
    assert [(r.id, r.reason) for r in results if not r.status.conformant] == []
    assert sum(r.status is Status.PASSED for r in results) > 50
