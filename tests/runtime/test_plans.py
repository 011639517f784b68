import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import accelsdk
from accelsdk.backend.backend import Compatibility
from accelsdk.backend.program_file import ProgramFile
from accelsdk.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    DeviceFault,
    FailedPrecondition,
    IncompatibleProgram,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfMemory,
    UnsupportedGraph,
)
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.client import Client, open_program
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.fallback import Fallback
from accelsdk.runtime.sync import Semaphore
from tests.runtime.fakes import N
from tests.runtime.plans import OneOp, PlanRig, reference, small_model

BLOCK = ExecuteOptions(block=True)


@pytest.fixture(params=["sync", "eager", "on_wait"])
def kind(request):
    return request.param


@pytest.fixture(params=["sync", "eager"])
def rig(kind, request):
    made = PlanRig(kind, request.param)
    yield made
    made.close()


def values(buffer):
    return sorted(set(buffer.numpy().tolist()))


def results(result):
    return [values(buffer) for buffer in result.outputs]


# -- running -------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True])
def test_parts_run_one_after_the_other(rig, block):
    result = rig.load().execute([rig.put(10)], options=ExecuteOptions(block=block))
    assert result.complete.is_ready() or not block
    assert results(result) == [[13], [11], [10]]


def test_it_looks_like_any_loaded_program(rig):
    loaded = rig.load()
    assert [spec.name for spec in loaded.inputs] == ["x"]
    assert [spec.name for spec in loaded.outputs] == ["y", "a", "x"]
    assert loaded.device is rig.device
    assert loaded.devices == (rig.device, rig.elsewhere)
    assert loaded.alive
    assert not loaded.is_deleted()


def test_many_runs_without_a_wait_keep_apart(rig):
    loaded = rig.load()
    runs = [loaded.execute([rig.put(n)]) for n in range(20)]
    assert [results(run) for run in runs] == [[[n + 3], [n + 1], [n]] for n in range(20)]


def test_runs_from_many_threads_keep_apart(rig):
    loaded = rig.load()
    wrong = []

    def use(base):
        for n in range(base, base + 5):
            got = results(loaded.execute([rig.put(n)], options=BLOCK))
            if got != [[n + 3], [n + 1], [n]]:
                wrong.append((n, got))

    threads = [threading.Thread(target=use, args=(10 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_given_outputs_and_bindings(rig):
    loaded = rig.load()
    outputs = [rig.put() for _ in range(3)]
    assert loaded.execute([rig.put(1)], outputs).outputs == tuple(outputs)
    assert [values(buffer) for buffer in outputs] == [[4], [2], [1]]
    binding = loaded.bind()
    for n in (5, 5, 6):
        binding.bind_input("x", np.full(N, n, np.uint8))
        assert results(binding.run()) == [[n + 3], [n + 1], [n]]


def test_session_on_a_plan(rig):
    session = accelsdk.InferenceSession(rig.executable, rig.client)
    for n in (1, 1, 2):
        got = session.run(None, {"x": np.full(N, n, np.uint8)})
        assert [set(array.tolist()) for array in got] == [{n + 3}, {n + 1}, {n}]
    session.close()


def test_memory_of_the_plan_is_allocated_once_and_given_back(rig):
    def use():
        return [d.memory_stats().in_use for d in (rig.device, rig.elsewhere)]

    x, outputs = rig.put(1), [rig.put() for _ in range(3)]
    before = use()
    loaded = rig.load()
    after_load = use()
    for _ in range(3):
        loaded.execute([x], outputs, BLOCK)
    assert use() == after_load
    assert after_load != before
    loaded.delete()
    assert use() == before


def test_profile_has_the_nodes_of_every_part(rig):
    result = rig.load().execute([rig.put(1)], options=ExecuteOptions(block=True, profile=True))
    assert [entry.node for entry in result.profile] == ["add"] * 3
    assert 0 < result.complete.started <= result.complete.finished


# -- order ---------------------------------------------------------------------------------


def test_a_run_keeps_its_place_in_the_stream(rig):
    """What is written behind it to its input does not reach it; what is before it does."""
    stream, x = rig.device.create_stream(), rig.put()
    loaded = rig.load()
    runs = []
    for n in range(5):
        stream.write(x, np.full(N, n, np.uint8))
        runs.append(stream.execute(loaded, [x]))
    assert [values(run.outputs[0]) for run in runs] == [[n + 3] for n in range(5)]


def test_waits_and_signals(rig):
    ready, done = Semaphore(), Semaphore()
    options = ExecuteOptions(wait=[ready.at(1)], signal=[done.at(1)])
    result = rig.load().execute([rig.put(1)], options=options)
    assert not result.complete.is_ready()
    ready.signal(1)
    done.wait(1, timeout=10)
    assert values(result.outputs[0]) == [4]


def test_a_chain_through_buffers(rig):
    loaded, x = rig.load(), rig.put(0)
    for _ in range(10):
        x = loaded.execute([x]).outputs[0]
    assert values(x) == [30]


# -- failure -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["first", "middle"])
def test_a_failing_part_poisons_all_outputs_and_is_named(rig, part):
    loaded, signalled = rig.load(), Semaphore()
    behaviour = rig.behaviour if part == "first" else rig.other_behaviour
    behaviour.fail.append(ValueError("a bit fell over"))
    result = loaded.execute([rig.put(1)], options=ExecuteOptions(signal=[signalled.at(1)]))
    for buffer in result.outputs:
        with pytest.raises(Internal, match=f"a bit fell over.*device fake-0, part {part}"):
            buffer.numpy()
    with pytest.raises(Internal, match="a bit fell over"):
        signalled.wait(1, timeout=10)
    assert results(loaded.execute([rig.put(5)])) == [[8], [6], [5]]


def test_a_blocking_run_raises_the_error_of_its_part(rig):
    loaded = rig.load()
    rig.other_behaviour.fail.append(ValueError("a bit fell over"))
    with pytest.raises(Internal, match="part middle"):
        loaded.execute([rig.put(1)], options=BLOCK)
    assert results(loaded.execute([rig.put(5)], options=BLOCK)) == [[8], [6], [5]]


def test_an_error_from_outside_names_no_part(rig):
    gate = Semaphore()
    result = rig.load().execute([rig.put(1)], options=ExecuteOptions(wait=[gate.at(1)]))
    gate.fail(DataLoss("the camera is gone"))
    with pytest.raises(DataLoss) as raised:
        result.wait(timeout=10)
    assert raised.value.part is None


def test_the_next_of_the_stream_runs_after_a_failure(rig):
    stream, loaded, other = rig.device.create_stream(), rig.load(), rig.put()
    rig.other_behaviour.fail.append(ValueError("no"))
    failed = stream.execute(loaded, [rig.put(1)])
    stream.write(other, np.full(N, 9, np.uint8))
    assert values(other) == [9]
    assert isinstance(failed.complete.error(), Internal)


def test_a_failed_fallback_device_is_refused_before_anything_moves(rig):
    loaded, x = rig.load(), rig.put(1)
    rig.other_behaviour.fail.append(DeviceFault("it burns"))
    with pytest.raises(DeviceFault, match=r"it burns.*part middle"):
        loaded.execute([rig.put(1)], options=BLOCK)
    assert rig.device.fault is None  # though its identity is the same
    calls = len(rig.behaviour.calls)
    with pytest.raises(DeviceFault, match="the device has failed: it burns"):
        loaded.execute([x], options=ExecuteOptions(donate=True))
    assert not x.is_deleted()
    moved = {name for name, _ in rig.behaviour.calls[calls:]} - {"allocate", "free"}
    assert moved == set()
    rig.elsewhere.reset()
    assert not loaded.alive
    with pytest.raises(FailedPrecondition, match="did not survive the reset"):
        loaded.execute([x])
    assert results(rig.load().execute([x], options=BLOCK)) == [[4], [2], [1]]


def test_a_failed_first_device_is_refused_too(rig):
    loaded, x = rig.load(), rig.put(1)
    rig.behaviour.fail.append(DeviceFault("it burns"))
    with pytest.raises(DeviceFault, match=r"it burns.*part first"):
        loaded.execute([rig.put(1)], options=BLOCK)
    assert rig.elsewhere.fault is None
    with pytest.raises(DeviceFault, match="the device has failed"):
        loaded.execute([x])
    rig.device.reset()
    assert results(rig.load().execute([rig.put(1)], options=BLOCK)) == [[4], [2], [1]]


def test_a_refusal_leaves_donated_inputs_alone(rig):
    loaded, x = rig.load(), rig.put(1)
    gone = [rig.put() for _ in range(3)]
    gone[2].delete()
    with pytest.raises(FailedPrecondition, match="deleted"):
        loaded.execute([x], gone, ExecuteOptions(donate=True))
    assert not x.is_deleted()
    result = loaded.execute([x], options=ExecuteOptions(donate=True))
    assert x.is_deleted()
    assert results(result) == [[4], [2], [1]]


def test_wrong_arguments_are_refused_as_always(rig):
    loaded = rig.load()
    with pytest.raises(InvalidArgument, match=r"1 inputs, 0 given.*x: uint8\[8\]"):
        loaded.execute([])
    with pytest.raises(InvalidArgument, match="lies on device"):
        loaded.execute([rig.elsewhere.put(np.zeros(N, np.uint8))])
    x = rig.put(1)
    with pytest.raises(InvalidArgument, match="shares memory with input"):
        loaded.execute([x], [x, rig.put(), rig.put()])


def test_cancelling_a_run_that_waits(rig):
    loaded, never, token = rig.load(), Semaphore(), CancelToken()
    options = ExecuteOptions(wait=[never.at(1)], cancel=token)
    result = loaded.execute([rig.put(1)], options=options)
    token.cancel()
    with pytest.raises(Cancelled):
        result.wait(timeout=10)
    assert results(loaded.execute([rig.put(5)])) == [[8], [6], [5]]
    with pytest.raises(Cancelled):
        loaded.execute([rig.put(1)], options=ExecuteOptions(cancel=token))


@pytest.mark.parametrize("first", ["sync", "eager"])
def test_a_timeout_does_not_cancel(first, hold):
    rig = PlanRig(first)
    loaded = rig.load()
    rig.other_behaviour.hold = hold
    x, outputs = rig.put(1), [rig.put() for _ in range(3)]
    with pytest.raises(DeadlineExceeded):
        loaded.execute([x], outputs, ExecuteOptions(block=True, timeout=0.05))
    hold.set()
    assert [values(buffer) for buffer in outputs] == [[4], [2], [1]]
    rig.close()


@pytest.mark.parametrize("first", ["sync", "eager"])
def test_deleted_in_flight_it_ends_as_if_nothing_happened(first, hold):
    rig = PlanRig(first)
    loaded, x = rig.load(), rig.put(1)
    rig.other_behaviour.hold = hold
    result = loaded.execute([x])
    loaded.delete()
    assert loaded.is_deleted()
    with pytest.raises(FailedPrecondition, match="deleted"):
        loaded.execute([x])
    hold.set()
    assert results(result) == [[4], [2], [1]]
    rig.close()


def test_a_full_memory_leaves_nothing_behind(kind):
    rig = PlanRig(kind, capacity=9)  # the fallback would hold one value, not two
    before = [len(b.live) for b in (rig.behaviour, rig.other_behaviour)]
    with pytest.raises(OutOfMemory):
        rig.load()
    assert [len(b.live) for b in (rig.behaviour, rig.other_behaviour)] == before
    loads = [n for b in (rig.behaviour, rig.other_behaviour) for n, _ in b.calls if "load" in n]
    assert loads.count("load") == loads.count("unload") == 3
    rig.close()


# -- whether it fits -----------------------------------------------------------------------


def test_check_takes_the_worst_part(rig):
    assert rig.client.check(rig.executable) is Compatibility.OPTIMAL
    assert Client(rig.backend).check(rig.executable) is Compatibility.NOT_APPLICABLE


def test_a_client_without_the_fallback_refuses_by_part(rig):
    with pytest.raises(IncompatibleProgram, match=r"part 'middle'.*has no fallback.*connect with"):
        Client(rig.backend).load(rig.executable)
    with pytest.raises(IncompatibleProgram, match=r"falls back to fake"):
        Client(rig.backend, fallback=Client(PlanRig("sync").backend)).load(rig.executable)


def test_a_part_of_another_version_is_named_before_anything_is_loaded(rig, monkeypatch):
    header = rig.executable.parts[2].header
    object.__setattr__(header, "backend_version", "0")
    assert rig.client.check(rig.executable) is Compatibility.UNSUPPORTED
    with pytest.raises(IncompatibleProgram, match=r"part 'last'.*backend version '0', here '1'"):
        rig.load()
    assert "load" not in [name for name, _ in rig.behaviour.calls]


# -- one op, and a fallback ----------------------------------------------------------------


@pytest.fixture
def one_op():
    client = Client(OneOp(), fallback=Fallback(reference(), {}, lambda: Client(reference())))
    yield client
    client.close()


@pytest.fixture(scope="module")
def wanted():
    x = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    with Client(reference()) as client:
        return x, accelsdk.InferenceSession(small_model(), client).run(None, {"x": x})


def equal(got, wanted):
    return all(a.tobytes() == b.tobytes() for a, b in zip(got, wanted, strict=True))


def test_one_op_serves_a_whole_model(one_op, wanted):
    x, outputs = wanted
    program = one_op.compile(small_model())
    assert [part.header.backend for part in program.parts][::2] == ["one_op", "one_op"]
    assert not one_op.fallback.opened  # compiling needs no device
    with one_op.load(program) as loaded:
        assert one_op.fallback.opened
        got = loaded.execute([one_op.device(0).put(x)], options=BLOCK).outputs
        assert equal([buffer.numpy() for buffer in got], outputs)
    session = accelsdk.InferenceSession(small_model(), one_op)
    assert equal(session.run(None, {"x": x}), outputs)
    session.close()


def test_the_fallback_is_closed_with_its_owner(one_op):
    one_op.load(one_op.compile(small_model()))
    other = one_op.fallback.client
    one_op.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        other.device(0).empty("uint8", (1,))


def test_a_client_that_was_given_stays_open():
    other = Client(reference())
    with Client(OneOp(), fallback=other) as client:
        client.load(client.compile(small_model()))
    assert other.device(0).empty("uint8", (1,)).nbytes == 1


def test_without_a_fallback_every_reason_is_told():
    with Client(OneOp()) as client, pytest.raises(UnsupportedGraph) as raised:
        client.compile(small_model())
    assert len(raised.value.reasons) == 2
    assert "only MatMul is built in, not Tanh" in str(raised.value)


def test_what_needs_no_fallback_is_one_program(one_op):
    graph = small_model()
    whole = type(graph)(graph.inputs, (graph.outputs[1],), graph.constants[:1], graph.nodes[:1])
    program = one_op.compile(whole)
    assert len(program.parts) == 1
    assert program.crossings == ()
    one_op.load(program)
    assert not one_op.fallback.opened


def test_names_of_fallbacks():
    with accelsdk.connect("sim_card") as client:
        assert client.fallback.backend.info.name == "reference_cpu"
        assert not client.fallback.opened
    for settings in ({"fallback": None}, {"fallback": "sim_card"}):
        with accelsdk.connect("sim_card", **settings) as client:
            assert client.fallback is None
    with pytest.raises(NotFound, match="no backend 'referenz'"):
        accelsdk.connect("sim_card", fallback="referenz")


def test_conformance_never_falls_back():
    from accelsdk_conformance.subject import ClientSubject

    subject = ClientSubject("sim_card", {})
    assert subject.client.fallback is None
    assert subject.client.cache is None
    subject.close()


# -- files ---------------------------------------------------------------------------------


@pytest.fixture
def saved(one_op, tmp_path):
    one_op.compile(small_model()).save(tmp_path / "model.accel")
    return tmp_path / "model.accel"


def test_a_plan_comes_back_from_its_file(one_op, saved, tmp_path):
    program, again = one_op.compile(small_model()), open_program(saved)
    assert again.header == program.header
    assert again.outline == program.outline
    assert [part.program for part in again.parts] == [part.program for part in program.parts]
    assert again.fingerprint == program.fingerprint
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_plan_of_a_file_runs_in_a_session(one_op, saved, wanted):
    x, outputs = wanted
    session = accelsdk.InferenceSession(saved, one_op)
    assert equal(session.run(None, {"x": x}), outputs)
    session.close()


FRESH = """
import sys
import numpy as np
import accelsdk
from accelsdk.runtime.client import Client
from tests.runtime.plans import OneOp, reference

x = np.frombuffer(bytes.fromhex(sys.argv[2]), np.float32).reshape(4, 8)
with Client(OneOp(), fallback=Client(reference())) as client:
    outputs = accelsdk.InferenceSession(sys.argv[1], client).run(None, {"x": x})
print("".join(array.tobytes().hex() for array in outputs))
"""


def test_a_fresh_process_gives_the_same_bits(saved, wanted):
    x, outputs = wanted
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(saved), x.tobytes().hex()],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))},
    )
    assert done.stdout.strip() == "".join(array.tobytes().hex() for array in outputs)


@pytest.mark.parametrize("keep", [60, 500, -1])
def test_a_truncated_plan_is_data_loss(saved, keep):
    with pytest.raises(DataLoss, match="corrupt"):
        open_program(saved.read_bytes()[:keep])


def test_every_flipped_byte_of_a_plan_is_noticed(saved):
    data = bytearray(saved.read_bytes())
    for position in range(0, len(data), 61):
        changed = bytes([*data[:position], data[position] ^ 0x10, *data[position + 1 :]])
        with pytest.raises((DataLoss, IncompatibleProgram)):
            ProgramFile(changed).verify()


def test_an_older_reader_is_told_to_update(saved):
    assert saved.read_bytes()[8] == 2  # one program is still written as version 1
