"""The HTML report: one self-contained page, made from the same data as the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec

from accelsdk.errors import NotFound
from accelsdk_conformance.problem import Tier
from accelsdk_conformance.report.broken import broken_ops, representative_first
from accelsdk_conformance.report.terminal import verdict
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import Run

_BINS = 20  # of the error distribution, from 0 to the bound
_FAILURES = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """One op in one format: how many cases, what became of them."""

    css: str
    text: str
    title: str


def require_jinja() -> None:
    """Raises NotFound, with the pip line, unless jinja2 is installed."""
    if find_spec("jinja2") is None:
        raise NotFound(
            "the HTML report needs jinja2, which is not installed",
            remedy="pip install 'accelsdk[conformance]'",
        )


def render(found: Run) -> str:
    """Returns the page.

    Raises:
        NotFound: jinja2 is not installed.
    """
    require_jinja()
    import jinja2

    text = (resources.files("accelsdk_conformance") / "report" / "report.html.j2").read_text(
        "utf-8"
    )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    broken = representative_first(found)
    page: str = environment.from_string(text).render(
        run=found,
        verdict=verdict(found),
        good=found.exit_code == 0,
        statuses=[(str(s), found.counts[s]) for s in Status if found.counts.get(s)],
        tiers=[(str(t), found.tiers[t]) for t in Tier if found.tiers.get(t)],
        matrices=matrices(found),
        histograms=histograms(found),
        broken_ops=broken_ops(found),
        broken=broken[:_FAILURES],
        left_out=max(0, len(broken) - _FAILURES),
        unsupported=[r for r in found.results if r.status is Status.UNSUPPORTED],
        known=[r for r in found.results if r.status in (Status.XFAIL, Status.WAIVED)],
        claims=found.about.get("claims", []),
        refuted=found.false_claims,
    )
    return page


Matrix = tuple[str, list[str], list[tuple[str, list[Cell]]]]


def matrices(found: Run) -> list[Matrix]:
    """Returns tables of a profile, its formats, and a row of cells for each op.

    Ops that share no format with each other go to tables of their own, which keeps them narrow.
    """
    tables: list[Matrix] = []
    for profile in dict.fromkeys(case.profile for case in found.cases.values()):
        cells: dict[str, dict[str, list[Result]]] = {}
        for result in found.results:
            case = found.cases.get(result.id)
            if case is not None and case.profile is profile:
                cells.setdefault(case.op, {}).setdefault(case.column, []).append(result)
        for columns, ops in _groups(cells):
            rows = [(op, [_cell(cells[op].get(column, [])) for column in columns]) for op in ops]
            tables.append((str(profile), columns, rows))
    return tables


def _groups(cells: Mapping[str, Mapping[str, object]]) -> list[tuple[list[str], list[str]]]:
    """Splits ops into groups that share columns, each with its columns in order."""
    groups: list[tuple[list[str], list[str]]] = []
    for op, row in cells.items():
        touching = [group for group in groups if not row.keys().isdisjoint(group[0])]
        columns = dict.fromkeys(column for group in touching for column in group[0])
        ops = [name for group in touching for name in group[1]]
        merged = ([*(columns | dict.fromkeys(row))], [*ops, op])
        first = groups.index(touching[0]) if touching else len(groups)
        groups = [group for group in groups if group not in touching]
        groups.insert(first, merged)
    return groups


def _cell(results: Sequence[Result]) -> Cell:
    if not results:
        return Cell("none", "", "no case")
    counts = Counter(result.status for result in results)
    title = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    broken = sum(count for status, count in counts.items() if not status.conformant)
    if broken:
        return Cell("bad", f"{broken}/{len(results)}", title)
    tiers = Counter(result.tier for result in results if result.tier)
    if not tiers:
        return Cell("off", "–", title)
    order = [*Tier]
    worst = max(tiers, key=lambda tier: order.index(Tier(tier)))
    return Cell(
        worst.lower(), worst, f"{title}; " + ", ".join(f"{n} {t}" for t, n in tiers.items())
    )


def histograms(found: Run) -> list[tuple[str, int, str]]:
    """Returns, for each op that is judged by a bound, its cases' error over bound as SVG."""
    ratios: dict[str, list[float]] = {}
    for result in found.results:
        case = found.cases.get(result.id)
        if case is not None and result.tier and result.ratio > 0:
            ratios.setdefault(f"{case.profile} {case.op}", []).append(min(result.ratio, 1.0))
    return [(name, len(values), _svg(values)) for name, values in sorted(ratios.items())]


def _svg(values: Sequence[float]) -> str:
    counts = [0] * _BINS
    for value in values:
        counts[min(int(value * _BINS), _BINS - 1)] += 1
    top = max(counts)
    width, height = 10, 48
    bars = "".join(
        f'<rect x="{i * width}" y="{height - count * height / top:.1f}" width="{width - 1}" '
        f'height="{count * height / top:.1f}"><title>{i / _BINS:.2f} to '
        f"{(i + 1) / _BINS:.2f} of the bound: {count} cases</title></rect>"
        for i, count in enumerate(counts)
        if count
    )
    total = _BINS * width
    return (
        f'<svg viewBox="0 0 {total} {height + 12}" width="{total}" height="{height + 12}" '
        f'role="img"><line x1="0" y1="{height}" x2="{total}" y2="{height}"/>{bars}'
        f'<text x="0" y="{height + 11}">0</text>'
        f'<text x="{total}" y="{height + 11}" text-anchor="end">bound</text></svg>'
    )
