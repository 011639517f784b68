"""The suite's self-test is green, and turns red for every checker that has gone blind."""

import pytest

from accelsdk_conformance import selftest
from accelsdk_sim_card.defects import catalogue
from tests.conformance import tables
from tests.conformance.kill import page
from tests.conformance.kill.mutants import MUTANTS


def test_the_checker_is_sound():
    assert [(check.name, check.fault) for check in selftest.self_test() if not check.ok] == []


def test_there_are_twenty_mutants():
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize("name", MUTANTS)
def test_the_self_test_sees(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    if "gone" in name:
        selftest._samples.cache_clear()
    try:
        red = next((check for check in selftest.checks() if not check.ok), None)
    finally:
        if "gone" in name:
            selftest._samples.cache_clear()
    assert red is not None, f"nobody sees that {name}"


def test_the_page_lists_every_defect_and_mutant():
    text = tables.KILL_MATRIX.read_text("utf-8")
    assert tables.replaced(text, "mutants", page.names(MUTANTS)) == text
    missing = [name for name in catalogue.BY_NAME if f"| `{name}` |" not in text]
    assert missing == []
