"""``accelsdk plugins``: what is installed, what works, what does not and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from accelsdk.cli.console import console, table

if TYPE_CHECKING:
    from rich.console import Console

    from accelsdk.backend.backend import Backend


def command(
    name: Annotated[
        str | None,
        typer.Argument(help="Backend to describe: options, targets, abilities."),
    ] = None,
) -> None:
    """List plugins: what works, what does not, and the remedy.

    With a NAME, describe that backend: its options with their defaults, and its targets.
    """
    from accelsdk.registry import registry

    found = registry()
    out = console()
    if name is not None:
        _describe(out, found.backend(name))
        return
    shown = table(None, "plugin", "status", "backends", "package")
    for record in found.plugins:
        backends = ", ".join(record.backends) or "-"
        package = " ".join(filter(None, (record.distribution, record.version)))
        shown.add_row(record.name, record.status, backends, package or "-")
    out.print(shown)
    for record in found.plugins:
        if record.cause:
            out.print(f"\n{record.name}: {record.cause}")
            out.print(f"  remedy: {record.remedy}")


def _describe(out: Console, backend: Backend) -> None:
    from accelsdk.backend.ask import ask_all
    from accelsdk.backend.info import Target

    info = backend.info
    out.print(f"{info.name} {info.version}, {info.vendor}: {info.description}")
    options = table("\nOptions (--option NAME=VALUE)", "name", "default", "scope", "effect")
    for spec in info.options:
        choices = f" One of: {', '.join(map(str, spec.choices))}." if spec.choices else ""
        options.add_row(spec.name, str(spec.default) or '""', spec.scope, spec.help + choices)
    out.print(options if info.options else "\nNo options.")
    targets = table("\nTargets", "name", "alignment", "abilities")
    for target in ask_all(backend, "targets", Target, info.resolve({})):
        abilities = ", ".join(sorted(target.capabilities)) or "-"
        targets.add_row(target.name, str(target.alignment), abilities)
    out.print(targets)
