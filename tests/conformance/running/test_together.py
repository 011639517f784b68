"""Cases that share a program: what passes, what is run alone, and what company is blamed."""

import json
import os
from dataclasses import replace

import pytest
from stand_ins import install_sociable

from accelsdk.cli.main import main
from accelsdk.errors import DeviceFault, UnsupportedGraph
from accelsdk_conformance import worker
from accelsdk_conformance.case import Level, Profile, select
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.problem import Problem
from accelsdk_conformance.registry import generator
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.run import run
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.stand_ins import Perfect, Sociable, zeros
from accelsdk_conformance.subject import ClientSubject
from accelsdk_conformance.together import DeviceLost, Together, groups, may_share

SOME = [case for case in bundled() if case.generator == "elementwise.binary"][:8]


class Counting(Perfect):
    """Says how often it ran how many problems, and is wrong about those that it is told."""

    def __init__(self, wrong=()):
        super().__init__()
        self.sizes = []
        self.wrong = set(wrong)

    def run(self, problem, poison):
        self.sizes.append(1)
        return self._outputs(problem)

    def run_together(self, problems):
        self.sizes.append(len(problems))
        return [self._outputs(problem) for problem in problems]

    def _outputs(self, problem):
        outputs = super().run(problem, 0)
        bad = problem.op in self.wrong
        return tuple(zeros(problem, out) for out in outputs) if bad else outputs


def grouped(subject, cases=SOME):
    group = Together(subject, 0, lambda case: worker.run_case(case, subject, 0))
    group.run(cases)
    return group.results


def test_groups_are_of_one_op_and_formats_and_leave_device_cases_alone():
    cases = [case for case in bundled() if case.level is not Level.EXHAUSTIVE]
    found = [*groups(cases, 16)]
    assert sorted(case.id for group in found for case in group) == sorted(c.id for c in cases)
    assert all(len({(case.op, case.formats) for case in group}) == 1 for group in found)
    assert max(map(len, found)) == 16
    place = {case.id: number for number, case in enumerate(cases)}
    for group in found:
        assert [place[c.id] for c in group] == sorted(place[c.id] for c in group)
        assert len(group) == 1 or group[0].profile is not Profile.DEVICE
    assert [case for (case,) in groups(cases, 1)] == cases


def test_right_cases_are_one_program():
    subject = Counting()
    results = grouped(subject)
    assert subject.sizes == [len(SOME)]
    assert {result.status for result in results.values()} == {Status.PASSED}
    alone = {case.id: worker.run_case(case, subject, 0) for case in SOME}
    assert {replace(r, seconds=0) for r in results.values()} == {
        replace(r, seconds=0) for r in alone.values()
    }


def test_a_wrong_case_is_run_alone_and_that_verdict_counts():
    subject = Counting(wrong={SOME[0].op})
    results = grouped(subject)
    bad = [case.id for case in SOME if case.op == SOME[0].op]
    assert subject.sizes == [len(SOME)] + [1] * len(bad)
    assert [name for name, r in results.items() if r.status is Status.FAILED] == bad
    assert all(results[name].failures and not results[name].company for name in bad)


def test_what_is_right_alone_and_wrong_in_company_fails_and_names_it():
    results = grouped(Sociable(zeros))
    last = results[SOME[-1].id]
    assert last.status is Status.FAILED
    assert last.company == (SOME[0].id, SOME[-1].id)  # one other is enough
    assert last.reason.startswith(f"right alone, but not in one program with {SOME[0].id}: output")
    assert {r.status for r in results.values() if r is not last} == {Status.PASSED}


def test_an_error_of_a_shared_program_is_laid_on_its_smallest_half():
    class Breaks(Perfect):
        def run_together(self, problems):
            if SOME[5].op in {p.op for p in problems} and len(problems) > 2:
                raise DeviceFault("the card left the bus")
            return super().run_together(problems)

        def recover(self):
            recovered.append(1)

    recovered = []
    results = grouped(Breaks())
    failed = [result for result in results.values() if result.status is Status.FAILED]
    assert failed
    for result in failed:
        assert len(result.company) == 4
        assert "DeviceFault: the card left the bus" in result.reason
    assert recovered


def test_a_refusal_of_a_shared_program_is_no_failure():
    class Small(Counting):
        def run_together(self, problems):
            if len(problems) > 2:
                raise UnsupportedGraph("too many nodes")
            return super().run_together(problems)

    subject = Small()
    assert {r.status for r in grouped(subject).values()} == {Status.PASSED}
    assert subject.sizes == [2] * (len(SOME) // 2)


def test_what_cannot_be_made_is_told_by_the_run_alone():
    broken = replace(SOME[0], id="x/broken", generator="elementwise.no_such_thing")
    results = grouped(Perfect(), [*SOME, broken])
    assert results["x/broken"].status is Status.ERROR
    assert {results[case.id].status for case in SOME} == {Status.PASSED}


def test_a_device_that_does_not_come_back_ends_it():
    class Falls(Counting):
        def recover(self):
            raise DeviceFault("fell off the bus")

    subject = Falls(wrong={SOME[2].op})
    group = Together(subject, 0, lambda case: worker.run_case(case, subject, 0))
    with pytest.raises(DeviceLost, match="fell off the bus"):
        group.run(SOME)
    assert [r.status for r in group.results.values()].count(Status.LOST) == 1
    assert Status.FAILED not in {r.status for r in group.results.values()}


def test_what_needs_a_program_of_its_own_gets_one():
    context = worker_context()
    found = {}
    for case in bundled():
        if case.generator in ("again.after", "determinism.again") and case.generator not in found:
            found[case.generator] = generator(case.generator)(case, context)
    assert found
    for problem in found.values():
        assert isinstance(problem, Problem)
        assert not may_share(problem)
    assert may_share(generator(SOME[0].generator)(SOME[0], context))


def worker_context():
    from accelsdk_conformance.problem import Context

    return Context(Perfect().datasheet, 0)


def test_parts_of_one_allocation_have_their_own_poison_and_results():
    context = worker_context()
    problems = [generator(case.generator)(case, context) for case in SOME]
    problems = [replace(problem, poison=i) for i, problem in enumerate(problems)]
    subject = ClientSubject("sim_card", {})
    try:
        for problem, outputs in zip(problems, subject.run_together(problems), strict=True):
            alone = subject.run(problem, 0xFF)
            assert [out.packed() for out in outputs] == [out.packed() for out in alone]
    finally:
        subject.close()


@pytest.fixture
def sociable(tmp_path, monkeypatch):
    install_sociable(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return Settings(plugin="sociable", timeout=60.0, jobs=1)


def test_a_crash_in_company_alone_is_one_crashed_case_that_names_it(sociable):
    chosen = Selection(patterns=("fp32/Abs/fp32/length",))
    found = run(sociable, chosen)
    *others, crashed = found.results
    assert crashed.status is Status.CRASHED
    assert "SIGKILL" in crashed.reason
    assert crashed.company == tuple(result.id for result in found.results)
    assert {result.status for result in others} == {Status.PASSED}
    assert run(replace(sociable, together=1), chosen).exit_code == 0


def test_a_slow_program_is_no_hang_if_its_cases_are_slow(sociable):
    # Sixteen nodes take 6.4 s, one of them 0.4 s and what a busy machine makes of the rest.
    slow = replace(sociable, plugin="slow", timeout=5.0)
    found = run(slow, Selection(patterns=("fp32/Abs/fp32/",)))
    assert {result.status for result in found.results} == {Status.PASSED}


def test_cases_replay_together(tmp_path, capsys):
    cases = select(bundled(), profiles=[Profile.INT8], patterns=["int8/Add/"])[:3]
    words = [word for case in cases for word in ("--replay", case.id)]
    arguments = ["conformance", "--plugin", "reference_cpu", *words, "--report", str(tmp_path)]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [result["id"] for result in report["results"]] == [case.id for case in cases]
    command = Settings(plugin="acme").replay(*(case.id for case in cases))
    assert command.split()[4:] == words
    assert Result.from_data(Result(id="a", status=Status.PASSED, company=("a", "b")).as_data())
