"""Charts as SVG: a memory plan over time, and steps under the roofs of their target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from accelsdk.backend.info import Roofline
from accelsdk.cli.console import amount, count, duration
from accelsdk.cli.explanation.estimate import Step
from accelsdk.cli.explanation.facts import PartFacts, Stretch

_WIDTH, _LEFT, _BOTTOM, _TOP = 1080.0, 74.0, 26.0, 12.0
_MEMORY_HEIGHT, _ROOF_HEIGHT = 250.0, 360.0
#: Shades that neighbouring stretches take in turn, so that they can be told apart.
_SHADES = 5
#: More stretches than this are too thin to be told apart; the smallest are left out.
_STRETCHES = 4000


def memory(one: PartFacts) -> str:
    """Returns the arena of a part, bytes upwards, over the positions of its nodes.

    The line is what is in use at each position; where it touches the top, the arena is full.
    """
    arena, nodes = one.memory.arena_bytes, len(one.part.graph.nodes)
    if not arena:
        return ""
    across = (_WIDTH - _LEFT - 8) / (nodes + 1)
    up = (_MEMORY_HEIGHT - _BOTTOM - _TOP) / arena
    floor = _MEMORY_HEIGHT - _BOTTOM
    shown = sorted(one.stretches, key=lambda s: -s.nbytes)[:_STRETCHES]
    bars = "".join(
        f'<rect class="s{number % _SHADES}" x="{_LEFT + stretch.first * across:.1f}" '
        f'y="{floor - (stretch.offset + stretch.nbytes) * up:.1f}" '
        f'width="{max((stretch.last - stretch.first + 1) * across - 0.5, 0.6):.1f}" '
        f'height="{max(stretch.nbytes * up - 0.5, 0.6):.1f}" data-tip="{_tip(stretch, nodes)}"/>'
        for number, stretch in enumerate(sorted(shown, key=lambda s: (s.first, s.offset)))
        if stretch.nbytes
    )
    live = _live(one.stretches, nodes, one.memory.alignment)
    line = "".join(f"V{floor - used * up:.1f}h{across:.2f}" for used in live)
    peak = int(np.argmax(live))
    marks = "".join(
        f'<text class="tick" x="{_LEFT - 6:.0f}" y="{floor - share * arena * up + 3.5:.1f}" '
        f'text-anchor="end">{amount(share * arena)}</text>'
        for share in (0, 0.5, 1)
    )
    steps = sorted({0, nodes // 4, nodes // 2, 3 * nodes // 4, nodes})
    marks += "".join(
        f'<text class="tick" x="{_LEFT + (n + 0.5) * across:.1f}" y="{floor + 16:.0f}" '
        f'text-anchor="middle">{n if n < nodes else "end"}</text>'
        for n in steps
    )
    told = escape(f"most in use: {amount(int(live[peak]))}, at node {peak}", quote=True)
    return (
        f'<svg class="chart memory" viewBox="0 0 {_WIDTH:.0f} {_MEMORY_HEIGHT:.0f}" role="img" '
        f'aria-label="memory plan">{bars}'
        f'<path class="live" d="M{_LEFT:.1f} {floor:.1f}{line}"/>'
        f'<path class="axis" d="M{_LEFT:.0f} {floor:.1f}H{_WIDTH - 8:.0f}"/>'
        f'<circle class="peak" cx="{_LEFT + (peak + 0.5) * across:.1f}" '
        f'cy="{floor - live[peak] * up:.1f}" r="4" data-tip="{told}"/>{marks}</svg>'
    )


def _tip(stretch: Stretch, nodes: int) -> str:
    names = [*stretch.values[:6], *(["..."] if len(stretch.values) > 6 else [])]
    last = f"node {stretch.last}" if stretch.last < nodes else "the end"
    lines = [
        ", ".join(names),
        f"{amount(stretch.nbytes)} at offset {stretch.offset:,}",
        f"from node {stretch.first} to {last}",
    ]
    return escape("\n".join(lines), quote=True)


def _live(stretches: Sequence[Stretch], nodes: int, alignment: int) -> list[int]:
    """Returns the bytes in use at each node, and at the end."""
    change = np.zeros(nodes + 2, np.int64)
    for stretch in stretches:
        nbytes = -(-stretch.nbytes // alignment) * alignment
        change[stretch.first] += nbytes
        change[stretch.last + 1] -= nbytes
    found: list[int] = np.cumsum(change)[: nodes + 1].tolist()
    return found


def roofline(steps: Sequence[Step], peaks: Roofline, colour: int) -> str:
    """Returns steps by operations a byte, at the most operations a second that they can reach.

    Args:
        steps: Of all parts on one place; those without arithmetic are left out.
        peaks: Of that place.
        colour: Of that place.
    """
    points = [step for step in steps if step.operations and step.seconds]
    if not points:
        return ""
    places = [step.operations / max(step.bytes, 1) for step in points]
    ridges = [rate / peaks.memory_bandwidth for rate in peaks.operations.values()]
    x = _Log([*places, *ridges], _LEFT, _WIDTH - 150)
    fastest = max(peaks.operations.values())
    y = _Log(
        [fastest, *(step.operations / step.seconds for step in points)],
        _ROOF_HEIGHT - _BOTTOM - 8,
        _TOP,
    )
    total = sum(step.seconds for step in points)
    names: dict[float, list[str]] = {}
    for name, rate in peaks.operations.items():
        names.setdefault(rate, []).append(name)
    roofs = "".join(
        _roof(", ".join(same), rate, peaks.memory_bandwidth, x, y) for rate, same in names.items()
    )
    dots = "".join(
        f'<circle class="p{colour}" cx="{x(step.operations / max(step.bytes, 1)):.1f}" '
        f'cy="{y(step.operations / step.seconds):.1f}" '
        f'r="{3 + 22 * math.sqrt(step.seconds / total):.1f}" '
        f'data-tip="{_step_tip(step, total)}"/>'
        for step in sorted(points, key=lambda step: -step.seconds)
    )
    return (
        f'<svg class="chart roof" viewBox="0 0 {_WIDTH:.0f} {_ROOF_HEIGHT:.0f}" role="img" '
        f'aria-label="roofline">{_grid(x, y)}{roofs}{dots}'
        f'<text class="tick" x="{(x.start + x.stop) / 2:.0f}" y="{_ROOF_HEIGHT - 2:.0f}" '
        f'text-anchor="middle">operations per byte</text></svg>'
    )


class _Log:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        known = [value for value in values if value > 0] or [1.0]
        self.low = math.floor(math.log10(min(known)))
        self.high = max(math.ceil(math.log10(max(known))), self.low + 1)
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + (self.stop - self.start) * min(max(share, 0.0), 1.0)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def _grid(x: _Log, y: _Log) -> str:
    down = "".join(
        f'<path class="grid" d="M{x(at):.1f} {y.start:.1f}V{y.stop:.1f}"/>'
        f'<text class="tick" x="{x(at):.1f}" y="{y.start + 15:.1f}" text-anchor="middle">'
        f"{at:g}</text>"
        for at in x.decades()
    )
    across = "".join(
        f'<path class="grid" d="M{x.start:.1f} {y(at):.1f}H{x.stop:.1f}"/>'
        f'<text class="tick" x="{x.start - 6:.1f}" y="{y(at) + 3.5:.1f}" text-anchor="end">'
        f"{_rate(at)}</text>"
        for at in y.decades()
    )
    return down + across


def _rate(value: float) -> str:
    return f"{count(value).replace('.00', '')}/s"


def _roof(name: str, rate: float, bandwidth: float, x: _Log, y: _Log) -> str:
    """Returns the line under which steps of one format lie: min(rate, bandwidth × intensity)."""
    low = max(10.0**x.low, 10.0**y.low / bandwidth)
    ridge = max(rate / bandwidth, low)
    told = escape(f"{name}: at most {_rate(rate)}\nmemory {amount(bandwidth)}/s", quote=True)
    return (
        f'<path class="roofline" d="M{x(low):.1f} {y(bandwidth * low):.1f}L{x(ridge):.1f} '
        f'{y(rate):.1f}H{x.stop:.1f}" data-tip="{told}"/>'
        f'<text class="roofname" x="{x.stop + 6:.0f}" y="{y(rate) + 3.5:.1f}">{escape(name)}</text>'
    )


def _step_tip(step: Step, total: float) -> str:
    more = f" and {len(step.nodes) - 1} more" if len(step.nodes) > 1 else ""
    bound = "arithmetic" if step.compute_bound else "memory"
    lines = [
        f"{step.name}  {step.nodes[0]}{more}",
        f"{count(step.operations)} operations, {amount(step.bytes)}",
        f"at least {duration(1e9 * step.seconds)} ({step.seconds / total:.1%}), bound by {bound}",
        f"at the rate of {step.format}",
    ]
    return escape("\n".join(lines), quote=True)
