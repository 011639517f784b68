"""Queues, tickets and engines: order, failure, cancellation, progress."""

import numpy as np
import pytest

from accelsdk.backend.driver import View
from accelsdk.backend.optional import (
    PROTOCOLS,
    Copy,
    Execute,
    Fill,
    HealthState,
    PeerCopy,
    Read,
    Write,
)
from accelsdk.errors import (
    Cancelled,
    DeviceFault,
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
)

F32 = np.float32


def _data(nbytes, value=7):
    return np.full(nbytes, value, np.uint8)


def _drain(driver):
    found = []
    while batch := driver.poll(None):
        found += batch
    return found


def test_every_declared_capability_has_its_methods(rig):
    for name in rig.target.capabilities:
        assert name not in PROTOCOLS or isinstance(rig.card(), PROTOCOLS[name])


def test_nothing_happens_before_somebody_waits(rig):
    card, view = rig.card(), rig.view(64)
    card.submit(0, [Write(view, _data(64).data)], [])
    assert card.poll(0) == ()
    assert card.telemetry()["virtual_time_ns"] == 0
    (done,) = card.poll(None)
    assert done.error is None
    assert done.finished > done.started > 0
    assert (rig.bytes(view) == 7).all()


def test_a_batch_is_a_request_in_one_submission(rig, graphs):
    x = np.arange(8, dtype=F32)
    loaded = rig.load(graphs("Add", x, x))
    a, b, y = rig.view(32), rig.view(32), rig.view(32)
    out = np.zeros(8, F32)
    commands = [
        Write(a, x.view(np.uint8).data),
        Copy(b, a),
        Execute(loaded, (a, b), (y,), profile=True),
        Read(y, out.view(np.uint8).data),
    ]
    ticket = rig.card().submit(0, commands, [])
    (done,) = _drain(rig.card())
    assert done.ticket == ticket
    np.testing.assert_array_equal(out, x + x)
    (time,) = done.profile
    assert (time.node, time.op, time.engine) == ("Add", "Add", "vector")
    assert done.started < time.started < time.finished < done.finished


def test_batches_of_one_queue_run_in_order_and_queues_overlap(rig):
    card, first, second, other = rig.card(), rig.view(64), rig.view(64), rig.view(1 << 20)
    long = card.submit(1, [Write(other, _data(1 << 20).data)], [])
    one = card.submit(2, [Fill(first, b"\x01")], [])
    two = card.submit(2, [Copy(second, first)], [])
    assert [done.ticket for done in _drain(card)] == [one, two, long]
    assert (rig.bytes(second) == 1).all()


def test_after_orders_across_queues_and_cards(rig):
    near, far = rig.card(0), rig.card(1)
    a, b = rig.view(1 << 20), rig.view(1 << 20, ordinal=1)
    slow = near.submit(1, [Write(a, _data(1 << 20).data)], [])
    out = _data(1 << 20, 0)
    moved = far.submit(1, [PeerCopy(b, a, near)], [slow])
    read = far.submit(2, [Read(b, out.data)], [moved])
    assert [done.ticket for done in _drain(far)] == [moved, read]
    assert (out == 7).all()
    (done,) = near.poll(0)
    assert done.ticket == slow


def test_waiting_for_a_ticket_that_is_queued_behind_others(rig):
    card, view = rig.card(), rig.view(64)
    first = card.submit(1, [Fill(view, b"\x01")], [])
    second = card.submit(1, [Fill(view, b"\x02")], [first])
    third = card.submit(2, [Fill(view, b"\x03")], [second])
    assert [done.ticket for done in _drain(card)] == [first, second, third]
    assert (rig.bytes(view) == 3).all()


def _failing(rig, graphs):
    """A command that is right in form and fails when it runs."""
    table, index = np.zeros((2, 2), F32), np.array([5], np.int64)
    loaded = rig.load(graphs("Gather", table, index, axis=0))
    inputs = (rig.view(table), rig.view(index))
    return Execute(loaded, inputs, (rig.view(8),))


def test_failure_travels_along_after_and_no_further(rig, graphs):
    card, view = rig.card(), rig.view(64)
    bad = card.submit(0, [_failing(rig, graphs), Fill(view, b"\x01")], [])
    unrelated = card.submit(0, [Fill(view, b"\x02")], [])
    carried = card.submit(1, [Fill(view, b"\x03")], [bad])
    again = card.submit(2, [Fill(view, b"\x04")], [carried])
    done = {item.ticket: item for item in _drain(card)}
    assert done[bad].error.node == "Gather"
    assert done[unrelated].error is None
    assert done[carried].error is done[bad].error
    assert done[again].error is done[bad].error
    assert (rig.bytes(view) == 2).all()
    assert card.health().state is HealthState.OK
    # A ticket that has failed long ago still carries its error.
    late = card.submit(1, [Fill(view, b"\x05")], [bad])
    (item,) = _drain(card)
    assert (item.ticket, item.error) == (late, done[bad].error)


def test_a_fault_fails_everything_on_the_card_and_nothing_elsewhere(rig):
    card, other = rig.card(0), rig.card(1)
    view, far = rig.view(64), rig.view(64, ordinal=1)
    wild = View(view.handle, 0, 128, None, 128)
    bad = card.submit(1, [Fill(wild, b"\x01")], [])
    queued = card.submit(1, [Fill(view, b"\x01")], [])
    fine = other.submit(1, [Fill(far, b"\x01")], [])
    done = {item.ticket: item for item in _drain(card)}
    assert isinstance(done[bad].error, DeviceFault)
    assert isinstance(done[queued].error, DeviceFault)
    (item,) = _drain(other)
    assert (item.ticket, item.error) == (fine, None)
    later = card.submit(1, [Fill(view, b"\x01")], [])
    (item,) = _drain(card)
    assert item.ticket == later
    assert isinstance(item.error, DeviceFault)


def test_a_failed_peer_is_not_this_cards_fault(rig):
    near, far = rig.card(0), rig.card(1)
    a, b = rig.view(64), rig.view(64, ordinal=1)
    with pytest.raises(DeviceFault):
        near.fill(View(a.handle, 0, 999, None, 999), b"\x01")
    with pytest.raises(Unavailable, match=r"peer 0000:01:00\.0"):
        far.copy_from_peer(b, a, near)
    assert far.health().state is HealthState.OK


def test_cancelling_a_queued_batch(rig):
    card, view, big = rig.card(), rig.view(64), rig.view(1 << 20)
    running = card.submit(1, [Write(big, _data(1 << 20).data)], [])
    queued = card.submit(1, [Fill(view, b"\x01")], [])
    card.cancel(queued)
    card.cancel(999_999_999)  # nobody's
    done = {item.ticket: item for item in _drain(card)}
    assert done[running].error is None
    assert isinstance(done[queued].error, Cancelled)


def test_a_timeout_is_virtual_and_does_not_cancel(rig):
    card, big = rig.card(), rig.view(1 << 20)
    card.submit(1, [Write(big, _data(1 << 20).data)], [])
    assert card.poll(1e-5) == ()
    assert card.telemetry()["virtual_time_ns"] == 10_000
    (done,) = card.poll(1.0)
    assert done.error is None
    assert done.finished < 1_000_000


def test_partial_tensors_move_only_what_is_valid(rig):
    card = rig.card()
    view = rig.view(1 << 16)
    rig.bytes(view)
    before = card.telemetry()["moved_bytes"]
    card.write(View(view.handle, 0, 1 << 16, None, 100), _data(1 << 16).data)
    assert card.telemetry()["moved_bytes"] - before == 100
    found = rig.bytes(view)
    assert (found[:100] == 7).all()
    assert (found[100:] == 0xCD).all()


def test_synchronous_calls_leave_queued_completions_to_poll(rig):
    card, view = rig.card(), rig.view(64)
    ticket = card.submit(1, [Fill(view, b"\x01")], [])
    card.fill(view, b"\x02")
    card.write(rig.view(1 << 20), _data(1 << 20).data)
    (done,) = card.poll(0)
    assert done.ticket == ticket


def test_misuse_is_refused(rig):
    card = rig.card()
    with pytest.raises(InvalidArgument, match="no queue 3"):
        card.submit(3, [], [])
    with pytest.raises(InvalidArgument, match="no memory"):
        card.allocate(8, "hbm", 64)
    with pytest.raises(FailedPrecondition, match="no trace is kept"):
        card.trace()
    card.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        card.submit(0, [], [])
    card.close()


def test_closing_ends_the_drivers_work_and_leaves_the_card_sound(rigs):
    rig = rigs()
    rig.card(1)  # keeps the host alive
    card, view = rig.card(0), rig.view(1 << 16)
    card.submit(1, [Write(view, _data(1 << 16).data)], [])
    assert card.poll(1e-6) == ()
    rig.drivers.pop(0).close()
    again = rig.card(0)
    again.fill(rig.view(64), b"\x01")
    assert again.health().state is HealthState.OK


def test_a_program_is_dead_after_reset(rig, graphs):
    x = np.ones(4, F32)
    loaded = rig.load(graphs("Neg", x))
    rig.card().reset()
    a, b = rig.view(x), rig.view(16)
    with pytest.raises(FailedPrecondition, match="load it again"):
        rig.card().execute(loaded, (a,), (b,))


def test_two_clients_with_equal_options_share_one_host(rigs):
    first, second = rigs(), rigs()
    a, b = first.view(np.arange(8, dtype=np.uint8)), second.view(8, ordinal=1)
    assert first.devices[0].ticket_domain == second.devices[0].ticket_domain
    second.card(1).copy_from_peer(b, a, first.card(0))
    assert (second.bytes(b, 1) == np.arange(8)).all()
    assert rigs(seed=1).devices[0].ticket_domain != first.devices[0].ticket_domain
