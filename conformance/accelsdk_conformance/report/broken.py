"""What broke, told by op and format: the first thing that a reader wants of a bad report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from accelsdk_conformance.result import Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """An op with broken cases.

    Attributes:
        profile: Part of the suite.
        op: The op, or the scenario of the device profile.
        formats: For each format, or pair of formats: its name, broken cases, all cases.
    """

    profile: str
    op: str
    formats: tuple[tuple[str, int, int], ...]


def broken_ops(results: Iterable[tuple[str, str, str, Status]]) -> list[Broken]:
    """Returns the ops with broken cases, in the order of the suite.

    Args:
        results: Profile, op, column of the matrix and status of each case.
    """
    total: Counter[tuple[str, str, str]] = Counter()
    bad: Counter[tuple[str, str, str]] = Counter()
    for profile, op, column, status in results:
        total[profile, op, column] += 1
        bad[profile, op, column] += not status.conformant
    formats: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for profile, op, column in total:
        if count := bad[profile, op, column]:
            entry = (column, count, total[profile, op, column])
            formats.setdefault((profile, op), []).append(entry)
    return [Broken(profile, op, tuple(rows)) for (profile, op), rows in formats.items()]


def representative_first(broken: Iterable[T], place: Callable[[T], Hashable]) -> list[T]:
    """Returns broken results, the first of each place (op and format) before all others."""
    first: list[T] = []
    rest: list[T] = []
    seen = set()
    for result in broken:
        key = place(result)
        (rest if key in seen else first).append(result)
        seen.add(key)
    return first + rest
