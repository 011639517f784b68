"""Allocations of device memory: who uses them, who writes them, and when they are freed."""

from __future__ import annotations

import gc
import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from accelsdk.backend.driver import Handle, Loaded, MemoryStats
from accelsdk.backend.info import MemoryInfo
from accelsdk.backend.observer import EventKind
from accelsdk.errors import FailedPrecondition, NotFound, OutOfMemory
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Event

if TYPE_CHECKING:
    from accelsdk.runtime.device import Device
    from accelsdk.runtime.work import Work

_LOG = logging.getLogger("accelsdk")


class Storage:
    """One allocation. Lives as long as a buffer refers to it or work in flight uses it.

    Every field is guarded by the state lock of the SDK.

    Attributes:
        device: Where it lies.
        memory: Kind of memory.
        handle: The driver's handle.
        nbytes: Length asked for.
        generation: `Device.generation` in which the handle is alive.
        references: Buffers, bindings and exports that refer to it.
        works: Work in flight that uses it.
        writers: Last submitted writers, as (first byte, end, completion). An entry whose
            work failed stays, as poison, until the whole range is written again.
        maps: Open host mappings; meanwhile the device may not use it.
        imported: The host memory behind it, kept alive, if it was imported.
    """

    __slots__ = (
        "device",
        "generation",
        "handle",
        "imported",
        "maps",
        "memory",
        "nbytes",
        "references",
        "works",
        "writers",
    )

    def __init__(self, device: Device, memory: str, handle: Handle, nbytes: int) -> None:
        self.device = device
        self.memory = memory
        self.handle = handle
        self.nbytes = nbytes
        self.generation = device.generation
        self.references = 1
        self.works: set[Work] = set()
        self.writers: list[tuple[int, int, Event]] = []
        self.maps = 0
        self.imported: Any = None

    def check(self) -> None:
        """Raises `FailedPrecondition` if the device may not use it. The lock is held."""
        if self.references < 0 and not self.works:
            raise FailedPrecondition("the buffer was deleted", device=self.device.id)
        if self.generation != self.device.generation:
            raise FailedPrecondition(
                "the buffer did not survive the reset of its device",
                device=self.device.id,
                remedy="allocate it again",
            )
        if self.maps:
            raise FailedPrecondition(
                "the buffer is mapped, and the device may not use it",
                device=self.device.id,
                remedy="leave the map() block first",
            )

    def writers_of(self, start: int, end: int) -> list[Event]:
        """Returns the writers of a range that matter: not complete yet, or failed."""
        if not self.writers:
            return []
        self.writers = [w for w in self.writers if not w[2].done or w[2].failure is not None]
        return [event for a, b, event in self.writers if a < end and start < b]

    def note_writer(self, start: int, end: int, event: Event) -> None:
        """Makes ``event`` the last writer of a range; whole ranges under it are forgotten."""
        self.writers = [w for w in self.writers if w[0] < start or w[1] > end]
        self.writers.append((start, end, event))

    def release(self) -> None:
        """Drops one reference."""
        self.references -= 1
        self.retire()

    def retire(self) -> None:
        """Hands the allocation back to the device if nothing refers to it any more."""
        if self.references == 0 and not self.works:
            self.references = -1  # exactly once
            self.device.pool.dead.append(self)


class Memory:
    """One memory of a device.

    Attributes:
        device: Whose.
        kind: ``"device"``, ``"pinned_host"`` or a vendor's own kind.
        capacity: Bytes.
        host_visible: Whether the host may look at it in place.
        in_use: Bytes allocated through this client.
        peak: Largest ``in_use`` so far.
        allocations: Number of allocations alive.
    """

    __slots__ = ("allocations", "capacity", "device", "host_visible", "in_use", "kind", "peak")

    def __init__(self, device: Device, info: MemoryInfo) -> None:
        self.device = device
        self.kind = info.kind
        self.capacity = info.capacity
        self.host_visible = info.host_visible
        self.allocations = 0
        self.in_use = 0
        self.peak = 0

    def __repr__(self) -> str:
        return f"<Memory {self.kind} of {self.device.id}>"

    def stats(self) -> MemoryStats:
        """Returns the use of this memory: the driver's own numbers, or the SDK's count."""
        return self.device.memory_stats(self.kind)


class Cache(Protocol):
    """Something kept on a device only for speed."""

    def trim(self) -> None:
        """Gives up what is not in use at this moment."""


class Pool:
    """Allocates and frees on one device.

    Attributes:
        memories: The device's memories by kind.
        dead: Allocations that nothing uses any more, to be freed.
        dropped: Storages whose buffer was garbage-collected: one reference less.
        unused: Programs that nobody refers to any more, with their generation.
    """

    def __init__(self, device: Device, infos: Sequence[MemoryInfo]) -> None:
        self._device = weakref.proxy(device)
        self.memories: Mapping[str, Memory] = {info.kind: Memory(device, info) for info in infos}
        self.dead: deque[Storage] = deque()
        self.dropped: deque[Storage] = deque()
        self.unused: deque[tuple[int, Loaded]] = deque()
        self._told_later: deque[tuple[EventKind, int]] = deque()
        self._caches: weakref.WeakSet[Cache] = weakref.WeakSet()

    def allocate(self, nbytes: int, kind: str | None = None) -> Storage:
        """Allocates device memory; on a full memory drops caches and tries once more."""
        device = self._device
        memory = self.memory(kind or device.default_memory)
        self.collect(wait=True)
        # Nothing has zero bytes of its own on a card; one byte gives it an identity.
        args = (device.driver.allocate, max(nbytes, 1), memory.kind, device.target.alignment)
        try:
            handle = device.call("allocate", *args)
        except OutOfMemory:
            self.trim()
            handle = device.call("allocate", *args)
        self.note_allocation(memory, nbytes)
        return Storage(memory.device, memory.kind, handle, nbytes)

    def memory(self, kind: str) -> Memory:
        """Returns the memory of that kind, or raises `NotFound`."""
        if kind not in self.memories:
            listed = ", ".join(self.memories)
            raise NotFound(
                f"no memory {kind!r}", device=self._device.id, remedy=f"memories: {listed}"
            )
        return self.memories[kind]

    def collect(self, *, wait: bool = False) -> None:
        """Frees allocations and programs that nothing uses any more.

        Args:
            wait: Whether to wait for the driver; else, while it is busy, a later call does it.
        """
        while self.dropped:
            with LOCK:
                if self.dropped:
                    self.dropped.popleft().release()
        if self.dead or self.unused:
            if not self._device.usable:
                self._free_all()
            elif wait:
                self._device.gate.call(self._free_all)
            else:
                self._device.gate.soon(self._free_all)
        self.tell()

    def tell(self) -> None:
        """Tells the observers of what was freed; the caller holds no lock."""
        while self._told_later:
            try:
                kind, nbytes = self._told_later.popleft()
            except IndexError:  # another thread took the last one
                return
            if self._device.observers:
                self._device.observers.tell(kind, nbytes)

    def note_allocation(self, memory: Memory, nbytes: int) -> None:
        """Counts a new allocation, and tells the observers."""
        with LOCK:
            memory.allocations += 1
            memory.in_use += nbytes
            memory.peak = max(memory.peak, memory.in_use)
        if self._device.observers:
            self._device.observers.tell(EventKind.ALLOCATE, nbytes)

    def _free_all(self) -> None:
        try:
            while self.dead:
                self._free(self.dead.popleft())
            while self.unused:
                self._unload(*self.unused.popleft())
        except IndexError:  # another thread took the last one
            return

    def _free(self, storage: Storage) -> None:
        if storage.generation != self._device.generation:
            return  # a reset has taken the handle away already
        memory = self.memories[storage.memory]
        with LOCK:
            memory.allocations -= 1
            memory.in_use -= storage.nbytes
        self._quietly("free", self._device.driver.free, storage.handle)
        storage.imported = None
        self._told_later.append((EventKind.FREE, storage.nbytes))

    def _unload(self, generation: int, loaded: Loaded) -> None:
        if generation == self._device.generation:
            self._quietly("unload", self._device.driver.unload, loaded)
            self._told_later.append((EventKind.UNLOAD, 0))

    def _quietly(self, what: str, function: Callable[[Any], object], argument: object) -> None:
        device = self._device
        if device.usable:
            try:
                function(argument)
            except Exception:  # nobody asked for this now: there is no one to raise it to
                _LOG.exception("%s: the driver raised in %s", device.id, what)

    def trim(self) -> None:
        """Drops what is kept only for speed, and unreachable buffers."""
        for cache in tuple(self._caches):
            cache.trim()
        gc.collect()
        self.collect(wait=True)

    def add_cache(self, cache: Cache) -> None:
        """Has `trim` reach ``cache``, as long as it lives."""
        self._caches.add(cache)

    def forget(self) -> None:
        """Forgets everything: a reset has ended it. The caller holds the state lock."""
        self.dead.clear()
        self.unused.clear()
        for memory in self.memories.values():
            memory.in_use = memory.allocations = 0

    def stats(self, kind: str) -> MemoryStats:
        """Returns the use of one memory: the driver's own numbers, or the SDK's count."""
        memory = self.memory(kind)
        self.collect(wait=True)
        device = self._device
        stats: MemoryStats | None = device.call("memory_stats", device.driver.memory_stats, kind)
        self.tell()  # of what the driver's own thread has freed by now
        return stats or MemoryStats(
            in_use=memory.in_use,
            limit=memory.capacity,
            peak=memory.peak,
            allocations=memory.allocations,
        )
