"""``conformance compare``: what changed, and which of it is for the worse."""

import copy
import json

import pytest

from accelsdk.cli.main import main
from accelsdk_conformance.report.compare import _STATUSES, compare
from accelsdk_conformance.report.files import as_text
from accelsdk_conformance.result import Status


def changed(report, **change):
    other = copy.deepcopy(report)
    other["results"][1].update(change)
    return other


def test_equal_reports_are_equal(report):
    found = compare(report, copy.deepcopy(report))
    assert (found.changes, found.settings, found.worse) == ((), (), 0)
    assert found.cases == len(report["results"])


@pytest.mark.parametrize(
    ("change", "what", "worse"),
    [
        ({"status": "failed"}, "status", 1),
        ({"status": "unsupported"}, "status", 1),
        ({"status": "waived"}, "status", 1),
        ({"tier": "T2"}, "tier", 1),
        ({"error_over_bound": 0.5}, "error over bound", 1),
        ({"digest": "cd"}, "digest", 0),
    ],
)
def test_each_kind_of_change_and_its_reverse(report, change, what, worse):
    other = changed(report, **change)
    found = compare(report, other)
    (one,) = found.changes
    assert (one.what, one.id, found.worse) == (what, report["results"][1]["id"], worse)
    assert compare(other, report).worse == 0


def test_a_case_that_is_gone_is_worse_and_a_new_good_one_is_not(report):
    fewer = copy.deepcopy(report)
    fewer["results"].pop(1)
    assert [c.worse for c in compare(report, fewer).changes] == [True]
    assert [c.worse for c in compare(fewer, report).changes] == [False]
    fewer["results"].pop(0)  # this one failed
    assert sum(c.worse for c in compare(fewer, report).changes) == 1


@pytest.mark.parametrize("path", [("seed",), ("suite", "version"), ("suite", "digest")])
def test_other_data_are_said_and_not_compared(report, path):
    other = changed(report, error_over_bound=0.5, digest="cd")
    place = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = 7 if path == ("seed",) else "0" * 64
    found = compare(report, other)
    assert not found.compared_data
    assert found.changes == ()
    assert len(found.settings) == 1
    assert compare(report, changed(other, status="crashed")).worse == 1


def test_the_command(report, tmp_path, capsys):
    other = changed(report, status="crashed") | {"seed": 4}
    for name, data in (("a", report), ("b", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(as_text(data))
    a, b = str(tmp_path / "a"), str(tmp_path / "b" / "report.json")
    assert main(["conformance", "compare", a, a]) == 0
    assert "equal: all" in capsys.readouterr().out
    assert main(["conformance", "compare", a, b, "--html", str(tmp_path / "c.html")]) == 1
    out = capsys.readouterr().out
    assert "seed: 0 -> 4" in out
    assert "passed -> crashed" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "passed" in (tmp_path / "c.html").read_text()
    assert main(["conformance", "compare", b, a]) == 0
    capsys.readouterr()
    assert main(["conformance", "compare", a, b, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["worse"], data["compared_data"]) == (1, False)
    assert main(["conformance", "compare", a, str(tmp_path / "none")]) == 3


def test_every_status_has_its_place_from_good_to_bad():
    assert set(_STATUSES) == set(Status)
    assert all(s.conformant for s in _STATUSES[:4])
    assert not any(s.conformant for s in _STATUSES[4:])
