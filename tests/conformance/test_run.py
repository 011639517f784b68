"""Whole runs: exit codes, crashes, hangs, kills, waivers, reports."""

import json
import os
import signal
import threading
import time
from xml.etree import ElementTree

import jsonschema
import pytest
from stand_ins import install_faulty

from accelsdk.cli.main import main
from accelsdk.errors import InvalidArgument
from accelsdk_conformance import run_conformance, waivers
from accelsdk_conformance.pool import Pool
from accelsdk_conformance.report.schema import schema
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import run
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings

SMALL = ["int8/MatMulInteger/uint8xint8/grid/k33/", "fp8/Cast/fp32xe4m3/"]


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    install_faulty(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return Settings(plugin="faulty", timeout=6.0, jobs=1)


def picked(*patterns):
    return Selection(patterns=patterns)


def statuses(found):
    return {result.id.split("/")[1]: result.status for result in found.results}


def test_a_crash_a_hang_and_an_exception_are_results_and_the_run_goes_on(faulty):
    found = run(
        faulty, picked(*(f"fp32/{op}/fp32/all" for op in ("Abs", "Exp", "Sqrt", "Tanh", "Sin")))
    )
    assert statuses(found) == {
        "Abs": Status.PASSED,
        "Exp": Status.CRASHED,
        "Sqrt": Status.HUNG,
        "Tanh": Status.FAILED,
        "Sin": Status.PASSED,
    }
    reasons = {result.status: result.reason for result in found.results}
    assert "SIGKILL" in reasons[Status.CRASHED]
    assert "6 s" in reasons[Status.HUNG]
    assert "the vendor library raised" in reasons[Status.FAILED]
    assert found.exit_code == 1


def test_killing_a_worker_is_one_crashed_case_and_the_run_completes():
    settings = Settings(plugin="reference_cpu", jobs=1)
    pids = []

    def watch(result):
        if not pids:
            pids.append(pool._workers[0].process.pid)
            threading.Thread(target=os.kill, args=(pids[0], signal.SIGKILL)).start()
            time.sleep(0.2)

    from accelsdk_conformance.case import select
    from accelsdk_conformance.catalogue import bundled

    cases = select(bundled(), patterns=["fp32/Softmax/*"])
    results = {}
    pool = Pool(settings, lambda result: (results.update({result.id: result}), watch(result)))
    pool.run(cases)
    found = [results[case.id].status for case in cases]
    assert len(found) == len(cases)
    assert found.count(Status.CRASHED) == 1
    assert found.count(Status.PASSED) == len(cases) - 1


def test_conformant_selection_exits_0_and_writes_every_report(tmp_path, capsys):
    arguments = ["conformance", "--plugin", "reference_cpu", "--report", str(tmp_path / "out")]
    assert main([*arguments, *(part for name in SMALL for part in ("--select", name))]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.validate(report, schema())
    assert report["verdict"] == "conformant"
    assert report["partial"] is True
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Conformance of reference_cpu" in page
    assert "http" not in page.replace("http-equiv", "")
    suites = ElementTree.fromstring((tmp_path / "out" / "junit.xml").read_text())
    assert sum(int(suite.get("tests")) for suite in suites) == len(report["results"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("report:"))
    assert not list((tmp_path / "out").glob(".*"))


def test_a_defect_exits_1_and_the_report_names_op_format_and_replay(tmp_path, capsys):
    arguments = ["conformance", "--plugin", "sim_card", "--option", "defect=cast_rtz"]
    arguments += ["--select", "fp8/Cast/fp32xe4m3/saturate1"]
    assert main([*arguments, "--report", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(report, schema())
    (result,) = report["results"]
    assert (result["op"], result["formats"], result["status"]) == (
        "Cast",
        ["fp32", "e4m3"],
        "failed",
    )
    assert result["claim"].startswith("casts[float32, float8_e4m3fn]") or result["claim"] == ""
    assert result["failures"][0]["expected"] != result["failures"][0]["actual"]
    replay = result["replay"].split()
    assert replay[0] == "accelsdk"
    capsys.readouterr()
    assert main(replay[1:]) == 1
    out = capsys.readouterr().out
    assert "FAILED fp8/Cast/fp32xe4m3/saturate1" in out
    (case_file,) = (tmp_path / "failures").iterdir()
    assert main([*replay[1:-1], str(case_file)]) == 1


def test_equal_runs_give_equal_reports(tmp_path):
    for name in ("a", "b"):
        arguments = ["conformance", "--plugin", "sim_card", "--select", "fp8/Quantize"]
        assert main([*arguments, "--report", str(tmp_path / name)]) == 0
    first, second = ((tmp_path / name / "report.json").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--plugin", "nobody"], "nobody"),
        (["--plugin", "reference_cpu", "--option", "memory"], "NAME=VALUE"),
        (["--plugin", "reference_cpu", "--option", "nonsense=1"], "nonsense"),
        (["--plugin", "reference_cpu", "--replay", "no/such/case"], "no/such/case"),
        (["--plugin", "reference_cpu", "--select", "no/such/*"], "no/such/*"),
        (["--plugin", "reference_cpu", "--level", "deep"], "deep"),
        ([], "--plugin"),
        (["--level", "smoke", "list"], "--level stands before 'list'"),
    ],
)
def test_usage_errors_exit_3_with_one_message(arguments, text, capsys):
    assert main(["conformance", *arguments]) == 3
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ["conformance", "--plugin", "reference_cpu", "--select", SMALL[0]]
    assert main([*arguments, "--report", str(tmp_path / "file" / "out")]) == 3
    captured = capsys.readouterr()
    assert "cannot write a report" in captured.err
    assert "cases passed" not in captured.out


def test_list_prints_ids_and_runs_nothing(capsys):
    assert main(["conformance", "list", "--profile", "mx", "--level", "smoke"]) == 0
    ids = capsys.readouterr().out.split()
    assert ids
    assert all(name.startswith("mx/") for name in ids)


def failed(name):
    return Result(id=name, status=Status.FAILED, reason="broken")


def test_waivers_cover_failures_and_nothing_else(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text(
        '[[xfail]]\nid = "a/*"\nreason = "r"\nlink = "l"\n'
        '[[waiver]]\nid = "b/1"\nreason = "r"\nlink = "l"\n'
        '[[waiver]]\nid = "gone"\nreason = "r"\nlink = "l"\n'
    )
    results = [failed("a/1"), Result(id="a/2", status=Status.PASSED), failed("b/1"), failed("c")]
    found = {r.id: r.status for r in waivers.apply(results, waivers.read(path))}
    assert found == {
        "a/1": Status.XFAIL,
        "a/2": Status.XPASS,
        "b/1": Status.WAIVED,
        "c": Status.FAILED,
        "gone": Status.FAILED,
    }


def test_a_waiver_without_link_is_refused(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text('[[xfail]]\nid = "a"\nreason = "r"\n')
    with pytest.raises(InvalidArgument, match="lacks id, reason or link"):
        waivers.read(path)


def test_run_conformance_in_one_line():
    found = run_conformance("reference_cpu", profiles=["device"], level="smoke", jobs=1)
    assert found.exit_code == 0
    with pytest.raises(AssertionError, match="accelsdk conformance --plugin sim_card"):
        run_conformance(
            "sim_card", profiles=["int8"], level="smoke", defect="dequantize_zero_point"
        )


def test_a_device_fault_costs_one_case():
    options = {"fault": "ecc_error", "fault_at": 3}
    settings = Settings(plugin="sim_card", options=options, jobs=1)
    found = run(settings, picked("fp32/Add/fp32/", "fp32/Sub/fp32/"))
    assert found.counts == {Status.FAILED: 1, Status.PASSED: len(found.results) - 1}


def test_a_missing_extra_is_one_line_before_anything_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("accelsdk_conformance.report.html.find_spec", lambda name: None)
    assert main(["conformance", "--plugin", "reference_cpu", "--report", str(tmp_path)]) == 3
    assert "pip install 'accelsdk[conformance]'" in capsys.readouterr().err
