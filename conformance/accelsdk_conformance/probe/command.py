"""``accelsdk probe``: what a plugin's arithmetic is, measured from outside."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from accelsdk.backend.files import written
from accelsdk.cli.console import Options, Plugin, parse_options
from accelsdk.errors import NotFound
from accelsdk.formats import by_name
from accelsdk_conformance.probe import show
from accelsdk_conformance.probe.survey import survey, targets
from accelsdk_conformance.subject import ClientSubject

_REFUTED = 1


def command(
    plugin: Plugin,
    option: Options = None,
    op: Annotated[
        list[str] | None, typer.Option(help="Only this op, as MatMul or Cast; repeatable.")
    ] = None,
    format_: Annotated[
        list[str] | None, typer.Option("--format", help="Only this format; repeatable.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file.")] = None,
) -> int:
    """Measure a plugin's arithmetic and hold it against what the plugin declares.

    Accumulator bits, alignment and rounding, width and order of sums, subnormals, overflow,
    NaN rules, integer overflow, casts, block scales, requantisation: each is measured through
    the SDK alone, compared with the datasheet, and with the units that others have measured.

    Exit codes: 0 every declared field holds, 1 one is refuted, 2 could not run, 3 usage.
    """
    ops, names = _known_ops(op or []), [by_name(name).name for name in format_ or []]
    subject = ClientSubject(plugin, parse_options(option))
    try:
        found = show.findings(survey(subject, ops, names), subject.datasheet)
        described = subject.describe()
    finally:
        subject.close()
    show.print_findings(plugin, found)
    if json is not None:
        with written(str(json)) as file:
            file.write(json_module.dumps(show.as_json(described, found), indent=1).encode())
    return _REFUTED if any(one.refuted for one in found) else 0


def _known_ops(given: list[str]) -> list[str]:
    known = dict.fromkeys(target.op for target in targets())
    for name in given:
        if name not in known:
            raise NotFound(f"nothing to measure of {name!r}", remedy="ops: " + ", ".join(known))
    return given
