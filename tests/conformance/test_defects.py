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
