"""Plots of error over bound as inline SVG, which takes its colours from the page's style.

The axis is logarithmic, from a millionth of the bound to ten times the bound: a backend that
uses a thousandth of what it is allowed and one that uses nine tenths look different, and what is
beyond the bound lies to the right of a line. Exact cases have no place on it and are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_LOW, _HIGH = -6, 1  # decades of error over bound
_PER_DECADE = 5
_DOT = 2.5
_ROW = 15  # height of one strip
_LABEL = 190  # width of the names beside the strips
_WIDTH = 880  # of the axis of the strips


@dataclass(frozen=True, slots=True)
class Spread:
    """The cases of one group that were judged by a bound.

    Attributes:
        name: Of the group.
        exact: Cases without any error.
        points: (error over bound, id, whether it is accepted) of the others.
    """

    name: str
    exact: int
    points: tuple[tuple[float, str, bool], ...]

    @property
    def largest(self) -> float:
        """The largest error over bound among the accepted cases."""
        return max((ratio for ratio, _, good in self.points if good), default=0.0)


def spreads(results: Iterable[Mapping[str, Any]], group: Mapping[str, str]) -> list[Spread]:
    """Returns the groups that have a case with an error to show, in the order of the groups.

    Args:
        results: Of a report.
        group: Name of the group of each op; ops without one are left out.
    """
    points: dict[str, list[tuple[float, str, bool]]] = {name: [] for name in group.values()}
    exact: Counter[str] = Counter()
    for result in results:
        name = group.get(result["op"])
        if name is None or result["status"] not in ("passed", "failed", "xfail", "waived"):
            continue
        good = result["status"] == "passed"
        if result["error_over_bound"] > 0:
            points[name].append((result["error_over_bound"], result["id"], good))
        elif good:
            exact[name] += 1
    return [Spread(name, exact[name], tuple(found)) for name, found in points.items() if found]


def histogram(spread: Spread) -> str:
    """Returns the number of cases by error over bound."""
    width, height, bar = 300, 92, 300 / ((_HIGH - _LOW) * _PER_DECADE)
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for ratio, _, accepted in spread.points:
        (good if accepted else bad)[_bin(ratio)] += 1
    top = max((good + bad).values())
    parts = [_axis(width, height, 0)]
    for index in sorted(good | bad):
        low = 0.0
        for css, count in (("bar", good[index]), ("bar over", bad[index])):
            if count:
                tall = max(1.5, count * (height - 8) / top)
                parts.append(
                    f'<rect class="{css}" x="{index * bar + 0.5:.1f}" '
                    f'y="{height - low - tall:.1f}" width="{bar - 1:.1f}" height="{tall:.1f}">'
                    f"<title>{_interval(index)}: {count} {_kind(css)}</title></rect>"
                )
                low += tall
    label = f"{spread.name}: {len(spread.points)} cases by error over bound"
    return _svg(width, height + 16, label, parts)


def strips(rows: Sequence[Spread]) -> str:
    """Returns one line of dots for each group: a dot for each case, at its error over bound."""
    height = len(rows) * _ROW
    parts = [_axis(_WIDTH, height, _LABEL)]
    for number, spread in enumerate(rows):
        y = number * _ROW + _ROW / 2
        parts.append(
            f'<text class="name" x="{_LABEL - 8}" y="{y + 3.5}" text-anchor="end">'
            f"{escape(spread.name)}</text>"
        )
        # Dots in one place are one dot: the page stays small, and says how many they are.
        places: dict[tuple[int, bool], list[tuple[float, str]]] = {}
        for ratio, name, accepted in spread.points:
            places.setdefault((round(_x(ratio, _WIDTH)), accepted), []).append((ratio, name))
        for (x, accepted), found in sorted(places.items()):
            parts.append(_dot(_LABEL + x, y, accepted, found))
    total = sum(len(spread.points) for spread in rows)
    return _svg(_LABEL + _WIDTH + 4, height + 16, f"{total} cases by error over bound", parts)


def _dot(x: float, y: float, accepted: bool, found: Sequence[tuple[float, str]]) -> str:
    ratio, name = found[-1]
    many = "" if len(found) == 1 else f" and {len(found) - 1} more"
    title = f"<title>{ratio:.3g} of the bound: {escape(name)}{many}</title>"
    if accepted:
        size = _DOT + min(2.0, math.log10(len(found)))
        return f'<circle class="dot" cx="{x}" cy="{y}" r="{size:.1f}">{title}</circle>'
    arm = _DOT + 0.5
    return (
        f'<path class="cross" d="M{x - arm} {y - arm}L{x + arm} {y + arm}'
        f'M{x - arm} {y + arm}L{x + arm} {y - arm}">{title}</path>'
    )


def proportions(counts: Sequence[tuple[str, int]]) -> str:
    """Returns one bar divided by status, as wide as what holds it."""
    total = sum(count for _, count in counts)
    parts, at = [], 0.0
    for name, count in counts:
        wide = max(0.6, 100 * count / total)
        parts.append(
            f'<rect class="part {name}" x="{at:.2f}" y="0" width="{wide:.2f}" height="6">'
            f"<title>{count} {name}</title></rect>"
        )
        at += wide
    return (
        f'<svg class="proportions" viewBox="0 0 {at:.2f} 6" preserveAspectRatio="none" '
        f'role="img" aria-label="results by status">{"".join(parts)}</svg>'
    )


def _axis(width: int, height: int, left: int) -> str:
    parts = []
    for decade in range(_LOW, _HIGH + 1):
        x = left + (decade - _LOW) * width / (_HIGH - _LOW)
        css = "bound" if decade == 0 else "grid"
        anchor = "start" if decade == _LOW else "end" if decade == _HIGH else "middle"
        parts.append(f'<line class="{css}" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}"/>')
        if decade % 2 == 0 or decade == _HIGH:
            parts.append(
                f'<text x="{x:.1f}" y="{height + 12}" text-anchor="{anchor}">{_tick(decade)}</text>'
            )
    return "".join(parts)


def _tick(decade: int) -> str:
    if decade == 0:
        return "bound"
    if decade == _HIGH:
        return f"≥ {10**decade}"
    return f"{'≤ ' * (decade == _LOW)}10<tspan dy='-3' font-size='7'>{decade}</tspan>"


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _x(ratio: float, width: float) -> float:
    decades = math.log10(max(ratio, 10.0**_LOW))
    return (min(decades, _HIGH) - _LOW) * width / (_HIGH - _LOW)


def _bin(ratio: float) -> int:
    # A case at the bound itself is accepted: it belongs to the last bin before the line.
    bins = (_HIGH - _LOW) * _PER_DECADE
    return max(0, min(bins - 1, math.ceil(_x(ratio, bins)) - 1))


def _interval(index: int) -> str:
    low, high = (10 ** (_LOW + edge / _PER_DECADE) for edge in (index, index + 1))
    return f"{low:.2g} to {high:.2g} of the bound"


def _kind(css: str) -> str:
    return "cases" if css == "bar" else "failing cases"
