"""What follows from the results of a run: counts, verdict, claims. A verifier computes it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accelsdk_conformance.case import Profile
from accelsdk_conformance.report.claims import judged_claims
from accelsdk_conformance.result import Status

CONFORMANT, NON_CONFORMANT, COULD_NOT_RUN = "conformant", "non-conformant", "could-not-run"


def derived(report: Mapping[str, Any], claims: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Returns the parts of a report that follow from its results and its settings.

    Args:
        report: As data; ``results``, ``plugin``, ``level``, ``profiles`` and ``partial`` are read.
        claims: (field, entry, value) of each, as the backend told them.
    """
    results = report["results"]
    counts = Counter(Status(result["status"]) for result in results)
    refuted = Counter(r["claim"] for r in results if r["claim"] and r["status"] == Status.FAILED)
    return {
        "verdict": verdict_of(counts),
        "headline": headline(
            report["plugin"], counts, report["level"], report["profiles"], report["partial"]
        ),
        "counts": {str(status): count for status, count in sorted(counts.items())},
        "tiers": dict(sorted(Counter(r["tier"] for r in results if r["tier"]).items())),
        "claims": judged_claims(claims, results),
        "refuted_claims": dict(sorted(refuted.items())),
    }


def verdict_of(counts: Iterable[Status]) -> str:
    """Returns the verdict on a run that has results of these statuses."""
    statuses = set(counts)
    if any(not status.conformant and status is not Status.ERROR for status in statuses):
        return NON_CONFORMANT
    if Status.ERROR in statuses or Status.PASSED not in statuses:
        return COULD_NOT_RUN
    return CONFORMANT


def headline(
    plugin: str,
    counts: Mapping[Status, int],
    level: str,
    profiles: Sequence[str],
    partial: bool,
) -> str:
    """Returns one line: what may be said of the plugin after a run."""
    counted = f"{counts.get(Status.PASSED, 0)} of {sum(counts.values())} cases passed"
    for status in (Status.UNSUPPORTED, Status.XFAIL, Status.WAIVED):
        counted += f", {counts[status]} {status}" if counts.get(status) else ""
    verdict = verdict_of(counts)
    if verdict == NON_CONFORMANT:
        return f"{plugin}: NON-CONFORMANT ({counted})"
    if verdict == COULD_NOT_RUN:
        return f"{plugin}: COULD NOT RUN ({counted})"
    if partial:
        return f"{plugin}: no failure in the selected cases ({counted}); a selection proves nothing"
    if level == "smoke":
        return f"{plugin}: no failure at level smoke, which is not sufficient ({counted})"
    named = ", ".join(profiles or [*Profile])
    return f"{plugin}: CONFORMANT to {named} ({counted})"
