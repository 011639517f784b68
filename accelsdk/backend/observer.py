"""Observers: a tracer, a leak checker or telemetry that watches what the SDK does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from accelsdk.errors import AccelError


class EventKind(StrEnum):
    """What happened on a device."""

    ALLOCATE = "allocate"
    FREE = "free"
    WRITE = "write"
    READ = "read"
    COPY = "copy"
    FILL = "fill"
    LOAD = "load"
    UNLOAD = "unload"
    EXECUTE = "execute"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """One thing that happened on a device.

    Attributes:
        kind: What.
        device: Identity of the device.
        nbytes: Bytes allocated, freed or moved; 0 where it means nothing.
        name: Program name for load, unload and execute.
        error: Why it failed, or None.
    """

    kind: EventKind
    device: str
    nbytes: int = 0
    name: str = ""
    error: AccelError | None = None


class Observer:
    """Base of observers; override `event`. With none installed, nothing is called."""

    def event(self, event: DeviceEvent) -> None:
        """Called after each event, on the thread that made it, with no lock held.

        Must not block or call the SDK. An exception is logged and the observer dropped.
        """
