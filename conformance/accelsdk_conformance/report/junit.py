"""The report as JUnit XML, for CI: one suite a profile, one test a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from accelsdk_conformance.result import Status

_SKIPPED = (Status.UNSUPPORTED, Status.XFAIL, Status.WAIVED)
#: What XML 1.0 has no way to write, not even escaped (section 2.2, Char).
_CONTROL = (code for code in range(32) if code not in (9, 10, 13))
_FORBIDDEN = dict.fromkeys(
    (*_CONTROL, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}"
)


def as_junit(report: Mapping[str, Any], timing: Mapping[str, float]) -> str:
    """Returns the report as JUnit XML.

    Args:
        report: As data.
        timing: Seconds by case.
    """
    root = ElementTree.Element("testsuites", name=f"accelsdk conformance of {report['plugin']}")
    suites: dict[str, list[Mapping[str, Any]]] = {}
    for result in report["results"]:
        suites.setdefault(result["profile"] or "waivers", []).append(result)
    for name, results in suites.items():
        kinds = [_kind(Status(result["status"])) for result in results]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(results)),
            failures=str(kinds.count("failure")),
            errors=str(kinds.count("error")),
            skipped=str(kinds.count("skipped")),
            time=f"{sum(timing.get(result['id'], 0.0) for result in results):.6f}",
        )
        for result, kind in zip(results, kinds, strict=True):
            _case(suite, result, kind, timing.get(result["id"], 0.0))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _kind(status: Status) -> str:
    if status is Status.PASSED:
        return ""
    if status in _SKIPPED:
        return "skipped"
    return "error" if status is Status.ERROR else "failure"


def _case(suite: ElementTree.Element, result: Mapping[str, Any], kind: str, seconds: float) -> None:
    item = ElementTree.SubElement(
        suite,
        "testcase",
        classname=f"{result['profile']}.{result['op']}" if result["op"] else "waivers",
        name=result["id"],
        time=f"{seconds:.6f}",
    )
    if not kind:
        return
    message = f"{result['status']}: {result['reason']}".translate(_FORBIDDEN)
    note = ElementTree.SubElement(item, kind, message=message)
    if kind != "skipped":
        lines = [
            f"element {f['element']} of output {f['output']}: {f['inputs']}; actual "
            f"{f['actual']}, expected {f['expected']}, bound {f['bound']}, {f['ulp']} ulp"
            for f in result["failures"]
        ]
        note.text = "\n".join([*lines, result["replay"]]).translate(_FORBIDDEN)
