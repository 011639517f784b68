"""Optional abilities of a driver: each is a capability name and a protocol.

A target declares the name (`accelsdk.backend.info.Capability`), so that it is known without
a card; ``open()`` checks that the methods exist. A driver without them loses nothing: the
SDK gives it streams, events, semaphores, donation, poison and cancellation of queued work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable

from accelsdk.backend.driver import Driver, Handle, Loaded, View
from accelsdk.backend.info import DeviceInfo, OptionValue
from accelsdk.errors import AccelError
from accelsdk.graph.types import Shape

#: Names submitted work; unique within a ticket domain, never reused.
Ticket = int


# -- profiling ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """When one node ran, on the driver's clock.

    Attributes:
        node: Name of the node in the compiled graph.
        op: Its op.
        engine: What ran it, such as ``"matrix"`` or ``"cpu"``.
        started: Nanoseconds on the driver's clock.
        finished: Nanoseconds on the driver's clock.
    """

    node: str
    op: str
    engine: str
    started: int
    finished: int


Profile = tuple[NodeTime, ...]


@runtime_checkable
class SupportsProfiling(Protocol):
    """Capability ``profiling``, for a driver without queues."""

    def execute_profiled(
        self, loaded: Loaded, inputs: Sequence[View], outputs: Sequence[View]
    ) -> tuple[Sequence[Shape] | None, Profile]:
        """Runs a program once, as `Driver.execute`, and says when each node ran."""


# -- native queues ------------------------------------------------------------------------


class Engine(StrEnum):
    """What a queue feeds."""

    COMPUTE = "compute"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One hardware queue. Batches of one queue start in the order of submission."""

    name: str
    engines: frozenset[Engine]


@dataclass(frozen=True, slots=True)
class Write:
    """`Driver.write`, queued. The SDK keeps ``source`` unchanged until completion."""

    dst: View
    source: memoryview


@dataclass(frozen=True, slots=True)
class Read:
    """`Driver.read`, queued. ``destination`` is defined from completion on."""

    src: View
    destination: memoryview


@dataclass(frozen=True, slots=True)
class Copy:
    """`Driver.copy`, queued."""

    dst: View
    src: View


@dataclass(frozen=True, slots=True)
class PeerCopy:
    """Copies from another card of the same ticket domain into this one, queued."""

    dst: View
    src: View
    peer: Driver


@dataclass(frozen=True, slots=True)
class Fill:
    """`Driver.fill`, queued."""

    dst: View
    pattern: bytes


@dataclass(frozen=True, slots=True)
class Execute:
    """`Driver.execute`, queued; ``profile`` asks for `Completion.profile`."""

    loaded: Loaded
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    profile: bool = False


Command = Write | Read | Copy | PeerCopy | Fill | Execute


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The end of a submitted batch.

    Attributes:
        ticket: Which batch.
        error: Why it failed, or None. A batch stops at its first failing command.
        started: Nanoseconds on the driver's clock.
        finished: Nanoseconds on the driver's clock.
        profile: Times of the nodes, if an `Execute` asked.
        shapes: Real output shapes, if the batch's last `Execute` has data-dependent ones.
    """

    ticket: Ticket
    error: AccelError | None = None
    started: int = 0
    finished: int = 0
    profile: Profile = ()
    shapes: tuple[Shape, ...] | None = None


@runtime_checkable
class SupportsQueues(Protocol):
    """Capability ``queues``: the card runs batches of commands by itself.

    ``progress`` is ``"eager"`` if work goes on by itself (one SDK thread polls), and
    ``"on_wait"`` if it advances only while somebody polls (a deterministic simulator).
    """

    @property
    def queues(self) -> Sequence[QueueInfo]:
        """The queues; `submit` names one by its index. Constant."""

    @property
    def progress(self) -> Literal["eager", "on_wait"]:
        """Who drives the work. Constant."""

    def submit(self, queue: int, commands: Sequence[Command], after: Sequence[Ticket]) -> Ticket:
        """Queues a batch; never blocks.

        Args:
            queue: Index into `queues`.
            commands: Run in order.
            after: Tickets of this ticket domain, submitted before. The batch starts when
                all are complete; if one failed, it does not run and completes with that
                error.
        """

    def poll(self, timeout: float | None) -> Sequence[Completion]:
        """Returns completions not yet returned, in order of completion.

        Args:
            timeout: Seconds to wait for the first; 0 looks only, None waits as long as
                work is outstanding. Virtual for a simulator, which returns at once.
        """


# -- the rest ------------------------------------------------------------------------------


@runtime_checkable
class SupportsPeerCopy(Protocol):
    """Capability ``peer-copy``: cards of this backend copy to each other directly."""

    def can_copy_from(self, peer: DeviceInfo) -> bool:
        """Says whether a direct path exists."""

    def copy_from_peer(self, dst: View, src: View, peer: Driver) -> None:
        """Copies from ``peer``'s memory into this card's (the synchronous form)."""


@runtime_checkable
class SupportsMap(Protocol):
    """Capability ``map``: device memory that the host may look at in place."""

    def map(self, view: View) -> AbstractContextManager[memoryview]:
        """Returns the bytes, valid inside the context; the device does not use them then."""


class HealthState(StrEnum):
    """State of a card."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """State of a card, and why."""

    state: HealthState
    cause: str = ""


@runtime_checkable
class SupportsHealth(Protocol):
    """Capability ``health``."""

    def health(self) -> Health:
        """Returns the state; never blocks, from any thread."""

    def reset(self) -> None:
        """Brings a failed card back. Every handle and loaded program is dead afterwards."""


@runtime_checkable
class SupportsTelemetry(Protocol):
    """Capability ``telemetry``."""

    def telemetry(self) -> Mapping[str, OptionValue]:
        """Returns readings such as ``temperature_c`` and ``power_w``; never blocks."""


@runtime_checkable
class SupportsCancel(Protocol):
    """Capability ``cancel``, for a driver with queues."""

    def cancel(self, ticket: Ticket) -> None:
        """Asks for a batch to end early; it still completes, with `Cancelled` if it did."""


@runtime_checkable
class SupportsHostImport(Protocol):
    """Capability ``host-import``: host memory used in place as device memory."""

    def import_host(self, memory: memoryview) -> Handle:
        """Returns a handle on host memory, which outlives it; `free` ends the use."""


#: Methods that stand behind each capability, checked when a card is opened.
PROTOCOLS: Mapping[str, type] = {
    "queues": SupportsQueues,
    "peer-copy": SupportsPeerCopy,
    "map": SupportsMap,
    "health": SupportsHealth,
    "telemetry": SupportsTelemetry,
    "cancel": SupportsCancel,
    "host-import": SupportsHostImport,
}
