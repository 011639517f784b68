"""The suite leaves no op of the table out."""

import pytest

from accelsdk.graph.ops import TABLE
from accelsdk_conformance.catalogue import bundled


@pytest.mark.parametrize("op", TABLE)
def test_every_op_has_a_case(op):
    assert any(case.op == op for case in bundled())
