"""A static plan of where the values of a graph lie in one arena.

A value lives from the node that makes it to the last that reads it; values that live at the
same time do not overlap. Offsets are those of `accelsdk.graph.placement`.

Two ways to share a place come before that (`accelsdk.graph.sharing` says which op may), and
both are checked:

- a *view*: a Reshape's result is its operand, and lives as long as both;
- *in place*: a node writes a result over an operand that it is the last to read.

Inputs and constants of the graph are not in the arena: the caller owns them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from accelsdk.errors import GraphError, InvalidArgument
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.placement import Buffer, largest_live, place
from accelsdk.graph.sharing import in_place_operands, view_of
from accelsdk.graph.types import Value

#: Says over which operand (its index) a node may write its first result, best first.
InPlaceRule = Callable[[Node], Iterable[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """When a value lives, in node positions.

    Attributes:
        first: Position of the node that makes it.
        last: Position of the last node that reads it; an output of the graph lives to the
            position after the last node.
    """

    first: int
    last: int

    def overlaps(self, other: Interval) -> bool:
        """Says whether both live at some node."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Where values lie.

    Attributes:
        offsets: Byte offset of every node result that is kept, by value name.
        intervals: When each of them lives, by value name.
        shares: For a value that lies in the place of another: that other's name.
        arena_bytes: Size of the arena.
        largest_live_bytes: Most bytes that live at one node; no plan can take fewer.
        alignment: Offsets are its multiples.
    """

    offsets: Mapping[str, int]
    intervals: Mapping[str, Interval]
    shares: Mapping[str, str]
    arena_bytes: int
    largest_live_bytes: int
    alignment: int

    @property
    def efficiency(self) -> float:
        """Largest live bytes over arena bytes: 1 is perfect (an empty arena is)."""
        return self.largest_live_bytes / self.arena_bytes if self.arena_bytes else 1.0


def nothing_in_place(node: Node) -> Iterable[int]:
    """The in-place rule of a backend whose kernels must not overwrite their operands."""
    return ()


def plan(
    graph: Graph,
    alignment: int = 64,
    in_place: InPlaceRule = in_place_operands,
    views: bool = True,
) -> MemoryPlan:
    """Returns a plan for all results of a graph's nodes.

    Args:
        graph: Verified.
        alignment: Bytes to which offsets are aligned; a power of two.
        in_place: Which operands a node may write over.
        views: Whether a Reshape lies where its operand lies.

    Raises:
        InvalidArgument: The alignment is not a power of two.
    """
    if alignment < 1 or alignment & (alignment - 1):
        raise InvalidArgument(f"alignment {alignment}", remedy="give a power of two")
    intervals = live_intervals(graph)
    shares, roots = _shares(graph, intervals, in_place, views)
    buffers = _buffers(intervals, roots, {v.name: v for v in graph.values()}, alignment)
    placed = place(buffers)
    offsets = {name: placed[root] for name, root in roots.items()}
    arena = max((placed[b.name] + b.nbytes for b in buffers), default=0)
    return MemoryPlan(
        offsets=offsets,
        intervals=intervals,
        shares=shares,
        arena_bytes=arena,
        largest_live_bytes=largest_live(buffers),
        alignment=alignment,
    )


def live_intervals(graph: Graph) -> dict[str, Interval]:
    """Returns when each node result lives, by value name."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in node.outputs:
            if value is not None:
                first[value.name] = last[value.name] = position
        for value in node.inputs:
            if value is not None and value.name in first:
                last[value.name] = position
    for value in graph.outputs:
        if value.name in first:
            last[value.name] = len(graph.nodes)
    return {name: Interval(first=first[name], last=last[name]) for name in first}


def _shares(
    graph: Graph, intervals: Mapping[str, Interval], in_place: InPlaceRule, views: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the operand in whose place a result lies, and the first value in each place."""
    shares: dict[str, str] = {}
    roots = {name: name for name in intervals}
    # The last position at which anything in the place of a root is read, so far.
    until = {name: interval.last for name, interval in intervals.items()}
    for position, node in enumerate(graph.nodes):
        result = node.outputs[0] if node.outputs else None
        if result is None:
            continue
        source = _shared_operand(node, position, roots, until, in_place, views)
        if source is not None:
            root = roots[result.name] = roots[source]
            shares[result.name] = source
            until[root] = max(until[root], intervals[result.name].last)
    return shares, roots


def _shared_operand(
    node: Node,
    position: int,
    roots: Mapping[str, str],
    until: Mapping[str, int],
    in_place: InPlaceRule,
    views: bool,
) -> str | None:
    """Returns the operand in whose place the first result may lie, or None."""
    viewed = view_of(node) if views else None
    if viewed is not None:
        operand = node.operand(viewed)
        return operand.name if operand is not None and operand.name in roots else None
    allowed = tuple(in_place(node))
    for index in allowed:
        operand = node.operand(index)
        if operand is None or operand.name not in roots or operand.type != node.result.type:
            continue
        root = roots[operand.name]
        # Who else reads this place must read it element for element as well.
        barred = any(
            v is not None
            and roots.get(v.name) == root
            and (i not in allowed or v.type != operand.type)
            for i, v in enumerate(node.inputs)
        )
        if until[root] == position and not barred:
            return operand.name
    return None


def _buffers(
    intervals: Mapping[str, Interval],
    roots: Mapping[str, str],
    values: Mapping[str, Value],
    alignment: int,
) -> list[Buffer]:
    """Returns one buffer for each value and all that share its place."""
    found: dict[str, Buffer] = {}
    for name, interval in intervals.items():
        root = roots[name]
        nbytes = -(-values[name].type.nbytes // alignment) * alignment
        made = Buffer(root, nbytes, interval.first, interval.last)
        other = found.get(root, made)
        found[root] = Buffer(
            root,
            max(nbytes, other.nbytes),
            min(interval.first, other.first),
            max(interval.last, other.last),
        )
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Held:
    """What a stretch of the arena holds: views of one another hold the same contents."""

    start: int
    stop: int
    contents: int

    def meets(self, other: _Held) -> bool:
        return self.start < other.stop and other.start < self.stop


def check_plan(graph: Graph, given: MemoryPlan, in_place: InPlaceRule = in_place_operands) -> None:
    """Proves a plan: every result has an aligned place, and no two live ones collide.

    Replays the graph over a picture of the arena: a node may write only over what nobody
    reads any more, or exactly over an operand that the in-place rule lets it overwrite; a
    Reshape may stay where its operand lies.

    Args:
        graph: The graph that was planned.
        given: The plan, from `plan` or from elsewhere.
        in_place: Which operands a node may write over.

    Raises:
        GraphError: The plan is wrong; names the node and the rule (``plan-missing``,
            ``plan-alignment``, ``plan-bounds``, ``plan-overlap``).
    """
    ends = {name: interval.last for name, interval in live_intervals(graph).items()}
    live: dict[str, _Held] = {}
    numbers = itertools.count()
    for position, node in enumerate(graph.nodes):
        for index, value in enumerate(node.outputs):
            if value is None:
                continue
            held = _held(node, value, given, live, fresh=next(numbers))
            for name, other in live.items():
                if not held.meets(other) or held.contents == other.contents:
                    continue
                covers = index == 0 and _may_cover(node, name, held, other, in_place)
                if ends[name] > position or not covers:
                    _refuse("plan-overlap", f"{value.name!r} covers live {name!r}", node)
            live[value.name] = held
        live = {name: held for name, held in live.items() if ends[name] > position}


def _held(
    node: Node, value: Value, given: MemoryPlan, live: Mapping[str, _Held], fresh: int
) -> _Held:
    """Returns the checked place of a result."""
    offset = given.offsets.get(value.name)
    if offset is None:
        _refuse("plan-missing", f"{value.name!r} has no place", node)
    if offset < 0 or offset % given.alignment:
        _refuse("plan-alignment", f"{value.name!r} lies at {offset}", node)
    stop = offset + value.type.nbytes
    if stop > given.arena_bytes:
        _refuse("plan-bounds", f"{value.name!r} ends beyond {given.arena_bytes:,}", node)
    viewed = view_of(node)
    source = node.operand(viewed) if viewed is not None else None
    held = live.get(source.name) if source is not None else None
    if held is not None and held.start == offset:
        return _Held(offset, stop, held.contents)
    return _Held(offset, stop, fresh)


def _may_cover(node: Node, name: str, held: _Held, other: _Held, in_place: InPlaceRule) -> bool:
    """Says whether ``node`` may write its first result exactly over the operand ``name``."""
    if (held.start, held.stop) != (other.start, other.stop):
        return False
    allowed = tuple(in_place(node))
    kind = node.result.type
    read = [(i, v) for i, v in enumerate(node.inputs) if v is not None and v.name == name]
    return bool(read) and all(i in allowed and v.type == kind for i, v in read)


def _refuse(rule: str, text: str, node: Node) -> NoReturn:
    raise GraphError(text, rule=rule, node=node.name)
