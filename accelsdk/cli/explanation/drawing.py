"""A graph as SVG: boxes coloured by place, in layers, with what they are on hover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from accelsdk.cli.console import amount, count
from accelsdk.cli.explanation.layout import LAYER, MARGIN, Layout, Net, lay_out
from accelsdk.compiler.explain import Row
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.types import Value

#: Larger graphs are not drawn: nobody could read them.
DRAWN = 3000
#: Colours of places; further places share the last.
COLOURS = 4
#: Width of the page's column, in which a graph should find room.
PAGE = 1150.0
_HEIGHT = 26.0
_CHARACTER = 6.7
_LONGEST = 24


@dataclass(frozen=True, slots=True)
class _Box:
    """What is drawn of a node, or of a value that comes or goes."""

    css: str
    text: str
    tip: str
    share: float = 0.0
    anchor: str = ""
    claimed: bool = False

    @property
    def width(self) -> float:
        return max(54.0, _CHARACTER * len(self.text) + 18)


def draw(
    graph: Graph, rows: Mapping[str, Row], colours: Mapping[str, int], ends: Mapping[str, str]
) -> str:
    """Returns a graph as SVG; an empty text if it has too many nodes to be read.

    Args:
        graph: A part, or the whole.
        rows: What there is to tell of each node, by name.
        colours: Colour of each place, by its name.
        ends: Where values come from and go to, by name.
    """
    if not 0 < len(graph.nodes) <= DRAWN:
        return ""
    heaviest = max(rows[node.name].bytes for node in graph.nodes) or 1
    boxes = [_node(node, rows[node.name], colours, heaviest) for node in graph.nodes]
    readers: dict[str, list[int]] = {}
    makers: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        for value in dict.fromkeys(node.inputs):
            if value is not None:
                readers.setdefault(value.name, []).append(number)
        makers.update({value.name: number for value in node.outputs if value is not None})
    for value in graph.inputs:
        makers[value.name] = len(boxes)
        boxes.append(_end(value, "input", ends))
    for value in graph.outputs:
        readers.setdefault(value.name, []).append(len(boxes))
        boxes.append(_end(value, "output", ends))
    nets = [Net(maker, tuple(readers[name])) for name, maker in makers.items() if name in readers]
    found = lay_out([box.width for box in boxes], nets, PAGE)
    return _svg(found, boxes)


def _node(node: Node, row: Row, colours: Mapping[str, int], heaviest: int) -> _Box:
    css = f"node p{colours[row.place]} {row.verdict}"
    text = row.op if len(row.op) <= _LONGEST else row.op[: _LONGEST - 1] + "…"
    share, anchor = row.bytes / heaviest, f"#n-{row.node}"
    return _Box(css, text, tip(node, row), share, anchor, claimed=bool(row.claim))


def tip(node: Node, row: Row) -> str:
    """Returns what is told of a node on hover."""
    types = ", ".join(str(value.type) for value in node.outputs if value is not None)
    how = f"{row.place}, {row.verdict}" + (f", region {row.claim}" if row.claim else "")
    lines = [
        f"{row.op}  {row.node}",
        f"→ {types}",
        f"made by {' › '.join(row.via)}" if row.via else "",
        f"computes for {', '.join(row.origin)}" if row.origin else "",
        how,
        row.reason,
        f"{count(row.operations)} operations, {amount(row.bytes)}, {row.intensity:.2f} per byte",
    ]
    return "\n".join(filter(None, lines))


def _end(value: Value, kind: str, ends: Mapping[str, str]) -> _Box:
    name = value.name if len(value.name) <= _LONGEST else "…" + value.name[1 - _LONGEST :]
    lines = [f"{kind} {value.name}", str(value.type), amount(value.type.nbytes)]
    where = ends.get(value.name)
    return _Box("end", name, "\n".join([*lines, *([where] if where else [])]))


def _svg(found: Layout, boxes: Sequence[_Box]) -> str:
    near = [(u, v) for u, v in found.links if found.column[u] == found.column[v]]
    edges = "".join(_link(found, upper, lower, len(boxes)) for upper, lower in near)
    parts = [
        f'<svg class="graph" width="{found.width:.0f}" height="{found.height:.0f}" '
        f'viewBox="0 0 {found.width:.0f} {found.height:.0f}" role="img" aria-label="graph">',
        f'<path class="edge turn" d="{_turns(found, len(boxes))}"/>',
        f'<path class="edge" d="{edges}"/>',
    ]
    for source, target in found.stubs:
        x, y = found.x[target] - boxes[target].width / 2 + 8, found.y[target] - _HEIGHT / 2
        told = escape(f"also reads a result of {boxes[source].text}, far above", quote=True)
        parts.append(f'<circle class="stub" cx="{x:.1f}" cy="{y:.1f}" r="4" data-tip="{told}"/>')
    for number, box in enumerate(boxes):
        parts.append(_box(box, found.x[number], found.y[number]))
    return "".join([*parts, "</svg>"])


def _link(found: Layout, upper: int, lower: int, boxes: int) -> str:
    x0, y0 = found.x[upper], found.y[upper] + _HEIGHT / 2
    x1, y1 = found.x[lower], found.y[lower] - _HEIGHT / 2
    bend = (LAYER - _HEIGHT) * 0.6
    bends = f"{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"
    through = f"V{y1 + _HEIGHT:.1f}" if lower >= boxes else ""
    return f"M{x0:.1f} {y0:.1f}C{bends}{through}"


def _turns(found: Layout, boxes: int) -> str:
    """Returns the edges that go from the foot of a column to the head of the next."""
    drawn = []
    floor, top = found.height - MARGIN / 2, MARGIN / 2
    for upper, lower in found.links:
        if found.column[upper] == found.column[lower]:
            continue
        gutter = found.gutters[found.column[upper]]
        end = found.y[lower] + (_HEIGHT / 2 if lower >= boxes else -_HEIGHT / 2)
        drawn.append(
            f"M{found.x[upper]:.1f} {found.y[upper] + _HEIGHT / 2:.1f}V{floor:.1f}H{gutter:.1f}"
            f"V{top:.1f}H{found.x[lower]:.1f}V{end:.1f}"
        )
    return "".join(drawn)


def _box(box: _Box, x: float, y: float) -> str:
    left, top = x - box.width / 2, y - _HEIGHT / 2
    tip = escape(box.tip, quote=True)
    bar = (
        f'<rect class="bar" x="6" y="{_HEIGHT - 4:.0f}" '
        f'width="{(box.width - 9) * box.share:.1f}" height="2"/>'
    )
    mark = f'<rect class="mark" width="4" height="{_HEIGHT:.0f}" rx="2"/>'
    return (
        f'<g class="{box.css}" transform="translate({left:.1f} {top:.1f})" data-tip="{tip}"'
        + (f' data-row="{escape(box.anchor, quote=True)}"' if box.anchor else "")
        + f'><rect width="{box.width:.1f}" height="{_HEIGHT:.0f}" rx="{4 if box.anchor else 13}"/>'
        + f'<text x="{box.width / 2:.1f}" y="{_HEIGHT / 2 + 3.5:.1f}">{escape(box.text)}</text>'
        + (bar if box.share >= 0.01 else "")
        + (mark if box.claimed else "")
        + "</g>"
    )
