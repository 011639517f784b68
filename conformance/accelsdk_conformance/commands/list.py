"""``accelsdk conformance list``: which cases there are, and what they leave out."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from accelsdk_conformance.case import Level, Profile, select
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.vendor import vendor_case_files

if TYPE_CHECKING:
    from accelsdk_conformance.coverage import Coverage

_WIDTH = 80
_INDENT = 4


def list_cases(
    profile: Annotated[
        list[Profile] | None, typer.Option(help="Part of the suite; repeatable. Default: all.")
    ] = None,
    level: Annotated[Level, typer.Option(help="What a run of this level holds.")] = Level.STANDARD,
    select_: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only ids that match; a glob or a part. Repeatable."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Coverage by op and format, with the holes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the ids of the cases, in the order in which they run.

    With --table: for each op of the op table, the cases of each format, and as holes the formats
    that the op takes and no case of this level exercises. --profile and --select then choose the
    ops; what is counted of them is the whole level.
    """
    every = collect(vendor_case_files())
    cases = select(every, profiles=profile or [], level=level, patterns=select_ or [])
    if not table:
        if json:
            fields = ("id", "profile", "op", "formats", "level")
            rows = [{name: getattr(case, name) for name in fields} for case in cases]
            typer.echo(json_module.dumps(rows, indent=1))
            return
        typer.echo("\n".join(case.id for case in cases))
        return
    from accelsdk_conformance.coverage import coverage

    wanted = {case.op for case in cases}
    counted = coverage([case for case in every if case.op in wanted], level)
    found = [row for row in counted if row.op in wanted or not (profile or select_)]
    if json:
        typer.echo(json_module.dumps(as_json(found, level), indent=1))
    else:
        show(found, level)


def as_json(found: Sequence[Coverage], level: Level) -> dict[str, Any]:
    """Returns the coverage as data."""
    return {
        "level": level,
        "cases": sum(row.levels[level] for row in found),
        "signatures": sum(len(row.counts) for row in found),
        "holes": sum(len(row.holes) for row in found),
        "ops": [
            {
                "op": row.op,
                "family": row.family,
                "cases": {str(name): count for name, count in row.levels.items()},
                "formats": {">".join(key): count for key, count in row.counts.items() if count},
                "holes": [">".join(key) for key in row.holes],
            }
            for row in found
        ],
    }


def show(found: Sequence[Coverage], level: Level, console: Console | None = None) -> None:
    """Prints the coverage, 80 columns wide."""
    out = console or Console(width=_WIDTH, highlight=False, markup=False, emoji=False)
    name_width = max((len(row.op) for row in found), default=2)
    name_width = min(max(name_width, len("op")), 22)
    head = f"{'op':<{name_width}}  {'smoke':>5} {'std':>5} {'exh':>5}  formats and their cases"
    out.print(Text(head, style="bold"))
    for family, rows in groupby(found, key=lambda row: row.family):
        out.print(Text(f"-- {family} ".ljust(_WIDTH, "-"), style="dim"))
        for row in rows:
            _print_row(out, row, name_width)
    cases = sum(row.levels[level] for row in found)
    total = sum(len(row.counts) for row in found)
    holes = sum(len(row.holes) for row in found)
    out.print(Text("-" * _WIDTH, style="dim"))
    out.print(f"{cases} cases at level {level}, of {len(found)} ops and areas")
    out.print(f"{total - holes} of {total} formats and pairs of formats are exercised")
    verdict = f"{holes} are holes: an op takes them, no case does" if holes else "no hole"
    out.print(Text(verdict, style="bold red" if holes else "bold green"))


def _print_row(out: Console, row: Coverage, name_width: int) -> None:
    counts = " ".join(f"{count:>5}" for count in row.levels.values())
    head = f"{row.op:<{name_width}}  {counts}"
    single = all(len(key) == 1 for key in row.counts)
    margin = len(head) + 2 if single else _INDENT
    lines = [(text, "") for text in _wrapped(_covered(row), _WIDTH - margin)]
    lines += [(text, "red") for text in _wrapped(_holes(row), _WIDTH - margin)]
    if not single or not lines:
        out.print(head)
    for index, (text, style) in enumerate(lines):
        begin = f"{head}  " if single and not index else " " * margin
        out.print(Text(begin) + Text(text, style=style), no_wrap=True)


def _covered(row: Coverage) -> Iterator[list[str]]:
    """Yields the exercised formats with their cases: one run of words for each left side."""
    present = {key: f"{key[-1]} {count}" for key, count in row.counts.items() if count}
    for left, group in groupby(present, key=lambda key: key[:-1]):
        words = [present[key] for key in group]
        yield [f"{'x'.join(left)}> {words[0]}", *words[1:]] if left else words


def _holes(row: Coverage) -> Iterator[list[str]]:
    """Yields the holes; the left sides that have nothing else come together, last."""
    if not row.holes:
        return
    words = [f"{len(row.holes)} {'hole' if len(row.holes) == 1 else 'holes'}:"]
    wholly: list[str] = []
    for left, group in groupby(row.holes, key=lambda key: key[:-1]):
        names = [key[-1] for key in group]
        every = sum(key[:-1] == left for key in row.counts)
        if left and len(names) == every:
            wholly.append(f"{'x'.join(left)}> all {every}")
        else:
            yield words + ([f"{'x'.join(left)}> {names[0]}", *names[1:]] if left else names)
            words = []
    if wholly:
        yield words + wholly


def _wrapped(runs: Iterable[Sequence[str]], width: int) -> Iterator[str]:
    """Yields lines of words with commas between; no word is broken, each run starts a line."""
    for words in runs:
        line = ""
        for word in words:
            joined = f"{line} {word}" if line.endswith(":") else f"{line}, {word}" if line else word
            if line and len(joined) + 1 > width:
                yield line if line.endswith(":") else line + ","
                joined = f"  {word}"
            line = joined
        yield line
