"""Known failures, each with a reason and a link, from a TOML file of the vendor's.

::

    [[xfail]]                      # it fails today; an unexpected pass is an error
    id = "fp8/Cast/fp32xe4m3/*"
    reason = "firmware 1.2 rounds to zero"
    link = "https://example.org/issues/7"

    [[waiver]]                     # it fails, and the publisher of the report accepts it
    id = "..."
    reason = "..."
    link = "..."

A pattern that matches no failing case of a run in which it could is stale, and fails the run:
a list that outlives its reasons hides new defects.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelsdk.errors import InvalidArgument
from accelsdk_conformance.result import Result, Status

_BROKEN = (Status.FAILED, Status.BELOW_PROFILE, Status.CRASHED, Status.HUNG)
_UNTOLD = (Status.NOT_RUN, Status.LOST, Status.ERROR)


@dataclass(frozen=True, slots=True)
class Waiver:
    """One entry of the file."""

    pattern: str
    reason: str
    link: str
    expected: bool  # xfail; else waiver

    def matches(self, case_id: str) -> bool:
        """Says whether the entry is about a case."""
        return fnmatch.fnmatchcase(case_id, self.pattern)


def read(path: Path) -> tuple[Waiver, ...]:
    """Reads a waiver file.

    Raises:
        InvalidArgument: It cannot be read, or an entry lacks id, reason or link.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(
            f"cannot read the waiver file {path}: {error}", remedy="see docs/conformance.md"
        ) from error
    found = []
    for kind in ("xfail", "waiver"):
        for entry in data.get(kind, []):
            if not all(str(entry.get(key, "")).strip() for key in ("id", "reason", "link")):
                raise InvalidArgument(
                    f"{path}: an entry of [[{kind}]] lacks id, reason or link: {entry}",
                    remedy="every known failure needs all three",
                )
            found.append(Waiver(entry["id"], entry["reason"], entry["link"], kind == "xfail"))
    return tuple(found)


def can_be_stale(waiver: Waiver, run: Collection[str], whole: Collection[str]) -> bool:
    """Says whether a run can tell that an entry is stale.

    A shard or a selection that holds some of the cases that an entry is about cannot: the
    failing one may be in another shard.

    Args:
        waiver: The entry.
        run: Ids that were run.
        whole: Ids of the run's profiles and level, with nothing selected of them.
    """
    about = {case_id for case_id in whole if waiver.matches(case_id)}
    return bool(about) and about.issubset(run)


def unknown(waivers: Sequence[Waiver], every: Collection[str]) -> list[Result]:
    """Returns a failed result for each entry that names no case of the suite at any level."""
    text = "stale: this entry of the waiver file names no case of the suite"
    return [
        Result(id=waiver.pattern, status=Status.FAILED, reason=text)
        for waiver in waivers
        if not any(map(waiver.matches, every))
    ]


def apply(
    results: Iterable[Result],
    waivers: Sequence[Waiver],
    judged: Callable[[Waiver], bool] = lambda waiver: True,
) -> list[Result]:
    """Returns the results with xfail, xpass and waived in place; see the module.

    A stale entry becomes one failed result that bears its pattern as id.

    Args:
        results: Of the run.
        waivers: Known failures.
        judged: Whether an entry that matches no failing result is stale.
    """
    found = list(results)
    for waiver in waivers:
        matching = [i for i, r in enumerate(found) if waiver.matches(r.id)]
        used = False
        for index in matching:
            result = found[index]
            if result.status in _BROKEN:
                used = True
                status = Status.XFAIL if waiver.expected else Status.WAIVED
                found[index] = result.having(status, f"{waiver.reason} ({waiver.link})")
            elif result.status in _UNTOLD:
                used = True  # it may fail as the entry says: nothing is known
            elif result.status is Status.PASSED and waiver.expected:
                used = True
                text = f"passed, but is listed as failing: {waiver.reason}"
                found[index] = result.having(Status.XPASS, text)
        if not used and judged(waiver):
            text = "stale: this entry of the waiver file matches no failing case"
            found.append(Result(id=waiver.pattern, status=Status.FAILED, reason=text))
    return found
