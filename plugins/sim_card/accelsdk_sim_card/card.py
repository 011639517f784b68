"""One card: its memory, its queues, and the engines that work through them.

A batch runs its commands in order; each takes an engine, keeps it for its virtual time, and
takes effect at its end. Batches of one queue start in the order of submission, and not
before the work that they come after. Everything here runs under the host's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.backend.driver import View
from accelsdk.backend.optional import (
    Command,
    Completion,
    Copy,
    Execute,
    Fill,
    Health,
    HealthState,
    PeerCopy,
    Read,
    Write,
)
from accelsdk.errors import AccelError, Cancelled, DeviceFault, Internal, Unavailable
from accelsdk_sim_card import faults
from accelsdk_sim_card.faults import Injector, Strikes
from accelsdk_sim_card.loaded import LoadedProgram
from accelsdk_sim_card.memory import UNINITIALISED, Bytes, DeviceMemory
from accelsdk_sim_card.queueing import QUEUES, Batch, Engines, Queue

if TYPE_CHECKING:
    from accelsdk_sim_card.driver import SimDriver
    from accelsdk_sim_card.host import Host


class Card:
    """One card of a host.

    Attributes:
        id: PCI address.
        ordinal: Position on the switch.
        memory: Its device memory.
        epoch: Counts resets; what was loaded in another epoch is dead.
        residue: What defects that have a memory keep (`Arithmetic.residue`).
    """

    def __init__(self, host: Host, ordinal: int) -> None:
        settings = host.settings
        self.host = host
        self.ordinal = ordinal
        self.id = pci_address(ordinal)
        self.profile = settings.profile
        self.memory = DeviceMemory(
            self.profile.memory_bytes, self.profile.alignment, self.id, ordinal
        )
        self.epoch = 0
        self._health = Health(state=HealthState.OK)
        self._error: AccelError | None = None
        self._slowdown = 1.0
        self._queues = tuple(Queue(index) for index in range(len(QUEUES)))
        self._compute, self._dma = self._new_engines()
        struck = settings.fault_card in (-1, ordinal)
        fault = settings.fault if struck else faults.NONE
        self._faults = Injector(fault, settings.fault_at, settings.seed + ordinal)
        self.residue: dict[Any, Any] = {}
        self.busy_ns = 0
        self.moved_bytes = 0
        if host.trace:
            host.trace.card(ordinal, f"{self.profile.kind} {self.id}")

    def _new_engines(self) -> tuple[Engines, Engines]:
        copies = range(self.profile.copy_engines)
        return Engines(["compute"]), Engines([f"dma{lane}" for lane in copies])

    # -- state ---------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """State of the card; safe from any thread."""
        return self._health

    def check(self) -> None:
        """Raises what latched the card, if anything did."""
        if self._error is not None:
            raise self._error

    def fail(self, error: AccelError, state: HealthState = HealthState.FAILED) -> None:
        """Latches the card: all its work fails with ``error`` until `reset`."""
        if self._error is None:
            self._error = error
            self._health = Health(state=state, cause=error.message)
        for queue in self._queues:
            self.pump(queue.index)

    def reset(self) -> None:
        """Brings the card back, empty.

        Raises:
            Unavailable: The card is lost; there is nothing to reset.
        """
        if self._health.state is HealthState.LOST:
            raise Unavailable(
                "the card does not answer on the bus",
                device=self.id,
                remedy="power-cycle the host, or close the client and connect again",
            )
        reason = DeviceFault("the card was reset", device=self.id, remedy="submit the work again")
        self.fail(reason)
        for queue in self._queues:
            for batch in list(queue.batches):
                self._finish(batch, self._error)
        self.memory.clear()
        self._compute, self._dma = self._new_engines()  # whatever the old ones were stuck in
        self.epoch += 1
        self._error = None
        self._slowdown = 1.0
        self._health = Health(state=HealthState.OK)

    def abandon(self, owner: SimDriver) -> None:
        """Ends all work of a driver that goes away; what is under way has no effect."""
        for queue in self._queues:
            for batch in [batch for batch in queue.batches if batch.owner is owner]:
                self._finish(batch, self._cancelled())

    def allocate(self, nbytes: int, alignment: int) -> int:
        """Reserves device memory; see `DeviceMemory.allocate`."""
        if self._faults.strikes(Strikes.ALLOCATE):
            # The same error as a memory that is really full, from the same place.
            return self.memory.allocate(self.memory.capacity + 1, alignment)
        return self.memory.allocate(nbytes, alignment)

    def telemetry(self) -> dict[str, float | int]:
        """Returns readings; safe from any thread."""
        hot = self._slowdown > 1
        now = self.host.clock.now
        return {
            "temperature_c": self.profile.temperature_c + (45.0 if hot else 0.0),
            "power_w": self.profile.power_w,
            "clock_scale": 1 / self._slowdown,
            "utilisation": self.busy_ns / now if now else 0.0,
            "moved_bytes": self.moved_bytes,
            "virtual_time_ns": now,
        }

    # -- queues --------------------------------------------------------------------------

    def enqueue(self, batch: Batch) -> None:
        """Puts a batch at the end of its queue."""
        self._queues[batch.queue].batches.append(batch)
        self.pump(batch.queue)

    def pump(self, index: int) -> None:
        """Starts the batch at the head of a queue, if it may start."""
        queue = self._queues[index]
        while queue.batches:
            head = queue.batches[0]
            if head.running:
                return
            if self._error is not None:
                self._finish(head, self._error)
            elif head.cancelled:
                self._finish(head, self._cancelled())
            elif (pending := self._pending(head)) is not None:
                self.host.when_done(pending, partial(self.pump, index))
                return
            elif (failed := self._failed(head)) is not None:
                self._finish(head, failed)
            else:
                self._start(head)
                return

    def _pending(self, batch: Batch) -> int | None:
        return next((t for t in batch.after if self.host.is_outstanding(t)), None)

    def _failed(self, batch: Batch) -> AccelError | None:
        errors = (self.host.failure(ticket) for ticket in batch.after)
        return next((error for error in errors if error is not None), None)

    def _cancelled(self) -> Cancelled:
        return Cancelled("the batch was cancelled", device=self.id)

    def _start(self, batch: Batch) -> None:
        batch.running = True
        arrival = batch.submitted + self.profile.doorbell_ns
        batch.started = max(arrival, self.host.clock.now)
        self._next(batch)

    def _next(self, batch: Batch) -> None:
        """Decodes the next command of a batch, or completes it."""
        if batch.done:
            return
        if self._error is not None:
            self._finish(batch, self._error)
        elif batch.cancelled:
            self._finish(batch, self._cancelled())
        elif batch.index == len(batch.commands):
            if self.host.clock.now < batch.started:  # nothing in it: over once the card sees it
                self.host.clock.at(batch.started, partial(self._finish, batch, None))
            else:
                self._finish(batch, None)
        else:
            command = batch.commands[batch.index]
            batch.index += 1
            engines = self._compute if isinstance(command, Execute) else self._dma
            issue = partial(engines.acquire, partial(self._issue, batch, command, engines))
            decoded = max(batch.started, self.host.clock.now) + self.profile.command_ns
            self.host.clock.at(decoded, issue)

    def _finish(self, batch: Batch, error: AccelError | None) -> None:
        if batch.done:
            return
        batch.done, batch.error = True, error
        queue = self._queues[batch.queue]
        queue.batches.remove(batch)
        now = self.host.clock.now
        if self.host.trace and batch.started:
            state = "error" if error else "ok"
            lane = f"queue {QUEUES[batch.queue].name}"
            self.host.trace.add(self.ordinal, lane, "batch", batch.started, now, {"status": state})
        if batch.owner is not None:
            batch.owner.completions.append(
                Completion(
                    ticket=batch.ticket,
                    error=error,
                    started=batch.started or now,
                    finished=now,
                    profile=batch.profile,
                    shapes=batch.shapes,
                )
            )
        self.host.complete(batch)
        if queue.batches:
            self.host.clock.after(0, partial(self.pump, batch.queue))

    # -- commands ------------------------------------------------------------------------

    def _issue(self, batch: Batch, command: Command, engines: Engines, lane: str) -> None:
        """Begins a command on an engine; its effect comes at the end of its time."""
        if batch.done:  # it failed while it stood in line
            engines.release(lane)
            return
        started = self.host.clock.now
        end = partial(self._end, batch, command, engines, lane, started)
        match command:
            case Execute():
                self._begin_execute(command, end)
            case Write(dst, _):
                self._transfer(("uplink.down", f"card{self.ordinal}.down"), dst.valid_nbytes, end)
            case Read(src, _):
                self._transfer((f"card{self.ordinal}.up", "uplink.up"), src.valid_nbytes, end)
            case PeerCopy(dst, _, peer):
                links = (f"card{peer.card.ordinal}.up", f"card{self.ordinal}.down")  # type: ignore[attr-defined] # a driver of this ticket domain is ours
                self._transfer(links, dst.valid_nbytes, end)
            case Copy(dst, _):
                self._local(2 * dst.nbytes, end)
            case Fill(dst, _):
                self._local(dst.nbytes, end)

    def _transfer(self, links: tuple[str, ...], nbytes: int, end: Callable[[], None]) -> None:
        self.moved_bytes += nbytes
        move = partial(self.host.fabric.transfer, links, nbytes, end)
        self.host.clock.after(self.profile.link_latency_ns, move)

    def _local(self, nbytes: int, end: Callable[[], None]) -> None:
        self.host.clock.after(-int(-nbytes * 1e9 // self.profile.memory_bandwidth), end)

    def _begin_execute(self, command: Execute, end: Callable[[], None]) -> None:
        struck = self._faults.strikes(Strikes.EXECUTE)
        if struck == "stall":
            return
        if struck == "thermal_throttle":
            self._slowdown = self.profile.throttle_factor
            self._health = Health(state=HealthState.DEGRADED, cause="thermal throttling")
        loaded: LoadedProgram = command.loaded
        duration = round((self.profile.launch_ns + loaded.nanoseconds) * self._slowdown)
        self.busy_ns += duration
        self.host.clock.after(duration, partial(self._execute_end, struck, command, end))

    def _execute_end(self, struck: str, command: Execute, end: Callable[[], None]) -> None:
        match struck:
            case "hang":
                faults.hang()
            case "crash":
                faults.crash()
            case "ecc_error":
                self.fail(faults.ecc_error(self.id))
            case "device_loss":
                error = DeviceFault("the card fell off the bus", device=self.id)
                self.fail(error, HealthState.LOST)
        end()
        if struck == "ecc_flip" and command.outputs:
            self._faults.corrupt(self.memory.range(command.outputs[0]))

    def _end(
        self, batch: Batch, command: Command, engines: Engines, lane: str, started: int
    ) -> None:
        """Applies the effect of a command whose time is over, and goes on."""
        error = self._error
        if error is None and not batch.done:
            error = self._try(batch, command, started)
        name = type(command).__name__.lower()
        if self.host.trace:
            self._trace(command, name, lane, started)
        engines.release(lane)
        if error is None:
            self._next(batch)
        else:
            if isinstance(error, DeviceFault):
                self.fail(error)
            self._finish(batch, error)

    def _try(self, batch: Batch, command: Command, started: int) -> AccelError | None:
        try:
            self._apply(batch, command, started)
        except AccelError as error:
            return error
        except Exception as error:
            wrapped = Internal(f"{type(error).__name__}: {error}", device=self.id)
            wrapped.__cause__ = error
            return wrapped
        return None

    def _apply(self, batch: Batch, command: Command, started: int) -> None:
        match command:
            case Execute(loaded, inputs, outputs, profile):
                batch.shapes = loaded.run(inputs, outputs)
                if profile:
                    begin = started + self.profile.launch_ns
                    batch.profile += loaded.profile(begin, self._slowdown)
            case Write(dst, source):
                self._store(dst, np.frombuffer(source, np.uint8))
            case Read(src, destination):
                target = np.frombuffer(destination, np.uint8)
                target[: src.valid_nbytes] = self._arrived(self.memory.range(src), src)
            case PeerCopy(dst, src, peer):
                self._store(dst, self._peer_bytes(peer.card, src))  # type: ignore[attr-defined] # as above
            case Copy(dst, src):
                self.memory.range(dst)[:] = self.memory.range(src)
            case Fill(dst, pattern):
                tile = np.frombuffer(pattern, np.uint8)
                self.memory.range(dst).reshape(-1, tile.size)[:] = tile

    def _store(self, dst: View, source: Bytes) -> None:
        """Writes transferred bytes; where only a part was sent, the rest is undefined."""
        target = self.memory.range(dst)
        target[: dst.valid_nbytes] = self._arrived(source, dst)
        target[dst.valid_nbytes :] = UNINITIALISED

    def _arrived(self, sent: Bytes, view: View) -> Bytes:
        """Returns the bytes of a transfer as they come out of the link."""
        bytes_ = sent[: view.valid_nbytes]
        match self._faults.strikes(Strikes.TRANSFER):
            case "dma_corruption":
                bytes_ = bytes_.copy()
                self._faults.corrupt(bytes_, mask=0xFF)
            case "link_loss":
                raise DeviceFault("the card's link went down", device=self.id, remedy="reset it")
        return bytes_

    def _peer_bytes(self, peer: Card, src: View) -> Bytes:
        """Reads a peer's memory; the peer's trouble is not this card's fault."""
        try:
            peer.check()
            return peer.memory.range(src)
        except DeviceFault as error:
            raise Unavailable(
                f"peer {peer.id} cannot be read: {error.message}",
                device=self.id,
                remedy="reset the peer",
            ) from error

    def _trace(self, command: Command, name: str, lane: str, started: int) -> None:
        trace = self.host.trace
        if trace is None:
            return
        now = self.host.clock.now
        if not isinstance(command, Execute):
            view = command.src if isinstance(command, Read) else command.dst
            trace.add(self.ordinal, lane, name, started, now, {"bytes": view.valid_nbytes})
            return
        trace.add(self.ordinal, lane, command.loaded.name, started, now)
        begin = started + self.profile.launch_ns
        for time in command.loaded.profile(begin, self._slowdown):
            args = {"op": time.op}
            trace.add(self.ordinal, time.engine, time.node, time.started, time.finished, args)


def pci_address(ordinal: int) -> str:
    """Returns the identity of a card: its address behind the switch."""
    return f"0000:{ordinal + 1:02x}:00.0"
