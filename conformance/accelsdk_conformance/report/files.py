"""Report files: JSON (schema.json), JUnit XML and HTML, each written whole or not at all."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from accelsdk.backend.files import written
from accelsdk.errors import InvalidArgument
from accelsdk_conformance.catalogue import short
from accelsdk_conformance.report.html import render
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import Run

#: Version of the JSON report; readers refuse another major.
FORMAT = "1.0"
_VERDICTS = {0: "conformant", 1: "non-conformant", 2: "could-not-run"}


def write_reports(found: Run, folder: Path) -> None:
    """Writes report.json, junit.xml, report.html, and a case file for each failure.

    Raises:
        InvalidArgument: The folder cannot be written.
        FailedPrecondition: The disk is full.
        NotFound: jinja2 is not installed (the HTML report needs it).
    """
    page = render(found)
    make_folder(folder)
    text = json.dumps(as_json(found), indent=1, sort_keys=True, allow_nan=False)
    _write(folder / "report.json", text + "\n")
    timing = {r.id: r.seconds for r in found.results}
    _write(folder / "timing.json", json.dumps(timing, indent=1) + "\n")
    _write(folder / "junit.xml", as_junit(found))
    _write(folder / "report.html", page)
    for result in found.results:
        case = found.cases.get(result.id)
        if case is not None and not result.status.conformant:
            make_folder(folder / "failures")
            name = result.id.replace("/", "__") + ".json"
            _write(folder / "failures" / name, case.to_json() + "\n")


def make_folder(folder: Path) -> None:
    """Makes the folder of a report, so that a bad name is known before the run.

    Raises:
        InvalidArgument: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InvalidArgument(
            f"cannot write a report to {str(folder)!r}",
            remedy="give --report a folder that can be written",
        )


def _write(path: Path, text: str) -> None:
    with written(path) as file:
        file.write(text.encode())


def schema() -> dict[str, Any]:
    """Returns the JSON schema of report.json."""
    text = (resources.files("accelsdk_conformance") / "report" / "schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def as_json(found: Run) -> dict[str, Any]:
    """Returns the report as data: equal runs give equal data, durations are not in it."""
    return {
        "format": FORMAT,
        "plugin": found.settings.plugin,
        "options": {key: str(value) for key, value in sorted(found.settings.options.items())},
        "seed": found.settings.seed,
        "level": str(found.level),
        "profiles": [str(profile) for profile in found.profiles],
        "partial": found.partial,
        "verdict": _VERDICTS[found.exit_code],
        "counts": {str(status): count for status, count in sorted(found.counts.items())},
        "tiers": dict(sorted(found.tiers.items())),
        "refuted_claims": dict(sorted(found.false_claims.items())),
        "backend": dict(found.about),
        "environment": dict(found.environment),
        "results": [_result(found, result) for result in found.results],
    }


def _result(found: Run, result: Result) -> dict[str, Any]:
    case = found.cases.get(result.id)
    return {
        "id": result.id,
        "profile": str(case.profile) if case else "",
        "op": case.op if case else "",
        "formats": [short(name) for name in case.formats] if case else [],
        "status": str(result.status),
        "tier": result.tier,
        "reason": result.reason,
        "claim": result.claim,
        "elements": result.elements,
        "wrong": result.wrong,
        "error_over_bound": round(min(result.ratio, 1e300), 6),
        "digest": result.digest,
        "replay": found.settings.replay(result.id) if case else "",
        "failures": [
            {
                "output": failure.output,
                "element": list(failure.element),
                "inputs": failure.inputs,
                "actual": failure.actual,
                "expected": failure.expected,
                "bound": failure.bound,
                "ulp": failure.ulp,
            }
            for failure in result.failures
        ],
    }


def as_junit(found: Run) -> str:
    """Returns the report as JUnit XML: one suite a profile."""
    root = ElementTree.Element("testsuites", name="accelsdk conformance")
    suites: dict[str, list[Result]] = {}
    for result in found.results:
        case = found.cases.get(result.id)
        suites.setdefault(str(case.profile) if case else "waivers", []).append(result)
    for name, results in suites.items():
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(results)),
            failures=str(sum(_is_failure(r) for r in results)),
            errors=str(sum(r.status is Status.ERROR for r in results)),
            skipped=str(sum(_is_skip(r) for r in results)),
        )
        for result in results:
            _junit_case(suite, found, result)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _is_failure(result: Result) -> bool:
    return not result.status.conformant and result.status is not Status.ERROR


def _is_skip(result: Result) -> bool:
    return result.status in (Status.UNSUPPORTED, Status.XFAIL, Status.WAIVED)


def _junit_case(suite: ElementTree.Element, found: Run, result: Result) -> None:
    case = found.cases.get(result.id)
    item = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"{case.profile}.{case.op}" if case else "waivers",
        name=result.id,
        time=f"{result.seconds:.6f}",
    )
    if result.status is Status.PASSED:
        return
    kind = "skipped" if _is_skip(result) else "failure" if _is_failure(result) else "error"
    note = ElementTree.SubElement(item, kind, message=f"{result.status}: {result.reason}")
    if kind != "skipped":
        lines = [
            f"element {list(f.element)} of output {f.output}: {f.inputs}; actual {f.actual}, "
            f"expected {f.expected}, bound {f.bound}, {f.ulp} ulp"
            for f in result.failures
        ]
        note.text = "\n".join([*lines, found.settings.replay(result.id)])
