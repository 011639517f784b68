import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.backend.info import Target
from accelsdk.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    OutOfMemory,
    PluginError,
)
from accelsdk.runtime.client import Client
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.sync import Semaphore
from tests.runtime.fakes import FakeBackend, N, Rig


@given(st.lists(st.integers(0, 20), max_size=10), st.integers(0, 20))
def test_a_semaphore_is_the_greatest_of_its_signals(signals, wanted):
    semaphore = Semaphore()
    event = semaphore.event(wanted)
    for value in signals:
        semaphore.signal(value)
    assert semaphore.value == max(signals, default=0)
    assert event.is_ready() == (max(signals, default=0) >= wanted)


def test_a_semaphore_starts_at_its_initial_value():
    Semaphore(5).wait(5, timeout=0)
    with pytest.raises(InvalidArgument):
        Semaphore(-1)


def test_a_failed_semaphore_fails_every_wait():
    semaphore = Semaphore(3)
    semaphore.fail(Internal("no"))
    for value in (0, 3, 4):
        with pytest.raises(Internal, match="no"):
            semaphore.wait(value)
    with pytest.raises(Internal, match="no"):
        _ = semaphore.value


def test_a_wait_wakes_on_a_signal_from_another_thread():
    semaphore = Semaphore()
    threading.Timer(0.02, semaphore.signal, [1]).start()
    semaphore.wait(1, timeout=10)


def test_a_wait_drives_work_that_another_thread_submits(rig):
    """With ``on_wait`` progress the waiting thread has to notice the new work."""
    semaphore, loaded, x = Semaphore(), rig.load(), rig.put(1)
    options = ExecuteOptions(signal=[semaphore.at(1)])
    timer = threading.Timer(0.02, loaded.execute, [[x]], {"options": options})
    timer.start()
    semaphore.wait(1, timeout=10)
    timer.join()


def test_many_threads_wait_for_one_device(rig):
    loaded, results = rig.load(), []

    def use(value):
        (y,) = loaded.execute([rig.put(value)]).outputs
        results.append((value + 1, y.numpy().tolist()))

    threads = [threading.Thread(target=use, args=[value]) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(value, [value] * N) for value in range(1, 9)]


def test_an_event_can_be_awaited(rig):
    rig.load().execute([rig.put(1)]).complete.wait(10)

    async def main():
        result = rig.load().execute([rig.put(1)])
        await result.complete
        await result.complete
        return result.outputs[0].numpy().tolist()

    assert asyncio.run(main()) == [2] * N


def test_a_failed_event_raises_where_it_is_awaited(rig):
    async def main():
        rig.behaviour.fail.append(ValueError("boom"))
        await rig.load().execute([rig.put(1)]).complete

    with pytest.raises(Internal, match="boom"):
        asyncio.run(main())


def test_record_is_complete_after_all_earlier_work(rig):
    stream, gate = rig.device.create_stream(), Semaphore()
    stream.write(rig.empty(), np.zeros(N, np.uint8), wait=[gate.at(1)])
    recorded = stream.record()
    assert not recorded.is_ready()
    gate.signal(1)
    recorded.wait(10)


def test_stream_waits_gate_all_later_work(rig):
    gate, stream, x = Semaphore(), rig.device.create_stream(), rig.put(1)
    stream.wait(gate.at(1))
    first, second = (stream.fill(x, bytes([value])) for value in (1, 2))
    stream.wait_event(first)
    assert not first.is_ready()
    gate.signal(1)
    second.wait(10)
    assert x.numpy().tolist() == [2] * N


def test_stream_signal_is_after_the_work(rig):
    done, stream, x = Semaphore(), rig.device.create_stream(), rig.put(1)
    stream.execute(rig.load(), [x])
    stream.signal(done.at(4))
    done.wait(4, timeout=10)
    assert done.value == 4


def test_a_stream_of_another_device_is_refused(rig):
    with pytest.raises(InvalidArgument, match="stream of device fake-1 cannot take work of fake-0"):
        rig.put(1).fill(b"\0", stream=rig.other.create_stream())


def test_stream_copy_and_read(rig):
    stream, x, y = rig.device.create_stream(), rig.put(3), rig.empty()
    seen = np.zeros(N, np.uint8)
    stream.copy(y, x)
    stream.read(y, seen).wait(10)
    assert seen.tolist() == [3] * N


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12))
def test_any_program_of_copies_matches_a_list(copies):
    """Work submitted to one ordered stream has the effect of doing it one by one."""
    for kind in ("sync", "on_wait"):
        rig = Rig(kind)
        stream = rig.device.create_stream()
        buffers, model = [rig.put(v) for v in range(3)], [0, 1, 2]
        for source, destination in copies:
            if source != destination:
                stream.copy(buffers[destination], buffers[source])
                model[destination] = model[source]
        assert [int(buffer.numpy()[0]) for buffer in buffers] == model
        rig.client.close()


# -- clients -------------------------------------------------------------------------------


def test_close_waits_for_the_work(running_rig, hold):
    rig = running_rig
    loaded, x = rig.load(), rig.put(1)
    rig.behaviour.hold = hold
    result = loaded.execute([x])
    threading.Timer(0.05, hold.set).start()
    rig.client.close()
    assert result.complete.error() is None


def test_a_closed_client_refuses(rig):
    loaded, x = rig.load(), rig.put(1)
    rig.client.close()
    rig.client.close()
    assert rig.behaviour.closed == 1
    for use in (lambda: rig.put(1), lambda: loaded.execute([x]), x.numpy, rig.load):
        with pytest.raises(FailedPrecondition, match="client is closed"):
            use()


def test_a_forgotten_client_gives_its_cards_back():
    backend = FakeBackend("eager")
    client = Client(backend)
    client.devices[0].put(np.zeros(3, np.uint8))
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    for _ in range(200):
        if backend.behaviours[0].closed:
            break
        threading.Event().wait(0.01)
    assert backend.behaviours[0].closed == 1


def test_a_buffer_keeps_its_client_alive():
    buffer = Client(FakeBackend("sync")).devices[0].put(np.ones(3, np.uint8))
    gc.collect()
    assert buffer.numpy().tolist() == [1, 1, 1]
    buffer.device.client.close()


def test_declared_abilities_must_be_there():
    class Boaster(FakeBackend):
        def targets(self, options):
            return [Target(name="fake", capabilities=frozenset({"host-import", "unheard-of"}))]

    with pytest.raises(PluginError, match="declares the ability 'host-import'"):
        Client(Boaster("sync")).devices[0].put(np.ones(3, np.uint8))


@pytest.mark.parametrize("kind", ["sync", "eager", "on_wait"])
def test_the_interpreter_ends_quietly(kind):
    code = textwrap.dedent(f"""
        import numpy as np
        from accelsdk.runtime.sync import Semaphore
        from accelsdk.runtime.executable import ExecuteOptions
        from tests.runtime.fakes import Rig
        rig = Rig({kind!r})
        loaded, x, never = rig.load(), rig.put(1), Semaphore()
        result = loaded.execute([x])
        result.complete.add_done_callback(lambda event: None)
        stuck = loaded.execute([x], options=ExecuteOptions(wait=[never.at(1)]))
        result.wait(10)
        print("end")
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_close_does_not_wait_for_a_signal_that_nobody_gives(rig):
    never, stream, x = Semaphore(), rig.device.create_stream(), rig.put(1)
    stuck = stream.fill(x, b"\1", wait=[never.at(1)])
    behind = stream.fill(rig.empty(), b"\2")
    data = stream.execute(rig.load(), [x]).complete
    rig.client.close()
    for event in (stuck, behind, data):
        with pytest.raises(FailedPrecondition, match="client is closed"):
            event.wait(0)


def test_close_with_a_timeout_says_what_was_not_over(rig):
    x = rig.put(1)
    rig.device.create_stream().fill(x, b"\1", wait=[Semaphore().at(1)])
    with pytest.raises(DeadlineExceeded, match="fill is not complete"):
        rig.client.close(timeout=0.01)
    assert rig.behaviour.closed == 1


def test_closing_gives_up_on_a_driver_that_hangs(hold, monkeypatch, caplog):
    monkeypatch.setattr("accelsdk.runtime.card._PATIENCE", 0.02)
    monkeypatch.setattr("accelsdk.runtime.worker._JOIN_SECONDS", 0.02)
    rig = Rig("sync")
    loaded, x, y = rig.load(), rig.put(1), rig.empty()
    rig.behaviour.hold = hold
    result = loaded.execute([x], [y])
    with pytest.raises(DeadlineExceeded):
        rig.client.close(timeout=0.02)
    assert "hangs" in caplog.text
    with pytest.raises(FailedPrecondition, match="client is closed"):
        result.wait(0)


def test_a_caught_error_keeps_nothing_of_the_frames_that_it_passed_through(rig):
    def fails_to_read():
        x = rig.device.poisoned(rig.empty().type, Internal("poison"))
        with pytest.raises(Internal, match="poison"):
            x.numpy()  # on the default stream, which remembers its first failure

    rig.device.memory_stats()
    before = len(rig.behaviour.live)
    for _ in range(3):
        fails_to_read()
    rig.device.trim()
    assert len(rig.behaviour.live) == before


def test_each_waiter_raises_an_error_of_its_own_with_all_that_it_says():
    semaphore, cause = Semaphore(), ValueError("why")
    first = OutOfMemory(requested=3, in_use=2, limit=4, device="d")
    first.__cause__ = cause
    semaphore.fail(first)
    raised = []
    for _ in range(2):
        with pytest.raises(OutOfMemory) as caught:
            semaphore.wait(1)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    for error in raised:
        assert (str(error), error.requested, error.limit) == (str(first), 3, 4)
        assert error.__cause__ is cause
    assert first.__traceback__ is None
