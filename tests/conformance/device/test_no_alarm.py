"""Right cards of every shape pass the whole device profile."""

import pytest

from accelsdk.backend.info import Threading
from accelsdk_conformance.result import Status
from tests.conformance.device.bench import every_result
from tests.conformance.device.card import ONE, CardBackend

pytestmark = pytest.mark.usefixtures("frozen")

NONE = frozenset()

SHAPES = {
    "bare": {"capabilities": NONE, "visible": False, "cards": 1, "counts": False},
    "serial": {},
    "small": {"capacity": 2 << 20},
    "free": {"threading": Threading.FREE},
    "affine": {"threading": Threading.AFFINE},
    "process": {"threading": Threading.PROCESS},
    "aligned-64": {"view_alignment": 64},
    "aligned-256": {"view_alignment": 256, "alignment": 256, "threading": Threading.FREE},
    "staged-peers": {"capabilities": frozenset({"map"}), "cards": 3},
    "eager": {"kind": "eager"},
    "eager-free": {"kind": "eager", "threading": Threading.FREE},
    "eager-affine": {"kind": "eager", "threading": Threading.AFFINE},
    "eager-aligned-64": {"kind": "eager", "view_alignment": 64},
    "eager-one-queue": {"kind": "eager", "queues": ONE, "capabilities": frozenset({"queues"})},
    "on-wait": {"kind": "on_wait"},
    "on-wait-shuffled": {"kind": "on_wait", "seed": 5, "cards": 4},
    "on-wait-aligned-256": {"kind": "on_wait", "view_alignment": 256, "alignment": 256},
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_right_card_passes(name):
    results = every_result(CardBackend(**SHAPES[name]))
    assert [f"{r.id}: {r.reason}" for r in results if not r.status.conformant] == []
    assert sum(r.status is Status.PASSED for r in results) > 120
