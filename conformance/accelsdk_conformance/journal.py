"""The journal of a run: each result as it comes in, so that an interrupted run can go on.

A text file of one JSON object a line, only ever appended to. The first line says what is run:
plugin, options, device, seed, and a digest over the definitions of all chosen cases. Then come
``{"about": ...}``, what the plugin said of itself, and one ``{"result": ...}`` for each case.
A process that dies while it writes leaves a torn last line, which a reader drops.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from accelsdk.errors import DataLoss, InvalidArgument, NotFound
from accelsdk_conformance.case import Case
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings

#: A line of a journal.
Head = dict[str, Any]

NAME = "journal.jsonl"
_FORMAT = 2
_SYNC = 1.0  # seconds between two flushes to the disk: what a power cut may cost


def heading(settings: Settings, cases: Iterable[Case], environment: Mapping[str, str]) -> Head:
    """Returns the first line of a journal as data: equal for runs that may share one."""
    digest = hashlib.sha256()
    count = 0
    for case in cases:
        digest.update(case.to_json().encode() + b"\n")
        count += 1
    return {
        "journal": _FORMAT,
        "plugin": settings.plugin,
        "options": {key: str(value) for key, value in sorted(settings.options.items())},
        "device": settings.device,
        "seed": settings.seed,
        "cases": count,
        "suite": digest.hexdigest(),
        "environment": dict(environment),
    }


class Journal:
    """Writes a journal, or goes on with one.

    Args:
        path: Of the file.
        head: See `heading`.
        resume: Go on with the file that is there, instead of beginning a new one.

    Raises:
        NotFound: There is no journal to go on with.
        InvalidArgument: It is the journal of another run, or cannot be written.
        DataLoss: It is corrupt before its last line.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        self.about: Mapping[str, Any] | None = None
        keep = self._read(head) if resume else 0
        try:
            self._file = path.open("r+b" if resume else "wb")
        except OSError as error:
            raise InvalidArgument(
                f"cannot write the journal {path}: {error.strerror}",
                remedy="give a file in a folder that can be written",
            ) from error
        self._file.truncate(keep)
        self._file.seek(keep)
        self._synced = time.monotonic()
        if not keep:
            self._write(head)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sync()
        self._file.close()

    def opened(self, about: Mapping[str, Any]) -> None:
        """Notes what the plugin says of itself.

        Raises:
            InvalidArgument: It was another version or device when the run began.
        """
        if self.about is None:
            self._write({"about": about})
        elif _plain(self.about) != _plain(about):
            raise InvalidArgument(
                f"the plugin or its device has changed since {self.path} was written: "
                + _differences(_plain(self.about), _plain(about)),
                remedy="run it from the beginning, without --resume",
            )
        self.about = about

    def keep(self, result: Result) -> None:
        """Notes a result."""
        self._write({"result": result.as_data()})

    def _write(self, item: Mapping[str, Any]) -> None:
        self._file.write((json.dumps(item, sort_keys=True) + "\n").encode())
        self._file.flush()  # survives the end of this process; the disk is told now and then
        if time.monotonic() - self._synced > _SYNC:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _read(self, head: Mapping[str, Any]) -> int:
        """Takes over what is there; returns where its last whole line ends."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"no journal {self.path} to go on with",
                remedy="run it without --resume first; --report DIR or --journal FILE writes one",
            ) from error
        except OSError as error:
            raise InvalidArgument(
                f"cannot read the journal {self.path}: {error.strerror}",
                remedy="give the journal of an interrupted run",
            ) from error
        end = data.rfind(b"\n") + 1
        lines = data[:end].splitlines()
        if not lines:
            return 0  # torn before anything was noted
        items = [_parse(line, number, self.path) for number, line in enumerate(lines, 1)]
        first = items[0]
        if first != _plain(head):
            raise InvalidArgument(
                f"{self.path} is the journal of another run: " + _differences(first, _plain(head)),
                remedy="give the options of that run again, or run without --resume",
            )
        for number, item in enumerate(items[1:], 2):
            try:
                self._take(item)
            except (KeyError, TypeError, ValueError) as error:
                raise _corrupt(number, self.path) from error
        return end

    def _take(self, item: Mapping[str, Any]) -> None:
        if "about" in item:
            self.about = item["about"]
            return
        result = Result.from_data(item["result"])
        # What never got its turn, or failed for a reason of the machine's, is tried again.
        if result.status not in (Status.NOT_RUN, Status.ERROR, Status.LOST):
            self.results[result.id] = result


def _parse(line: bytes, number: int, path: Path) -> Head:
    try:
        item: Head = json.loads(line)
    except ValueError as error:
        raise _corrupt(number, path) from error
    if not isinstance(item, dict):
        raise _corrupt(number, path)
    return item


def _corrupt(number: int, path: Path) -> DataLoss:
    return DataLoss(
        f"line {number} of the journal {path} makes no sense", remedy="run without --resume"
    )


def _plain(item: Mapping[str, Any]) -> Head:
    """Returns data as they look after a way through JSON."""
    found: Head = json.loads(json.dumps(dict(item)))
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    told = []
    for name in names:
        before, after = old.get(name), new.get(name)
        if name == "suite":
            told.append("the cases are others")
        elif isinstance(before, dict) and isinstance(after, dict):
            told.append(f"{name}: {_differences(before, after)}")
        else:
            told.append(f"{name} was {before!r} and is {after!r}")
    return "; ".join(told)
