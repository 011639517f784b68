"""A whole run: choose cases, drive the workers, apply the waivers, count, decide."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelsdk.errors import Unavailable
from accelsdk_conformance import waivers
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.journal import Journal, heading
from accelsdk_conformance.pool import Pace, Pool
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.selection import STANDARD, Selection
from accelsdk_conformance.settings import Settings, Study
from accelsdk_conformance.studies import studied
from accelsdk_conformance.waivers import Waiver

CONFORMANT, NON_CONFORMANT, COULD_NOT_RUN, USAGE = range(4)

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run found.

    Attributes:
        settings: How it was run.
        level: How much of the profiles.
        profiles: Which profiles; empty means all.
        cases: By id, in order.
        results: In the order of the cases; stale waivers last.
        about: What the plugin said of itself.
        environment: Versions and machine.
        partial: Whether cases were selected by hand, so that nothing can be claimed.
        shard: Which part of the cases was run, as ``i/n``; empty means all.
        stopped: Why it ended before all cases were run; empty if it did not.
        pace: How fast it was, for people; None if nothing had to be run.
        waivers: The known failures that the results were held against.
    """

    settings: Settings
    level: Level
    profiles: tuple[Profile, ...]
    cases: Mapping[str, Case]
    results: tuple[Result, ...]
    about: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    partial: bool = False
    waivers: tuple[Waiver, ...] = ()
    shard: str = ""
    stopped: str = ""
    pace: Pace | None = None

    @property
    def counts(self) -> Mapping[Status, int]:
        """How many results have each status."""
        return Counter(result.status for result in self.results)

    @property
    def tiers(self) -> Mapping[str, int]:
        """How many passed cases reached each tier at best."""
        return Counter(result.tier for result in self.results if result.tier)

    @property
    def exit_code(self) -> int:
        """0 conformant, 1 non-conformant, 2 could not run."""
        statuses = set(self.counts)
        if any(not status.conformant and status is not Status.ERROR for status in statuses):
            return NON_CONFORMANT
        if Status.ERROR in statuses or Status.PASSED not in statuses:
            return COULD_NOT_RUN
        return CONFORMANT


def environment() -> dict[str, str]:
    """Returns what a reader needs to run the same thing again."""
    names = ("accelsdk", "numpy", "ml_dtypes")
    versions = {name: metadata.version(name) for name in names}
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.machine()}",
        **versions,
    }


def run(
    settings: Settings,
    selection: Selection = STANDARD,
    *,
    waiver_file: Path | None = None,
    case_files: Sequence[Path] = (),
    cases: Sequence[Case] | None = None,
    journal: Path | None = None,
    resume: bool = False,
    study: Study | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Run:
    """Runs the suite, or a part of it, against one plugin.

    Args:
        settings: Plugin, options, device, seed, time limit, processes.
        selection: Which cases.
        waiver_file: Known failures.
        case_files: A vendor's own cases, besides the bundled ones.
        cases: Exactly these cases instead (replay).
        journal: Where each result is noted as it comes in.
        resume: Go on with the journal: what is in it is not run again.
        study: How failing cases are looked at again afterwards; None leaves them.
        progress: Called with each result as it comes in, or is found in the journal.

    Raises:
        Refused: The plugin could not be opened.
        NotFound: A pattern or an id matches no case, or there is no journal to go on with.
        InvalidArgument: The journal is of another run.
        Interrupted: The user stopped it.
    """
    known = waivers.read(waiver_file) if waiver_file else ()
    every = collect(case_files)
    chosen = selection.choose(every) if cases is None else list(cases)
    if not chosen:
        raise Unavailable("no case to run", remedy="see the cases with 'accelsdk conformance list'")
    run_cases = _Cases(settings, chosen, progress or (lambda result: None))
    run_cases.run(journal, resume)
    whole = {case.id for case in selection.whole(every)}
    judged = partial(waivers.can_be_stale, run={case.id for case in chosen}, whole=whole)
    results = waivers.apply(run_cases.ordered(), known, judged)
    results += waivers.unknown(known, {case.id for case in (*every, *chosen)})
    by_id = {case.id: case for case in chosen}
    if study is not None:
        # What follows the cases are stale entries: there is nothing to run again.
        own, stale = results[: len(chosen)], results[len(chosen) :]
        results = [*studied(settings, study, own, by_id), *stale]
    return Run(
        settings=settings,
        level=selection.level,
        profiles=selection.profiles,
        cases=by_id,
        results=tuple(results),
        about=run_cases.about,
        environment={**environment(), "cases_a_program": str(settings.together)},
        partial=selection.partial or cases is not None,
        waivers=tuple(w for w in known if any(map(w.matches, by_id))),
        shard="" if selection.shard is None else str(selection.shard),
        stopped=run_cases.stopped,
        pace=run_cases.pace,
    )


class Interrupted(Exception):
    """The user stopped a run; the journal, if there is one, holds what was done."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__(f"interrupted after {done} of {total} cases")
        self.done, self.total = done, total


class _Cases:
    """The cases of a run and what became of them."""

    def __init__(
        self, settings: Settings, cases: Sequence[Case], progress: Callable[[Result], None]
    ) -> None:
        self.settings, self.cases, self.progress = settings, cases, progress
        self.found: dict[str, Result] = {}
        self.about: Mapping[str, Any] = {}
        self.stopped = ""
        self.pace: Pace | None = None

    def run(self, path: Path | None, resume: bool) -> None:
        """Runs what is not in the journal."""
        if path is None:
            self._run(None)
            return
        head = heading(self.settings, self.cases, environment())
        with Journal(path, head, resume=resume) as journal:
            self.about = journal.about or {}
            for result in journal.results.values():
                self._keep(None, result)
            self._run(journal)

    def _run(self, journal: Journal | None) -> None:
        left = [case for case in self.cases if case.id not in self.found]
        if not left:
            return
        pool = Pool(
            self.settings,
            partial(self._keep, journal),
            journal.opened if journal is not None else lambda about: None,
        )
        try:
            pool.run(left)
        except KeyboardInterrupt:
            raise Interrupted(len(self.found), len(self.cases)) from None
        self.about, self.stopped, self.pace = pool.about, pool.stopped, pool.pace

    def _keep(self, journal: Journal | None, result: Result) -> None:
        self.found[result.id] = result
        if journal is not None:
            journal.keep(result)
        self.progress(result)

    def ordered(self) -> list[Result]:
        """Returns one result for each case, in their order."""
        lost = "no result: a defect of the suite"
        return [
            self.found.get(case.id) or Result(id=case.id, status=Status.ERROR, reason=lost)
            for case in self.cases
        ]
