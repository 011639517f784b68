"""The kill matrix: every defect of the simulated card is seen, and the sound card is not."""

import re
from collections import Counter

import pytest

from accelsdk_conformance.case import Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.result import Status
from accelsdk_conformance.subject import ClientSubject
from accelsdk_conformance.worker import run_case
from accelsdk_sim_card.defects import catalogue

CASES = [case for case in bundled() if case.profile is not Profile.DEVICE]


def concerned(text):
    """Returns the cases of the ops that a defect names, the first of each group first."""
    words = set(re.findall(r"\w+", text))
    ops = [case for case in CASES if case.op in words]
    narrow = [case for case in CASES if {"e2m1", "int4"} & set(case.formats)]
    seen = Counter()
    ranked = []
    for case in ops or narrow:
        group = (case.op, case.formats, case.generator)
        ranked.append((seen[group], case))
        seen[group] += 1
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]


@pytest.mark.parametrize("name", catalogue.BY_NAME)
def test_the_suite_kills(name):
    defect = catalogue.BY_NAME[name]
    subject = ClientSubject("sim_card", {"defect": name})
    try:
        killer = next(
            (
                case
                for case in concerned(defect.breaks)
                if run_case(case, subject, 0).status is Status.FAILED
            ),
            None,
        )
    finally:
        subject.close()
    assert killer is not None, f"{name} survives: {defect.summary}"


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
