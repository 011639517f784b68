"""The SDK thread on which the caller's functions run, with no lock held."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

_LOG = logging.getLogger("accelsdk")
_JOIN_SECONDS = 5.0


class CallbackThread:
    """Runs functions one after another, in the order of `post`; started on first use.

    `post` may be called from anywhere, a garbage collection included: it takes no lock of
    the SDK and never blocks.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def post(self, function: Callable[[], object]) -> None:
        """Queues ``function``; an exception that it raises is logged."""
        self._queue.put(function)
        if self._thread is None and self._starting.acquire(blocking=False):
            self._thread = threading.Thread(
                target=self._run, name="accelsdk-callbacks", daemon=True
            )
            self._thread.start()
            atexit.register(self.stop)

    def renew(self) -> None:
        """Starts afresh in a forked child, which has none of its parent's threads."""
        self._queue = SimpleQueue()
        self._thread = None
        self._starting = threading.Lock()

    def stop(self) -> None:
        """Runs what is queued, then ends the thread; at interpreter exit."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._queue.put(None)
            thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            try:
                function()
            except Exception:
                _LOG.exception("a callback raised")
            del function  # keep nothing of the caller's alive while waiting


#: One for the process.
CALLBACKS = CallbackThread()
