"""``accelsdk conformance compare``: what changed from one run, or one card, to another."""

from __future__ import annotations

import json as json_module
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from accelsdk.backend.files import written
from accelsdk.errors import InvalidArgument
from accelsdk_conformance import fleet_compare
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.report.compare import Comparison, compare
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.html import page
from accelsdk_conformance.vendor import vendor_case_files

_WIDTH = 80
_SHOWN = 10  # changes of one kind that the terminal shows


def compare_reports(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="Folder, report.json or fleet.json.")
    ],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Folder or file of the other.")],
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write it as a page, too.")] = None,
) -> int:
    """Compare two reports case by case, or two cards that --time has run on.

    For the worse are: a worse status, a looser tier, a larger error over its bound, a case that
    is gone. Errors and digests are compared only if suite and seed are the same.

    Of two runs with --time (fleet.json) the digests are compared, as far as both came: equal cards
    give equal bits. Where they part, the cases that differ are told, with their masks.

    Exit codes: 0 nothing is worse, 1 something is, or the cards differ, 3 usage.
    """
    kinds = {path: fleet_compare.is_fleet(path) for path in (before, after)}
    if any(kinds.values()):
        return _fleets(kinds, before, after, json, html)
    first, second = load(before), load(after)
    found = compare(first, second)
    if html is not None:
        text = page("compare.html.j2", found=found, names=(str(before), str(after)))
        with written(html) as file:
            file.write(text.encode())
    if json:
        typer.echo(json_module.dumps(found.as_json(), indent=1))
    else:
        show(found)
    return 1 if found.worse else 0


def _fleets(
    kinds: dict[Path, bool], before: Path, after: Path, json: bool, html: Path | None
) -> int:
    if not all(kinds.values()):
        other = next(path for path, fleet in kinds.items() if not fleet)
        raise InvalidArgument(
            f"{other} is no run with --time, and the other one is",
            remedy="compare two reports, or two fleet.json",
        )
    if html is not None:
        raise InvalidArgument(
            "--html is of reports", remedy="leave it out, or give --json to compare cards"
        )
    runs = fleet_compare.load(before), fleet_compare.load(after)
    found = fleet_compare.compare(*runs, collect(vendor_case_files()))
    if json:
        typer.echo(json_module.dumps(found.as_json(), indent=1))
    else:
        for line in fleet_compare.lines(found):
            typer.echo(line)
    return found.exit_code


def show(found: Comparison, console: Console | None = None) -> None:
    """Prints a comparison, 80 columns wide."""
    out = console or Console(width=_WIDTH, highlight=False, markup=False, emoji=False)
    for name, one, other in found.settings:
        out.print(f"{name}: {one or '-'} -> {other or '-'}")
    if not found.compared_data:
        out.print("errors and digests are not compared: the runs had different data")
    kinds = sorted(found.changes, key=lambda change: (not change.worse, change.what))
    for (worse, what), group in groupby(kinds, key=lambda change: (change.worse, change.what)):
        changes = [*group]
        head = f"{len(changes)} {what} {'for the worse' if worse else 'changed'}"
        out.print(Text(head, style="bold red" if worse else "bold"))
        for change in changes[:_SHOWN]:
            out.print(f"  {change.id}", no_wrap=True, overflow="ignore", crop=False)
            out.print(f"    {change.before} -> {change.after}")
        if len(changes) > _SHOWN:
            out.print(f"  ... and {len(changes) - _SHOWN} more; --json lists all")
    if not found.changes:
        out.print(f"equal: all {found.cases} cases are what they were")
    else:
        out.print(
            f"{len(found.changes)} changes in {found.cases} common cases, "
            f"{found.worse} for the worse"
        )
