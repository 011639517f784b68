"""A static plan of where the values of a graph lie in one arena.

A value lives from the node that makes it to the last that reads it; values that live at the
same time do not overlap. Greedy by size with best fit (Pisarchyk and Lee, "Efficient Memory
Management for Deep Neural Net Inference", arXiv 2001.03288, section 5.3) places the largest
buffer first, in the smallest gap among those placed that live at the same time.

Two ways to share a place come before that, both declared by rules and both checked:

- a *view*: a Reshape's result is its operand, and lives as long as both;
- *in place*: a node writes a result over an operand that it is the last to read. Only ops
  that read each element before they write it, at the same place, may do so.

Inputs and constants of the graph are not in the arena: the caller owns them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from accelsdk.errors import GraphError, InvalidArgument
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE
from accelsdk.graph.types import TensorType, Value

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


def elementwise_in_place(node: Node) -> Iterable[int]:
    """The default in-place rule: elementwise ops and activations.

    They read an element before they write it, at the same place, provided that type and shape
    of operand and result are equal (which `plan` checks).
    """
    row = TABLE.get(node.op) if node.domain == CORE else None
    plain = row is not None and row.family in (Family.ELEMENTWISE, Family.ACTIVATION)
    return range(len(node.inputs)) if plain else ()


def nothing_in_place(node: Node) -> Iterable[int]:
    """The in-place rule of a backend whose kernels must not overwrite their operands."""
    return ()


def plan(
    graph: Graph,
    alignment: int = 64,
    in_place: InPlaceRule = elementwise_in_place,
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
    shares = _shares(graph, intervals, in_place, views)
    buffers = _buffers(intervals, shares, {v.name: v for v in graph.values()}, alignment)
    placed = _place(buffers)
    offsets = {name: placed[_root(shares, name)] for name in intervals}
    arena = max((placed[b.name] + b.nbytes for b in buffers), default=0)
    return MemoryPlan(
        offsets=offsets,
        intervals=intervals,
        shares=shares,
        arena_bytes=arena,
        largest_live_bytes=_largest_live(buffers),
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


def _root(shares: Mapping[str, str], name: str) -> str:
    while name in shares:
        name = shares[name]
    return name


def _shares(
    graph: Graph, intervals: Mapping[str, Interval], in_place: InPlaceRule, views: bool
) -> dict[str, str]:
    """Returns which result lies in the place of which operand."""
    shares: dict[str, str] = {}
    # The last position at which anything in the place of a root is read, so far.
    until = {name: interval.last for name, interval in intervals.items()}
    for position, node in enumerate(graph.nodes):
        result = node.outputs[0] if node.outputs else None
        if result is None:
            continue
        source = _shared_operand(node, result, position, shares, until, in_place, views)
        if source is not None:
            root = _root(shares, source)
            shares[result.name] = source
            until[root] = max(until[root], intervals[result.name].last)
    return shares


def _shared_operand(
    node: Node,
    result: Value,
    position: int,
    shares: Mapping[str, str],
    until: Mapping[str, int],
    in_place: InPlaceRule,
    views: bool,
) -> str | None:
    """Returns the operand in whose place ``result`` may lie, or None."""
    if views and _is_view(node):
        operand = node.inputs[0]
        return operand.name if operand is not None and operand.name in until else None
    for index in in_place(node):
        operand = node.operand(index)
        if operand is None or operand.name not in until or operand.type != result.type:
            continue
        root = _root(shares, operand.name)
        others = [v for i, v in enumerate(node.inputs) if i != index and v is not None]
        also_read = any(
            v.name in until and _root(shares, v.name) == root and v.type != result.type
            for v in others
        )
        if until[root] == position and not also_read:
            return operand.name
    return None


def _is_view(node: Node) -> bool:
    return node.domain == CORE and node.op == "Reshape"


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One place in the arena, for a value and all that share its place."""

    name: str
    nbytes: int
    interval: Interval


def _buffers(
    intervals: Mapping[str, Interval],
    shares: Mapping[str, str],
    values: Mapping[str, Value],
    alignment: int,
) -> list[_Buffer]:
    members: dict[str, list[str]] = {}
    for name in intervals:
        members.setdefault(_root(shares, name), []).append(name)
    return [
        _Buffer(
            root,
            _padded(max((values[name].type for name in names), key=_nbytes), alignment),
            Interval(
                first=min(intervals[name].first for name in names),
                last=max(intervals[name].last for name in names),
            ),
        )
        for root, names in members.items()
    ]


def _nbytes(kind: TensorType) -> int:
    return kind.nbytes


def _padded(kind: TensorType, alignment: int) -> int:
    return -(-kind.nbytes // alignment) * alignment


def _place(buffers: Sequence[_Buffer]) -> dict[str, int]:
    """Greedy by size, best fit; ties by first use, so that the plan is deterministic."""
    order = sorted(buffers, key=lambda b: (-b.nbytes, b.interval.first, b.name))
    first = np.array([b.interval.first for b in order], np.int64)
    last = np.array([b.interval.last for b in order], np.int64)
    size = np.array([b.nbytes for b in order], np.int64)
    offset = np.zeros(len(order), np.int64)
    for index in range(len(order)):
        done = slice(0, index)
        rivals = (first[done] <= last[index]) & (first[index] <= last[done]) & (size[done] > 0)
        starts = offset[done][rivals]
        by_place = np.argsort(starts, kind="stable")
        stops = starts + size[done][rivals]
        taken = zip(starts[by_place].tolist(), stops[by_place].tolist(), strict=True)
        offset[index] = _best_gap(taken, int(size[index]))
    return {buffer.name: int(offset[i]) for i, buffer in enumerate(order)}


def _best_gap(taken: Iterable[tuple[int, int]], nbytes: int) -> int:
    """Returns the start of the smallest gap that fits, else the end of what is taken."""
    end, best, best_size = 0, -1, 0
    for start, stop in taken:
        gap = start - end
        if gap >= nbytes and (best < 0 or gap < best_size):
            best, best_size = end, gap
        end = max(end, stop)
    return best if best >= 0 else end


def _largest_live(buffers: Iterable[_Buffer]) -> int:
    change: dict[int, int] = {}
    for buffer in buffers:
        first, last = buffer.interval.first, buffer.interval.last
        change[first] = change.get(first, 0) + buffer.nbytes
        change[last + 1] = change.get(last + 1, 0) - buffer.nbytes
    live = largest = 0
    for position in sorted(change):
        live += change[position]
        largest = max(largest, live)
    return largest


@dataclass(frozen=True, slots=True)
class _Held:
    """What a stretch of the arena holds: views of one another hold the same contents."""

    start: int
    stop: int
    contents: int

    def meets(self, other: _Held) -> bool:
        return self.start < other.stop and other.start < self.stop


def check_plan(
    graph: Graph, given: MemoryPlan, in_place: InPlaceRule = elementwise_in_place
) -> None:
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
    source = node.inputs[0] if _is_view(node) else None
    held = live.get(source.name) if source is not None else None
    if held is not None and held.start == offset:
        return _Held(offset, stop, held.contents)
    return _Held(offset, stop, fresh)


def _may_cover(node: Node, name: str, held: _Held, other: _Held, in_place: InPlaceRule) -> bool:
    """Says whether ``node`` may write its first result exactly over the operand ``name``."""
    if (held.start, held.stop) != (other.start, other.stop):
        return False
    operands = (node.operand(index) for index in in_place(node))
    kind = node.result.type
    return any(v is not None and v.name == name and v.type == kind for v in operands)


def _refuse(rule: str, text: str, node: Node) -> NoReturn:
    raise GraphError(text, rule=rule, node=node.name)
