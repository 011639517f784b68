import gc
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.backend.observer import EventKind, Observer
from accelsdk.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfMemory,
    Unimplemented,
)
from accelsdk.formats import FORMATS, by_name
from accelsdk.graph.types import TensorType
from accelsdk.runtime.client import Client
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.sync import Semaphore
from tests.runtime.fakes import BYTES, CAPABILITIES, FakeBackend, N, Rig


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (5, 7)])
def test_every_format_goes_there_and_back(fmt, shape):
    rig = Rig("sync")
    codes = np.random.default_rng(1).integers(0, 1 << min(fmt.bits, 8), shape, np.uint8)
    if fmt.kind == "bool":
        array = codes.astype(bool)
    elif fmt.is_integer or fmt.kind == "fixed":
        array = codes.astype(np.int8).astype(fmt.dtype)
    elif fmt.bits <= 8:
        array = codes.view(fmt.dtype)
    else:
        array = codes.astype(fmt.dtype)
    buffer = rig.device.put(array, format=fmt)
    assert (buffer.format, buffer.shape, buffer.nbytes) == (fmt, shape, fmt.nbytes(array.size))
    back = buffer.numpy()
    assert back.dtype == fmt.dtype
    assert back.shape == shape
    if fmt.bits < 8 and fmt.is_integer:  # the unused high bits of an item mean nothing
        assert (back == array).all()
    else:
        assert back.tobytes() == array.tobytes()
    rig.client.close()


def test_ranged_copies(rig):
    x = rig.put(*range(N))
    x.copy_from_host(b"\x63\x64", offset=3)
    part = bytearray(4)
    x.copy_to_host(part, offset=2)
    assert list(part) == [2, 0x63, 0x64, 5]


@pytest.mark.parametrize(("offset", "data"), [(7, b"ab"), (-1, b"a"), (9, b"")])
def test_a_copy_that_leaves_the_buffer_is_refused(rig, offset, data):
    with pytest.raises(InvalidArgument, match="leave a buffer of 8 bytes"):
        rig.put(1).copy_from_host(data, offset=offset)


def test_a_wrong_array_is_refused(rig):
    with pytest.raises(InvalidArgument, match=r"float32\[8\] does not fit uint8\[8\]"):
        rig.put(1).copy_from_host(np.zeros(N, np.float32))


def test_a_read_only_destination_is_refused(rig):
    with pytest.raises(InvalidArgument, match="read-only"):
        rig.put(1).copy_to_host(memoryview(bytes(4)))


def test_the_source_may_change_after_an_asynchronous_write(rig):
    gate, source, x = Semaphore(), np.full(N, 1, np.uint8), rig.put(0)
    done = x.copy_from_host(source, wait=[gate.at(1)], block=False)
    source[:] = 99
    gate.signal(1)
    done.wait(10)
    assert x.numpy().tolist() == [1] * N


def test_fill_whole_and_part(rig):
    x = rig.put(0)
    x.fill(b"\1\2")
    x.fill(b"\7", offset=5, nbytes=2)
    assert x.numpy().tolist() == [1, 2, 1, 2, 1, 7, 7, 2]


@pytest.mark.parametrize("pattern", [b"", b"abc", b"123456789"])
def test_a_fill_pattern_must_divide(rig, pattern):
    with pytest.raises(InvalidArgument, match="cannot fill"):
        rig.put(0).fill(pattern)


def test_copy_within_a_device(rig):
    x, y = rig.put(*range(N)), rig.empty()
    x.copy_to(y)
    assert y.numpy().tolist() == list(range(N))


def test_overlapping_copy_is_refused(rig):
    x = rig.put(*range(N))
    with pytest.raises(InvalidArgument, match="overlap"):
        x.view(0, "uint8", [4]).copy_to(x.view(2, "uint8", [4]))
    with pytest.raises(InvalidArgument, match="cannot copy 8 bytes to 4"):
        x.copy_to(x.view(0, "uint8", [4]))


def test_copy_between_devices_goes_directly(rig):
    y = rig.put(*range(N)).to_device(rig.other)
    assert y.device is rig.other
    assert y.numpy().tolist() == list(range(N))
    assert "read" not in [name for name, _ in rig.behaviour.calls]


@pytest.mark.parametrize("kind", ["sync", "eager", "on_wait"])
def test_copy_between_devices_without_a_path_goes_through_the_host(kind):
    rig = Rig(kind, capabilities=CAPABILITIES - {"peer-copy"})
    gate, x, y = Semaphore(), rig.put(*range(N)), rig.empty(rig.other)
    done = x.copy_to(y, wait=[gate.at(1)], block=False)
    assert not done.is_ready()
    gate.signal(1)
    done.wait(10)
    assert y.numpy().tolist() == list(range(N))
    rig.client.close()


def test_copy_between_clients_goes_through_the_host(rig):
    other = Rig("sync")
    y = rig.put(5).to_device(other.device)
    assert y.numpy().tolist() == [5] * N
    other.client.close()


@pytest.mark.parametrize("capabilities", [CAPABILITIES, CAPABILITIES - {"peer-copy"}])
def test_a_failed_source_fails_the_copy(capabilities):
    rig = Rig("sync", capabilities=capabilities)
    x = rig.device.poisoned(BYTES, Internal("poison"))
    y = rig.empty(rig.other)
    with pytest.raises(Internal, match="poison"):
        x.copy_to(y)
    with pytest.raises(Internal, match="poison"):
        y.numpy()
    rig.client.close()


# -- views ---------------------------------------------------------------------------------


@given(st.integers(0, N), st.integers(0, N))
def test_views_see_their_range(offset, length):
    rig = Rig("sync")
    x = rig.put(*range(N))
    if offset + length > N:
        with pytest.raises(InvalidArgument, match="leave"):
            x.view(offset, "uint8", [length])
    else:
        part = x.view(offset, "uint8", [length])
        assert part.numpy().tolist() == list(range(N))[offset : offset + length]
    rig.client.close()


def test_a_view_of_a_view_and_another_format(rig):
    x = rig.put(0, 0, 0x80, 0x3F)
    assert x.view(4, "uint8", [4]).view(0, "float32", [1]).numpy().tolist() == [1.0]


@pytest.mark.parametrize("kind", ["sync", "eager", "on_wait"])
def test_what_the_target_would_not_take_is_staged(kind):
    rig = Rig(kind, view_alignment=16)  # the fake refuses any view that is not aligned
    arena = rig.device.empty("uint8", [64])
    arena.fill(b"\xee")
    x, y, z = (arena.view(offset, BYTES) for offset in (3, 17, 33))
    x.copy_from_host(np.arange(N, dtype=np.uint8))
    x.copy_to(z)
    result = rig.load().execute([x], [y])
    assert result.wait(10).outputs[0].numpy().tolist() == list(range(1, N + 1))
    x.fill(b"\5")
    whole = arena.numpy().tolist()
    assert whole[:3] == [0xEE] * 3
    assert whole[3:11] == [5] * N
    assert whole[11:17] == [0xEE] * 6
    assert whole[17:25] == list(range(1, N + 1))
    assert whole[25:33] == [0xEE] * 8
    assert whole[33:41] == list(range(N))
    assert whole[41:] == [0xEE] * 23
    binding = rig.load().bind()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    for _ in range(2):
        assert binding.run().outputs[0].numpy().tolist() == [6] * N
    rig.client.close()


def test_staged_execution_waits_and_signals_like_any_other():
    rig = Rig("sync", view_alignment=16)
    gate, done = Semaphore(), Semaphore()
    arena = rig.device.empty("uint8", [64])
    arena.fill(b"\1")
    y = arena.view(17, BYTES)
    options = ExecuteOptions(wait=[gate.at(1)], signal=[done.at(1)])
    result = rig.load().execute([arena.view(3, BYTES)], [y], options)
    assert not result.complete.is_ready()
    gate.signal(1)
    done.wait(1, timeout=10)
    assert y.numpy().tolist() == [2] * N
    rig.client.close()


# -- memory --------------------------------------------------------------------------------


def test_memory_statistics(rig):
    x = rig.put(1)
    rig.put(2).delete()
    stats = rig.device.memory_stats()
    assert (stats.in_use, stats.peak, stats.allocations) == (N, 2 * N, 1)
    assert stats.limit == rig.device.memories["device"].capacity
    assert x.memory.stats() == stats
    with pytest.raises(NotFound, match=r"no memory 'hbm'.*memories: device"):
        rig.device.memory_stats("hbm")


def test_a_full_device_says_the_numbers_and_goes_on(rig):
    x = rig.device.empty("uint8", [40_000])
    with pytest.raises(OutOfMemory, match="30,000 bytes requested, 40,000 of 65,536") as caught:
        rig.device.empty("uint8", [30_000])
    assert caught.value.retryable
    assert (caught.value.requested, caught.value.limit) == (30_000, 65_536)
    x.delete()
    rig.device.empty("uint8", [30_000])


def test_what_is_only_garbage_makes_room(rig):
    class Ring:
        pass

    ring = Ring()
    ring.itself, ring.buffer = ring, rig.device.empty("uint8", [60_000])
    gc.disable()
    try:
        del ring
        rig.device.empty("uint8", [60_000])
    finally:
        gc.enable()


def test_empty_buffers_are_legal(rig):
    x = rig.device.put(np.zeros((0, 4), np.float32))
    assert x.numpy().shape == (0, 4)


# -- in place ------------------------------------------------------------------------------


def test_map_shows_the_bytes_in_place(rig):
    x = rig.put(1)
    with x.map() as data:
        data[0] = 77
        with pytest.raises(FailedPrecondition, match="mapped"):
            x.fill(b"\0")
    assert x.numpy().tolist() == [77] + [1] * 7


def test_dlpack_out_is_in_place_and_keeps_the_memory(rig):
    x = rig.device.put(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert x.__dlpack_device__() == (1, 0)
    array = np.from_dlpack(x)
    x.delete()
    gc.collect()
    rig.device.memory_stats()
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    del array
    gc.collect()
    assert rig.device.memory_stats().in_use == 0


def test_dlpack_out_of_formats_unknown_to_others_is_bytes(rig):
    x = rig.device.put(np.array([1, 2], np.float32).astype("bfloat16"))
    array = np.from_dlpack(x)
    assert array.dtype == np.uint8
    assert array.tobytes() == x.numpy().tobytes()


@pytest.mark.parametrize(
    "settings", [{"host_visible": False}, {"capabilities": CAPABILITIES - {"map"}}]
)
def test_dlpack_out_of_memory_that_the_host_cannot_see_is_refused(settings):
    rig = Rig("sync", **settings)
    x = rig.put(1)
    assert x.__dlpack_device__() == (12, 0)
    with pytest.raises(BufferError, match="cannot see"):
        np.from_dlpack(x)
    rig.client.close()


def test_dlpack_in(rig):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert rig.device.from_dlpack(array).numpy().tolist() == array.tolist()
    with pytest.raises(InvalidArgument, match="cannot import"):
        rig.device.from_dlpack(object())


# -- observers -----------------------------------------------------------------------------


class Recorder(Observer):
    def __init__(self):
        self.events = []

    def event(self, event):
        self.events.append(event)


@pytest.mark.parametrize("kind", ["sync", "eager", "on_wait"])
def test_observers_see_what_happens(kind):
    recorder = Recorder()
    backend = FakeBackend(kind)
    rig = Rig(kind)
    rig.client.close()
    rig.backend, rig.client = backend, Client(backend, observers=[recorder])
    rig.device = rig.client.devices[0]
    x = rig.put(1)
    loaded = rig.load()
    loaded.execute([x], options=ExecuteOptions(block=True))
    x.numpy()
    backend.behaviours[0].fail.append(ValueError("boom"))
    failed = loaded.execute([x])
    with pytest.raises(Internal):
        failed.wait(10)
    rig.client.close()
    kinds = [event.kind for event in recorder.events]
    for wanted in ("allocate", "write", "load", "execute", "read", "free"):
        assert EventKind(wanted) in kinds
    assert [str(e.error.message)[-4:] for e in recorder.events if e.error] == ["boom"]


def test_an_observer_that_raises_is_dropped(caplog):
    class Bad(Observer):
        calls = 0

        def event(self, event):
            self.calls += 1
            raise ValueError("bad observer")

    bad = Bad()
    client = Client(FakeBackend("sync"), observers=[bad])
    with caplog.at_level(logging.ERROR):
        client.devices[0].put(np.zeros(3, np.uint8)).numpy()
    assert bad.calls == 1
    assert "bad observer" in caplog.text
    client.close()


def test_what_is_missing_is_unimplemented():
    rig = Rig("sync", capabilities=())
    with pytest.raises(Unimplemented, match="'map'"), rig.put(1).map():
        pass
    rig.client.close()


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (1.5,), "abc", 4, (None,), ("2",)])
def test_what_is_no_shape_is_refused(rig, shape):
    for make in (rig.device.empty, lambda *type: rig.put(1).view(0, *type)):
        with pytest.raises(InvalidArgument, match="is no shape"):
            make("uint8", shape)
    with pytest.raises(InvalidArgument, match="is no shape"):
        rig.device.empty(TensorType(by_name("uint8"), (-1,)))
    assert rig.device.memory_stats().in_use <= N


def test_what_is_no_format_is_refused(rig):
    for format in (None, 3, np.float32):
        with pytest.raises(InvalidArgument, match="no number format"):
            rig.device.empty(format, (1,))


@pytest.mark.parametrize("pattern", ["a", 3, None, [1]])
def test_what_is_no_pattern_is_refused_and_poisons_nothing(rig, pattern):
    buffer = rig.put(7)
    with pytest.raises(InvalidArgument, match="no pattern"):
        buffer.fill(pattern)
    assert buffer.numpy().tolist() == [7] * N


def test_numpy_takes_a_buffer_for_its_numbers(rig):
    buffer = rig.put(7)
    assert np.asarray(buffer).dtype == np.uint8
    assert np.asarray(buffer).tolist() == [7] * N
    assert np.array(buffer, dtype=np.float64).tolist() == [7.0] * N
    with pytest.raises(ValueError, match="copied"):
        np.asarray(buffer, copy=False)
