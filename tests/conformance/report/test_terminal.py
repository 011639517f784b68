"""The summary on the terminal: whole at 80 columns, the verdict last."""

import io

from rich.console import Console

from accelsdk_conformance.report import terminal


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
