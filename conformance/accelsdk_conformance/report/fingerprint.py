"""The numerics fingerprint in a report: what ``accelsdk probe --json`` measured of the device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.catalogue import short
from accelsdk_conformance.probe.reading import Reading
from accelsdk_conformance.report.schema import violations

#: What a fingerprint and a report have in common if they are of one device.
_SAME = ("backend", "vendor", "version", "kind", "target", "options")
_READING = ("value", "least", "most", "reason", "note")

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured field of one subject."""

    css: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Survey:
    """The subjects of one kind.

    Attributes:
        kind: ``contraction``, ``integer``, ``cast``, ``requantize`` or ``mx``.
        fields: That at least one subject has a value of.
        rows: Name of the subject, its fields, and its nearest published units.
        unmeasured: (name, reason) of the subjects that could not be measured.
    """

    kind: str
    fields: list[str]
    rows: list[tuple[str, list[Mark], list[str]]]
    unmeasured: list[tuple[str, str]]


def read_fingerprint(path: Path, report: Report) -> dict[str, Any]:
    """Reads what ``accelsdk probe --json`` wrote, if it is of the report's device.

    Raises:
        NotFound: There is no such file.
        InvalidArgument: It is not a fingerprint, or one of another device or configuration.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no fingerprint {path}", remedy="accelsdk probe --json FILE") from error
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path} is not a fingerprint: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != 1 or "subjects" not in data:
        raise InvalidArgument(
            f"{path} is not a fingerprint of schema 1", remedy="accelsdk probe --json FILE"
        )
    about = data.get("plugin") or {}
    differing = [key for key in _SAME if about.get(key) != report["backend"].get(key)]
    if differing:
        raise InvalidArgument(
            f"{path} is of another device than the report: {', '.join(differing)} differ",
            remedy="probe with the plugin and the options of the run",
        )
    found = {"subjects": data["subjects"]}
    for place, text in violations(dict(report) | {"fingerprint": found}):
        raise InvalidArgument(f"{path} is not a fingerprint: {place} {text}")
    return found


def surveys(fingerprint: Report | None) -> list[Survey]:
    """Returns what to show of a fingerprint, one table a kind."""
    kinds: dict[str, list[Report]] = {}
    for subject in fingerprint["subjects"] if fingerprint else ():
        kinds.setdefault(subject["kind"], []).append(subject)
    return [_survey(kind, subjects) for kind, subjects in kinds.items()]


def _survey(kind: str, subjects: list[Report]) -> Survey:
    measured = [subject for subject in subjects if not subject["problem"]]
    marks = {id(s): {f["field"]: _mark(f) for f in s["fields"]} for s in measured}
    names = dict.fromkeys(name for found in marks.values() for name in found)
    fields = [
        name for name in names if any(m[name].css != "off" for m in marks.values() if name in m)
    ]
    nothing = Mark("off", "–", "not measured")
    return Survey(
        kind,
        fields,
        [
            (
                _name(subject),
                [marks[id(subject)].get(name, nothing) for name in fields],
                [_nearest(unit) for unit in subject["nearest"]],
            )
            for subject in measured
        ],
        [(_name(subject), subject["problem"]) for subject in subjects if subject["problem"]],
    )


def _mark(field: Report) -> Mark:
    reading = Reading(**{key: field[key] for key in _READING})
    if not reading.measured:
        return Mark("off", "–", reading.text(field["field"]))
    text = reading.text(field["field"]).replace("at least ", "≥ ").replace("at most ", "≤ ")
    declared = f"declared {field['declared']}: {field['verdict']}"
    title = "; ".join(filter(None, (declared, reading.note)))
    css = {"differs": "bad-cell", "agrees": "held"}.get(field["verdict"], "")
    return Mark(css, text, title)


def _name(subject: Report) -> str:
    *operands, result = [short(name) for name in subject["formats"]]
    return f"{subject['op']} {'×'.join(operands)} → {result}"


def _nearest(unit: Report) -> str:
    same = f"{unit['unit']}: {len(unit['same'])} fields alike"
    return same + (f", not {', '.join(unit['different'])}" if unit["different"] else "")
