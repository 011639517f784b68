"""A vendor's defect is an error that names the backend and the method, wherever it sits."""

import numpy as np
import pytest

from accelsdk.backend.optional import Completion
from accelsdk.errors import AccelError, FailedPrecondition, Internal
from accelsdk.formats import FLOAT32
from accelsdk.graph.rewrite import Builder
from accelsdk.runtime.client import Client
from tests.runtime.fakes import BYTES, FakeBackend, FakeDriver, QueueDriver, Rig


def boom(*_arguments, **_options):
    raise ZeroDivisionError("boom")


def graph():
    builder = Builder()
    a, b = (builder.input(name, FLOAT32, (4,)) for name in "ab")
    return builder.graph([a, b], [builder.op("Add", a, b)], "sum")


def use(backend, method):
    with Client(backend) as client:
        if method == "check":
            client.load(program_of(backend))
        elif method == "claim":
            client.claims(graph())
        elif method == "open":
            client.device(0).empty(BYTES)
        else:
            client.compile(graph())


def program_of(backend):
    from accelsdk.runtime.program import CompiledProgram
    from tests.runtime.fakes import NoConstants, program

    return CompiledProgram(program(backend), NoConstants())


METHODS = ["targets", "enumerate_devices", "supports", "compile", "claim", "check", "open"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "answer",
    [boom, *(lambda *_, answer=answer: answer for answer in (None, 3, "x", [None]))],
    ids=["raises", "None", "int", "str", "list"],
)
def test_every_method_of_a_backend(method, answer):
    backend = FakeBackend("sync")
    setattr(backend, method, answer)
    with pytest.raises(Internal) as caught:
        use(backend, method)
    if method == "open":
        assert "opening the device" in str(caught.value)
    else:
        assert f"{method}()" in str(caught.value)
    assert caught.value.backend == "fake-sync"
    assert caught.value.remedy


def test_a_device_for_a_target_that_is_not_there(monkeypatch):
    monkeypatch.setattr(FakeBackend, "targets", lambda *_: [])
    with pytest.raises(Internal, match="target 'fake'"):
        Client(FakeBackend("sync"))


def test_a_card_that_will_not_close_keeps_no_other_open(monkeypatch):
    made = Rig("sync")
    for device in made.client.devices:
        device.empty(BYTES)
    calls = []

    def close(driver):
        calls.append(driver.info.id)
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(FakeDriver, "close", close)
    with pytest.raises(Internal, match="closing the device raised ZeroDivisionError"):
        made.client.close()
    assert calls == ["fake-0", "fake-1"]
    made.client.close()  # it is closed, whatever the driver did


@pytest.mark.parametrize("kind", ["sync", "eager", "on_wait"])
@pytest.mark.parametrize("shapes", [[(9,)], [(1, 1)], [(-1,)], [], [(1,), (1,)], ["x"], 3, [3]])
def test_shapes_that_leave_their_bound_poison_the_outputs(kind, shapes, monkeypatch):
    made = Rig(kind)
    original = FakeDriver.execute

    def execute(self, loaded, inputs, outputs):
        original(self, loaded, inputs, outputs)
        return shapes

    monkeypatch.setattr(FakeDriver, "execute", execute)
    if kind != "sync":
        run = QueueDriver._run

        def report(self, ticket, commands, failed):
            done = run(self, ticket, commands, failed)
            executes = any(type(command).__name__ == "Execute" for command in commands)
            return Completion(ticket=ticket, shapes=shapes) if executes else done

        monkeypatch.setattr(QueueDriver, "_run", report)
    result = made.load().execute([made.put(1)])
    with pytest.raises(Internal):
        result.complete.wait(10)
    with pytest.raises(Internal):
        result.outputs[0].numpy()
    binding = made.load().bind()
    binding.bind_input("x", made.put(1))
    for _ in range(2):
        with pytest.raises(Internal):
            binding.run()
    made.client.close(10)


@pytest.mark.parametrize("kind", ["eager", "on_wait"])
@pytest.mark.parametrize("answer", [None, 3, [None], ["x"]])
def test_a_poll_with_a_wrong_answer_fails_what_waits(kind, answer, monkeypatch):
    made = Rig(kind)
    loaded, x = made.load(), made.put(1)
    monkeypatch.setattr(QueueDriver, "poll", lambda *_: answer)
    result = loaded.execute([x])
    with pytest.raises(Internal, match="poll"):
        result.complete.wait(10)
    made.client.close(10)


@pytest.mark.parametrize("method", ["health", "telemetry", "reset"])
def test_abilities_that_raise(method, monkeypatch):
    made = Rig("sync")
    made.device.empty(BYTES)
    monkeypatch.setattr(FakeDriver, method, boom)
    with pytest.raises(Internal, match=method):
        getattr(made.device, method)()
    monkeypatch.undo()
    made.client.close(10)


def test_reset_of_a_closed_device_leaves_its_state(rig):
    rig.device.empty(BYTES)
    rig.client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        rig.device.reset()
    assert rig.device.fault is None
    with pytest.raises(AccelError, match="closed"):
        rig.device.put(np.zeros(1, np.uint8))
