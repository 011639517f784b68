"""Failures are shrunk to the smallest input, and leave a folder that replays alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from stand_ins import Changed, Perfect

from accelsdk.cli.main import main
from accelsdk.errors import InvalidArgument, NotFound, UnsupportedGraph
from accelsdk.formats import BOOL, FLOAT32, INT8, INT32
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import attempt
from accelsdk_conformance.judge import judge
from accelsdk_conformance.oracles.tensor import Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Along,
    Context,
    Problem,
    Promise,
    always,
    broadcast_axes,
    expect_exact,
    shrinkable,
)
from accelsdk_conformance.registry import generator
from accelsdk_conformance.replay import case_of, export, from_folder
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.seeing import Either
from accelsdk_conformance.seeing import named as rule
from accelsdk_conformance.settings import Settings, Study
from accelsdk_conformance.shrink import describe, shrink
from accelsdk_conformance.study import masks, repeated, study_case

CASE = Case(id="fp32/Add/t", profile=Profile.FP32, op="Add", formats=("fp32",), generator="t.t")


def added(x, y):
    value = represent((x.values + y.values), FLOAT32)
    return Problem(op="Add", operands=(x, y), oracle=always(expect_exact(value)))


def ramp(*shape):
    return represent(np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape), FLOAT32)


def test_shrinks_to_the_one_element_that_fails():
    problem = shrinkable(added, (ramp(7, 9), ramp(9)))
    runs = []

    def fails(candidate):
        runs.append(candidate)
        return bool((candidate.operands[0].values == 42).any())

    found = shrink(problem, fails, 500)
    assert found.complete
    assert found.executions == len(runs) < 100
    x, y = found.problem.operands
    assert (x.shape, y.shape) == ((1, 1), (1,))
    assert x.values.item() == 42
    assert y.values.item() == 0
    assert "float32[1, 1] {42}" in describe(found.problem)


def test_keeps_all_that_it_takes_to_fail():
    problem = shrinkable(added, (ramp(40), ramp(40)))
    found = shrink(problem, lambda p: {3.0, 30.0} <= set(p.operands[0].values.tolist()), budget=500)
    assert found.problem.operands[0].values.tolist() == [3.0, 30.0]


def test_simplifies_values_to_one_or_fewer_bits():
    problem = shrinkable(added, (represent(np.array([-13.625]), FLOAT32), ramp(1)))
    found = shrink(problem, lambda p: p.operands[0].values.min(initial=0) <= -12, 100)
    assert found.problem.operands[0].values.tolist() == [-12.0]
    found = shrink(problem, lambda p: bool((p.operands[0].values != 0).all()), 100)
    assert found.problem.operands[0].values.tolist() == [1.0]


def test_the_budget_counts_executions():
    problem = shrinkable(added, (ramp(64), ramp(64)))
    runs = []
    found = shrink(problem, lambda p: bool(runs.append(p)), 10)
    assert (found.executions, len(runs), found.complete) == (10, 10, False)
    assert found.problem is problem


def test_candidates_that_are_no_problem_are_left_out():
    def even(x):
        if x.shape[0] % 2:
            raise ValueError("odd")
        return Problem(op="Neg", operands=(x,), oracle=always())

    found = shrink(shrinkable(even, (ramp(12),)), lambda p: True, 200)
    assert found.problem.operands[0].shape == (2,)


def test_fixed_operands_keep_their_values():
    def chosen(condition, x):
        return Problem(op="Where", operands=(condition, x), oracle=always())

    condition = Tensor(BOOL, np.ones(4, np.uint8))
    problem = shrinkable(chosen, (condition, ramp(4)), fixed=(0,))
    found = shrink(problem, lambda p: True, 200)
    assert found.problem.operands[0].codes.tolist() == [1]
    assert found.problem.operands[1].values.tolist() == [0.0]


def test_broadcast_axes_go_together():
    operands = (ramp(2, 1, 3), ramp(4, 1), None)
    assert broadcast_axes(*operands) == ((Along(0, 0),), (Along(1, 0),), (Along(0, 2),))


def named(text):
    return next(case for case in bundled() if case.id.startswith(text))


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("int8/MatMulInteger/uint8xint8/grid/k33", lambda c: c ^ 1),
        ("fp8/ScaledMatMul/e4m3xe4m3/exact_grid/k31", lambda c: c ^ 1),
        ("mx/ScaledMatMul/e4m3xe4m3xmx/exact_grid/k3", lambda c: c ^ 0x10000),
    ],
)
def test_matrix_products_shrink_to_one_product(case, change):
    case = named(case)
    wrong = Changed(lambda p, out: Tensor(out.format, change(out.codes).astype(out.codes.dtype)))
    problem = generator(case.generator)(case, Context(wrong.datasheet))

    def fails(candidate):
        return attempt(case, candidate, wrong).result.status is Status.FAILED

    found = shrink(problem, fails, 300)
    a, b = found.problem.operands[:2]
    assert a.shape[0] == b.shape[1] == 1
    assert a.shape[1] == b.shape[0] <= 32
    assert fails(found.problem)


def test_a_folder_replays_without_its_generator(tmp_path):
    problem = added(ramp(3), ramp(3))
    wrong = Changed(lambda p, out: Tensor(out.format, out.codes ^ np.uint32(4)))
    one = attempt(CASE, problem, wrong)
    settings = Settings(plugin="acme", options={"mode": "a b"})
    export(str(tmp_path), "one", CASE, settings, problem, one)
    export(str(tmp_path), "one", CASE, settings, problem, one)  # replaces it
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    readme = (tmp_path / "one" / "README.txt").read_text()
    assert f"--option 'mode=a b' --replay {tmp_path / 'one'}" in readme
    case = case_of(tmp_path / "one")
    assert case.id == CASE.id
    again = from_folder(case, Context(wrong.datasheet))
    for subject, status in ((wrong, Status.FAILED), (Perfect(), Status.PASSED)):
        assert attempt(case, again, subject).result.status is status
    assert attempt(case, again, wrong).result == attempt(CASE, problem, wrong).result


@pytest.mark.parametrize(
    "start", ["fp32/Exp/fp32", "fp8/ScaledMatMul/", "fp32/MatMul/", "mx/QuantizeBlock/", "int8/Add"]
)
def test_folders_hold_every_kind_of_expectation(start, tmp_path):
    case = named(start)
    subject = Perfect()
    problem = generator(case.generator)(case, Context(subject.datasheet))
    export(str(tmp_path), "f", case, Settings(plugin="p"), problem, attempt(case, problem, subject))
    again = from_folder(case_of(tmp_path / "f"), Context(subject.datasheet))
    assert attempt(case, again, subject).result == attempt(case, problem, subject).result


def test_a_folder_names_the_rule_that_must_see_the_outputs(tmp_path):
    """TopK without order: any order of the right indices is right, with the values in it."""
    case = named("fp32/TopK/fp32/axis0/k7/largest1/sorted0")
    problem = generator(case.generator)(case, Context(Perfect().datasheet))
    export(
        str(tmp_path), "f", case, Settings(plugin="p"), problem, attempt(case, problem, Perfect())
    )
    again = from_folder(case_of(tmp_path / "f"), Context(Perfect().datasheet))
    right = Perfect().run(problem, 0)
    for turned in (right, tuple(Tensor(t.format, t.codes[::-1]) for t in right)):
        assert [judge(o, w).passed for o, w in zip(turned, again.oracle(turned), strict=True)] == [
            True,
            True,
        ]
    mixed = (right[0], Tensor(right[1].format, right[1].codes[::-1]))
    assert not judge(mixed[0], again.oracle(mixed)[0]).passed


def test_a_folder_holds_both_ways_of_a_device_that_may_flush(tmp_path):
    tiny = represent(np.array([2.0**-130, -(2.0**-140), 1.0]), FLOAT32)
    flat = represent(np.array([0.0, -0.0, 1.0]), FLOAT32)
    kept, flushed = expect_exact(tiny), expect_exact(flat)
    problem = Problem(op="Abs", operands=(tiny,), oracle=Either(((flushed,), (kept,))))
    export(
        str(tmp_path), "f", CASE, Settings(plugin="p"), problem, attempt(CASE, problem, Perfect())
    )
    again = from_folder(case_of(tmp_path / "f"), Context(Perfect().datasheet))
    mixed = Tensor(FLOAT32, np.where([True, False, False], tiny.codes, flat.codes))
    for out, right in ((tiny, True), (flat, True), (mixed, False)):
        assert judge(out, again.oracle((out,))[0]).passed is right


def test_an_unknown_rule_is_refused():
    with pytest.raises(NotFound, match="no rule 'accelsdk_conformance"):
        rule("accelsdk_conformance.judge:nothing")


def test_runs_of_an_axis_lose_the_same_parts():
    """Three gates of four units in one axis: what fails is the third unit of any gate."""

    def gates(x, w):
        if w.shape[0] != 3 * x.shape[0]:
            raise ValueError
        return Problem(op="Add", operands=(x, w), oracle=always())

    made = shrinkable(gates, (ramp(4), ramp(12)), lambda x, w: [(Along(0, 0), Along(1, 0, runs=3))])
    found = shrink(made, lambda p: 7 in p.operands[1].values, 100).problem
    assert found.operands[0].shape == (1,)
    assert found.operands[1].values.tolist() == [0, 7, 0]


@pytest.mark.parametrize(
    ("start", "least", "smallest"), [(31360, 128, 128), (-77, 5, 5), (100, 65, 65)]
)
def test_integers_lose_bits(start, least, smallest):
    def same(x):
        return Problem(op="Neg", operands=(x,), oracle=always())

    x = from_integers(np.array([start]), INT32)
    found = shrink(shrinkable(same, (x,)), lambda p: abs(p.operands[0].integers[0]) >= least, 200)
    assert found.complete
    assert abs(found.problem.operands[0].integers[0]) >= least
    assert abs(found.problem.operands[0].integers[0]) <= 2 * smallest


def test_an_error_of_the_sdk_is_not_taken_for_a_wrong_output():
    case = named("fp32/Add/fp32/same")

    class Refuses(Changed):
        def run(self, problem, poison):
            if problem.operands[0].codes.size < 5:
                raise InvalidArgument("too small", remedy="none")
            return super().run(problem, poison)

    wrong = Refuses(lambda p, out: Tensor(out.format, out.codes ^ np.uint32(0x10)))
    found = study_case(case, wrong, Settings(plugin="p", study=Study()), lambda: None, lambda: None)
    assert "float32[5]" in found.shrunk
    assert "expected" in found.shrunk


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="not a replay folder"):
        case_of(tmp_path)
    (tmp_path / "problem.json").write_text('{"format": 99}')
    with pytest.raises(InvalidArgument, match="version 99"):
        case_of(tmp_path)


class Sometimes(Changed):
    """Wrong on every other run."""

    def __init__(self):
        super().__init__(lambda p, out: Tensor(out.format, out.codes ^ np.uint32(1)))
        self.runs = 0

    def run(self, problem, poison):
        self.runs += 1
        return (super() if self.runs % 2 else Perfect()).run(problem, poison)


def test_an_intermittent_failure_is_told_and_not_shrunk():
    case = named("fp32/Add/fp32/")
    settings = Settings(plugin="p", study=Study(repeats=4))
    found = study_case(case, Sometimes(), settings, lambda: None, lambda: None)
    assert found.repeats.startswith("intermittent: failed 2 of 4 times")
    assert found.shrunk == ""
    assert found.status is Status.FAILED


def test_a_persistent_failure_is_shrunk_with_masks():
    case = named("fp32/Add/fp32/")
    wrong = Changed(lambda p, out: Tensor(out.format, out.codes ^ np.uint32(0x10)))
    settings = Settings(plugin="p", study=Study(repeats=3))
    found = study_case(case, wrong, settings, lambda: None, lambda: None)
    assert found.repeats == (
        "persistent: failed 3 of 3 times when it was run again, with the same bits"
    )
    assert found.shrunk.startswith("Add() of float32[")
    assert "expected" in found.shrunk
    assert found.xor[0].endswith("= 0x00000010")


def test_a_failure_that_is_gone_is_told():
    assert repeated([Result(id="a", status=Status.PASSED)] * 5).startswith("intermittent: passed 5")


def test_masks_of_integers():
    want = expect_exact(Tensor(INT8, np.array([1, 2, 0xFF], np.uint8)))
    got = Tensor(INT8, np.array([1, 3, 0x7F], np.uint8))
    assert masks((got,), (want,)) == (
        "output 0, offset 1: 0x03 ^ 0x02 = 0x01",
        "output 0, offset 2: 0x7F ^ 0xFF = 0x80",
    )


def test_the_command_shrinks_and_the_folder_replays(tmp_path, capsys):
    arguments = ["conformance", "--plugin", "sim_card", "--option", "defect=cast_rtz"]
    arguments += ["--select", "fp8/Cast/fp32xe4m3/saturate1", "--report", str(tmp_path)]
    assert main(arguments) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "smallest input: Cast(saturate=1, to=float8_e4m3fn) of float32[1]" in out
    assert "persistent: failed 5 of 5 times" in out
    (folder,) = (tmp_path / "replay").iterdir()
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert result["replay_folder"] == f"replay/{folder.name}"
    assert result["smallest_input"]
    assert main(["conformance", "--plugin", "sim_card", "--replay", str(folder)]) == 0
    assert main([*arguments[:5], "--replay", str(folder)]) == 1
    assert "float8_e4m3fn elements miss tier T0" in capsys.readouterr().out


def test_what_ran_before_and_how_it_ran_stays_with_the_problem(tmp_path):
    problem = replace(
        shrinkable(added, (ramp(8), ramp(8))),
        **{"before": (ramp(8), ramp(8)), "runs": 3, "repeats": 2, "poison": 0xFF},
    )

    def fails(candidate):
        assert (candidate.runs, candidate.repeats, candidate.poison) == (3, 2, 0xFF)
        return candidate.before is not None and 5 in candidate.before[0].values

    found = shrink(problem, fails, 200).problem
    assert found.before[0].shape == found.operands[0].shape == (1,)
    assert found.before[0].values.tolist() == [5.0]
    assert shrink(problem, lambda p: True, 200).problem.before is None
    one = attempt(CASE, found, Perfect())
    export(str(tmp_path), "f", CASE, Settings(plugin="p"), found, one)
    again = from_folder(case_of(tmp_path / "f"), Context(Perfect().datasheet))
    assert (again.runs, again.repeats, again.poison) == (3, 2, 0xFF)
    assert again.before[0].values.tolist() == [5.0]


class Refusing(Perfect):
    """Takes vectors of even extents alone."""

    def run(self, problem, poison):
        if problem.operands[0].shape[0] % 2:
            raise UnsupportedGraph("odd extents are not taken")
        return super().run(problem, poison)


def test_a_folder_of_a_broken_promise_still_tells_it(tmp_path):
    problem = replace(added(ramp(3), ramp(3)), promise=Promise("x.tail", added(ramp(2), ramp(2))))
    one = attempt(CASE, problem, Refusing())
    assert (one.result.status, one.result.claim) == (Status.FAILED, "x.tail")
    export(str(tmp_path), "f", CASE, Settings(plugin="p"), problem, one)
    again = from_folder(case_of(tmp_path / "f"), Context(Perfect().datasheet))
    assert attempt(CASE, again, Refusing()).result == one.result
    assert attempt(CASE, again, Perfect()).result.status is Status.PASSED
