"""What `accelsdk explain` prints: a table of nodes, and a summary, in 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console

from accelsdk.backend.backend import Verdict
from accelsdk.cli.console import amount, count, duration, number, short, table
from accelsdk.cli.explanation.facts import Explanation, PartFacts
from accelsdk.compiler.explain import Row

#: Nodes of a long model that are shown unless all are asked for; and when it is long.
_ROWS, _LONG = 40, 60
#: Parts, copies, and kinds of region, that are shown.
_LISTED = 20
#: A terminal with room for the model's own names.
_WIDE = 110


def show(out: Console, found: Explanation, *, every: bool) -> None:
    """Prints the report.

    Args:
        out: Where to.
        found: What to tell.
        every: Whether to show all nodes of a long model.
    """
    notes = {reason: n for n, reason in enumerate(_reasons(found.rows), 1)}
    _nodes(out, found, notes, every=every)
    for reason, n in notes.items():
        out.print(f"[{n}] {reason}")
    _totals(out, found)
    if found.parts:
        _parts(out, found, every=every)
        _claims(out, found)
        _transfers(out, found)
        _estimate(out, found)
    for row in found.refusals:
        source = f" from {', '.join(row.origin)}" if row.origin else ""
        out.print(f"refused: {row.node} ({row.op}){source}: {row.reason}")


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Returns each reason once; those of refused nodes are listed with the nodes, at the end."""
    told = (r.reason for r in rows if r.reason and r.verdict is not Verdict.UNSUPPORTED)
    return list(dict.fromkeys(told))


def _nodes(out: Console, found: Explanation, notes: dict[str, int], *, every: bool) -> None:
    wide = out.width >= _WIDE
    parts = len(found.parts) > 1
    numbers = ("ops", "bytes", "per byte")
    columns = ["#", *(["part"] if parts else []), "op", "made by", "placement", *numbers]
    right = ("#", "part", *numbers)
    shown = table(None, *columns, *(["computes for"] if wide else []), right=right)
    for column in shown.columns:
        column.no_wrap = column.header in numbers
    chosen = range(len(found.rows)) if every else _costliest(found.rows)
    left = len(found.rows)
    for position, row in enumerate(found.rows):
        if position not in chosen:
            continue
        left -= 1
        cells = [
            str(position),
            *([str(row.part)] if parts else []),
            short(row.op, 18),
            short(" › ".join(row.via), 18),
            _placement(row, notes),
            count(row.operations) if row.operations else "",
            amount(row.bytes),
            f"{row.intensity:.1f}" if row.operations else "",
        ]
        shown.add_row(*cells, *([short(", ".join(row.origin), 40)] if wide else []))
    out.print(shown)
    if left:
        out.print(
            f"... the {len(chosen)} nodes that move most bytes; {left} more "
            "(--all, --json or --html)"
        )


def _costliest(rows: Sequence[Row]) -> range | set[int]:
    """Returns the positions to show: of a long model, those that move the most bytes."""
    if len(rows) <= _LONG:
        return range(len(rows))
    order = sorted(range(len(rows)), key=lambda n: (-rows[n].bytes, n))
    refused = {n for n, row in enumerate(rows) if row.verdict is Verdict.UNSUPPORTED}
    return {*order[:_ROWS], *refused}


def _placement(row: Row, notes: dict[str, int]) -> str:
    """Returns how a node runs, the region it is in, and the number of the reason."""
    note = f" [{notes[row.reason]}]" if row.reason in notes else ""
    if not row.claim:
        return f"{row.verdict}{note}"
    how = "" if row.verdict is Verdict.NATIVE else f"{row.verdict} "
    return f"{how}in {short(row.claim, 20)}{note}"


def _totals(out: Console, found: Explanation) -> None:
    rows = found.rows
    out.print(
        f"\n{number(len(rows), 'node')}, {count(found.operations)} operations, "
        f"{amount(found.constant_bytes)} of constants"
    )
    out.print("ops: " + ", ".join(f"{op} {times}" for op, times in found.ops.most_common()))
    for place in dict.fromkeys(row.place for row in rows):
        verdicts = Counter(str(row.verdict) for row in rows if row.place == place)
        told = ", ".join(f"{times} {name}" for name, times in verdicts.items())
        out.print(f"on {place}: {told}")
    for kind, values in (("input", found.graph.inputs), ("output", found.graph.outputs)):
        for value in values:
            out.print(f"{kind} {value.name}: {value.type}")


def _parts(out: Console, found: Explanation, *, every: bool) -> None:
    right = ("part", "nodes", "ops", "arena", "largest live", "efficiency")
    columns = ("part", "runs on", "nodes", "ops", "arena", "largest live", "efficiency")
    shown = table(None, *columns, right=right)
    work: Counter[int | None] = Counter()
    for row in found.rows:
        work[row.part] += row.operations
    listed = found.parts if every else found.parts[:_LISTED]
    for n, one in enumerate(listed):
        shown.add_row(
            str(n),
            str(found.places[one.part.place]),
            str(len(one.part.graph.nodes)),
            count(work[n]),
            amount(one.memory.arena_bytes),
            amount(one.memory.largest_live_bytes),
            f"{one.memory.efficiency:.1%}",
        )
    out.print(f"\n{number(len(found.parts), 'part')}; static memory plan of each:")
    out.print(shown)
    if len(listed) < len(found.parts):
        plans = [one.memory for one in found.parts]
        out.print(
            f"... and {len(found.parts) - len(listed)} more (--all); of all, the largest arena is "
            f"{amount(max(plan.arena_bytes for plan in plans))}, the least efficiency "
            f"{min(plan.efficiency for plan in plans):.1%}"
        )


def _claims(out: Console, found: Explanation) -> None:
    times: Counter[tuple[str, str]] = Counter()
    nodes: Counter[tuple[str, str]] = Counter()
    for one in found.parts:
        for claim in one.part.claims:
            key = (claim.name or "region", str(found.places[one.part.place]))
            times[key] += 1
            nodes[key] += len(claim.nodes)
    if not times:
        return
    out.print(f"\n{number(sum(times.values()), 'region')} claimed:")
    for (name, place), repeated in times.most_common(_LISTED):
        out.print(f"  {name} ×{repeated} ({number(nodes[name, place], 'node')}) on {place}")
    if len(times) > _LISTED:
        out.print(f"  ... and {len(times) - _LISTED} more kinds")


def _transfers(out: Console, found: Explanation) -> None:
    if not found.transfers:
        return
    copies = "copy" if len(found.transfers) == 1 else "copies"
    out.print(f"\n{len(found.transfers)} {copies} in each run, {amount(found.transfer_bytes)}:")
    for transfer in found.transfers[:_LISTED]:
        size = amount(transfer.value.type.nbytes)
        ends = f"{short(found.maker(transfer), 18)} to {short(found.reader(transfer), 18)}"
        out.print(f"  {short(transfer.value.name, 24)} ({size}): {ends}")
    if len(found.transfers) > _LISTED:
        out.print(f"  ... and {len(found.transfers) - _LISTED} more")


def _estimate(out: Console, found: Explanation) -> None:
    """Prints the least time on each place that publishes its peak rates."""
    order = sorted(found.parts, key=lambda one: one.part.place)
    for index, group in groupby(order, key=lambda one: one.part.place):
        place, parts = str(found.places[index]), list(group)
        if parts[0].steps is None:
            out.print(f"{place} publishes no peak rates: no estimate of its time")
            continue
        out.print(f"at least {_seconds(parts)} on {place}, by its roofline: {_bounds(parts)}")


def _seconds(parts: Sequence[PartFacts]) -> str:
    return duration(sum(1e9 * (one.seconds or 0.0) for one in parts))


def _bounds(parts: Sequence[PartFacts]) -> str:
    steps = [step for one in parts for step in one.steps or ()]
    total = sum(step.seconds for step in steps)
    compute = sum(step.seconds for step in steps if step.compute_bound)
    share = compute / total if total else 0.0
    return f"{share:.0%} bound by arithmetic, {1 - share:.0%} by memory"
