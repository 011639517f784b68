"""The laws again, on the bundled plugins: a synchronous driver and native queues."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import accelsdk
from accelsdk import CancelToken, ExecuteOptions, Semaphore
from accelsdk.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    IncompatibleProgram,
    Internal,
    OutOfMemory,
    Unimplemented,
)
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value

N = 8
PLUGINS = ["reference_cpu", "sim_card"]
BLOCK = ExecuteOptions(block=True)


def increment():
    """The graph of ``y = x + 1``."""
    x = Value("x", TensorType(FLOAT32, (N,)))
    builder = Builder({"x"})
    y = builder.op("Add", x, builder.constant(np.ones(N, np.float32)))
    return Graph((x,), (y,), tuple(builder.constants), tuple(builder.nodes), "increment")


class PluginRig:
    def __init__(self, name):
        self.client = accelsdk.connect(name)
        self.device = self.client.device(0)
        self.program = self.client.compile(increment())
        self.loaded = self.client.load(self.program, self.device)

    def put(self, value=0.0):
        return self.device.put(np.full(N, value, np.float32))


@pytest.fixture(params=PLUGINS)
def rig(request):
    made = PluginRig(request.param)
    yield made
    made.client.close(timeout=10)


def test_law_1_a_chain_is_in_order(rig):
    x = rig.put(1)
    for _ in range(20):
        (x,) = rig.loaded.execute([x]).outputs
    assert x.numpy().tolist() == [21.0] * N


def test_law_1_streams_meet_at_semaphores(rig):
    done, x = Semaphore(), rig.put(0)
    early, late = rig.device.create_stream(), rig.device.create_stream()
    waiting = early.execute(rig.loaded, [x], options=ExecuteOptions(wait=[done.at(1)]))
    assert not waiting.complete.is_ready()
    late.write(x, np.full(N, 5, np.float32), signal=[done.at(1)])
    assert waiting.wait(10).outputs[0].numpy().tolist() == [6.0] * N


def test_law_2_failure_travels_along_data_and_not_along_the_stream(rig):
    gate, stream, x, y = Semaphore(), rig.device.create_stream(), rig.put(0), rig.put(1)
    stream.write(x, np.full(N, 5, np.float32), wait=[gate.at(1)])
    spoiled = stream.execute(rig.loaded, [x])
    unrelated = stream.execute(rig.loaded, [y])
    gate.fail(Internal("upstream"))
    with pytest.raises(Internal, match="upstream"):
        spoiled.outputs[0].numpy()
    assert unrelated.wait(10).outputs[0].numpy().tolist() == [2.0] * N


def test_law_3_donation_is_taken_or_left(rig):
    x = rig.put(1)
    with pytest.raises(accelsdk.InvalidArgument):
        rig.loaded.execute([x, x], options=ExecuteOptions(donate=True))
    assert not x.is_deleted()
    result = rig.loaded.execute([x], options=ExecuteOptions(donate=True))
    assert x.is_deleted()
    assert result.wait(10).outputs[0].numpy().tolist() == [2.0] * N


def test_law_4_work_in_flight_keeps_what_it_uses(rig):
    gate, x = Semaphore(), rig.put(1)
    program = rig.client.load(rig.program, rig.device)
    result = program.execute([x], options=ExecuteOptions(wait=[gate.at(1)]))
    x.delete()
    program.delete()
    with pytest.raises(FailedPrecondition, match="deleted"):
        x.numpy()
    gate.signal(1)
    assert result.wait(10).outputs[0].numpy().tolist() == [2.0] * N


def test_law_5_reset_ends_what_was_there(rig):
    x = rig.put(1)
    rig.device.reset()
    with pytest.raises(FailedPrecondition, match="reset"):
        x.numpy()
    loaded = rig.client.load(rig.program, rig.device)
    assert loaded.execute([rig.put(1)]).outputs[0].numpy().tolist() == [2.0] * N


def test_law_6_timeouts_and_cancelling_differ(rig):
    gate, token = Semaphore(), CancelToken()
    options = ExecuteOptions(wait=[gate.at(1)], cancel=token)
    result = rig.loaded.execute([rig.put(1)], options=options)
    with pytest.raises(DeadlineExceeded):
        result.wait(0.01)
    token.cancel()
    with pytest.raises(Cancelled):
        result.wait(10)


def test_law_7_what_is_missing_names_itself(rig):
    for name, use in (("telemetry", rig.device.telemetry), ("map", rig.put().map().__enter__)):
        if name not in rig.device.capabilities:
            with pytest.raises(Unimplemented, match=f"'{name}'"):
                use()


def test_law_8_callbacks_come_from_an_sdk_thread(rig):
    seen, finished = [], threading.Event()
    result = rig.loaded.execute([rig.put(1)])
    result.complete.add_done_callback(
        lambda _: (seen.append(threading.current_thread().name), finished.set())
    )
    result.wait(10)
    assert finished.wait(10)
    assert seen[0].startswith("accelsdk")


def test_law_9_many_threads_use_one_device(rig):
    failures = []

    def use(value):
        for _ in range(5):
            (y,) = rig.loaded.execute([rig.put(value)]).outputs
            if y.numpy().tolist() != [value + 1.0] * N:
                failures.append(value)

    threads = [threading.Thread(target=use, args=[value]) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_law_10_a_program_fits_its_own_backend_alone(rig):
    other = PLUGINS[rig.client.backend.info.name == PLUGINS[0]]
    with (
        accelsdk.connect(other) as client,
        pytest.raises(IncompatibleProgram, match="compiled by backend"),
    ):
        client.load(rig.program)


def test_law_10_a_program_gives_the_same_bits_in_a_fresh_process(rig, tmp_path):
    rig.program.save(tmp_path / "p.accel")
    code = f"""
import numpy as np, accelsdk
with accelsdk.connect({rig.client.backend.info.name!r}) as client:
    loaded = client.load({str(tmp_path / "p.accel")!r})
    x = loaded.device.put(np.linspace(-1, 1, {N}).astype(np.float32))
    print(loaded.execute([x]).outputs[0].numpy().tobytes().hex())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    x = rig.device.put(np.linspace(-1, 1, N).astype(np.float32))
    here = rig.loaded.execute([x]).outputs[0].numpy()
    assert (done.stdout.strip(), done.stderr) == (here.tobytes().hex(), "")


def test_bound_runs_match_single_ones(rig):
    binding = rig.loaded.bind()
    for value in (1, 2, 2, 3):
        binding.bind_input("x", np.full(N, value, np.float32))
        assert binding.run(None).outputs[0].numpy().tolist() == [value + 1.0] * N
    assert binding.run(BLOCK).complete.is_ready()


def test_a_full_device_is_an_error_with_numbers(rig):
    capacity = rig.device.memories[rig.device.default_memory].capacity
    with pytest.raises(OutOfMemory) as caught:
        rig.device.empty("uint8", [capacity + 1])
    assert caught.value.requested > capacity
    assert caught.value.limit <= capacity
    rig.put(1)


def test_copies_go_between_all_devices(rig):
    x = rig.put(7)
    for device in rig.client.devices[1:]:
        x = x.to_device(device)
    assert x.numpy().tolist() == [7.0] * N
