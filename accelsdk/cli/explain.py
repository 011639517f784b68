"""``accelsdk explain``: how a model is lowered, and how each node would run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from accelsdk.cli.console import (
    Model,
    Options,
    Plugin,
    Shapes,
    amount,
    console,
    count,
    existing_file,
    number,
    parse_options,
    parse_shapes,
    short,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from accelsdk.compiler.explain import Row
    from accelsdk.graph.graph import Graph
    from accelsdk.graph.types import Shape
    from accelsdk.registry import Registry
    from accelsdk.runtime.client import Client


def command(
    model: Model,
    plugin: Plugin = "reference_cpu",
    target: Annotated[
        str | None, typer.Option(help="Target to compile for.", show_default="the first")
    ] = None,
    shape: Shapes = None,
    option: Options = None,
) -> None:
    """Show how a model is lowered and placed, node by node. Needs no card.

    For each node: its op, the nodes of the model that it computes for, the plugin's verdict,
    its operations, the bytes it touches, and operations per byte. Exit code 1 if the plugin
    refuses any node; every reason is listed.
    """
    from accelsdk.compiler.explain import survey
    from accelsdk.compiler.partition.plan import Place
    from accelsdk.registry import registry
    from accelsdk.runtime.client import Client

    existing_file(model)
    found = registry()
    out = console()
    with Client(found.backend(plugin), parse_options(option), plugins=found) as client:
        wanted = client.target(target)
        with out.status(f"lowering {model.name} for {plugin}"):
            graph = _lowered(client, found, model.as_posix(), wanted.name, parse_shapes(shape))
            place = Place(backend=client.backend, target=wanted)
            rows = survey(graph, place, found.composites())
    _print_nodes(out, rows)
    _print_summary(out, graph, rows, f"{plugin}/{wanted.name}")
    refused = [row for row in rows if row.verdict == "unsupported"]
    for row in refused:
        out.print(f"refused: {row.node} ({row.op}): {row.reason}")
    if refused:
        raise typer.Exit(1)


def _lowered(
    client: Client, found: Registry, model: str, target: str, shapes: dict[str, Shape]
) -> Graph:
    """Returns the graph that would be compiled; if the backend refuses it, the core graph."""
    from accelsdk.compiler.pipeline import lower, to_core
    from accelsdk.errors import UnsupportedGraph

    rules, composites = found.lowering_rules(), found.composites()
    try:
        return lower(
            model,
            client.backend,
            client.target(target),
            input_shapes=shapes,
            rules=rules,
            composites=composites,
        )
    except UnsupportedGraph as error:
        if error.backend is None:
            raise  # no lowering to core ops exists: no backend can run it
        return to_core(model, input_shapes=shapes, rules=rules, composites=composites)


def _print_nodes(out: Console, rows: Sequence[Row]) -> None:
    numbers = ("operations", "bytes", "per byte")
    shown = table(None, "op", "computes for", "verdict", *numbers, right=numbers)
    for row in rows:
        shown.add_row(
            row.op,
            short(", ".join(row.origin), 28),
            str(row.verdict),
            count(row.operations),
            amount(row.bytes),
            f"{row.intensity:.1f}",
        )
    out.print(shown)


def _print_summary(out: Console, graph: Graph, rows: Sequence[Row], where: str) -> None:
    ops = Counter(row.op for row in rows)
    verdicts = Counter(str(row.verdict) for row in rows)
    weights = sum(constant.value.type.nbytes for constant in graph.constants)
    total = count(sum(row.operations for row in rows))
    out.print(f"\n{number(len(rows), 'node')}, {total} operations, {amount(weights)} of constants")
    out.print("ops: " + ", ".join(f"{op} {times}" for op, times in ops.most_common()))
    out.print(f"on {where}: " + ", ".join(f"{times} {name}" for name, times in verdicts.items()))
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            out.print(f"{kind} {value.name}: {value.type}")
