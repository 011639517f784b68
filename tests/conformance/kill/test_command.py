"""``accelsdk conformance self-test``, as a vendor runs it."""

from typer.testing import CliRunner

from accelsdk_conformance import selftest
from accelsdk_conformance.app import app


def _run(monkeypatch, *found):
    monkeypatch.setattr(selftest, "checks", lambda: iter(found))
    return CliRunner().invoke(app, ["self-test"], standalone_mode=False)


def test_a_checker_that_sees(monkeypatch):
    result = _run(monkeypatch, selftest.Check("NaN", ""))
    assert result.return_value == 0
    assert "the checker sees" in result.output


def test_a_blind_checker_says_what_it_misses(monkeypatch):
    result = _run(monkeypatch, selftest.Check("NaN", "Add passes"), selftest.Check("zero", ""))
    assert result.return_value == 1
    assert "BLIND  NaN\n       Add passes" in result.output
    assert "1 abilities are missing" in result.output
