"""Many threads on one device: what one does never shows in what another sees."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from accelsdk.formats import UINT8
from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, check, equal, together

_THREADS = 4
_TURNS = 12


def _each(lab: Lab, work: Callable[[int], None]) -> None:
    """Runs work for each thread's number at once."""
    together([lambda n=n: work(n) for n in range(_THREADS)], 6 * lab.patience)  # type: ignore[misc] # bound now


def transfers(lab: Lab) -> None:
    """Threads with streams of their own do not disturb each other."""

    def work(number: int) -> None:
        stream = lab.device.create_stream()
        buffer, copy = lab.raw(2048), lab.raw(2048)
        for turn in range(_TURNS):
            value = bytes([number * 16 + turn])
            stream.fill(buffer, value)
            stream.copy(copy, buffer)
            out = bytearray(2048)
            lab.finish(stream.read(copy, out))
            equal(bytes(out), value * 2048, f"thread {number}, turn {turn}")

    _each(lab, work)


def blocking(lab: Lab) -> None:
    """Blocking calls of several threads, on streams of their own or a common one, keep apart."""
    contents = [lab.noise(3000) for _ in range(_THREADS)]

    def work(number: int) -> None:
        buffer, copy, stream = lab.raw(3000), lab.raw(3000), lab.device.create_stream()
        for turn in range(_TURNS):
            on = stream if turn % 3 else None
            data = contents[number][turn:] + contents[number][:turn]
            buffer.copy_from_host(data, stream=on)
            buffer.copy_to(copy, stream=on)
            buffer.fill(bytes([number + 1]), stream=on)
            for what, place, wanted in (
                ("copy", copy, data),
                ("fill", buffer, bytes([number + 1]) * 3000),
            ):
                out = bytearray(3000)
                place.copy_to_host(out, stream=on)
                equal(bytes(out), wanted, f"{what} of thread {number}, turn {turn}")

    _each(lab, work)


def one_program(lab: Lab) -> None:
    """Threads that run one program at once each get their own result."""
    with lab.program(count=3000) as program:
        _run_everywhere(lab, [program] * _THREADS)


def many_programs(lab: Lab) -> None:
    """Threads that run programs of their own at once each get their own result."""
    programs = [lab.program(count=3000) for _ in range(_THREADS)]
    _run_everywhere(lab, programs)
    for program in programs:
        program.delete()


def _run_everywhere(lab: Lab, programs: list[LoadedExecutable]) -> None:
    values = [lab.values(3000) for _ in range(_THREADS)]

    def work(number: int) -> None:
        x, y = lab.put(values[number]), lab.put(lab.full(number, 3000))
        stream = lab.device.create_stream()
        for turn in range(_TURNS):
            options = BLOCK if turn % 2 else ExecuteOptions(stream=stream)
            result = programs[number].execute([x, y], options=options)
            lab.finish(result.complete)
            wanted = values[number] + lab.full(number, 3000)
            equal(lab.array_of(result.outputs[0]), wanted, f"thread {number}, turn {turn}")

    _each(lab, work)


def bindings(lab: Lab) -> None:
    """Bindings of several threads on one program run at once, each on its own buffers."""
    with lab.program(count=2000) as program:
        values = [lab.values(2000) for _ in range(_THREADS)]

        def work(number: int) -> None:
            bound = program.bind()
            bound.bind_input("x0", values[number])
            bound.bind_input("x1", lab.full(number, 2000))
            for turn in range(_TURNS):
                got = lab.array_of(bound.run().outputs[0])
                wanted = values[number] + lab.full(number, 2000)
                equal(got, wanted, f"thread {number}, turn {turn}")

        _each(lab, work)


def allocations(lab: Lab) -> None:
    """Threads that allocate and free at once never get memory that another has."""
    seeds = lab.rng.integers(0, 1 << 30, _THREADS)

    def work(number: int) -> None:
        rng = np.random.default_rng(seeds[number])
        live = []
        for turn in range(3 * _TURNS):
            data = rng.bytes(int(rng.integers(1, 2000)))
            live.append((lab.upload(data), data))
            if turn % 3 == 2:
                buffer, wanted = live.pop(int(rng.integers(len(live))))
                equal(lab.bytes_of(buffer), wanted, f"thread {number}, turn {turn}")
                buffer.delete()
        for buffer, wanted in live:
            equal(lab.bytes_of(buffer), wanted, f"thread {number}, at the end")
            buffer.delete()

    _each(lab, work)


def loads(lab: Lab) -> None:
    """Threads that load, run and unload programs at once do not disturb each other."""
    made = [lab.compiled(count=10 + number) for number in range(_THREADS)]

    def work(number: int) -> None:
        for turn in range(5):
            with lab.client.load(made[number], lab.device) as program:
                count = 10 + number
                (got,) = lab.run(program, lab.full(turn, count), lab.full(number, count))
                equal(got, lab.full(turn + number, count), f"thread {number}, turn {turn}")

    _each(lab, work)


def one_stream(lab: Lab) -> None:
    """A stream that several threads submit to runs everything, each thread's work in order."""
    stream = lab.device.create_stream()
    buffers = [lab.raw(512) for _ in range(_THREADS)]
    outs = [[bytearray(512) for _ in range(_TURNS)] for _ in range(_THREADS)]

    def work(number: int) -> None:
        for turn in range(_TURNS):
            stream.fill(buffers[number], bytes([number * 16 + turn]))
            stream.read(buffers[number], outs[number][turn])

    _each(lab, work)
    lab.finish(stream.record())
    for number, row in enumerate(outs):
        for turn, out in enumerate(row):
            equal(bytes(out), bytes([number * 16 + turn]) * 512, f"thread {number}, turn {turn}")


def one_buffer(lab: Lab) -> None:
    """Threads that write parts of one buffer at once leave every part as its owner wrote it."""
    buffer = lab.upload(bytes(_THREADS * 100))

    def work(number: int) -> None:
        part = buffer.view(number * 100, UINT8, (100,))
        for turn in range(_TURNS):
            part.fill(bytes([number * 16 + turn]))
            equal(lab.bytes_of(part), bytes([number * 16 + turn]) * 100, f"thread {number}")

    _each(lab, work)
    wanted = b"".join(bytes([number * 16 + _TURNS - 1]) * 100 for number in range(_THREADS))
    equal(lab.bytes_of(buffer), wanted, "the whole buffer")


def relay(lab: Lab) -> None:
    """Threads hand a buffer on by a semaphore; each sees what the one before left."""
    semaphore = lab.semaphore()
    buffer, one = lab.put(lab.full(0)), lab.put(lab.full(1))
    with lab.program() as program:

        def work(number: int) -> None:
            stream = lab.device.create_stream()
            result = lab.device.empty(buffer.type)
            for turn in range(4):
                value = turn * _THREADS + number
                # On the host: a reader that is submitted too early waits for a later writer.
                semaphore.wait(value, lab.patience)
                stream.execute(program, [buffer, one], [result])
                stream.copy(buffer, result, signal=[semaphore.at(value + 1)])

        _each(lab, work)
        semaphore.wait(4 * _THREADS, lab.patience)
        equal(lab.array_of(buffer), lab.full(4 * _THREADS), "a number that four threads raised")


def waiters(lab: Lab) -> None:
    """Several threads that wait for one event all wake, while another thread submits."""
    gate = lab.semaphore()
    event = lab.device.create_stream().fill(lab.raw(64), b"\x01", wait=[gate.at(1)])
    asleep = threading.Semaphore(0)

    def work(number: int) -> None:
        if number == 0:
            for _ in range(_THREADS - 1):
                check(asleep.acquire(timeout=lab.patience), "every thread came to its wait")
            equal(lab.bytes_of(lab.upload(b"\x02" * 64)), b"\x02" * 64, "work beside the waiters")
            gate.signal(1)
        else:
            asleep.release()
        lab.finish(event)

    _each(lab, work)


def devices(lab: Lab) -> None:
    """Threads on devices of their own, copying to each other's, do not disturb each other."""
    chosen = [lab.device, *lab.others][:_THREADS]
    with lab.program() as program:  # loaded on one device; the copies go everywhere

        def work(number: int) -> None:
            mine, next_ = chosen[number % len(chosen)], chosen[(number + 1) % len(chosen)]
            stream = mine.create_stream()
            buffer = lab.raw(1500, mine)
            for turn in range(_TURNS):
                value = bytes([number * 16 + turn])
                stream.fill(buffer, value)
                copied = buffer.to_device(next_)
                equal(lab.bytes_of(copied), value * 1500, f"thread {number}, turn {turn}")
            if number == 0:
                equal(lab.run(program, lab.full(1), lab.full(1))[0], lab.full(2), "a program")

        _each(lab, work)
