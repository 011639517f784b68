"""Devices and their memories: the client's handle on one card."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from accelsdk.backend.driver import Driver, MemoryStats
from accelsdk.backend.info import Capability, DeviceInfo, Options, OptionValue, Target
from accelsdk.backend.observer import Observer
from accelsdk.backend.optional import (
    Health,
    HealthState,
    SupportsCancel,
    SupportsHealth,
    SupportsTelemetry,
    Ticket,
)
from accelsdk.errors import (
    AccelError,
    DeadlineExceeded,
    DeviceFault,
)
from accelsdk.formats import Format, by_name, from_dtype
from accelsdk.graph.types import TensorType, type_of
from accelsdk.runtime import progress
from accelsdk.runtime.card import Card, lacking, refusal
from accelsdk.runtime.memory import Memory, Pool
from accelsdk.runtime.observation import Observers
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.queues import NativeQueues
from accelsdk.runtime.sync import Semaphore, Step, completed, settle
from accelsdk.runtime.work import Work, translate
from accelsdk.runtime.worker import Gate, SoftwareQueue

if TYPE_CHECKING:
    from accelsdk.runtime.buffer import Buffer
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.dlpack import Producer
    from accelsdk.runtime.stream import Stream

R = TypeVar("R")


class Device:
    """One card, as a client sees it. Opened on first use. Thread-safe.

    Attributes:
        client: Who owns it; it stays alive as long as this device is referred to.
        info: What the backend says of the card; constant.
        target: What programs for it are compiled for.
        memories: By kind; the first is the default.
        fault: Why the device has failed, until `reset`; else None.
    """

    def __init__(
        self,
        client: Client,
        info: DeviceInfo,
        target: Target,
        options: Options,
        observers: Sequence[Observer],
    ) -> None:
        self.client = client
        self.backend = client.backend
        self.info = info
        self.target = target
        self.pool = Pool(self, info.memories)
        self.memories: Mapping[str, Memory] = self.pool.memories
        self.default_memory = info.memories[0].kind
        self.fault: AccelError | None = None
        self.observers = Observers(info.id, observers)
        # Devices of one client and domain understand each other's tickets.
        self.ticket_domain: object = (
            self if info.ticket_domain is None else (id(client), info.ticket_domain)
        )
        #: Grows with anything that may put something in the way of a bound run.
        self.epoch = 0
        #: Grows with each reset; handles of an older generation are dead.
        self.generation = 0
        self.live: dict[Work, None] = {}
        self._options = options
        self._card: Card | None = None
        self._opening = threading.Lock()
        self._closed = False
        self._inherited = False
        self._default_stream: Stream | None = None

    def __repr__(self) -> str:
        return f"<Device {self.id}: {self.kind}>"

    # -- identity --------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Stable identity, unique within the backend."""
        return self.info.id

    @property
    def ordinal(self) -> int:
        """Position in the client's devices."""
        return self.info.ordinal

    @property
    def kind(self) -> str:
        """Product name."""
        return self.info.kind

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities; visible without opening the card."""
        return self.target.capabilities

    @property
    def attributes(self) -> Options:
        """Anything else that the backend says of the card; constant."""
        return self.info.attributes

    # -- the open card ---------------------------------------------------------------------

    @property
    def card(self) -> Card:
        """The open card; opens it.

        Raises:
            Unavailable: It is gone, or another process holds it.
            FailedPrecondition: The client is closed.
        """
        card = self._card
        if card is None:
            with self._opening:
                if self._closed:
                    raise refusal(self.id, inherited=self._inherited)
                if self._card is None:
                    self._card = Card(self.backend, self.info, self.target, self._options)
                    self.client.adopt(self._card)
                card = self._card
        return card

    @property
    def driver(self) -> Driver:
        """The plugin's driver of the open card."""
        return self.card.driver

    @property
    def gate(self) -> Gate:
        """How the driver may be called."""
        return self.card.gate

    @property
    def launcher(self) -> SoftwareQueue | NativeQueues:
        """What runs the card's work."""
        return self.card.launcher

    @property
    def usable(self) -> bool:
        """Whether driver calls make sense: open, and not failed."""
        return self._card is not None and self.fault is None and not self._closed

    def admit(self) -> None:
        """Raises if the device takes no work: it has failed, or is closed."""
        if self.fault is not None:
            raise DeviceFault(
                f"the device has failed: {self.fault.message}",
                device=self.id,
                backend=self.backend.info.name,
                remedy="call Device.reset(); other devices go on",
            ) from self.fault
        if self._closed:
            raise refusal(self.id, inherited=self._inherited)

    def call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 # hands on what the driver returns
        """Calls the driver as its threading allows, with its errors made ours."""
        with LOCK:
            self.admit()
        try:
            return self.gate.call(function, *args)
        except Exception as error:
            ours = self.note_error(error, what)
            if ours is error:
                raise
            raise ours from error

    def note_error(self, error: Exception, what: str) -> AccelError:
        """Returns what a driver raised as an error of ours; a fault latches the device."""
        ours = translate(error, self, what)
        if isinstance(ours, DeviceFault):
            settle(self.latch(ours))
        return ours

    # -- memory ----------------------------------------------------------------------------

    def empty(
        self,
        format: Format | str | TensorType,
        shape: Sequence[int] | None = None,
        *,
        memory: str | None = None,
    ) -> Buffer:
        """Allocates a buffer with undefined contents.

        Args:
            format: Number format (or its name), or a whole tensor type.
            shape: Extents, unless ``format`` is a tensor type.
            memory: Kind of memory; None takes the device's first.

        Raises:
            OutOfMemory: With the numbers, after caches were dropped.
            NotFound: The device has no such memory.
            InvalidArgument: An extent is negative or no integer.
        """
        from accelsdk.runtime.buffer import Buffer

        type = type_of(format, shape)
        return Buffer(self.pool.allocate(type.nbytes, memory), 0, type)

    def put(
        self,
        array: np.ndarray[Any, Any],
        *,
        format: Format | str | None = None,
        memory: str | None = None,
    ) -> Buffer:
        """Allocates a buffer and copies an array into it; blocks until it is there.

        Args:
            array: Contents; its dtype gives the format.
            format: Number format, where the dtype is ambiguous (``mxint8``).
            memory: Kind of memory; None takes the device's first.

        Raises:
            OutOfMemory: With the numbers.
        """
        array = np.asarray(array)
        row = by_name(format) if isinstance(format, str) else format or from_dtype(array.dtype)
        buffer = self.empty(TensorType(row, array.shape), memory=memory)
        buffer.copy_from_host(array)
        return buffer

    def from_dlpack(self, producer: Producer) -> Buffer:
        """Returns a buffer with the contents of anything that exports DLPack.

        Uses its memory in place where the target has ``host-import``; else copies it.

        Raises:
            InvalidArgument: Its memory is not on the CPU, or of no known format.
        """
        from accelsdk.runtime.dlpack import import_from

        return import_from(self, producer)

    def poisoned(self, type: TensorType, error: AccelError) -> Buffer:
        """Returns a buffer whose every use fails with ``error``, as failed work leaves it."""
        buffer = self.empty(type)
        with LOCK:
            self.epoch += 1
            buffer.storage.note_writer(0, buffer.storage.nbytes, completed(error))
        return buffer

    def memory_stats(self, memory: str | None = None) -> MemoryStats:
        """Returns the use of one memory, bytes.

        Args:
            memory: Its kind; None takes the device's first.
        """
        return self.pool.stats(memory or self.default_memory)

    def trim(self) -> None:
        """Drops what the SDK keeps on this device only for speed, and unreachable buffers."""
        self.pool.trim()

    # -- order -----------------------------------------------------------------------------

    def create_stream(self, *, ordered: bool = True) -> Stream:
        """Returns a new stream: a FIFO, or a bag of work without an order of its own."""
        from accelsdk.runtime.stream import Stream

        return Stream(self, ordered=ordered)

    def create_semaphore(self, initial: int = 0) -> Semaphore:
        """Returns a new timeline; it may be used with any device of the process."""
        return Semaphore(initial)

    @property
    def default_stream(self) -> Stream:
        """The ordered stream of everything that names no stream."""
        if self._default_stream is None:
            self._default_stream = self.create_stream()
        return self._default_stream

    def synchronize(self, timeout: float | None = None) -> None:
        """Blocks until all work submitted so far is over; its errors stay with its events.

        Raises:
            DeadlineExceeded: The time is over; the work goes on.
            DeviceFault: The device has failed.
        """
        self.drain(timeout)
        if self.fault is not None:
            with LOCK:
                self.admit()

    def drain(self, timeout: float | None) -> None:
        """Blocks until all work submitted so far is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with LOCK:
            events = [work.event for work in self.live]
        for event in events:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                event.wait(left)
            except DeadlineExceeded:
                if not event.done:
                    raise
            except AccelError:
                continue  # it is over, which is what was asked

    def _drain_what_moves(self) -> None:
        """Blocks until only such work is left as waits for a signal that nobody gave."""
        while True:
            with LOCK:
                moving = [work for work in self.live if not work.waits_for_the_host()]
            if not moving:
                return
            progress.wait(moving[0].event, None)

    # -- health ----------------------------------------------------------------------------

    def health(self) -> Health:
        """Returns the state of the card; never blocks."""
        if self.fault is not None:
            return Health(state=HealthState.FAILED, cause=str(self.fault))
        if Capability.HEALTH in self.capabilities and self._card is not None:
            driver: SupportsHealth = self._card.ability(Capability.HEALTH)
            return self._ask("health", driver.health)
        return Health(state=HealthState.OK)

    def telemetry(self) -> Mapping[str, OptionValue]:
        """Returns the card's readings; never blocks.

        Raises:
            Unimplemented: The target lacks ``telemetry``.
        """
        driver: SupportsTelemetry = self.card.ability(Capability.TELEMETRY)
        return self._ask("telemetry", driver.telemetry)

    def _ask(self, what: str, function: Callable[[], R]) -> R:
        """Calls the driver past its discipline, and past what `admit` refuses."""
        try:
            return function()
        except AccelError:
            raise
        except Exception as error:
            raise translate(error, self, what) from error

    def latch(self, error: DeviceFault) -> list[Step]:
        """Marks the device as failed; everything submitted to it fails with ``error``."""
        with LOCK:
            if self.fault is not None:
                return []
            self.fault = error
            self.epoch += 1
        return self._fail_all(error)

    def _fail_all(self, error: AccelError) -> list[Step]:
        with LOCK:
            works = list(self.live)
            launcher = self.launcher
            if isinstance(launcher, NativeQueues):
                for work in works:
                    launcher.forget(work)
        return [step for work in works for step in work.finish(error)]

    def reset(self) -> None:
        """Brings the card back. Work in flight fails; buffers and loaded programs are dead.

        Raises:
            DeviceFault: The card has not come back; it stays failed.
            FailedPrecondition: The client is closed.
        """
        if self._closed:
            raise refusal(self.id, inherited=self._inherited)
        error = DeviceFault("the device was reset", device=self.id, remedy="submit it again")
        card = self.card
        with LOCK:
            self.fault = self.fault or error
        settle(self._fail_all(error))
        card.launcher.stop()
        with LOCK:
            self.generation += 1
            self.epoch += 1
            self.pool.forget()
        if Capability.HEALTH in self.capabilities:
            driver: SupportsHealth = card.ability(Capability.HEALTH)
            self._ask("reset", partial(card.gate.call, driver.reset))
            card.renew_launcher()
        else:
            card.close()
            self._card = None
            card = self.card
        self.fault = None
        state = self.health()
        if state.state in (HealthState.FAILED, HealthState.LOST):
            fault = DeviceFault(f"the device did not come back: {state.cause}", device=self.id)
            self.fault = fault
            raise fault

    def cancel_ticket(self, ticket: Ticket) -> None:
        """Asks the card to end a running batch early, where it can."""
        if Capability.CANCEL in self.capabilities:
            driver: SupportsCancel = self.card.ability(Capability.CANCEL)
            driver.cancel(ticket)

    def require(self, capability: str) -> None:
        """Raises `Unimplemented` naming an optional ability that the target lacks."""
        if capability not in self.target.capabilities:
            raise lacking(capability, self.target, self.id)

    def close(self, timeout: float | None = None) -> None:
        """Drains and gives the card back; called by `Client.close`, which says how."""
        if self._card is None:
            self._closed = True
            return
        try:
            if timeout is None:
                self._drain_what_moves()
            else:
                self.drain(timeout)
        finally:
            self._closed = True
            self.epoch += 1
            settle(self._fail_all(refusal(self.id, inherited=self._inherited)))
            self._card.close()
            self.pool.tell()

    def disown(self) -> None:
        """Gives the device up in a forked child: the card is open in the parent process."""
        self._inherited = self._closed = True
        self.epoch += 1
        if self._card is not None:
            settle(self._fail_all(refusal(self.id, inherited=self._inherited)))
