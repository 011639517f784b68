"""The matrix of ops and formats: what became of the cases, and which tier they reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelsdk.formats import FORMATS
from accelsdk.graph.ops import TABLE
from accelsdk_conformance.catalogue import short
from accelsdk_conformance.problem import Tier
from accelsdk_conformance.result import Status

_CONFORMANT = {str(status) for status in Status if status.conformant}
_ORDER = [*Tier]
_RANK = {short(fmt.name): rank for rank, fmt in enumerate(FORMATS)}
_OPS = {op: rank for rank, op in enumerate(TABLE)}

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One op in one format: how many cases, what became of them."""

    css: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Table:
    """Cells in rows and columns.

    Attributes:
        title: A family of ops, or an op.
        columns: Their names.
        rows: (heading, cells) of each.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """One profile.

    Attributes:
        profile: Its name.
        cases: How many it has.
        broken: How many of them are not conformant.
        families: The ops that have one format (or none) at a time.
        pairs: The other ops, each by its first format and the rest.
    """

    profile: str
    cases: int
    broken: int
    families: list[Table]
    pairs: list[Table]


def column(result: Result) -> str:
    """Returns the formats that a result is filed under, as one name."""
    return "x".join(result["formats"]) or "-"


def matrices(results: Sequence[Result]) -> list[Matrix]:
    """Returns the matrix of each profile, in the order of the results."""
    found = []
    for profile in dict.fromkeys(r["profile"] for r in results if r["profile"]):
        mine = [result for result in results if result["profile"] == profile]
        ops: dict[str, list[Result]] = {}
        for result in mine:
            ops.setdefault(result["op"], []).append(result)
        ordered = sorted(ops, key=lambda op: _OPS.get(op, len(_OPS)))
        single = {op: ops[op] for op in ordered if all(_alone(r) for r in ops[op])}
        pairs = [_pairs(op, ops[op]) for op in ordered if op not in single]
        broken = sum(result["status"] not in _CONFORMANT for result in mine)
        families = _families(single)
        found.append(Matrix(profile, len(mine), broken, families, pairs))
    return found


def _alone(result: Result) -> bool:
    return len(set(result["formats"])) <= 1


def _families(ops: Mapping[str, Sequence[Result]]) -> list[Table]:
    """Returns, for each family, the table of its ops; MatMul of fp32 by fp32 is in column fp32."""
    grouped: dict[str, dict[str, dict[str, list[Result]]]] = {}
    for op, results in ops.items():
        cells = grouped.setdefault(str(TABLE[op].family) if op in TABLE else "", {})[op] = {}
        for result in results:
            cells.setdefault(_first(result), []).append(result)
    tables = []
    for family, rows in grouped.items():
        columns = sorted({name for cells in rows.values() for name in cells}, key=_rank)
        made = [(op, [cell(cells.get(n, [])) for n in columns]) for op, cells in rows.items()]
        tables.append(Table(family, columns, made))
    return tables


def _pairs(op: str, results: Sequence[Result]) -> Table:
    """Returns the table of an op by its first format and the others."""
    cells: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        rest = " ".join(result["formats"][1:]) or "-"
        cells.setdefault(_first(result), {}).setdefault(rest, []).append(result)
    names = {name for row in cells.values() for name in row}
    columns = sorted(names, key=lambda name: [_rank(part) for part in name.split()])
    return Table(
        op,
        columns,
        [
            (first, [cell(cells[first].get(name, [])) for name in columns])
            for first in sorted(cells, key=_rank)
        ],
    )


def _first(result: Result) -> str:
    return str(result["formats"][0]) if result["formats"] else "-"


def _rank(name: str) -> tuple[int, str]:
    return (_RANK.get(name, len(_RANK)), name)


def cell(results: Sequence[Result]) -> Cell:
    """Returns what to show of the cases of one op in one format."""
    if not results:
        return Cell("none", "", "no case")
    counts = Counter(result["status"] for result in results)
    title = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    broken = sum(count for status, count in counts.items() if status not in _CONFORMANT)
    if broken:
        return Cell("bad-cell", f"{broken}/{len(results)}", title)
    if known := counts["xfail"] + counts["waived"]:
        return Cell("known-cell", f"w {known}", title)
    tiers = Counter(result["tier"] for result in results if result["tier"])
    if not tiers:
        passed = counts.keys() == {"passed"}
        return Cell("held" if passed else "off", "✓" if passed else "–", title)
    worst = max(tiers, key=lambda tier: _ORDER.index(Tier(tier)))
    reached = ", ".join(f"{n} {t}" for t, n in sorted(tiers.items()))
    return Cell(worst.lower(), worst, f"{title}; reached {reached}")
