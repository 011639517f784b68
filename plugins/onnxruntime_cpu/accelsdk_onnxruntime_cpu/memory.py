"""The memory of the device: aligned bytes of the host, and an account of them."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import MemoryStats, View
from accelsdk.errors import OutOfMemory

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """One allocation, or host memory that somebody lent.

    Attributes:
        array: The bytes.
        address: Where the first of them lies.
        nbytes: How many are on the account; 0 of memory that is not ours.
    """

    array: Array
    address: int
    nbytes: int

    @classmethod
    def of(cls, nbytes: int, alignment: int) -> Block:
        """Returns fresh bytes of undefined contents, at a multiple of ``alignment``."""
        raw = np.empty(nbytes + alignment, np.uint8)
        address = raw.ctypes.data
        start = -address % alignment
        return cls(raw[start : start + nbytes], address + start, nbytes)


def contents(view: View) -> Array:
    """Returns the bytes of a view, in place."""
    block: Block = view.handle
    return block.array[view.offset : view.offset + view.nbytes]


class Account:
    """Counts bytes in use against a limit. Thread-safe.

    Args:
        limit: Bytes that may be in use at a time.
        device: Identity of the device, for errors.
    """

    def __init__(self, limit: int, device: str) -> None:
        self._limit, self._device = limit, device
        # Finalizers may run inside a call that holds the lock.
        self._lock = threading.RLock()
        self._in_use = self._peak = self._count = 0

    def reserve(self, nbytes: int) -> None:
        """Takes bytes.

        Raises:
            OutOfMemory: There are not so many.
        """
        with self._lock:
            if self._in_use + nbytes > self._limit:
                raise self.full(nbytes)
            self._in_use, self._count = self._in_use + nbytes, self._count + 1
            self._peak = max(self._peak, self._in_use)

    def release(self, nbytes: int) -> None:
        """Gives bytes back."""
        with self._lock:
            self._in_use, self._count = self._in_use - nbytes, self._count - 1

    def reserve_for(self, owner: object, nbytes: int) -> None:
        """Takes bytes until ``owner`` is gone.

        Raises:
            OutOfMemory: There are not so many.
        """
        self.reserve(nbytes)
        weakref.finalize(owner, self.release, nbytes).atexit = False

    def full(self, nbytes: int) -> OutOfMemory:
        """Returns the error of a request that does not fit."""
        return OutOfMemory(
            requested=nbytes, in_use=self._in_use, limit=self._limit, device=self._device
        )

    def stats(self) -> MemoryStats:
        """Returns the figures."""
        with self._lock:
            return MemoryStats(
                in_use=self._in_use,
                limit=self._limit,
                peak=self._peak,
                allocations=self._count,
            )
