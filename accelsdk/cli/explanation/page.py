"""The report of `accelsdk explain` as one HTML page: no network, no library, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from accelsdk.cli.console import amount, count, duration, number
from accelsdk.cli.explanation import charts
from accelsdk.cli.explanation.drawing import COLOURS, DRAWN, draw
from accelsdk.cli.explanation.estimate import published
from accelsdk.cli.explanation.facts import Explanation, PartFacts
from accelsdk.compiler.explain import Row

#: More parts than this are closed at first, and listed in a box of their own.
_PARTS = 8


def render(found: Explanation) -> str:
    """Returns the page. The same model and plugins give the same bytes."""
    page = Template(_file("page.html"))
    return page.substitute(
        title=escape(found.model),
        css=_file("page.css"),
        script=_file("page.js"),
        verdict=_verdict(found),
        places=_legend(found),
        tiles=_tiles(found),
        strip=_strip(found),
        parts=_parts(found),
        rooflines=_rooflines(found),
        transfers=_transfers(found),
        claims=_claims(found),
        nodes=_nodes(found),
        interface=_interface(found),
    )


def _file(name: str) -> str:
    return (resources.files("accelsdk.cli.explanation") / name).read_text("utf-8")


def _colours(found: Explanation) -> dict[str, int]:
    return {str(place): min(n, COLOURS - 1) for n, place in enumerate(found.places)}


def _verdict(found: Explanation) -> str:
    if not found.refusals:
        return ""
    items = "".join(
        f"<li><code>{escape(row.node)}</code> ({escape(row.op)})"
        + (f" from {escape(', '.join(row.origin))}" if row.origin else "")
        + f": {escape(row.reason)}</li>"
        for row in found.refusals
    )
    told = f"Refused: {len(found.refusals)} of {number(len(found.rows), 'node')} can run nowhere."
    return f'<div class="verdict"><strong>{told}</strong><ul>{items}</ul></div>'


def _legend(found: Explanation) -> str:
    used = {row.place for row in found.rows}
    colours = {name: colour for name, colour in _colours(found).items() if name in used}
    places = "".join(
        f'<span class="key p{colour}"></span>{escape(name)} ' for name, colour in colours.items()
    )
    marks = (
        ("claimed", "in a claimed region", any(row.claim for row in found.rows)),
        ("emulated", "emulated", "emulated" in found.verdicts),
        ("refused", "refused", bool(found.refusals)),
    )
    return places + "".join(
        f'<span class="key {css}"></span>{text} ' for css, text, there in marks if there
    )


def _tiles(found: Explanation) -> str:
    verdicts = ", ".join(f"{times} {name}" for name, times in found.verdicts.items())
    tiles = [
        (str(len(found.rows)), "nodes", verdicts),
        (count(found.operations), "operations", "of one run; a multiply-add is two"),
        (amount(found.constant_bytes), "constants", number(len(found.graph.constants), "tensor")),
    ]
    if found.parts:
        claims = sum(len(one.part.claims) for one in found.parts)
        largest = max(found.parts, key=lambda one: one.memory.arena_bytes).memory
        least = min(one.memory.efficiency for one in found.parts)
        tiles += [
            (str(len(found.parts)), "parts" if len(found.parts) > 1 else "part", ""),
            (str(claims), "claimed region" if claims == 1 else "claimed regions", ""),
            (amount(largest.arena_bytes), "largest arena", f"efficiency {least:.1%} or better"),
        ]
    if found.transfers:
        tiles.append(
            (amount(found.transfer_bytes), "copied", number(len(found.transfers), "value"))
        )
    if found.seconds is not None:
        tiles.append((duration(1e9 * found.seconds), "least time", "by the published peak rates"))
    return "".join(
        f'<div class="tile"><b>{escape(big)}</b><span>{escape(name)}</span>'
        f"<small>{escape(more)}</small></div>"
        for big, name, more in tiles
    )


def _strip(found: Explanation) -> str:
    """Returns the parts as a bar in the order in which they run, each as wide as it has nodes."""
    if len(found.parts) < 2:
        return ""
    cells = "".join(
        f'<a class="p{min(one.part.place, COLOURS - 1)}" href="#part-{n}" '
        f'style="flex:{max(len(one.part.graph.nodes), 1)}" '
        f'data-tip="{escape(_part_line(found, one), quote=True)}"></a>'
        for n, one in enumerate(found.parts)
    )
    return f'<div class="strip">{cells}</div>'


def _part_line(found: Explanation, one: PartFacts) -> str:
    line = f"{one.part.name} on {found.places[one.part.place]}: "
    return line + number(len(one.part.graph.nodes), "node")


def _parts(found: Explanation) -> str:
    rows = {row.node: row for row in found.rows}
    colours = _colours(found)
    whole = ""
    if len(found.parts) != 1:
        graph = _figure(draw(found.graph, rows, colours, {}), len(found.graph.nodes))
        line = f"the whole: {number(len(found.rows), 'node')}"
        whole = f"<details open><summary>{line}</summary>{graph}</details>"
    few = len(found.parts) <= _PARTS
    parts = "".join(_part(found, n, one, rows, opened=few) for n, one in enumerate(found.parts))
    return f'{whole}<div class="{"parts" if few else "parts many"}">{parts}</div>'


def _part(found: Explanation, n: int, one: PartFacts, rows: dict[str, Row], *, opened: bool) -> str:
    memory = one.memory
    seconds = "" if one.seconds is None else f", at least {duration(1e9 * one.seconds)}"
    operations = count(sum(rows[node.name].operations for node in one.part.graph.nodes))
    line = f"{_part_line(found, one)}, {operations} operations{seconds}"
    graph = draw(one.part.graph, rows, _colours(found), _ends(found, n))
    arena = (
        f"<h3>Memory of {escape(one.part.name)}</h3>"
        f'<p class="soft">Arena {amount(memory.arena_bytes)}, most in use '
        f"{amount(memory.largest_live_bytes)}: efficiency {memory.efficiency:.1%}. Results of "
        f"nodes lie at offsets aligned to {memory.alignment} bytes (upwards) from the node that "
        "makes them to the last that reads them (to the right); the line is what is in use. "
        f"{number(len(memory.shares), 'result')} lie in the place of an operand.</p>"
        f"{charts.memory(one)}"
        if memory.arena_bytes
        else ""
    )
    return (
        f'<details class="part" id="part-{n}"{" open" if opened else ""}>'
        f'<summary><span class="key p{min(one.part.place, COLOURS - 1)}"></span>{escape(line)}'
        f"</summary>{_figure(graph, len(one.part.graph.nodes))}{arena}</details>"
    )


def _figure(graph: str, nodes: int) -> str:
    if graph:
        return f'<div class="canvas">{graph}</div>'
    told = f"More than {DRAWN:,} nodes are not drawn." if nodes else "Nothing to run."
    return f'<p class="soft">{told}</p>'


def _ends(found: Explanation, n: int) -> dict[str, str]:
    """Returns where the values at the border of a part come from and go to."""
    ends: dict[str, list[str]] = {}
    for transfer in found.transfers:
        if transfer.before == n:
            ends.setdefault(transfer.value.name, []).append(f"copied from {found.maker(transfer)}")
        if transfer.after == n:
            ends.setdefault(transfer.value.name, []).append(f"copied to {found.reader(transfer)}")
    return {name: "\n".join(told) for name, told in ends.items()}


def _rooflines(found: Explanation) -> str:
    drawn = []
    for index, place in enumerate(found.places):
        parts = [one for one in found.parts if one.part.place == index]
        if not parts:
            continue
        peaks = published(place.target)
        if peaks is None:
            drawn.append(f'<p class="soft">{escape(str(place))} publishes no peak rates.</p>')
            continue
        steps = [step for one in parts for step in one.steps or ()]
        chart = charts.roofline(steps, peaks, min(index, COLOURS - 1))
        drawn.append(f"<h3>{escape(str(place))}</h3>{chart}")
    if not drawn:
        return ""
    told = (
        "The most operations a second that each node, or claimed region, can reach at the "
        "target's published peak rates: the roof over its operations per byte. Larger circles "
        "take longer. What runs is slower; what lies under the slope is bound by memory."
    )
    return f'<h2>Roofline</h2><p class="soft">{told}</p>' + "".join(drawn)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        '<div class="scroll"><table class="sortable"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: object) -> str:
    return f"<td>{escape(str(text))}</td>"


def _number(value: float, text: str) -> str:
    return f'<td class="number" data-v="{value:g}">{escape(text)}</td>'


def _transfers(found: Explanation) -> str:
    if not found.transfers:
        return ""
    rows = []
    for transfer in found.transfers:
        seconds = found.copy_seconds(transfer)
        time = _number(seconds, duration(1e9 * seconds)) if seconds is not None else _cell("")
        nbytes = transfer.value.type.nbytes
        rows.append(
            (
                _cell(transfer.value.name),
                _cell(transfer.value.type),
                _number(nbytes, amount(nbytes)),
                _cell(f"{found.maker(transfer)} on {found.places[transfer.source]}"),
                _cell(f"{found.reader(transfer)} on {found.places[transfer.destination]}"),
                time,
            )
        )
    columns = ("value", "type", "bytes", "from", "to", "at least")
    return f"<h2>Copies between places</h2>{_table(columns, rows)}"


def _claims(found: Explanation) -> str:
    rows = [
        (
            _cell(claim.name or "region"),
            _cell(found.places[one.part.place]),
            _number(len(claim.nodes), str(len(claim.nodes))),
            _cell(", ".join(claim.nodes)),
        )
        for one in found.parts
        for claim in one.part.claims
    ]
    if not rows:
        return ""
    table = _table(("region", "on", "nodes", "which"), rows)
    return f"<details><summary>{number(len(rows), 'claimed region')}</summary>{table}</details>"


def _nodes(found: Explanation) -> str:
    colours = _colours(found)
    rows = []
    for n, (row, node) in enumerate(zip(found.rows, found.graph.nodes, strict=True)):
        key = f'<span class="key p{colours[row.place]} {row.verdict}"></span>'
        types = ", ".join(str(value.type) for value in node.outputs if value is not None)
        rows.append(
            (
                f'<td class="number" data-v="{n}" id="n-{escape(row.node, quote=True)}">{n}</td>',
                f"<td>{key}{escape(row.op)}</td>",
                _cell(types),
                _cell(" › ".join(row.via)),
                _cell(", ".join(row.origin)),
                f'<td class="number" data-tip="{escape(row.place, quote=True)}">'
                f"{'' if row.part is None else row.part}</td>",
                _cell(f"{row.verdict}{' ' + row.claim if row.claim else ''}"),
                _number(row.operations, count(row.operations)),
                _number(row.bytes, amount(row.bytes)),
                _number(row.intensity, f"{row.intensity:.2f}"),
                _cell(row.reason),
            )
        )
    columns = ("#", "op", "result", "made by", "computes for", "part", "placement", "operations")
    return _table((*columns, "bytes", "per byte", "why"), rows)


def _interface(found: Explanation) -> str:
    rows = [
        (
            _cell(kind),
            _cell(value.name),
            _cell(value.type),
            _number(value.type.nbytes, amount(value.type.nbytes)),
        )
        for kind, values in (("input", found.graph.inputs), ("output", found.graph.outputs))
        for value in values
    ]
    return _table(("", "name", "type", "bytes"), rows)
