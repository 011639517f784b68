"""A submission package: one zip file that proves a run of the suite to somebody else.

Files:
    MANIFEST.json: Version of the suite, and the SHA-256 of every other file.
    statement.toml: Who submits what, and of which run.
    report.json, timing.json: The run.
    report.html, junit.xml: Made from those two.
    cases.jsonl: The definition of every case that ran, one a line.
    replay/, failures/: The problems and definitions of failures that are excused.

Equal reports and statements give equal bytes: times of files are fixed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsdk.backend.files import written
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.files import as_text, read_timing
from accelsdk_conformance.report.html import render
from accelsdk_conformance.report.junit import as_junit
from accelsdk_conformance.submission.check import problems
from accelsdk_conformance.submission.kept import kept

#: Version of the package's layout.
FORMAT = "1.1"
MANIFEST = "MANIFEST.json"
_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Who submits what.

    Attributes:
        vendor: Of the product.
        product: Its name.
        version: Of the product.
        signer: Who answers for the statement.
    """

    vendor: str
    product: str
    version: str
    signer: str


def package(folder: Path, statement: Statement, every: Sequence[Case], target: Path) -> str:
    """Writes the package of a report and returns its SHA-256.

    Args:
        folder: That ``--report`` wrote.
        statement: Who submits what.
        every: All cases there are, a vendor's own among them.
        target: The zip file.

    Raises:
        InvalidArgument: A part of the statement is empty, or the report is none.
        FailedPrecondition: The report does not prove conformance, or files that it names are
            gone; the message says why.
    """
    for name in Statement.__slots__:
        text = getattr(statement, name)
        if not text.strip() or not text.isprintable():
            raise InvalidArgument(f"the statement's {name} is empty or has control characters")
    report = load(folder)
    ran = {result["id"] for result in report["results"]}
    wanted = select(
        every, profiles=[Profile(p) for p in report["profiles"]], level=Level(report["level"])
    )
    cases = [case for case in wanted if case.id in ran]
    found = [f"{where}: {what}" for where, what in problems(report, cases)]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise FailedPrecondition(
            f"{folder} proves nothing: {'; '.join(found[:_SHOWN])}{more}",
            remedy="package the report of a whole, conformant run at level standard or above",
        )
    timing = read_timing(folder)
    files = {
        "cases.jsonl": "".join(case.to_json() + "\n" for case in cases),
        "junit.xml": as_junit(report, timing),
        "report.html": render(report),
        "report.json": as_text(report),
        "statement.toml": statement_text(statement, report),
        "timing.json": json.dumps(timing, indent=1) + "\n",
    }
    data = {name: text.encode() for name, text in files.items()} | kept(folder, report)
    return write_zip(data, report, target)


def statement_text(statement: Statement, report: Mapping[str, Any]) -> str:
    """Returns the text of statement.toml."""
    lines = {
        "vendor": statement.vendor,
        "product": statement.product,
        "version": statement.version,
        "signer": statement.signer,
        **statement_facts(report),
    }
    # A JSON string is a TOML basic string.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def statement_facts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the statement repeats of the report."""
    return {
        "plugin": report["plugin"],
        "suite": report["suite"]["version"],
        "level": report["level"],
        "profiles": list(report["profiles"] or [*map(str, Profile)]),
        "cases": report["suite"]["cases"],
        "case_digest": report["suite"]["digest"],
        "claim": report["headline"],
    }


def write_zip(files: Mapping[str, bytes], report: Mapping[str, Any], target: Path) -> str:
    """Writes files and their manifest, and returns the SHA-256 of the zip file."""
    manifest = {
        "format": FORMAT,
        "suite": report["suite"]["version"],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    text = json.dumps(manifest, indent=1) + "\n"
    with written(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in [(MANIFEST, text.encode()), *sorted(files.items())]:
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return hashlib.sha256(target.read_bytes()).hexdigest()
