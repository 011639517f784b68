"""The fingerprint in a report: of the same device or refused, and shown as measured."""

import json

import jsonschema
import pytest

from accelsdk.cli.main import main
from accelsdk.errors import InvalidArgument
from accelsdk_conformance.report.data import load
from accelsdk_conformance.report.files import write_data
from accelsdk_conformance.report.fingerprint import read_fingerprint, surveys
from accelsdk_conformance.report.schema import schema

FIELD = {"least": False, "most": False, "reason": "", "note": ""}
SUBJECT = {
    "kind": "contraction",
    "op": "MatMul",
    "formats": ["float16", "float16", "float32"],
    "problem": "",
    "executions": 3,
    "fields": [
        FIELD
        | {"field": "width", "verdict": "differs", "declared": "4", "value": 8, "least": True},
        FIELD | {"field": "sticky", "verdict": "agrees", "declared": "no", "value": False},
        FIELD
        | {"field": "tree", "verdict": "not measurable", "declared": "", "value": None}
        | {"reason": "one step"},
    ],
    "nearest": [{"unit": "Acme 1", "source": "s", "same": ["sticky"], "different": ["width"]}],
}
REFUSED = SUBJECT | {"problem": "the device refuses it", "fields": [], "nearest": []}


@pytest.fixture
def measured(report):
    about = report["backend"]
    return {"schema": 1, "plugin": dict(about), "subjects": [SUBJECT, REFUSED]}


def test_a_fingerprint_enters_the_report_and_the_page(report, measured, tmp_path, capsys):
    write_data(report, {}, tmp_path / "r")
    (tmp_path / "f.json").write_text(json.dumps(measured))
    command = ["conformance", "render", str(tmp_path / "r")]
    assert main([*command, "--fingerprint", str(tmp_path / "f.json")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    for part in ("≥ 8", "declared 4: differs", "Acme 1: 1 fields alike, not width",
                 "the device refuses it", "MatMul fp16×fp16 → fp32"):  # fmt: skip
        assert part in page
    jsonschema.validate(json.loads((tmp_path / "r" / "report.json").read_text()), schema())
    assert main(command) == 0  # it stays, as part of the data
    assert (tmp_path / "r" / "report.html").read_text() == page
    assert load(tmp_path / "r")["fingerprint"]["subjects"][0] == SUBJECT


def test_a_field_that_nothing_has_a_value_of_has_no_column(measured):
    (one,) = surveys(measured)
    assert one.fields == ["width", "sticky"]
    assert [mark.css for mark in one.rows[0][1]] == ["bad-cell", "held"]


@pytest.mark.parametrize("key", ["version", "kind", "backend"])
def test_a_fingerprint_of_another_device_is_refused(report, measured, tmp_path, key):
    measured["plugin"][key] = "other"
    (tmp_path / "f.json").write_text(json.dumps(measured))
    with pytest.raises(InvalidArgument, match=f"another device than the report: {key}"):
        read_fingerprint(tmp_path / "f.json", report)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_what_is_no_fingerprint_is_refused(report, tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(InvalidArgument, match="not a fingerprint"):
        read_fingerprint(tmp_path / "f.json", report)


def test_a_field_without_a_verdict_is_refused(report, measured, tmp_path):
    broken = {k: v for k, v in SUBJECT["fields"][0].items() if k != "verdict"}
    measured["subjects"] = [SUBJECT | {"fields": [broken]}]
    (tmp_path / "f.json").write_text(json.dumps(measured))
    with pytest.raises(InvalidArgument, match="lacks 'verdict'"):
        read_fingerprint(tmp_path / "f.json", report)
