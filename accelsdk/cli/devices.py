"""``accelsdk devices``: what cards there are, or why there are none."""

from __future__ import annotations

from typing import Annotated

import typer

from accelsdk.cli.console import Options, amount, console, parse_options, table


def command(
    plugin: Annotated[
        str | None, typer.Option("--plugin", "-p", help="Only this backend.", show_default="all")
    ] = None,
    option: Options = None,
) -> None:
    """List the devices of each plugin, with memory, target and abilities.

    No device is opened. Where a plugin finds none, the reason is printed.
    """
    from accelsdk.registry import registry
    from accelsdk.runtime.client import Client

    found = registry()
    backends = [found.backend(plugin)] if plugin else list(found.backends)
    shown = table(None, "device", "plugin", "#", "kind", "memory", "threads", "target", right="#")
    notes = []
    for backend in backends:
        with Client(backend, parse_options(option)) as client:
            for device in client.devices:
                shown.add_row(
                    device.id,
                    backend.info.name,
                    str(device.ordinal),
                    device.kind,
                    " + ".join(amount(memory.capacity) for memory in device.info.memories),
                    device.info.threading,
                    device.info.target,
                )
            for target in client.targets:
                abilities = ", ".join(sorted(target.capabilities)) or "none beyond the basic"
                notes.append(f"{backend.info.name}/{target.name}: {abilities}")
            if client.discovery.reason:
                notes.append(f"{backend.info.name}: {client.discovery.reason}")
    out = console()
    if shown.row_count:
        out.print(shown)
        out.print()
    for note in notes:
        out.print(note)
