"""Completion and order: events, timeline semaphores and timepoints.

All of them are host objects of the process; a driver never sees one. An event is complete
once and for all, with an error or without. A semaphore is a number that only grows, or has
failed. Waiting for a value before anyone has promised to signal it is legal.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from accelsdk.errors import AccelError, DeadlineExceeded, InvalidArgument
from accelsdk.runtime import progress
from accelsdk.runtime.callbacks import CALLBACKS
from accelsdk.runtime.progress import LOCK

if TYPE_CHECKING:
    from accelsdk.runtime.work import Work

#: A step that an event sets free; it returns the steps that it sets free in turn, so that a
#: long chain is walked in a loop and not by recursion.
Step = Callable[[], "list[Step]"]


def settle(steps: Iterable[Step]) -> None:
    """Takes steps, and those that they set free, until none is left."""
    pending = deque(steps)
    while pending:
        pending.extend(pending.popleft()())


def again(error: AccelError) -> AccelError:
    """Returns an equal error, to be raised.

    What is raised collects the frames that it passes through, and keeps their buffers alive as
    long as it lives itself; the error of an event, a semaphore or a poisoned range lives long,
    and several threads may raise it at once.
    """
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.__cause__, fresh.__context__ = error.__cause__, error.__context__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh


class Event:
    """The completion of one piece of submitted work. Made by the SDK; thread-safe.

    Attributes:
        done: Whether it is complete, with an error or without.
        started: When the work started, nanoseconds on the device's clock (the host's
            monotonic clock where the driver has none); 0 if it did not run.
        finished: When it finished, on the same clock.
    """

    __slots__ = (
        "__weakref__",
        "callbacks",
        "dependents",
        "done",
        "failure",
        "finished",
        "label",
        "residue",
        "started",
        "waiters",
        "work",
    )

    def __init__(self, label: str = "work") -> None:
        self.label = label
        self.done = False
        self.failure: AccelError | None = None
        self.started = 0
        self.finished = 0
        self.waiters: list[threading.Lock] = []
        self.callbacks: list[Callable[[Event], object]] = []
        self.dependents: list[Step] = []
        # What work that never ran had to come after: whoever comes after it waits for that.
        self.residue: tuple[Event, ...] = ()
        self.work: Work | None = None

    def __repr__(self) -> str:
        state = "pending" if not self.done else f"failed: {self.failure}" if self.failure else "ok"
        return f"<Event {self.label}: {state}>"

    def is_ready(self) -> bool:
        """Returns whether the work is complete, with an error or without. Never blocks."""
        return self.done

    def error(self) -> AccelError | None:
        """Returns why the work failed, or None if it did not or is not complete yet."""
        return self.failure

    def wait(self, timeout: float | None = None) -> None:
        """Blocks until the work is complete.

        Args:
            timeout: Seconds; None waits without end.

        Raises:
            DeadlineExceeded: The time is over; the work goes on.
            AccelError: The work failed, with its error.
        """
        if not self.done and not progress.wait(self, timeout):
            raise DeadlineExceeded(
                f"{self.label} is not complete after {timeout:g} s",
                remedy="the work goes on: wait again, or cancel it",
            )
        if self.failure is not None:
            raise again(self.failure)

    def add_done_callback(self, function: Callable[[Event], object]) -> None:
        """Calls ``function(event)`` on an SDK thread once the work is complete.

        Runs with no lock held, soon if the event is complete already. It must not block or
        wait; an exception that it raises is logged. The event need not be kept.
        """
        with LOCK:
            if not self.done:
                self.callbacks.append(function)
                return
        CALLBACKS.post(partial(function, self))

    def __await__(self) -> Generator[Any, None, None]:
        """Waits inside a running asyncio loop, without blocking it."""
        if not self.done:
            loop = asyncio.get_running_loop()
            if progress.anything_to_drive():  # somebody has to poll: a thread of the loop
                yield from loop.run_in_executor(None, self.wait).__await__()
                return
            future: asyncio.Future[None] = loop.create_future()
            self.add_done_callback(lambda _: _resolve_soon(loop, future))
            yield from future.__await__()
        self.wait(0)


def _resolve_soon(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile: nobody awaits any more
        loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def finish_event(event: Event, error: AccelError | None) -> list[Step]:
    """Completes an event and wakes whoever waits; returns the steps that this sets free.

    The first call wins; later ones do nothing.
    """
    with LOCK:
        if event.done:
            return []
        event.failure = error
        event.work = None
        event.done = True
        waiters, event.waiters = event.waiters, []
        callbacks, event.callbacks = event.callbacks, []
        dependents, event.dependents = event.dependents, []
        for waiter in waiters:
            progress.wake(waiter)
    for callback in callbacks:
        CALLBACKS.post(partial(callback, event))
    return dependents


def completed(error: AccelError | None = None, label: str = "work") -> Event:
    """Returns an event that is complete already."""
    event = Event(label)
    event.failure = error
    event.done = True
    return event


def join(events: Iterable[Event], label: str) -> Event:
    """Returns an event complete when all of ``events`` are, with the first error among them."""
    parts = list(dict.fromkeys(events))
    pending = [event for event in parts if not event.done]
    failed = [event.failure for event in parts if event.done and event.failure]
    if not pending:
        return completed(failed[0] if failed else None, label)
    if len(parts) == 1:
        return parts[0]
    whole = Event(label)

    def part_done() -> list[Step]:
        if not all(part.done for part in parts):
            return []
        errors = [part.failure for part in parts if part.failure is not None]
        return finish_event(whole, errors[0] if errors else None)

    for event in pending:
        when_done(event, part_done)
    settle(part_done())  # for those that became complete meanwhile
    return whole


def when_done(event: Event, step: Step) -> None:
    """Has ``step`` taken when ``event`` becomes complete; not if it is so already."""
    with LOCK:
        if not event.done:
            event.dependents.append(step)


@dataclass(frozen=True, slots=True)
class Timepoint:
    """A semaphore at a value: what work waits for, or signals when it is complete."""

    semaphore: Semaphore
    value: int


class Semaphore:
    """A timeline: a value that only grows. Thread-safe; not bound to a device.

    Once failed it stays failed: every wait, also for values reached before, raises the first
    error.

    Args:
        initial: First value.
    """

    __slots__ = ("_failure", "_promises", "_value", "_waits")

    def __init__(self, initial: int = 0) -> None:
        if initial < 0:
            raise InvalidArgument(f"a semaphore starts at 0 or more, not {initial}")
        self._value = initial
        self._failure: AccelError | None = None
        self._waits: list[tuple[int, Event]] = []
        self._promises: list[tuple[int, Event]] = []

    def __repr__(self) -> str:
        return f"<Semaphore {self._failure or self._value}>"

    @property
    def value(self) -> int:
        """The value reached.

        Raises:
            AccelError: The semaphore has failed, with its first error.
        """
        if self._failure is not None:
            raise again(self._failure)
        return self._value

    def at(self, value: int) -> Timepoint:
        """Returns the point at which this semaphore reaches ``value``."""
        return Timepoint(self, value)

    def signal(self, value: int) -> None:
        """Raises the value from the host; a value not above the present one is ignored."""
        settle(self._reach(value, None))

    def fail(self, error: AccelError) -> None:
        """Fails the semaphore and everything that waits for it; the first error wins."""
        settle(self._reach(0, error))

    def wait(self, value: int, timeout: float | None = None) -> None:
        """Blocks until the value is at least ``value``.

        Args:
            value: What to wait for; may be promised only later.
            timeout: Seconds; None waits without end.

        Raises:
            DeadlineExceeded: The time is over.
            AccelError: The semaphore has failed, with its first error.
        """
        self.event(value).wait(timeout)

    def event(self, value: int) -> Event:
        """Returns an event complete when the semaphore reaches ``value`` or fails."""
        with LOCK:
            if self._failure is not None or value <= self._value:
                return completed(self._failure, f"semaphore at {value}")
            waiting = Event(f"semaphore at {value}")
            self._waits.append((value, waiting))
            return waiting

    def promised(self, value: int) -> Event | None:
        """Returns the completion of submitted work that will signal ``value`` or more."""
        with LOCK:
            if self._failure is not None or value <= self._value:
                return None
            promises = [p for p in self._promises if p[0] >= value]
            return min(promises, key=lambda promise: promise[0])[1] if promises else None

    def promise(self, value: int, event: Event) -> None:
        """Notes that the work behind ``event`` will signal ``value``."""
        with LOCK:
            self._promises.append((value, event))

    def keep_promise(self, value: int, event: Event) -> list[Step]:
        """Signals for work that is complete, or fails with it; returns the steps set free."""
        with LOCK:
            self._promises = [promise for promise in self._promises if promise[1] is not event]
        return self._reach(value, event.failure)

    def _reach(self, value: int, error: AccelError | None) -> list[Step]:
        with LOCK:
            if self._failure is None:
                self._failure = error
                self._value = max(self._value, value)
            reached = [
                event for v, event in self._waits if self._failure is not None or v <= self._value
            ]
            self._waits = [w for w in self._waits if w[1] not in reached]
        return [step for event in reached for step in finish_event(event, self._failure)]
