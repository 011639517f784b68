"""Arguments whose views the target would not take are moved to aligned memory and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from accelsdk.backend.driver import View
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.stream import Stream
from accelsdk.runtime.sync import Event, Timepoint
from accelsdk.runtime.transfer import Span, get_staged, put_staged
from accelsdk.runtime.work import Edge, Range, Work


@dataclass(slots=True)
class Plan:
    """The views that an execution is given, and what happens around it.

    Attributes:
        inputs: Views in input order.
        outputs: Views in output order.
        reads: Ranges whose writers the execution waits for.
        writes: Ranges that it defines.
        wait: Completions of what moved arguments into place.
        after: Works that move results into place, to be submitted behind it.
        temporaries: Buffers that must live until everything is submitted.
    """

    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    reads: list[Range]
    writes: list[Range]
    lane: Stream
    wait: list[Event] = field(default_factory=list)
    after: list[Work] = field(default_factory=list)
    temporaries: list[Buffer] = field(default_factory=list)

    def finish(self, execution: Event, signal: Sequence[Timepoint]) -> Event:
        """Submits what moves the results into place; returns the completion of it all."""
        event = execution
        for index, work in enumerate(self.after):
            last = index == len(self.after) - 1
            work.edges.append((event, Edge.HOST))
            event = work.submit(self.lane, signal=signal if last else ())
        return event


def plan(arguments: Sequence[Buffer], outputs: Sequence[Buffer], lane: Stream) -> Plan:
    """Returns the views for an execution; submits the moves that have to come before it."""
    inputs = tuple(buffer.view_for_driver() for buffer in arguments)
    targets = tuple(buffer.view_for_driver() for buffer in outputs)
    made = Plan(
        inputs,
        targets,
        [range_of(buffer) for buffer in arguments],
        [range_of(buffer) for buffer in outputs],
        lane,
    )
    step = lane.device.target.view_alignment
    if step > 1 and any(view.offset % step for view in (*inputs, *targets)):
        _stage(made, arguments, outputs, step)
    return made


def _stage(made: Plan, arguments: Sequence[Buffer], outputs: Sequence[Buffer], step: int) -> None:
    device = made.lane.device
    views = list(made.inputs)
    for index, buffer in enumerate(arguments):
        if views[index].offset % step:
            temporary = device.empty(buffer.type)
            made.temporaries.append(temporary)
            source, target = _span(buffer), _span(temporary)
            made.reads[index] = target.range
            views[index] = temporary.view_for_driver()
            work = Work(
                device,
                "staged input",
                body=partial(_move, target, source),
                reads=(source.range,),
                writes=(target.range,),
            )
            made.wait.append(work.submit(made.lane, wait=made.lane.gates()))
    made.inputs = tuple(views)
    views = list(made.outputs)
    for index, buffer in enumerate(outputs):
        if views[index].offset % step:
            temporary = device.empty(buffer.type)
            made.temporaries.append(temporary)
            source, target = _span(temporary), _span(buffer)
            made.writes[index] = source.range
            views[index] = temporary.view_for_driver()
            body: Callable[[], None] = partial(_move, target, source)
            made.after.append(
                Work(
                    device,
                    "staged output",
                    body=body,
                    reads=(source.range,),
                    follows=(target.before.range,),
                    writes=(target.range,),
                )
            )
    made.outputs = tuple(views)


def _move(target: Span, source: Span) -> None:
    put_staged(target, get_staged(source))


def _span(buffer: Buffer) -> Span:
    return Span(buffer.storage, buffer.offset, buffer.offset + buffer.nbytes)


def range_of(buffer: Buffer) -> Range:
    """Returns the range of a buffer, as work notes it (one byte where it is empty)."""
    return (buffer.storage, buffer.offset, buffer.offset + max(buffer.nbytes, 1))
