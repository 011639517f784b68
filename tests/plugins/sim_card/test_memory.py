"""Device memory is an address space of its own, checked and poisoned."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.backend.driver import View
from accelsdk.backend.optional import HealthState
from accelsdk.errors import DeviceFault, InvalidArgument, OutOfMemory
from accelsdk_sim_card.memory import FREED, UNINITIALISED, DeviceMemory

CAPACITY, GRAIN = 1 << 14, 64


def _memory():
    return DeviceMemory(CAPACITY, GRAIN, "card")


def _view(handle, offset, nbytes):
    return View(handle, offset, nbytes, None, nbytes)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, CAPACITY // 2), st.sampled_from([1, 64, 4096])),
        st.tuples(st.just("give"), st.integers(0, 1000), st.just(0)),
    ),
    max_size=60,
)


def _allocate(memory, nbytes, alignment):
    """Returns a handle, or None where no free range is long enough."""
    grain = max(alignment, GRAIN)
    size = -(-nbytes // GRAIN) * GRAIN
    fits = any(end - -(-start // grain) * grain >= size for start, end in memory.free_ranges())
    if fits:
        return memory.allocate(nbytes, alignment)
    with pytest.raises(OutOfMemory) as caught:
        memory.allocate(nbytes, alignment)
    numbers = caught.value.requested, caught.value.in_use, caught.value.limit
    assert numbers == (nbytes, memory.stats().in_use, CAPACITY)
    return None


@given(STEPS)
def test_allocations_never_overlap_and_nothing_is_lost(steps):
    memory, live = _memory(), {}
    for kind, number, alignment in steps:
        if kind == "take":
            handle = _allocate(memory, number, alignment)
            if handle is None:
                continue
            assert handle not in live
            assert memory.address(handle) % max(alignment, GRAIN) == 0
            live[handle] = number
        elif live:
            handle = list(live)[number % len(live)]
            memory.free(handle)
            del live[handle]
        taken = [(memory.address(h), -(-n // GRAIN) * GRAIN) for h, n in live.items()]
        spans = sorted([(a, a + n) for a, n in taken] + memory.free_ranges())
        assert spans[0][0] == 0
        assert spans[-1][1] == CAPACITY
        assert all(end == start for (_, end), (start, _) in pairwise(spans))
        free = memory.free_ranges()
        assert all(end < start for (_, end), (start, _) in pairwise(free))
        assert memory.stats().in_use == sum(size for _, size in taken)
        assert memory.stats().allocations == len(live)


def test_new_and_freed_memory_is_poisoned():
    memory = _memory()
    handle = memory.allocate(100, 64)
    data = memory.range(_view(handle, 0, 100))
    assert (data == UNINITIALISED).all()
    data[:] = 1
    memory.free(handle)
    assert (data == FREED).all()


def test_a_handle_is_never_reused_and_a_stale_one_is_recognised():
    memory = _memory()
    first = memory.allocate(64, 64)
    memory.free(first)
    second = memory.allocate(64, 64)
    assert memory.address(second) == 0
    assert second != first
    with pytest.raises(DeviceFault, match="use after free"):
        memory.range(_view(first, 0, 1))
    with pytest.raises(DeviceFault, match="use after free"):
        memory.free(first)
    with pytest.raises(DeviceFault, match="never allocated"):
        memory.range(_view(12345, 0, 1))


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 101), (100, 1), (-1, 4), (4, -1)])
def test_every_access_is_bounds_checked(offset, nbytes):
    memory = _memory()
    handle = memory.allocate(100, 64)
    with pytest.raises(DeviceFault, match="of an allocation of 100 bytes"):
        memory.range(_view(handle, offset, nbytes))


@pytest.mark.parametrize(("nbytes", "alignment"), [(0, 64), (-1, 64), (1, 0), (1, 48)])
def test_senseless_requests_are_refused(nbytes, alignment):
    with pytest.raises(InvalidArgument, match="cannot allocate"):
        _memory().allocate(nbytes, alignment)


def test_a_fragmented_memory_is_full_before_its_last_byte():
    memory = _memory()
    handles = [memory.allocate(CAPACITY // 4, 64) for _ in range(4)]
    memory.free(handles[0])
    memory.free(handles[2])
    with pytest.raises(OutOfMemory):
        memory.allocate(CAPACITY // 2, 64)
    memory.free(handles[1])
    assert memory.allocate(3 * CAPACITY // 4, 64)


def test_the_full_size_card_takes_no_host_memory(rigs):
    rig = rigs(profile="default")
    assert rig.card().memory_stats("device").limit == 16_000_000_000
    with pytest.raises(OutOfMemory, match="16,000,000,001 bytes requested"):
        rig.card().allocate(16_000_000_001, "device", 64)


def test_memory_bytes_overrides_the_profile(rigs):
    rig = rigs(memory_bytes=4096)
    assert rig.devices[0].memories[0].capacity == 4096
    rig.card().allocate(4096, "device", 64)
    with pytest.raises(OutOfMemory, match="0 free"):
        rig.card().allocate(1, "device", 64)


def test_the_host_reaches_device_memory_only_through_the_driver(rig):
    source = np.arange(64, dtype=np.uint8)
    view = rig.view(source)
    source[:] = 0
    assert (rig.bytes(view) == np.arange(64)).all()
    assert isinstance(view.handle, int)


def test_cards_do_not_see_each_others_memory(rig):
    view = rig.view(np.zeros(8, np.uint8), ordinal=0)
    rig.view(np.zeros(8, np.uint8), ordinal=1)
    with pytest.raises(DeviceFault):
        rig.bytes(view, ordinal=1)


def test_a_wild_access_latches_the_card_until_reset(rig):
    card, other = rig.card(0), rig.card(1)
    good = rig.view(np.ones(8, np.uint8))
    with pytest.raises(DeviceFault, match=r"bytes 0\.\.16"):
        rig.bytes(_view(good.handle, 0, 16))
    assert card.health().state is HealthState.FAILED
    assert "allocation of 8 bytes" in card.health().cause
    with pytest.raises(DeviceFault):
        card.allocate(8, "device", 64)
    assert other.health().state is HealthState.OK
    rig.view(np.ones(8, np.uint8), ordinal=1)
    card.reset()
    assert card.health().state is HealthState.OK
    with pytest.raises(DeviceFault, match="use after free"):
        rig.bytes(good)
    card.reset()
    assert card.memory_stats("device").in_use == 0


def test_closing_gives_back_what_the_driver_held(rigs):
    rig = rigs()
    rig.card(1)  # keeps the host alive
    rig.view(np.zeros(100, np.uint8))
    rig.drivers.pop(0).close()
    assert rig.card(0).memory_stats("device").in_use == 0
