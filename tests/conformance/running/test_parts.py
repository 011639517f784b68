"""Which cases run: shards, lists of ids, and what waivers may claim of a part."""

import pytest

from accelsdk.cli.main import main
from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance import waivers
from accelsdk_conformance.case import Level
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import run
from accelsdk_conformance.selection import Selection, Shard, read_ids
from accelsdk_conformance.settings import Settings, Study

REFERENCE = Settings(plugin="reference_cpu", jobs=1)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_are_disjoint_and_together_everything(count):
    shards = [Selection(shard=Shard(i, count)).choose(bundled()) for i in range(1, count + 1)]
    ids = [case.id for shard in shards for case in shard]
    assert sorted(ids) == sorted(case.id for case in Selection().choose(bundled()))
    assert max(map(len, shards)) < 1.2 * len(ids) / count


def test_a_case_stays_in_its_shard_whatever_else_is_selected():
    shard = Shard(2, 3)
    every = {case.id for case in Selection(shard=shard).choose(bundled())}
    part = Selection(patterns=("fp32/Add/",), shard=shard).choose(bundled())
    assert part
    assert {case.id for case in part} <= every
    assert Selection(patterns=("fp32/Add/",), shard=shard).partial


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InvalidArgument, match="write i/n"):
        Shard.parse(text)


def test_a_list_names_exact_cases_of_any_level(tmp_path):
    exhaustive = next(case.id for case in bundled() if case.level is Level.EXHAUSTIVE)
    standard = next(case.id for case in bundled() if case.level is Level.STANDARD)
    path = tmp_path / "ids"
    path.write_text(f"# known\n{exhaustive}  # slow\n\n{standard}\n{standard}\n")
    ids = read_ids(path)
    assert ids == (exhaustive, standard)
    assert {case.id for case in Selection(ids=ids).choose(bundled())} == set(ids)


def test_a_stale_id_in_a_list_is_refused(tmp_path, capsys):
    path = tmp_path / "ids"
    path.write_text("fp32/Add/fp32/gone\n")
    with pytest.raises(NotFound, match="fp32/Add/fp32/gone"):
        Selection(ids=read_ids(path)).choose(bundled())
    arguments = ["conformance", "--plugin", "reference_cpu", "--select-from", str(path)]
    assert main(arguments) == 3
    assert "fp32/Add/fp32/gone" in capsys.readouterr().err
    path.write_text("# nothing\n")
    with pytest.raises(InvalidArgument, match="names no case"):
        read_ids(path)
    with pytest.raises(InvalidArgument, match="cannot read"):
        read_ids(tmp_path / "none")


def waiver(path, pattern, kind="waiver"):
    path.write_text(f'[[{kind}]]\nid = "{pattern}"\nreason = "r"\nlink = "l"\n')
    return path


def test_a_waiver_of_cases_in_another_shard_is_not_stale(tmp_path):
    ids = [case.id for case in bundled() if case.id.startswith("fp32/Softmax/")]
    path = waiver(tmp_path / "w", "fp32/Softmax/*")
    whole = run(REFERENCE, Selection(patterns=("fp32/Softmax/",)), waiver_file=path)
    assert [r.reason for r in whole.results if r.status is Status.FAILED] == [
        "stale: this entry of the waiver file matches no failing case"
    ]
    part = run(REFERENCE, Selection(ids=tuple(ids[:1])), waiver_file=path)
    assert set(part.counts) == {Status.PASSED}


def test_a_stale_entry_is_not_run_again(tmp_path):
    case = next(case.id for case in bundled() if case.id.startswith("fp32/Softmax/"))
    found = run(
        REFERENCE,
        Selection(patterns=(case,)),
        waiver_file=waiver(tmp_path / "w", case),
        study=Study(),
    )
    (failed,) = (r for r in found.results if r.status is Status.FAILED)
    assert failed.reason.startswith("stale:")
    assert failed.repeats == ""


def test_a_waiver_that_names_no_case_at_all_is_stale_in_every_part(tmp_path):
    path = waiver(tmp_path / "w", "fp32/Sotfmax/*")
    found = run(
        REFERENCE, Selection(patterns=("fp32/Softmax/",), shard=Shard(1, 2)), waiver_file=path
    )
    (failed,) = (r for r in found.results if r.status is Status.FAILED)
    assert (failed.id, failed.reason) == (
        "fp32/Sotfmax/*",
        "stale: this entry of the waiver file names no case of the suite",
    )
    assert found.exit_code == 1


def test_an_expected_failure_that_passes_fails_every_part(tmp_path):
    ids = [case.id for case in bundled() if case.id.startswith("fp32/Softmax/")]
    path = waiver(tmp_path / "w", "fp32/Softmax/*", "xfail")
    found = run(REFERENCE, Selection(ids=tuple(ids[:1])), waiver_file=path)
    assert found.counts == {Status.XPASS: 1}
    assert found.exit_code == 1


def test_what_was_not_run_proves_no_waiver_stale(tmp_path):
    known = waivers.read(waiver(tmp_path / "w", "a/*", "xfail"))
    results = [Result(id="a/1", status=Status.NOT_RUN)]
    assert waivers.apply(results, known) == results


def test_a_list_does_not_go_with_patterns(tmp_path, capsys):
    arguments = ["conformance", "--plugin", "reference_cpu", "--select", "Add"]
    assert main([*arguments, "--select-from", str(tmp_path)]) == 3
    assert "exact cases" in capsys.readouterr().err
