"""Order: what streams, events, semaphores and data promise, and nothing beyond that."""

from __future__ import annotations

import time

from accelsdk.errors import DeadlineExceeded, InvalidArgument
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.sync import Event
from accelsdk_conformance.scenarios.lab import MOMENT, Lab, check, equal, raises


def fifo(lab: Lab) -> None:
    """An ordered stream keeps the order of submission: the last write wins."""
    stream = lab.device.create_stream()
    buffer = lab.raw(4096)
    for turn in range(50):
        stream.fill(buffer, bytes([turn]))
    out = bytearray(4096)
    lab.finish(stream.read(buffer, out))
    equal(bytes(out), bytes([49]) * 4096, "contents after 50 fills in order")


def fifo_mixed(lab: Lab) -> None:
    """Writes, fills, copies and programs of one stream run in turn, on whatever queues."""
    stream = lab.device.create_stream()
    with lab.program() as program:
        x, y = lab.put(lab.full(0)), lab.put(lab.full(1))
        z = lab.device.empty(x.type)
        for turn in range(1, 11):
            stream.write(x, lab.full(turn))
            stream.execute(program, [x, y], [z])
            stream.copy(x, z)
            stream.fill(z, b"\x00")
            out = lab.full(0)
            lab.finish(stream.read(x, out))
            equal(out, lab.full(turn + 1), f"turn {turn}")


def write_after_read(lab: Lab) -> None:
    """In one stream a later write does not reach an earlier read, copy or program."""
    stream = lab.device.create_stream()
    source, copy = lab.upload(b"\x01" * 50_000), lab.raw(50_000)
    outs = []
    for turn in range(2, 8):
        out = bytearray(50_000)
        copied = stream.copy(copy, source)
        stream.read(copy, out)
        stream.fill(source, bytes([turn]))
        stream.fill(copy, b"\xff")
        outs.append((turn - 1, out, copied))
    lab.finish(stream.record())
    for turn, out, _ in outs:
        equal(bytes(out), bytes([turn]) * 50_000, f"what was read before write {turn + 1}")


def program_then_overwrite(lab: Lab) -> None:
    """In one stream an operand may be overwritten at once: the program before has read it."""
    stream = lab.device.create_stream()
    with lab.program(count=5000) as program:
        x = lab.put(lab.full(0, 5000))
        results = []
        for turn in range(8):
            stream.write(x, lab.full(turn, 5000))
            results.append(stream.execute(program, [x, x]))
            stream.fill(x, b"\x55")
        for turn, result in enumerate(results):
            lab.finish(result.complete)
            equal(result.outputs[0].numpy(), lab.full(2 * turn, 5000), f"run {turn}")


def across_streams(lab: Lab) -> None:
    """An event of one stream orders work of another."""
    first, second = lab.device.create_stream(), lab.device.create_stream()
    buffer, copy = lab.raw(4096), lab.raw(4096)
    for turn in range(20):
        written = first.fill(buffer, bytes([turn]))
        second.wait_event(written)
        copied = second.copy(copy, buffer)
        first.wait_event(copied)
        out = bytearray(4096)
        lab.finish(second.read(copy, out))
        equal(bytes(out), bytes([turn]) * 4096, f"copy in turn {turn}")


def ping_pong(lab: Lab) -> None:
    """Two streams that hand a buffer to and fro by semaphores never overtake each other."""
    first, second = lab.device.create_stream(), lab.device.create_stream()
    semaphore = lab.semaphore()
    with lab.program() as program:
        x, y, one = lab.put(lab.full(0)), lab.put(lab.full(0)), lab.put(lab.full(1))
        for turn in range(12):
            first.execute(
                program,
                [x, one],
                [y],
                ExecuteOptions(wait=[semaphore.at(2 * turn)], signal=[semaphore.at(2 * turn + 1)]),
            )
            second.copy(
                x, y, wait=[semaphore.at(2 * turn + 1)], signal=[semaphore.at(2 * turn + 2)]
            )
        semaphore.wait(24, lab.patience)
        equal(x.numpy(), lab.full(12), "a number that was raised 12 times")


def data_orders(lab: Lab) -> None:
    """Reading a buffer waits for its last submitted writer, on whatever stream that is."""
    gate, writer, reader = (
        lab.semaphore(),
        lab.device.create_stream(),
        lab.device.create_stream(),
    )
    buffer, copy, out = lab.upload(bytes(64)), lab.raw(64), bytearray(64)
    writer.fill(buffer, b"\x21", wait=[gate.at(1)])
    read = reader.read(buffer, out)
    copied = lab.device.create_stream().copy(copy, buffer)
    check(not read.is_ready(), "a read waits for the writer of another stream")
    check(not copied.is_ready(), "a copy waits for the writer of another stream")
    check(not buffer.ready.is_ready(), "a buffer with a writer in flight is not ready")
    gate.signal(1)
    lab.finish(read)
    equal(bytes(out), b"\x21" * 64, "what the read saw")
    equal(lab.bytes_of(copy), b"\x21" * 64, "what the copy saw")


def chain(lab: Lab) -> None:
    """A chain of programs, each on the result of the one before, needs no wait in between."""
    with lab.program() as program:
        one = lab.put(lab.full(1))
        value = lab.put(lab.full(0))
        for turn in range(30):
            stream = lab.device.create_stream() if turn % 2 else None
            (value,) = program.execute([value, one], options=ExecuteOptions(stream=stream)).outputs
        equal(lab.array_of(value), lab.full(30), "end of a chain of 30 programs")


def wait_before_signal(lab: Lab) -> None:
    """Work may wait for a value that nobody has promised yet."""
    semaphore = lab.semaphore()
    early, late = lab.device.create_stream(), lab.device.create_stream()
    buffer = lab.upload(bytes(64))
    out = bytearray(64)
    read = early.read(buffer, out, wait=[semaphore.at(1)])
    check(not read.is_ready(), "a read whose semaphore was not signalled is not ready")
    late.fill(buffer, b"\x11", signal=[semaphore.at(1)])
    lab.finish(read)
    semaphore.wait(1, lab.patience)
    equal(bytes(out), b"\x11" * 64, "what was read after the signal")


def held_back(lab: Lab) -> None:
    """A stream that waits holds back no other stream, and no queue."""
    gate, stuck, free = (
        lab.semaphore(),
        lab.device.create_stream(),
        lab.device.create_stream(),
    )
    buffer, other = lab.upload(bytes(64)), lab.raw(64)
    with lab.program() as program:
        x = lab.put(lab.full(3))
        waiting = stuck.fill(buffer, b"\x01", wait=[gate.at(1)])
        held = stuck.execute(program, [x, x])
        lab.finish(free.fill(other, b"\x02"))
        lab.finish(free.execute(program, [x, x]).complete)
        check(not waiting.is_ready(), "work that waits is not ready")
        check(not held.complete.is_ready(), "work behind it in its stream is not ready")
        gate.signal(1)
        equal(held.outputs[0].numpy(), lab.full(6), "result of the stream that was held back")


def timeline(lab: Lab) -> None:
    """A timeline only rises: lower signals are ignored, waits of lower values return."""
    semaphore = lab.semaphore(3)
    semaphore.wait(2, 1)
    semaphore.signal(7)
    semaphore.signal(5)
    equal(semaphore.value, 7, "value after signal(7) and signal(5)")
    for value in (7, 7, 0, 3):
        semaphore.wait(value, 1)
    with raises(DeadlineExceeded, "wait for 8 on a timeline at 7"):
        semaphore.wait(8, MOMENT)
    semaphore.signal(1 << 62)
    equal(semaphore.value, 1 << 62, "a large value")
    with raises(InvalidArgument, "a first value below zero"):
        lab.semaphore(-1)


def timeline_of_work(lab: Lab) -> None:
    """Work signals its value when it succeeds; a later, lower one changes nothing."""
    semaphore, stream = lab.semaphore(), lab.device.create_stream()
    buffer = lab.raw(64)
    stream.fill(buffer, b"\x01", signal=[semaphore.at(5)])
    stream.fill(buffer, b"\x02", signal=[semaphore.at(2)])
    lab.finish(stream.fill(buffer, b"\x03", wait=[semaphore.at(4)], signal=[semaphore.at(9)]))
    equal(semaphore.value, 9, "value after signals of 5, 2 and 9")


def several_waits(lab: Lab) -> None:
    """Work with several waits starts after all; with none, or met ones, at once."""
    gates = [lab.semaphore() for _ in range(3)]
    buffer, stream = lab.upload(bytes(16)), lab.device.create_stream()
    lab.finish(stream.fill(buffer, b"\x01", wait=[]))
    lab.finish(stream.fill(buffer, b"\x02", wait=[gate.at(0) for gate in gates]))
    filled = stream.fill(buffer, b"\x03", wait=[gate.at(1) for gate in gates])
    for gate in gates[:2]:
        gate.signal(1)
    check(not filled.is_ready(), "work is not ready while one of its waits is open")
    gates[2].signal(1)
    lab.finish(filled)
    equal(lab.bytes_of(buffer), b"\x03" * 16, "contents after all waits")


def several_signals(lab: Lab) -> None:
    """One piece of work signals several timelines, and wakes everyone who waits on them."""
    first, second = lab.semaphore(), lab.semaphore(4)
    buffer = lab.raw(16)
    events = [first.event(2), first.event(1), second.event(6)]
    stream = lab.device.create_stream()
    lab.finish(stream.fill(buffer, b"\x05", signal=[first.at(2), second.at(6)]))
    for event in events:
        lab.finish(event)
    equal((first.value, second.value), (2, 6), "values after one signal of both")


def empty_wait(lab: Lab) -> None:
    """Waiting for nothing returns at once: no work, value 0, a buffer that nobody writes."""
    lab.semaphore().wait(0, MOMENT)
    lab.finish(lab.device.create_stream().record())
    check(lab.raw(8).ready.is_ready(), "a fresh buffer is ready")
    lab.device.synchronize(lab.patience)


def repeated_waits(lab: Lab) -> None:
    """An event may be waited for again and again, and asked for its error as often."""
    event = lab.device.create_stream().fill(lab.raw(16), b"\x07")
    for _ in range(3):
        lab.finish(event)
        check(event.is_ready(), "is_ready() after wait()")
        check(event.error() is None, "error() of work that succeeded is None")


def unordered(lab: Lab) -> None:
    """An unordered stream has no order but data, waits and barriers."""
    stream, gate = lab.device.create_stream(ordered=False), lab.semaphore()
    first, second, third = (lab.upload(bytes(16)) for _ in range(3))
    late = stream.fill(first, b"\x01", wait=[gate.at(1)])
    lab.finish(stream.fill(second, b"\x02"))
    check(not late.is_ready(), "work that waits is not ready")
    stream.barrier()
    behind = stream.fill(third, b"\x03")
    check(not behind.is_ready(), "work behind a barrier waits for what came before it")
    gate.signal(1)
    lab.finish(behind)
    equal(lab.bytes_of(first), b"\x01" * 16, "what came before the barrier")


def record(lab: Lab) -> None:
    """`record` and `signal` stand for all work of their stream so far."""
    stream, gate, semaphore = (
        lab.device.create_stream(ordered=False),
        lab.semaphore(),
        lab.semaphore(),
    )
    buffers = [lab.upload(bytes(8)) for _ in range(3)]
    for buffer in buffers:
        stream.fill(buffer, b"\x09", wait=[gate.at(1)])
    done = stream.signal(semaphore.at(3))
    check(not done.is_ready(), "a signal behind open work is not ready")
    gate.signal(1)
    semaphore.wait(3, lab.patience)
    for buffer in buffers:
        equal(lab.bytes_of(buffer), b"\x09" * 8, "contents when the signal was seen")


def host_calls(lab: Lab) -> None:
    """A host call runs in its place of the order, after what came before it."""
    stream, seen = lab.device.create_stream(), []
    buffer, out = lab.upload(bytes(64)), bytearray(64)
    stream.fill(buffer, b"\x44")
    stream.read(buffer, out)
    stream.host_call(lambda: seen.append(bytes(out)))
    lab.finish(stream.fill(buffer, b"\x45"))
    equal(seen, [b"\x44" * 64], "what the host call saw")


def times(lab: Lab) -> None:
    """Where work has times, it starts before it finishes, and after the work that it waits for."""
    stream, buffer = lab.device.create_stream(), lab.raw(100_000)
    events: list[Event] = [stream.fill(buffer, bytes([turn])) for turn in range(6)]
    for event in events:
        lab.finish(event)
        check(
            event.started <= event.finished, f"started {event.started} <= {event.finished} finished"
        )
    ends = [event.finished for event in events]
    equal(ends, sorted(ends), "ends of work of one stream, in its order")


def synchronize(lab: Lab) -> None:
    """`synchronize` returns when all work submitted before is over."""
    streams = [lab.device.create_stream() for _ in range(4)]
    buffers = [lab.raw(20_000) for _ in streams]
    events = [s.fill(b, b"\x66") for s, b in zip(streams, buffers, strict=True)]
    lab.device.synchronize(lab.patience)
    check(all(event.is_ready() for event in events), "everything is ready after synchronize()")
    gate = lab.semaphore()
    held = streams[0].fill(buffers[0], b"\x67", wait=[gate.at(1)])
    started = time.monotonic()
    with raises(DeadlineExceeded, "synchronize() with work that cannot start"):
        lab.device.synchronize(MOMENT)
    check(time.monotonic() - started < lab.patience, "a time-out comes in time")
    gate.signal(1)
    lab.finish(held)


def every_buffer_its_own(lab: Lab) -> None:
    """Many small transfers in flight at once, on four streams, end where they belong."""
    streams = [lab.device.create_stream() for _ in range(4)]
    contents = [lab.noise(100 + turn) for turn in range(40)]
    buffers = [lab.raw(len(data)) for data in contents]
    outs = [bytearray(len(data)) for data in contents]
    for turn, (buffer, data) in enumerate(zip(buffers, contents, strict=True)):
        streams[turn % 4].write(buffer, data)
    events = [
        streams[(turn + 1) % 4].read(buffer, out)
        for turn, (buffer, out) in enumerate(zip(buffers, outs, strict=True))
    ]
    for event, out, data in zip(events, outs, contents, strict=True):
        lab.finish(event)
        equal(bytes(out), data, "one of 40 transfers in flight")
