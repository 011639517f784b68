"""The fingerprint for people, at 80 columns, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk_conformance.probe.claims import Claim, Verdict, claims
from accelsdk_conformance.probe.published import Likeness, nearest
from accelsdk_conformance.probe.reading import Fingerprint

_WIDTH = 80
_STYLES = {Verdict.AGREES: "green", Verdict.DIFFERS: "bold red", Verdict.UNCLAIMED: "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fingerprint with what it is compared to.

    Attributes:
        fingerprint: What was measured.
        claims: Field by field against the datasheet.
        nearest: Published units that it resembles.
    """

    fingerprint: Fingerprint
    claims: list[Claim]
    nearest: list[Likeness]

    @property
    def refuted(self) -> list[Claim]:
        """The declared fields that do not hold."""
        return [claim for claim in self.claims if claim.verdict is Verdict.DIFFERS]


def findings(fingerprints: Sequence[Fingerprint], datasheet: NumericsDatasheet) -> list[Finding]:
    """Returns every fingerprint with its claims and its nearest published units."""
    return [Finding(one, claims(one, datasheet), nearest(one)) for one in fingerprints]


def print_findings(plugin: str, found: Sequence[Finding], console: Console | None = None) -> None:
    """Prints what was measured, one table a subject, and a summary."""
    console = console or Console(width=_WIDTH, highlight=False)
    for finding in found:
        _print_one(finding, console)
    counts = dict.fromkeys(Verdict, 0)
    for finding in found:
        for claim in finding.claims:
            counts[claim.verdict] += 1
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    console.print(f"{plugin}: {len(found)} subjects; fields: {parts}")
    for finding in found:
        for claim in finding.refuted:
            line = (
                f"refuted: {finding.fingerprint.title}: {claim.field} is declared "
                f"{claim.declared}, measured {claim.measured}"
            )
            console.print(Text(line, style="bold red"))


def _print_one(finding: Finding, console: Console) -> None:
    one = finding.fingerprint
    console.print(Text(one.title, style="bold"))
    if one.problem:
        console.print(Text(f"  {one.problem}\n", style="dim"))
        return
    grid = Table(box=None, pad_edge=True, show_header=True, header_style="dim")
    for name, width in (("field", 22), ("measured", 24), ("declared", 14), ("", 12)):
        grid.add_column(name, min_width=width)
    unseen = []
    for claim in finding.claims:
        if claim.verdict is Verdict.UNSEEN or not claim.reading.measured:
            unseen.append(claim.field)
            continue
        style = _STYLES[claim.verdict]
        grid.add_row(claim.field, claim.measured, claim.declared, Text(claim.verdict, style=style))
    console.print(grid)
    if unseen:
        console.print(Text("  not measurable: " + ", ".join(unseen), style="dim"))
    for likeness in finding.nearest:
        console.print(Text(f"  nearest published: {likeness}"))
    console.print()


def as_json(plugin: dict[str, Any], found: Sequence[Finding]) -> dict[str, Any]:
    """Returns everything as JSON: schema 1, described in docs/probe.md."""
    return {"schema": 1, "plugin": plugin, "subjects": [_json_of(one) for one in found]}


def _json_of(finding: Finding) -> dict[str, Any]:
    one = finding.fingerprint
    return {
        "kind": one.kind,
        "op": one.op,
        "formats": list(one.formats),
        "problem": one.problem,
        "executions": one.executions,
        "fields": [
            {
                "field": claim.field,
                "verdict": str(claim.verdict),
                "declared": claim.declared,
                **asdict(claim.reading),
            }
            for claim in finding.claims
        ],
        "nearest": [
            {"unit": like.unit.name, "source": like.unit.source, "same": list(like.same)}
            | {"different": list(like.different)}
            for like in finding.nearest
        ],
    }
