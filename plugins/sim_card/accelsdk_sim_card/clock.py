"""Virtual time: one heap of events, ordered by (time, priority, id).

Nothing here reads a wall clock. Two events at one instant run by priority, then in the order
in which they were scheduled, so that a run is a function of its inputs (after SimPy's core).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

#: Runs before normal events of the same instant: something ends and frees a resource.
URGENT = 0
#: Everything else.
NORMAL = 1


class Clock:
    """The time of one simulated host, in whole nanoseconds.

    Attributes:
        now: Nanoseconds since the host was made.
    """

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: int, action: Callable[[], None], priority: int = NORMAL) -> None:
        """Runs ``action`` at ``time``, or now if that is past."""
        self._count += 1
        when = time if time > self.now else self.now
        heapq.heappush(self._heap, (when, priority, self._count, action))

    def after(self, delay: int, action: Callable[[], None], priority: int = NORMAL) -> None:
        """Runs ``action`` in ``delay`` nanoseconds."""
        self.at(self.now + delay, action, priority)

    @property
    def next(self) -> int | None:
        """Time of the next event, or None if nothing is scheduled."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Advances to the next event and runs it; there must be one."""
        self.now, _, _, action = heapq.heappop(self._heap)
        action()

    def advance(self, time: int) -> None:
        """Moves to ``time`` if nothing is scheduled before it."""
        if self.next is None or self.next > time:
            self.now = max(self.now, time)
