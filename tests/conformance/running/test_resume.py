"""Interrupted runs go on; lost devices end them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from accelsdk.cli.main import main
from accelsdk.errors import DataLoss, InvalidArgument, NotFound
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.journal import Journal, heading
from accelsdk_conformance.result import Failure, Result, Status
from accelsdk_conformance.run import Interrupted, run
from accelsdk_conformance.selection import Selection
from accelsdk_conformance.settings import Settings

CASES = [
    Case(id=name, profile=Profile.FP32, op="Add", formats=("fp32",), generator="t.t")
    for name in ("a", "b", "c")
]
SETTINGS = Settings(plugin="reference_cpu", jobs=1)
SOFTMAX = Selection(patterns=("fp32/Softmax/",))
FAILURE = Failure(
    output=0, element=(1, 2), inputs="i", actual="a", expected="e", bound="exact", ulp="1"
)
SOME = [
    Result(id="a", status=Status.PASSED, tier="T0", digest="12"),
    Result(id="b", status=Status.FAILED, failures=(FAILURE,), xor=("x",)),
]


def head(settings=SETTINGS, cases=CASES):
    return heading(settings, cases, {"python": "3"})


def written(path, results=SOME):
    with Journal(path, head(), resume=False) as journal:
        journal.opened({"backend": "x"})
        for result in results:
            journal.keep(result)


def test_a_journal_gives_back_what_it_took(tmp_path):
    written(tmp_path / "j")
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert list(journal.results.values()) == SOME
        assert journal.about == {"backend": "x"}
        journal.keep(Result(id="c", status=Status.PASSED))
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert set(journal.results) == {"a", "b", "c"}


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_a_torn_last_line_costs_one_result(tmp_path, keep):
    written(tmp_path / "j")
    data = (tmp_path / "j").read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    (tmp_path / "j").write_bytes(data[: last + keep])
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert set(journal.results) == {"a"}
        journal.keep(SOME[1])
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert list(journal.results.values()) == SOME


def test_a_torn_first_line_is_a_new_beginning(tmp_path):
    (tmp_path / "j").write_bytes(b'{"cas')
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert not journal.results
    written(tmp_path / "j")


@pytest.mark.parametrize("line", [1, 2, 3])
def test_damage_before_the_last_line_is_refused(tmp_path, line):
    written(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    lines[line] = b'{"result": 5}\n' if line == 2 else b"\x00\xff\n"
    (tmp_path / "j").write_bytes(b"".join(lines))
    with pytest.raises(DataLoss, match=f"line {line + 1} of the journal"):
        Journal(tmp_path / "j", head(), resume=True)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (head(Settings(plugin="sim_card")), "plugin was 'reference_cpu' and is 'sim_card'"),
        (head(Settings(plugin="reference_cpu", seed=1)), "seed was 0 and is 1"),
        (head(Settings(plugin="reference_cpu", options={"a": 1})), "options: a was None"),
        (head(Settings(plugin="reference_cpu", device=2)), "device was 0 and is 2"),
        (head(cases=CASES[:2]), "cases was 3 and is 2; the cases are others"),
    ],
)
def test_the_journal_of_another_run_is_refused(tmp_path, other, text):
    written(tmp_path / "j")
    with pytest.raises(InvalidArgument, match=text):
        Journal(tmp_path / "j", other, resume=True)


def test_another_version_of_the_plugin_is_refused(tmp_path):
    written(tmp_path / "j")
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        journal.opened({"backend": "x"})
        with pytest.raises(InvalidArgument, match="backend was 'x' and is 'y'"):
            journal.opened({"backend": "y"})


def test_what_had_no_turn_or_no_verdict_is_run_again(tmp_path):
    untold = [
        Result(id="a", status=status) for status in (Status.NOT_RUN, Status.ERROR, Status.LOST)
    ]
    written(tmp_path / "j", untold)
    with Journal(tmp_path / "j", head(), resume=True) as journal:
        assert not journal.results


def test_no_journal_is_refused(tmp_path, capsys):
    with pytest.raises(NotFound, match="no journal"):
        Journal(tmp_path / "j", head(), resume=True)
    arguments = [
        "conformance",
        "--plugin",
        "reference_cpu",
        "--select",
        "fp32/Softmax/",
        "--resume",
    ]
    assert main(arguments) == 3
    assert "--resume without a journal" in capsys.readouterr().err
    assert main([*arguments, "--report", str(tmp_path)]) == 3
    assert "no journal" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_to_the_same_report(tmp_path):
    chosen = {"selection": SOFTMAX, "journal": tmp_path / "j"}
    seen = []

    def stop(result):
        seen.append(result.id)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted after 3 of"):
        run(SETTINGS, progress=stop, **chosen)
    again = []
    resumed = run(SETTINGS, resume=True, progress=lambda r: again.append(r.id), **chosen)
    whole = run(SETTINGS, SOFTMAX)
    assert again[:3] == seen
    assert len(again) == len(whole.results)

    def plain(found):
        return [(r.id, r.status, r.digest, r.tier) for r in found.results]

    assert plain(resumed) == plain(whole)
    lines = (tmp_path / "j").read_text().splitlines()
    noted = [json.loads(line)["result"]["id"] for line in lines if '"result"' in line]
    assert sorted(noted) == sorted(result.id for result in whole.results)
    finished = run(SETTINGS, resume=True, **chosen)  # opens no device
    assert plain(finished) == plain(whole)
    assert finished.about == resumed.about


def test_an_interrupt_from_the_keyboard_ends_the_workers_and_says_how_to_go_on(tmp_path):
    # A shell that started the tests in the background had interrupts ignored: that is inherited.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from accelsdk.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["conformance", "--plugin", "sim_card", "--report", str(tmp_path), "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "journal.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if journal.exists() and journal.read_bytes().count(b"\n") > 4:
            break
        time.sleep(0.05)
    workers = children(process.pid)
    assert workers
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted after" in errors
    assert "go on with: accelsdk conformance --plugin sim_card" in " ".join(errors.split())
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


_LOST = """
from accelsdk.errors import DeviceFault, Unavailable
from accelsdk.hookspecs import hookimpl
from accelsdk_reference_cpu.backend import ReferenceCpu
from accelsdk_reference_cpu.driver import CpuDriver
from dataclasses import replace

STATE = {"broken": False, "opened": 0}


class Driver(CpuDriver):
    def execute_bound(self, bound):
        if STATE["broken"]:
            raise DeviceFault("the card fell off the bus")
        return super().execute_bound(bound)


class Lost(ReferenceCpu):
    @property
    def info(self):
        return replace(super().info, name="lost")

    def compile(self, graph, target, options, pack):
        if any(node.op == "Exp" for node in graph.nodes):
            STATE["broken"] = True
        return super().compile(graph, target, options, pack)

    def open(self, device, options):
        STATE["opened"] += 1
        if STATE["opened"] > 1:
            raise Unavailable("no card answers")
        return Driver(device)


@hookimpl
def accelsdk_backends():
    return [Lost()]
"""


@pytest.fixture
def lost(tmp_path, monkeypatch):
    (tmp_path / "lost_plugin.py").write_text(_LOST)
    info = tmp_path / "lost_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lost-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[accelsdk.plugins.v1]\nlost = lost_plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return Settings(plugin="lost", jobs=1)


LOSING = Selection(patterns=tuple(f"fp32/{op}/fp32/all" for op in ("Abs", "Exp", "Sin", "Tanh")))


def test_a_lost_device_stops_the_run(lost):
    found = run(replace(lost, together=1), LOSING)
    status = {result.id.split("/")[1]: result.status for result in found.results}
    order = [result.id.split("/")[1] for result in found.results]
    at = order.index("Exp")
    assert {status[op] for op in order[:at]} <= {Status.PASSED}
    assert status["Exp"] is Status.LOST
    assert {status[op] for op in order[at + 1 :]} == {Status.NOT_RUN}
    assert found.exit_code == 1
    assert "the device is lost" in found.stopped
    reasons = {result.status: result.reason for result in found.results}
    assert "fell off the bus" in reasons[Status.LOST]
    assert reasons[Status.NOT_RUN].startswith("not run: the device is lost")


def test_a_device_that_a_shared_program_loses_stops_the_run(lost):
    found = run(lost, Selection(patterns=("fp32/Exp/fp32/five", "fp32/Exp/fp32/six")))
    first, *others = found.results
    assert first.status is Status.LOST
    assert f"in one program with {len(others)} others; the device is lost" in first.reason
    assert {result.status for result in others} == {Status.NOT_RUN}
    assert found.exit_code == 1
