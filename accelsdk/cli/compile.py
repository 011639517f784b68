"""``accelsdk compile``: a model to a program file, ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsdk.cli.console import (
    Binds,
    Cache,
    Fallback,
    Model,
    Options,
    Plugin,
    Shapes,
    amount,
    console,
    existing_file,
    parse_binds,
    parse_options,
    parse_shapes,
    print_parts,
)


def command(
    model: Model,
    plugin: Plugin = "reference_cpu",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-O", help="Program file.", show_default="MODEL.accel"),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Target to compile for.", show_default="the first")
    ] = None,
    shape: Shapes = None,
    bind: Binds = None,
    option: Options = None,
    fallback: Fallback = True,
    cache: Cache = True,
) -> None:
    """Compile a model ahead of time to a program file. Needs no card.

    'accelsdk run' takes the file in place of a model, on any host with the same plugins. A
    model that the plugin does not run whole is compiled in parts; they are listed, with what
    is copied between them.
    """
    import accelsdk
    from accelsdk.runtime.client import FALLBACK

    existing_file(model)
    path = output or Path(f"{model.stem}.accel")
    out = console()
    with (
        accelsdk.connect(
            plugin,
            parse_options(option),
            fallback=FALLBACK if fallback else None,
            cache=cache,
        ) as client,
        out.status(f"compiling {model.name} for {plugin}"),
    ):
        program = client.compile(
            model,
            target=target,
            input_shapes=parse_shapes(shape),
            input_values=parse_binds(bind),
        )
        program.save(path)
    header = program.header
    weights = sum(spec.nbytes for part in program.parts for spec in part.program.constants)
    out.print(f"{path}: {header.backend} {header.backend_version}, target {header.target}")
    code = sum(len(part.program.code) for part in program.parts)
    out.print(f"  code {amount(code)}, constants {amount(weights)}")
    for kind, specs in (("input", program.inputs), ("output", program.outputs)):
        for spec in specs:
            out.print(f"  {kind} {spec.name}: {spec.type}")
    if program.crossings:
        print_parts(out, program)
