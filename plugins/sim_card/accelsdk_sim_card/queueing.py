"""What a queue is made of: batches, and the engines that they stand in line for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accelsdk.backend.optional import Command, Engine, Profile, QueueInfo
from accelsdk.errors import AccelError
from accelsdk.graph.types import Shape

if TYPE_CHECKING:
    from accelsdk_sim_card.card import Card
    from accelsdk_sim_card.driver import SimDriver

#: The main queue takes whole requests (copy in, run, copy out); the others only copy.
QUEUES: tuple[QueueInfo, ...] = (
    QueueInfo(name="main", engines=frozenset({Engine.COMPUTE, Engine.COPY})),
    QueueInfo(name="copy0", engines=frozenset({Engine.COPY})),
    QueueInfo(name="copy1", engines=frozenset({Engine.COPY})),
)


@dataclass(slots=True, eq=False, kw_only=True)
class Batch:
    """Commands submitted together, and how far they got."""

    card: Card
    owner: SimDriver | None  # who polls for the completion; None for a synchronous call
    queue: int
    commands: Sequence[Command]
    after: Sequence[int] = ()
    ticket: int = 0
    submitted: int = 0
    started: int = 0
    index: int = 0
    running: bool = False
    cancelled: bool = False
    done: bool = False
    error: AccelError | None = None
    profile: Profile = ()
    shapes: tuple[Shape, ...] | None = None


class Engines:
    """Lanes of equal engines, given out in order of request."""

    def __init__(self, names: Sequence[str]) -> None:
        self._free = deque(names)
        self._waiting: deque[Callable[[str], None]] = deque()

    def acquire(self, then: Callable[[str], None]) -> None:
        """Calls ``then(lane)`` as soon as a lane is free."""
        if self._free:
            then(self._free.popleft())
        else:
            self._waiting.append(then)

    def release(self, lane: str) -> None:
        """Gives a lane to the next in line."""
        if self._waiting:
            self._waiting.popleft()(lane)
        else:
            self._free.appendleft(lane)


@dataclass(slots=True, eq=False)
class Queue:
    """Batches in order of submission; the first one may be running."""

    index: int
    batches: deque[Batch] = field(default_factory=deque)
