"""report.json: the published schema, what is derived, and the reader that trusts nothing."""

import copy
import json
from collections import Counter
from itertools import combinations
from xml.etree import ElementTree

import jsonschema
import pytest
from example_runs import make_run

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.report.claims import entry_of, judged_claims
from accelsdk_conformance.report.data import FORMAT, as_json, checked, load
from accelsdk_conformance.report.derive import verdict_of
from accelsdk_conformance.report.files import write_reports
from accelsdk_conformance.report.junit import as_junit
from accelsdk_conformance.report.schema import schema, violations
from accelsdk_conformance.result import Result, Status


def test_reports_are_valid_by_the_schema(report, whole):
    jsonschema.Draft202012Validator.check_schema(schema())
    for data in (report, as_json(whole)):
        data = json.loads(json.dumps(data))
        jsonschema.validate(data, schema())
        assert [*violations(data)] == []
        assert data["format"] == FORMAT


def at(data, *path):
    for key in path:
        data = data[key]
    return data


BREAKAGES = {
    "lacks a key": lambda r: r.pop("seed"),
    "has a foreign key": lambda r: r.update(extra=1),
    "status unknown": lambda r: r["results"][0].update(status="great"),
    "tier unknown": lambda r: r["results"][0].update(tier="T9"),
    "negative count": lambda r: r["results"][0].update(wrong=-1),
    "text for a number": lambda r: r["results"][0].update(elements="7"),
    "a flag for a number": lambda r: r["results"][0].update(elements=True),
    "null for text": lambda r: r.update(headline=None),
    "digest no digest": lambda r: r["suite"].update(digest="xyz"),
    "level unknown": lambda r: r.update(level="deep"),
    "count of an unknown status": lambda r: r["counts"].update(great=1),
    "waiver without link": lambda r: r["waivers"][0].update(link=""),
    "failure without bound": lambda r: r["results"][0]["failures"][0].pop("bound"),
    "list for an object": lambda r: r.update(backend=[]),
    "holes of a number": lambda r: r.update(coverage={"exercised": 1, "taken": 2, "holes": 3}),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_our_check_of_the_schema_agrees_with_jsonschema(report, name):
    data = json.loads(json.dumps(report))
    BREAKAGES[name](data)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)
    assert [*violations(data)]
    with pytest.raises(InvalidArgument, match=r"report\.json is not a conformance report"):
        checked(data, "report.json")


def test_another_major_version_is_refused_and_a_minor_one_is_read(report):
    with pytest.raises(InvalidArgument, match=r"has format 3\.0"):
        checked(report | {"format": "3.0"}, "x")
    assert checked(report | {"format": "2.9"}, "x")["format"] == "2.9"


def test_what_is_written_is_read_back(mixed, report, tmp_path):
    write_reports(mixed, tmp_path)
    assert load(tmp_path) == load(tmp_path / "report.json") == json.loads(json.dumps(report))
    with pytest.raises(NotFound, match="no report"):
        load(tmp_path / "nowhere")
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(InvalidArgument):
        load(tmp_path)


def test_the_verdict_is_that_of_the_run():
    exits = {0: "conformant", 1: "non-conformant", 2: "could-not-run"}
    for size in (1, 2, 3):
        for statuses in combinations(Status, size):
            found = make_run([], [Result(id=s, status=s) for s in statuses])
            assert verdict_of(Counter(statuses)) == exits[found.exit_code]


def test_a_claim_is_held_by_passed_cases_and_refuted_by_failed_ones(report):
    casts, quantize = report["claims"]
    assert (casts["verdict"], casts["held_by"], casts["refuted_by"]) == ("refuted", 1, 1)
    assert casts["examples"] == [report["results"][0]["id"]]
    assert casts["false_parts"] == ["rounding"]
    assert quantize["verdict"] == "not exercised"


ENTRIES = [
    ("functions", "*, *", ""),
    ("functions", "Exp, *", ""),
    ("functions", "*, float16", ""),
    ("functions", "Exp, float16", ""),
    ("quantize", "", ""),
]


@pytest.mark.parametrize(
    ("claim", "entry"),
    [
        ("functions[Exp, float16]", "Exp, float16"),
        ("functions[Exp, float32].ulp", "Exp, *"),
        ("functions[Log, float16]", "*, float16"),
        ("functions[Log, float32]", "*, *"),
        ("quantize.scaling", ""),
    ],
)
def test_a_case_is_held_to_the_most_specific_entry(claim, entry):
    assert entry_of(claim, ENTRIES) == (claim.partition("[")[0].partition(".")[0], entry)


def test_a_claim_of_nothing_that_was_declared_is_no_entry():
    assert entry_of("casts[a, b]", ENTRIES) is None
    assert judged_claims([], [{"claim": "casts[a, b]", "status": "failed", "id": "x"}]) == []


def test_a_waived_failure_refutes_its_claim_all_the_same():
    result = {"claim": "quantize", "status": "waived", "id": "x"}
    (claim,) = judged_claims([("quantize", "", "v")], [result])
    assert claim["verdict"] == "refuted"


def test_junit_counts_as_the_report_does(report):
    timing = {result["id"]: 0.5 for result in report["results"]}
    root = ElementTree.fromstring(as_junit(report, timing))
    total = Counter()
    for suite in root:
        total.update({key: int(suite.get(key)) for key in ("tests", "failures", "skipped")})
        assert float(suite.get("time")) == 0.5 * int(suite.get("tests"))
    counts = report["counts"]
    assert total["tests"] == len(report["results"])
    assert total["failures"] == counts["failed"] + counts["hung"]
    assert total["skipped"] == counts["unsupported"] + counts["xfail"]
    text = root.find(".//failure").text
    assert "--replay fp8/Cast" in text


def test_junit_is_xml_whatever_a_plugin_says(report):
    changed = copy.deepcopy(report)
    changed["results"][0]["reason"] = "\x00\x1b[31m & <b> \ufffe ]]>"
    ElementTree.fromstring(as_junit(changed, {}))
