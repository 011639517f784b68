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
    shown = table(None, "device", "kind", "memory", "target", "threads", "abilities")
    reasons = []
    for backend in backends:
        with Client(backend, parse_options(option)) as client:
            for device in client.devices:
                shown.add_row(
                    device.id,
                    device.kind,
                    ", ".join(
                        f"{amount(memory.capacity)} {memory.kind}"
                        for memory in device.info.memories
                    ),
                    device.info.target,
                    device.info.threading,
                    ", ".join(sorted(device.capabilities)) or "-",
                )
            if client.discovery.reason:
                reasons.append(f"{backend.info.name}: {client.discovery.reason}")
    out = console()
    if shown.row_count:
        out.print(shown)
    for reason in reasons:
        out.print(reason)
    if not shown.row_count and not reasons:
        out.print("No devices.")
