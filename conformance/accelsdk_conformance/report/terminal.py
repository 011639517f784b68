"""What a run shows on the terminal: a progress bar on a tty, and a summary of 80 columns."""

from __future__ import annotations

import sys
from collections import Counter
from io import StringIO
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from accelsdk_conformance.case import Profile
from accelsdk_conformance.report.broken import broken_ops, representative_first
from accelsdk_conformance.report.claims import judged_claims
from accelsdk_conformance.report.derive import headline
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import Run

_WIDTH = 80
_SHOWN = 5
_NAMED = 30  # ops that a line names


class Progress:
    """A bar over all cases; nothing where standard error is not a terminal.

    Args:
        total: How many cases there are; None where nobody knows.
    """

    def __init__(self, total: int | None) -> None:
        self._bar = Bar(
            TextColumn("conformance"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[bad]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True, width=_WIDTH),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID = self._bar.add_task("cases", total=total, bad="")
        self._broken = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, result: Result) -> None:
        """Counts one result."""
        self._broken += not result.status.conformant
        text = f"{self._broken} broken" if self._broken else ""
        self._bar.update(self._task, advance=1, bad=text)


def summary(found: Run, console: Console | None = None) -> None:
    """Prints counts by profile, the failures with their replay commands, and the verdict."""
    out = console or Console(width=_WIDTH, highlight=False, soft_wrap=False)
    out.print(_table(found))
    if found.pace is not None:
        out.print(str(found.pace))
    _print_broken(out, found)
    _print_uncovered(out, found)
    _print_claims(out, found)
    out.print(verdict(found), markup=False)


def told(found: Run) -> str:
    """Returns what broke and which claims are false as text, for the message of an assertion."""
    text = StringIO()
    out = Console(width=_WIDTH, highlight=False, file=text, color_system=None)
    _print_broken(out, found)
    _print_claims(out, found)
    return text.getvalue().rstrip()


def _print_broken(out: Console, found: Run) -> None:
    """Prints the first failures, one of each op and format before all others, then the places."""
    broken = representative_first(
        (result for result in found.results if not result.status.conformant),
        lambda result: _place(found, result),
    )
    for result in broken[:_SHOWN]:
        _print_failure(out, found, result)
    if len(broken) > _SHOWN:
        out.print(f"... and {len(broken) - _SHOWN} more; a report lists all")
    if found.stopped:
        out.print(f"stopped: {found.stopped}", markup=False)
    judged = ((found.cases[r.id], r.status) for r in found.results if r.id in found.cases)
    for row in broken_ops((str(c.profile), c.op, c.column, status) for c, status in judged):
        formats = ", ".join(f"{name} {bad}/{total}" for name, bad, total in row.formats)
        out.print(f"broken: {row.profile} {row.op}: {formats}", markup=False)


def _print_uncovered(out: Console, found: Run) -> None:
    """Prints which ops the device does not claim, as a whole and in part."""
    total, missing = Counter[str](), Counter[str]()
    for result in found.results:
        if result.id in found.cases:
            name = found.cases[result.id].op or str(found.cases[result.id].profile)
            total[name] += 1
            missing[name] += result.status is Status.UNSUPPORTED
    whole = [name for name, count in missing.items() if count == total[name]]
    parts = [f"{n} {count}/{total[n]}" for n, count in missing.items() if 0 < count < total[n]]
    for words, names in (("not covered", whole), ("not covered in part", parts)):
        if names:
            shown = ", ".join(sorted(names)[:_NAMED])
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            out.print(f"{words}: {shown}{more}", markup=False)


def _print_claims(out: Console, found: Run) -> None:
    """Prints how many claims of the datasheet held, and which did not."""
    claims = judged_claims(
        found.about.get("claims", ()),
        [{"id": r.id, "claim": r.claim, "status": str(r.status)} for r in found.results],
    )
    if not claims:
        return
    counts = Counter(claim["verdict"] for claim in claims)
    words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    out.print(f"claims of the datasheet: {words}")
    for claim in claims:
        if claim["verdict"] == "refuted":
            entry = f"[{claim['entry']}]" if claim["entry"] else ""
            total = claim["refuted_by"] + claim["held_by"]
            text = f"claim refuted: {claim['field']}{entry}, by {claim['refuted_by']} of {total}"
            parts = ", ".join(claim["false_parts"])
            out.print(text + (f": {parts} is false" if parts else ""), markup=False)


def _place(found: Run, result: Result) -> tuple[str, ...]:
    case = found.cases.get(result.id)
    return (case.op, *case.formats) if case is not None else (result.id,)


def verdict(found: Run) -> str:
    """Returns the last line: what may be said of the plugin after this run."""
    return headline(
        found.settings.plugin,
        found.counts,
        found.level,
        found.profiles,
        found.partial,
    )


def _table(found: Run) -> Table:
    table = Table(width=_WIDTH, title=f"{found.settings.plugin}, level {found.level}")
    table.add_column("profile")
    columns = [status for status in Status if found.counts.get(status)]
    for status in columns:
        table.add_column(str(status), justify="right")
    table.add_column("tiers reached", justify="right")
    for profile in Profile:
        mine = [r for r in found.results if r.id in found.cases
                and found.cases[r.id].profile is profile]  # fmt: skip
        if not mine:
            continue
        tiers = sorted({r.tier for r in mine if r.tier})
        counts = [str(sum(r.status is status for r in mine)) for status in columns]
        table.add_row(str(profile), *counts, " ".join(tiers) or "-")
    return table


def _print_failure(out: Console, found: Run, result: Result) -> None:
    out.print(f"{result.status.upper()} {result.id}", style="bold", markup=False)
    if result.reason:
        out.print(f"  {result.reason}", markup=False)
    if result.claim:
        out.print(f"  refutes the claim {result.claim}", markup=False)
    for failure in result.failures[:1]:
        where = f"output {failure.output}, element {list(failure.element)}"
        out.print(f"  smallest: {where}: {failure.inputs}", markup=False)
        out.print(f"    actual   {failure.actual}", markup=False)
        out.print(f"    expected {failure.expected}", markup=False)
        out.print(f"    bound {failure.bound}, distance {failure.ulp} ulp", markup=False)
    for mask in result.xor[:1]:
        out.print(f"    mask     {mask}", markup=False)
    if result.shrunk:
        out.print(f"  smallest input: {result.shrunk}", markup=False)
    if result.repeats:
        out.print(f"  {result.repeats}", markup=False)
    if result.id in found.cases:
        again = found.settings.replay(*result.company or (result.id,))
        out.print(f"  replay: {again}", markup=False, soft_wrap=True)
