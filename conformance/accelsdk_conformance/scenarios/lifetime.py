"""Lifetime: deletion in flight, donation, forgotten programs, closing, and a count of it all."""

from __future__ import annotations

import gc
import threading
from collections import Counter

from accelsdk.backend.observer import DeviceEvent, EventKind, Observer
from accelsdk.errors import AccelError, FailedPrecondition, InvalidArgument
from accelsdk.formats import FLOAT32
from accelsdk.graph.types import TensorType
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import BLOCK, MOMENT, Lab, check, equal, raises


def delete_in_flight(lab: Lab) -> None:
    """Deleting operands at once does not disturb the work that uses them."""
    with lab.program() as program:
        for turn in range(20):
            x, y = (lab.put(lab.full(turn + i)) for i in range(2))
            result = program.execute([x, y])
            x.delete()
            y.delete()
            check(x.is_deleted() and y.is_deleted(), "operands deleted in flight are deleted")
            lab.put(lab.full(99)).delete()  # takes the memory, if it was given back too early
            equal(lab.array_of(result.outputs[0]), lab.full(2 * turn + 1), f"turn {turn}")


def delete_held(lab: Lab) -> None:
    """Work that waits keeps operands, results and program that were deleted meanwhile."""
    gate = lab.semaphore()
    stream = lab.device.create_stream()
    before = lab.device.memory_stats().in_use
    program = lab.program()
    x, source = lab.put(lab.full(4)), lab.upload(b"\x61" * 64)
    target, out = lab.raw(64), bytearray(64)
    stream.copy(target, source, wait=[gate.at(1)])
    read = stream.read(target, out)
    options = ExecuteOptions(stream=lab.device.create_stream(), wait=[gate.at(1)])
    result = program.execute([x, x], options=options)
    for buffer in (x, source, target):
        buffer.delete()
    program.delete()
    del program
    for _ in range(4):
        lab.upload(b"\xee" * 64).delete()
    gate.signal(1)
    lab.finish(read)
    equal(bytes(out), b"\x61" * 64, "what went through buffers deleted in flight")
    equal(lab.array_of(result.outputs[0]), lab.full(8), "result of a program deleted in flight")
    result.outputs[0].delete()
    del result
    gc.collect()
    equal(lab.device.memory_stats().in_use, before, "in_use when the work is over")


def results_alone(lab: Lab) -> None:
    """A result outlives its program and its operands."""
    program = lab.program()
    (result,) = program.execute([lab.put(lab.full(1)), lab.put(lab.full(2))]).outputs
    program.delete()
    del program
    equal(lab.array_of(result), lab.full(3), "result of a program that is gone")


def dropped_results(lab: Lab) -> None:
    """Results that nobody keeps give their memory back, finished or not."""
    with lab.program(count=4096) as program:
        x = lab.put(lab.full(1, 4096))
        lab.finish(program.execute([x, x]).complete)
        before = lab.device.memory_stats().in_use
        for _ in range(10):
            program.execute([x, x])
        lab.device.synchronize(lab.patience)
        equal(lab.device.memory_stats().in_use, before, "in_use after ten dropped results")


def repeated_runs(lab: Lab) -> None:
    """Running a program again and again takes no more memory."""
    with lab.program(count=1000) as program:
        x, out = lab.put(lab.values(1000)), lab.device.empty(lab.format, (1000,))
        program.execute([x, x], [out], BLOCK)
        before = lab.device.memory_stats()
        for _ in range(12):
            program.execute([x, x], [out], BLOCK)
        after = lab.device.memory_stats()
        equal(after.in_use, before.in_use, "in_use after twelve more runs")
        equal(after.allocations, before.allocations, "allocations after twelve more runs")


def donation(lab: Lab) -> None:
    """A donated operand is consumed on acceptance and untouched by a rejection."""
    x, y = (lab.put(lab.full(v)) for v in (1, 2))
    wrong = lab.put(lab.full(2, 63))
    with lab.program() as program:
        for what, arguments in (("missing", [x]), ("of another shape", [x, wrong])):
            with raises(InvalidArgument, f"execute with an operand {what}"):
                program.execute(arguments, options=ExecuteOptions(donate=True))
            check(not x.is_deleted(), "a donated operand survives a rejection")
            equal(lab.array_of(x), lab.full(1), "donated operand after a rejection")
        result = program.execute([x, y], options=ExecuteOptions(donate=[0]))
        check(x.is_deleted(), "a donated operand is consumed on acceptance")
        equal(lab.array_of(result.outputs[0]), lab.full(3), "result of a donation")
        for what, use in (
            ("read", x.numpy),
            ("run", lambda: program.execute([x, y])),
            ("view", lambda: x.view(0, "uint8", (1,))),
        ):
            with raises(FailedPrecondition, f"{what} of a donated operand"):
                use()
        equal(lab.array_of(y), lab.full(2), "operand that was not donated")


def non_donatable(lab: Lab) -> None:
    """Operands listed as non_donatable are kept, with their contents."""
    with lab.program() as program:
        x, y = (lab.put(lab.full(v)) for v in (5, 6))
        options = ExecuteOptions(donate=True, non_donatable=[0], block=True)
        result = program.execute([x, y], options=options)
        equal(lab.array_of(result.outputs[0]), lab.full(11), "result")
        equal(lab.array_of(x), lab.full(5), "operand that is non_donatable")
        check(y.is_deleted(), "the other operand is consumed")


def donated_in_place(lab: Lab) -> None:
    """Programs whose results may take donated memory give the same bits with and without it."""
    kind = TensorType(FLOAT32, (24, 24))
    for what, body in (
        ("Transpose", lambda make, x: make.op("Transpose", x, perm=(1, 0))),
        ("Neg of Transpose", lambda make, x: make.op("Neg", make.op("Transpose", x, perm=(1, 0)))),
        ("MatMul", lambda make, x: make.op("MatMul", x, x)),
        (
            "Add of Transpose",
            lambda make, x: make.op("Add", x, make.op("Transpose", x, perm=(1, 0))),
        ),
    ):
        values = lab.rng.integers(-9, 9, (24, 24)).astype("float32")
        with lab.build([kind], body) as program:
            (wanted,) = lab.run(program, values)
            donated = lab.put(values)
            result = program.execute([donated], options=ExecuteOptions(donate=True))
            equal(lab.array_of(result.outputs[0]), wanted, f"{what} of a donated operand")


def donation_keeps_views(lab: Lab) -> None:
    """Donating one buffer leaves the others of its allocation usable, if not their contents."""
    parent = lab.put(lab.full(3, 128))
    nbytes = parent.nbytes // 2
    x = parent.view(0, lab.format, (64,))
    rest = parent.view(nbytes, lab.format, (64,))
    with lab.program() as program:
        result = program.execute([x, x], options=ExecuteOptions(donate=[0], block=True))
        equal(lab.array_of(result.outputs[0]), lab.full(6), "result of a donated view")
    equal(lab.array_of(rest), lab.full(3), "the other half of the allocation")
    check(not parent.is_deleted(), "the parent of a donated view lives on")


def deleted_program(lab: Lab) -> None:
    """A deleted program refuses to run; deleting it twice does nothing."""
    program = lab.program()
    check(not program.is_deleted(), "is_deleted() is false before delete()")
    program.delete()
    program.delete()
    check(program.is_deleted(), "is_deleted() is true after delete()")
    x = lab.put(lab.full(1))
    with raises(FailedPrecondition, "execute of a deleted program"):
        program.execute([x, x])


def unload(lab: Lab) -> None:
    """Loading and unloading, again and again, leaves no memory behind."""
    made = lab.compiled(count=4096)
    before = lab.device.memory_stats().in_use
    for _ in range(15):
        lab.client.load(made, lab.device).delete()
    equal(lab.device.memory_stats().in_use, before, "memory in use after 15 programs")


class _Count(Observer):
    """Counts what happens."""

    def __init__(self) -> None:
        self.kinds: Counter[EventKind] = Counter()
        self.nbytes: Counter[EventKind] = Counter()
        self.errors: list[AccelError] = []
        self.lock = threading.Lock()

    def event(self, event: DeviceEvent) -> None:
        """Counts one event."""
        with self.lock:
            self.kinds[event.kind] += 1
            self.nbytes[event.kind] += event.nbytes
            if event.error is not None:
                self.errors.append(event.error)


def observed(lab: Lab) -> None:
    """Observers see every allocation end, every program unloaded, every transfer once."""
    count = _Count()
    made = lab.compiled()
    with lab.another([count]) as client:
        device = client.device(lab.device.id)
        x, y = device.put(lab.full(1)), device.put(lab.full(2))
        program = client.load(made, device)
        for _ in range(3):
            result = program.execute([x, y], options=BLOCK)
            equal(result.outputs[0].numpy(), lab.full(3), "result on an observed client")
        x.fill(b"\x00")
        x.copy_to(y)
        x.view(8, "uint8", (16,)).delete()
        program.delete()
        for buffer in (x, y, *result.outputs):
            buffer.delete()
        del program, result, buffer
        gc.collect()
        device.synchronize(lab.patience)
        device.memory_stats()
    kinds, nbytes = count.kinds, count.nbytes
    equal(count.errors, [], "errors that were observed")
    equal(kinds[EventKind.ALLOCATE], kinds[EventKind.FREE], "allocations and frees")
    equal(nbytes[EventKind.ALLOCATE], nbytes[EventKind.FREE], "bytes allocated and freed")
    equal((kinds[EventKind.LOAD], kinds[EventKind.UNLOAD]), (1, 1), "programs loaded, unloaded")
    seen = [kinds[kind] for kind in (EventKind.WRITE, EventKind.READ, EventKind.EXECUTE)]
    equal(seen, [2, 3, 3], "writes, reads and executions")
    equal((kinds[EventKind.FILL], kinds[EventKind.COPY]), (1, 1), "fills and copies")


def close_drains(lab: Lab) -> None:
    """Closing a client waits for its work; afterwards everything of it refuses use."""
    compiled = lab.compiled()
    with lab.another() as client:
        device = client.device(lab.device.id)
        stream, out = device.create_stream(), bytearray(50_000)
        buffer = lab.raw(50_000, device)
        for turn in range(10):
            stream.fill(buffer, bytes([turn]))
        read = stream.read(buffer, out)
        client.close()
        check(read.is_ready() and read.error() is None, "work in flight is over after close()")
        equal(bytes(out), b"\x09" * 50_000, "what was read before close() returned")
        for what, use in (
            ("allocate", lambda: device.empty("uint8", (1,))),
            ("read", lambda: buffer.copy_to_host(bytearray(1))),
            ("load", lambda: client.load(compiled, device)),
            ("reset", device.reset),
        ):
            with raises(FailedPrecondition, f"{what} after close()"):
                use()
        buffer.delete()
        client.close()


def close_held(lab: Lab) -> None:
    """Closing does not wait for what only the host could set free; that fails, and wakes all."""
    with lab.another() as client:
        device = client.device(lab.device.id)
        gate, buffer = lab.semaphore(), lab.raw(16, device)
        held = device.create_stream().fill(buffer, b"\x01", wait=[gate.at(1)])
        client.close()
        check(held.is_ready(), "work that can never start is over after close()")
        with raises(FailedPrecondition, "work that the close ended"):
            held.wait(MOMENT)
        gate.signal(1)
        buffer.delete()


def close_leaves_others(lab: Lab) -> None:
    """Closing one client takes nothing from another on the same card."""
    data = lab.noise(5000)
    mine = lab.upload(data)
    with lab.program() as program:
        for _ in range(2):
            with lab.another() as client:
                device = client.device(lab.device.id)
                theirs = lab.upload(b"\x17" * 5000, device)
                equal(lab.bytes_of(theirs), b"\x17" * 5000, "contents of the other client")
                equal(lab.bytes_of(mine), data, "contents beside another client")
            equal(lab.bytes_of(mine), data, "contents after the other client was closed")
            equal(lab.run(program, lab.full(1), lab.full(1))[0], lab.full(2), "a program of mine")
            theirs.delete()


def side_by_side(lab: Lab) -> None:
    """Two clients take turns, and a semaphore orders the work of one after the other's."""
    semaphore = lab.semaphore()
    with lab.another() as client:
        device = client.device(lab.device.id)
        if device.id != lab.device.id:
            raise NotApplicable("the other client has another device")
        theirs, mine, out = lab.raw(64, device), lab.upload(bytes(64)), bytearray(64)
        read = lab.device.create_stream().read(mine, out, wait=[semaphore.at(2)])
        device.create_stream().fill(theirs, b"\x71", signal=[semaphore.at(1)])
        lab.device.create_stream().fill(
            mine, b"\x72", wait=[semaphore.at(1)], signal=[semaphore.at(2)]
        )
        lab.finish(read)
        equal(bytes(out), b"\x72" * 64, "what was read behind both clients")
        equal(lab.bytes_of(theirs), b"\x71" * 64, "the other client's buffer")
        theirs.delete()
