"""Verifies a submission package: says what is wrong with it, and where."""

from __future__ import annotations

import hashlib
import json
import stat
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from accelsdk.errors import AccelError, InvalidArgument, NotFound
from accelsdk_conformance.case import Case
from accelsdk_conformance.report.data import checked
from accelsdk_conformance.report.html import render
from accelsdk_conformance.report.junit import as_junit
from accelsdk_conformance.submission.check import problems, version_problems
from accelsdk_conformance.submission.kept import is_kept, kept_problems
from accelsdk_conformance.submission.package import (
    FORMAT,
    MANIFEST,
    Statement,
    statement_facts,
)

_FILES = frozenset(
    ("cases.jsonl", "junit.xml", "report.html", "report.json", "statement.toml", "timing.json")
)
_MOST = 1 << 30  # bytes that a package may hold; a bomb holds more

Problems = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of a package.

    Attributes:
        problems: (where, what) of everything that is wrong; empty for a sound package.
        statement: What it states, as far as it could be read.
        digest: SHA-256 of the package.
    """

    problems: tuple[tuple[str, str], ...]
    statement: Mapping[str, Any]
    digest: str


class _Unreadable(Exception):
    """The package cannot be read further; the problem was told."""


def verify(path: Path) -> Verified:
    """Checks a package: hashes, versions, completeness, and every result against its case.

    Nothing is unpacked to disk. A package whose files were edited together with their hashes is
    found out where its parts contradict each other, the suite or the results; what a vendor
    made up as a whole can only be found by running the suite.

    Raises:
        NotFound: There is no such file.
        InvalidArgument: It is not a zip file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"no package {path}", remedy="check the path") from error
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}") from error
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InvalidArgument(f"{path} is not a package: {error}") from error
    statement: dict[str, Any] = {}
    with archive:
        found = tuple(_inspect(archive, statement))
    return Verified(found, statement, hashlib.sha256(data).hexdigest())


def _inspect(archive: zipfile.ZipFile, statement: dict[str, Any]) -> Problems:
    try:
        yield from _parts(archive, statement)
    except _Unreadable as reason:
        where, what = reason.args
        yield where, what


def _parts(archive: zipfile.ZipFile, statement: dict[str, Any]) -> Problems:
    yield from _entries(archive)
    manifest = _json(_read(archive, MANIFEST), MANIFEST)
    yield from _hashes(archive, manifest)
    report_data = _json(_read(archive, "report.json"), "report.json")
    try:
        report = checked(report_data, "report.json")
    except InvalidArgument as error:
        raise _Unreadable("report.json", str(error)) from error
    yield from version_problems(MANIFEST, str(manifest.get("suite")))
    statement |= _toml(_read(archive, "statement.toml"))
    yield from _statement(statement, report)
    cases = _cases(_read(archive, "cases.jsonl"))
    yield from problems(report, cases)
    names = [entry.filename for entry in archive.infolist()]
    yield from kept_problems(names, lambda name: _read(archive, name), report, cases)
    timing = _json(_read(archive, "timing.json"), "timing.json")
    if set(timing) - {result["id"] for result in report["results"]}:
        yield "timing.json", "has times of cases that are not in the report"
    elif not all(isinstance(seconds, int | float) for seconds in timing.values()):
        yield "timing.json", "has times that are no numbers"
    elif as_junit(report, timing).encode() != _read(archive, "junit.xml"):
        yield "junit.xml", "is not made from this report.json"
    if render(report).encode() != _read(archive, "report.html"):
        yield "report.html", "is not made from this report.json"


def _entries(archive: zipfile.ZipFile) -> Problems:
    """Checks the names and sizes of what is in the archive, before anything is read."""
    entries = archive.infolist()
    for name, count in Counter(entry.filename for entry in entries).items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
            yield name, "a path that leads out of the package"
        elif name not in _FILES and name != MANIFEST and not is_kept(name):
            yield name, "a file that no package has"
        if count > 1:
            yield name, f"is in the package {count} times"
    for entry in entries:
        if stat.S_ISLNK(entry.external_attr >> 16):
            yield entry.filename, "is a link"
        if entry.flag_bits & 1:
            raise _Unreadable(entry.filename, "is encrypted")
    if sum(entry.file_size for entry in entries) > _MOST:
        raise _Unreadable("the package", f"holds more than {_MOST >> 20} MiB")
    for name in sorted({*_FILES, MANIFEST} - {entry.filename for entry in entries}):
        yield name, "is missing"


def _hashes(archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> Problems:
    if str(manifest.get("format")).partition(".")[0] != FORMAT.partition(".")[0]:
        raise _Unreadable(
            MANIFEST, f"has format {manifest.get('format')}; this suite reads {FORMAT}"
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise _Unreadable(MANIFEST, "has no hashes")
    present = {entry.filename for entry in archive.infolist()} - {MANIFEST}
    for name in sorted(present - set(files)):
        yield name, "is not in the manifest"
    for name in sorted(set(files) - present):
        yield name, "is in the manifest, and not in the package"
    for name in sorted(present & set(files)):
        if hashlib.sha256(_read(archive, name)).hexdigest() != files[name]:
            yield name, "is not what was packaged: its SHA-256 differs from the manifest"


def _statement(statement: Mapping[str, Any], report: Mapping[str, Any]) -> Problems:
    for name in Statement.__slots__:
        if not isinstance(statement.get(name), str) or not statement[name].strip():
            yield "statement.toml", f"does not say the {name}"
    for name, value in statement_facts(report).items():
        if statement.get(name) != value:
            yield (
                "statement.toml",
                f"{name} is {statement.get(name)!r}, and in the report {value!r}",
            )


def _cases(data: bytes) -> list[Case]:
    try:
        return [Case.from_json(line) for line in data.decode().splitlines()]
    except (AccelError, UnicodeDecodeError) as error:
        raise _Unreadable("cases.jsonl", f"cannot be read: {error}") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise _Unreadable(name, "is missing") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _Unreadable(name, f"is damaged: {error}") from error


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _Unreadable(name, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _Unreadable(name, "is not an object")
    return found


def _toml(data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _Unreadable("statement.toml", f"is not TOML: {error}") from error
