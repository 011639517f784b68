"""The device profile as a whole: what shrinks, what repeats, what it must not say."""

import importlib
import re
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from accelsdk.errors import NotFound, Unimplemented
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.result import Status
from accelsdk_conformance.scenarios import lab as lab_module
from accelsdk_conformance.scenarios.run import run_scenario, scenario
from accelsdk_conformance.scenarios.seeded import BACKEND
from tests.conformance.device.bench import CASES, Subject, every_result, judge
from tests.conformance.device.card import Card, CardBackend
from tests.conformance.device.faulty import load_all

STATEFUL = [name for name in CASES if name.startswith("device/stateful/programs")]
THREADS = [name for name in CASES if name.startswith("device/stateful/threads")]
PAGE = Path(__file__).parents[3] / "docs" / "device-profile.md"


def case(generator, **parameters):
    return Case(
        id="device/test",
        profile=Profile.DEVICE,
        op="Test",
        formats=(),
        generator=generator,
        parameters=parameters,
    )


@pytest.mark.parametrize("name", ["copy_swaps", "out_of_order_on_wait", "freed_twice"])
def test_random_programs_kill_by_themselves_and_tell_the_program(name):
    subject = Subject(load_all()[name].make())
    try:
        killer = judge(CASES[STATEFUL[0]], subject, limit=60)
    finally:
        subject.close()
    assert killer.status is Status.FAILED
    if name != "freed_twice":  # a leak is seen after the last program
        steps = killer.reason.split("the program: ")[1].split("; ")
        assert 2 <= len(steps) <= 25
        assert all(
            re.match(r"b\d+ = |write|fill|copy|read|delete|gate|signal|fail|cancel", step)
            for step in steps
        )


def test_choices_follow_from_the_seed_alone(tmp_path, monkeypatch):
    def chosen():
        found = []

        @hypothesis.seed(5)
        @hypothesis.settings(
            backend=BACKEND,
            database=None,
            max_examples=60,
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(st.lists(st.integers(0, 999_983), min_size=5))
        def draw(numbers):
            found.extend(numbers)

        draw()
        return found

    before = chosen()
    (tmp_path / "numbers_of_mine.py").write_text(f"NUMBERS = {list(range(900_000, 900_400))}")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("numbers_of_mine")
    assert len(set(before)) > 100
    assert chosen() == before


def test_threads_end_with_the_same_digest_on_every_card():
    digests = [
        [result.digest for result in every_result(CardBackend(**shape), THREADS)]
        for shape in ({}, {"threading": "free"}, {"kind": "eager"}, {"kind": "on_wait", "seed": 4})
    ]
    assert all(digests[0])
    assert digests.count(digests[0]) == len(digests)


def test_another_seed_is_another_program():
    subject = Subject(CardBackend())
    try:
        found = {run_scenario(CASES[THREADS[0]], subject, seed).digest for seed in range(3)}
    finally:
        subject.close()
    assert len(found) == 3


def test_an_unknown_scenario_is_refused():
    for name in (case("memory", what="nothing"), case("nobody.nothing"), case("order.nothing")):
        with pytest.raises(NotFound, match="no scenario"):
            scenario(name)


def leaks(lab):
    lab_module.KEPT = lab.raw(100)


def leaves_work(lab):
    gate = lab.semaphore()
    lab.device.create_stream().fill(lab.raw(16), b"\1", wait=[gate.at(1)])


def undeclared(lab):
    raise Unimplemented("declared, and not there")


def skips(lab):
    lab_module.need("no such ability", lab)


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [
        ("leaks", Status.FAILED, "1 allocations leaked on card-0 device"),
        ("leaves_work", Status.PASSED, ""),
        ("undeclared", Status.FAILED, "Unimplemented: declared, and not there"),
        ("skips", Status.UNSUPPORTED, "no such ability"),
    ],
)
def test_what_a_vendors_scenario_leaves_behind_is_seen(what, status, text):
    subject = Subject(CardBackend())
    try:
        result = judge(case(f"{__name__}:{what}"), subject)
    finally:
        vars(lab_module).pop("KEPT", None)
        subject.close()
    assert (result.status, text in result.reason) == (status, True)


def test_smoke_has_a_handful_of_device_cases():
    smoke = [name for name, one in CASES.items() if one.level is Level.SMOKE]
    assert 5 <= len(smoke) <= 20


def test_the_page_names_every_case_and_no_other():
    told = set(re.findall(r"`(\w+/\w+)`", PAGE.read_text("utf-8")))
    cases = {"/".join(name.split("/")[1:3]) for name in CASES}
    assert told == cases


def test_a_driver_that_hangs_is_told_as_hung():
    class Stuck(Card):
        def write(self, dst, source):
            lab_module.threading.Event().wait(3)

    subject = Subject(CardBackend(driver=Stuck))
    result = judge(CASES["device/memory/round_trip"], subject, patience=0.2, limit=1)
    assert result.status in (Status.HUNG, Status.FAILED)
