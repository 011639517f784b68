"""Fleet mode: digests that cards of one model share, whatever time each had."""

import itertools
import json
from importlib import metadata

import numpy as np
import pytest
from stand_ins import Changed, Perfect

from accelsdk.cli.main import main
from accelsdk.errors import InvalidArgument
from accelsdk_conformance.case import Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.fleet import Chain, Fleet, rounds, seconds
from accelsdk_conformance.fleet_compare import compare, lines
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.report.data import identity
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.soak import soak_case


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30), ("5m", 300), ("1h", 3600), ("2.5", 2.5), (" 7s ", 7)]
)
def test_times(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0s", "-1s", "soon", "1d"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidArgument, match="30s, 5m or 1h"):
        seconds(text)


def test_rounds_meet_every_kind_with_ever_new_seeds():
    first, second = itertools.islice(rounds(bundled()), 2)
    assert len(first) == len(second)
    assert {case.op for case in first} == {
        case.op for case in bundled() if case.profile is not Profile.DEVICE
    }
    ids = [case.id for case in (*first, *second)]
    assert len(set(ids)) == len(ids)
    known = {case.id: case for case in bundled()}
    for number, group in enumerate((first, second)):
        for case in group:
            assert case.seed == known[case.id.rpartition("#")[0]].seed + number
    assert first == next(rounds(bundled()))
    assert first[0].generator.startswith("contraction.")


def test_nothing_to_repeat_is_refused():
    device = [case for case in bundled() if case.profile is Profile.DEVICE]
    with pytest.raises(InvalidArgument, match="other than device"):
        next(rounds(device))


def passed(name, digest="d"):
    return Result(id=f"{name}#0", status=Status.PASSED, digest=digest)


def test_a_chain_depends_on_every_output_and_on_their_order():
    def chain(*results):
        made = Chain()
        for result in results:
            made.add(result)
        return made.digest

    a, b = passed("a"), passed("b")
    different = [(a, b), (b, a), (a,), (a, passed("b", "e")), (a, passed("c"))]
    assert len({chain(*results) for results in different}) == len(different)
    assert chain(a, b) == chain(a, b)


def test_answers_in_any_order_give_the_same_chain():
    names = [f"{i}#0" for i in range(300)]
    results = [Result(id=name, status=Status.PASSED, digest=name) for name in names]
    fleets = []
    for order in (results, results[::-1], results[150:] + results[:150]):
        fleet = Fleet(Settings(plugin="p"), _order=list(names))
        for result in order:
            fleet._keep(result)
        fleets.append(fleet.as_json())
    assert fleets[0] == fleets[1] == fleets[2]
    assert fleets[0]["cases"] == 300
    assert list(fleets[0]["prefixes"]) == ["128", "256"]


def test_the_shorter_run_has_the_prefixes_of_the_longer():
    names = [f"{i}#0" for i in range(700)]
    found = []
    for count in (300, 700):
        fleet = Fleet(Settings(plugin="p"), _order=names[:count])
        for name in names[:count]:
            fleet._keep(Result(id=name, status=Status.PASSED, digest=name))
        found.append(fleet.as_json()["prefixes"])
    assert found[0].items() <= found[1].items()


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["passed"], 0),
        (["passed", "failed"], 1),
        (["passed", "crashed"], 1),
        (["unsupported"], 2),
        ([], 2),
        (["passed", "error"], 2),
        (["error", "lost"], 1),
    ],
)
def test_exit_codes_tell_a_defect_from_a_run_that_could_not_be(statuses, code):
    fleet = Fleet(Settings(plugin="p"), _order=[f"{i}#0" for i in range(len(statuses))])
    for number, status in enumerate(statuses):
        fleet._keep(Result(id=f"{number}#0", status=Status(status)))
    assert fleet.exit_code == code


def run_of(count, changed=(), card=0, failing=(), **suite):
    """Returns fleet.json of a run on one card, some of its outputs changed."""
    names = [c.id for c in itertools.islice(itertools.chain.from_iterable(rounds(WHOLE)), count)]
    fleet = Fleet(Settings(plugin="p", device=card), CASTS, _order=names)
    fleet.suite = {"version": metadata.version("accelsdk"), **identity(WHOLE), **suite}
    for number, name in enumerate(names, 1):
        status = Status.FAILED if number in failing else Status.PASSED
        masks = ("output 0, offset 3: 0x05 ^ 0x04 = 0x01",) if number in failing else ()
        digest = f"{name} {card if number in changed else ''}"
        fleet._keep(Result(id=name, status=status, digest=digest, xor=masks, reason="r"))
    return json.loads(json.dumps(fleet.as_json()))


CASTS = Selection(patterns=("fp8/Cast/", "int8/Cast/"))
WHOLE = CASTS.choose(bundled())


def test_equal_cards_are_equal_as_far_as_both_came():
    found = compare(run_of(300), run_of(700, card=1), WHOLE)
    assert (found.equal, found.compared, found.exit_code) == (True, 256, 0)
    found = compare(run_of(300), run_of(300, card=1), WHOLE)
    assert (found.equal, found.compared) == (True, 300)
    assert "same bits in all 300 cases" in [*lines(found)][-1]


def test_the_cases_that_differ_are_named_with_their_masks():
    one, other = run_of(300), run_of(400, card=1, changed=(140, 150), failing=(150,))
    found = compare(one, other, WHOLE)
    assert (found.equal, found.agreed, found.compared, found.exit_code) == (False, 128, 256, 1)
    assert [parting.number for parting in found.partings] == [140, 150]
    names = [c.id for c in itertools.islice(itertools.chain.from_iterable(rounds(WHOLE)), 150)]
    assert [parting.id for parting in found.partings] == [names[139], names[149]]
    text = "\n".join(lines(found))
    assert "0x05 ^ 0x04 = 0x01" in text
    assert "no defect by itself" in text
    assert f"--plugin p --device 1 --replay {names[139].partition('#')[0]}" in text
    assert json.loads(json.dumps(found.as_json()))["partings"][0]["number"] == 140
    assert "... and 1 more" in [*lines(found, shown=1)][-1]


def test_a_defect_in_both_is_equal_and_no_success():
    found = compare(run_of(200, failing=(7,)), run_of(200, card=1, failing=(7,)), WHOLE)
    assert (found.equal, found.exit_code) == (True, 1)


def test_cases_of_another_suite_have_numbers_alone():
    runs = [run_of(200, changed=(9,), card=card, digest="0" * 64) for card in (0, 1)]
    found = compare(*runs, WHOLE)
    assert [(parting.number, parting.id) for parting in found.partings] == [(9, "")]
    assert "this suite has other cases" in [*lines(found)][-1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 5}, "seed is 0 and 5"),
        ({"plugin": "q"}, "plugin is p and q"),
        ({"prefixes": {}, "cases": 100}, "no count in common"),
    ],
)
def test_runs_of_other_problems_are_not_compared(change, match):
    with pytest.raises(InvalidArgument, match=match):
        compare(run_of(200), run_of(200) | change, WHOLE)


def test_the_command_compares_cards_and_refuses_a_card_and_a_report(tmp_path, capsys):
    paths = []
    for card, changed in ((0, ()), (1, ()), (2, (5,))):
        folder = tmp_path / str(card)
        folder.mkdir()
        text = json.dumps(run_of(130, card=card, changed=changed))
        (folder / "fleet.json").write_text(text)
        paths.append(str(folder))
    base = ["conformance", "compare"]
    assert main([*base, paths[0], paths[1] + "/fleet.json"]) == 0
    assert main([*base, paths[0], paths[2]]) == 1
    assert "DIFFERENT" in capsys.readouterr().out
    assert main([*base, "--json", paths[0], paths[2]]) == 1
    assert json.loads(capsys.readouterr().out)["equal"] is False
    assert main([*base, paths[0], str(tmp_path)]) == 3
    assert "compare two reports, or two fleet.json" in capsys.readouterr().err
    assert main([*base, paths[0], paths[1], "--html", str(tmp_path / "x.html")]) == 3
    for text in ("{", '"prefixes"', json.dumps({"format": 1, "prefixes": {}})):
        (tmp_path / "2" / "fleet.json").write_text(text)
        assert main([*base, paths[0], paths[2]]) == 3
    (tmp_path / "2" / "fleet.json").write_text(json.dumps({"format": 2, "prefixes": {}}))
    assert main([*base, paths[0], paths[2]]) == 3
    assert "damaged" in capsys.readouterr().err


def case(start="fp32/Exp/fp32"):
    return next(case for case in bundled() if case.id.startswith(start))


class Flips(Changed):
    """Flips a bit of middling results on every n-th run."""

    def __init__(self, every, mask):
        def flipped(problem, out):
            middling = (out.values > 0.1) & (out.values < 10)
            return Tensor(out.format, out.codes ^ np.where(middling, mask, 0).astype(np.uint32))

        super().__init__(flipped)
        self.every, self.runs = every, 0

    def run(self, problem, poison):
        self.runs += 1
        return (Perfect() if self.runs % self.every else super()).run(problem, poison)


def test_a_flip_within_the_bound_is_found_because_bits_differ():
    found = soak_case(case(), Flips(2, 1), 0, 5, lambda: None)
    assert found.status is Status.FAILED
    assert "other bits" in found.reason
    assert found.xor[0].endswith("= 0x00000001")


def test_a_failure_is_run_again_on_the_same_unit():
    found = soak_case(case(), Flips(1, 1 << 20), 0, 5, lambda: None)
    assert found.repeats.startswith("persistent: failed 5 of 5 times")
    assert found.xor[0].endswith("= 0x00100000")
    found = soak_case(case(), Flips(2, 1 << 20), 0, 5, lambda: None)
    assert found.repeats.startswith("intermittent: passed, and failed")
    assert found.xor
    assert soak_case(case(), Perfect(), 0, 5, lambda: None).status is Status.PASSED


def test_two_cards_of_a_model_agree_and_a_defect_is_told(tmp_path, capsys):
    base = ["conformance", "--plugin", "sim_card", "--select", "fp8/Cast", "--select", "int8/Add"]
    found = []
    for device in ("0", "1"):
        arguments = ["--device", device, "--time", "2s", "--report", str(tmp_path / device)]
        assert main([*base, *arguments]) == 0
        found.append(json.loads((tmp_path / device / "fleet.json").read_text()))
    assert [run["device"] for run in found] == [0, 1]
    shared = set(found[0]["prefixes"]) & set(found[1]["prefixes"])
    assert all(found[0]["prefixes"][count] == found[1]["prefixes"][count] for count in shared)
    capsys.readouterr()
    arguments = ["--time", "2s", "--option", "defect=cast_rtz", "--retest", "3", "--seed", "5"]
    assert main([*base, *arguments]) == 1
    out = capsys.readouterr().out
    assert "persistent: failed 3 of 3 times" in out
    assert " ^ " in out
    assert "DEFECT" in out
    replay = next(line for line in out.splitlines() if "replay: " in line).split()[2:]
    assert "#" not in " ".join(replay)
    assert main(replay) == 1


def test_fleet_mode_begins_anew_and_waives_nothing(tmp_path, capsys):
    base = ["conformance", "--plugin", "sim_card", "--time", "1s", "--report", str(tmp_path)]
    for more in (["--resume"], ["--replay", "x"], ["--waivers", "x"], ["--journal", "x"]):
        assert main([*base, *more]) == 3
        assert "begins anew" in capsys.readouterr().err
