import threading

import pytest

from tests.runtime.fakes import Rig


@pytest.fixture(params=["sync", "eager", "on_wait"])
def rig(request):
    made = Rig(request.param)
    yield made
    for behaviour in made.backend.behaviours:
        if behaviour.hold is not None:
            behaviour.hold.set()
    made.client.close(timeout=10)


@pytest.fixture(params=["sync", "eager"])
def running_rig(request):
    """A rig whose work goes on by itself, so that it can be caught in the middle."""
    made = Rig(request.param)
    yield made
    for behaviour in made.backend.behaviours:
        if behaviour.hold is not None:
            behaviour.hold.set()
    made.client.close(timeout=10)


@pytest.fixture
def hold():
    """An event that lets held executions go; set at the end in any case."""
    event = threading.Event()
    yield event
    event.set()
