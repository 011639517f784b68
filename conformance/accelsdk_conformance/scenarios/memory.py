"""Memory: what is written is what is read, buffers keep apart, deleted means deleted."""

from __future__ import annotations

import math

import numpy as np

from accelsdk.errors import FailedPrecondition, InvalidArgument, NotFound
from accelsdk.formats import FLOAT32, UINT8
from accelsdk.graph.types import TensorType
from accelsdk_conformance.scenarios.lab import Lab, check, equal, raises

#: Lengths around the alignments and the chunks in which drivers like to move bytes.
_LENGTHS = (1, 2, 3, 7, 8, 63, 64, 65, 127, 255, 256, 257, 4095, 4096, 4097, 65535, 65537)
_LARGE = (1 << 20, (1 << 20) + 1, (4 << 20) + 3)


def round_trip(lab: Lab) -> None:
    """Bytes of every length around the alignments come back as they were."""
    for nbytes in _LENGTHS:
        data = lab.noise(nbytes)
        equal(lab.bytes_of(lab.upload(data)), data, f"{nbytes} bytes")
        lab.note(data)


def large(lab: Lab) -> None:
    """Transfers of megabytes, and one byte more, come back as they were."""
    lab.demand(_LARGE[0])
    for nbytes in filter(lab.fits, _LARGE):
        data = lab.noise(nbytes)
        buffer = lab.upload(data)
        equal(lab.bytes_of(buffer), data, f"{nbytes} bytes")
        tail = bytearray(5)
        buffer.copy_to_host(tail, offset=nbytes - 5)
        equal(bytes(tail), data[-5:], f"the last bytes of {nbytes}")


def read_again(lab: Lab) -> None:
    """Each read sees the contents of now, by whatever they were changed."""
    buffer, source = lab.upload(bytes(256)), lab.upload(b"\x33" * 256)
    view = buffer.view(0, UINT8, (256,))
    equal(lab.bytes_of(buffer), bytes(256), "contents after the first write")
    equal(lab.bytes_of(view), bytes(256), "the same through a view")
    for turn in range(4):
        data = lab.noise(256)
        buffer.copy_from_host(data)
        equal(lab.bytes_of(buffer), data, f"contents after write {turn}")
        equal(lab.bytes_of(view), data, f"view after write {turn}")
        buffer.fill(bytes([turn + 1]))
        equal(lab.bytes_of(buffer), bytes([turn + 1]) * 256, f"contents after fill {turn}")
        source.copy_to(view)
        equal(lab.bytes_of(buffer), b"\x33" * 256, f"contents after a copy to its view {turn}")


def blocking(lab: Lab) -> None:
    """Blocking calls have their effect when they return, without any wait besides."""
    buffer, other = lab.raw(100), lab.raw(100)
    for turn in range(5):
        data, out = lab.noise(100), bytearray(100)
        check(buffer.copy_from_host(data).is_ready(), "a blocking write is complete")
        check(buffer.copy_to(other).is_ready(), "a blocking copy is complete")
        check(other.copy_to_host(out).is_ready(), "a blocking read is complete")
        equal(bytes(out), data, f"write, copy and read, turn {turn}")
        other.fill(bytes([turn]))
        other.copy_to_host(out)
        equal(bytes(out), bytes([turn]) * 100, f"fill and read, turn {turn}")


def source_is_captured(lab: Lab) -> None:
    """A write that is not borrowed takes the host's bytes as they are at the call."""
    buffer, gate = lab.upload(bytes(64)), lab.semaphore()
    source = bytearray(b"\x01" * 64)
    stream = lab.device.create_stream()
    written = stream.write(buffer, source, wait=[gate.at(1)])
    source[:] = b"\x02" * 64
    gate.signal(1)
    lab.finish(written)
    equal(lab.bytes_of(buffer), b"\x01" * 64, "contents after the host changed its array")


def views(lab: Lab) -> None:
    """A view shares memory with its parent, at any offset, nested, and outlives it."""
    data = bytearray(lab.noise(512))
    parent = lab.upload(bytes(data))
    for offset in (0, 1, 3, 4, 63, 64, 65, 100, 496):
        view = parent.view(offset, UINT8, (16,))
        equal(lab.bytes_of(view), bytes(data[offset : offset + 16]), f"view at {offset}")
        part = lab.noise(16)
        view.copy_from_host(part)
        data[offset : offset + 16] = part
        equal(lab.bytes_of(parent), bytes(data), f"parent after a write to the view at {offset}")
        inner = view.view(3, UINT8, (5,))
        inner.fill(b"\x7e")
        data[offset + 3 : offset + 8] = b"\x7e" * 5
        equal(lab.bytes_of(parent), bytes(data), "parent after a fill of a view of the view")
    last = parent.view(32, UINT8, (64,))
    parent.delete()
    equal(lab.bytes_of(last), bytes(data[32:96]), "view after its parent was deleted")


def view_types(lab: Lab) -> None:
    """A view may read the same bytes in another format and shape."""
    values = lab.rng.integers(0, 1 << 32, (4, 8), dtype=np.uint32)
    buffer = lab.put(values)
    as_bytes = buffer.view(0, UINT8, (128,))
    equal(lab.bytes_of(as_bytes), values.tobytes(), "a uint32 buffer as bytes")
    row = buffer.view(64, "uint32", (2, 4))
    equal(row.numpy(), values.reshape(-1)[16:24].reshape(2, 4), "the third row as [2, 4]")


def distinct(lab: Lab) -> None:
    """Live buffers never share memory, whatever was freed between."""
    live = {}
    for turn in range(60):
        nbytes = int(lab.rng.integers(1, 3000))
        data = lab.noise(nbytes)
        live[turn] = (lab.upload(data), data)
        if turn % 3 == 2:
            victim = int(lab.rng.choice(list(live)))
            live.pop(victim)[0].delete()
    for turn, (buffer, data) in live.items():
        equal(lab.bytes_of(buffer), data, f"buffer {turn} of {len(live)} live ones")


def reuse(lab: Lab) -> None:
    """Memory that was freed and taken again belongs to its new owner alone."""
    keeper = lab.upload(b"\x11" * 4096)
    for turn in range(6):
        lab.upload(lab.noise(4096)).delete()
        fresh = lab.upload(bytes([turn]) * 4096)
        equal(lab.bytes_of(fresh), bytes([turn]) * 4096, f"memory taken again, turn {turn}")
        fresh.delete()
        equal(lab.bytes_of(keeper), b"\x11" * 4096, f"a buffer that stayed, turn {turn}")


def empty_buffer(lab: Lab) -> None:
    """Buffers of no bytes are legal, and so is everything that is done with them."""
    buffer, other = (lab.device.empty(FLOAT32, (0, 3)) for _ in range(2))
    equal(buffer.nbytes, 0, "length")
    buffer.copy_from_host(b"")
    buffer.fill(b"\x00\x00\x00\x00")
    buffer.copy_to(other)
    buffer.copy_to_host(bytearray())
    equal(buffer.numpy().shape, (0, 3), "shape")
    equal(buffer.view(0, UINT8, (0,)).nbytes, 0, "length of a view")
    whole = lab.upload(b"\x55" * 8)
    nothing = whole.view(8, UINT8, (0,))
    nothing.copy_from_host(b"")
    equal(lab.bytes_of(whole), b"\x55" * 8, "contents around a view of no bytes")


def use_after_delete(lab: Lab) -> None:
    """A deleted buffer refuses every use but `is_deleted`; a second delete does nothing."""
    buffer, other = lab.upload(lab.noise(32)), lab.raw(32)
    check(not buffer.is_deleted(), "is_deleted() is false before delete()")
    buffer.delete()
    check(buffer.is_deleted(), "is_deleted() is true after delete()")
    for what, use in (
        ("read", lambda: buffer.copy_to_host(bytearray(32))),
        ("write", lambda: buffer.copy_from_host(bytes(32))),
        ("fill", lambda: buffer.fill(b"\x00")),
        ("view", lambda: buffer.view(0, UINT8, (4,))),
        ("copy from", lambda: buffer.copy_to(other)),
        ("copy to", lambda: other.copy_to(buffer)),
        ("ready", lambda: buffer.ready),
        ("numpy", buffer.numpy),
    ):
        with raises(FailedPrecondition, f"{what} after delete"):
            use()
    buffer.delete()


def refusals(lab: Lab) -> None:
    """Arrays, shapes, memories and destinations that do not fit are refused."""
    buffer = lab.put(np.arange(6, dtype=np.int32))
    with raises(InvalidArgument, "array of another shape"):
        buffer.copy_from_host(np.zeros(5, np.int32))
    with raises(InvalidArgument, "array of another format"):
        buffer.copy_from_host(np.zeros(6, np.float32))
    with raises(InvalidArgument, "a destination that is read-only"):
        buffer.copy_to_host(memoryview(bytes(4)))
    with raises(InvalidArgument, "an extent below zero"):
        lab.device.empty(UINT8, (-1,))
    with raises(NotFound, "a memory that the device lacks"):
        lab.device.empty(UINT8, (1,), memory="no such memory")
    equal(buffer.numpy(), np.arange(6, dtype=np.int32), "contents after refused calls")


def typed(lab: Lab) -> None:
    """Host arrays of every rank come back equal, strided and Fortran-ordered ones too."""
    for shape in ((), (1,), (3, 4), (2, 3, 4), (1, 2, 1, 3), (2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2)):
        dense = lab.rng.normal(size=shape).astype(np.float32)
        equal(lab.put(dense).numpy(), dense, f"array of shape {shape}")
    base = lab.rng.integers(0, 99, (6, 8), dtype=np.int32)
    for what, array in (
        ("transposed", base.T),
        ("strided", base[::2, ::3]),
        ("reversed", base[::-1, ::-1]),
        ("broadcast", np.broadcast_to(base[0], (3, 8))),
        ("Fortran-ordered", np.asfortranarray(base)),
    ):
        equal(lab.put(array).numpy(), array, f"{what} array")


def sub_byte(lab: Lab) -> None:
    """Formats below 8 bits lie packed, lowest bits first; host arrays go in and out unchanged."""
    for name, bits in (("int2", 2), ("int4", 4), ("float4_e2m1fn", 4), ("float6_e3m2fn", 6)):
        for shape in ((5, 7), (1,), (3,), (4, 16)):
            buffer = lab.device.empty(name, shape)
            count = math.prod(shape)
            equal(buffer.nbytes, -(-count * bits // 8), f"bytes of {count} {name}")
            codes = lab.rng.integers(0, 1 << bits, count)
            packed = sum(int(code) << (bits * i) for i, code in enumerate(codes))
            data = packed.to_bytes(buffer.nbytes, "little")
            buffer.copy_from_host(data)
            array = buffer.numpy()
            equal(array.shape, shape, f"shape of {name}")
            again = lab.device.empty(name, shape)
            again.copy_from_host(array)
            equal(lab.bytes_of(again), data, f"{count} {name} through a host array")
            if bits == 4:
                low = array.reshape(-1).view(np.uint8) & 15
                equal(low.tolist(), codes.tolist(), f"codes of {name}, lowest bits first")


def statistics(lab: Lab) -> None:
    """The use of memory rises with an allocation, falls with its end, and keeps its peak."""
    before = lab.device.memory_stats()
    buffers = [lab.raw(nbytes) for nbytes in (100_000, 1, 3000)]
    during = lab.device.memory_stats()
    check(
        during.in_use >= before.in_use + 103_001,
        f"in_use rose from {before.in_use} to {during.in_use}, by 103,001 or more",
    )
    if during.allocations is not None and before.allocations is not None:
        equal(during.allocations - before.allocations, 3, "allocations alive")
    if during.peak is not None:
        check(during.peak >= during.in_use, f"peak {during.peak} is in_use or more")
    if during.limit is not None:
        check(during.limit >= during.in_use, f"limit {during.limit} is in_use or more")
        equal(during.limit, before.limit, "limit")
    for buffer in buffers:
        buffer.delete()
    after = lab.device.memory_stats()
    equal(after.in_use, before.in_use, "in_use after delete")
    equal(after.allocations, before.allocations, "allocations after delete")
    if during.peak is not None and after.peak is not None:
        check(after.peak >= during.in_use, f"peak {after.peak} remembers {during.in_use}")


def forgotten(lab: Lab) -> None:
    """A buffer that nobody refers to any more gives its memory back."""
    before = lab.device.memory_stats().in_use
    for _ in range(5):
        lab.raw(10_000)
    equal(lab.device.memory_stats().in_use, before, "in_use after buffers were forgotten")


def kinds(lab: Lab) -> None:
    """Every memory that a device declares can be allocated, written and read."""
    for kind, memory in lab.device.memories.items():
        check(memory.capacity > 0, f"memory {kind} has a capacity")
        buffer = lab.device.empty(TensorType(UINT8, (1000,)), memory=kind)
        equal(buffer.memory.kind, kind, "kind of the buffer's memory")
        data = lab.noise(1000)
        buffer.copy_from_host(data)
        equal(lab.bytes_of(buffer), data, f"contents in {kind}")
        copied = buffer.to_device(lab.device)
        equal(lab.bytes_of(copied), data, f"copy from {kind} to {lab.device.default_memory}")
