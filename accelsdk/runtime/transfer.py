"""Moving bytes: write, read, copy, fill and peer copy, as work with the right edges.

A view that does not honour the target's ``view_alignment`` never reaches the driver: a
function of the SDK then moves the enclosing aligned range through host memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accelsdk.backend.driver import Driver, View
from accelsdk.backend.info import Capability
from accelsdk.backend.optional import Copy, Fill, PeerCopy, Read, SupportsPeerCopy, Write
from accelsdk.errors import InvalidArgument
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.device import Device
from accelsdk.runtime.memory import Storage
from accelsdk.runtime.sync import Event, Timepoint
from accelsdk.runtime.work import Edge, Lane, Work

if TYPE_CHECKING:
    from accelsdk.runtime.buffer import Buffer


@dataclass(frozen=True, slots=True)
class Span:
    """A range of one allocation: first byte and end."""

    storage: Storage
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def range(self) -> tuple[Storage, int, int]:
        """The same as work notes it."""
        return (self.storage, self.start, self.end)

    @property
    def aligned(self) -> bool:
        """Whether a view of it may reach the driver."""
        return self.start % self.storage.device.target.view_alignment == 0

    def view(self) -> View:
        """Returns what the driver is handed for it."""
        return View(self.storage.handle, self.start, self.nbytes, None, self.nbytes)

    def enclosing(self) -> Span:
        """Returns the shortest range around it that starts aligned."""
        step = self.storage.device.target.view_alignment
        return replace(self, start=self.start - self.start % step)

    @property
    def before(self) -> Span:
        """The bytes between the start of the enclosing range and its own."""
        return Span(self.storage, self.enclosing().start, self.start)


@dataclass(frozen=True, slots=True)
class Submission:
    """How work is handed over: stream, waits, signals, cancellation, whose thread.

    ``edges`` are further events to come after, and how; ``part`` is what errors name.
    """

    lane: Lane | None
    wait: Sequence[Timepoint | Event] = ()
    signal: Sequence[Timepoint] = ()
    cancel: CancelToken | None = None
    inline: bool = False
    edges: Sequence[tuple[Event, Edge]] = ()
    part: str = ""

    def submit(self, work: Work) -> Event:
        """Submits ``work`` so."""
        work.edges.extend(self.edges)
        work.part = self.part
        return work.submit(
            self.lane,
            wait=self.wait,
            signal=self.signal,
            cancel=self.cancel,
            inline=self.inline,
        )


def span_of(buffer: Buffer, offset: int = 0, nbytes: int | None = None) -> Span:
    """Returns a range of a buffer, checked.

    Raises:
        InvalidArgument: It leaves the buffer.
        FailedPrecondition: The buffer was deleted, donated or mapped, or its device reset.
    """
    length = buffer.nbytes - offset if nbytes is None else nbytes
    if offset < 0 or length < 0 or offset + length > buffer.nbytes:
        raise InvalidArgument(
            f"bytes {offset}..{offset + length} leave a buffer of {buffer.nbytes} bytes",
            device=buffer.device.id,
        )
    return Span(buffer.storage, buffer.offset + offset, buffer.offset + offset + length)


def write(dst: Span, source: memoryview, how: Submission) -> Event:
    """Copies host bytes, unchanged until completion, to the device."""
    device = dst.storage.device
    if dst.aligned:
        command = Write(dst.view(), source)
        return how.submit(Work(device, "write", commands=(command,), writes=(dst.range,)))
    return how.submit(
        Work(
            device,
            "staged write",
            body=lambda: put_staged(dst, source),
            follows=(dst.before.range,),
            writes=(dst.range,),
        )
    )


def read(src: Span, destination: memoryview, how: Submission) -> Event:
    """Copies device bytes to the host; ``destination`` is defined from completion on."""
    device = src.storage.device
    if src.aligned:
        command = Read(src.view(), destination)
        return how.submit(Work(device, "read", commands=(command,), reads=(src.range,)))

    def body() -> None:
        destination[:] = get_staged(src)

    return how.submit(Work(device, "staged read", body=body, reads=(src.range,)))


def put_staged(dst: Span, source: memoryview) -> None:
    """Writes to a range of any alignment through the host; on a thread of the SDK."""
    # In one call, so that no other call of the driver changes the bytes before it in between.
    device = dst.storage.device
    device.gate.call(_put_staged, device.driver, dst, source)


def _put_staged(driver: Driver, dst: Span, source: memoryview) -> None:
    around = dst.enclosing()
    stage = memoryview(bytearray(around.nbytes))
    driver.read(dst.before.view(), stage[: dst.before.nbytes])
    stage[dst.before.nbytes :] = source
    driver.write(around.view(), stage)


def get_staged(src: Span) -> memoryview:
    """Reads a range of any alignment through the host; on a thread of the SDK."""
    around = src.enclosing()
    stage = memoryview(bytearray(around.nbytes))
    device = src.storage.device
    device.gate.call(device.driver.read, around.view(), stage)
    return stage[src.start - around.start :]


def fill(dst: Span, pattern: bytes, how: Submission) -> Event:
    """Repeats 1, 2, 4 or 8 bytes over a range."""
    if len(pattern) not in (1, 2, 4, 8) or dst.nbytes % len(pattern):
        raise InvalidArgument(
            f"a pattern of {len(pattern)} bytes cannot fill {dst.nbytes} bytes",
            remedy="give 1, 2, 4 or 8 bytes that divide the length",
        )
    if not dst.aligned:
        return write(dst, memoryview(pattern * (dst.nbytes // len(pattern))), how)
    command = Fill(dst.view(), pattern)
    work = Work(dst.storage.device, "fill", commands=(command,), writes=(dst.range,))
    return how.submit(work)


def copy(dst: Span, src: Span, how: Submission) -> Event:
    """Copies within a device, directly between devices that can, or through the host."""
    if dst.nbytes != src.nbytes:
        raise InvalidArgument(f"cannot copy {src.nbytes} bytes to {dst.nbytes}")
    here, there = dst.storage.device, src.storage.device
    if dst.storage is src.storage and dst.start < src.end and src.start < dst.end:
        raise InvalidArgument("the ranges of a copy overlap", device=here.id)
    if not (dst.aligned and src.aligned):
        return _copy_through_host(dst, src, how)
    if here is there:
        command = Copy(dst.view(), src.view())
        return how.submit(
            Work(here, "copy", commands=(command,), reads=(src.range,), writes=(dst.range,))
        )
    if not direct_path(here, there):
        return _copy_through_host(dst, src, how)
    peer = PeerCopy(dst.view(), src.view(), there.driver)
    work = Work(here, "peer copy", commands=(peer,), reads=(src.range,), writes=(dst.range,))
    if not here.launcher.native:  # both cards are used, so both are held
        work = Work(
            here,
            "peer copy",
            body=lambda: _peer_copy(here, there, peer),
            reads=(src.range,),
            writes=(dst.range,),
        )
    return how.submit(work)


def direct_path(here: Device, there: Device) -> bool:
    """Says whether ``here`` can copy from ``there`` without the host."""
    if here.client is not there.client or Capability.PEER_COPY not in here.capabilities:
        return False
    driver: SupportsPeerCopy = here.card.ability(Capability.PEER_COPY)
    return driver.can_copy_from(there.info)


def _peer_copy(here: Device, there: Device, command: PeerCopy) -> None:
    driver: SupportsPeerCopy = here.card.ability(Capability.PEER_COPY)
    first, second = sorted((here, there), key=lambda device: device.ordinal)
    with first.gate.lock, second.gate.lock:
        driver.copy_from_peer(command.dst, command.src, command.peer)


def _copy_through_host(dst: Span, src: Span, how: Submission) -> Event:
    # The read belongs to no stream of the destination; it starts after what the copy awaits.
    lane = how.lane
    if lane is not None and lane.ordered and lane.tail is not None:
        how = replace(how, edges=(*how.edges, (lane.tail, Edge.ORDER)))
    return copy_staged(dst, src, memoryview(bytearray(src.nbytes)), how)


def copy_staged(dst: Span, src: Span, stage: memoryview, how: Submission) -> Event:
    """Copies between devices through host memory of the same length."""
    common = (how.cancel, how.inline)
    fetch = read(src, stage, Submission(None, how.wait, (), *common, how.edges, how.part))
    after = (*how.edges, (fetch, Edge.HOST))
    return write(dst, stage, Submission(how.lane, how.wait, how.signal, *common, after, how.part))
