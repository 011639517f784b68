"""``accelsdk conformance``: the main job, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.pool import Refused
from accelsdk_conformance.report import terminal
from accelsdk_conformance.report.files import make_folder, write_reports
from accelsdk_conformance.report.html import require_jinja
from accelsdk_conformance.run import COULD_NOT_RUN, USAGE, Run, run
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.vendor import vendor_case_files

_USAGE_CODES = ("NOT_FOUND", "INVALID_ARGUMENT")


def command(
    context: typer.Context,
    plugin: Annotated[str, typer.Option(help="Backend to judge; see `accelsdk plugins`.")] = "",
    profile: Annotated[
        list[Profile] | None, typer.Option(help="Part of the suite; repeatable. Default: all.")
    ] = None,
    level: Annotated[
        Level, typer.Option(help="smoke takes seconds and is not sufficient.")
    ] = Level.STANDARD,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the plugin, name=value; repeatable.")
    ] = None,
    select_: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only ids that match; a glob or a part. Repeatable."),
    ] = None,
    replay: Annotated[
        str, typer.Option(help="Run one case: its id, or a case file of a report.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.html, report.json, junit.xml.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Added to every case's own seed.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one case may take.")] = 30.0,
    waivers: Annotated[
        Path | None, typer.Option(help="TOML file of known failures, with reason and link.")
    ] = None,
) -> int:
    """Check a plugin's arithmetic and behaviour against exact oracles.

    Exit codes: 0 conformant, 1 non-conformant, 2 could not run, 3 usage.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return 0
    profiles = profile or []
    files = vendor_case_files()
    if not plugin:
        raise InvalidArgument(
            "no plugin is named", remedy="give --plugin NAME; 'accelsdk plugins' lists them"
        )
    if report is not None:
        require_jinja()
        make_folder(report)
    settings = Settings(
        plugin=plugin, options=_options(option or []), seed=seed, timeout=timeout, jobs=jobs
    )
    cases = [_replayed(replay, files)] if replay else None
    total = (
        1
        if cases
        else len(select(collect(files), profiles=profiles, level=level, patterns=select_ or []))
    )
    try:
        with terminal.Progress(total) as progress:
            found = run(
                settings,
                profiles=profiles,
                level=level,
                patterns=select_ or [],
                waiver_file=waivers,
                case_files=files,
                cases=cases,
                progress=progress.advance,
            )
    except Refused as error:
        typer.echo(f"error: {error}", err=True)
        return USAGE if error.reason_code in _USAGE_CODES else COULD_NOT_RUN
    return _conclude(found, report)


def _refuse_options(context: typer.Context, sub_command: str) -> None:
    """Refuses options of the run that stand before a sub-command, which would not see them."""
    given = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise InvalidArgument(
            f"--{given[0].rstrip('_')} stands before {sub_command!r}, which does not see it",
            remedy=f"write accelsdk conformance {sub_command} --help to see its own options",
        )


def _conclude(found: Run, report: Path | None) -> int:
    terminal.summary(found)
    if report is not None:
        write_reports(found, report)
        typer.echo(f"report: {report / 'report.html'}")
    return found.exit_code


def _options(given: list[str]) -> dict[str, str]:
    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"--option {item!r}", remedy="write --option name=value")
        found[name] = value
    return found


def _replayed(wanted: str, files: list[Path]) -> Case:
    path = Path(wanted)
    if path.is_file():
        return Case.from_json(path.read_text("utf-8"))
    for case in collect(files):
        if case.id == wanted:
            return case
    raise NotFound(f"no case {wanted!r}", remedy="see the ids with 'accelsdk conformance list'")
