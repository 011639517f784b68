"""Reports of shards into the report of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.report.data import identity, whole_coverage
from accelsdk_conformance.report.derive import derived

#: What the shards of one run have in common.
_COMMON = ("format", "plugin", "options", "seed", "level", "profiles", "backend", "environment")

Report = Mapping[str, Any]


def merge(reports: Sequence[tuple[Path | str, Report]], every: Sequence[Case]) -> dict[str, Any]:
    """Returns one report of all results; it is partial unless every case is among them.

    Args:
        reports: (name, report) of each shard.
        every: All cases there are, in the order of the suite.

    Raises:
        InvalidArgument: The shards are not of one run, or two hold the same case.
    """
    (first_name, first), *others = reports
    for name, report in others:
        _check_common(first_name, first, name, report)
    results: dict[str, Report] = {}
    origin: dict[str, Path | str] = {}
    stale: dict[str, Report] = {}
    for name, report in reports:
        for result in report["results"]:
            if not result["op"]:  # not of a case, but of a waiver that no case needed
                stale[result["id"]] = result
                continue
            if result["id"] in results:
                raise InvalidArgument(
                    f"{name} and {origin[result['id']]} both hold {result['id']}",
                    remedy="merge each shard once",
                )
            results[result["id"]] = result
            origin[result["id"]] = name
    level = Level(first["level"])
    wanted = select(every, profiles=[Profile(name) for name in first["profiles"]], level=level)
    known = {case.id: case for case in every}
    unknown = [name for name in results if name not in known]
    if unknown:
        raise InvalidArgument(
            f"{origin[unknown[0]]}: no case {unknown[0]!r} in this suite",
            remedy="merge with the suite, and the plugins, that ran it",
        )
    cases = [case for case in every if case.id in results]
    waivers = {waiver["id"]: waiver for _, report in reports for waiver in report["waivers"]}
    merged = {
        **{key: first[key] for key in _COMMON},
        "suite": {"version": first["suite"]["version"], **identity(cases)},
        "partial": any(case.id not in results for case in wanted),
        "waivers": [*waivers.values()],
        "results": [
            *(results[case.id] for case in cases),
            *_still_stale(stale, waivers, results.values()),
        ],
    }
    merged["coverage"] = whole_coverage(cases, level, first["profiles"], bool(merged["partial"]))
    claims = [(claim["field"], claim["entry"], claim["value"]) for claim in first["claims"]]
    return {**merged, **derived(merged, claims)}


def _check_common(first_name: Path | str, first: Report, name: Path | str, report: Report) -> None:
    differing = [key for key in _COMMON if first[key] != report[key]]
    if first["suite"]["version"] != report["suite"]["version"]:
        differing.append("suite version")
    if differing:
        raise InvalidArgument(
            f"{first_name} and {name} differ in {', '.join(differing)}: they are no shards of "
            "one run",
            remedy="run the shards with the same settings on the same kind of machine",
        )


def _still_stale(
    stale: Mapping[str, Report], waivers: Mapping[str, Report], results: Iterable[Report]
) -> list[Report]:
    """Returns the rows of waivers that no case of any shard needed."""
    used = {result["reason"] for result in results}
    return [
        row
        for pattern, row in stale.items()
        if pattern not in waivers
        or f"{waivers[pattern]['reason']} ({waivers[pattern]['link']})" not in used
    ]
