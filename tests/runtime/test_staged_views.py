"""What the driver is handed honours its alignment, and what stands beside it does not suffer."""

import numpy as np
import pytest

from accelsdk.backend.observer import EventKind, Observer
from accelsdk.errors import Internal
from accelsdk.runtime.client import Client
from accelsdk.runtime.sync import Semaphore
from tests.conformance.device.card import CardBackend
from tests.runtime.fakes import Rig


class Kinds(Observer):
    def __init__(self):
        self.kinds = []

    def event(self, event):
        self.kinds.append(event.kind)


@pytest.fixture(params=["sync", "eager", "on_wait"])
def aligned(request):
    made = Rig(request.param, view_alignment=64)
    yield made
    made.client.close(timeout=10)


def test_a_poisoned_range_that_is_not_aligned_can_be_written_again(aligned):
    whole, gate = aligned.device.put(np.arange(96, dtype=np.uint8)), Semaphore()
    part = whole.view(10, "uint8", [20])
    part.copy_from_host(bytes(20), wait=[gate.at(1)], block=False)
    gate.fail(Internal("no"))
    with pytest.raises(Internal, match="no"):
        part.numpy()
    part.copy_from_host(b"\x07" * 20)
    expected = np.arange(96, dtype=np.uint8)
    expected[10:30] = 7
    assert whole.numpy().tolist() == expected.tolist()


def test_poison_before_a_range_that_is_not_aligned_stays_where_it_is(aligned):
    whole, gate = aligned.device.put(np.zeros(96, np.uint8)), Semaphore()
    first = whole.view(0, "uint8", [10])
    first.copy_from_host(bytes(10), wait=[gate.at(1)], block=False)
    gate.fail(Internal("no"))
    part = whole.view(10, "uint8", [20])
    part.copy_from_host(b"\x05" * 20)
    assert part.numpy().tolist() == [5] * 20
    with pytest.raises(Internal, match="no"):
        first.numpy()


def test_what_is_being_written_before_a_range_that_is_not_aligned_is_not_lost(aligned):
    whole, gate = aligned.device.put(np.zeros(96, np.uint8)), Semaphore()
    first, part = whole.view(0, "uint8", [10]), whole.view(10, "uint8", [20])
    streams = [aligned.device.create_stream() for _ in range(2)]
    streams[0].write(first, b"\x01" * 10, wait=[gate.at(1)])
    done = streams[1].write(part, b"\x02" * 20)
    gate.signal(1)
    done.wait(10)
    assert whole.numpy()[:31].tolist() == [1] * 10 + [2] * 20 + [0]


def test_a_view_that_is_not_aligned_is_mapped_in_its_place(aligned):
    whole = aligned.device.put(np.arange(96, dtype=np.uint8))
    with whole.view(10, "uint8", [20]).map() as data:
        assert bytes(data) == bytes(range(10, 30))
        data[0] = 99
    assert whole.numpy()[9:12].tolist() == [9, 99, 11]


def test_a_view_that_is_not_aligned_is_exported_in_its_place(aligned):
    whole = aligned.device.put(np.arange(96, dtype=np.uint8))
    assert np.from_dlpack(whole.view(10, "uint8", [20])).tolist() == list(range(10, 30))


def test_imported_memory_counts_as_one_allocation():
    watch = Kinds()
    with Client(CardBackend(counts=False), observers=[watch]) as client:
        device = client.device()
        buffer = device.from_dlpack(np.zeros(100, np.uint8))
        during = device.memory_stats()
        buffer.delete()
        after = device.memory_stats()
    assert (during.in_use, during.allocations) == (100, 1)
    assert (after.in_use, after.allocations) == (0, 0)
    assert watch.kinds == [EventKind.ALLOCATE, EventKind.FREE]


@pytest.mark.parametrize("threading", ["affine", "serial", "free"])
def test_observers_are_told_of_every_free_by_the_time_of_the_next_statistics(threading):
    watch = Kinds()
    with Client(CardBackend(threading=threading), observers=[watch]) as client:
        device = client.device()
        for _ in range(5):
            device.empty("uint8", [10]).delete()
        device.memory_stats()
        assert watch.kinds.count(EventKind.FREE) == 5
