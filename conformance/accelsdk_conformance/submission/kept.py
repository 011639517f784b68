"""What a report keeps of failures that are excused: replay folders and definitions of cases.

A package holds them, so that whoever verifies it can run a known failure again.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accelsdk.errors import FailedPrecondition
from accelsdk_conformance.case import Case
from accelsdk_conformance.replay import FORMAT, folder_name
from accelsdk_conformance.result import Status

#: Files of one replay folder.
PARTS = ("README.txt", "actual.npz", "expected.npz", "operands.npz", "problem.json")
_NAME = re.compile(rf"replay/[^/]+/({'|'.join(map(re.escape, PARTS))})|failures/[^/]+\.json")
_MOST = 1 << 30  # bytes that the arrays of one file may unpack to
_EXCUSED = (Status.XFAIL, Status.WAIVED)

Report = Mapping[str, Any]
Problems = Iterator[tuple[str, str]]


def is_kept(name: str) -> bool:
    """Says whether a file of a package may have this name because a report keeps it."""
    return _NAME.fullmatch(name) is not None and ".." not in name.split("/")


def kept(folder: Path, report: Report) -> dict[str, bytes]:
    """Returns the files that a report keeps of its excused failures.

    Args:
        folder: Of the report.
        report: What it says.

    Raises:
        FailedPrecondition: A replay folder that it names is gone or not whole.
    """
    found: dict[str, bytes] = {}
    for name in sorted(name for names in _named(report).values() for name in names):
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            raise FailedPrecondition(
                f"{folder / name} cannot be read, and report.json names it: {error.strerror}",
                remedy="keep the folder that --report wrote together, or run the suite again",
            ) from error
    for result in report["results"]:
        case = _case_file(result["id"])
        if result["status"] in _EXCUSED and (folder / case).is_file():
            found[case] = (folder / case).read_bytes()
    return found


def _case_file(case_id: str) -> str:
    return f"failures/{folder_name(case_id)}.json"


def _named(report: Report) -> dict[str, list[str]]:
    """Returns the files of replay folders that results name, by id."""
    found = {}
    for result in report["results"]:
        names = [f"{result['replay_folder']}/{part}" for part in PARTS]
        if result["replay_folder"] and all(map(is_kept, names)):
            found[result["id"]] = names
    return found


def kept_problems(
    names: Sequence[str], read: Callable[[str], bytes], report: Report, cases: Sequence[Case]
) -> Problems:
    """Yields what is wrong with the kept files of a package.

    Args:
        names: All files of the package.
        read: Returns the bytes of one of them.
        report: Of the package.
        cases: That it lists.
    """
    known = {case.id: case for case in cases}
    wanted, present = _named(report), {name for name in names if is_kept(name)}
    owner = {name: case for case, files in wanted.items() for name in files}
    owner |= {_case_file(r["id"]): r["id"] for r in report["results"] if r["status"] in _EXCUSED}
    for result in report["results"]:
        if result["replay_folder"] and result["id"] not in wanted:
            yield result["id"], f"keeps its replay at {result['replay_folder']!r}, no such folder"
    for name in sorted(present - owner.keys()):
        yield name, "is of no failure that the report names"
    for name in sorted({name for files in wanted.values() for name in files} - present):
        yield name, "is missing"
    for name in sorted(present & owner.keys()):
        case = known.get(owner[name])
        if case is not None:
            yield from ((name, text) for text in _content(name, read(name), report, case))


def _content(name: str, data: bytes, report: Report, case: Case) -> Iterator[str]:
    if name.endswith(".npz"):
        yield from _arrays(data)
    elif name.startswith("failures/"):
        if data.decode("utf-8", "replace").strip() != case.to_json():
            yield f"is not the definition of {case.id}"
    elif name.endswith("problem.json"):
        yield from _problem(data, report, case)


def _problem(data: bytes, report: Report, case: Case) -> Iterator[str]:
    """Checks that a stored problem is one of this case and this run."""
    try:
        said = json.loads(data)
        found = {key: said[key] for key in ("format", "case", "plugin", "options", "seed")}
    except (ValueError, KeyError, TypeError) as error:
        yield f"is no stored problem: {error!r}"
        return
    due = {
        "format": FORMAT,
        "case": json.loads(case.to_json()),
        "plugin": report["plugin"],
        "options": report["options"],
        "seed": report["seed"],
    }
    for key, value in due.items():
        if found[key] != value:
            yield f"{key} is {found[key]!r}, and in the report {value!r}"


def _arrays(data: bytes) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST:
                yield f"holds more than {_MOST >> 20} MiB"
                return
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            for key in arrays.files:
                arrays[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        yield f"holds no arrays: {error}"
