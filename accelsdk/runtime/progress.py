"""How a waiting client thread makes progress: it sleeps, or drives the devices that need it.

A device with native queues and ``on_wait`` progress advances only while somebody polls, so
whoever waits for an event polls those devices in the order of their first submission, which
keeps one client thread deterministic. All other devices have a thread of their own.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

#: Guards the states of all events, semaphores, storages and submitted work of the process.
#: It is held for a few instructions, never while a driver, a callback or a wait runs.
LOCK = threading.Lock()


class Driven(Protocol):
    """A device that advances only while it is polled."""

    def drive(self, timeout: float | None) -> bool:
        """Polls once; returns whether anything completed."""


class Waitable(Protocol):
    """What a thread can sleep on."""

    done: bool
    waiters: list[threading.Lock]


_driven: dict[Driven, None] = {}
_sleepers: set[threading.Lock] = set()
_generation = 0


def outstanding(device: Driven) -> None:
    """Notes that ``device`` has work that only polling completes; wakes the waiting."""
    global _generation
    with LOCK:
        _driven.setdefault(device)
        _generation += 1
        for sleeper in tuple(_sleepers):
            wake(sleeper)


def idle(device: Driven) -> None:
    """Notes that ``device`` has nothing outstanding. The caller holds `LOCK`."""
    _driven.pop(device, None)


def anything_to_drive() -> bool:
    """Says whether some device waits to be polled."""
    return bool(_driven)


def wait(target: Waitable, timeout: float | None) -> bool:
    """Blocks until ``target`` is done, driving what needs it; returns whether it is done.

    Args:
        target: What to wait for.
        timeout: Seconds; None waits without end.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while not target.done:
        seen = _generation
        remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if _drive(remaining):
            if deadline is not None and time.monotonic() >= deadline:
                break
            continue
        remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not _sleep(target, remaining, seen):
            break
    return target.done


def _drive(timeout: float | None) -> bool:
    return any(device.drive(timeout) for device in tuple(_driven))


def _sleep(target: Waitable, timeout: float | None, seen: int) -> bool:
    """Sleeps until the target is done or something new can be driven; False on time-out."""
    sleeper = threading.Lock()
    sleeper.acquire()
    with LOCK:
        if target.done or seen != _generation:
            return True
        target.waiters.append(sleeper)
        _sleepers.add(sleeper)
    try:
        return sleeper.acquire(timeout=-1 if timeout is None else min(timeout, 1e6))
    finally:
        with LOCK:
            _sleepers.discard(sleeper)
            if sleeper in target.waiters:
                target.waiters.remove(sleeper)


def forget() -> None:
    """Forgets who sleeps and what is driven: a forked child has neither."""
    _driven.clear()
    _sleepers.clear()


def wake(sleeper: threading.Lock) -> None:
    """Wakes one sleeper. The caller holds `LOCK`."""
    _sleepers.discard(sleeper)
    if sleeper.locked():
        sleeper.release()
