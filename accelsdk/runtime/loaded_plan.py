"""A plan on its devices: programs, memory for the values in between, and runs of it.

A run is accepted as a whole. Its end is submitted first, so that it has its place in the
caller's stream, and so that what is wrong with the call is told before anything moves; then
the steps, each ordered by the buffers that it reads and by the memory that it writes. The
end comes after all of them, and fails with the first of their errors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import numpy as np

from accelsdk.backend.driver import Loaded
from accelsdk.backend.info import Capability
from accelsdk.backend.optional import Completion
from accelsdk.errors import AccelError, Cancelled, FailedPrecondition
from accelsdk.formats import UINT8
from accelsdk.runtime import transfer
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable, Result
from accelsdk.runtime.plan import CompiledPlan
from accelsdk.runtime.program import LoadedProgram
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.schedule import Kind, Spot, Step
from accelsdk.runtime.staging import range_of
from accelsdk.runtime.sync import Event, finish_event, join, settle
from accelsdk.runtime.transfer import Submission, span_of
from accelsdk.runtime.work import Edge, Work, event_of

_Edges = list[tuple[Event, Edge]]


class LoadedPlan(LoadedExecutable):
    """A model in several programs, each on its device. Runs are one after the other.

    Args:
        executable: What was loaded.
        devices: One a place; the first takes the inputs and gives the outputs.
        programs: One a part, on these devices.
    """

    def __init__(
        self, executable: CompiledPlan, devices: Sequence[Device], programs: Sequence[LoadedProgram]
    ) -> None:
        count = len(programs)
        super().__init__(executable, devices[0], f"plan of {count} parts")
        self.places = tuple(devices)
        self.programs = tuple(programs)
        self.names = [piece.name for piece in executable.outline.pieces]
        self.schedule = executable.schedule
        #: Streams of the steps, one a place: data and edges order them, not submission.
        self.lanes = [device.create_stream(ordered=False) for device in devices]
        self.stages = [np.empty(n, np.uint8).data for n in self.schedule.stages]
        self.slots: list[Buffer] = []
        self.own: list[Buffer] = []
        #: Held while a run is submitted, so that runs do not mix.
        self.submitting = threading.Lock()
        self.previous: Event | None = None
        self._deleted = False
        try:
            self._allocate()
        except BaseException:
            self._drop()
            raise

    def _allocate(self) -> None:
        for slot in self.schedule.slots:
            device = self.places[slot.place]
            memory = slot.memory if slot.memory in device.memories else None
            self.slots.append(device.empty(UINT8, (slot.nbytes,), memory=memory))
        for slot_index, type in self.schedule.views:
            self.own.append(self.slots[slot_index].view(0, type))

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device that it runs on, `device` first."""
        return tuple(dict.fromkeys(self.places))

    @property
    def alive(self) -> bool:
        """Whether it can run: not deleted, and no reset of a device since."""
        return not self._deleted and all(program.alive for program in self.programs)

    def check(self) -> None:
        """Raises `FailedPrecondition` if it was deleted, or a device was reset since."""
        if self._deleted:
            raise FailedPrecondition("the program was deleted", device=self.device.id)
        for program in self.programs:
            program.check()

    def delete(self) -> None:
        """Gives programs and memory up; work in flight keeps them until it completes."""
        with self.submitting:
            if not self._deleted:
                self._deleted = True
                for program in self.programs:
                    program.delete()
                self._drop()

    def _drop(self) -> None:
        for buffer in (*self.own, *self.slots):
            buffer.delete()

    def is_deleted(self) -> bool:
        """Returns whether `delete` was called."""
        return self._deleted

    def constants_for(self, part: str, device: Device) -> Loaded | None:
        """Returns the program of the part of that name, or else any, if it is on the device."""
        here = [p for p in self.programs if p.device is device]
        named = [p for p, name in zip(self.programs, self.names, strict=True) if name == part]
        for program in (*(p for p in named if p in here), *here):
            return program.residence.loaded
        return None

    def check_profile(self) -> None:
        """Raises `Unimplemented` if no device can say when nodes ran; the others stay silent."""
        if not any(_profiles(device) for device in self.devices):
            super().check_profile()

    def submit(
        self, arguments: tuple[Buffer, ...], outputs: tuple[Buffer, ...], options: ExecuteOptions
    ) -> Result:
        """Submits one run with checked buffers."""
        with self.submitting:
            return _Run(self, arguments, outputs, options).submit()


def _profiles(device: Device) -> bool:
    return bool({Capability.QUEUES, Capability.PROFILING} & device.capabilities)


class _Run:
    """One run on its way to the devices."""

    def __init__(
        self,
        plan: LoadedPlan,
        arguments: tuple[Buffer, ...],
        outputs: tuple[Buffer, ...],
        options: ExecuteOptions,
    ) -> None:
        self.plan, self.arguments, self.outputs, self.options = plan, arguments, outputs, options
        self.inline = options.block and options.timeout is None
        self.events: list[Event] = []
        self.results: list[Result] = []
        self.wait: tuple[Event, ...] = ()
        self.order: _Edges = []

    def submit(self) -> Result:
        """Submits end and steps.

        Raises:
            AccelError: The call is refused; nothing was submitted.
        """
        plan = self.plan
        plan.check()
        for device in plan.places[1:]:
            with LOCK:
                device.admit()
        end, submitted = self._accept()
        result = Result(self.outputs, end.event)
        end.finished_hook = partial(self._report, result, end.event)
        failure: AccelError | None = Cancelled(f"{plan.label} was interrupted")
        try:
            self._submit_steps()
            failure = None
        except AccelError as error:
            failure = error
        finally:
            with LOCK:
                for storage, start, stop in end.writes:  # they are defined once the run is over
                    storage.note_writer(start, stop, end.event)
                end.watch([(event, Edge.END) for event in self.events])
            earlier = next((e.failure for e in self.events if e.failure is not None), None)
            settle(finish_event(submitted, earlier or failure))
        return result

    def _accept(self) -> tuple[Work, Event]:
        """Submits the end, which waits for an event that says that all else is submitted."""
        plan, options = self.plan, self.options
        lane = options.stream or plan.device.default_stream
        lane.check(plan.device)
        self.wait = (*lane.gates(), *map(event_of, options.wait))
        end = Work(
            plan.device,
            plan.label,
            writes=[range_of(buffer) for buffer in self.outputs],
            retain=[buffer.storage for buffer in (*self.arguments, *plan.slots)],
        )
        submitted = Event("submission")
        end.edges = [(submitted, Edge.END)]
        if plan.previous is not None:
            end.edges.append((plan.previous, Edge.ORDER))
        end.submit(lane, signal=options.signal)
        with LOCK:
            self.order = [pair for pair in end.edges if pair[1] is Edge.ORDER]
        plan.previous = end.event
        return end, submitted

    def _submit_steps(self) -> None:
        storages = [slot.storage for slot in self.plan.slots]
        with LOCK:
            for storage in storages:
                storage.writers.clear()  # what earlier runs left is nobody's data any more
        for step in self.plan.schedule.steps:
            edges = [*self.order, *((self.events[index], Edge.ORDER) for index in step.after)]
            if step.piece >= 0:
                self.events.append(self._execute(step, edges))
            else:
                self.events.append(self._copy(step, edges))

    def _execute(self, step: Step, edges: _Edges) -> Event:
        plan, options = self.plan, self.options
        program = plan.programs[step.piece]
        how = ExecuteOptions(
            stream=plan.lanes[step.places[0]],
            wait=self.wait,
            timeout=options.timeout,
            cancel=options.cancel,
            profile=options.profile and _profiles(program.device),
            block=options.block,
        )
        reads = tuple(self._buffer(spot) for spot in step.reads)
        writes = tuple(self._buffer(spot) for spot in step.writes)
        result = program.submit(reads, writes, how, edges)
        self.results.append(result)
        return result.complete

    def _copy(self, step: Step, edges: _Edges) -> Event:
        """Copies directly where the devices can, else through host memory of the plan."""
        plan = self.plan
        source, target = self._buffer(step.reads[0]), self._buffer(step.writes[0])
        here, there = span_of(target), span_of(source)
        if not there.nbytes or target is source:
            # Nothing is moved; but whoever takes the memory next waits for this step alone.
            ready = join((source.ready, *(self.events[index] for index in step.after)), step.value)
            if target is not source:
                storage, start, stop = range_of(target)
                with LOCK:  # not the end of the run, for which a reader of nothing would wait
                    storage.note_writer(start, stop, ready)
            return ready
        how = Submission(
            None,
            self.wait,
            cancel=self.options.cancel,
            inline=self.inline,
            edges=edges,
            part=f"copy of {step.value}",
        )
        if step.stage < 0 or transfer.direct_path(target.device, source.device):
            return transfer.copy(here, there, how)
        return transfer.copy_staged(here, there, plan.stages[step.stage][: there.nbytes], how)

    def _buffer(self, spot: Spot) -> Buffer:
        match spot.kind:
            case Kind.INPUT:
                return self.arguments[spot.index]
            case Kind.OUTPUT:
                return self.outputs[spot.index]
            case Kind.OWN:
                return self.plan.own[spot.index]

    def _report(self, result: Result, event: Event, _: Completion) -> None:
        """Hands on what the parts reported: times, and real shapes of the outputs."""
        result.profile = tuple(entry for part in self.results for entry in part.profile)
        for step in self.plan.schedule.steps:
            if step.piece < 0:
                self._buffer(step.writes[0]).valid = self._buffer(step.reads[0]).valid
        device = self.plan.device
        pairs = zip(self.results, self.plan.programs, strict=True)
        here = [result.complete for result, program in pairs if program.device is device]
        if here:  # clocks of different devices have nothing in common
            event.started = min(one.started for one in here)
            event.finished = max(one.finished for one in here)
