"""Random programs on the whole device API, against the model; hypothesis makes and shrinks them.

Every rule does one thing to the device and to the model. Programs are free of races by
construction: work that would overlap with other work in flight waits for it. Everything that
can be observed is compared: readiness, errors, bytes, refusals, and at the end all memory.
"""

from __future__ import annotations

import sys

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from accelsdk.errors import AccelError, DataLoss, DeadlineExceeded, FailedPrecondition
from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable
from accelsdk.runtime.stream import Stream
from accelsdk.runtime.sync import Event, Semaphore
from accelsdk_conformance.scenarios.lab import Broken, Lab, check, equal, raises
from accelsdk_conformance.scenarios.model import Fate, Gate, Model, Range, Store, Work
from accelsdk_conformance.scenarios.paired import Place, Submitted

WHOLE, HALF = TensorType(UINT8, (8, 8)), TensorType(UINT8, (4, 8))
_OFFSETS = (0, 1, 5, 32)

number = st.integers(0, 255)


class Machine(RuleBasedStateMachine):
    """The rules. A subclass has the lab and the programs: of one operand and of two."""

    lab: Lab
    programs: list[tuple[LoadedExecutable, LoadedExecutable]]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.devices: list[Device] = list(self.lab.client.devices[: len(self.programs)])
        self.lanes: dict[tuple[int, int], Stream] = {
            (d, s): device.create_stream() for d, device in enumerate(self.devices) for s in (0, 1)
        }
        self.places: list[Place] = []
        self.gone: list[Buffer] = []
        self.gates: list[tuple[Semaphore, Gate]] = []
        self.submitted: list[Submitted] = []
        self.steps: list[str] = []

    # -- helpers ---------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Notes a step of the program."""
        self.steps.append(text)

    def pick(self, n: int) -> Place:
        """Returns a live place."""
        return self.places[n % len(self.places)]

    def name(self, place: Place) -> str:
        """Returns what a program for people calls it."""
        return f"b{self.places.index(place)}"

    def lane(self, device: int, n: int) -> tuple[int, int]:
        """Returns a stream of a device."""
        return (device, n % 2)

    def touched(self, store: Store, start: int) -> tuple[Range, ...]:
        """Returns what a write at ``start`` touches besides: the bytes from the alignment on."""
        step = self.devices[store.device].target.view_alignment
        return ((store, start - start % step, start),) if start % step else ()

    def waits(self, work: Work, lane: tuple[int, int], n: int) -> list[Event]:
        """Returns what work waits for explicitly: what it would race with, and sometimes more."""
        found: list[Event] = []
        for other in self.submitted:
            if other.over:
                continue
            if other.lane == lane:
                work.behind.append(other.work)
            elif work.conflicts(other.work):
                if other.work.fate is Fate.FAILED:
                    self.finish(other)  # waiting for it would fail this, too
                else:
                    work.after.append(other.work)
                    found.append(other.event)
        if n % 4 == 1 and self.gates:
            semaphore, gate = self.gates[n % len(self.gates)]
            work.after.append(gate)
            found.append(semaphore.event(1))
        elif n % 16 == 2 and self.submitted:
            other = self.submitted[n % len(self.submitted)]
            work.after.append(other.work)
            found.append(other.event)
        return found

    def note(self, made: Submitted) -> None:
        """Takes submitted work on."""
        self.submitted.append(made)
        self.model.submit(made.work)

    def finish(self, one: Submitted) -> None:
        """Waits for work whose fate is decided, and compares it."""
        if one.over:
            return
        error = self.outcome(one.event)
        one.over = True
        if one.work.fate is Fate.OK:
            check(not error, f"{one.work.label} succeeds, but failed: {error}")
            if one.out is not None and one.wanted is not None:
                equal(bytes(one.out), bytes(one.wanted), f"bytes of {one.work.label}")
        else:
            wanted = sorted(one.work.errors)
            told = any(text in error for text in wanted)
            check(told, f"{one.work.label} fails with one of {wanted}, got {error or 'success'}")

    def outcome(self, event: Event) -> str:
        """Returns the error of work that must end, or an empty text."""
        try:
            event.wait(self.lab.patience)
        except DeadlineExceeded as error:
            raise Broken(f"{event.label} does not end, though nothing is in its way") from error
        except AccelError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    # -- memory ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.places) < 12)
    @rule(d=number, n=number)
    def allocate(self, d: int, n: int) -> None:
        """Allocates a buffer with known contents."""
        index = d % len(self.devices)
        buffer = self.devices[index].empty(WHOLE)
        data = bytes((n + 3 * i) % 256 for i in range(64))
        buffer.copy_from_host(data, stream=self.devices[index].create_stream())
        self.places.append(Place(buffer, Store(index, bytearray(data)), 0))
        self.say(f"b{len(self.places) - 1} = card {index}, bytes {n} + 3 i")

    @precondition(lambda self: self.places and len(self.places) < 12)
    @rule(b=number, o=number)
    def view(self, b: int, o: int) -> None:
        """Takes a part of a buffer."""
        parent = self.pick(b)
        if parent.buffer.nbytes != 64:
            return
        offset = _OFFSETS[o % len(_OFFSETS)]
        made = Place(parent.buffer.view(offset, HALF), parent.store, parent.offset + offset)
        self.places.append(made)
        self.say(f"b{len(self.places) - 1} = {self.name(parent)}[{offset}:{offset + 32}]")

    @precondition(lambda self: self.places)
    @rule(b=number)
    def delete(self, b: int) -> None:
        """Deletes a buffer, whatever is in flight on it."""
        place = self.pick(b)
        self.say(f"delete {self.name(place)}")
        self.places.remove(place)
        place.buffer.delete()
        check(place.buffer.is_deleted(), "is_deleted() after delete()")
        self.gone.append(place.buffer)

    @precondition(lambda self: self.gone)
    @rule(b=number)
    def use_after_delete(self, b: int) -> None:
        """A deleted or donated buffer refuses use."""
        buffer = self.gone[b % len(self.gone)]
        with raises(FailedPrecondition, "use of a buffer that is gone"):
            buffer.copy_to_host(bytearray(1))

    @precondition(lambda self: len(self.places) < 12)
    @rule(d=number)
    def poisoned(self, d: int) -> None:
        """Makes a poisoned buffer."""
        index = d % len(self.devices)
        text = f"planted {len(self.model.works)}"
        store = Store(index, bytearray(64))
        work = Work("poison", fate=Fate.FAILED, errors=frozenset({text}))
        store.note(0, 64, work)
        buffer = self.devices[index].poisoned(WHOLE, DataLoss(text))
        self.places.append(Place(buffer, store, 0))
        self.say(f"b{len(self.places) - 1} = poisoned, card {index}")

    # -- transfers -------------------------------------------------------------------------

    @precondition(lambda self: self.places)
    @rule(b=number, o=number, n=number, s=number, w=number)
    def write(self, b: int, o: int, n: int, s: int, w: int) -> None:
        """Writes a range."""
        place, data = self.pick(b), bytes((7 * n + i) % 256 for i in range(1 + n % 24))
        start = o % (place.buffer.nbytes - len(data) + 1)
        store, first, end = place.part(start, len(data))

        def effect() -> None:
            store.data[first:end] = data

        touches = self.touched(store, first)
        work = Work(f"write of {len(data)} bytes", (), ((store, first, end),), touches, effect)
        lane = self.lane(store.device, s)
        wait = self.waits(work, lane, w)
        event = self.lanes[lane].write(place.buffer, data, offset=start, wait=wait)
        self.say(
            f"write {self.name(place)}[{start}:{start + len(data)}] on {lane}, {len(wait)} waits"
        )
        self.note(Submitted(work, event, lane))

    @precondition(lambda self: self.places)
    @rule(b=number, o=number, n=number, s=number, w=number)
    def fill(self, b: int, o: int, n: int, s: int, w: int) -> None:
        """Fills a range with a pattern."""
        place = self.pick(b)
        pattern = bytes(range(n, n + (1, 2, 4, 8)[n % 4])) if n < 248 else b"\x00"
        nbytes = len(pattern) * (1 + o % 3)
        start = (o * 5) % (place.buffer.nbytes - nbytes + 1)
        store, first, end = place.part(start, nbytes)

        def effect() -> None:
            store.data[first:end] = pattern * (nbytes // len(pattern))

        touches = self.touched(store, first)
        work = Work(f"fill of {nbytes} bytes", (), ((store, first, end),), touches, effect)
        lane = self.lane(store.device, s)
        wait = self.waits(work, lane, w)
        stream = self.lanes[lane]
        event = stream.fill(place.buffer, pattern, offset=start, nbytes=nbytes, wait=wait)
        self.say(f"fill {self.name(place)}[{start}:{start + nbytes}] on {lane}, {len(wait)} waits")
        self.note(Submitted(work, event, lane))

    @precondition(lambda self: self.places)
    @rule(b=number, c=number, s=number, w=number)
    def copy(self, b: int, c: int, s: int, w: int) -> None:
        """Copies a buffer into another, on this card or from another one."""
        source, target = self.pick(b), self.pick(c)
        if source.buffer.nbytes != target.buffer.nbytes:
            return
        (there, a, z), (here, first, end) = source.range, target.range
        if there is here and a < end and first < z:
            return

        def effect() -> None:
            here.data[first:end] = there.data[a:z]

        touches = self.touched(here, first)
        work = Work("copy", (source.range,), (target.range,), touches, effect)
        lane = self.lane(here.device, s)
        wait = self.waits(work, lane, w)
        event = self.lanes[lane].copy(target.buffer, source.buffer, wait=wait)
        names = f"{self.name(source)} to {self.name(target)}"
        self.say(f"copy {names} on {lane}, {len(wait)} waits")
        self.note(Submitted(work, event, lane))

    @precondition(lambda self: self.places)
    @rule(b=number, o=number, n=number, s=number, w=number)
    def read(self, b: int, o: int, n: int, s: int, w: int) -> None:
        """Reads a range; its bytes are compared when the work is over."""
        place = self.pick(b)
        nbytes = 1 + n % place.buffer.nbytes
        start = o % (place.buffer.nbytes - nbytes + 1)
        store, first, end = place.part(start, nbytes)
        out, wanted = bytearray(b"\xee" * nbytes), bytearray(nbytes)

        def effect() -> None:
            wanted[:] = store.data[first:end]

        work = Work(f"read of {nbytes} bytes", ((store, first, end),), effect=effect)
        lane = self.lane(store.device, s)
        wait = self.waits(work, lane, w)
        event = self.lanes[lane].read(place.buffer, out, offset=start, wait=wait)
        self.say(f"read {self.name(place)}[{start}:{end - place.offset}] on {lane}")
        self.note(Submitted(work, event, lane, out, wanted))

    # -- programs --------------------------------------------------------------------------

    @precondition(lambda self: self.places and len(self.places) < 12)
    @rule(b=number, c=number, s=number, w=number, donate=st.booleans())
    def run(self, b: int, c: int, s: int, w: int, donate: bool) -> None:
        """Runs a program: a transposition of one buffer, or two halves put together."""
        first, second = self.pick(b), self.pick(c)
        if first.buffer.nbytes == 64:
            operands = [first]
        elif second.buffer.nbytes == 32 and second.store.device == first.store.device:
            operands = [first, second]
        else:
            return
        device = first.store.device
        shared = any(p.store is first.store for p in self.places if p is not first)
        donate = donate and operands == [first] and not shared
        ranges = [place.range for place in operands]
        store = Store(device, bytearray(64))

        def effect() -> None:
            data = b"".join(bytes(s.data[a:z]) for s, a, z in ranges)
            if len(operands) == 1:
                data = b"".join(data[i::8] for i in range(8))
            store.data[:] = data

        # What is donated may be written: whoever still reads it must be waited for.
        written = [(store, 0, 64), *(ranges if donate else ())]
        work = Work("program", ranges, written, effect=effect)
        lane = self.lane(device, s)
        wait = self.waits(work, lane, w)
        token = CancelToken() if w % 3 == 0 else None
        names = ", ".join(map(self.name, operands))
        result = self.lanes[lane].execute(
            self.programs[device][len(operands) - 1],
            [place.buffer for place in operands],
            None,
            ExecuteOptions(wait=wait, donate=donate, cancel=token),
        )
        self.say(
            f"b{len(self.places)} = program({names}) on {lane}, {len(wait)} waits"
            + (", donated" if donate else "")
        )
        if donate:
            check(first.buffer.is_deleted(), "a donated operand is consumed")
            self.places.remove(first)
            self.gone.append(first.buffer)
        self.places.append(Place(result.outputs[0], store, 0))
        self.note(Submitted(work, result.complete, lane, token=token))

    @precondition(lambda self: any(one.token for one in self.submitted))
    @rule(n=number)
    def cancel(self, n: int) -> None:
        """Cancels a program that waits; one that does not is let go to its end before."""
        able = [one for one in self.submitted if one.token is not None]
        one = able[n % len(able)]
        if one.token is None:
            return
        if one.work.fate is not Fate.PENDING:
            self.finish(one)
        self.say("cancel a program")
        one.token.cancel()
        if one.work.fate is Fate.PENDING:
            self.model.cancel(one.work, "Cancelled")

    # -- order -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.gates) < 4)
    @rule()
    def gate(self) -> None:
        """Makes a timeline that the host will move."""
        self.gates.append((self.lab.semaphore(), Gate()))
        self.say(f"gate {len(self.gates) - 1}")

    @precondition(lambda self: self.gates)
    @rule(n=number, fail=st.booleans())
    def decide(self, n: int, fail: bool) -> None:
        """Signals a timeline, or fails it; the first wins."""
        index = n % len(self.gates)
        semaphore, gate = self.gates[index]
        text = f"gate {index} failed"
        self.say(f"{'fail' if fail else 'signal'} gate {index}")
        if fail:
            semaphore.fail(DataLoss(text))
        else:
            semaphore.signal(1)
        if fail and gate.fate is Fate.OK:
            gate.fate, gate.errors = Fate.FAILED, frozenset({text})
        else:
            self.model.decide(gate, text if fail else "")

    @precondition(lambda self: self.submitted)
    @rule(n=number)
    def look(self, n: int) -> None:
        """Compares one piece of work: what waits is not ready, what can end ends."""
        one = self.submitted[n % len(self.submitted)]
        if one.work.fate is Fate.PENDING:
            check(not one.event.is_ready(), f"{one.work.label} is not ready: it has to wait")
            check(one.event.error() is None, f"{one.work.label} has no error while it waits")
        else:
            self.finish(one)

    @precondition(lambda self: self.places)
    @rule(b=number)
    def contents(self, b: int) -> None:
        """Compares one buffer, if nothing that it depends on waits."""
        self.compare(self.pick(b))

    def compare(self, place: Place) -> None:
        """Compares the contents of a place, or the error that poisons it."""
        store, first, end = place.range
        writers = store.writers_of(first, end)
        if any(work.fate is Fate.PENDING for work in writers):
            check(not place.buffer.ready.is_ready(), "a buffer with a waiting writer is not ready")
            return
        out = bytearray(end - first)
        stream = self.devices[store.device].create_stream()
        error = self.outcome(place.buffer.copy_to_host(out, stream=stream, block=False))
        texts = [text for work in writers for text in work.errors]
        if texts:
            told = any(text in error for text in texts)
            check(told, f"reading {self.name(place)} tells one of {texts}, got {error or 'bytes'}")
        else:
            check(not error, f"reading {self.name(place)} succeeds, but failed: {error}")
            equal(bytes(out), bytes(store.data[first:end]), f"contents of {self.name(place)}")

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Lets everything come to its end, and compares all of it."""
        for semaphore, gate in self.gates:
            semaphore.signal(1)
            self.model.decide(gate)
        for one in self.submitted:
            self.finish(one)
        for place in self.places:
            self.compare(place)
        for device in self.devices:
            device.synchronize(self.lab.patience)

    def teardown(self) -> None:
        """Compares the end, and gives everything back, whatever was found."""
        try:
            if sys.exc_info()[1] is None:  # else a rule has failed, and that is what is told
                self.close()
        finally:
            for semaphore, _ in self.gates:
                semaphore.fail(DataLoss("the program is over"))
            for place in self.places:
                place.buffer.delete()
