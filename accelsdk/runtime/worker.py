"""Calling drivers: the discipline of `DeviceInfo.threading`, and the thread behind it.

A synchronous driver has one worker thread a device. Work that blocks its caller and has
nothing in its way runs on the caller's thread instead: a hop to a worker and back costs more
than a small model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from accelsdk.backend.driver import Driver
from accelsdk.backend.info import Threading
from accelsdk.backend.optional import (
    Command,
    Completion,
    Copy,
    Execute,
    Fill,
    PeerCopy,
    Profile,
    Read,
    Ticket,
    Write,
)
from accelsdk.errors import Internal
from accelsdk.graph.types import Shape
from accelsdk.runtime.sync import Step, settle
from accelsdk.runtime.work import Work

_LOG = logging.getLogger("accelsdk")
_JOIN_SECONDS = 5.0

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """One SDK thread that takes jobs in order; started by its first job."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], list[Step]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def post(self, job: Callable[[], list[Step]]) -> None:
        """Queues a job; the steps that it returns are taken on this thread."""
        self._jobs.put(job)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=_work, args=(self._jobs,), name=self._name, daemon=True
                    )
                    self._thread.start()

    def here(self) -> bool:
        """Says whether the calling thread is this worker."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls ``function`` on this worker and returns, or raises, what it does."""
        if self.here():
            return function(*args, **kwargs)
        finished = threading.Lock()
        finished.acquire()
        results: list[R] = []
        errors: list[BaseException] = []

        def job() -> list[Step]:
            try:
                results.append(function(*args, **kwargs))
            except BaseException as error:  # raised again on the caller's thread
                errors.append(error)
            finally:
                finished.release()
            return []

        self.post(job)
        finished.acquire()
        if errors:
            raise errors.pop()
        return results[0]

    def stop(self) -> None:
        """Ends the thread after the jobs that are queued; waits a while for it."""
        if self._thread is not None:
            self._jobs.put(None)
            if not self.here():
                self._thread.join(_JOIN_SECONDS)


def _work(jobs: SimpleQueue[Callable[[], list[Step]] | None]) -> None:
    while (job := jobs.get()) is not None:
        try:
            settle(job())
        except Exception:
            _LOG.exception("an internal job failed; please report it")
        del job  # keep nothing of the caller's alive while waiting


def _job(function: Callable[[], object], finished: threading.Event | None = None) -> list[Step]:
    try:
        function()
    finally:
        if finished is not None:
            finished.set()
    return []


#: One lock for each backend whose cards may not be called at the same time.
_process_locks: dict[str, threading.RLock] = {}


def forget() -> None:
    """Forgets the locks of the parent process; in a forked child."""
    _process_locks.clear()


class Gate:
    """Lets driver calls of one card through as its `Threading` allows.

    Attributes:
        lock: Held during a call; a no-op where calls may overlap.
        thread: The thread that makes every call, where the driver wants one.
    """

    __slots__ = ("lock", "thread")

    def __init__(self, threading_: Threading, backend: str, worker: Worker) -> None:
        self.thread = worker if threading_ is Threading.AFFINE else None
        self.lock: AbstractContextManager[Any]
        match threading_:
            case Threading.FREE:
                self.lock = nullcontext()
            case Threading.PROCESS:
                self.lock = _process_locks.setdefault(backend, threading.RLock())
            case _:
                self.lock = threading.RLock()

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Makes one driver call."""
        if self.thread is not None:
            return self.thread.call(function, *args, **kwargs)
        with self.lock:
            return function(*args, **kwargs)

    def soon(self, function: Callable[[], None]) -> None:
        """Makes a call that nobody waits for, unless the driver is busy in another one."""
        if self.thread is not None and not self.thread.here():
            self.thread.post(partial(_job, function))
        elif self.thread is not None or isinstance(self.lock, nullcontext):
            function()
        elif self.lock.acquire(blocking=False):  # type: ignore[attr-defined] # an RLock
            try:
                function()
            finally:
                self.lock.release()  # type: ignore[attr-defined] # an RLock

    def try_call(self, function: Callable[[], object], seconds: float) -> bool:
        """Makes a last call, unless another one has not returned within ``seconds``."""
        if self.thread is not None and not self.thread.here():
            finished = threading.Event()

            self.thread.post(partial(_job, function, finished))
            return finished.wait(seconds)
        lock = self.lock
        if isinstance(lock, nullcontext):
            function()
            return True
        if not lock.acquire(timeout=seconds):  # type: ignore[attr-defined] # an RLock
            return False
        try:
            function()
        finally:
            lock.release()  # type: ignore[attr-defined] # an RLock
        return True


class SoftwareQueue:
    """Runs work on a synchronous driver: inline where it may, else on the worker."""

    native = False

    def __init__(self, driver: Driver, gate: Gate, worker: Worker) -> None:
        self._driver = driver
        self._gate = gate
        self._worker = worker

    def place(self, work: Work) -> int:
        """There is one queue."""
        return 0

    def launch(self, work: Work, after: Sequence[Ticket], inline: bool) -> list[Step]:
        """Runs the work here, or hands it to the worker."""
        if inline and self._gate.thread is None:
            return self._run(work)
        self._worker.post(lambda: self._run(work))
        return []

    def stop(self) -> None:
        """Nothing of its own runs."""

    def _run(self, work: Work) -> list[Step]:
        return work.run(lambda: self._commands(work.commands))

    def _commands(self, commands: Sequence[Command]) -> Completion | None:
        completion = None
        with self._gate.lock:
            for command in commands:
                completion = run_command(self._driver, command) or completion
        return completion


def run_command(driver: Driver, command: Command) -> Completion | None:
    """Runs one command through the driver's synchronous methods.

    Returns:
        What an execution reported of shapes and times, if it did.
    """
    match command:
        case Execute(loaded, inputs, outputs, profile):
            times: Profile = ()
            shapes: Sequence[Shape] | None
            if profile:
                shapes, times = driver.execute_profiled(loaded, inputs, outputs)  # type: ignore[attr-defined] # capability, checked on submission
            else:
                shapes = driver.execute(loaded, inputs, outputs)
            if shapes is None and not times:
                return None
            found = None if shapes is None else tuple(tuple(shape) for shape in shapes)
            ends = (times[0].started, times[-1].finished) if times else (0, 0)
            return Completion(
                ticket=0, shapes=found, profile=times, started=ends[0], finished=ends[1]
            )
        case Write(dst, source):
            driver.write(dst, source)
        case Read(src, destination):
            driver.read(src, destination)
        case Copy(dst, src):
            driver.copy(dst, src)
        case Fill(dst, pattern):
            driver.fill(dst, pattern)
        case PeerCopy(dst, src, peer):
            driver.copy_from_peer(dst, src, peer)  # type: ignore[attr-defined] # capability
        case _:
            raise Internal(f"no such command: {command!r}")
    return None
