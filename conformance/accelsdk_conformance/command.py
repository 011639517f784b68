"""``accelsdk conformance``: the main job, from the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from accelsdk.cli.console import Options, Plugin, parse_options
from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.fleet import Fleet, seconds
from accelsdk_conformance.journal import NAME as JOURNAL
from accelsdk_conformance.pool import Refused
from accelsdk_conformance.replay import case_of
from accelsdk_conformance.report import terminal
from accelsdk_conformance.report.files import make_folder, write_reports
from accelsdk_conformance.report.html import require_jinja
from accelsdk_conformance.run import COULD_NOT_RUN, USAGE, Interrupted, Run, run
from accelsdk_conformance.selection import Selection, Shard, read_ids
from accelsdk_conformance.settings import Settings, Study, quoted
from accelsdk_conformance.together import usual_size
from accelsdk_conformance.vendor import vendor_case_files

INTERRUPTED = 130  # as a shell tells an interrupt
_USAGE_CODES = ("NOT_FOUND", "INVALID_ARGUMENT")

_CHOOSING, _RUNNING, _AFTER = "Choosing cases", "Running", "Results"


def command(
    context: typer.Context,
    plugin: Plugin = "",
    option: Options = None,
    device: Annotated[int, typer.Option(min=0, help="Which of the plugin's devices.")] = 0,
    profile: Annotated[
        list[Profile] | None,
        typer.Option(
            help="Part of the suite; repeatable. Default: all.", rich_help_panel=_CHOOSING
        ),
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            help="smoke takes seconds and is not sufficient; exhaustive takes long.",
            rich_help_panel=_CHOOSING,
        ),
    ] = Level.STANDARD,
    select_: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            help="Only ids that match: a glob, or a part of an id. Repeatable.",
            rich_help_panel=_CHOOSING,
        ),
    ] = None,
    select_from: Annotated[
        Path | None,
        typer.Option(
            help="Only the ids in this file, one a line, of any level; # begins a comment.",
            rich_help_panel=_CHOOSING,
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Only part I of N: the parts are disjoint, and together everything.",
            rich_help_panel=_CHOOSING,
        ),
    ] = "",
    seed: Annotated[
        int, typer.Option(help="Added to every case's own seed.", rich_help_panel=_CHOOSING)
    ] = 0,
    replay: Annotated[
        list[str] | None,
        typer.Option(
            help="Run one case: its id, a case file, or a folder of REPORT/replay. "
            "Repeatable: then they share a program.",
            rich_help_panel=_CHOOSING,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Worker processes.", rich_help_panel=_RUNNING)
    ] = 2,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds that a case or a program of cases may take; then it counts as hung.",
            rich_help_panel=_RUNNING,
        ),
    ] = 30.0,
    together: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cases of one op that may share a program; what fails there runs alone. "
            "Default: 16, and 1 at the exhaustive level.",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run: what its journal holds is not run again.",
            rich_help_panel=_RUNNING,
        ),
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Where results are noted as they come in. Default: REPORT/journal.jsonl.",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    time: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Fleet mode: random seeds over and over for 30s, 5m or 1h. Prints digests of "
            "the outputs, which must be equal on two cards of one model.",
            rich_help_panel=_RUNNING,
        ),
    ] = "",
    retest: Annotated[
        int,
        typer.Option(
            min=0,
            help="In fleet mode, how often a failing case is run again on the same card.",
            rich_help_panel=_RUNNING,
        ),
    ] = 10,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html, report.json, junit.xml, failures/ and the journal.",
            rich_help_panel=_AFTER,
        ),
    ] = None,
    shrink: Annotated[
        int,
        typer.Option(
            min=0,
            help="Executions that shrinking one failure may take; 0 leaves failures as they are.",
            rich_help_panel=_AFTER,
        ),
    ] = 400,
    waivers: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of known failures, with reason and link.", rich_help_panel=_AFTER
        ),
    ] = None,
) -> int:
    """Check a plugin's arithmetic and behaviour against exact oracles.

    Exit codes: 0 conformant, 1 non-conformant, 2 could not run, 3 usage, 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return 0
    if not plugin:
        raise InvalidArgument(
            "no plugin is named", remedy="give --plugin NAME; 'accelsdk plugins' lists them"
        )
    settings = Settings(
        plugin=plugin,
        options=parse_options(option),
        seed=seed,
        timeout=timeout,
        jobs=jobs,
        together=max(together or usual_size(level), len(replay or ())),
        device=device,
    )
    if select_from is not None and (select_ or profile):
        raise InvalidArgument(
            "--select-from names exact cases", remedy="leave out --select and --profile"
        )
    if report is not None:
        require_jinja()
        make_folder(report)
    files = vendor_case_files()
    selection = Selection(
        profiles=tuple(profile or ()),
        level=level,
        patterns=tuple(select_ or ()),
        ids=None if select_from is None else read_ids(select_from),
        shard=Shard.parse(shard) if shard else None,
    )
    if time:
        if resume or journal or replay or waivers:
            raise InvalidArgument(
                "--time does not go with --resume, --journal, --replay or --waivers",
                remedy="a run in fleet mode begins anew, and waives nothing",
            )
        return _soak(replace(settings, retests=retest), selection, files, seconds(time), report)
    notes = journal or (report / JOURNAL if report is not None and not replay else None)
    if resume and notes is None:
        raise InvalidArgument(
            "--resume without a journal", remedy="give --report DIR, or --journal FILE"
        )
    cases = [_replayed(wanted, files) for wanted in replay] if replay else None
    folder = str(report.resolve() / "replay") if report else ""
    total = len(cases or selection.choose(collect(files)))
    try:
        with terminal.Progress(total) as progress:
            found = run(
                settings,
                selection,
                waiver_file=waivers,
                case_files=files,
                cases=cases,
                journal=notes,
                resume=resume,
                study=Study(budget=shrink, folder=folder),
                progress=progress.advance,
            )
    except Refused as error:
        return _refused(error)
    except Interrupted as stop:
        return _interrupted(stop, notes)
    return _conclude(found, report)


def _soak(
    settings: Settings,
    selection: Selection,
    files: list[Path],
    duration: float,
    report: Path | None,
) -> int:
    found = Fleet(settings, selection)
    try:
        with terminal.Progress(None) as progress:
            found.run(selection.choose(collect(files)), duration, progress.advance)
    except Refused as error:
        return _refused(error)
    for line in found.lines():
        typer.echo(line)
    if report is not None:
        typer.echo(f"report: {found.write(report)}")
    return found.exit_code


def _refused(error: Refused) -> int:
    typer.echo(f"error: {error}", err=True)
    return USAGE if error.reason_code in _USAGE_CODES else COULD_NOT_RUN


def _interrupted(stop: Interrupted, notes: Path | None) -> int:
    typer.echo(str(stop), err=True)
    if notes is None:
        typer.echo("with --report DIR or --journal FILE a run can be resumed", err=True)
    else:
        again = [word for word in sys.argv[1:] if word != "--resume"]
        words = " ".join(map(quoted, ["accelsdk", *again, "--resume"]))
        typer.echo(f"go on with: {words}", err=True)
    return INTERRUPTED


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


def _replayed(wanted: str, files: list[Path]) -> Case:
    path = Path(wanted)
    if path.is_dir():
        return case_of(path)
    if path.is_file():
        return Case.from_json(path.read_text("utf-8"))
    for case in collect(files):
        if case.id == wanted:
            return case
    raise NotFound(f"no case {wanted!r}", remedy="see the ids with 'accelsdk conformance list'")
