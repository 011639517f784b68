"""Order and failure: streams, events, semaphores, poison, deadlines, callbacks, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from accelsdk.errors import AccelError, DataLoss, DeadlineExceeded, FailedPrecondition
from accelsdk.formats import FLOAT32
from accelsdk.graph.types import TensorType
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk_conformance.scenarios.lab import Broken, Lab, check, equal, raises


def fifo(lab: Lab) -> None:
    """An ordered stream keeps the order of submission: the last write wins."""
    stream = lab.device.create_stream()
    buffer = lab.raw(4096)
    for turn in range(50):
        stream.fill(buffer, bytes([turn]))
    out = bytearray(4096)
    stream.read(buffer, out).wait(30)
    equal(bytes(out), bytes([49]) * 4096, "contents after 50 fills in order")


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
        second.read(copy, out).wait(30)
        equal(bytes(out), bytes([turn]) * 4096, f"copy in turn {turn}")


def wait_before_signal(lab: Lab) -> None:
    """Work may wait for a value that nobody has promised yet."""
    semaphore = lab.device.create_semaphore()
    early, late = lab.device.create_stream(), lab.device.create_stream()
    buffer = lab.upload(bytes(64))
    out = bytearray(64)
    read = early.read(buffer, out, wait=[semaphore.at(1)])
    check(not read.is_ready(), "a read whose semaphore was not signalled is not ready")
    late.fill(buffer, b"\x11", signal=[semaphore.at(1)])
    read.wait(30)
    semaphore.wait(1, 30)


def timeline(lab: Lab) -> None:
    """A timeline only rises: lower signals are ignored, waits of lower values return."""
    semaphore = lab.device.create_semaphore(3)
    semaphore.wait(2, 1)
    semaphore.signal(7)
    equal(semaphore.value, 7, "value after signal(7)")
    semaphore.wait(7, 1)
    semaphore.wait(0, 1)


def deadline(lab: Lab) -> None:
    """A wait that times out says so, and does not cancel the work."""
    semaphore = lab.device.create_semaphore()
    with raises(DeadlineExceeded, "wait for a value that never comes"):
        semaphore.wait(1, 0.01)
    buffer = lab.upload(bytes(16))
    out = bytearray(16)
    read = lab.device.create_stream().read(buffer, out, wait=[semaphore.at(1)])
    with raises(DeadlineExceeded, "wait for work that cannot start"):
        read.wait(0.01)
    semaphore.signal(1)
    read.wait(30)


def sticky_failure(lab: Lab) -> None:
    """The first error of a semaphore wins, and reaches everyone who waits."""
    semaphore = lab.device.create_semaphore()
    buffer = lab.upload(bytes(16))
    read = lab.device.create_stream().read(buffer, bytearray(16), wait=[semaphore.at(1)])
    semaphore.fail(DataLoss("first"))
    semaphore.fail(DataLoss("second"))
    waiters: list[Callable[[], None]] = [lambda: semaphore.wait(1, 5), lambda: read.wait(5)]
    for waiter in waiters:
        try:
            waiter()
        except DeadlineExceeded as error:
            raise Broken("a waiter of a failed semaphore hung") from error
        except AccelError as error:
            check("first" in str(error), f"the first error wins; got {error}")
        else:
            raise Broken("a wait on a failed semaphore succeeded")


def poison(lab: Lab) -> None:
    """A poisoned buffer fails every use with its error, and passes it on with the data."""
    poisoned = lab.device.poisoned(TensorType(FLOAT32, (64,)), DataLoss("planted"))
    sound = lab.put(np.ones(64, np.float32))
    with lab.program() as program:
        result = program.execute([poisoned, sound])
        with raises(DataLoss, "result of a poisoned operand"):
            result.wait(30)
        with raises(DataLoss, "read of a poisoned result"):
            result.outputs[0].numpy()
        good = program.execute([sound, sound]).wait(30)
        equal(good.outputs[0].numpy(), np.full(64, 2, np.float32), "the next, unrelated run")
    poisoned.copy_from_host(np.zeros(64, np.float32))
    equal(poisoned.numpy(), np.zeros(64, np.float32), "poisoned buffer after it was written again")
    # The planted error keeps the frames that it passed through, and so their buffers, alive.
    for buffer in (poisoned, sound, *result.outputs, *good.outputs):
        buffer.delete()


def delete_in_flight(lab: Lab) -> None:
    """Deleting operands at once does not disturb the work that uses them."""
    with lab.program() as program:
        for turn in range(20):
            x, y = (lab.put(np.full(64, turn + i, np.float32)) for i in range(2))
            result = program.execute([x, y])
            x.delete()
            y.delete()
            wanted = np.full(64, 2 * turn + 1, np.float32)
            equal(result.outputs[0].numpy(), wanted, f"turn {turn}")
            if not (x.is_deleted() and y.is_deleted()):
                raise Broken("a deleted operand is not deleted")


def callbacks(lab: Lab) -> None:
    """A callback runs once, after completion, whether it was added before or after."""
    buffer = lab.upload(bytes(16))
    event = lab.device.create_stream().fill(buffer, b"\x07")
    called = threading.Semaphore(0)
    event.add_done_callback(lambda _: called.release())
    event.wait(30)
    event.add_done_callback(lambda _: called.release())
    for turn in ("before", "after"):
        check(called.acquire(timeout=10), f"the callback added {turn} completion ran")
    check(event.error() is None, "an event that succeeded has no error")


def threads(lab: Lab) -> None:
    """Four threads with streams of their own do not disturb each other."""
    failures: list[str] = []

    def work(number: int) -> None:
        try:
            stream = lab.device.create_stream()
            buffer, copy = lab.raw(2048), lab.raw(2048)
            for turn in range(15):
                value = bytes([number * 16 + turn])
                stream.fill(buffer, value)
                stream.copy(copy, buffer)
                out = bytearray(2048)
                stream.read(copy, out).wait(30)
                if bytes(out) != value * 2048:
                    failures.append(f"thread {number}, turn {turn}")
        except AccelError as error:
            failures.append(f"thread {number}: {error}")

    running = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    check(not failures, f"every thread reads what it wrote; failed: {failures[:3]}")


def cancelled_before(lab: Lab) -> None:
    """A token that was cancelled before keeps work from being accepted."""
    from accelsdk.errors import Cancelled
    from accelsdk.runtime.cancel import CancelToken

    token = CancelToken()
    token.cancel()
    x = lab.put(np.ones(64, np.float32))
    with lab.program() as program, raises(Cancelled, "execute with a cancelled token"):
        program.execute([x, x], options=ExecuteOptions(cancel=token))
    equal(x.numpy(), np.ones(64, np.float32), "operand of refused work")


def deleted_program(lab: Lab) -> None:
    """A deleted program refuses to run."""
    program = lab.program()
    program.delete()
    x = lab.put(np.ones(64, np.float32))
    with raises(FailedPrecondition, "execute of a deleted program"):
        program.execute([x, x])
