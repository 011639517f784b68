"""Several devices: copies between them, and programs and memory that keep apart."""

from __future__ import annotations

from accelsdk.errors import DataLoss, InvalidArgument
from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk.runtime.device import Device
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, check, equal, raises

#: As many devices take part in what is done with every pair.
_SAMPLE = 4


def _sample(lab: Lab) -> list[Device]:
    others = list(lab.others)
    if len(others) < _SAMPLE:
        return [lab.device, *others]
    return [lab.device, others[0], others[len(others) // 2], others[-1]]


def to_device(lab: Lab) -> None:
    """A copy to another card arrives whole, directly or through the host."""
    for other in (lab.others[0], lab.others[-1]):
        for nbytes in (1, 333, 4096, 70_001):
            data = lab.noise(nbytes)
            source = lab.upload(data)
            copied = source.to_device(other)
            equal(copied.device.id, other.id, "device of the copy")
            equal(lab.bytes_of(copied), data, f"copy of {nbytes} bytes to {other.id}")
            equal(lab.bytes_of(source), data, "source of a copy to another card")
            back = copied.to_device(lab.device)
            equal(lab.bytes_of(back), data, f"copy of {nbytes} bytes from {other.id}")


def all_pairs(lab: Lab) -> None:
    """Every ordered pair of a few cards: the right bytes, from the right card."""
    devices = _sample(lab)
    contents = [lab.noise(1000) for _ in devices]
    held = [lab.upload(data, device) for data, device in zip(contents, devices, strict=True)]
    for i, source in enumerate(held):
        for j, device in enumerate(devices):
            if i != j:
                target = lab.upload(b"\xcc" * 1000, device)
                source.copy_to(target)
                what = f"copy from {devices[i].id} to {device.id}"
                equal(lab.bytes_of(target), contents[i], what)
    for buffer, data in zip(held, contents, strict=True):
        equal(lab.bytes_of(buffer), data, "what every card held before")


def ranges(lab: Lab) -> None:
    """Copies between views of two cards honour both offsets and the length."""
    other = lab.others[0]
    data, old = lab.noise(500), lab.noise(500)
    source = lab.upload(data)
    for start, end, nbytes in ((0, 1, 64), (1, 0, 64), (3, 5, 77), (499, 0, 1), (64, 128, 300)):
        target = lab.upload(old, other)
        source.view(start, UINT8, (nbytes,)).copy_to(target.view(end, UINT8, (nbytes,)))
        wanted = old[:end] + data[start : start + nbytes] + old[end + nbytes :]
        equal(lab.bytes_of(target), wanted, f"{nbytes} bytes from {start} to {end} of the other")
    equal(lab.bytes_of(source), data, "source of copies between views")


def memory_apart(lab: Lab) -> None:
    """Cards have memory of their own: the same work on each leaves each with its own bytes."""
    devices = [lab.device, *lab.others]
    buffers = [lab.upload(bytes([turn + 1]) * 256, d) for turn, d in enumerate(devices)]
    for turn, (buffer, device) in enumerate(zip(buffers, devices, strict=True)):
        equal(lab.bytes_of(buffer), bytes([turn + 1]) * 256, f"contents on {device.id}")
    buffers[0].fill(b"\xee")
    for turn, (buffer, device) in enumerate(zip(buffers[1:], devices[1:], strict=True), 1):
        equal(lab.bytes_of(buffer), bytes([turn + 1]) * 256, f"contents on {device.id} beside")
    before = [device.memory_stats().in_use for device in devices]
    extra = lab.raw(50_000)
    during = [device.memory_stats().in_use for device in devices]
    check(during[0] >= before[0] + 50_000, "in_use of the card that allocated")
    equal(during[1:], before[1:], "in_use of the other cards")
    extra.delete()


def every_device(lab: Lab) -> None:
    """One program gives the same bits on every device of its target."""
    devices = [d for d in lab.client.devices if d.target.name == lab.device.target.name]
    if len(devices) < 2:
        raise NotApplicable("there is one device of this target only")
    executable = lab.compiled(count=65)
    x, y = lab.values(65), lab.values(65)
    for device in devices:
        with lab.client.load(executable, device) as program:
            check(program.device is device, f"a program loaded on {device.id} is there")
            arguments = [lab.put(x, device), lab.put(y, device)]
            (result,) = program.execute(arguments, options=BLOCK).outputs
            check(result.device is device, f"results of a program on {device.id} are there")
            equal(lab.array_of(result), x + y, f"results of {device.id}")
            lab.note(lab.bytes_of(result))


def strangers(lab: Lab) -> None:
    """Buffers, streams and programs of another card are refused, by name."""
    other = lab.others[0]
    with lab.program() as program:
        x, theirs = lab.put(lab.full(1)), lab.put(lab.full(1), other)
        with raises(InvalidArgument, "operand on another card", other.id):
            program.execute([x, theirs])
        with raises(InvalidArgument, "stream of another card"):
            other.create_stream().fill(x, b"\x00")
        with raises(InvalidArgument, "result on another card", other.id):
            program.execute([x, x], [lab.device.empty(x.type).to_device(other)])
        equal(lab.array_of(x), lab.full(1), "operand after refusals")


def order_across(lab: Lab) -> None:
    """Semaphores and data order the work of two cards, in both directions."""
    other, semaphore = lab.others[0], lab.semaphore()
    here, there = lab.device.create_stream(), other.create_stream()
    mine, theirs = lab.upload(bytes(5000)), lab.upload(bytes(5000), other)
    for turn in range(1, 8):
        here.fill(mine, bytes([turn]), wait=[semaphore.at(2 * turn - 2)])
        there.copy(theirs, mine, signal=[semaphore.at(2 * turn - 1)])
        here.copy(mine, theirs, wait=[semaphore.at(2 * turn - 1)], signal=[semaphore.at(2 * turn)])
        out = bytearray(5000)
        lab.finish(there.read(theirs, out))
        equal(bytes(out), bytes([turn]) * 5000, f"what went across in turn {turn}")
    lab.device.synchronize(lab.patience)


def pipeline(lab: Lab) -> None:
    """Programs of two cards that feed each other through copies give the right result."""
    other = lab.others[0]
    with lab.program() as first, lab.program(device=other) as second:
        value, one = lab.put(lab.full(0)), lab.put(lab.full(1))
        there, one_there = other.empty(value.type), lab.put(lab.full(1), other)
        for _ in range(5):
            (made,) = first.execute([value, one]).outputs
            made.copy_to(there, block=False)
            (back,) = second.execute([there, one_there]).outputs
            value = lab.device.empty(value.type)
            back.copy_to(value, block=False)
        equal(lab.array_of(value), lab.full(10), "a number raised by two cards in turn")


def poison_across(lab: Lab) -> None:
    """A poisoned buffer poisons its copy on another card; the card itself is fine."""
    other = lab.others[0]
    poisoned = lab.device.poisoned(TensorType(UINT8, (64,)), DataLoss("planted"))
    target = lab.upload(bytes(64), other)
    event = poisoned.copy_to(target, block=False)
    with raises(DataLoss, "copy of a poisoned buffer to another card", "planted"):
        lab.finish(event)
    with raises(DataLoss, "its copy", "planted"):
        lab.bytes_of(target)
    target.fill(b"\x12")
    equal(lab.bytes_of(target), b"\x12" * 64, "the other card afterwards")


def delete_in_flight(lab: Lab) -> None:
    """Deleting both ends of a copy between cards does not disturb it."""
    other, gate = lab.others[0], lab.semaphore()
    source, target = lab.upload(b"\x4b" * 2000), lab.raw(2000, other)
    out, stream = bytearray(2000), other.create_stream()
    stream.copy(target, source, wait=[gate.at(1)])
    read = stream.read(target, out)
    source.delete()
    target.delete()
    lab.upload(b"\xff" * 2000).delete()
    gate.signal(1)
    lab.finish(read)
    equal(bytes(out), b"\x4b" * 2000, "what was copied between deleted buffers")
