"""``accelsdk conformance render``: the pages of a report made again, with a fingerprint in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsdk.errors import InvalidArgument
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.files import read_timing, write_data
from accelsdk_conformance.report.fingerprint import read_fingerprint


def render_report(
    folder: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of a report.")],
    fingerprint: Annotated[
        Path | None, typer.Option(help="What 'accelsdk probe --json' wrote of the same device.")
    ] = None,
) -> None:
    """Make report.html and junit.xml again from report.json, with a fingerprint if one is given."""
    if not folder.is_dir():
        raise InvalidArgument(f"{folder} is no folder", remedy="give the folder of a report")
    report = load(folder)
    if fingerprint is not None:
        report["fingerprint"] = read_fingerprint(fingerprint, report)
    write_data(report, read_timing(folder), folder)
    typer.echo(f"report: {folder / 'report.html'}")
