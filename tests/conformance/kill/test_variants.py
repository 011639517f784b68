"""Correct cards raise no alarm: every variant at smoke here, at standard by hand."""

import pytest

from accelsdk_conformance.case import Level
from accelsdk_sim_card.variants import catalogue
from tests.conformance.kill.variants import judge, touched


def test_there_are_thirty_ways_of_being_right():
    assert len(catalogue.BY_NAME) == len(catalogue.VARIANTS) >= 30


@pytest.mark.parametrize("name", catalogue.BY_NAME)
def test_a_variant_raises_no_alarm(name):
    assert touched(name, Level.SMOKE) or touched(name, Level.STANDARD)
    assert judge(Level.SMOKE, name).alarms == []
