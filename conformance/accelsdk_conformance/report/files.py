"""Report files: JSON (schema.json), JUnit XML and HTML, each written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelsdk.backend.files import written
from accelsdk.errors import InvalidArgument
from accelsdk_conformance.report.data import as_json
from accelsdk_conformance.report.html import render
from accelsdk_conformance.report.junit import as_junit
from accelsdk_conformance.result import Status
from accelsdk_conformance.run import Run


def write_reports(found: Run, folder: Path) -> None:
    """Writes report.json, timing.json, junit.xml, report.html, and a case file for each failure.

    Raises:
        InvalidArgument: The folder cannot be written.
        FailedPrecondition: The disk is full.
        NotFound: jinja2 is not installed (the HTML report needs it).
    """
    timing = {result.id: result.seconds for result in found.results}
    write_data(as_json(found), timing, folder)
    for result in found.results:
        case = found.cases.get(result.id)
        if case is not None and result.status not in (Status.PASSED, Status.UNSUPPORTED):
            make_folder(folder / "failures")
            name = result.id.replace("/", "__") + ".json"
            _write(folder / "failures" / name, case.to_json() + "\n")


def write_data(report: Mapping[str, Any], timing: Mapping[str, float], folder: Path) -> None:
    """Writes the files that are made from the data of a report.

    Raises:
        As `write_reports`.
    """
    page = render(report)
    make_folder(folder)
    _write(folder / "report.json", as_text(report))
    _write(folder / "timing.json", json.dumps(timing, indent=1) + "\n")
    _write(folder / "junit.xml", as_junit(report, timing))
    _write(folder / "report.html", page)


def as_text(report: Mapping[str, Any]) -> str:
    """Returns the text of report.json: one line for each entry, and for each row of a list."""
    # json.dumps with an indent walks every value in Python, which takes seconds for ten
    # thousand results; a line for each is as easy to read and to compare.
    lines = []
    for key in sorted(report):
        value = report[key]
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(map(_line, value)) + "\n]"
        else:
            text = _line(value)
        lines.append(f"{_line(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def read_timing(folder: Path) -> dict[str, float]:
    """Returns the seconds by case of a report's folder; none if it has no such file."""
    file = folder / "timing.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


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
