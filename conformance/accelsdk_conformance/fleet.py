"""Fleet mode: random seeds over and over within a time, and digests that cards must share.

What a tolerance accepts may still be a wrong bit of a sick unit. Two cards of one model must
give the same bits for the same problems, so a run chains a digest over all outputs, in a fixed
order of problems. The prefixes of the chain are told at fixed counts: two cards are compared at
the largest count that both have reached, whatever time each was given (`fleet_compare`). A short
mark of each of the first cases tells which of them differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from accelsdk.backend.files import written
from accelsdk.errors import InvalidArgument
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.pool import Pool
from accelsdk_conformance.report.data import identity
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings

FORMAT = 2
STEP = 128  # cases between two digests that are told
MARK = 4  # hexadecimal digits that tell the outputs of one case from others
_MARKED = 1 << 17  # cases that are marked: half a megabyte
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Modules of generators whose problems use most of a card's arithmetic: they come first.
_FIRST = ("contraction", "integers", "mx", "conversion")


def seconds(text: str) -> float:
    """Reads a time: ``30s``, ``5m``, ``1h``, or a number of seconds.

    Raises:
        InvalidArgument: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise InvalidArgument(f"--time {text!r} is no time", remedy="write 30s, 5m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def rounds(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Yields rounds of cases without end: one of each op, formats and kind of data.

    Round r takes the r-th case of each kind, and adds r to its seed, so that a round meets
    every unit of a card and no round is like another. Of the device profile there is none.

    Args:
        cases: The suite, or what is selected of it.
    """
    kinds: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        if case.profile is not Profile.DEVICE and case.level is not Level.EXHAUSTIVE:
            kinds.setdefault(_kind(case), []).append(case)
    if not kinds:
        raise InvalidArgument(
            "none of the selected cases can be repeated with other seeds",
            remedy="select cases of a profile other than device",
        )
    number = 0
    while True:
        chosen = [kinds[kind][number % len(kinds[kind])] for kind in sorted(kinds)]
        yield [replace(c, id=f"{c.id}#{number}", seed=c.seed + number) for c in chosen]
        number += 1


def _kind(case: Case) -> tuple[object, ...]:
    module = case.generator.partition(".")[0]
    order = _FIRST.index(module) if module in _FIRST else len(_FIRST)
    return order, case.op, case.formats, case.generator


@dataclass
class Chain:
    """The digest over the outputs of all cases, in their order.

    Attributes:
        count: Cases whose outputs are in it.
        digest: Of them; 16 digits.
        prefixes: Digests at multiples of a fixed count.
        marks: Short digests of the first cases, one after the other.
    """

    count: int = 0
    digest: str = "0" * 16
    prefixes: dict[int, str] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Takes in the outputs of the next case, or that there were none."""
        told = result.digest or str(result.status)
        text = f"{self.digest} {result.id} {told}"
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        if self.count < _MARKED:
            self.marks.append(hashlib.sha256(told.encode()).hexdigest()[:MARK])
        self.count += 1
        if self.count % STEP == 0:
            self.prefixes[self.count] = self.digest


@dataclass
class Fleet:
    """What a run in fleet mode found.

    Attributes:
        settings: How it was run.
        selection: What of the suite.
        chain: Digests of the outputs.
        defects: Failing cases; their ids end in ``#`` and what is to be added to the seed.
        about: What the plugin said of itself.
        stopped: Why it ended before its time; empty if it did not.
        suite: Version of the suite, and the digest of the cases that were repeated.
    """

    settings: Settings
    selection: Selection = field(default_factory=Selection)
    chain: Chain = field(default_factory=Chain)
    defects: list[Result] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)
    stopped: str = ""
    suite: Mapping[str, Any] = field(default_factory=dict)
    _waiting: dict[str, Result] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _compared: int = 0

    @property
    def exit_code(self) -> int:
        """0 no defect, 1 a defect, 2 could not run."""
        if any(defect.status is not Status.ERROR for defect in self.defects):
            return 1
        return 2 if self.defects or not self._compared else 0

    def run(
        self, cases: Sequence[Case], duration: float, advance: Callable[[Result], None]
    ) -> None:
        """Runs rounds until the time is up, or the user stops it.

        Args:
            cases: What to choose from.
            duration: Seconds.
            advance: Called with each result.

        Raises:
            Refused: The plugin could not be opened.
        """
        endless = rounds(cases)
        self.suite = {"version": metadata.version("accelsdk"), **identity(cases)}

        def timed() -> Iterator[Case]:
            end = time.monotonic() + duration  # from when the first worker is ready
            for group in endless:
                for case in group:
                    if pool.stopped or time.monotonic() >= end:
                        return
                    self._order.append(case.id)
                    yield case

        def keep(result: Result) -> None:
            self._keep(result)
            advance(result)

        pool = Pool(self.settings, keep)
        try:
            pool.run(timed())
        except KeyboardInterrupt:
            self.stopped = "interrupted"
        self.about = pool.about
        self.stopped = pool.stopped or self.stopped

    def _keep(self, result: Result) -> None:
        self._waiting[result.id] = result
        # Workers answer in any order; the chain goes on as far as there is no gap.
        while self.chain.count < len(self._order):
            following = self._waiting.get(self._order[self.chain.count])
            if following is None or following.status is Status.NOT_RUN:
                return
            self.chain.add(self._waiting.pop(following.id))
            self._compared += following.status is Status.PASSED
            if not following.status.conformant:
                self.defects.append(following)

    def replay(self, result: Result) -> str:
        """Returns the command that runs one failing case again, alone."""
        name, _, added = result.id.rpartition("#")
        return replace(self.settings, seed=self.settings.seed + int(added)).replay(name)

    def as_json(self) -> dict[str, Any]:
        """Returns the run as data; nothing in it tells of time but how far it got."""
        return {
            "format": FORMAT,
            "plugin": self.settings.plugin,
            "options": {k: str(v) for k, v in sorted(self.settings.options.items())},
            "device": self.settings.device,
            "suite": dict(self.suite),
            "selection": self.selection.as_json(),
            "seed": self.settings.seed,
            "cases": self.chain.count,
            "digest": self.chain.digest,
            "prefixes": {str(count): digest for count, digest in self.chain.prefixes.items()},
            "marks": "".join(self.chain.marks),
            "stopped": self.stopped,
            "backend": {k: v for k, v in self.about.items() if k != "claims"},
            "defects": [
                {
                    "id": defect.id,
                    "status": str(defect.status),
                    "reason": defect.reason,
                    "repeated": defect.repeats,
                    "masks": list(defect.xor),
                    "digest": defect.digest,
                    "replay": self.replay(defect),
                }
                for defect in self.defects
            ],
        }

    def write(self, folder: Path) -> Path:
        """Writes fleet.json into a folder; returns its path."""
        path = folder / "fleet.json"
        text = json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n"
        with written(path) as file:
            file.write(text.encode())
        return path

    def lines(self) -> Iterator[str]:
        """Yields the report for a terminal."""
        shown = [2**n for n in range(7, 40) if 2**n in self.chain.prefixes]
        for count in shown:
            yield f"digest after {count:>7} cases: {self.chain.prefixes[count]}"
        if self.chain.count not in shown:
            yield f"digest after {self.chain.count:>7} cases: {self.chain.digest}"
        for defect in self.defects:
            yield f"{defect.status.upper()} {defect.id}: {defect.reason}"
            yield from (f"  {mask}" for mask in defect.xor)
            if defect.repeats:
                yield f"  {defect.repeats}"
            yield f"  replay: {self.replay(defect)}"
        if self.stopped:
            yield f"stopped: {self.stopped}"
        where = f"{self.settings.plugin}, device {self.settings.device}"
        word = {0: "no defect", 1: "DEFECT", 2: "COULD NOT RUN"}[self.exit_code]
        yield f"{where}: {word} ({len(self.defects)} of {self.chain.count} cases failed)"
