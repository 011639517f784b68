"""A reference model of the device API: bytes, order, poison and life, in a few plain rules.

It knows nothing of drivers, queues or threads. Work is pending until what it depends on is
over; then it succeeds, and its effect happens, or it fails, and poisons what it would have
written. What may only be observed when it is over (which of several errors came first) is kept
as a set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


class Fate(Enum):
    """What has become of work."""

    PENDING = auto()
    OK = auto()
    FAILED = auto()


@dataclass(eq=False)
class Gate:
    """A timeline that the host alone moves: from 0 to 1, or to failure."""

    fate: Fate = Fate.PENDING
    errors: frozenset[str] = frozenset()


@dataclass(eq=False)
class Store:
    """An allocation: its bytes, and its last writers as (first byte, end, work).

    A writer that failed stays, as poison, until its whole range is written again.
    """

    device: int
    data: bytearray
    writers: list[tuple[int, int, Work]] = field(default_factory=list)
    alive: bool = True

    def writers_of(self, start: int, end: int) -> list[Work]:
        """Returns the works that a reader of a range comes after."""
        return [work for a, b, work in self.writers if a < end and start < b]

    def note(self, start: int, end: int, work: Work) -> None:
        """Makes work the last writer of a range."""
        self.writers = [w for w in self.writers if w[0] < start or w[1] > end]
        self.writers.append((start, end, work))


Range = tuple[Store, int, int]


@dataclass(eq=False)
class Work:
    """One piece of submitted work.

    Attributes:
        label: For people.
        reads: Ranges that it reads.
        writes: Ranges that it defines.
        touches: Ranges that the SDK writes anew as they are, where the target's alignment
            demands it: what writes them must not overlap with this.
        effect: What it does to the bytes when it succeeds.
        after: What must have succeeded before: data, and explicit waits.
        behind: Work before it in its stream, which must be over.
        errors: The texts of which one must be told, if it failed.
    """

    label: str
    reads: Sequence[Range] = ()
    writes: Sequence[Range] = ()
    touches: Sequence[Range] = ()
    effect: Callable[[], None] = lambda: None
    after: list[Work | Gate] = field(default_factory=list)
    behind: list[Work] = field(default_factory=list)
    fate: Fate = Fate.PENDING
    errors: frozenset[str] = frozenset()

    def conflicts(self, other: Work) -> bool:
        """Says whether the two may not overlap: one writes what the other uses."""
        ours, theirs = (*self.writes, *self.touches), (*other.writes, *other.touches)
        return (
            _overlap(ours, theirs)
            or _overlap(self.writes, other.reads)
            or _overlap(self.reads, other.writes)
        )


def _overlap(ours: Sequence[Range], theirs: Sequence[Range]) -> bool:
    return any(s is t and a < d and c < b for s, a, b in ours for t, c, d in theirs)


class Model:
    """All work, and what has become of it."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.pending: list[Work] = []

    def submit(self, work: Work) -> None:
        """Takes work on: it comes after the last writers of what it reads."""
        for store, start, end in work.reads:
            work.after += store.writers_of(start, end)
        for store, start, end in work.touches:
            work.behind += store.writers_of(start, end)
        for store, start, end in work.writes:
            store.note(start, end, work)
        self.works.append(work)
        self.pending.append(work)
        self.settle()

    def settle(self) -> None:
        """Ends all work whose fate is decided, in the order of submission."""
        moved = True
        while moved:
            moved = False
            for work in tuple(self.pending):
                if self._decide(work):
                    self.pending.remove(work)
                    moved = True

    def _decide(self, work: Work) -> bool:
        failed = [one for one in work.after if one.fate is Fate.FAILED]
        if failed:
            work.fate = Fate.FAILED
            work.errors = frozenset[str]().union(*(one.errors for one in failed))
            return True
        if any(one.fate is Fate.PENDING for one in (*work.after, *work.behind)):
            return False
        work.fate = Fate.OK
        work.effect()
        return True

    def cancel(self, work: Work, text: str) -> None:
        """Fails work that is pending."""
        work.fate, work.errors = Fate.FAILED, frozenset({text})
        self.pending.remove(work)
        self.settle()

    def decide(self, gate: Gate, error: str = "") -> None:
        """Signals a gate, or fails it; only the first counts."""
        if gate.fate is Fate.PENDING:
            gate.fate = Fate.FAILED if error else Fate.OK
            gate.errors = frozenset({error} if error else ())
            self.settle()
