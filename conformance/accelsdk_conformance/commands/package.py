"""``accelsdk conformance package``, ``verify`` and ``merge``: a run, handed to somebody else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from accelsdk.errors import InvalidArgument
from accelsdk_conformance.catalogue import collect
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.files import read_timing, write_data
from accelsdk_conformance.report.merge import merge
from accelsdk_conformance.submission.package import Statement, package
from accelsdk_conformance.submission.verify import verify
from accelsdk_conformance.vendor import vendor_case_files

_SHOWN = 20


def package_report(
    folder: Annotated[Path, typer.Argument(metavar="REPORT", help="Folder of a report.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The package, a zip file.")],
    vendor: Annotated[str, typer.Option(help="Who makes the product.")],
    product: Annotated[str, typer.Option(help="What was tested.")],
    version: Annotated[str, typer.Option(help="Of the product.")],
    signer: Annotated[str, typer.Option(help="Who answers for it: name and address.")],
) -> None:
    """Make a submission package of a whole, conformant run.

    It holds the report, the definitions of the cases, what the report keeps of known failures
    (replay/ and failures/), a statement, and the SHA-256 of each file; 'accelsdk conformance
    verify' checks it. A report that proves nothing is refused.
    """
    statement = Statement(vendor=vendor, product=product, version=version, signer=signer)
    digest = package(folder, statement, collect(vendor_case_files()), output)
    typer.echo(f"package: {output}")
    typer.echo(f"sha256:  {digest}")


def verify_package(
    path: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A zip file of 'package'.")],
) -> int:
    """Check a submission package: hashes, versions, completeness, every result.

    Exit codes: 0 sound, 1 refused, with what is wrong and where, 3 usage.
    """
    found = verify(path)
    for where, what in found.problems[:_SHOWN]:
        typer.echo(f"{where}: {what}")
    if len(found.problems) > _SHOWN:
        typer.echo(f"... and {len(found.problems) - _SHOWN} more")
    if found.problems:
        count = len(found.problems)
        typer.echo(f"REFUSED: {count} {'problem' if count == 1 else 'problems'}")
        return 1
    said = found.statement
    typer.echo(f"{said['vendor']} {said['product']} {said['version']}, by {said['signer']}")
    typer.echo(said["claim"])
    typer.echo(f"suite {said['suite']}, level {said['level']}, case digest {said['case_digest']}")
    typer.echo(f"sha256 {found.digest}")
    typer.echo("VERIFIED")
    return 0


def merge_reports(
    folders: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Folders of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the whole report.")],
) -> int:
    """Merge the reports of the shards of one run.

    Exit codes: as of the run: 0 conformant, 1 non-conformant, 2 could not run, 3 usage.
    """
    if output in folders:
        raise InvalidArgument(f"{output} is one of the shards", remedy="give another folder")
    report = merge([(folder, load(folder)) for folder in folders], collect(vendor_case_files()))
    timing = {name: seconds for folder in folders for name, seconds in read_timing(folder).items()}
    write_data(report, timing, output)
    for folder in folders:
        for part in ("replay", "failures"):
            if (folder / part).is_dir():
                shutil.copytree(folder / part, output / part, dirs_exist_ok=True)
    typer.echo(report["headline"])
    typer.echo(f"report: {output / 'report.html'}")
    return ("conformant", "non-conformant", "could-not-run").index(report["verdict"])
