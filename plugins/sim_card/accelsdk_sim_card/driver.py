"""The driver of a simulated card: the contract on one side, the card on the other.

The synchronous methods submit a batch and drive the clock to its end. The host's own lock
makes calls on different cards safe; calls on one card are for the SDK to serialise.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

from accelsdk.backend.driver import Driver, MemoryStats, View
from accelsdk.backend.info import DeviceInfo, OptionValue
from accelsdk.backend.optional import (
    Command,
    Completion,
    Copy,
    Execute,
    Fill,
    Health,
    PeerCopy,
    Profile,
    QueueInfo,
    Read,
    Ticket,
    Write,
)
from accelsdk.backend.program import PackedConstant, Program
from accelsdk.errors import DeviceFault, FailedPrecondition, InvalidArgument
from accelsdk.graph.serialize import parse_structure
from accelsdk.graph.types import Shape
from accelsdk_sim_card.arithmetic import Arithmetic
from accelsdk_sim_card.card import Card
from accelsdk_sim_card.host import HOSTS, Host
from accelsdk_sim_card.loaded import LoadedProgram
from accelsdk_sim_card.queueing import QUEUES, Batch


class SimDriver(Driver):
    """One open simulated card.

    Attributes:
        card: The card.
        completions: Ended batches that `poll` has not returned yet.
    """

    def __init__(self, host: Host, card: Card) -> None:
        self.card = card
        self.completions: deque[Completion] = deque()
        self._host = host
        self._outstanding = 0
        self._counting = threading.Lock()
        self._closed = False
        self._handles: set[int] = set()
        self._programs: set[LoadedProgram] = set()

    # -- memory --------------------------------------------------------------------------

    def allocate(self, nbytes: int, memory: str, alignment: int) -> int:
        """See `Driver.allocate`. Contents are poisoned."""
        self._check()
        if memory != "device":
            raise InvalidArgument(f"no memory {memory!r}", device=self.card.id, remedy="use device")
        handle = self.card.allocate(nbytes, alignment)
        self._handles.add(handle)
        return handle

    def free(self, handle: int) -> None:
        """See `Driver.free`. The freed bytes are poisoned."""
        self._handles.discard(handle)
        try:
            self.card.memory.free(handle)
        except DeviceFault as error:
            with self._host.lock:
                self.card.fail(error)
            raise

    def write(self, dst: View, source: memoryview) -> None:
        """See `Driver.write`."""
        self._run(Write(dst, source))

    def read(self, src: View, destination: memoryview) -> None:
        """See `Driver.read`."""
        self._run(Read(src, destination))

    def copy(self, dst: View, src: View) -> None:
        """See `Driver.copy`: by a copy engine, within the card."""
        self._run(Copy(dst, src))

    def fill(self, dst: View, pattern: bytes) -> None:
        """See `Driver.fill`: by a copy engine."""
        self._run(Fill(dst, pattern))

    def memory_stats(self, memory: str) -> MemoryStats | None:
        """Returns the use of device memory."""
        return self.card.memory.stats() if memory == "device" else None

    # -- programs ------------------------------------------------------------------------

    def load(
        self,
        program: Program,
        constants: Iterator[PackedConstant],
        share: LoadedProgram | None = None,
    ) -> LoadedProgram:
        """See `Driver.load`. Workspace is reserved here, so that no execution can lack it."""
        self._check()
        graph = parse_structure(program.code)
        arithmetic = Arithmetic.of(
            program.header.target_options, self._host.settings.defect, self.card.residue
        )
        with self._host.lock:
            loaded = LoadedProgram(self.card, program, graph, constants, share, arithmetic.bind)
        self._programs.add(loaded)
        return loaded

    def unload(self, loaded: LoadedProgram) -> None:
        """Releases the constants and workspace of a program."""
        self._programs.discard(loaded)
        loaded.unload()

    def execute(
        self, loaded: LoadedProgram, inputs: Sequence[View], outputs: Sequence[View]
    ) -> Sequence[Shape] | None:
        """See `Driver.execute`."""
        return self._run(Execute(loaded, tuple(inputs), tuple(outputs))).shapes

    def execute_profiled(
        self, loaded: LoadedProgram, inputs: Sequence[View], outputs: Sequence[View]
    ) -> tuple[Sequence[Shape] | None, Profile]:
        """Runs a program once and says when each node ran, in virtual time."""
        batch = self._run(Execute(loaded, tuple(inputs), tuple(outputs), profile=True))
        return batch.shapes, batch.profile

    # -- queues --------------------------------------------------------------------------

    @property
    def queues(self) -> Sequence[QueueInfo]:
        """One queue for whole requests, two for copies."""
        return QUEUES

    @property
    def progress(self) -> Literal["eager", "on_wait"]:
        """Virtual time passes only while somebody polls."""
        return "on_wait"

    def submit(self, queue: int, commands: Sequence[Command], after: Sequence[Ticket]) -> Ticket:
        """See `SupportsQueues.submit`."""
        self._open()
        if not 0 <= queue < len(QUEUES):
            raise InvalidArgument(
                f"no queue {queue}", device=self.card.id, remedy=f"there are {len(QUEUES)}"
            )
        batch = Batch(
            card=self.card, owner=self, queue=queue, commands=tuple(commands), after=tuple(after)
        )
        with self._counting:
            self._outstanding += 1
        return self._host.submit(batch)

    def poll(self, timeout: float | None) -> Sequence[Completion]:
        """See `SupportsQueues.poll`; the timeout is in virtual seconds."""
        with self._host.lock:
            clock = self._host.clock
            deadline = None if timeout is None else clock.now + round(timeout * 1e9)
            if timeout == 0:
                self._host.take_in()
            elif self._outstanding:
                self._host.drive(lambda: bool(self.completions), deadline)
            found = tuple(self.completions)
            self.completions.clear()
            with self._counting:
                self._outstanding -= len(found)
            stuck = not found and timeout is None and self._outstanding > 0
        if stuck:
            self._host.pause()
        return found

    def cancel(self, ticket: Ticket) -> None:
        """Ends a batch before its next command; safe from any thread."""
        self._host.cancel(ticket)

    # -- the rest ------------------------------------------------------------------------

    def can_copy_from(self, peer: DeviceInfo) -> bool:
        """Says whether a card hangs on the same switch."""
        return peer.ticket_domain == self._host.settings.domain

    def copy_from_peer(self, dst: View, src: View, peer: Driver) -> None:
        """Copies from another card through the switch, past the host."""
        self._run(PeerCopy(dst, src, peer))

    def health(self) -> Health:
        """Returns the state of the card; never blocks."""
        return self.card.health

    def reset(self) -> None:
        """Brings a failed card back; handles and loaded programs are dead afterwards."""
        self._open()
        with self._host.lock:
            self._host.take_in()
            self.card.reset()
        self._handles.clear()

    def telemetry(self) -> dict[str, OptionValue]:
        """Returns temperature, power, clock scale, utilisation and virtual time."""
        return dict(self.card.telemetry())

    def trace(self) -> str:
        """Returns the host's trace so far as Chrome JSON.

        Raises:
            FailedPrecondition: No trace is kept.
        """
        if self._host.trace is None:
            raise FailedPrecondition(
                "no trace is kept", device=self.card.id, remedy="open with option trace=<path>"
            )
        with self._host.lock:
            return self._host.trace.to_json()

    def close(self) -> None:
        """Gives the card back, empty; the last one of a host to close writes the trace."""
        if self._closed:
            return
        self._closed = True
        with self._host.lock:
            self._host.take_in()
            self.card.abandon(self)
            for loaded in self._programs:
                loaded.unload()
            for handle in self._handles:
                self.card.memory.discard(handle)
        self._programs.clear()
        self._handles.clear()
        last = HOSTS.release(self._host)
        if last and self._host.trace is not None:
            self._host.trace.write(self._host.settings.trace)

    # -- private -------------------------------------------------------------------------

    def _run(self, command: Command) -> Batch:
        self._check()
        batch = Batch(card=self.card, owner=None, queue=0, commands=(command,))
        self._host.run(batch)
        return batch

    def _check(self) -> None:
        self._open()
        self.card.check()

    def _open(self) -> None:
        if self._closed:
            raise FailedPrecondition(
                "the card is closed", device=self.card.id, remedy="open it again"
            )
