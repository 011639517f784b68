import gc

import pytest


@pytest.fixture(scope="module")
def frozen():
    """Keeps the collections of the scenarios short: the suite's own objects are not theirs."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
