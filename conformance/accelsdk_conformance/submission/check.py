"""Whether a report is sound, and enough for a claim: what a package must hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.catalogue import bundled, short
from accelsdk_conformance.report.data import identity, whole_coverage
from accelsdk_conformance.report.derive import CONFORMANT, derived
from accelsdk_conformance.result import Status

Report = Mapping[str, Any]

#: Yields where something is wrong, and what.
Problems = Iterator[tuple[str, str]]


def problems(report: Report, cases: Sequence[Case]) -> Problems:
    """Yields everything that keeps a report from proving conformance.

    Args:
        report: By the schema.
        cases: That the run is said to have had, vendor cases among them.
    """
    yield from version_problems("report.json", report["suite"]["version"])
    yield from _whole(report, cases)
    yield from _results(report, cases)
    yield from _known(report)
    yield from _derived(report, cases)
    if report["verdict"] != CONFORMANT:
        yield "report.json", f"the verdict is {report['verdict']}: nothing can be claimed"


def version_problems(where: str, version: str) -> Problems:
    """Yields a problem if something was made by another version of the suite."""
    mine = metadata.version("accelsdk")
    if version != mine:
        yield where, f"made by suite {version}; this is {mine}: verify with that version"


def _whole(report: Report, cases: Sequence[Case]) -> Problems:
    if report["level"] == Level.SMOKE:
        yield "report.json", "level smoke is not sufficient for a claim"
    if report["partial"]:
        yield "report.json", "the run is partial: cases were selected, or a shard is missing"
    found = identity(cases)
    if found != {key: report["suite"][key] for key in found}:
        yield (
            "report.json",
            f"its digest is of {report['suite']['cases']} other cases than the "
            f"{found['cases']} listed",
        )
    given = {case.id: case for case in cases}
    for case in _demanded(report):
        if case.id not in given:
            yield "cases", f"{case.id} is missing, which this level and profile hold"
        elif given[case.id].to_json() != case.to_json():
            yield "cases", f"{case.id} is not defined as in the suite"
    wanted = set(report["profiles"] or [*Profile])
    for name, case in given.items():
        if case.profile not in wanted or not Level(report["level"]).holds(case.level):
            yield "cases", f"{name} is not of this level and these profiles"


def _demanded(report: Report) -> list[Case]:
    profiles = [Profile(name) for name in report["profiles"]]
    return select(bundled(), profiles=profiles, level=Level(report["level"]))


def _results(report: Report, cases: Sequence[Case]) -> Problems:
    """Checks each result against its case, and against itself."""
    given = {case.id: case for case in cases}
    seen = set()
    for result in report["results"]:
        name = result["id"]
        if name in seen:
            yield name, "two results"
        seen.add(name)
        case = given.get(name)
        if case is None:
            yield name, "a result of no case that is listed"
            continue
        filed = (case.profile, case.op, [short(fmt) for fmt in case.formats])
        if filed != (result["profile"], result["op"], result["formats"]):
            yield name, "filed under another profile, op or format than its case"
        if result["status"] == Status.PASSED:
            yield from _passed(result)
    for name in given:
        if name not in seen:
            yield name, "no result"


def _passed(result: Report) -> Problems:
    """Checks that a result which says passed has nothing in it that says otherwise."""
    name = result["id"]
    if result["wrong"] or result["failures"]:
        yield name, f"passed, with {result['wrong']} wrong elements"
    if not result["error_over_bound"] <= 1:
        yield name, f"passed, with an error of {result['error_over_bound']:g} times its bound"
    if not result["tier"]:
        yield name, "passed, and reached no tier"
    if result["reason"]:
        yield name, f"passed, with a reason: {result['reason']}"


def _known(report: Report) -> Problems:
    """Checks that every failure that is excused is excused by an entry with reason and link."""
    excuses = {
        (f"{waiver['reason']} ({waiver['link']})", waiver["kind"]) for waiver in report["waivers"]
    }
    for waiver in report["waivers"]:
        if not waiver["reason"].strip() or not waiver["link"].strip():
            yield waiver["id"], "a waiver without reason or link"
    kinds = {Status.XFAIL: "xfail", Status.WAIVED: "waiver"}
    for result in report["results"]:
        kind = kinds.get(Status(result["status"]))
        if kind and (result["reason"], kind) not in excuses:
            yield result["id"], f"{result['status']} by no entry of the waivers"


def _derived(report: Report, cases: Sequence[Case]) -> Problems:
    claims = [(claim["field"], claim["entry"], claim["value"]) for claim in report["claims"]]
    for key, value in derived(report, claims).items():
        if report[key] != value:
            yield "report.json", f"{key} is not what follows from the results"
    covered = whole_coverage(cases, report["level"], report["profiles"], report["partial"])
    if report["coverage"] != covered:
        yield "report.json", "coverage is not what follows from the cases"
