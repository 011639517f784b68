"""``accelsdk conformance compare``: what changed from one run to another."""

from __future__ import annotations

import json as json_module
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from accelsdk.backend.files import written
from accelsdk_conformance.report.compare import Comparison, compare
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.html import page

_WIDTH = 80
_SHOWN = 10  # changes of one kind that the terminal shows


def compare_reports(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Folder, or report.json.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Folder, or report.json.")],
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write it as a page, too.")] = None,
) -> int:
    """Compare two reports case by case.

    For the worse are: a worse status, a looser tier, a larger error over its bound, a case that
    is gone. Errors and digests are compared only if suite and seed are the same.

    Exit codes: 0 nothing is worse, 1 something is, 3 usage.
    """
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
