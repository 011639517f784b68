"""One piece of submitted work, the edges that order it, and how its failure travels.

Work is a list of driver commands, or a function of the SDK, with edges to the events that it
comes after. It is launched once every edge is satisfied: its event is complete, or (native
queues) the device itself will keep the order. Then it runs, and completes its own event,
which satisfies the edges of others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from accelsdk.backend.optional import Command, Completion, Engine, Ticket
from accelsdk.errors import AccelError, Cancelled, DeviceFault, Internal
from accelsdk.runtime.callbacks import CALLBACKS
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Event, Step, Timepoint, finish_event, settle

if TYPE_CHECKING:
    from accelsdk.runtime.cancel import CancelToken
    from accelsdk.runtime.device import Device
    from accelsdk.runtime.memory import Storage


class Edge(IntEnum):
    """What work needs of an event that it comes after."""

    DATA = 0  # that it succeeded; the device may keep the order by itself
    ORDER = 1  # that it is over, whether it failed or not
    HOST = 2  # that it succeeded and the host has seen it
    END = 3  # that it is over; if it failed, so does this, but only once all edges are


class State(IntEnum):
    """Life of a piece of work."""

    WAITING = 0
    LAUNCHED = 1
    RUNNING = 2  # on a thread of this process
    DONE = 3


#: Of work that only keeps an order: it has no times and reports nothing.
_OVER = Completion(ticket=0)

#: A range of an allocation: storage, first byte, end.
Range = tuple["Storage", int, int]


class Launcher(Protocol):
    """What runs work on one device: a software queue, or native queues."""

    native: bool

    def place(self, work: Work) -> int:
        """Returns the queue on which the work will run."""

    def launch(self, work: Work, after: Sequence[Ticket], inline: bool) -> list[Step]:
        """Starts work whose edges are satisfied; returns the steps that this sets free."""


class Lane(Protocol):
    """What a stream keeps for its order."""

    ordered: bool
    tail: Event | None
    since: list[Event]


class Work:
    """One piece of submitted work. Made and submitted within one call of the SDK.

    Args:
        device: Where it runs.
        label: For messages.
        commands: What the driver does, in order.
        body: Or a function of the SDK, which runs on a thread of the SDK; with neither, the
            work only keeps an order.
        foreign: Whether the function is the caller's, who may do what we do not know of.
        engine: Kind of queue that the commands want.
        reads: Ranges whose last writers it waits for.
        follows: Ranges whose last writers must be over, whether they failed or not.
        writes: Ranges that it defines, and poisons if it fails.
        retain: Storages that must live until completion, besides.
        part: Of a partitioned model, that this work does; errors name it.
    """

    __slots__ = (
        "body",
        "commands",
        "device",
        "edges",
        "engine",
        "event",
        "finished_hook",
        "follows",
        "foreign",
        "label",
        "part",
        "queue",
        "reads",
        "signals",
        "state",
        "storages",
        "ticket",
        "token",
        "verdict",
        "writes",
    )

    def __init__(
        self,
        device: Device,
        label: str,
        *,
        commands: Sequence[Command] = (),
        body: Callable[[], None] | None = None,
        foreign: bool = False,
        engine: Engine = Engine.COPY,
        reads: Sequence[Range] = (),
        follows: Sequence[Range] = (),
        writes: Sequence[Range] = (),
        retain: Iterable[Storage] = (),
        part: str = "",
    ) -> None:
        self.device = device
        self.label = label
        self.part = part
        self.commands = commands
        self.body = body
        self.foreign = foreign
        self.engine = engine
        self.reads = reads
        self.follows = follows
        self.writes = writes
        self.storages = {r[0] for r in (*reads, *writes)}.union(retain)
        self.event = Event(label)
        self.event.work = self
        self.edges: list[tuple[Event, Edge]] = []
        self.signals: tuple[Timepoint, ...] = ()
        self.token: CancelToken | None = None
        self.state = State.WAITING
        self.verdict: AccelError | None = None
        self.ticket: Ticket | None = None
        self.queue = -1
        self.finished_hook: Callable[[Completion], None] | None = None

    # -- submission ----------------------------------------------------------------------

    def submit(
        self,
        lane: Lane | None = None,
        *,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
        cancel: CancelToken | None = None,
        inline: bool = False,
    ) -> Event:
        """Hands the work over; from here on it completes, one way or another.

        Args:
            lane: The stream whose order it keeps.
            wait: What must have succeeded before.
            signal: What its completion signals, or fails.
            cancel: What may cancel it.
            inline: Whether the calling thread may run it, if nothing is in its way.

        Raises:
            DeviceFault: The device has failed and was not reset; nothing was submitted.
            FailedPrecondition: The device is closed, or memory that the work needs is gone or
                mapped; nothing was submitted.
            Cancelled: The token was cancelled before.
        """
        if cancel is not None:
            cancel.check()
        edges = [(event_of(point), Edge.DATA) for point in wait]
        self.signals = tuple(signal)
        self.queue = self.device.launcher.place(self) if self.commands else -1
        own, self.edges = self.edges, []
        with LOCK:
            self.device.admit()
            for storage in self.storages:
                storage.check()
            if not inline:
                self.device.epoch += 1
            for storage, start, end in self.reads:
                edges.extend((event, Edge.DATA) for event in storage.writers_of(start, end))
            for storage, start, end in self.follows:
                edges.extend((event, Edge.ORDER) for event in storage.writers_of(start, end))
            if lane is not None:
                if lane.tail is not None:
                    edges.append((lane.tail, Edge.ORDER))
                if lane.ordered:
                    lane.tail = self.event
                _note(lane, self.event)
            for storage, start, end in self.writes:
                storage.note_writer(start, end, self.event)
            for storage in self.storages:
                storage.works.add(self)
            self.device.live[self] = None
            self.watch((*own, *edges))
        for point in self.signals:
            point.semaphore.promise(point.value, self.event)
        if cancel is not None:
            self.token = cancel
            cancel.attach(self)
        settle(self.consider(inline))
        return self.event

    def watch(self, edges: Iterable[tuple[Event, Edge]]) -> None:
        """Adds edges, to work that waits; the caller holds the lock."""
        for event, edge in edges:
            self.edges.append((event, edge))
            if not event.done:
                event.dependents.append(self.consider)

    def consider(self, inline: bool = False) -> list[Step]:
        """Launches the work if nothing is in its way any more; else does nothing."""
        with LOCK:
            if self.state is not State.WAITING:
                return []
            ready, after = self._examine()
            if not ready and self.verdict is None:
                return []
            self.state = State.LAUNCHED
            if self.verdict is not None:
                self.event.residue = tuple(
                    e for e, edge in self.edges if edge is Edge.ORDER and not e.done
                )
        if self.verdict is not None:
            return self.finish(self.verdict)
        if self.commands:
            return self.device.launcher.launch(self, after, inline)
        return self._call_body(inline)

    def _call_body(self, inline: bool) -> list[Step]:
        body = self.body
        if body is None:
            return self.finish(None, _OVER)
        if self.foreign:
            CALLBACKS.post(lambda: settle(self.run(body)))
            return []
        if inline:
            return self.run(body)
        self.device.card.worker.post(lambda: self.run(body))
        return []

    def waits_for_the_host(self) -> bool:
        """Says whether only a signal from the host can set this work free. The lock is held."""
        stuck: dict[Work, bool] = {}
        path = [self]
        while path:
            work = path[-1]
            if work not in stuck:
                stuck[work] = work.state is State.WAITING and any(
                    not event.done and event.work is None for event, _ in work.edges
                )
                if work.state is State.WAITING:
                    others = [event.work for event, _ in work.edges]
                    path.extend(other for other in others if other and other not in stuck)
                    continue
            elif not stuck[work]:
                stuck[work] = any(
                    event.work is not None and stuck.get(event.work, False)
                    for event, _ in work.edges
                )
            path.pop()
        return stuck[self]

    def _examine(self) -> tuple[bool, list[Ticket]]:
        """Goes through the edges: whether all are satisfied, and the tickets to come after.

        A failed edge becomes the verdict.
        """
        self.verdict = self.verdict or self.device.fault
        ready = True
        ended, late = True, None
        after: list[Ticket] = []
        for event, edge in tuple(self.edges):
            if event.done:
                if edge is Edge.END:
                    late = late or event.failure
                elif edge is not Edge.ORDER and self.verdict is None:
                    self.verdict = event.failure
                elif edge is Edge.ORDER and event.residue:
                    left = [(e, Edge.ORDER) for e in event.residue if not e.done]
                    event.residue = tuple(e for e, _ in left)
                    self.watch(left)
                    ready = ready and not left
            elif (before := self._native_predecessor(event, edge)) is not None:
                if edge is Edge.DATA and before not in after:
                    after.append(before)
            else:
                ready = False
                ended = ended and edge is not Edge.END
        if ended and self.verdict is None:
            self.verdict = late
        return ready, after

    def _native_predecessor(self, event: Event, edge: Edge) -> Ticket | None:
        """Returns the ticket through which the device itself keeps the edge, if it does.

        A ticket given to ``after`` carries failure. So an edge that is only order relies on
        the queue, which starts its batches in order.
        """
        other = event.work
        if other is None or other.ticket is None or edge is Edge.HOST or not self.commands:
            return None
        if edge is Edge.ORDER:
            same = other.device is self.device and other.queue == self.queue
        else:
            same = other.device.ticket_domain == self.device.ticket_domain
        return other.ticket if same else None

    # -- completion ----------------------------------------------------------------------

    def finish(self, error: AccelError | None, completion: Completion | None = None) -> list[Step]:
        """Completes the work; the first call wins. Returns the steps that this sets free."""
        device = self.device
        with LOCK:
            if self.state is State.DONE:
                return []
            self.state = State.DONE
            device.live.pop(self, None)
            if error is not None:
                device.epoch += 1
                self._name_part(error)
            for storage in self.storages:
                storage.works.discard(self)
                storage.retire()
            if self.token is not None:
                self.token.detach(self)
            self.edges.clear()
        if completion is not None:
            self.event.started, self.event.finished = completion.started, completion.finished
            if error is None and self.finished_hook is not None:
                try:
                    self.finished_hook(completion)
                except Exception as wrong:  # nonsense from the driver must not hang its waiters
                    error = translate(wrong, device, self.label)
                    with LOCK:
                        device.epoch += 1
        device.pool.collect()
        if device.observers:
            device.observers.tell_commands(self.commands, self.label, error)
        steps = finish_event(self.event, error)
        for point in self.signals:
            steps.extend(point.semaphore.keep_promise(point.value, self.event))
        # The fault of another device only travels through here.
        if (
            isinstance(error, DeviceFault)
            and error.device == device.id
            and error.backend in (None, device.backend.info.name)
        ):
            steps.extend(device.latch(error))
        return steps

    def _name_part(self, error: AccelError) -> None:
        """Notes in an error that arose here, and did not come along an edge, where it arose."""
        came = error is self.verdict or any(event.failure is error for event, _ in self.edges)
        if self.part and not came:
            error.part = error.part or self.part

    def cancel(self) -> list[Step]:
        """Ends the work if it has not started; asks the device to, if it has."""
        with LOCK:
            state = self.state
            queued_here = state is State.LAUNCHED and not (
                self.commands and self.device.launcher.native
            )
            if state is State.WAITING or queued_here:
                self.verdict = Cancelled(
                    f"{self.label} was cancelled before it started", device=self.device.id
                )
        if state is State.WAITING:
            return self.consider()
        if queued_here:
            return self.finish(self.verdict)
        if self.state is State.LAUNCHED and self.ticket is not None:
            self.device.cancel_ticket(self.ticket)
        return []

    def run(self, action: Callable[[], Completion | None] | Callable[[], None]) -> list[Step]:
        """Runs ``action`` on this thread as the work's whole effect, and completes it."""
        with LOCK:
            if self.state is State.DONE:
                return []  # cancelled while it was queued
            self.state = State.RUNNING
        if self.device.fault is not None:
            return self.finish(self.device.fault)
        started = time.perf_counter_ns()
        try:
            completion = action()
        except Exception as error:
            return self.finish(translate(error, self.device, self.label))
        except BaseException:
            settle(self.finish(Cancelled(f"{self.label} was interrupted", device=self.device.id)))
            raise
        return self.finish(
            None,
            completion or Completion(ticket=0, started=started, finished=time.perf_counter_ns()),
        )


_MANY = 64


def _note(lane: Lane, event: Event) -> None:
    """Keeps what `Stream.record` answers for: what is not over yet, and the first failure."""
    if len(lane.since) >= _MANY:
        failed = [e for e in lane.since if e.failure is not None][:1]
        lane.since = failed + [e for e in lane.since if not e.done]
    lane.since.append(event)


def event_of(point: Timepoint | Event) -> Event:
    """Returns the event that stands for a point: of work that will signal it, if submitted."""
    if isinstance(point, Event):
        return point
    return point.semaphore.promised(point.value) or point.semaphore.event(point.value)


def translate(error: BaseException, device: Device, what: str) -> AccelError:
    """Returns a driver's exception as an error of ours; a foreign one is chained."""
    if isinstance(error, AccelError):
        error.device = error.device or device.id
        error.backend = error.backend or device.backend.info.name
        return error
    foreign = Internal(
        f"{what}: the driver raised {type(error).__name__}: {error}",
        backend=device.backend.info.name,
        device=device.id,
        remedy="report it to the vendor of the plugin",
    )
    foreign.__cause__ = error
    return foreign
