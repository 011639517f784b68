"""What broke, told by op and format: the first thing that a reader wants of a bad report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from accelsdk_conformance.result import Result
from accelsdk_conformance.run import Run


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


def broken_ops(found: Run) -> list[Broken]:
    """Returns the ops with broken cases, in the order of the suite."""
    total: Counter[tuple[str, str, str]] = Counter()
    bad: Counter[tuple[str, str, str]] = Counter()
    for result in found.results:
        case = found.cases.get(result.id)
        if case is not None:
            key = (str(case.profile), case.op, case.column)
            total[key] += 1
            bad[key] += not result.status.conformant
    formats: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for profile, op, column in total:
        if count := bad[profile, op, column]:
            entry = (column, count, total[profile, op, column])
            formats.setdefault((profile, op), []).append(entry)
    return [Broken(profile, op, tuple(rows)) for (profile, op), rows in formats.items()]


def representative_first(found: Run) -> list[Result]:
    """Returns the broken results, the first of each op and format before all others."""
    first: list[Result] = []
    rest: list[Result] = []
    seen = set()
    for result in found.results:
        if result.status.conformant:
            continue
        case = found.cases.get(result.id)
        key = (case.op, case.column) if case is not None else result.id
        (rest if key in seen else first).append(result)
        seen.add(key)
    return first + rest
