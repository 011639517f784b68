"""Memory: what is written is what is read, ranges keep to themselves, deleted means deleted."""

from __future__ import annotations

import numpy as np

from accelsdk.errors import AccelError, FailedPrecondition, InvalidArgument, OutOfMemory
from accelsdk.formats import FLOAT32, UINT8
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Broken, Lab, check, equal, need, raises


def round_trip(lab: Lab) -> None:
    """Bytes of every length around the alignments come back as they were."""
    for nbytes in (1, 2, 3, 7, 8, 63, 64, 65, 255, 256, 4095, 4096, 4097, 1 << 20):
        data = lab.noise(nbytes)
        equal(lab.bytes_of(lab.upload(data)), data, f"{nbytes} bytes")


def ranged_write(lab: Lab) -> None:
    """A write of a range changes that range only."""
    data = bytearray(lab.noise(1000))
    buffer = lab.upload(bytes(data))
    for offset, nbytes in ((0, 1), (1, 7), (64, 64), (333, 100), (999, 1)):
        part = lab.noise(nbytes)
        buffer.copy_from_host(part, offset=offset)
        data[offset : offset + nbytes] = part
        equal(lab.bytes_of(buffer), bytes(data), f"write of {nbytes} bytes at {offset}")


def ranged_read(lab: Lab) -> None:
    """A read of a range returns that range."""
    data = lab.noise(777)
    buffer = lab.upload(data)
    for offset, nbytes in ((0, 1), (3, 5), (64, 64), (700, 77), (776, 1)):
        out = bytearray(nbytes)
        buffer.copy_to_host(out, offset=offset)
        equal(bytes(out), data[offset : offset + nbytes], f"read of {nbytes} bytes at {offset}")


def out_of_bounds(lab: Lab) -> None:
    """A range that leaves the buffer is refused, and changes nothing."""
    data = lab.noise(64)
    buffer = lab.upload(data)
    with raises(InvalidArgument, "write beyond the end"):
        buffer.copy_from_host(bytes(2), offset=63)
    with raises(InvalidArgument, "read beyond the end"):
        buffer.copy_to_host(bytearray(65))
    with raises(InvalidArgument, "view beyond the end"):
        buffer.view(60, UINT8, (5,))
    equal(lab.bytes_of(buffer), data, "contents after refused calls")


def sub_buffer(lab: Lab) -> None:
    """A view shares memory with its parent, at any offset, and outlives it."""
    data = bytearray(lab.noise(512))
    parent = lab.upload(bytes(data))
    for offset in (0, 1, 4, 64, 100):
        view = parent.view(offset, UINT8, (16,))
        equal(lab.bytes_of(view), bytes(data[offset : offset + 16]), f"view at {offset}")
        part = lab.noise(16)
        view.copy_from_host(part)
        data[offset : offset + 16] = part
        equal(lab.bytes_of(parent), bytes(data), f"parent after a write to the view at {offset}")
    last = parent.view(32, UINT8, (64,))
    parent.delete()
    equal(lab.bytes_of(last), bytes(data[32:96]), "view after its parent was deleted")


def fill(lab: Lab) -> None:
    """Patterns of 1, 2, 4 and 8 bytes, over all or a range."""
    for size in (1, 2, 4, 8):
        pattern = lab.noise(size)
        buffer = lab.upload(bytes(240))
        buffer.fill(pattern)
        equal(lab.bytes_of(buffer), pattern * (240 // size), f"fill of {size} bytes")
        buffer.fill(b"\x5a" * size, offset=16, nbytes=64)
        wanted = bytearray(pattern * (240 // size))
        wanted[16:80] = b"\x5a" * 64
        equal(lab.bytes_of(buffer), bytes(wanted), f"ranged fill of {size} bytes")


def copy_within(lab: Lab) -> None:
    """A copy on the card gives equal bytes and leaves the source alone."""
    for nbytes in (1, 65, 4096, 100_001):
        data = lab.noise(nbytes)
        source, destination = lab.upload(data), lab.raw(nbytes)
        source.copy_to(destination)
        equal(lab.bytes_of(destination), data, f"copy of {nbytes} bytes")
        equal(lab.bytes_of(source), data, "source of a copy")


def peer_copy(lab: Lab) -> None:
    """A copy to another card arrives whole, directly or through the host."""
    if len(lab.client.devices) < 2:
        raise NotApplicable("there is one device only")
    other = lab.client.devices[1]
    for nbytes in (1, 333, 70_000):
        data = lab.noise(nbytes)
        copied = lab.upload(data).to_device(other)
        equal(lab.bytes_of(copied), data, f"copy of {nbytes} bytes to {other.id}")


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


def empty_buffer(lab: Lab) -> None:
    """A buffer of no bytes is legal, and so are its transfers."""
    buffer = lab.device.empty(FLOAT32, (0, 3))
    equal(buffer.nbytes, 0, "length")
    buffer.copy_from_host(b"")
    equal(buffer.numpy().shape, (0, 3), "shape")


def use_after_delete(lab: Lab) -> None:
    """A deleted buffer refuses every use, and a second delete does nothing."""
    buffer = lab.upload(lab.noise(32))
    buffer.delete()
    check(buffer.is_deleted(), "is_deleted() is true after delete()")
    with raises(FailedPrecondition, "read after delete"):
        buffer.copy_to_host(bytearray(32))
    with raises(FailedPrecondition, "write after delete"):
        buffer.copy_from_host(bytes(32))
    buffer.delete()


def out_of_memory(lab: Lab) -> None:
    """A full memory raises OutOfMemory with the numbers, and the device goes on."""
    limit = lab.device.memory_stats().limit
    if limit is None:
        raise NotApplicable("the driver does not tell its limit")
    try:
        lab.raw(limit + 1)
    except OutOfMemory as error:
        check(error.requested >= limit + 1, f"requested is {error.requested}")
        check(error.limit == limit, f"limit is {error.limit}, the statistics say {limit}")
        check(error.in_use >= 0, f"in_use is {error.in_use}")
    except AccelError as error:
        raise Broken(f"a full memory raised {type(error).__name__}, not OutOfMemory") from error
    else:
        raise Broken(f"{limit + 1} bytes of {limit} were allocated")
    data = lab.noise(100)
    equal(lab.bytes_of(lab.upload(data)), data, "allocation after OutOfMemory")


def statistics(lab: Lab) -> None:
    """The use of memory rises with an allocation and falls with its end."""
    lab.device.trim()
    before = lab.device.memory_stats().in_use
    buffer = lab.raw(100_000)
    during = lab.device.memory_stats().in_use
    check(during >= before + 100_000, f"in_use rose from {before} to {during}, by 100,000 or more")
    buffer.delete()
    lab.device.trim()
    equal(lab.device.memory_stats().in_use, before, "in_use after delete")


def mapped(lab: Lab) -> None:
    """A mapped buffer is the same memory; the device may not use it meanwhile."""
    need("map", lab)
    data = lab.noise(64)
    buffer = lab.upload(data)
    with buffer.map() as memory:
        equal(bytes(memory), data, "mapped contents")
        memory[0] = (data[0] + 1) % 256
        with raises(FailedPrecondition, "use of a mapped buffer"):
            buffer.copy_to_host(bytearray(64))
    equal(lab.bytes_of(buffer)[0], (data[0] + 1) % 256, "byte written through the mapping")


def sub_byte(lab: Lab) -> None:
    """Formats below 8 bits lie packed: host arrays go in and out unchanged."""
    for name, bits in (("int2", 2), ("int4", 4), ("float4_e2m1fn", 4), ("float6_e3m2fn", 6)):
        buffer = lab.device.empty(name, (5, 7))
        equal(buffer.nbytes, -(-35 * bits // 8), f"bytes of 35 {name}")
        data = bytearray(lab.noise(buffer.nbytes))
        data[-1] &= (1 << (35 * bits - 8 * (buffer.nbytes - 1))) - 1
        buffer.copy_from_host(bytes(data))
        array = buffer.numpy()
        again = lab.device.empty(name, (5, 7))
        again.copy_from_host(array)
        equal(lab.bytes_of(again), bytes(data), f"{name} through a host array")


def typed(lab: Lab) -> None:
    """Host arrays of every rank come back equal."""
    for shape in ((), (1,), (3, 4), (2, 3, 4), (1, 2, 1, 3), (2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2)):
        array = lab.rng.normal(size=shape).astype(np.float32)
        equal(lab.put(array).numpy(), array, f"array of shape {shape}")
