"""``accelsdk explain``: how a model is lowered, where each node would run, and why there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsdk.cli.console import (
    Binds,
    Fallback,
    Model,
    Options,
    Plugin,
    Shapes,
    console,
    existing_file,
    parse_binds,
    parse_options,
    parse_shapes,
)

if TYPE_CHECKING:
    from accelsdk.cli.explanation.facts import Explanation
    from accelsdk.compiler.partition.plan import Place
    from accelsdk.graph.graph import Graph
    from accelsdk.graph.opdef import OpDef
    from accelsdk.registry import Registry
    from accelsdk.runtime.client import Client


def command(
    model: Model,
    plugin: Plugin = "reference_cpu",
    target: Annotated[
        str | None, typer.Option(help="Target to compile for.", show_default="the first")
    ] = None,
    shape: Shapes = None,
    bind: Binds = None,
    option: Options = None,
    fallback: Fallback = True,
    all: Annotated[bool, typer.Option("--all", help="Show every node of a long model.")] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the report as JSON; - is standard output."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report as one page that needs no network: the graph, the nodes, the "
            "memory plan over time, the roofline.",
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Export the lowered graph as standard ONNX, which any ONNX runtime runs.",
        ),
    ] = None,
) -> None:
    """Show how a model is lowered and placed, node by node. Needs no card.

    For each node: its op, the rules and passes that made it, the plugin's verdict, the fused
    region that it was claimed for, its operations, the bytes it touches, and operations per
    byte. Then the parts of the model and where they run, the memory plan of each, what is
    copied between them, and, if the target publishes its peak rates, the least time they allow.

    A verdict is native, emulated (right, but slow), or unsupported. What the plugin refuses
    goes to reference_cpu unless --no-fallback is given. Exit code 1 if a node can run nowhere;
    every reason is listed.

    Example: accelsdk explain model.onnx -p sim_card -s x=1,3,48,192 --html model.html
    """
    import accelsdk
    from accelsdk.cli.explanation.terminal import show
    from accelsdk.registry import registry
    from accelsdk.runtime.client import FALLBACK

    existing_file(model)
    found, out = registry(), console()
    with accelsdk.connect(
        plugin, parse_options(option), fallback=FALLBACK if fallback else None
    ) as client:
        places = _places(client, target)
        with out.status(f"lowering {model.name} for {plugin}"):
            explanation = _explained(found, model, places, shape, bind)
    if json != "-":
        show(out, explanation, every=all)
    _write(explanation, found.composites(), json=json, html=html, onnx=onnx)
    if json != "-":
        for path in filter(None, (json, html, onnx)):
            out.print(f"wrote {path}", soft_wrap=True)
    if explanation.refusals:
        raise typer.Exit(1)


def _places(client: Client, target: str | None) -> list[Place]:
    """Returns the place asked for, and the fallback's."""
    from accelsdk.compiler.partition.plan import Place

    places = [Place(backend=client.backend, target=client.target(target))]
    if (other := client.fallback) is not None:
        places.append(Place(backend=other.backend, target=other.targets[0]))
    return places


def _explained(
    found: Registry,
    model: Path,
    places: list[Place],
    shapes: list[str] | None,
    binds: list[str] | None,
) -> Explanation:
    from accelsdk.cli.explanation.facts import gather
    from accelsdk.compiler.pipeline import to_core

    composites = found.composites()
    graph = to_core(
        model,
        input_shapes=parse_shapes(shapes),
        input_values=parse_binds(binds),
        rules=found.lowering_rules(),
        composites=composites,
    )
    return gather(graph, places, composites, model.name)


def _write(
    found: Explanation,
    composites: tuple[OpDef, ...],
    *,
    json: str | None,
    html: Path | None,
    onnx: Path | None,
) -> None:
    """Writes the reports that were asked for."""
    if json is not None:
        from accelsdk.cli.explanation.record import to_json

        text = to_json(found)
        if json == "-":
            typer.echo(text, nl=False)
        else:
            _write_file(Path(json), text.encode())
    if html is not None:
        from accelsdk.cli.explanation.page import render

        _write_file(html, render(found).encode())
    if onnx is not None:
        _write_file(onnx, _exported(found.graph, composites))


def _write_file(path: Path, content: bytes) -> None:
    from accelsdk.backend.files import written

    with written(path) as file:
        file.write(content)


def _exported(graph: Graph, composites: tuple[OpDef, ...]) -> bytes:
    """Returns a graph as an ONNX model; vendors' composites, which no ONNX has, in pieces."""
    from accelsdk.exchange.export import to_onnx
    from accelsdk.graph.rewrite import apply, decompositions

    model = to_onnx(apply(graph, decompositions(composites)))
    content: bytes = model.SerializeToString(deterministic=True)
    return content
