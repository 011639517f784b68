"""What a vendor calls and brings: the suite in one line, cases of its own through the hook."""

import json

import pytest

from accelsdk.errors import InvalidArgument
from accelsdk_conformance import run_conformance, vendor
from accelsdk_conformance.case import Profile
from accelsdk_conformance.selection import Selection

OWN = """
[[group]]
id = "fp8/Cast/{formats}/acme"
profile = "fp8"
op = "Cast"
formats = [["float32", "float8_e4m3fn"]]
generator = "conversion.cast"
parameters = { saturate = 1 }
level = "smoke"
"""


def test_a_vendors_case_runs_and_an_assertion_tells_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "acme.toml").write_text(OWN)
    monkeypatch.setattr(vendor, "vendor_case_files", lambda: [tmp_path / "acme.toml"])
    chosen = {"profiles": ["fp8"], "level": "smoke"}
    folder = tmp_path / "report"
    with pytest.raises(AssertionError) as caught:
        run_conformance("sim_card", **chosen, report=folder, defect="cast_rtz")
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("sim_card: NON-CONFORMANT (")
    text = "\n".join(lines)
    for part in (
        "FAILED fp8/Cast/fp32xe4m3/",
        "actual ",
        "expected ",
        "--option defect=cast_rtz --replay fp8/Cast/",
        "claim refuted: casts[*, *]",
        "report.html",
    ):
        assert part in text
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "non-conformant"
    assert "fp8/Cast/fp32xe4m3/acme" in {result["id"] for result in report["results"]}


def test_the_cases_of_the_hook_are_among_those_that_run(tmp_path, monkeypatch):
    (tmp_path / "acme.toml").write_text(OWN)
    monkeypatch.setattr(vendor, "vendor_case_files", lambda: [tmp_path / "acme.toml"])
    seen = {}

    def fake(settings, selection, **given):
        seen.update(given, selection=selection)
        raise InterruptedError

    monkeypatch.setattr(vendor, "run", fake)
    with pytest.raises(InterruptedError):
        run_conformance("acme", profiles=["fp8"], waivers="known.toml")
    assert seen["case_files"] == [tmp_path / "acme.toml"]
    assert seen["selection"] == Selection(profiles=(Profile.FP8,))
    assert str(seen["waiver_file"]) == "known.toml"


@pytest.mark.parametrize("wrong", [{"profiles": ["fp9"]}, {"level": "deep"}])
def test_a_wrong_name_is_told_with_the_right_ones(wrong):
    with pytest.raises(InvalidArgument, match="one of"):
        run_conformance("sim_card", **wrong)
