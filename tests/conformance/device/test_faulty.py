"""Every faulty plugin is killed by the device profile, in the area that its fault belongs to."""

import logging

import pytest

from tests.conformance.device.bench import CASES, first_kill
from tests.conformance.device.faulty import load_all

CATALOGUE = load_all()

pytestmark = pytest.mark.usefixtures("frozen")


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_device_profile_kills(name, caplog):
    caplog.set_level(logging.CRITICAL, "accelsdk")
    fault = CATALOGUE[name]
    ids = [case for case in CASES if case.startswith(f"device/{fault.area}")]
    killer = first_kill(fault.make(), ids)
    assert killer is not None, f"{name} survives device/{fault.area}: {fault.summary}"


def test_the_catalogue_is_large_and_says_what_is_wrong():
    assert len(CATALOGUE) >= 90
    assert all(fault.summary.endswith(".") for fault in CATALOGUE.values())
