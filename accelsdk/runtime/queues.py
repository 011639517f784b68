"""Work on native queues: batches go to the card as soon as the card itself can order them.

A batch is submitted once every edge is satisfied on the host, or is a ticket already
submitted in the same ticket domain. Until then it is held back here; a wait is never put
into a hardware FIFO, where it would block what stands behind it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import cast

from accelsdk.backend.driver import Driver
from accelsdk.backend.optional import Completion, Engine, QueueInfo, SupportsQueues, Ticket
from accelsdk.errors import Cancelled, DeviceFault, Unavailable
from accelsdk.runtime import progress
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Step, settle
from accelsdk.runtime.work import Work, translate
from accelsdk.runtime.worker import Gate

_LOG = logging.getLogger("accelsdk")
#: How long one poll of an eager card may last: bounds how long closing takes, seconds.
_SLICE = 0.05
_JOIN_SECONDS = 5.0


class NativeQueues:
    """Submits batches to a card's own queues and takes back their completions."""

    native = True

    def __init__(self, driver: Driver, gate: Gate, name: str) -> None:
        self._driver = cast(SupportsQueues, driver)
        self._gate = gate
        self._name = name
        infos = list(self._driver.queues)
        self._queue_of = {engine: _first(infos, engine) for engine in Engine}
        self.eager = self._driver.progress == "eager"
        self._running: dict[Ticket, Work] = {}
        self._early: dict[Ticket, Completion] = {}
        self._polling = threading.Lock()
        self._thread: threading.Thread | None = None
        self._submitted = threading.Event()
        self._stopping = False

    def place(self, work: Work) -> int:
        """Returns the queue whose engine the commands want."""
        return self._queue_of[work.engine]

    def launch(self, work: Work, after: Sequence[Ticket], inline: bool) -> list[Step]:
        """Submits one batch."""
        if self._stopping:
            return work.finish(Unavailable(f"{work.label}: the device is closed"))
        try:
            ticket = self._gate.call(self._driver.submit, work.queue, work.commands, after)
        except Exception as error:
            return work.finish(translate(error, work.device, work.label))
        with LOCK:
            work.ticket = ticket
            early = self._early.pop(ticket, None)
            if early is None:
                self._running[ticket] = work
            # Work behind this one may go to the card now, with this ticket to come after.
            freed = list(work.event.dependents)
        if early is not None:
            return freed + self._complete(work, early)
        if self.eager:
            self._wake()
        else:
            progress.outstanding(self)
        return freed

    def drive(self, timeout: float | None) -> bool:
        """Polls a card that advances only so; returns whether anything completed."""
        if not self._polling.acquire(timeout=-1 if timeout is None else timeout):
            return False
        try:
            completions = self._poll(timeout)
        finally:
            self._polling.release()
        settle(self._take(completions))
        return bool(completions)

    def stop(self) -> None:
        """Ends the polling thread."""
        self._stopping = True
        self._submitted.set()
        with LOCK:
            progress.idle(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def forget(self, work: Work) -> None:
        """Drops a batch whose card has failed. The caller holds the state lock."""
        if work.ticket is not None:
            self._running.pop(work.ticket, None)
        if not self._running:
            progress.idle(self)

    def _poll(self, timeout: float | None) -> Sequence[Completion]:
        if not self._running and not self.eager:
            return ()  # another thread has taken everything meanwhile
        try:
            completions = tuple(self._driver.poll(timeout))
            if not all(isinstance(completion, Completion) for completion in completions):
                raise TypeError("poll() returned something else than Completion objects")
            return completions
        except Exception as error:
            # A card that cannot be polled can complete nothing: everything on it has failed.
            with LOCK:
                running = list(self._running.values())
            _LOG.error("%s: polling failed: %s", self._name, error)
            return [
                Completion(
                    ticket=cast(Ticket, work.ticket), error=translate(error, work.device, "poll")
                )
                for work in running
            ]
        except BaseException:
            # Interrupted in the middle of the card's own code, which may never report what it
            # was doing: whoever waits for that, closing the card included, would hang.
            with LOCK:
                running = list(self._running.values())
                for work in running:
                    self.forget(work)
            for work in running:
                verdict = Cancelled(f"{work.label} was interrupted", device=work.device.id)
                settle(work.finish(verdict))
            raise

    def _take(self, completions: Sequence[Completion]) -> list[Step]:
        steps: list[Step] = []
        for completion in completions:
            with LOCK:
                work = self._running.pop(completion.ticket, None)
                if work is None:  # submitted on another thread, which has not noted it yet
                    self._early[completion.ticket] = completion
                if not self._running:
                    progress.idle(self)
            if work is not None:
                steps.extend(self._complete(work, completion))
        return steps

    def _complete(self, work: Work, completion: Completion) -> list[Step]:
        error = completion.error
        if error is None:
            return work.finish(None, completion)
        if (
            isinstance(error, DeviceFault)
            and error.device is None
            and any(
                event.failure is error or (event.work and event.work.device is not work.device)
                for event, _ in work.edges
            )
        ):
            return work.finish(error, completion)  # it came through `after`: not ours to claim
        return work.finish(translate(error, work.device, work.label), completion)

    def _wake(self) -> None:
        self._submitted.set()
        if self._thread is None:
            with LOCK:
                if self._thread is not None:
                    return
                self._thread = threading.Thread(
                    target=self._poll_forever, name=f"accelsdk-poll-{self._name}", daemon=True
                )
            self._thread.start()

    def _poll_forever(self) -> None:
        while not self._stopping:
            if not self._running and not self._early:
                self._submitted.wait()
            self._submitted.clear()
            try:
                settle(self._take(self._poll(_SLICE)))
            except Exception:  # this thread must live: everyone waits for it
                _LOG.exception("%s: an internal step failed; please report it", self._name)


def _first(infos: Sequence[QueueInfo], engine: Engine) -> int:
    for index, info in enumerate(infos):
        if engine in info.engines:
            return index
    return 0
