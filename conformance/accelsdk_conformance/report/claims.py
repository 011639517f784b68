"""What became of each claim of the datasheet: held, refuted, or never put to the test."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

#: A claim as results name it: ``casts[float32, bfloat16].rounding``.
_CLAIM = re.compile(r"(?P<field>\w+)(?:\[(?P<entry>[^\]]*)\])?(?:\.(?P<part>\w+))?")
_PASSED = "passed"
_BROKEN = ("failed", "xfail", "waived")
_SHOWN = 5  # refuting cases that a claim lists

#: Every field that a datasheet may hold, as reports order them.
FIELDS = (
    *("contractions", "integers", "casts", "quantize", "requantize", "mx"),
    *("functions", "reductions"),
)


def judged_claims(
    claims: Iterable[Sequence[str]], results: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the claims with their verdicts.

    Args:
        claims: (field, entry, value) of each, as the backend told them.
        results: Of the cases; each names the claim that it was held to. A case is held to the
            most specific entry that covers it, as `NumericsDatasheet` looks it up.
    """
    entries = [(field, entry, value) for field, entry, value in claims]
    held: dict[tuple[str, str], int] = defaultdict(int)
    refuted: dict[tuple[str, str], list[str]] = defaultdict(list)
    parts: dict[tuple[str, str], set[str]] = defaultdict(set)
    entry_named = cache(partial(entry_of, entries=entries))  # few claims, many results
    for result in results:
        if result["claim"] and result["status"] in (_PASSED, *_BROKEN):
            key = entry_named(result["claim"])
            if key is None:
                continue
            if result["status"] == _PASSED:
                held[key] += 1
            else:
                refuted[key].append(result["id"])
                parts[key] |= part_of(result["claim"])
    return [
        {
            "field": field,
            "entry": entry,
            "value": value,
            "verdict": "refuted"
            if refuted[field, entry]
            else "held"
            if held[field, entry]
            else "not exercised",
            "held_by": held[field, entry],
            "refuted_by": len(refuted[field, entry]),
            "false_parts": sorted(parts[field, entry]),
            "examples": refuted[field, entry][:_SHOWN],
        }
        for field, entry, value in entries
    ]


def entry_of(claim: str, entries: Iterable[Sequence[str]]) -> tuple[str, str] | None:
    """Returns (field, entry) of the datasheet's entry that a case's claim falls under."""
    match = _CLAIM.fullmatch(claim)
    if match is None:
        return None
    parts = _parts(match["entry"] or "")
    best: tuple[list[bool], tuple[str, str]] | None = None
    for field, entry, *_ in entries:
        pattern = _parts(entry)
        if field != match["field"] or len(pattern) != len(parts):
            continue
        if all(want in ("*", part) for want, part in zip(pattern, parts, strict=True)):
            stars = [want == "*" for want in pattern]
            if best is None or (sum(stars), stars) < (sum(best[0]), best[0]):
                best = (stars, (field, entry))
    return best[1] if best else None


def part_of(claim: str) -> set[str]:
    """Returns the part of its entry that a case's claim names, if it names one."""
    match = _CLAIM.fullmatch(claim)
    return {match["part"]} if match and match["part"] else set()


def _parts(entry: str) -> list[str]:
    return entry.split(", ") if entry else []
