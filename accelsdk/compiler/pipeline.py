"""From a model to the graph that a backend compiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from accelsdk.backend.backend import Backend
from accelsdk.backend.info import Target
from accelsdk.compiler.partition.cut import cut
from accelsdk.compiler.partition.placing import Placed, Placer
from accelsdk.compiler.partition.plan import Place, Plan
from accelsdk.compiler.passes.catalogue import PASSES as PASSES
from accelsdk.compiler.passes.manager import Pass, run_passes
from accelsdk.errors import InvalidArgument, UnsupportedGraph
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.rewrite import LoweringRule, apply
from accelsdk.graph.verify import verify

if TYPE_CHECKING:
    import onnx


def to_core(
    source: str | Path | bytes | onnx.ModelProto | Graph,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, ArrayLike] | None = None,
    rules: Sequence[LoweringRule] = (),
    composites: Sequence[OpDef] = (),
    passes: Sequence[Pass] = PASSES,
) -> Graph:
    """Returns a model as an optimised graph of core ops, for no backend in particular.

    Args:
        source: A model (see `accelsdk.compiler.importer.read`), or a graph.
        input_shapes: Shapes of inputs with dynamic dimensions; for models alone.
        input_values: Inputs to bind to a constant; for models alone.
        rules: Lowering rules besides the built-in ones, tried first.
        composites: Vendors' composites that ``rules`` may emit.
        passes: What to optimise with.

    Raises:
        NotFound, ModelError, InvalidArgument: See `accelsdk.compiler.importer.read`.
        GraphError: A given graph breaks a rule of the IR.
        UnsupportedGraph: A node cannot be lowered; carries the reasons.
    """
    if isinstance(source, Graph):
        graph = source
    else:
        # onnx takes 0.1 s to import: whoever has a graph already does without
        from accelsdk.compiler import importer

        graph = importer.read(
            source, input_shapes=input_shapes, input_values=input_values, rules=rules
        )
    if any(node.domain != CORE for node in graph.nodes):
        graph = _lowered(graph, rules, composites)
    verify(graph, composites=composites)
    return run_passes(graph, passes, composites)


def lower(
    source: str | Path | bytes | onnx.ModelProto | Graph,
    backend: Backend,
    target: Target,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, ArrayLike] | None = None,
    rules: Sequence[LoweringRule] = (),
    composites: Sequence[OpDef] = (),
) -> Graph:
    """Returns a model as a graph that ``backend`` compiles for ``target``.

    Composites that the backend runs natively, or claims as part of a region, stay; others are
    decomposed, again and again, until each node is supported. This is `plan` with one place.

    Args:
        source: A model (see `accelsdk.compiler.importer.read`), or a graph.
        backend: Asked about every node.
        target: One of its targets.
        input_shapes: Shapes of inputs with dynamic dimensions; for models alone.
        input_values: Inputs to bind to a constant; for models alone.
        rules: Lowering rules besides the built-in ones, tried first.
        composites: Vendors' composites that ``rules`` may emit.

    Raises:
        NotFound, ModelError, InvalidArgument: See `accelsdk.compiler.importer.read`.
        UnsupportedGraph: Nodes that the backend refuses; carries every reason.
    """
    return plan(
        source,
        (Place(backend=backend, target=target),),
        input_shapes=input_shapes,
        input_values=input_values,
        rules=rules,
        composites=composites,
    ).graph


def plan(
    source: str | Path | bytes | onnx.ModelProto | Graph,
    places: Sequence[Place],
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, ArrayLike] | None = None,
    rules: Sequence[LoweringRule] = (),
    composites: Sequence[OpDef] = (),
) -> Plan:
    """Returns a model as parts, each on the place that runs it; see `partition`.

    Args:
        source: A model (see `accelsdk.compiler.importer.read`), or a graph.
        places: The one asked for, then those that serve what it refuses; with one place,
            the plan is the whole model there, or refused.
        input_shapes: Shapes of inputs with dynamic dimensions; for models alone.
        input_values: Inputs to bind to a constant; for models alone.
        rules: Lowering rules besides the built-in ones, tried first.
        composites: Vendors' composites that ``rules`` may emit.

    Raises:
        NotFound, ModelError, InvalidArgument: See `accelsdk.compiler.importer.read`.
        UnsupportedGraph: Nodes that no place runs; carries every reason.
    """
    graph = to_core(
        source,
        input_shapes=input_shapes,
        input_values=input_values,
        rules=rules,
        composites=composites,
    )
    return partition(graph, places, composites)


def partition(graph: Graph, places: Sequence[Place], composites: Sequence[OpDef] = ()) -> Plan:
    """Lowers a core graph for places, and cuts it into parts that run one after the other.

    What place 0 runs, alone or in a region that it claims, runs there; the rest runs on the
    first other place that does. Composites that a place runs natively, or claims, stay whole;
    see `accelsdk.compiler.partition.placing` for the others. Nodes computed from constants
    alone go where they are read. Time is linear in nodes and edges.

    Args:
        graph: A core graph, such as `to_core` returns.
        places: The one asked for, then those that serve what it refuses.
        composites: Vendors' composites that the graph has.

    Raises:
        InvalidArgument: No place is given.
        UnsupportedGraph: Nodes that no place runs; carries every reason.
        Internal: A backend fails, or answers with something of the wrong type.
    """
    if not places:
        raise InvalidArgument("no place to run on", remedy="give a backend and its target")
    placed = Placer(places, composites, PASSES).place(graph)
    if placed.refused:
        raise _refused(placed, places)
    lowered = placed.dag.graph
    parts, transfers = cut(placed.dag, [p.place for p in placed.placements], placed.regions)
    for part in parts:
        if part.graph is not lowered:
            verify(part.graph, composites=composites)
    return Plan(
        graph=lowered,
        places=tuple(places),
        parts=parts,
        transfers=transfers,
        placements=placed.placements,
    )


def _refused(placed: Placed, places: Sequence[Place]) -> UnsupportedGraph:
    nodes = placed.dag.graph.nodes
    reasons = [
        f"node {node.name!r} ({node.op}){_from(node)}: {placed.refused[node.name]}"
        for node in nodes
        if node.name in placed.refused
    ]
    alone = len(places) == 1
    where = places[0].target.name if alone else f"any of {', '.join(map(str, places))}"
    return UnsupportedGraph(
        f"{len(reasons)} of {len(nodes)} nodes cannot run on {where}",
        reasons=reasons,
        backend=places[0].backend.info.name,
        remedy="choose another backend or target, or change the model",
    )


def _lowered(graph: Graph, rules: Sequence[LoweringRule], composites: Iterable[OpDef]) -> Graph:
    from accelsdk.compiler.rules.catalogue import RULES

    reasons: list[str] = []
    core = apply(
        graph,
        (*rules, *RULES),
        refused=lambda node, reason: reasons.append(f"node {node.name!r} ({node.op}): {reason}"),
    )
    admitted = {CORE, *(row.domain for row in composites)}
    reasons += [
        f"node {node.name!r} ({node.op}): no lowering rule for {node.domain}:{node.op}"
        for node in core.nodes
        if node.domain not in admitted
    ]
    if reasons:
        raise UnsupportedGraph("the model cannot be lowered to core ops", reasons=reasons)
    return core


def _from(node: Node) -> str:
    return f" from {', '.join(node.origin)}" if node.origin else ""
