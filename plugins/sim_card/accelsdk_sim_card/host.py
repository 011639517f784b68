"""One simulated host: its clock, its links, its cards, and the tickets of their work.

All cards of one option set in a process live on one host, so that they share time and links
and understand each other's tickets. `submit` only appends to an inbox; whoever waits drives
the clock, under one lock, and what was submitted meanwhile is taken in between two events.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from accelsdk.errors import AccelError, DeviceFault, Unavailable
from accelsdk_sim_card.card import Card
from accelsdk_sim_card.clock import Clock
from accelsdk_sim_card.fabric import Fabric
from accelsdk_sim_card.queueing import Batch
from accelsdk_sim_card.settings import Settings
from accelsdk_sim_card.trace import Trace

_TICKETS = itertools.count(1)
_STALL_PAUSE = 0.02  # real seconds between two looks at work that cannot progress


@dataclass(slots=True, eq=False)
class _Cancel:
    """A request to end a batch early, on its way through the inbox."""

    ticket: int


class Host:
    """Clock, links and cards of one option set.

    Attributes:
        settings: What it was made from.
        clock: Its virtual time.
        fabric: Its links.
        cards: All of them, opened or not.
        trace: Where events go, or None.
        lock: Held by the thread that drives the clock.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        profile = settings.profile
        links = {"uplink.down": profile.uplink_bandwidth, "uplink.up": profile.uplink_bandwidth}
        for ordinal in range(settings.count):
            links[f"card{ordinal}.down"] = profile.link_bandwidth
            links[f"card{ordinal}.up"] = profile.link_bandwidth
        self.fabric = Fabric(self.clock, links)
        self.trace = Trace() if settings.trace else None
        self.lock = threading.RLock()
        self.cards = tuple(Card(self, ordinal) for ordinal in range(settings.count))
        self._inbox: deque[Batch | _Cancel] = deque()
        self._outstanding: dict[int, Batch] = {}
        self._listeners: dict[int, list[Callable[[], None]]] = {}
        self._failed: dict[int, AccelError] = {}

    # -- tickets -------------------------------------------------------------------------

    def submit(self, batch: Batch) -> int:
        """Takes a batch; never blocks. Returns its ticket."""
        batch.ticket = next(_TICKETS)
        batch.submitted = self.clock.now
        self._inbox.append(batch)
        return batch.ticket

    def cancel(self, ticket: int) -> None:
        """Asks for a batch to end early; never blocks."""
        self._inbox.append(_Cancel(ticket))

    def take_in(self) -> None:
        """Moves what was submitted to the cards' queues. Under `lock`."""
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Batch):
                self._outstanding[item.ticket] = item
                item.card.enqueue(item)
            elif (batch := self._outstanding.get(item.ticket)) is not None:
                batch.cancelled = True
                batch.card.pump(batch.queue)

    def is_outstanding(self, ticket: int) -> bool:
        """Says whether a ticket's work has yet to complete."""
        return ticket in self._outstanding

    def failure(self, ticket: int) -> AccelError | None:
        """Returns why a completed ticket failed, or None."""
        return self._failed.get(ticket)

    def when_done(self, ticket: int, action: Callable[[], None]) -> None:
        """Calls ``action`` once an outstanding ticket has completed."""
        self._listeners.setdefault(ticket, []).append(action)

    def complete(self, batch: Batch) -> None:
        """Marks a batch complete and wakes the queues that wait for it."""
        del self._outstanding[batch.ticket]
        if batch.error is not None:
            self._failed[batch.ticket] = batch.error
        for action in self._listeners.pop(batch.ticket, ()):
            action()

    # -- driving -------------------------------------------------------------------------

    def drive(self, done: Callable[[], bool], deadline: int | None) -> bool:
        """Runs events until ``done()``; under `lock`.

        Args:
            done: Asked before every event.
            deadline: Virtual nanosecond at which to give up, or None.

        Returns:
            Whether ``done()`` holds; False also where nothing can make it true.
        """
        self.take_in()
        while not done():
            upcoming = self.clock.next
            if upcoming is None:
                break
            if deadline is not None and upcoming > deadline:
                break
            self.clock.step()
            if self._inbox:
                self.take_in()
        else:
            return True
        if deadline is not None:
            self.clock.advance(deadline)
        return False

    def run(self, batch: Batch) -> None:
        """Submits a batch and drives the clock to its end: the synchronous calls.

        Raises:
            AccelError: What the batch failed with.
        """
        with self.lock:
            self.submit(batch)
            self.take_in()
            step, clock = self.clock.step, self.clock
            while not batch.done and clock.next is not None:
                step()
                if self._inbox:
                    self.take_in()
            if not batch.done:
                error = DeviceFault(
                    "the card stopped responding: the watchdog found no progress",
                    device=batch.card.id,
                    remedy="reset the card",
                )
                batch.card.fail(error)
                raise error
        if batch.error is not None:
            raise batch.error

    def pause(self) -> None:
        """Lets other threads submit while outstanding work cannot progress."""
        threading.Event().wait(_STALL_PAUSE)


class Hosts:
    """The hosts of this process, one an option set, each alive while a card is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[Settings, tuple[Host, int]] = {}

    def acquire(self, settings: Settings) -> Host:
        """Returns the host of an option set; `release` ends the use."""
        with self._lock:
            host, users = self._hosts.get(settings) or (Host(settings), 0)
            self._hosts[settings] = (host, users + 1)
            return host

    def release(self, host: Host) -> bool:
        """Ends one use; returns whether it was the last.

        Raises:
            Unavailable: The host is gone already.
        """
        with self._lock:
            found, users = self._hosts.get(host.settings, (None, 0))
            if found is not host:
                raise Unavailable("the simulated host is closed", remedy="open the card again")
            if users == 1:
                del self._hosts[host.settings]
                return True
            self._hosts[host.settings] = (host, users - 1)
            return False


#: The one registry of this process.
HOSTS = Hosts()
