"""Decides where each node runs, and which composites are decomposed on the way there.

Places are asked in order, and what one refuses goes to the next. A composite that a place
runs natively, or claims as part of a region, stays whole; otherwise it is decomposed, one
level at a time, as far as that is of use there:

- for the place asked for, if its decomposition is supported wholly, or to at least half of
  its operations (what is left goes to the other places);
- for another place, if its decomposition is supported wholly there; the pieces stay there;
- for nobody in particular, if no place takes it by these rules.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from accelsdk.backend.ask import ask
from accelsdk.backend.backend import Claim, Support, Verdict
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.partition.plan import Place, Placement
from accelsdk.compiler.partition.verdicts import Verdicts, ask_place
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.passes.manager import Pass, run_passes
from accelsdk.compiler.passes.no_ops import NO_OPS
from accelsdk.errors import GraphError
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.ops import rows_with
from accelsdk.graph.rewrite import LoweringRule, apply, decompositions

#: What a decomposition on trial is tidied with: nothing that reads weights.
_TIDYING = (DEAD_CODE, NO_OPS)
#: Composites within composites this deep are taken to be a loop.
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Placed:
    """A graph lowered for its places.

    Attributes:
        dag: The graph.
        placements: One a node, in order, of the nodes that have a place.
        regions: Claimed regions that hold, of all places.
        refused: Nodes that no place runs, with the reasons of each place.
    """

    dag: Dag
    placements: tuple[Placement, ...]
    regions: tuple[Claim, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Trial:
    """How much of a composite a place would run in pieces."""

    whole: bool  # every piece
    worth: bool  # at least half of the operations


@dataclass(frozen=True, slots=True)
class _Pin:
    """Keeps the pieces of a composite on one place."""

    place: int
    refusal: str


@dataclass(slots=True)
class _Round:
    """What came of asking about a graph once."""

    dag: Dag
    placed: dict[str, Placement] = field(default_factory=dict)
    verdicts: dict[int, Verdicts] = field(default_factory=dict)
    opened: dict[str, _Pin | None] = field(default_factory=dict)

    def regions(self) -> tuple[Claim, ...]:
        """Returns the regions that were placed."""
        return tuple(region for asked in self.verdicts.values() for region in asked.regions)


class Placer:
    """Places the nodes of graphs.

    Args:
        places: In order of preference.
        composites: Vendors' composites.
        passes: What graphs are optimised with after each level of decomposition.
    """

    def __init__(
        self, places: Sequence[Place], composites: Sequence[OpDef], passes: Sequence[Pass]
    ) -> None:
        self._places, self._composites, self._passes = places, composites, passes
        self._rows = rows_with(composites)
        self._trials: dict[Hashable, _Trial] = {}

    @cached_property
    def _rules(self) -> tuple[LoweringRule, ...]:
        """The decompositions, made once a composite has to be opened."""
        return decompositions(self._rows.values())

    def place(self, graph: Graph) -> Placed:
        """Lowers a core graph for the places, and says where each node runs."""
        return self._settle(graph, range(len(self._places)), self._passes)

    def _settle(self, graph: Graph, candidates: Sequence[int], passes: Sequence[Pass]) -> Placed:
        pins: dict[str, _Pin] = {}
        now = self._ask(graph, candidates, pins)
        for _ in range(_DEEPEST):
            if not now.opened:
                break
            graph = run_passes(self._open(graph, now.opened, pins), passes, self._composites)
            now = self._ask(graph, candidates, pins)
        else:
            stuck = ", ".join(sorted({_op(now, name) for name in now.opened}))
            raise GraphError(f"decompositions of {stuck} come to no end", rule="rewrite-loop")
        self._follow_readers(now, candidates)
        names = [node.name for node in graph.nodes]
        placements = tuple(now.placed[name] for name in names if name in now.placed)
        refused = {name: self._reasons(now, name) for name in names if name not in now.placed}
        return Placed(now.dag, placements, now.regions(), refused)

    def _ask(self, graph: Graph, candidates: Sequence[int], pins: Mapping[str, _Pin]) -> _Round:
        now = _Round(Dag.of(graph))
        left = {node.name: node for node in graph.nodes}
        for index in candidates:
            wanted = {name for name in left if name not in pins or pins[name].place == index}
            if not wanted:
                continue
            asked = ask_place(now.dag, self._places[index], wanted, now.regions())
            now.verdicts[index] = asked
            for name, node in tuple(left.items()):
                if name in wanted and self._settled(now, node, index, candidates, pins.get(name)):
                    del left[name]
        # What no place takes as it is may find its places in pieces.
        now.opened.update((name, None) for name, node in left.items() if self._composite(node))
        return now

    def _settled(
        self, now: _Round, node: Node, index: int, candidates: Sequence[int], pin: _Pin | None
    ) -> bool:
        """Places a node at ``index``, or opens it for that place; False if it goes on."""
        asked, first = now.verdicts[index], candidates[0]
        support, region = asked.support[node.name], asked.region.get(node.name)
        refusal = "" if index == first else pin.refusal if pin else self._refusal(now, node, first)
        if self._composite(node) and region is None and support.verdict is not Verdict.NATIVE:
            if len(candidates) == 1 and not support:
                return False
            trial = self._trial(now.dag.graph, node, index)
            if trial.whole or (index == first and trial.worth and not support):
                now.opened[node.name] = None if index == first else _Pin(index, refusal)
                return True
        if not support:
            return False
        now.placed[node.name] = Placement(
            node=node.name,
            place=index,
            support=support,
            claim=(region.name or "region") if region is not None else "",
            refusal=refusal,
            fault=asked.faults.get(node.name, ""),
        )
        return True

    def _refusal(self, now: _Round, node: Node, index: int) -> str:
        """Returns why a place that was asked does not run a node."""
        asked = now.verdicts[index]
        fault = asked.faults.get(node.name)
        text = asked.support[node.name].text or "refused"
        return f"{text}; {fault}" if fault else text

    def _reasons(self, now: _Round, name: str) -> str:
        node = now.dag.graph.nodes[now.dag.index[name]]
        told = [
            (self._places[index].backend.info.name, self._refusal(now, node, index))
            for index, asked in now.verdicts.items()
            if name in asked.support
        ]
        if len(told) == 1:
            return told[0][1]
        return "; ".join(f"{backend}: {text}" for backend, text in told)

    # -- composites ----------------------------------------------------------------------------

    def _composite(self, node: Node) -> bool:
        row = self._rows.get((node.domain, node.op))
        return row is not None and row.is_composite

    def _open(
        self, graph: Graph, opened: Mapping[str, _Pin | None], pins: dict[str, _Pin]
    ) -> Graph:
        """Decomposes composites by one level; pins the pieces where that was asked for."""
        for pin in dict.fromkeys(opened.values()):
            names = frozenset(name for name, wanted in opened.items() if wanted == pin)
            before = {node.name for node in graph.nodes}
            graph = apply(graph, self._rules, keep=partial(_outside, names))
            if pin is not None:
                made = (node.name for node in graph.nodes if node.name not in before)
                pins.update(dict.fromkeys(made, pin))
        return graph

    def _trial(self, graph: Graph, node: Node, index: int) -> _Trial:
        """Decomposes a node by itself, wholly, for one place; equal nodes once."""
        constant = graph.constant_by_name
        key = (
            (index, node.domain, node.op, *(v is not None for v in node.outputs)),
            tuple(v and (v.type, v.name in constant) for v in node.inputs),
            tuple(sorted((name, repr(item)) for name, item in node.attributes.items())),
        )
        if key not in self._trials:
            self._trials[key] = self._try(_alone(graph, node), index)
        return self._trials[key]

    def _try(self, alone: Graph, index: int) -> _Trial:
        pieces = run_passes(apply(alone, self._rules, _made_by(alone)), _TIDYING, self._composites)
        settled = self._settle(pieces, (index,), _TIDYING)
        running = {placement.node for placement in settled.placements}
        constant = _constant_nodes(settled.dag)
        total = supported = 0
        whole = True
        for number, node in enumerate(settled.dag.graph.nodes):
            if constant[number]:
                continue  # is folded in the end, or goes where it is read
            operations = self._rows[node.domain, node.op].work(node).operations
            total += operations
            supported += operations if node.name in running else 0
            whole = whole and node.name in running
        return _Trial(whole, 0 < total <= 2 * supported)

    # -- constants -----------------------------------------------------------------------------

    def _follow_readers(self, now: _Round, candidates: Sequence[int]) -> None:
        """Moves what is computed from constants alone to the one place that reads it.

        Left where they are, their results would be copied in every run.
        """
        dag, first = now.dag, candidates[0]
        outputs = {value.name for value in dag.graph.outputs}
        constant = _constant_nodes(dag)
        regions = {name for region in now.regions() for name in region.nodes}
        for number in range(len(dag.graph.nodes) - 1, -1, -1):
            node = dag.graph.nodes[number]
            if not constant[number] or node.name in regions or node.name not in now.placed:
                continue
            readers = (dag.graph.nodes[reader].name for reader in dag.after[number])
            places = {now.placed[name].place for name in readers if name in now.placed}
            if any(v is not None and v.name in outputs for v in node.outputs):
                places.add(first)
            here = now.placed[node.name]
            if len(places) != 1 or here.place in places:
                continue
            (there,) = places
            place = self._places[there]
            support = ask(place.backend, "supports", Support, dag.graph, node, place.target)
            if support:
                refusal = "" if there == first else f"its constant result is read on {place} alone"
                now.placed[node.name] = replace(here, place=there, support=support, refusal=refusal)


def _op(now: _Round, name: str) -> str:
    return now.dag.graph.nodes[now.dag.index[name]].op


def _outside(names: Collection[str], node: Node) -> bool:
    return node.name not in names


def _made_by(alone: Graph) -> partial[bool]:
    return partial(_outside, frozenset(node.name for node in alone.nodes))


def _alone(graph: Graph, node: Node) -> Graph:
    """Returns a graph of one node; its constant operands stay constant, and unread."""
    operands = tuple(dict.fromkeys(value for value in node.inputs if value is not None))
    known = graph.constant_by_name
    return Graph(
        inputs=tuple(value for value in operands if value.name not in known),
        outputs=tuple(value for value in node.outputs if value is not None),
        constants=tuple(known[value.name] for value in operands if value.name in known),
        nodes=(node,),
        name=node.name,
    )


def _constant_nodes(dag: Dag) -> list[bool]:
    """Says of each node whether it is computed from constants alone."""
    known = dag.graph.constant_by_name
    made: set[str] = set()
    found = []
    for node in dag.graph.nodes:
        read = [value.name for value in node.inputs if value is not None]
        constant = bool(read) and all(name in known or name in made for name in read)
        found.append(constant)
        if constant:
            made.update(value.name for value in node.outputs if value is not None)
    return found
