"""Streams: work in the order of submission, or work without an order of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from accelsdk.errors import AccelError, Internal, InvalidArgument
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Event, Timepoint
from accelsdk.runtime.work import Edge, Work, event_of

if TYPE_CHECKING:
    from accelsdk.runtime.buffer import Buffer
    from accelsdk.runtime.device import Device
    from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable, Result


class Stream:
    """A timeline of work on one device. Thread-safe.

    In an ordered stream each piece of work starts after the one before it is over, whether
    that failed or not: failure travels along data and explicit waits. In an unordered one
    only data, waits and barriers order. None of the methods blocks.

    Attributes:
        device: Where the work runs.
        ordered: Whether it is a FIFO.
        tail: What the next piece of work starts after: the last one, or the last barrier.
        since: Completions of the work since the last record.
    """

    def __init__(self, device: Device, *, ordered: bool = True) -> None:
        self.device = device
        self.ordered = ordered
        self.tail: Event | None = None
        self.since: list[Event] = []
        self._gates: list[Event] = []

    def __repr__(self) -> str:
        return f"<Stream of {self.device.id}, {'ordered' if self.ordered else 'unordered'}>"

    def check(self, device: Device) -> None:
        """Raises `InvalidArgument` if work of ``device`` cannot go here."""
        if device is not self.device:
            raise InvalidArgument(
                f"a stream of device {self.device.id} cannot take work of {device.id}",
                remedy="take a stream of the device that is written to",
            )

    # -- moving data -----------------------------------------------------------------------

    def write(
        self,
        destination: Buffer,
        source: NDArray[Any] | bytes | bytearray | memoryview,
        *,
        offset: int = 0,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
    ) -> Event:
        """Copies host memory, as it is now, into a buffer."""
        return destination.copy_from_host(
            source, offset=offset, stream=self, wait=wait, signal=signal, block=False
        )

    def read(
        self,
        source: Buffer,
        destination: NDArray[Any] | bytearray | memoryview,
        *,
        offset: int = 0,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
    ) -> Event:
        """Copies a buffer into host memory, which is defined from completion on."""
        return source.copy_to_host(
            destination, offset=offset, stream=self, wait=wait, signal=signal, block=False
        )

    def copy(
        self,
        destination: Buffer,
        source: Buffer,
        *,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
    ) -> Event:
        """Copies a buffer into one of equal length on this stream's device."""
        return source.copy_to(destination, stream=self, wait=wait, signal=signal, block=False)

    def fill(
        self,
        destination: Buffer,
        pattern: bytes,
        *,
        offset: int = 0,
        nbytes: int | None = None,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
    ) -> Event:
        """Repeats a pattern of 1, 2, 4 or 8 bytes over a buffer or a range of it."""
        return destination.fill(
            pattern,
            offset=offset,
            nbytes=nbytes,
            stream=self,
            wait=wait,
            signal=signal,
            block=False,
        )

    def execute(
        self,
        loaded: LoadedExecutable,
        arguments: Sequence[Buffer],
        outputs: Sequence[Buffer] | None = None,
        options: ExecuteOptions | None = None,
    ) -> Result:
        """Runs a program in this stream; as `LoadedExecutable.execute`."""
        from accelsdk.runtime.executable import ExecuteOptions

        options = (options or ExecuteOptions()).on(self)
        return loaded.execute(arguments, outputs, options)

    # -- order -----------------------------------------------------------------------------

    def wait(self, *points: Timepoint | Event) -> None:
        """Has all later work of this stream wait for ``points``, and fail if they fail."""
        events = [event_of(point) for point in points]
        with LOCK:
            self._gates = [*self._open_gates(), *events]

    def wait_event(self, event: Event) -> None:
        """Has all later work of this stream wait for ``event``, and fail if it fails."""
        self.wait(event)

    def signal(self, *points: Timepoint) -> Event:
        """Signals when all earlier work of this stream is over, or fails with its error."""
        return self._mark("signal", points)

    def record(self) -> Event:
        """Returns the completion of all earlier work, with the first error since the last."""
        return self._mark("record", ())

    def barrier(
        self, *, wait: Sequence[Timepoint | Event] = (), signal: Sequence[Timepoint] = ()
    ) -> Event:
        """Orders all earlier work before all later work, in an unordered stream too."""
        self.wait(*wait)
        event = self._mark("barrier", signal)
        with LOCK:
            self.tail = event
        return event

    def host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
    ) -> Event:
        """Calls ``function`` on an SDK thread, with no lock held, in its place in the order.

        It must not wait for work. An exception that it raises fails the returned event.
        """

        def body() -> None:
            try:
                function()
            except AccelError:
                raise
            except Exception as error:
                raise Internal(
                    f"a host call raised {type(error).__name__}: {error}",
                    remedy="catch it inside the function",
                ) from error

        work = Work(self.device, "host call", body=body, foreign=True)
        return work.submit(self, wait=(*self.gates(), *wait), signal=signal)

    def gates(self) -> list[Event]:
        """Returns what every later piece of work waits for."""
        if not self._gates:
            return self._gates
        with LOCK:
            self._gates = self._open_gates()
            return self._gates

    def _open_gates(self) -> list[Event]:
        return [gate for gate in self._gates if not gate.done or gate.failure is not None]

    def _mark(self, label: str, signal: Sequence[Timepoint]) -> Event:
        """Submits work that does nothing, after all that came before."""
        with LOCK:
            before, self.since = self.since, []
        work = Work(self.device, label)
        if self.tail is not None:
            work.edges.append((self.tail, Edge.ORDER))
        return work.submit(None, wait=(*self.gates(), *before), signal=signal)
