"""The report as data, by the published schema; everything that people look at is made from it.

Equal runs give equal data: durations are kept apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.case import Case, Level
from accelsdk_conformance.catalogue import short
from accelsdk_conformance.coverage import coverage
from accelsdk_conformance.report.derive import derived
from accelsdk_conformance.report.schema import violations
from accelsdk_conformance.result import Result
from accelsdk_conformance.run import Run

#: Version of the JSON report; readers refuse another major.
FORMAT = "2.0"


def as_json(found: Run) -> dict[str, Any]:
    """Returns the report of a run as data."""
    about = dict(found.about)
    claims = about.pop("claims", ())
    report = {
        "format": FORMAT,
        "suite": {"version": metadata.version("accelsdk"), **identity(found.cases.values())},
        "plugin": found.settings.plugin,
        "options": {key: str(value) for key, value in sorted(found.settings.options.items())},
        "seed": found.settings.seed,
        "level": str(found.level),
        "profiles": [str(profile) for profile in found.profiles],
        "partial": found.partial,
        "waivers": [
            {
                "id": waiver.pattern,
                "kind": "xfail" if waiver.expected else "waiver",
                "reason": waiver.reason,
                "link": waiver.link,
            }
            for waiver in found.waivers
        ],
        "backend": about,
        "environment": dict(found.environment),
        "coverage": whole_coverage(
            found.cases.values(), found.level, found.profiles, found.partial
        ),
        "results": [_result(found, result) for result in found.results],
    }
    return {**report, **derived(report, claims)}


def identity(cases: Iterable[Case]) -> dict[str, Any]:
    """Returns how many cases there are, and a digest of all that defines them, in any order."""
    lines = sorted(case.to_json() for case in cases)
    state = hashlib.sha256("\n".join(lines).encode())
    return {"cases": len(lines), "digest": state.hexdigest()}


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
        "error_over_bound": float(f"{min(result.ratio, 1e300):.6g}"),
        "digest": result.digest,
        "replay": found.settings.replay(*result.company or (result.id,)) if case else "",
        "replay_folder": f"replay/{result.folder}" if result.folder else "",
        "smallest_input": result.shrunk,
        "repeated": result.repeats,
        "masks": list(result.xor),
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


def whole_coverage(
    cases: Iterable[Case], level: str, profiles: Sequence[str], partial: bool
) -> dict[str, Any] | None:
    """Returns what a whole run leaves unexercised; of a part of the suite it would say nothing."""
    if partial or profiles or level == Level.SMOKE:
        return None
    rows = coverage([*cases], Level(level))
    return {
        "exercised": sum(len(row.counts) - len(row.holes) for row in rows),
        "taken": sum(len(row.counts) for row in rows),
        "holes": {row.op: [">".join(key) for key in row.holes] for row in rows if row.holes},
    }


def load(path: Path) -> dict[str, Any]:
    """Reads a report: a folder that ``--report`` wrote, or its report.json.

    Raises:
        NotFound: There is none.
        InvalidArgument: It is not a report, or of a version that this suite does not read.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(
            f"no report at {file}", remedy="give a folder that --report wrote, or its report.json"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{file} is not a report: {error}") from error
    return checked(data, str(file))


def checked(data: object, name: str) -> dict[str, Any]:
    """Returns what was read from a report if it is one.

    Raises:
        InvalidArgument: It is not, or of another major version.
    """
    if not isinstance(data, dict) or not isinstance(data.get("format"), str):
        raise InvalidArgument(f"{name} is not a conformance report")
    if data["format"].partition(".")[0] != FORMAT.partition(".")[0]:
        raise InvalidArgument(
            f"{name} has format {data['format']}, and this suite reads {FORMAT}",
            remedy="read it with the suite that wrote it, or run the suite again",
        )
    for place, text in violations(data):
        raise InvalidArgument(
            f"{name} is not a conformance report: {place} {text}",
            remedy="see accelsdk_conformance/report/schema.json",
        )
    return data
