"""``accelsdk conformance self-test``: whether the checker itself still sees."""

from __future__ import annotations

import typer

from accelsdk_conformance.run import CONFORMANT, NON_CONFORMANT


def self_test_checker() -> int:
    """Check the checker: right stand-ins must pass, and wrong ones must fail.

    Takes seconds and needs no plugin. Run it wherever a verdict counts: a suite that is
    installed wrongly, or was changed, may pass everything. Exit codes: 0 it sees, 1 it does not.
    """
    from accelsdk_conformance.selftest import checks

    blind = 0
    for check in checks():
        typer.echo(f"{'ok    ' if check.ok else 'BLIND '} {check.name}")
        if not check.ok:
            blind += 1
            typer.echo(f"       {check.fault}")
    if blind:
        typer.echo(f"{blind} abilities are missing: this installation proves nothing")
        return NON_CONFORMANT
    typer.echo("the checker sees")
    return CONFORMANT
