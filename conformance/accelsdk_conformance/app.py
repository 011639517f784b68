"""The command ``accelsdk conformance``: the run itself, and what is done with its reports."""

from __future__ import annotations

import typer

from accelsdk_conformance.command import command
from accelsdk_conformance.commands.compare import compare_reports
from accelsdk_conformance.commands.list import list_cases
from accelsdk_conformance.commands.package import merge_reports, package_report, verify_package
from accelsdk_conformance.commands.render import render_report
from accelsdk_conformance.commands.self_test import self_test_checker

app = typer.Typer(invoke_without_command=True, callback=command)
app.command("list")(list_cases)
app.command("compare")(compare_reports)
app.command("merge")(merge_reports)
app.command("package")(package_report)
app.command("render")(render_report)
app.command("verify")(verify_package)
app.command("self-test")(self_test_checker)
