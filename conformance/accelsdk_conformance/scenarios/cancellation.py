"""Cancelling has a code of its own; a time-out cancels nothing."""

from __future__ import annotations

from accelsdk.errors import Cancelled, Code, DeadlineExceeded
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.executable import ExecuteOptions, Result
from accelsdk_conformance.scenarios.lab import MOMENT, Lab, check, equal, raises


def before(lab: Lab) -> None:
    """A token that was cancelled before keeps work from being accepted."""
    token = CancelToken()
    token.cancel()
    token.cancel()
    check(token.cancelled, "cancelled is true after cancel()")
    x = lab.put(lab.full(1))
    with lab.program() as program, raises(Cancelled, "execute with a cancelled token"):
        program.execute([x, x], options=ExecuteOptions(cancel=token, donate=True))
    check(not x.is_deleted(), "operands of refused work are not consumed")
    equal(lab.array_of(x), lab.full(1), "operand of refused work")


def queued(lab: Lab) -> None:
    """Work that has not started is dropped at once, with the code CANCELLED, and poisons."""
    gate, token = lab.semaphore(), CancelToken()
    signalled = lab.semaphore()
    with lab.program() as program:
        x = lab.put(lab.full(1))
        options = ExecuteOptions(wait=[gate.at(1)], signal=[signalled.at(1)], cancel=token)
        result = program.execute([x, x], options=options)
        behind = program.execute([result.outputs[0], x])
        token.cancel()
        check(result.complete.is_ready(), "queued work is over when cancel() returns")
        for what, wait in (
            ("cancelled work", lambda: lab.finish(result.complete)),
            ("its result", lambda: lab.bytes_of(result.outputs[0])),
            ("its semaphore", lambda: signalled.wait(1, lab.patience)),
            ("what was made of its result", lambda: lab.finish(behind.complete)),
        ):
            with raises(Cancelled, what):
                wait()
        error = result.complete.error()
        equal(error.code if error else None, Code.CANCELLED, "code of cancelled work")
        gate.signal(1)
        equal(lab.array_of(x), lab.full(1), "operand of cancelled work")
        good = program.execute([x, x])
        equal(lab.array_of(good.outputs[0]), lab.full(2), "the next run")


def only_its_own(lab: Lab) -> None:
    """A token cancels the work that was submitted with it, and no other."""
    gate, token, other = lab.semaphore(), CancelToken(), CancelToken()
    with lab.program() as program:
        x = lab.put(lab.full(2))
        wait = [gate.at(1)]
        mine = [
            program.execute([x, x], options=ExecuteOptions(wait=wait, cancel=token))
            for _ in range(2)
        ]
        theirs = program.execute([x, x], options=ExecuteOptions(wait=wait, cancel=other))
        nobody = program.execute([x, x], options=ExecuteOptions(wait=wait))
        token.cancel()
        gate.signal(1)
        for result in mine:
            with raises(Cancelled, "work of the token"):
                lab.finish(result.complete)
        for result in (theirs, nobody):
            equal(lab.array_of(result.outputs[0]), lab.full(4), "work without that token")
        other.cancel()
        check(theirs.complete.error() is None, "cancelling what is over changes nothing")


def submitted(lab: Lab) -> None:
    """Work that the card may have started either ends well or as cancelled: never in between."""
    with lab.program(count=20_000) as program:
        x = lab.put(lab.full(3, 20_000))
        for turn in range(4):
            token = CancelToken()
            outputs = [lab.device.empty(lab.format, (20_000,)) for _ in range(2)]
            for output in outputs:
                output.fill(b"\x7f")
            first = program.execute([x, x], outputs[:1], ExecuteOptions(cancel=token))
            second = program.execute([outputs[0], x], outputs[1:])
            apart = program.execute([x, x])
            if turn % 2:
                lab.finish(program.execute([x, x]).complete)
            token.cancel()
            failed = [_ended(lab, result) for result in (first, second)]
            check(failed[1] or not failed[0], "work on a cancelled result does not succeed")
            got = lab.array_of(apart.outputs[0])
            equal(got, lab.full(6, 20_000), "work without a token beside cancelled work")
            for number, (result, bad) in enumerate(zip((first, second), failed, strict=True)):
                if bad:
                    with raises(Cancelled, "result of cancelled work"):
                        lab.bytes_of(result.outputs[0])
                else:
                    got = lab.array_of(result.outputs[0])
                    equal(got, lab.full(6 + 3 * number, 20_000), "result that was not cancelled")


def _ended(lab: Lab, result: Result) -> bool:
    """Waits for work; returns whether it was cancelled."""
    try:
        lab.finish(result.complete)
    except Cancelled:
        return True
    return False


def time_outs(lab: Lab) -> None:
    """A wait that times out says so, and the work goes on to its end."""
    semaphore = lab.semaphore()
    with raises(DeadlineExceeded, "wait for a value that never comes"):
        semaphore.wait(1, MOMENT)
    out, stream = bytearray(16), lab.device.create_stream()
    read = stream.read(lab.upload(b"\x19" * 16), out, wait=[semaphore.at(1)])
    for _ in range(2):
        with raises(DeadlineExceeded, "wait for work that cannot start"):
            read.wait(MOMENT)
    check(read.error() is None and not read.is_ready(), "a time-out leaves the work as it is")
    semaphore.signal(1)
    lab.finish(read)
    equal(bytes(out), b"\x19" * 16, "what was read after the time-outs")


def execute_time_out(lab: Lab) -> None:
    """A blocking run that times out is not cancelled: its outputs come later."""
    semaphore = lab.semaphore()
    with lab.program() as program:
        x, output = lab.put(lab.full(4)), lab.device.empty(lab.format, (64,))
        options = ExecuteOptions(wait=[semaphore.at(1)], timeout=MOMENT, block=True)
        with raises(DeadlineExceeded, "a blocking run that cannot start"):
            program.execute([x, x], [output], options)
        check(not output.ready.is_ready(), "the outputs are still to come")
        semaphore.signal(1)
        lab.finish(output.ready)
        equal(lab.array_of(output), lab.full(8), "outputs after the time-out")
