"""Two reports against each other: which cases changed, and which of them for the worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from accelsdk_conformance.problem import Tier
from accelsdk_conformance.result import Status

#: From the best to the worst thing that a case can become.
_STATUSES = (
    *(Status.PASSED, Status.UNSUPPORTED, Status.WAIVED, Status.XFAIL, Status.XPASS),
    *(Status.BELOW_PROFILE, Status.NOT_RUN, Status.ERROR, Status.FAILED),
    *(Status.HUNG, Status.CRASHED, Status.LOST),
)
_TIERS = [*Tier]
#: What makes two runs different questions: where one differs, outputs may differ rightly.
_SAME_DATA = ("suite version", "suite digest", "seed")


@dataclass(frozen=True, slots=True)
class Change:
    """One case that is not what it was.

    Attributes:
        id: Of the case.
        what: ``status``, ``tier``, ``error over bound``, ``digest`` or ``presence``.
        before: As text.
        after: As text.
        worse: Whether the second report is the worse one.
    """

    id: str
    what: str
    before: str
    after: str
    worse: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two reports differ in.

    Attributes:
        settings: (name, before, after) of what the runs were made with and differ in.
        changes: The cases, those for the worse first.
        cases: How many both reports hold.
        compared_data: Whether errors and digests were compared: both ran the same cases with
            the same seed.
    """

    settings: tuple[tuple[str, str, str], ...]
    changes: tuple[Change, ...]
    cases: int
    compared_data: bool

    @property
    def worse(self) -> int:
        """How many changes are for the worse."""
        return sum(change.worse for change in self.changes)

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison as data."""
        return {
            "settings": [
                {"name": name, "before": before, "after": after}
                for name, before, after in self.settings
            ],
            "cases": self.cases,
            "compared_data": self.compared_data,
            "worse": self.worse,
            "changes": [asdict(change) for change in self.changes],
        }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compares two reports case by case.

    A worse status, a looser tier, a larger error over its bound and a case that is gone are for
    the worse. Errors and digests are compared only if both runs had the same data. Another
    digest at the same status and tier is a change, and neither better nor worse.
    """
    settings = tuple(
        (name, one, other)
        for (name, one), other in zip(
            _settings(before).items(), _settings(after).values(), strict=True
        )
        if one != other
    )
    same_data = not any(name in _SAME_DATA for name, _, _ in settings)
    old = {result["id"]: result for result in before["results"]}
    new = {result["id"]: result for result in after["results"]}
    changes: list[Change] = []
    for name, result in old.items():
        if name not in new:
            changes.append(Change(name, "presence", result["status"], "no such case", True))
        else:
            changes += _changes(result, new[name], same_data)
    for name, result in new.items():
        if name not in old:
            worse = not Status(result["status"]).conformant
            changes.append(Change(name, "presence", "no such case", result["status"], worse))
    changes.sort(key=lambda change: not change.worse)  # stable: else in the order of the suite
    return Comparison(settings, tuple(changes), len(old.keys() & new.keys()), same_data)


def _settings(report: Mapping[str, Any]) -> dict[str, str]:
    backend = report["backend"]
    return {
        "plugin": report["plugin"],
        "options": " ".join(f"{k}={v}" for k, v in report["options"].items()),
        "suite version": report["suite"]["version"],
        "suite digest": report["suite"]["digest"][:16],
        "seed": str(report["seed"]),
        "level": report["level"],
        "profiles": ", ".join(report["profiles"]) or "all",
        "partial": str(report["partial"]),
        **{key: str(backend.get(key, "")) for key in ("version", "kind", "target", "device")},
        "environment": ", ".join(f"{k} {v}" for k, v in sorted(report["environment"].items())),
        "verdict": report["verdict"],
    }


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], same_data: bool) -> list[Change]:
    name = old["id"]
    if old["status"] != new["status"]:
        worse = _STATUSES.index(Status(new["status"])) > _STATUSES.index(Status(old["status"]))
        return [Change(name, "status", old["status"], new["status"], worse)]
    found = []
    if old["tier"] != new["tier"]:
        worse = _rank(new["tier"]) > _rank(old["tier"])
        found.append(Change(name, "tier", old["tier"] or "-", new["tier"] or "-", worse))
    if same_data:
        one, other = old["error_over_bound"], new["error_over_bound"]
        if one != other:
            found.append(
                Change(name, "error over bound", f"{one:.4g}", f"{other:.4g}", other > one)
            )
        if not found and old["digest"] != new["digest"]:
            found.append(Change(name, "digest", old["digest"], new["digest"], False))
    return found


def _rank(tier: str) -> int:
    return _TIERS.index(Tier(tier)) if tier else len(_TIERS)
