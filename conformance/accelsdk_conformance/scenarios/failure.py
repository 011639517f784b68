"""Failure: the first error wins, travels along data and explicit waits, and nothing hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from accelsdk.errors import AccelError, DataLoss, DeadlineExceeded, Internal, InvalidArgument
from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk.runtime.sync import Event
from accelsdk_conformance.scenarios.lab import MOMENT, Broken, Lab, check, equal, raises, together

_NAMED = "planted by conformance"


def _poisoned(lab: Lab, nbytes: int = 64) -> Buffer:
    return lab.device.poisoned(TensorType(UINT8, (nbytes,)), DataLoss(_NAMED))


def sticky(lab: Lab) -> None:
    """The first error of a semaphore wins, with its code and text, and reaches all waiters."""
    semaphore = lab.semaphore(3)
    buffer = lab.upload(bytes(16))
    read = lab.device.create_stream().read(buffer, bytearray(16), wait=[semaphore.at(4)])
    semaphore.fail(DataLoss("the first"))
    semaphore.fail(InvalidArgument("the second"))
    semaphore.signal(9)
    waits: list[Callable[[], object]] = [
        lambda: semaphore.wait(4, lab.patience),
        lambda: semaphore.wait(1, lab.patience),
        lambda: semaphore.value,
        lambda: lab.finish(read),
        lambda: lab.finish(lab.device.create_stream().fill(buffer, b"\1", wait=[semaphore.at(1)])),
    ]
    for wait in waits:
        with raises(DataLoss, "use of a failed semaphore", "the first"):
            wait()
    buffer.copy_from_host(bytes(16))


def waiters_wake(lab: Lab) -> None:
    """Threads that sleep on what fails wake with its error."""
    semaphore = lab.semaphore()
    event = lab.device.create_stream().fill(lab.raw(16), b"\x01", wait=[semaphore.at(1)])
    caught: list[str] = []

    def sleep(wait: Callable[[], None]) -> None:
        try:
            wait()
        except DeadlineExceeded as error:
            raise Broken("a waiter of a failed semaphore hung") from error
        except AccelError as error:
            caught.append(str(error))

    threading.Timer(MOMENT, lambda: semaphore.fail(DataLoss(_NAMED))).start()
    together(
        [
            lambda: sleep(lambda: semaphore.wait(1, lab.patience)),
            lambda: sleep(lambda: event.wait(lab.patience)),
            lambda: sleep(lambda: semaphore.event(7).wait(lab.patience)),
        ],
        lab.patience,
    )
    check(len(caught) == 3 and all(_NAMED in text for text in caught), f"all waiters woke {caught}")


def poisoned_reads(lab: Lab) -> None:
    """Every use of a poisoned buffer fails with its error, until it is written again."""
    buffer = _poisoned(lab)
    copy = lab.raw(64)
    for what, use in (
        ("read", lambda: lab.bytes_of(buffer)),
        ("numpy", buffer.numpy),
        ("ready", lambda: lab.finish(buffer.ready)),
        ("copy", lambda: buffer.copy_to(copy)),
        ("read of the copy", lambda: lab.bytes_of(copy)),
        ("view", lambda: lab.bytes_of(buffer.view(8, UINT8, (8,)))),
    ):
        with raises(DataLoss, f"{what} of a poisoned buffer", _NAMED):
            use()
    data = lab.noise(64)
    buffer.copy_from_host(data)
    equal(lab.bytes_of(buffer), data, "a poisoned buffer that was written again")
    copy.fill(b"\x31")
    equal(lab.bytes_of(copy), b"\x31" * 64, "a poisoned copy that was filled again")


def through_programs(lab: Lab) -> None:
    """Poison passes from operands to results, on any stream, and not to other programs."""
    with lab.program() as program:
        sound = lab.put(lab.full(1))
        poisoned = lab.device.poisoned(sound.type, DataLoss(_NAMED))
        first = program.execute([poisoned, sound])
        stream = lab.device.create_stream()
        second = stream.execute(program, [sound, first.outputs[0]])
        good = stream.execute(program, [sound, sound])
        for what, result in (("first", first), ("second", second)):
            with raises(DataLoss, f"completion of the {what} program", _NAMED):
                lab.finish(result.complete)
            with raises(DataLoss, f"result of the {what} program", _NAMED):
                lab.bytes_of(result.outputs[0])
        equal(lab.array_of(good.outputs[0]), lab.full(2), "the next, unrelated run")


def explicit_waits(lab: Lab) -> None:
    """Work that waits for failed work fails with its error, does not run, and passes it on."""
    buffer, other = lab.upload(b"\x01" * 16), lab.upload(b"\x02" * 16)
    semaphore, stream = lab.semaphore(), lab.device.create_stream()
    failed = lab.device.create_stream().copy(lab.raw(64), _poisoned(lab))
    event = stream.fill(buffer, b"\x07", wait=[failed], signal=[semaphore.at(1)])
    for what, wait in (
        ("work that waits for failed work", lambda: lab.finish(event)),
        ("semaphore that it would signal", lambda: semaphore.wait(1, lab.patience)),
        ("what it would have written", lambda: lab.bytes_of(buffer)),
    ):
        with raises(DataLoss, what, _NAMED):
            wait()
    lab.finish(stream.copy(other, lab.upload(b"\x03" * 16)))
    equal(lab.bytes_of(other), b"\x03" * 16, "the next work of that stream")


def not_fifo(lab: Lab) -> None:
    """The order of a stream carries no failure: what comes behind failed work runs."""
    stream = lab.device.create_stream()
    target, sound = lab.raw(64), lab.upload(b"\x51" * 64)
    failed = stream.copy(target, _poisoned(lab))
    out = bytearray(64)
    read = stream.read(sound, out)
    lab.finish(read)
    equal(bytes(out), b"\x51" * 64, "a read behind failed work")
    with raises(DataLoss, "the failed copy", _NAMED):
        lab.finish(failed)


def recorded(lab: Lab) -> None:
    """`record` tells the first failure of its stream once; the next record is clean again."""
    stream = lab.device.create_stream()
    stream.copy(lab.raw(64), _poisoned(lab))
    stream.fill(lab.raw(16), b"\x01")
    with raises(DataLoss, "record after failed work", _NAMED):
        lab.finish(stream.record())
    lab.finish(stream.record())


def stream_waits(lab: Lab) -> None:
    """A stream told to wait for what fails has all its later work fail."""
    stream, gate = lab.device.create_stream(), lab.semaphore()
    buffer = lab.upload(bytes(16))
    stream.wait(gate.at(1))
    events = [stream.fill(buffer, b"\x01"), stream.fill(lab.raw(16), b"\x02")]
    check(not any(event.is_ready() for event in events), "work behind an open wait")
    gate.fail(DataLoss(_NAMED))
    for event in events:
        with raises(DataLoss, "work behind a wait that failed", _NAMED):
            lab.finish(event)


def partial(lab: Lab) -> None:
    """Poison keeps to the range that the failed work would have written."""
    step = max(64, lab.device.target.view_alignment)  # what lies closer may share a transfer
    data = lab.noise(3 * step)
    buffer = lab.upload(data)
    gate = lab.semaphore()
    middle = buffer.view(step, UINT8, (step,))
    middle.copy_from_host(bytes(step), wait=[gate.at(1)], block=False)
    gate.fail(DataLoss(_NAMED))
    with raises(DataLoss, "the poisoned range", _NAMED):
        lab.bytes_of(middle)
    with raises(DataLoss, "the whole buffer", _NAMED):
        lab.bytes_of(buffer)
    with raises(DataLoss, "one byte of the range", _NAMED):
        buffer.copy_to_host(bytearray(1), offset=2 * step - 1)
    for offset in (0, 2 * step):
        out = bytearray(step)
        buffer.copy_to_host(out, offset=offset)
        equal(bytes(out), data[offset : offset + step], f"the sound range at {offset}")
    middle.fill(b"\x29")
    equal(
        lab.bytes_of(buffer),
        data[:step] + b"\x29" * step + data[2 * step :],
        "after it was written",
    )


def host_call(lab: Lab) -> None:
    """An exception of a host call fails its event, and what waits for it."""

    def wrong() -> None:
        raise ValueError(_NAMED)

    stream = lab.device.create_stream()
    event = stream.host_call(wrong)
    behind = stream.fill(lab.raw(16), b"\x01")
    waiting = lab.device.create_stream().fill(lab.raw(16), b"\x01", wait=[event])
    for what, failed in (("the host call", event), ("work that waits for it", waiting)):
        with raises(Internal, what, _NAMED):
            lab.finish(failed)
    lab.finish(behind)


def options_carry(lab: Lab) -> None:
    """A program's own waits and signals carry failure as those of transfers do."""
    gate, done = lab.semaphore(), lab.semaphore()
    with lab.program() as program:
        x = lab.put(lab.full(1))
        result = program.execute(
            [x, x], options=ExecuteOptions(wait=[gate.at(1)], signal=[done.at(1)])
        )
        gate.fail(DataLoss(_NAMED))
        with raises(DataLoss, "a program behind a failed wait", _NAMED):
            lab.finish(result.complete)
        with raises(DataLoss, "the semaphore that it would signal", _NAMED):
            done.wait(1, lab.patience)
        equal(lab.run(program, lab.full(2), lab.full(3))[0], lab.full(5), "the program afterwards")


def callbacks(lab: Lab) -> None:
    """A callback runs once, on a thread of the SDK, after success or failure, early or late."""
    gate = lab.semaphore()
    here, seen = threading.get_ident(), list[tuple[int, bool, bool]]()
    called = threading.Semaphore(0)

    def note(event: Event) -> None:
        event.is_ready()  # takes no lock that the caller holds, or this would hang
        lab.semaphore().signal(1)
        seen.append((threading.get_ident(), event.is_ready(), event.error() is None))
        called.release()

    good = lab.device.create_stream().fill(lab.raw(16), b"\x07", wait=[gate.at(1)])
    bad = lab.device.create_stream().copy(lab.raw(64), _poisoned(lab))
    for event in (good, bad):
        event.add_done_callback(note)
    gate.signal(1)
    lab.finish(good)
    good.add_done_callback(note)
    for _ in range(3):
        check(called.acquire(timeout=lab.patience), "every callback ran")
    check(not called.acquire(timeout=MOMENT), "no callback ran twice")
    check(all(thread != here for thread, _, _ in seen), "callbacks run on a thread of the SDK")
    check(all(ready for _, ready, _ in seen), "an event is ready in its callback")
    equal(sorted(fine for _, _, fine in seen), [False, True, True], "error() in the callbacks")


def callback_raises(lab: Lab) -> None:
    """A callback that raises disturbs neither the work nor the other callbacks."""
    called = threading.Event()

    def wrong(event: Event) -> None:
        raise DataLoss(_NAMED)

    event = lab.device.create_stream().fill(lab.raw(16), b"\x07")
    event.add_done_callback(wrong)
    event.add_done_callback(lambda _: called.set())
    lab.finish(event)
    check(called.wait(lab.patience), "the callback behind one that raised ran")


def awaited(lab: Lab) -> None:
    """Events can be awaited: success returns, failure raises, the loop goes on meanwhile."""
    good = lab.device.create_stream().fill(lab.raw(16), b"\x07")
    bad = lab.device.create_stream().copy(lab.raw(64), _poisoned(lab))

    async def main() -> None:
        await asyncio.wait_for(_of(good), lab.patience)
        with raises(DataLoss, "awaiting failed work", _NAMED):
            await asyncio.wait_for(_of(bad), lab.patience)

    asyncio.run(main())


async def _of(event: Event) -> None:
    await event
