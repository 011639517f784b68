"""A whole run: choose cases, drive the workers, apply the waivers, count, decide."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelsdk.backend.info import OptionValue
from accelsdk.errors import Unavailable
from accelsdk_conformance import waivers
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.pool import Pool
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings
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

    @property
    def false_claims(self) -> Mapping[str, int]:
        """Fields of the datasheet that failures refute, and by how many cases."""
        return Counter(r.claim for r in self.results if r.claim and r.status is Status.FAILED)


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
    *,
    profiles: Sequence[Profile] = (),
    level: Level = Level.STANDARD,
    patterns: Sequence[str] = (),
    waiver_file: Path | None = None,
    case_files: Sequence[Path] = (),
    cases: Sequence[Case] | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Run:
    """Runs the suite, or a part of it, against one plugin.

    Args:
        settings: Plugin, options, seed, time limit, processes.
        profiles: Empty means all.
        level: How much of them.
        patterns: Ids to select; empty means all.
        waiver_file: Known failures.
        case_files: A vendor's own cases, besides the bundled ones.
        cases: Exactly these cases instead (replay).
        progress: Called with each result as it comes in.

    Raises:
        Refused: The plugin could not be opened.
        NotFound: A pattern matches no case.
    """
    known = waivers.read(waiver_file) if waiver_file else ()
    if cases is None:
        every = collect(case_files)
        chosen = select(every, profiles=profiles, level=level, patterns=patterns)
    else:
        chosen = list(cases)
    if not chosen:
        raise Unavailable("no case to run", remedy="see the cases with 'accelsdk conformance list'")
    found: dict[str, Result] = {}

    def keep(result: Result) -> None:
        found[result.id] = result
        if progress is not None:
            progress(result)

    pool = Pool(settings, keep)
    pool.run(chosen)
    lost = Result(id="", status=Status.ERROR, reason="no result: a defect of the suite")
    ordered = [
        found.get(case.id) or Result(id=case.id, status=lost.status, reason=lost.reason)
        for case in chosen
    ]
    partial = bool(patterns) or cases is not None
    applicable = [w for w in known if not partial or any(w.matches(c.id) for c in chosen)]
    return Run(
        settings=settings,
        level=level,
        profiles=tuple(profiles),
        cases={case.id: case for case in chosen},
        results=tuple(waivers.apply(ordered, applicable)),
        about=pool.about,
        environment=environment(),
        partial=partial,
        waivers=tuple(applicable),
    )


def run_conformance(
    plugin: str,
    *,
    profiles: Sequence[str] = (),
    level: str = "standard",
    jobs: int = 2,
    **options: OptionValue,
) -> Run:
    """Runs the suite against a plugin and raises if it does not conform.

    For a vendor's own tests: ``run_conformance("acme", profiles=["fp8"])``.

    Args:
        plugin: Name of the backend.
        profiles: Names of profiles; empty means all.
        level: ``smoke`` or ``standard``.
        jobs: Worker processes.
        **options: Options of the backend.

    Raises:
        AssertionError: The backend does not conform; the message lists the first failures
            with their replay commands.
        Refused: The plugin could not be opened.
    """
    settings = Settings(plugin=plugin, options=options, jobs=jobs)
    found = run(settings, profiles=[Profile(name) for name in profiles], level=Level(level))
    if found.exit_code != CONFORMANT:
        broken = [r for r in found.results if not r.status.conformant]
        lines = [f"{r.status} {r.id}: {r.reason}\n  {settings.replay(r.id)}" for r in broken[:10]]
        raise AssertionError(
            f"{plugin} does not conform: {len(broken)} of {len(found.results)} cases\n"
            + "\n".join(lines)
        )
    return found
