"""What a vendor brings and calls: case files through the hook, the suite in its own tests."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from accelsdk.backend.info import OptionValue
from accelsdk.errors import InvalidArgument
from accelsdk.registry import registry
from accelsdk_conformance.case import Level, Profile
from accelsdk_conformance.report.files import make_folder, write_reports
from accelsdk_conformance.report.html import require_jinja
from accelsdk_conformance.report.terminal import told, verdict
from accelsdk_conformance.run import CONFORMANT, Run, run
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings, Study
from accelsdk_conformance.together import usual_size

_SHRINKING = 400  # executions that shrinking one failure may take
_Choice = TypeVar("_Choice", bound=StrEnum)


def vendor_case_files() -> list[Path]:
    """Returns the case files of all healthy plugins, in the order of discovery."""
    return [Path(path) for path in registry().conformance_cases()]


def run_conformance(
    plugin: str,
    *,
    profiles: Sequence[str] = (),
    level: str = "standard",
    jobs: int = 2,
    together: int | None = None,
    waivers: Path | str | None = None,
    report: Path | str | None = None,
    **options: OptionValue,
) -> Run:
    """Runs the suite against a plugin and raises if it does not conform.

    For a vendor's own tests: ``run_conformance("acme", profiles=["fp8"])``. Cases that plugins
    bring through the hook ``accelsdk_conformance_cases`` are among those that run.

    Args:
        plugin: Name of the backend.
        profiles: Names of profiles; empty means all.
        level: ``smoke``, ``standard`` or ``exhaustive``.
        jobs: Worker processes.
        together: Cases that may share a program, at most; None is what is usual at the level.
        waivers: TOML file of known failures.
        report: Folder that a report is written to, whatever its verdict.
        **options: Options of the backend.

    Raises:
        AssertionError: The backend does not conform; the message begins with the verdict, and
            tells the first failure of each op and format with its replay command.
        InvalidArgument: There is no such profile or level, or the report cannot be written.
        NotFound: A report is wanted, and jinja2 is not installed.
        Refused: The plugin could not be opened.
    """
    chosen = tuple(_named(Profile, name) for name in profiles)
    selection = Selection(profiles=chosen, level=_named(Level, level))
    folder = Path(report) if report is not None else None
    if folder is not None:
        require_jinja()
        make_folder(folder)
    settings = Settings(
        plugin=plugin, options=options, jobs=jobs, together=together or usual_size(selection.level)
    )
    found = run(
        settings,
        selection,
        waiver_file=Path(waivers) if waivers is not None else None,
        case_files=vendor_case_files(),
        study=Study(budget=_SHRINKING, folder=str(folder.resolve() / "replay") if folder else ""),
    )
    if folder is not None:
        write_reports(found, folder)
    if found.exit_code != CONFORMANT:
        where = f"\nreport: {folder / 'report.html'}" if folder is not None else ""
        raise AssertionError(f"{verdict(found)}\n{told(found)}{where}")
    return found


def _named(kind: type[_Choice], name: str) -> _Choice:
    try:
        return kind(name)
    except ValueError:
        raise InvalidArgument(
            f"no {kind.__name__.lower()} {name!r}", remedy=f"one of {', '.join([*kind])}"
        ) from None
