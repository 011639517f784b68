"""``conformance list``: ids, and coverage whose holes are where the op table says."""

import json

import pytest

from accelsdk.cli.main import main
from accelsdk.formats import FORMATS
from accelsdk.graph.ops import TABLE
from accelsdk_conformance.case import Level
from accelsdk_conformance.catalogue import bundled, expand, short
from accelsdk_conformance.coverage import coverage

CODES = ("int8", "uint8", "int4", "uint4")


def listed(capsys, *arguments):
    assert main(["conformance", "list", *arguments]) == 0
    return capsys.readouterr().out


def of(op, cases):
    return next(row for row in coverage(cases) if row.op == op)


def cases_of(op):
    return [case for case in bundled() if case.op == op]


def test_ids_of_a_level_are_those_that_it_runs(capsys):
    ids = listed(capsys, "--level", "smoke").split()
    assert ids == [case.id for case in bundled() if case.level is Level.SMOKE]


def test_ids_as_json(capsys):
    rows = json.loads(listed(capsys, "--select", "fp8/Cast/fp32xe4m3/", "--json"))
    assert {row["op"] for row in rows} == {"Cast"}
    assert rows[0]["formats"] == ["fp32", "e4m3"]


@pytest.mark.parametrize(
    ("op", "taken"),
    [
        ("Exp", {"fp64", "fp32", "fp16", "bf16"}),
        ("Not", {"bool"}),
        ("Where", {short(fmt.name) for fmt in FORMATS}),  # of the data, not of the condition
        ("MatMulInteger", {f"{a}>{b}" for a in CODES for b in CODES}),
    ],
)
def test_what_an_op_takes_is_what_its_rule_takes(op, taken):
    assert {">".join(key) for key in of(op, cases_of(op)).counts} == taken


def test_every_hole_is_an_uncovered_format_and_counts_add_up():
    for row in coverage(bundled()):
        if row.op in TABLE:
            assert sum(row.counts.values()) <= row.levels[Level.STANDARD]
            assert all(row.counts[key] == 0 for key in row.holes)
        assert row.levels[Level.SMOKE] <= row.levels[Level.STANDARD]


def test_removing_the_cases_of_a_format_makes_a_hole():
    cases = cases_of("Floor")
    assert ("fp16",) not in of("Floor", cases).holes
    fewer = [case for case in cases if case.formats != ("fp16",)]
    assert ("fp16",) in of("Floor", fewer).holes


def test_what_only_the_exhaustive_level_runs_is_a_hole_of_standard():
    group = """
    [[group]]
    id = "fp32/Floor/{formats}/deep"
    profile = "fp32"
    op = "Floor"
    formats = [["float32"]]
    generator = "elementwise.unary"
    level = "exhaustive"
    """
    cases = [*expand(group, "test")]
    assert of("Floor", cases).counts["fp32",] == 0
    row = next(row for row in coverage(cases, Level.EXHAUSTIVE) if row.op == "Floor")
    assert row.counts["fp32",] == 1
    assert row.levels == {Level.SMOKE: 0, Level.STANDARD: 0, Level.EXHAUSTIVE: 1}


def test_the_table_fits_80_columns_and_counts_its_holes(capsys):
    text = listed(capsys, "--table", "--select", "/Cast/", "--select", "/Floor/")
    assert max(map(len, text.splitlines())) <= 80
    data = json.loads(
        listed(capsys, "--table", "--select", "/Cast/", "--select", "/Floor/", "--json")
    )
    assert {row["op"] for row in data["ops"]} == {"Cast", "Floor"}
    holes = sum(len(row["holes"]) for row in data["ops"])
    assert data["holes"] == holes
    assert f"{holes} are holes" in text or "no hole" in text
    for row in data["ops"]:
        assert not row["holes"] or f"{len(row['holes'])} hole" in text
