"""What the device has, and what the model has for it."""

from __future__ import annotations

from dataclasses import dataclass

from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.sync import Event
from accelsdk_conformance.scenarios.model import Range, Store, Work


@dataclass(eq=False)
class Place:
    """A buffer, and what the model has for it."""

    buffer: Buffer
    store: Store
    offset: int

    @property
    def range(self) -> Range:
        """All of it."""
        return self.part(0, self.buffer.nbytes)

    def part(self, start: int, nbytes: int) -> Range:
        """A range of it."""
        first = self.offset + start
        return (self.store, first, first + nbytes)


@dataclass(eq=False)
class Submitted:
    """Work in flight, and what the model has for it."""

    work: Work
    event: Event
    lane: tuple[int, int]
    out: bytearray | None = None
    wanted: bytearray | None = None
    token: CancelToken | None = None
    over: bool = False
