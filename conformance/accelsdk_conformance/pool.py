"""The parent's side: keeps worker processes busy, and turns their deaths into results.

Time is judged here and not in the worker, because a call into a vendor library that holds the
interpreter lock starves every timer inside its own process.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, NamedTuple

from accelsdk.errors import AccelError, Unavailable
from accelsdk_conformance.case import Case
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.together import groups, only_together

_AHEAD = 8  # cases that a worker holds at least, so that it never waits for this process
_OPENING = 120.0  # seconds that opening the plugin may take
_DEATHS = 20  # crashes and hangs after which the rest is not worth running


#: Cases that are run in one program, as far as they can be: see `together`.
Group = tuple[Case, ...]


class Refused(AccelError):
    """The plugin could not be opened at all; ``reason_code`` is the status code why."""

    def __init__(self, reason_code: str, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    pending: deque[Group] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)
    opened: float | None = None
    buffer: bytes = b""

    @property
    def timed(self) -> bool:
        """Whether it owes an answer: to its opening, or to a case."""
        return bool(self.pending) or not self.ready

    @property
    def ready(self) -> bool:
        """Whether it has opened the plugin."""
        return self.opened is not None

    @property
    def ahead(self) -> int:
        """Cases that it has besides the group that it is running."""
        return sum(map(len, islice(self.pending, 1, None)))

    def send(self, lines: Sequence[str]) -> None:
        """Writes lines; a worker that is already dead is noticed at its end of pipe."""
        stdin = self.process.stdin
        if stdin is None:
            return
        with suppress(BrokenPipeError):
            stdin.write("".join(line + "\n" for line in lines).encode())
            stdin.flush()

    def kill(self) -> None:
        """Ends the process and all that it started: it leads a session of its own."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def last_words(self) -> str:
        """Returns the last line that the process wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


class Pace(NamedTuple):
    """How fast cases ran.

    Attributes:
        cases: How many.
        seconds: From the start of the first worker to the end.
        worked: Sum over the workers of the seconds from when each had opened the plugin.
    """

    cases: int
    seconds: float
    worked: float

    def __str__(self) -> str:
        rate = self.cases / max(self.worked, 1e-9)
        return f"{self.cases} cases in {self.seconds:.1f} s: {rate:.0f} a second and worker"


@dataclass(slots=True)
class _Suspects:
    """Cases whose common program took a worker down, while each is run by itself.

    Attributes:
        group: The cases.
        status: What became of the program.
        reason: Why.
        left: How many have not been run yet.
        seconds: What those took that have.
        named: Whether one of them is not conformant by itself: then it is the one.
    """

    group: Group
    status: Status
    reason: str
    left: int
    seconds: float = 0.0
    named: bool = False

    def slow(self, limit: float) -> bool:
        """Says whether no program of so many cases can keep the limit."""
        return self.status is Status.HUNG and self.seconds >= limit

    def cleared(self, result: Result, limit: float) -> Result:
        """Takes in the result of one of them alone; the last bears what none has explained.

        A program that did not end in time is explained by cases that together take as long.
        """
        self.left -= 1
        self.seconds += result.seconds
        self.named |= not result.status.conformant
        if self.left or self.named or self.slow(limit):
            return result
        ids = tuple(case.id for case in self.group)
        return only_together(result, ids, self.status, self.reason)


class Pool:
    """Runs cases in expendable processes.

    Args:
        settings: How to run them.
        on_result: Called with each result as it comes in.
        on_ready: Called with what the plugin says of itself, by each worker that opened it;
            what it raises ends the run.

    Attributes:
        about: What the plugin said of itself.
        stopped: Why the run ended before all cases were run; empty if it did not.
        pace: How fast it was; None before the end.
    """

    def __init__(
        self,
        settings: Settings,
        on_result: Callable[[Result], None],
        on_ready: Callable[[Mapping[str, Any]], None] = lambda about: None,
    ) -> None:
        self.settings = settings
        self.on_result = on_result
        self.on_ready = on_ready
        self.about: Mapping[str, Any] = {}
        self.stopped = ""
        self.pace: Pace | None = None
        self._alone = settings.study is not None or settings.retests is not None
        self._groups: Iterator[Group] = iter(())
        self._returned: deque[Group] = deque()
        self._suspects: dict[str, _Suspects] = {}
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._deaths = 0
        self._answered = 0
        self._worked = 0.0
        self._refusal: Refused | None = None

    def run(self, cases: Iterable[Case]) -> None:
        """Runs all cases; each that is drawn from ``cases`` ends in exactly one result.

        Raises:
            Refused: The plugin could not be opened.
        """
        jobs = self.settings.jobs
        if isinstance(cases, Sequence):
            jobs = min(jobs, -(-len(cases) // _AHEAD))
        self._groups = groups(cases, 1 if self._alone else self.settings.together)
        started = time.monotonic()
        try:
            for _ in range(max(1, jobs)):
                self._start()
            while self._workers:
                self._step()
        finally:
            for worker in list(self._workers):
                self._drop(worker)
            self._selector.close()
        self.pace = Pace(self._answered, time.monotonic() - started, self._worked)

    def _start(self) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 # lives as long as the worker
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "accelsdk_conformance.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,  # an interrupt from the keyboard is this process's to handle
        )
        worker = _Worker(process, errors)
        if process.stdout is None:
            raise Unavailable("no pipe to the conformance worker")
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        worker.send([self.settings.to_json()])

    def _step(self) -> None:
        """Waits for an answer or for the earliest deadline, and deals with it."""
        now = time.monotonic()
        deadlines = [w.since + self._limit(w) - now for w in self._workers if w.timed]
        for key, _ in self._selector.select(max(0.0, min(deadlines, default=1.0))):
            if key.data in self._workers:  # else an earlier answer has ended the run
                self._receive(key.data)
        now = time.monotonic()
        for worker in list(self._workers):
            late = worker.timed and now - worker.since > self._limit(worker)
            if late and worker in self._workers:  # else an earlier one has ended the run
                self._hung(worker)

    def _limit(self, worker: _Worker) -> float:
        return self.settings.timeout if worker.ready else _OPENING

    def _receive(self, worker: _Worker) -> None:
        stdout = worker.process.stdout
        data = stdout.read() if stdout is not None else b""
        if data == b"":
            self._died(worker)
            return
        worker.buffer += data or b""
        *lines, worker.buffer = worker.buffer.split(b"\n")
        for line in lines:
            self._answer(worker, json.loads(line))
            if worker not in self._workers:
                return
        self._feed(worker)

    def _answer(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        worker.since = time.monotonic()
        if "refused" in message:
            self._refused(worker, Refused(message["refused"], message["text"]))
        elif "ready" in message:
            self.about = message["ready"]
            worker.opened = time.monotonic()
            self.on_ready(self.about)
        else:
            results = [Result.from_data(data) for data in message["results"]]
            told = {result.id for result in results}
            group = worker.pending.popleft()
            self._returned.extend((case,) for case in group if case.id not in told)
            for result in results:
                self._tell(result)
            if message["lost"]:
                self._stop(f"the device is lost: {message['lost']}")

    def _tell(self, result: Result) -> None:
        self._answered += 1
        suspects = self._suspects.pop(result.id, None)
        if suspects is not None:
            result = suspects.cleared(result, self.settings.timeout)
            if suspects.slow(self.settings.timeout) and not suspects.left:
                self._deaths -= 1  # nothing had hung
                self._alone = True
        self.on_result(result)

    def _feed(self, worker: _Worker) -> None:
        """Gives a worker its next cases, or ends it if there are none."""
        if worker.ahead > _AHEAD // 2:
            return
        given = []
        while worker.ahead < _AHEAD and (group := self._next()):
            worker.pending.append(group)
            given.append(f"[{','.join(case.to_json() for case in group)}]")
        if given:
            worker.send(given)
        elif not worker.pending:
            self._drop(worker)

    def _next(self) -> Group:
        """Returns the next cases that may share a program: one, if it can share none."""
        group = self._returned.popleft() if self._returned else next(self._groups, ())
        if self._alone and len(group) > 1:  # the device turned out to be too slow for programs
            self._returned.extendleft((case,) for case in reversed(group[1:]))
            group = group[:1]
        return group

    def _refused(self, worker: _Worker, refusal: Refused) -> None:
        """A worker more that cannot open the device is one less; the last one ends the run."""
        self._refusal = self._refusal or refusal
        self._drop(worker)
        if self._workers:
            return
        if not self._answered:
            raise self._refusal
        self._stop(f"the device does not come back: {refusal}")

    def _died(self, worker: _Worker) -> None:
        code = worker.process.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        words = worker.last_words()
        if not worker.ready:
            text = f"the plugin died while it was opened ({cause}): {words}"
            self._refused(worker, Refused("UNAVAILABLE", text))
            return
        text = f"the worker process died ({cause})" + (f": {words}" if words else "")
        self._lost(worker, Status.CRASHED, text)

    def _hung(self, worker: _Worker) -> None:
        worker.kill()
        worker.process.wait()
        if not worker.ready:
            text = f"opening the plugin took more than {_OPENING:.0f} s"
            self._refused(worker, Refused("UNAVAILABLE", text))
            return
        self._lost(worker, Status.HUNG, f"no answer within {self.settings.timeout:g} s")

    def _lost(self, worker: _Worker, status: Status, reason: str) -> None:
        """Blames the first unfinished case, gives the others back, starts a new worker.

        Where several cases shared a program, each of them is run by itself first.
        """
        self._deaths += 1
        group = worker.pending.popleft() if worker.pending else ()
        self._returned.extendleft(reversed(worker.pending))
        worker.pending.clear()
        self._drop(worker)
        if len(group) > 1:
            suspects = _Suspects(group, status, reason, left=len(group))
            self._suspects.update((case.id, suspects) for case in group)
            self._returned.extendleft((case,) for case in reversed(group))
        for case in group if len(group) == 1 else ():
            self._tell(Result(id=case.id, status=status, reason=reason))
        if self._deaths >= _DEATHS:
            self._stop(f"the plugin crashed or hung {self._deaths} times")
        elif following := self._next():
            self._returned.appendleft(following)
            self._start()

    def _stop(self, reason: str) -> None:
        """Ends the run; what is left of the cases was not run."""
        self.stopped = reason
        for worker in list(self._workers):
            self._returned.extend(worker.pending)
            self._drop(worker)
        while group := self._next():
            for case in group:
                text = f"not run: {reason}"
                self.on_result(Result(id=case.id, status=Status.NOT_RUN, reason=text))

    def _drop(self, worker: _Worker) -> None:
        """Ends a worker for good."""
        self._workers.remove(worker)
        if worker.opened is not None:
            self._worked += time.monotonic() - worker.opened
        if worker.process.stdout is not None:
            self._selector.unregister(worker.process.stdout)
        with suppress(BrokenPipeError):  # it is dead already: there is nothing left to tell it
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        if worker.timed:
            worker.kill()
        try:
            worker.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.process.wait()
        if worker.process.stdout is not None:
            worker.process.stdout.close()
        worker.errors.close()
