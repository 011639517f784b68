"""A device that fails stays failed until it is reset; others go on; nothing survives a reset."""

from __future__ import annotations

import gc

from accelsdk.backend.optional import HealthState
from accelsdk.errors import Code, DeviceFault, FailedPrecondition
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.sync import Event
from accelsdk_conformance.scenarios.lab import Lab, check, equal, raises

_NAMED = "planted by conformance"


def _break(device: Device, lab: Lab) -> Event:
    """Has work of a device fail with a fault of the device, as its driver could."""

    def fault() -> None:
        raise DeviceFault(_NAMED, device=device.id)

    event = device.create_stream().host_call(fault)
    with raises(DeviceFault, "the work that broke", _NAMED):
        lab.finish(event)
    return event


def _reset(device: Device) -> None:
    device.reset()
    gc.collect()


def latch(lab: Lab) -> None:
    """A fault fails what is in flight, refuses what comes, and reset() ends it."""
    gate, device = lab.semaphore(), lab.device
    before = device.memory_stats().in_use
    buffer, program = lab.upload(bytes(64)), lab.program()
    x = lab.put(lab.full(1))
    waiting = device.create_stream().fill(buffer, b"\x01", wait=[gate.at(1)])
    signalled = lab.semaphore()
    held = program.execute(
        [x, x], options=ExecuteOptions(wait=[gate.at(1)], signal=[signalled.at(1)])
    )
    try:
        _break(device, lab)
        for what, use in (
            ("work in flight", lambda: lab.finish(waiting)),
            ("a program in flight", lambda: lab.finish(held.complete)),
            ("the semaphore of work in flight", lambda: signalled.wait(1, lab.patience)),
            ("a read", lambda: buffer.copy_to_host(bytearray(64))),
            ("a fill", lambda: buffer.fill(b"\x00")),
            ("an allocation", lambda: lab.raw(16)),
            ("a program", lambda: program.execute([x, x])),
            ("synchronize()", lambda: device.synchronize(lab.patience)),
        ):
            with raises(DeviceFault, f"{what} of a failed device", _NAMED):
                use()
        check(device.fault is not None, "Device.fault tells the fault")
        health = device.health()
        equal(health.state, HealthState.FAILED, "health of a failed device")
        check(_NAMED in health.cause, f"its cause is told: {health.cause}")
        error = waiting.error()
        equal(error.code if error else None, Code.ABORTED, "code of a fault")
    finally:
        gate.signal(1)
        _reset(device)
    check(device.fault is None, "Device.fault is None after reset()")
    check(device.health().state is not HealthState.FAILED, "health after reset()")
    equal(device.memory_stats().in_use, before, "in_use after reset()")
    _works(lab, device)


def _works(lab: Lab, device: Device) -> None:
    data = lab.noise(300)
    equal(lab.bytes_of(lab.upload(data, device)), data, f"transfers of {device.id}")
    with lab.program(device=device) as program:
        x = lab.put(lab.full(2), device)
        (result,) = program.execute([x, x]).outputs
        equal(lab.array_of(result), lab.full(4), f"a program on {device.id}")


def invalidates(lab: Lab) -> None:
    """After reset() the old buffers, views and programs refuse every use; deleting is fine."""
    device = lab.device
    buffer = lab.upload(b"\x5a" * 64)
    view, program = buffer.view(16, "uint8", (16,)), lab.program()
    x = lab.put(lab.full(1))
    _reset(device)
    for what, use in (
        ("read", lambda: buffer.copy_to_host(bytearray(64))),
        ("write", lambda: buffer.copy_from_host(bytes(64))),
        ("read of a view", lambda: view.copy_to_host(bytearray(16))),
        ("operand", lambda: program.execute([x, x])),
        ("view", lambda: buffer.view(0, "uint8", (1,))),
    ):
        with raises(FailedPrecondition, f"{what} from before reset()", "reset"):
            use()
    for old in (view, buffer, x):
        old.delete()
    fresh = lab.upload(b"\x66" * 64)
    program.delete()
    gc.collect()
    equal(lab.bytes_of(fresh), b"\x66" * 64, "a new buffer when the old ones were deleted")
    _works(lab, device)


def again(lab: Lab) -> None:
    """A device can be reset again and again, and works each time, with all its memory."""
    before = lab.device.memory_stats().in_use
    for turn in range(3):
        kept = lab.upload(lab.noise(5000))
        loaded = lab.program(count=1000)
        if turn:
            _break(lab.device, lab)
        _reset(lab.device)
        del kept, loaded
        gc.collect()
        equal(lab.device.memory_stats().in_use, before, f"in_use after reset {turn}")
        _works(lab, lab.device)


def in_flight(lab: Lab) -> None:
    """reset() ends what is in flight, wakes its waiters, and none of it lands afterwards."""
    device, gate = lab.device, lab.semaphore()
    buffer, out = lab.upload(bytes(64)), bytearray(64)
    stream = device.create_stream()
    filled = stream.fill(buffer, b"\x01", wait=[gate.at(1)])
    read = stream.read(buffer, out)
    _reset(device)
    gate.signal(1)
    for what, event in (("a fill", filled), ("a read", read)):
        with raises(DeviceFault, f"{what} in flight at reset()"):
            lab.finish(event)
    equal(bytes(out), bytes(64), "host memory that no read has reached")
    fresh = lab.upload(b"\x21" * 64)
    equal(lab.bytes_of(fresh), b"\x21" * 64, "a new buffer after the signal")


def others_go_on(lab: Lab) -> None:
    """The fault and the reset of one device leave the others alone, with what they hold."""
    device, other = lab.device, lab.others[0]
    data = lab.noise(4000)
    theirs, x = lab.upload(data, other), lab.put(lab.full(3), other)
    with lab.program(device=other) as program:
        try:
            _break(device, lab)
            check(other.fault is None, "the other device has not failed")
            equal(lab.bytes_of(theirs), data, "the other device's buffer")
            (result,) = program.execute([x, x]).outputs
            equal(lab.array_of(result), lab.full(6), "the other device's program")
        finally:
            _reset(device)
        equal(lab.bytes_of(theirs), data, "the other device's buffer after the reset")
        (result,) = program.execute([x, x]).outputs
        equal(lab.array_of(result), lab.full(6), "the other device's program after the reset")
    _works(lab, device)


def waits_across(lab: Lab) -> None:
    """Work of another device that waits for a failed one fails, and its device does not."""
    device, other = lab.device, lab.others[0]
    gate = lab.semaphore()
    buffer = lab.raw(16)
    held = device.create_stream().fill(buffer, b"\x01", wait=[gate.at(1)])
    theirs = lab.upload(bytes(16), other)
    waiting = other.create_stream().fill(theirs, b"\x02", wait=[held])
    try:
        _break(device, lab)
        with raises(DeviceFault, "work that waits for a failed device", _NAMED):
            lab.finish(waiting)
        check(other.fault is None, "a fault that came along a wait is not the device's own")
        theirs.fill(b"\x03")
        equal(lab.bytes_of(theirs), b"\x03" * 16, "the other device afterwards")
    finally:
        gate.signal(1)
        _reset(device)
