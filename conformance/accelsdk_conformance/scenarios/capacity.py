"""Full memory: an error with numbers, nothing lost, and everything works again afterwards."""

from __future__ import annotations

from accelsdk.errors import Code, OutOfMemory
from accelsdk.runtime.buffer import Buffer
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Lab, check, equal, raises

#: Filling a memory larger than this, in parts, would need more than the host may have.
_FILLABLE = 1 << 28


def _limit(lab: Lab) -> int:
    limit = lab.device.memory_stats().limit
    if limit is None:
        raise NotApplicable("the driver does not tell its limit")
    return limit


def too_large(lab: Lab) -> None:
    """More than there is raises OutOfMemory with the numbers, and changes nothing."""
    limit = _limit(lab)
    keeper = lab.upload(b"\x3d" * 1000)
    before = lab.device.memory_stats()
    for extra in (1, 4096, limit):
        try:
            lab.raw(limit + extra)
        except OutOfMemory as error:
            check(error.requested >= limit + extra, f"requested is {error.requested}")
            equal(error.limit, limit, "limit in the error")
            check(
                before.in_use >= error.in_use >= 0,
                f"in_use in the error is {error.in_use}, the statistics say {before.in_use}",
            )
            equal(error.code, Code.RESOURCE_EXHAUSTED, "code")
            check(error.retryable, "a full memory is retryable")
            check(f"{error.requested:,}" in str(error), f"the message has the numbers: {error}")
        else:
            raise_nothing = f"{limit + extra} bytes of {limit} were allocated"
            check(False, raise_nothing)
    after = lab.device.memory_stats()
    equal(after.in_use, before.in_use, "in_use after refusals")
    equal(after.allocations, before.allocations, "allocations after refusals")
    equal(lab.bytes_of(keeper), b"\x3d" * 1000, "a buffer beside the refusals")


def recovery(lab: Lab) -> None:
    """After OutOfMemory the device allocates, computes and frees as before."""
    limit = _limit(lab)
    with lab.program() as program:
        for turn in range(3):
            with raises(OutOfMemory, "allocation of more than there is"):
                lab.raw(limit + 1)
            data = lab.noise(1000)
            equal(lab.bytes_of(lab.upload(data)), data, f"allocation after refusal {turn}")
            equal(lab.run(program, lab.full(1), lab.full(turn))[0], lab.full(turn + 1), "a run")


def whole_or_nothing(lab: Lab) -> None:
    """What was allocated is all there: the last byte of a large buffer is as good as the first."""
    limit = _limit(lab)
    size = min(limit // 4, 3 << 20)
    buffers = [lab.raw(size) for _ in range(2)]
    for turn, buffer in enumerate(buffers):
        buffer.fill(bytes([turn + 1]), offset=size - 16, nbytes=16)
        buffer.fill(bytes([turn + 8]), nbytes=16)
    for turn, buffer in enumerate(buffers):
        for offset, value in ((0, turn + 8), (size - 16, turn + 1)):
            out = bytearray(16)
            buffer.copy_to_host(out, offset=offset)
            equal(bytes(out), bytes([value]) * 16, f"16 bytes at {offset} of {size}")


def filled(lab: Lab) -> None:
    """A memory that is filled in parts refuses the next, keeps all, and gives all back."""
    limit = _limit(lab)
    free = limit - lab.device.memory_stats().in_use
    if free > _FILLABLE:
        raise NotApplicable(f"filling {free:,} bytes would take more memory than a host may have")
    part = max(free // 8, 1)
    buffers: list[Buffer] = []
    with raises(OutOfMemory, "allocation in a memory that is full"):
        for turn in range(64):
            buffer = lab.raw(part)
            buffer.fill(bytes([turn]), offset=part - 1, nbytes=1)
            buffer.fill(bytes([turn]), nbytes=1)
            buffers.append(buffer)
    check(len(buffers) >= 6, f"{len(buffers)} eighths of the free memory could be allocated")
    for turn, buffer in enumerate(buffers):
        for offset in (0, part - 1):
            out = bytearray(1)
            buffer.copy_to_host(out, offset=offset)
            equal(out[0], turn, f"byte {offset} of part {turn}")
    buffers.pop().delete()
    lab.raw(part).delete()


def retried_after_trim(lab: Lab) -> None:
    """Memory of buffers that nobody can reach is found before an allocation is refused."""
    limit = _limit(lab)
    free = limit - lab.device.memory_stats().in_use
    if free > _FILLABLE:
        raise NotApplicable(f"filling {free:,} bytes would take more memory than a host may have")
    size = free * 5 // 8
    for _ in range(3):
        knot: list[object] = [lab.raw(size)]
        knot.append(knot)  # only a collection finds it
        del knot


def refused_output(lab: Lab) -> None:
    """A run whose result does not fit is refused, and leaves donated operands as they were."""
    limit = _limit(lab)
    free = limit - lab.device.memory_stats().in_use
    if free > _FILLABLE:
        raise NotApplicable(f"filling {free:,} bytes would take more memory than a host may have")
    count = 1024
    with lab.program(count=count) as program:
        x, y = lab.put(lab.full(1, count)), lab.put(lab.full(2, count))
        hogs: list[Buffer] = []
        size = free
        while size >= 64:
            try:
                hogs.append(lab.raw(size))
            except OutOfMemory:
                size //= 2
        with raises(OutOfMemory, "a run without memory for its result"):
            program.execute([x, y])
        check(not x.is_deleted(), "operands survive")
        hogs.clear()
        (got,) = program.execute([x, y]).outputs
        equal(lab.array_of(got), lab.full(3, count), "the run when there is memory")
