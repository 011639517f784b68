"""Cancelling work on request; a time-out never does."""

from __future__ import annotations

from accelsdk.errors import Cancelled
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import settle
from accelsdk.runtime.work import Work


class CancelToken:
    """Cancels every piece of work that was submitted with it. Thread-safe.

    Work that has not started completes at once with `Cancelled`, and poisons what it would
    have written. Work that runs is asked to end early where the target has ``cancel``, and
    otherwise goes on. Work submitted afterwards is rejected.
    """

    __slots__ = ("_cancelled", "_works")

    def __init__(self) -> None:
        self._cancelled = False
        self._works: set[Work] = set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancels; calling it again does nothing."""
        with LOCK:
            self._cancelled = True
            works, self._works = list(self._works), set()
        for work in works:
            settle(work.cancel())

    def check(self) -> None:
        """Raises `Cancelled` if `cancel` was called."""
        if self._cancelled:
            raise Cancelled("the work was cancelled before it was submitted")

    def attach(self, work: Work) -> None:
        """Has `cancel` reach ``work``."""
        with LOCK:
            if not self._cancelled:
                self._works.add(work)
                return
        settle(work.cancel())

    def detach(self, work: Work) -> None:
        """Forgets ``work``, which is complete. The caller holds the SDK's state lock."""
        self._works.discard(work)
