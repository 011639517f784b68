"""Cards that break: how each fault shows, and what a reset mends."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from accelsdk.backend.optional import Execute, HealthState
from accelsdk.errors import DeviceFault, OutOfMemory, Unavailable

F32 = np.float32


class Job:
    """One Neg, ready to run on a card."""

    def __init__(self, rig, graphs, ordinal=0):
        self.rig, self.ordinal = rig, ordinal
        self.card = rig.card(ordinal)
        x = np.arange(1, 17, dtype=F32)
        self.loaded = rig.load(graphs("Neg", x), ordinal)
        self.x, self.y = rig.view(x, ordinal), rig.view(64, ordinal)
        self.want = -x

    def run(self):
        self.card.execute(self.loaded, (self.x,), (self.y,))
        return self.rig.bytes(self.y, self.ordinal).view(F32)


def test_an_ecc_error_latches_until_reset(rigs, graphs):
    rig = rigs(fault="ecc_error", fault_at=2)
    job = Job(rig, graphs)
    np.testing.assert_array_equal(job.run(), job.want)
    with pytest.raises(DeviceFault, match="ECC"):
        job.run()
    assert job.card.health().state is HealthState.FAILED
    job.card.reset()
    again = Job(rig, graphs)
    np.testing.assert_array_equal(again.run(), again.want)


def test_other_cards_go_on(rigs, graphs):
    rig = rigs(fault="ecc_error")
    bad, good = Job(rig, graphs, 0), Job(rig, graphs, 1)
    with pytest.raises(DeviceFault):
        bad.run()
    np.testing.assert_array_equal(good.run(), good.want)


def test_fault_card_chooses_the_card(rigs, graphs):
    rig = rigs(fault="ecc_error", fault_card=-1)
    for ordinal in (0, 5):
        with pytest.raises(DeviceFault):
            Job(rig, graphs, ordinal).run()


def test_a_lost_card_stays_lost(rigs, graphs):
    job = Job(rigs(fault="device_loss"), graphs)
    with pytest.raises(DeviceFault, match="fell off the bus"):
        job.run()
    assert job.card.health().state is HealthState.LOST
    with pytest.raises(Unavailable, match="power-cycle"):
        job.card.reset()


def test_a_flipped_bit_goes_unnoticed(rigs, graphs):
    job = Job(rigs(fault="ecc_flip", fault_at=2, seed=3), graphs)
    np.testing.assert_array_equal(job.run(), job.want)
    wrong = job.run().view(np.uint32) ^ job.want.view(np.uint32)
    assert [bin(word).count("1") for word in wrong[wrong != 0].tolist()] == [1]
    np.testing.assert_array_equal(job.run(), job.want)
    assert job.card.health().state is HealthState.OK


def test_equal_seeds_flip_equal_bits(rigs, graphs):
    results = [
        Job(rigs(fault="ecc_flip", seed=seed, count=count), graphs).run().tobytes()
        for seed, count in ((5, 1), (5, 2), (6, 1))
    ]
    assert results[0] == results[1] != results[2]


def test_corrupted_transfers(rigs):
    rig = rigs(fault="dma_corruption", fault_at=2)
    source = np.arange(64, dtype=np.uint8)
    view = rig.view(source)
    assert (rig.bytes(view) != source).sum() == 1
    assert (rig.bytes(view) != source).sum() == 1


def test_a_lost_link(rigs):
    rig = rigs(fault="link_loss", fault_at=2)
    view = rig.view(np.zeros(8, np.uint8))
    with pytest.raises(DeviceFault, match="link went down"):
        rig.bytes(view)
    rig.card().reset()
    rig.view(np.zeros(8, np.uint8))


def test_a_memory_that_is_always_full(rigs):
    rig = rigs(fault="out_of_memory", fault_at=2)
    rig.view(8)
    for _ in range(2):
        with pytest.raises(OutOfMemory):
            rig.view(8)


def test_a_stalled_batch_never_completes(rigs, graphs):
    job = Job(rigs(fault="stall"), graphs)
    job.card.submit(0, [Execute(job.loaded, (job.x,), (job.y,))], [])
    assert job.card.poll(3600.0) == ()
    assert job.card.poll(None) == ()
    job.card.reset()
    (done,) = job.card.poll(None)
    assert isinstance(done.error, DeviceFault)


def test_a_stalled_call_ends_in_the_watchdog(rigs, graphs):
    job = Job(rigs(fault="stall"), graphs)
    with pytest.raises(DeviceFault, match="watchdog"):
        job.run()
    assert job.card.health().state is HealthState.FAILED


_SCRIPT = """
import numpy as np
from accelsdk.backend.driver import View
from accelsdk.backend.optional import Execute
from accelsdk.graph.graph import Graph
from accelsdk_sim_card.backend import SimCard
from accelsdk.backend.program import ProgramHeader, Program

backend = SimCard()
options = backend.info.resolve({{"profile": "test", "fault": "{fault}"}})
target = backend.targets(options)[0]
card = backend.open(backend.enumerate_devices(options).devices[0], options)
graph = Graph(inputs=(), outputs=(), constants=(), nodes=())
loaded = card.load(backend.compile(graph, target, options, None), iter(()))
print("before", flush=True)
card.execute(loaded, (), ())
print("after", flush=True)
"""


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_faults_that_take_the_process_along(fault):
    script = textwrap.dedent(_SCRIPT.format(fault=fault))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout.readline() == "before\n"
        if fault == "hang":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.kill()
        process.wait(timeout=60)
        assert process.stdout.read() == ""
    assert process.returncode < 0
