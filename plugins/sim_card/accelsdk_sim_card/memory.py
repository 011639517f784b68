"""Device memory: an address space of its own, reached only through opaque handles.

Addresses are handed out first-fit from a free list, so that a card fragments as real ones do,
while the bytes behind each allocation are a host array of their own: 16 GB of card memory
cost nothing until they are used. Nothing is ever zero by luck: new memory holds
`UNINITIALISED`, and freed memory `FREED`. Every access is checked; a wild one is a
`DeviceFault`, as a page fault on a card would be.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import MemoryStats, View
from accelsdk.errors import DeviceFault, InvalidArgument, OutOfMemory

#: What memory holds before the first write, as a signalling pattern in every float format.
UNINITIALISED = 0xCD
#: What memory holds after `free`.
FREED = 0xDD

_SLOT_BITS, _SPACE_BITS = 32, 16
_SLOT_MASK = (1 << _SLOT_BITS) - 1

Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Allocation:
    """One live range: where it lies in the card, and the bytes behind it."""

    address: int
    size: int
    nbytes: int
    data: Bytes


class FreeList:
    """The unused ranges of an address space: first fit, coalescing.

    Attributes:
        capacity: Bytes in all.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._starts = [0]
        self._ends = [capacity]

    def take(self, size: int, alignment: int) -> int | None:
        """Returns the lowest aligned address with ``size`` free bytes, or None."""
        for index, (start, end) in enumerate(zip(self._starts, self._ends, strict=True)):
            address = -(-start // alignment) * alignment
            if address + size <= end:
                self._cut(index, address, address + size)
                return address
        return None

    def _cut(self, index: int, first: int, last: int) -> None:
        start, end = self._starts[index], self._ends[index]
        rest = [(s, e) for s, e in ((start, first), (last, end)) if s < e]
        self._starts[index : index + 1] = [s for s, _ in rest]
        self._ends[index : index + 1] = [e for _, e in rest]

    def give(self, address: int, size: int) -> None:
        """Takes a range back and joins it with its free neighbours."""
        index = bisect_left(self._starts, address)
        first, last = address, address + size
        low, high = index, index
        if index and self._ends[index - 1] == first:
            low, first = index - 1, self._starts[index - 1]
        if index < len(self._starts) and self._starts[index] == last:
            high, last = index + 1, self._ends[index]
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]

    @property
    def largest(self) -> int:
        """Length of the longest free range, bytes."""
        return max((e - s for s, e in zip(self._starts, self._ends, strict=True)), default=0)

    def ranges(self) -> list[tuple[int, int]]:
        """Returns the free ranges as (start, end), ascending."""
        return list(zip(self._starts, self._ends, strict=True))


class DeviceMemory:
    """The memory of one card. Thread-safe.

    Args:
        capacity: Bytes.
        granularity: Allocations are rounded up to this many bytes.
        device: Identity of the card, for messages.
        space: Number of the card: handles of different cards differ.
    """

    def __init__(self, capacity: int, granularity: int, device: str, space: int = 0) -> None:
        self.capacity = capacity
        self.device = device
        self._granularity = granularity
        self._space = space
        self._free = FreeList(capacity)
        self._live: dict[int, Allocation] = {}
        self._generation = 0
        self._spare_slots: list[int] = []
        self._slots = 0
        self._in_use = 0
        self._peak = 0
        self._lock = threading.Lock()

    def allocate(self, nbytes: int, alignment: int) -> int:
        """Reserves ``nbytes`` (more than 0), poisoned, and returns an opaque handle.

        The handle carries a generation: a number is never handed out twice, so that a stale
        one is always recognised.

        Raises:
            InvalidArgument: Size or alignment make no sense.
            OutOfMemory: No free range is long enough.
        """
        if nbytes <= 0 or alignment <= 0 or alignment & (alignment - 1):
            raise InvalidArgument(
                f"cannot allocate {nbytes} bytes aligned to {alignment}",
                device=self.device,
                remedy="give a size above 0 and a power of two",
            )
        grain = max(alignment, self._granularity)
        size = -(-nbytes // self._granularity) * self._granularity
        with self._lock:
            address = self._free.take(size, grain)
            if address is None:
                raise OutOfMemory(
                    requested=nbytes,
                    in_use=self._in_use,
                    limit=self.capacity,
                    device=self.device,
                )
            self._in_use += size
            self._peak = max(self._peak, self._in_use)
            handle = self._new_handle()
            data = np.full(nbytes, UNINITIALISED, np.uint8)
            self._live[handle] = Allocation(address, size, nbytes, data)
        return handle

    def _new_handle(self) -> int:
        self._generation += 1
        if self._spare_slots:
            slot = self._spare_slots.pop()
        else:
            slot, self._slots = self._slots, self._slots + 1
        return (self._generation << _SPACE_BITS | self._space) << _SLOT_BITS | slot

    def free(self, handle: int) -> None:
        """Releases an allocation; its bytes are poisoned first.

        Raises:
            DeviceFault: The handle is not alive.
        """
        with self._lock:
            allocation = self._find(handle)
            del self._live[handle]
            self._spare_slots.append(handle & _SLOT_MASK)
            self._free.give(allocation.address, allocation.size)
            self._in_use -= allocation.size
        allocation.data.fill(FREED)

    def discard(self, handle: int) -> None:
        """Frees an allocation if it is still alive."""
        if handle in self._live:
            self.free(handle)

    def clear(self) -> None:
        """Drops every allocation at once: what a reset of the card does."""
        with self._lock:
            for handle, allocation in self._live.items():
                allocation.data.fill(FREED)
                self._spare_slots.append(handle & _SLOT_MASK)
            self._live.clear()
            self._free = FreeList(self.capacity)
            self._in_use = 0

    def range(self, view: View) -> Bytes:
        """Returns the bytes of a view, in place.

        Raises:
            DeviceFault: The handle is dead, or the view leaves its allocation.
        """
        data = self._find(view.handle).data
        end = view.offset + view.nbytes
        if view.offset < 0 or view.nbytes < 0 or end > data.size:
            raise DeviceFault(
                f"access to bytes {view.offset}..{end} of an allocation of {data.size} bytes",
                device=self.device,
                remedy="the caller must check bounds; reset the card to go on",
            )
        return data[view.offset : end]

    def _find(self, handle: int) -> Allocation:
        found = self._live.get(handle)
        if found is not None:
            return found
        generation, space = divmod(handle >> _SLOT_BITS, 1 << _SPACE_BITS)
        known = space == self._space and 0 < generation <= self._generation
        what = "freed memory (use after free)" if known else "memory that was never allocated"
        raise DeviceFault(
            f"access to {what}, handle {handle!r}",
            device=self.device,
            remedy="reset the card to go on",
        )

    def address(self, handle: int) -> int:
        """Returns where an allocation lies in the card's address space."""
        return self._find(handle).address

    def stats(self) -> MemoryStats:
        """Returns bytes in use (rounded up to the granularity), peak, limit and count."""
        with self._lock:
            return MemoryStats(
                in_use=self._in_use,
                limit=self.capacity,
                peak=self._peak,
                allocations=len(self._live),
            )

    def free_ranges(self) -> list[tuple[int, int]]:
        """Returns the free address ranges as (start, end), ascending."""
        with self._lock:
            return self._free.ranges()
