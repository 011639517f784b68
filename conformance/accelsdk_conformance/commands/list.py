"""``accelsdk conformance list``: which cases there are."""

from __future__ import annotations

from typing import Annotated

import typer

from accelsdk_conformance.case import Level, Profile, select
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.vendor import vendor_case_files


def list_cases(
    profile: Annotated[
        list[Profile] | None, typer.Option(help="Part of the suite; repeatable. Default: all.")
    ] = None,
    level: Annotated[Level, typer.Option(help="What a run of this level holds.")] = Level.STANDARD,
    select_: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only ids that match; a glob or a part. Repeatable."),
    ] = None,
) -> None:
    """List the ids of the cases, in the order in which they run."""
    cases = select(
        collect(vendor_case_files()), profiles=profile or [], level=level, patterns=select_ or []
    )
    for case in cases:
        typer.echo(case.id)
