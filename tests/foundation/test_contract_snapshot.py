"""The vendor contract is frozen per minor version: compare it with its snapshot.

After a deliberate change, append to the contract, raise the minor of ``API_VERSION`` and run
``python -m tests.foundation.contract_snapshot`` to write the new snapshot.
"""

import json
from pathlib import Path

from accelsdk.backend.info import API_VERSION
from tests.foundation.contract_snapshot import SNAPSHOT, snapshot


def test_contract_equals_its_snapshot():
    kept = json.loads(Path(SNAPSHOT).read_text(encoding="utf-8"))
    assert snapshot() == kept, "the contract changed: append only, and raise the minor version"


def test_snapshot_is_of_this_version():
    kept = json.loads(Path(SNAPSHOT).read_text(encoding="utf-8"))
    assert tuple(kept["api_version"]) == API_VERSION


def test_snapshot_sees_a_changed_signature(monkeypatch):
    from accelsdk.backend.driver import Driver

    before = snapshot()
    monkeypatch.setattr(Driver, "free", lambda self, handle, extra: None)
    assert snapshot() != before
