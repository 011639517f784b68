"""Virtual time: what things take, computed by hand, and traces equal to the byte."""

import json
import threading
from itertools import pairwise

import numpy as np
import pytest

from accelsdk.backend.optional import Copy, Execute, Fill, PeerCopy, Read, Write
from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_sim_card.clock import NORMAL, URGENT, Clock
from accelsdk_sim_card.fabric import Fabric

#: Round numbers: 1 byte a nanosecond on a card's link, 1.5 on the uplink.
PROFILE = """
kind = "Round"
count = 6
memory_bytes = 1_000_000
memory_bandwidth = 0.5e9
sram_bytes = 100
sram_bandwidth = 1e9
int8_rate = 4e9
fp8_rate = 4e9
fp16_rate = 2e9
fp32_rate = 1e9
vector_rate = 1e9
link_bandwidth = 1e9
uplink_bandwidth = 1.5e9
link_latency_ns = 100
doorbell_ns = 1000
command_ns = 10
launch_ns = 200
node_ns = 20
copy_engines = 2
alignment = 64
view_alignment = 1
throttle_factor = 3.0
temperature_c = 50.0
power_w = 10.0
"""


@pytest.fixture
def round_rig(rigs, tmp_path):
    path = tmp_path / "round.toml"
    path.write_text(PROFILE)
    return lambda **given: rigs(profile=str(path), **given)


def _data(nbytes):
    return np.zeros(nbytes, np.uint8).data


def _reserve(rig, nbytes, ordinal=0):
    return rig.view(nbytes, ordinal)


def _span(done):
    return done.started, done.finished


def test_events_run_by_time_then_priority_then_age():
    clock, seen = Clock(), []
    clock.at(5, lambda: seen.append("late"))
    clock.at(3, lambda: seen.append("second"), NORMAL)
    clock.at(3, lambda: seen.append("third"), NORMAL)
    clock.at(3, lambda: seen.append("first"), URGENT)
    clock.at(-1, lambda: seen.append("now"))
    while clock.next is not None:
        clock.step()
    assert seen == ["now", "first", "second", "third", "late"]
    assert clock.now == 5


def test_transfers_share_links_max_min_fairly():
    # a: narrow link 1; b and c: wide link 4 shared with a. a gets 1, b and c get 1.5 each.
    clock, ends = Clock(), {}
    fabric = Fabric(clock, {"narrow": 1e9, "wide": 4e9})
    for name, links, nbytes in (
        ("a", ("narrow", "wide"), 1000),
        ("b", ("wide",), 1500),
        ("c", ("wide",), 3000),
    ):
        fabric.transfer(links, nbytes, lambda name=name: ends.setdefault(name, clock.now))
    while clock.next is not None:
        clock.step()
    # At 1000, a and b end; c has 1500 left and the whole link: 375 more.
    assert ends == {"a": 1000, "b": 1000, "c": 1375}


def test_one_transfer(round_rig):
    rig = round_rig()
    view = _reserve(rig, 1000)
    rig.card().submit(1, [Write(view, _data(1000))], [])
    (done,) = rig.card().poll(None)
    # doorbell 1000; then decode 10, latency 100, 1000 bytes at 1 byte a nanosecond
    assert _span(done) == (1000, 2110)


def test_one_doorbell_a_batch(round_rig):
    rig = round_rig()
    view = _reserve(rig, 1000)
    rig.card().submit(1, [Write(view, _data(1000))] * 3, [])
    (done,) = rig.card().poll(None)
    assert _span(done) == (1000, 1000 + 3 * 1110)


def test_two_cards_share_the_uplink(round_rig):
    rig = round_rig()
    views = [_reserve(rig, nbytes, card) for card, nbytes in enumerate((1000, 2000))]
    for card, view in enumerate(views):
        rig.card(card).submit(1, [Write(view, _data(view.nbytes))], [])
    (first,), (second,) = rig.card(0).poll(None), rig.card(1).poll(None)
    # Both flow from 1110 at 0.75 byte/ns. 1000 bytes: 1333.3, so 2444; the other has then
    # moved 1000.5 bytes, and its 999.5 left take 1000 at 1 byte/ns.
    assert first.finished == 2444
    assert second.finished == 3444


def test_directions_do_not_share(round_rig):
    rig = round_rig()
    a, b = _reserve(rig, 1000), _reserve(rig, 1000)
    rig.card().submit(1, [Write(a, _data(1000))], [])
    rig.card().submit(2, [Read(b, np.zeros(1000, np.uint8).data)], [])
    assert [done.finished for done in (*rig.card().poll(None), *rig.card().poll(None))] == [
        2110,
        2110,
    ]


def test_peer_copies_pass_the_host_by(round_rig):
    rig = round_rig()
    views = [_reserve(rig, 1000, card) for card in range(6)]
    for card in (1, 3, 5):
        source = rig.card(card - 1)
        rig.card(card).submit(1, [PeerCopy(views[card], views[card - 1], source)], [])
    ends = {rig.card(card).poll(None)[0].finished for card in (1, 3, 5)}
    assert ends == {2110}


def test_local_copies_and_fills_run_at_memory_bandwidth(round_rig):
    rig = round_rig()
    a, b = _reserve(rig, 1000), _reserve(rig, 1000)
    rig.card().submit(1, [Fill(a, b"\x01"), Copy(b, a)], [])
    (done,) = rig.card().poll(None)
    # 1000 bytes written at 0.5 byte/ns, then 1000 read and 1000 written
    assert _span(done) == (1000, 1000 + 10 + 2000 + 10 + 4000)


def test_a_third_copy_waits_for_a_copy_engine(round_rig):
    rig = round_rig()
    views = [_reserve(rig, 1000) for _ in range(3)]
    for queue, view in enumerate(views):
        rig.card().submit(queue, [Fill(view, b"\x01")], [])
    ends = [done.finished for _ in range(3) for done in rig.card().poll(None)]
    assert ends == [3010, 3010, 5010]


@pytest.mark.parametrize(
    ("count", "nanoseconds"),
    [
        (8, 96),  # 8 operations, 96 bytes on chip: the SRAM binds
        (100, 2400),  # three operands of 400 bytes, each over the SRAM: device memory binds
    ],
)
def test_the_roofline_of_a_node(round_rig, graphs, count, nanoseconds):
    rig = round_rig()
    x = np.ones(count, np.float32)
    loaded = rig.load(graphs("Add", x, x))
    a, y = _reserve(rig, 4 * count), _reserve(rig, 4 * count)
    rig.card().submit(0, [Execute(loaded, (a, a), (y,), profile=True)], [])
    (done,) = rig.card().poll(None)
    (time,) = done.profile
    assert time.finished - time.started == 20 + nanoseconds
    assert _span(done) == (1000, 1010 + 200 + 20 + nanoseconds)
    assert time.started == 1210


def test_the_roofline_of_a_product_is_bound_by_arithmetic(round_rig, graphs):
    rig = round_rig()
    for dtype, rate in ((np.float32, 1), (np.float16, 2)):
        a, b = np.ones((2, 16), dtype), np.ones((16, 2), dtype)
        loaded = rig.load(graphs("MatMul", a, b))
        moved = (32 + 32 + 4) * a.itemsize
        spilled = 64 * a.itemsize if a.nbytes > 100 else 0
        want = max(2 * 2 * 2 * 16 / rate, spilled / 0.5, moved - spilled)
        assert loaded.nanoseconds == 20 + want


def test_nodes_run_one_after_the_other(rig, graphs):
    x = np.ones((4, 8), np.float32)
    program = rig.load(graphs("Softmax", x, axis=1))
    _, profile = rig.card().execute_profiled(program, (rig.view(x),), (rig.view(128),))
    assert all(a.finished == b.started for a, b in pairwise(profile))


def test_throttling_slows_the_engines_down(round_rig, graphs):
    x = np.ones(8, np.float32)
    rig = round_rig(fault="thermal_throttle", fault_at=2)
    loaded = rig.load(graphs("Add", x, x))
    a, y = _reserve(rig, 32), _reserve(rig, 32)
    spans = []
    for _ in range(3):
        rig.card().submit(0, [Execute(loaded, (a, a), (y,))], [])
        (done,) = rig.card().poll(None)
        spans.append(done.finished - done.started)
    assert spans == [10 + 316, 10 + 3 * 316, 10 + 3 * 316]
    assert rig.card().health().state == "degraded"
    assert rig.card().telemetry()["clock_scale"] == pytest.approx(1 / 3)


# -- traces --------------------------------------------------------------------------------


def _scenario(rig, graphs):
    """Everything at once: two cards, all queues, an execution, a failure."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    loaded = rig.load(graphs("Softmax", x, axis=1))
    a, y, far = rig.view(x), rig.view(48), rig.view(48, ordinal=1)
    near, other = rig.card(0), rig.card(1)
    ticket = near.submit(0, [Write(a, _data(48)), Execute(loaded, (a,), (y,))], [])
    other.submit(1, [PeerCopy(far, y, near), Fill(far, b"\x01")], [ticket])
    near.submit(2, [Read(y, np.zeros(48, np.uint8).data)], [ticket])
    while near.poll(None) or other.poll(None):
        pass


def test_equal_runs_give_equal_bytes(rigs, graphs, tmp_path):
    path, written = tmp_path / "trace.json", []
    for _ in range(2):
        rig = rigs(trace=str(path))
        _scenario(rig, graphs)
        live = rig.card().trace()
        rig.close()
        written.append(path.read_bytes())
        assert written[-1].decode() == live
        path.unlink()
    assert written[0] == written[1]
    assert list(tmp_path.iterdir()) == []
    events = json.loads(written[0])["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"write", "read", "peercopy", "fill", "Softmax", "batch"} <= names
    assert {event["pid"] for event in events} >= {0, 1}


def test_a_trace_that_cannot_be_written_says_so(rigs, tmp_path):
    rig = rigs(trace=str(tmp_path / "missing" / "trace.json"))
    rig.card()
    with pytest.raises(NotFound, match=r"trace\.json"):
        rig.drivers.pop(0).close()


def test_many_threads_may_submit_while_one_waits(rig):
    views = [rig.view(64) for _ in range(8)]
    card, tickets = rig.card(), []

    def work(view):
        for value in range(20):
            tickets.append(card.submit(value % 3, [Fill(view, bytes([value]))], []))  # noqa: PERF401 # threads share it

    threads = [threading.Thread(target=work, args=(view,)) for view in views]
    for thread in threads:
        thread.start()
    done = []
    while len(done) < 160:
        done += card.poll(None)
    for thread in threads:
        thread.join()
    assert sorted(item.ticket for item in done) == sorted(tickets)


# -- profiles ------------------------------------------------------------------------------


def test_the_default_host_has_six_cards(rigs):
    rig = rigs(profile="default")
    assert len(rig.devices) == 6
    assert len({device.id for device in rig.devices}) == 6
    roofline = rig.target.roofline
    assert (roofline.operations["int8"], roofline.memory_bandwidth) == (50e12, 68e9)
    assert rig.devices[0].memories[0].capacity == 16_000_000_000
    assert len(rigs(count=2).devices) == 2


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (None, NotFound, "no profile"),
        ("kind = ", InvalidArgument, "is not TOML"),
        (PROFILE + "extra = 1\n", InvalidArgument, "extra"),
        (PROFILE.replace("count = 6", ""), InvalidArgument, "missing"),
        (PROFILE.replace("count = 6", "count = 6.5"), InvalidArgument, "count"),
        (PROFILE.replace("count = 6", "count = 0"), InvalidArgument, "count = 0"),
        (PROFILE.replace('kind = "Round"', "kind = 1"), InvalidArgument, "kind"),
        (PROFILE.replace("power_w = 10.0", "power_w = -1"), InvalidArgument, "power_w"),
    ],
)
def test_a_bad_profile_is_refused_by_name(rigs, tmp_path, text, error, match):
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=match):
        rigs(profile=str(path))


@pytest.mark.parametrize(
    "given", [{"count": -1}, {"memory_bytes": -1}, {"fault_at": 0}, {"defect": "none_such"}]
)
def test_bad_options_are_refused(rigs, given):
    with pytest.raises(InvalidArgument, match=next(iter(given))):
        rigs(**given)
