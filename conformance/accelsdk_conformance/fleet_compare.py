"""Two cards of one model against each other: what `fleet.json` of each says.

Equal problems on equal cards give equal bits. Where the digests part, one of the cards is sick,
even if both are within every bound; the marks of the cases tell which ones to look at.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument
from accelsdk_conformance.case import Case
from accelsdk_conformance.fleet import FORMAT, MARK, STEP, rounds
from accelsdk_conformance.report.data import identity
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings

NAME = "fleet.json"
_KEYS = ("plugin", "options", "device", "seed", "suite", "selection", "cases", "digest")


@dataclass(frozen=True, slots=True)
class Parting:
    """One case whose outputs are not the same on both cards.

    Attributes:
        number: Its place in the run, from 1.
        id: Of the case, with what is added to its seed after ``#``; empty if it is not known.
        told: What each card's own run said of it: status and reason, then each mask ``actual ^
            expected``, then whether it is persistent.
        replay: The command for each card that runs the case alone; empty if it is not known.
    """

    number: int
    id: str
    told: tuple[tuple[str, ...], tuple[str, ...]]
    replay: tuple[str, str]


@dataclass(frozen=True, slots=True)
class FleetComparison:
    """What two runs in fleet mode say of each other.

    Attributes:
        cards: What each card is called.
        compared: Cases that were compared: as many as both runs reached.
        agreed: Cases after which the digests were last the same.
        partings: The cases that differ, as far as they are marked, in order.
        defects: Failing cases of each run.
    """

    cards: tuple[str, str]
    compared: int
    agreed: int
    partings: tuple[Parting, ...]
    defects: tuple[int, int]

    @property
    def equal(self) -> bool:
        """Whether all that was compared has the same bits."""
        return self.agreed == self.compared

    @property
    def exit_code(self) -> int:
        """0: equal, and no defect in either; else 1."""
        return int(not self.equal or any(self.defects))

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison as data."""
        return {**asdict(self), "equal": self.equal}


def is_fleet(path: Path) -> bool:
    """Says whether a path is the file, or the folder, of a run in fleet mode."""
    if path.is_dir():
        return (path / NAME).is_file() and not (path / "report.json").is_file()
    try:
        return '"prefixes"' in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def load(path: Path) -> dict[str, Any]:
    """Reads fleet.json, or the one of a folder.

    Raises:
        InvalidArgument: It is none, or of another format.
    """
    file = path / NAME if path.is_dir() else path
    try:
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{file} is not the result of --time: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise InvalidArgument(
            f"{file} has format {found}; this suite reads {FORMAT}",
            remedy="run --time again with this suite, on both cards",
        )
    missing = [key for key in (*_KEYS, "prefixes", "marks", "defects") if key not in data]
    if missing:
        raise InvalidArgument(f"{file} is damaged: it has no {', '.join(missing)}")
    return data


def compare(
    before: Mapping[str, Any], after: Mapping[str, Any], every: Sequence[Case]
) -> FleetComparison:
    """Compares two runs in fleet mode.

    Args:
        before: One run, as `load` returns it.
        after: The other.
        every: All cases that there are; they give the marks their names.

    Raises:
        InvalidArgument: The runs had different problems, or nothing in common.
    """
    for key in ("plugin", "seed", "suite", "selection"):
        if before[key] != after[key]:
            raise InvalidArgument(
                f"the runs cannot be compared: {key} is {before[key]} and {after[key]}",
                remedy="run both with the same plugin, suite, selection and --seed",
            )
    chains = [_chain(run) for run in (before, after)]
    counts = sorted(chains[0].keys() & chains[1].keys())
    if not counts:
        raise InvalidArgument(
            f"the runs have no count in common: {before['cases']} and {after['cases']} cases",
            remedy=f"give both more --time: {STEP} cases are the least",
        )
    agreed = 0
    for count in counts:
        if chains[0][count] != chains[1][count]:
            break
        agreed = count
    partings = _partings(before, after, counts[-1], every) if agreed < counts[-1] else ()
    return FleetComparison(
        (_card(before), _card(after)),
        counts[-1],
        agreed,
        partings,
        (len(before["defects"]), len(after["defects"])),
    )


def _chain(run: Mapping[str, Any]) -> dict[int, str]:
    """Returns the digests by count, the last one among them."""
    found = {int(count): digest for count, digest in run["prefixes"].items()}
    return found | ({int(run["cases"]): run["digest"]} if run["cases"] else {})


def _card(run: Mapping[str, Any]) -> str:
    options = "".join(f" {key}={value}" for key, value in run["options"].items())
    name = run.get("backend", {}).get("device", "")
    return f"{run['plugin']}{options}, device {run['device']}" + (f" ({name})" if name else "")


def _partings(
    before: Mapping[str, Any], after: Mapping[str, Any], count: int, every: Sequence[Case]
) -> tuple[Parting, ...]:
    marks = [
        [run["marks"][i : i + MARK] for i in range(0, len(run["marks"]), MARK)][:count]
        for run in (before, after)
    ]
    places = [i for i, (one, other) in enumerate(zip(*marks, strict=False)) if one != other]
    if not places:
        return ()
    names = _names(before, every, places[-1] + 1)
    found = []
    for place in places:
        name = names[place] if names else ""
        told = (_told(before, name), _told(after, name))
        replay = (_replay(before, name), _replay(after, name))
        found.append(Parting(place + 1, name, told, replay))
    return tuple(found)


def _names(run: Mapping[str, Any], every: Sequence[Case], count: int) -> list[str]:
    """Returns the ids of the first cases of a run; none if this suite has other cases."""
    try:
        cases = Selection.from_json(run["selection"]).choose(every)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(f"the selection of a run cannot be read: {error}") from error
    known = identity(cases)
    if any(run["suite"].get(key) != value for key, value in known.items()):
        return []
    endless = itertools.chain.from_iterable(rounds(cases))
    return [case.id for case in itertools.islice(endless, count)]


def _told(run: Mapping[str, Any], name: str) -> tuple[str, ...]:
    for defect in run["defects"]:
        if name and defect["id"] == name:
            said = f"{defect['status']}: {defect['reason']}"
            return tuple(part for part in (said, *defect["masks"], defect["repeated"]) if part)
    return ("no defect by itself: within its bound",) if name else ()


def _replay(run: Mapping[str, Any], name: str) -> str:
    if not name:
        return ""
    case, _, added = name.rpartition("#")
    settings = Settings(
        plugin=run["plugin"],
        options=run["options"],
        device=run["device"],
        seed=run["seed"] + int(added),
    )
    return settings.replay(case)


def lines(found: FleetComparison, shown: int = 10) -> Iterator[str]:
    """Yields the comparison for a terminal.

    Args:
        found: What is told.
        shown: Differing cases that are told.
    """
    for number, card in enumerate(found.cards, 1):
        defects = found.defects[number - 1]
        yield f"card {number}: {card}, {defects or 'no'} {'defect' if defects == 1 else 'defects'}"
    if found.equal:
        yield f"equal: the same bits in all {found.compared} cases that both have run"
        return
    yield f"DIFFERENT: the digests agree after {found.agreed} cases, and not after {found.compared}"
    for parting in found.partings[:shown]:
        yield f"case {parting.number}{f': {parting.id}' if parting.id else ''}"
        for number in (0, 1):
            if parting.id:
                first, *rest = parting.told[number]
                yield f"  card {number + 1}: {first}"
                yield from (f"    {line}" for line in (*rest, f"replay: {parting.replay[number]}"))
    more = len(found.partings) - shown
    if more > 0:
        yield f"... and {more} more; --json lists all"
    if not found.partings:
        yield "the cases that differ are beyond those that are marked; give both the same --time"
    elif not found.partings[0].id:
        yield "this suite has other cases: their names are known to the suite that ran them"
