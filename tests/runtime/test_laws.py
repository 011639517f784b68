"""The ten laws of the device API, each by its number, on every kind of driver."""

import threading
import time

import numpy as np
import pytest

from accelsdk.backend.backend import Compatibility
from accelsdk.backend.info import Threading
from accelsdk.errors import (
    Cancelled,
    DeadlineExceeded,
    DeviceFault,
    FailedPrecondition,
    IncompatibleProgram,
    Internal,
    InvalidArgument,
    Unimplemented,
)
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.program import CompiledProgram
from accelsdk.runtime.sync import Semaphore
from tests.runtime.fakes import N, NoConstants, Rig, program

BLOCK = ExecuteOptions(block=True)


def fails(event, kind, match=None):
    with pytest.raises(kind, match=match):
        event.wait(10)


# -- 1: order exists only through wait and signal edges --------------------------------------


def test_law_1_a_stream_is_a_fifo(rig):
    stream, x = rig.device.create_stream(), rig.empty()
    for value in range(20):
        stream.write(x, np.full(N, value, np.uint8))
    seen = np.zeros(N, np.uint8)
    stream.read(x, seen).wait(10)
    assert seen.tolist() == [19] * N


def test_law_1_reading_waits_for_the_last_submitted_writer_of_another_stream(rig):
    gate = rig.device.create_semaphore()
    x = rig.put(0)
    rig.device.create_stream().write(x, np.full(N, 9, np.uint8), wait=[gate.at(1)])
    seen = np.zeros(N, np.uint8)
    done = rig.device.create_stream().read(x, seen)
    assert not done.is_ready()
    gate.signal(1)
    done.wait(10)
    assert seen.tolist() == [9] * N


def test_law_1_an_unordered_stream_has_no_order_of_its_own(rig):
    stream, gate = rig.device.create_stream(ordered=False), Semaphore()
    late = stream.write(rig.empty(), np.zeros(N, np.uint8), wait=[gate.at(1)])
    stream.write(rig.empty(), np.zeros(N, np.uint8)).wait(10)
    assert not late.is_ready()
    gate.signal(1)
    late.wait(10)


def test_law_1_a_barrier_orders_an_unordered_stream(rig):
    stream, gate, x = rig.device.create_stream(ordered=False), Semaphore(), rig.put(1)
    stream.host_call(lambda: None, wait=[gate.at(1)])
    stream.barrier()
    after = stream.write(x, np.full(N, 2, np.uint8))
    assert not after.is_ready()
    gate.signal(1)
    after.wait(10)


def test_law_1_waiting_before_the_signal_is_submitted_is_legal(rig):
    done, x = Semaphore(), rig.put(1)
    first, second = rig.device.create_stream(), rig.device.create_stream()
    loaded = rig.load()
    waiting = first.execute(loaded, [x], options=ExecuteOptions(wait=[done.at(3)]))
    assert not waiting.complete.is_ready()
    second.execute(loaded, [x], options=ExecuteOptions(signal=[done.at(3)]))
    assert waiting.wait(10).outputs[0].numpy().tolist() == [2] * N
    assert done.value == 3


def test_law_1_waits_go_across_devices(rig):
    done = Semaphore()
    there = rig.other.create_stream().execute(
        rig.load(rig.other),
        [rig.put(1, device=rig.other)],
        options=ExecuteOptions(wait=[done.at(1)]),
    )
    rig.device.create_stream().execute(
        rig.load(), [rig.put(1)], options=ExecuteOptions(signal=[done.at(1)])
    )
    there.wait(10)


def test_law_1_a_held_back_stream_does_not_hold_a_queue(rig):
    never, loaded, x = Semaphore(), rig.load(), rig.put(1)
    stuck = rig.device.create_stream().execute(
        loaded, [x], options=ExecuteOptions(wait=[never.at(1)])
    )
    rig.device.create_stream().execute(loaded, [x]).wait(10)
    assert not stuck.complete.is_ready()
    never.signal(1)
    stuck.wait(10)


# -- 2: failure travels along data and explicit waits ---------------------------------------


def test_law_2_a_failure_poisons_what_it_writes_and_what_is_made_of_it(rig):
    loaded, x = rig.load(), rig.put(1)
    rig.behaviour.fail.append(ValueError("boom"))
    (y,) = loaded.execute([x]).outputs
    (z,) = loaded.execute([y]).outputs
    fails(z.ready, Internal, "ValueError: boom")
    fails(y.ready, Internal, "ValueError: boom")
    with pytest.raises(Internal, match="boom"):
        z.numpy()
    assert isinstance(y.ready.error().__cause__, ValueError)


def test_law_2_an_unrelated_next_command_runs(rig):
    loaded, x, stream = rig.load(), rig.put(1), rig.device.create_stream()
    rig.behaviour.fail.append(ValueError("boom"))
    failed = stream.execute(loaded, [x])
    unrelated = stream.execute(loaded, [x])
    assert unrelated.wait(10).outputs[0].numpy().tolist() == [2] * N
    fails(failed.complete, Internal, "boom")


def test_law_2_a_failure_fails_the_semaphores_that_it_would_signal(rig):
    done, loaded = Semaphore(), rig.load()
    rig.behaviour.fail.append(ValueError("boom"))
    loaded.execute([rig.put(1)], options=ExecuteOptions(signal=[done.at(1)]))
    with pytest.raises(Internal, match="boom"):
        done.wait(1, timeout=10)
    waiting = loaded.execute([rig.put(1)], options=ExecuteOptions(wait=[done.at(1)]))
    fails(waiting.complete, Internal, "boom")


def test_law_2_the_first_error_wins(rig):
    semaphore = Semaphore()
    semaphore.fail(Internal("first"))
    semaphore.fail(Internal("second"))
    semaphore.signal(9)
    with pytest.raises(Internal, match="first"):
        semaphore.wait(1)


def test_law_2_work_on_a_failed_wait_does_not_run(rig):
    semaphore, x = Semaphore(), rig.put(1)
    event = rig.device.create_stream().write(x, np.zeros(N, np.uint8), wait=[semaphore.at(1)])
    semaphore.fail(Internal("no"))
    fails(event, Internal, "no")
    with pytest.raises(Internal, match="no"):
        x.numpy()


def test_law_2_writing_heals_a_poisoned_buffer(rig):
    x = rig.device.poisoned(rig.empty().type, Internal("poison"))
    with pytest.raises(Internal, match="poison"):
        x.numpy()
    x.copy_from_host(np.full(N, 4, np.uint8))
    assert x.numpy().tolist() == [4] * N


def test_law_2_poison_is_kept_to_the_range_that_was_written(rig):
    x = rig.put(1)
    half = x.view(0, "uint8", [4])
    rest = x.view(4, "uint8", [4])
    gate = Semaphore()
    half.copy_from_host(b"\0\0\0\0", wait=[gate.at(1)], block=False)
    gate.fail(Internal("no"))
    with pytest.raises(Internal, match="no"):
        x.numpy()
    assert rest.numpy().tolist() == [1] * 4


def test_law_2_a_failed_host_call_fails_its_event(rig):
    def call():
        raise RuntimeError("mine")

    stream = rig.device.create_stream()
    event = stream.host_call(call)
    fails(event, Internal, "host call raised RuntimeError: mine")
    fails(stream.record(), Internal, "mine")
    stream.record().wait(10)


def test_law_2_work_that_waits_behind_cancelled_work_keeps_the_order(rig):
    gate, token, stream, x = Semaphore(), CancelToken(), rig.device.create_stream(), rig.put(0)
    first = stream.write(x, np.full(N, 1, np.uint8), wait=[gate.at(1)])
    options = ExecuteOptions(cancel=token)
    middle = stream.execute(rig.load(), [rig.put(5)], options=options)
    last = stream.write(rig.empty(), np.full(N, 2, np.uint8))
    token.cancel()
    fails(middle.complete, Cancelled)
    assert not last.is_ready()
    gate.signal(1)
    last.wait(10)
    first.wait(10)


def test_law_2_what_fails_for_other_streams_does_not_take_their_order_along(rig):
    gate, token, held = Semaphore(), CancelToken(), rig.device.create_stream()
    held.write(rig.put(0), np.full(N, 1, np.uint8), wait=[gate.at(1)])
    options = ExecuteOptions(cancel=token)
    dropped = [held.execute(rig.load(), [rig.put(5)], options=options) for _ in range(2)]
    other, x = rig.device.create_stream(), rig.put(0)
    token.cancel()
    # It waits for two runs that never began, both of them behind the held-back write.
    lost = other.write(x, np.full(N, 3, np.uint8), wait=[run.complete for run in dropped])
    fails(lost, Cancelled)
    other.write(x, np.full(N, 4, np.uint8)).wait(10)
    assert x.numpy().tolist() == [4] * N
    gate.signal(1)


# -- 3: a rejection leaves everything as it is ----------------------------------------------


def test_law_3_a_rejection_leaves_donated_inputs_alone(rig):
    loaded, x = rig.load(), rig.put(1)
    in_use = rig.device.memory_stats().in_use
    wrong = rig.device.put(np.zeros(1, np.float32))
    with pytest.raises(InvalidArgument):
        loaded.execute([x], [wrong], ExecuteOptions(donate=True))
    assert not x.is_deleted()
    del wrong
    assert rig.device.memory_stats().in_use == in_use


def test_law_3_acceptance_consumes_donated_inputs(rig):
    loaded, x = rig.load(aliases=((0, 0),)), rig.put(1)
    in_use = rig.device.memory_stats().in_use
    (y,) = loaded.execute([x], options=ExecuteOptions(donate=True)).outputs
    assert x.is_deleted()
    with pytest.raises(FailedPrecondition, match="donated"):
        x.numpy()
    assert y.numpy().tolist() == [2] * N
    assert rig.device.memory_stats().in_use == in_use


def test_law_3_non_donatable_inputs_are_kept(rig):
    x = rig.put(1)
    rig.load(aliases=((0, 0),)).execute(
        [x], options=ExecuteOptions(donate=True, non_donatable=[0], block=True)
    )
    assert x.numpy().tolist() == [1] * N


def test_law_3_accepted_work_that_fails_poisons_its_outputs(rig):
    rig.behaviour.fail.append(ValueError("boom"))
    y = rig.empty()
    with pytest.raises(Internal, match="boom"):
        rig.load().execute([rig.put(1)], [y], BLOCK)
    with pytest.raises(Internal, match="boom"):
        y.numpy()


def test_law_3_a_failing_bound_run_poisons_its_outputs(rig):
    binding = rig.load().bind()
    binding.bind_input("x", rig.put(1))
    for _ in range(3):
        binding.run()
    rig.behaviour.fail.append(ValueError("boom"))
    with pytest.raises(Internal, match="ValueError: boom"):
        binding.run()
    with pytest.raises(Internal, match="boom"):
        binding.outputs[0].numpy()
    assert binding.run().outputs[0].numpy().tolist() == [2] * N


# -- 4: deleting while in flight ------------------------------------------------------------


def test_law_4_delete_keeps_the_memory_until_work_in_flight_is_complete(rig):
    gate, loaded, x = Semaphore(), rig.load(), rig.put(1)
    before = len(rig.behaviour.live)
    result = loaded.execute([x], options=ExecuteOptions(wait=[gate.at(1)]))
    x.delete()
    loaded.delete()
    assert x.is_deleted()
    assert len(rig.behaviour.live) == before + 1
    gate.signal(1)
    assert result.wait(10).outputs[0].numpy().tolist() == [2] * N
    assert len(rig.behaviour.live) == before


def test_law_4_use_after_delete_raises(rig):
    x = rig.put(1)
    x.delete()
    x.delete()
    for use in (x.numpy, lambda: x.ready, lambda: x.fill(b"\0"), lambda: x.view(0, "uint8", [1])):
        with pytest.raises(FailedPrecondition, match="was deleted"):
            use()


def test_law_4_a_view_keeps_its_parent_alive(rig):
    x = rig.put(1, 2)
    part = x.view(2, "uint8", [2])
    x.delete()
    assert part.numpy().tolist() == [1, 2]
    part.delete()
    rig.device.memory_stats()
    assert not rig.behaviour.live


def test_law_4_a_forgotten_buffer_gives_its_memory_back(rig):
    rig.put(1)
    assert rig.device.memory_stats().in_use == 0


# -- 5: a device fault latches --------------------------------------------------------------


def test_law_5_a_fault_latches_until_reset_and_other_devices_go_on(rig):
    loaded, x = rig.load(), rig.put(1)
    other_loaded, other_x = rig.load(rig.other), rig.put(1, device=rig.other)
    rig.behaviour.fail.append(DeviceFault("the card is on fire"))
    fails(loaded.execute([x]).complete, DeviceFault, "on fire")
    with pytest.raises(DeviceFault, match=r"on fire.*reset"):
        loaded.execute([x])
    with pytest.raises(DeviceFault):
        rig.put(1)
    assert rig.device.health().state == "failed"
    assert other_loaded.execute([other_x]).outputs[0].numpy().tolist() == [2] * N
    rig.device.reset()
    assert rig.device.health().state == "ok"
    with pytest.raises(FailedPrecondition, match="reset"):
        x.numpy()
    with pytest.raises(FailedPrecondition, match="load it again"):
        loaded.execute([rig.put(1)])
    assert rig.load().execute([rig.put(4)]).outputs[0].numpy().tolist() == [5] * N


def test_law_5_a_fault_fails_everything_that_waits(rig):
    never, loaded, x = Semaphore(), rig.load(), rig.put(1)
    stream = rig.device.create_stream()
    waiting = stream.execute(loaded, [x], options=ExecuteOptions(wait=[never.at(1)]))
    rig.behaviour.fail.append(DeviceFault("gone"))
    fails(loaded.execute([x]).complete, DeviceFault, "gone")
    fails(waiting.complete, DeviceFault, "gone")


def test_law_5_reset_without_the_ability_opens_the_card_again():
    rig = Rig("sync", capabilities=())
    rig.put(1)
    rig.device.reset()
    assert rig.behaviour.closed == 1
    rig.put(2)
    rig.client.close()


# -- 6: time-outs and cancelling ------------------------------------------------------------


def test_law_6_a_timeout_does_not_cancel(running_rig, hold):
    rig = running_rig
    x = rig.put(1)
    loaded = rig.load()
    rig.behaviour.hold = hold
    result = loaded.execute([x])
    with pytest.raises(DeadlineExceeded, match="not complete after"):
        result.wait(0.01)
    hold.set()
    assert result.wait(10).outputs[0].numpy().tolist() == [2] * N


def test_law_6_a_blocking_execution_times_out_and_goes_on(running_rig, hold):
    rig = running_rig
    y, loaded, x = rig.empty(), rig.load(), rig.put(1)
    rig.behaviour.hold = hold
    with pytest.raises(DeadlineExceeded):
        loaded.execute([x], [y], ExecuteOptions(block=True, timeout=0.01))
    hold.set()
    assert y.numpy().tolist() == [2] * N


def test_law_6_a_semaphore_wait_times_out(rig):
    with pytest.raises(DeadlineExceeded):
        Semaphore().wait(1, timeout=0.01)


def test_law_6_cancelling_has_its_own_code(rig):
    gate, token, loaded = Semaphore(), CancelToken(), rig.load()
    options = ExecuteOptions(wait=[gate.at(1)], cancel=token)
    result = loaded.execute([rig.put(1)], options=options)
    token.cancel()
    fails(result.complete, Cancelled, "before it started")
    with pytest.raises(Cancelled):
        result.outputs[0].numpy()
    with pytest.raises(Cancelled, match="before it was submitted"):
        loaded.execute([rig.put(1)], options=options)


def test_law_6_running_work_is_asked_to_end(hold):
    rig = Rig("eager")
    loaded, x, token = rig.load(), rig.put(1), CancelToken()
    rig.behaviour.hold = hold
    first = loaded.execute([x])
    second = loaded.execute([x], options=ExecuteOptions(cancel=token))
    token.cancel()
    hold.set()
    fails(second.complete, Cancelled, "on the card")
    first.wait(10)
    rig.client.close()


# -- 7: missing abilities -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "eager"])
def test_law_7_a_missing_ability_names_itself_and_was_visible(kind):
    rig = Rig(kind, capabilities=())
    assert not rig.device.capabilities & {"telemetry", "map", "profiling"}
    with pytest.raises(Unimplemented, match="'telemetry'"):
        rig.device.telemetry()
    with pytest.raises(Unimplemented, match="'map'"), rig.put(1).map():
        pass
    if kind == "sync":  # queues report their own times
        with pytest.raises(Unimplemented, match="'profiling'"):
            rig.load().execute([rig.put(1)], options=ExecuteOptions(profile=True))
    rig.client.close()


# -- 8: callbacks ---------------------------------------------------------------------------


def test_law_8_callbacks_run_on_an_sdk_thread_with_no_lock_held(rig):
    seen, finished = [], threading.Event()
    x = rig.put(1)

    def callback(event):
        # Needs the locks of the SDK and of the device.
        seen.append((threading.current_thread().name, event.is_ready(), rig.device.memory_stats()))
        finished.set()

    result = rig.load().execute([x])
    result.complete.add_done_callback(callback)
    result.wait(10)
    assert finished.wait(10)
    assert seen[0][0].startswith("accelsdk-")
    assert seen[0][1]


def test_law_8_a_callback_outlives_its_event_and_may_raise(rig, caplog):
    finished = threading.Event()
    event = rig.load().execute([rig.put(1)]).complete
    event.add_done_callback(lambda _: 1 / 0)
    event.add_done_callback(lambda _: finished.set())
    event.wait(10)
    del event
    assert finished.wait(10)
    assert "ZeroDivisionError" in caplog.text


def test_law_8_host_calls_keep_their_place(rig):
    order, stream, gate = [], rig.device.create_stream(), Semaphore()
    stream.write(rig.empty(), np.zeros(N, np.uint8), wait=[gate.at(1)])
    stream.host_call(lambda: order.append(threading.current_thread().name))
    last = stream.write(rig.empty(), np.zeros(N, np.uint8))
    assert not order
    gate.signal(1)
    last.wait(10)
    assert order == ["accelsdk-callbacks"]


# -- 9: thread safety -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "eager"])
@pytest.mark.parametrize("threading_", [Threading.SERIAL, Threading.PROCESS, Threading.AFFINE])
def test_law_9_calls_of_one_driver_are_serialised(kind, threading_):
    rig = Rig(kind, threading_=threading_)
    loaded = rig.load()
    rig.behaviour.overlaps = 0
    errors = []

    def use():
        try:
            for value in range(20):
                (y,) = loaded.execute([rig.put(value)]).outputs
                assert y.numpy().tolist() == [value + 1] * N
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    if kind == "sync":  # with queues the card itself calls execute
        assert rig.behaviour.overlaps == 0
    if threading_ is Threading.AFFINE:
        made_by_sdk = {t for _, t in rig.behaviour.calls if t != "card"}
        assert made_by_sdk == {f"accelsdk-{rig.backend.info.name}-fake-0"}
    rig.client.close()


# -- 10: programs carry what they fit -------------------------------------------------------


def test_law_10_a_program_of_another_version_is_refused_with_the_reason(rig):
    old = CompiledProgram(program(rig.backend, version="0"), NoConstants())
    assert rig.client.check(old) is Compatibility.UNSUPPORTED
    with pytest.raises(IncompatibleProgram, match="backend version '0', here '1'"):
        rig.client.load(old)


def test_law_10_a_program_of_another_backend_is_refused(rig):
    other = Rig("sync" if rig.kind != "sync" else "eager")
    foreign = CompiledProgram(program(other.backend), NoConstants())
    assert rig.client.check(foreign.header) is Compatibility.NOT_APPLICABLE
    with pytest.raises(IncompatibleProgram, match="compiled by backend fake-"):
        rig.client.load(foreign)


def test_nothing_is_left_behind(rig):
    loaded = rig.load()
    for _ in range(10):
        loaded.execute([rig.put(1)], options=BLOCK)
    time.sleep(0)
    assert rig.device.memory_stats().in_use == 0
    assert not rig.device.live


def test_law_5_the_fault_of_one_device_does_not_latch_another(rig):
    there = rig.load(rig.other)
    z = rig.empty(rig.other)
    rig.behaviour.fail.append(DeviceFault("gone"))
    (y,) = rig.load().execute([rig.put(1)]).outputs
    copied = y.copy_to(z, block=False)
    fails(copied, DeviceFault, "gone")
    assert rig.other.health().state == "ok"
    x = rig.put(1, device=rig.other)
    assert there.execute([x]).outputs[0].numpy().tolist() == [2] * N


def test_law_6_queued_work_is_dropped(hold):
    rig = Rig("sync")
    loaded, x, token = rig.load(), rig.put(1), CancelToken()
    outputs = [rig.empty() for _ in range(4)]
    rig.behaviour.hold = hold
    first = loaded.execute([x], outputs[:1])
    streams = [rig.device.create_stream() for _ in range(3)]
    options = ExecuteOptions(cancel=token)
    queued = [
        stream.execute(loaded, [x], [y], options)
        for stream, y in zip(streams, outputs[1:], strict=True)
    ]
    token.cancel()
    for result in queued:
        fails(result.complete, Cancelled, "before it started")
    assert not first.complete.is_ready()
    hold.set()
    first.wait(10)
    rig.client.close()
    assert [name for name, _ in rig.behaviour.calls].count("execute") == 1
