"""The summary on the terminal: whole at 80 columns, the verdict last."""

import io

from example_runs import make_run, passed
from rich.console import Console

from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.report import terminal
from accelsdk_conformance.result import Result, Status


def shown(run):
    out = Console(width=80, highlight=False, file=io.StringIO())
    terminal.summary(run, out)
    return out.file.getvalue()


def test_the_summary_tells_what_broke_and_which_claim_is_false(mixed):
    text = shown(mixed)
    lines = text.splitlines()
    assert max(len(line) for line in lines if "replay:" not in line) <= 80
    assert lines[-1].startswith("acme: NON-CONFORMANT") or "acme: NON-CONFORMANT" in text
    assert "claim refuted: casts[*, *], by 1 of 2: rounding is false" in text
    assert "claims of the datasheet: 1 not exercised, 1 refuted" in text
    assert "broken: fp8 Cast: fp32xe4m3 1/" in text
    assert "--replay fp8/Cast/fp32xe4m3/saturate0" in text


def test_a_conformant_summary_is_short(whole):
    lines = shown(whole).splitlines()
    assert len(lines) < 12
    assert lines[-1].startswith("acme: CONFORMANT to device")


def test_the_summary_names_what_is_not_covered():
    cases = [case for case in bundled() if case.op == "Cast"][:30]
    cases += [case for case in bundled() if case.op == "Relu"][:2]
    missing = {cases[0].id, *(case.id for case in cases if case.op == "Relu")}
    results = [
        Result(id=case.id, status=Status.UNSUPPORTED) if case.id in missing else passed(case)
        for case in cases
    ]
    text = shown(make_run(cases, results))
    assert "not covered: Relu\n" in text
    assert "not covered in part: Cast 1/30\n" in text
    assert "not covered" not in shown(make_run(cases, map(passed, cases)))
