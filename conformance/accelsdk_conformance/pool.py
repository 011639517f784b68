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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from accelsdk.errors import AccelError, Unavailable
from accelsdk_conformance.case import Case
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings

_BATCH = 8
_OPENING = 120.0  # seconds that opening the plugin may take
_DEATHS = 20  # crashes and hangs after which the rest is not worth running


class Refused(AccelError):
    """The plugin could not be opened at all; ``reason_code`` is the status code why."""

    def __init__(self, reason_code: str, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    pending: deque[Case] = field(default_factory=deque)
    running: bool = False
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    buffer: bytes = b""

    def send(self, lines: Sequence[str]) -> None:
        """Writes lines; a worker that is already dead is noticed at its end of pipe."""
        stdin = self.process.stdin
        if stdin is None:
            return
        try:
            stdin.write("".join(line + "\n" for line in lines).encode())
            stdin.flush()
        except BrokenPipeError:
            return

    def last_words(self) -> str:
        """Returns the last line that the process wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


class Pool:
    """Runs cases in expendable processes.

    Args:
        settings: How to run them.
        on_result: Called with each result as it comes in.
    """

    def __init__(self, settings: Settings, on_result: Callable[[Result], None]) -> None:
        self.settings = settings
        self.on_result = on_result
        self.about: Mapping[str, Any] = {}
        self._queue: deque[Case] = deque()
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._deaths = 0

    def run(self, cases: Sequence[Case]) -> None:
        """Runs all cases; each ends in exactly one result.

        Raises:
            Refused: The plugin could not be opened.
        """
        self._queue.extend(cases)
        try:
            for _ in range(max(1, min(self.settings.jobs, -(-len(cases) // _BATCH)))):
                self._start()
            while self._workers:
                self._step()
        finally:
            for worker in list(self._workers):
                self._drop(worker)
            self._selector.close()

    def _start(self) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 # lives as long as the worker
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "accelsdk_conformance.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
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
        deadlines = [w.since + self._limit(w) - now for w in self._workers if self._timed(w)]
        for key, _ in self._selector.select(max(0.0, min(deadlines, default=1.0))):
            self._receive(key.data)
        now = time.monotonic()
        for worker in list(self._workers):
            if self._timed(worker) and now - worker.since > self._limit(worker):
                self._hung(worker)

    def _timed(self, worker: _Worker) -> bool:
        return worker.running or not worker.ready

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

    def _answer(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            raise Refused(message["refused"], message["text"])
        if "ready" in message:
            self.about = message["ready"]
            worker.ready = True
        elif "start" in message:
            worker.running, worker.since = True, time.monotonic()
        else:
            worker.running = False
            worker.pending.popleft()
            self.on_result(Result.from_json(json.dumps(message["result"])))
        if not worker.pending:
            self._feed(worker)

    def _feed(self, worker: _Worker) -> None:
        """Gives a worker its next cases, or ends it if there are none."""
        while self._queue and len(worker.pending) < _BATCH:
            worker.pending.append(self._queue.popleft())
        if worker.pending:
            worker.send([case.to_json() for case in worker.pending])
        else:
            self._drop(worker)

    def _died(self, worker: _Worker) -> None:
        code = worker.process.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        words = worker.last_words()
        if not worker.ready:
            raise Refused("UNAVAILABLE", f"the plugin died while it was opened ({cause}): {words}")
        text = f"the worker process died ({cause})" + (f": {words}" if words else "")
        self._lost(worker, Status.CRASHED, text)

    def _hung(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.wait()
        if not worker.ready:
            raise Refused("UNAVAILABLE", f"opening the plugin took more than {_OPENING:.0f} s")
        self._lost(worker, Status.HUNG, f"no answer within {self.settings.timeout:g} s")

    def _lost(self, worker: _Worker, status: Status, reason: str) -> None:
        """Blames the first unfinished case, gives the others back, starts a new worker."""
        self._deaths += 1
        if worker.pending:
            case = worker.pending.popleft()
            self.on_result(Result(id=case.id, status=status, reason=reason))
        self._queue.extendleft(reversed(worker.pending))
        worker.pending.clear()
        self._drop(worker)
        if self._deaths >= _DEATHS:
            self._give_up()
        elif self._queue:
            self._start()

    def _give_up(self) -> None:
        text = f"not run: the plugin crashed or hung {self._deaths} times"
        while self._queue:
            self.on_result(Result(id=self._queue.popleft().id, status=Status.ERROR, reason=text))

    def _drop(self, worker: _Worker) -> None:
        """Ends a worker for good."""
        self._workers.remove(worker)
        if worker.process.stdout is not None:
            self._selector.unregister(worker.process.stdout)
        try:
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        except BrokenPipeError:
            pass  # it is dead already: there is nothing left to tell it
        if worker.pending or worker.running or not worker.ready:
            worker.process.kill()
        try:
            worker.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        if worker.process.stdout is not None:
            worker.process.stdout.close()
        worker.errors.close()
