"""Faulty memory: ranges, copies, fills, statistics, capacity, mapping, several cards."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from accelsdk.backend.driver import MemoryStats
from accelsdk.errors import OutOfMemory
from tests.conformance.device.card import Card
from tests.conformance.device.faulty import fault


def moved(view, by=0, longer=0):
    return replace(view, offset=view.offset + by, nbytes=view.nbytes + longer)


@fault("transfers")
class WriteIgnoresOffset(Card):
    """A write goes to the start of the allocation."""

    def write(self, dst, source):
        super().write(replace(dst, offset=0), source)


@fault("transfers")
class ReadIgnoresOffset(Card):
    """A read comes from the start of the allocation."""

    def read(self, src, destination):
        super().read(replace(src, offset=0), destination)


@fault("transfers")
class CopyIgnoresSourceOffset(Card):
    """A copy takes the start of its source."""

    def copy(self, dst, src):
        super().copy(dst, replace(src, offset=0))


@fault("transfers")
class CopyIgnoresTargetOffset(Card):
    """A copy goes to the start of its target."""

    def copy(self, dst, src):
        super().copy(replace(dst, offset=0), src)


@fault("transfers")
class CopyLacksLastByte(Card):
    """A copy leaves its last byte out."""

    def copy(self, dst, src):
        super().copy(moved(dst, longer=-1), moved(src, longer=-1))


@fault("transfers")
class CopyOneByteMore(Card):
    """A copy writes one byte beyond its range, where there is one."""

    def copy(self, dst, src):
        more = int(
            dst.offset + dst.nbytes < dst.handle.nbytes
            and src.offset + src.nbytes < src.handle.nbytes
        )
        super().copy(moved(dst, longer=more), moved(src, longer=more))


@fault("transfers")
class CopySwaps(Card):
    """A copy exchanges the two ranges."""

    def copy(self, dst, src):
        old = self.bytes(dst).copy()
        super().copy(dst, src)
        self.bytes(src)[:] = old


@fault("transfers")
class CopyBackwards(Card):
    """A copy goes from the target to the source."""

    def copy(self, dst, src):
        super().copy(src, dst)


@fault("transfers")
class CopyInWords(Card):
    """A copy moves whole words of four bytes, and forgets the rest."""

    def copy(self, dst, src):
        whole = dst.nbytes // 4 * 4
        super().copy(replace(dst, nbytes=whole), replace(src, nbytes=whole))


@fault("memory")
class LargeTransfersLoseTheTail(Card):
    """A write of more than 1 MiB is cut there."""

    def write(self, dst, source):
        nbytes = min(dst.nbytes, 1 << 20)
        super().write(replace(dst, nbytes=nbytes), source[:nbytes])


@fault("transfers")
class WriteRoundsUp(Card):
    """A write fills up to whole words of four bytes, over what stands behind."""

    def write(self, dst, source):
        super().write(dst, source)
        end = dst.offset + dst.nbytes
        dst.handle[end : -(-end // 4) * 4] = 0


@fault("memory")
class ReadIsStale(Card):
    """A read comes from a cache that only writes through the host refresh."""

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.cache = {}

    def write(self, dst, source):
        super().write(dst, source)
        self.cache = {key: v for key, v in self.cache.items() if key[0] != id(dst.handle)}

    def free(self, handle):
        self.cache = {key: v for key, v in self.cache.items() if key[0] != id(handle)}
        super().free(handle)

    def read(self, src, destination):
        key = (id(src.handle), src.offset, src.nbytes)
        if key not in self.cache:
            self.cache[key] = self.bytes(src).tobytes()
        destination[:] = self.cache[key]


@fault("transfers")
class FillPhase(Card):
    """The pattern of a fill starts at a multiple of its length in memory, not in the range."""

    def fill(self, dst, pattern):
        shift = dst.offset % len(pattern)
        super().fill(dst, pattern[shift:] + pattern[:shift])


@fault("transfers")
class FillByteByByte(Card):
    """A fill repeats the first byte of the pattern."""

    def fill(self, dst, pattern):
        super().fill(dst, pattern[:1])


@fault("transfers")
class FillReversed(Card):
    """A fill writes the pattern in the other byte order."""

    def fill(self, dst, pattern):
        super().fill(dst, pattern[::-1])


@fault("transfers")
class FillAll(Card):
    """A fill of a range fills the whole allocation."""

    def fill(self, dst, pattern):
        whole = dst.handle.nbytes // len(pattern) * len(pattern)
        super().fill(replace(dst, offset=0, nbytes=whole), pattern)


@fault("transfers")
class FillTruncatedAtStage(Card):
    """A fill stops after 4 MiB."""

    def fill(self, dst, pattern):
        super().fill(replace(dst, nbytes=min(dst.nbytes, 4 << 20)), pattern)


@fault("transfers")
class ViewsAreRoundedDown(Card):
    """Says that it takes views at any byte, and rounds them down to 16."""

    def bytes(self, view):
        start = view.offset - view.offset % 16
        return super().bytes(replace(view, offset=start))


@fault("memory")
class FreedTwice(Card):
    """Each free takes the bytes off the account twice."""

    def free(self, handle):
        super().free(handle)
        self._release(handle.nbytes)


@fault("memory")
class NeverFrees(Card):
    """What is freed stays on the account."""

    def free(self, handle):
        super().free(handle)
        self._reserve(handle.nbytes)


@fault("memory")
class FreesTheWrongOne(Card):
    """A free gives back the allocation before, which somebody uses."""

    def free(self, handle):
        others = [h for h in self.live.values() if h is not handle and h.nbytes == handle.nbytes]
        if others:
            others[0][:] = 0
        super().free(handle)


@fault("memory")
class SharesMemory(Card):
    """Every eighth allocation is a part of the one before."""

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.count, self.last = 0, None

    def allocate(self, nbytes, memory, alignment):
        self.count += 1
        handle = super().allocate(nbytes, memory, alignment)
        last, self.last = self.last, handle
        if self.count % 8 == 0 and last is not None and last.nbytes >= nbytes:
            del self.live[id(handle)]
            handle = last[:nbytes]
            self.live[id(handle)] = handle
        return handle


@fault("memory")
class StatisticsStandStill(Card):
    """The statistics are those of an empty card."""

    def memory_stats(self, memory):
        return MemoryStats(in_use=0, limit=self.shape.capacity, peak=0, allocations=0)


@fault("memory")
class PeakForgets(Card):
    """The peak is what is in use."""

    def memory_stats(self, memory):
        stats = super().memory_stats(memory)
        return replace(stats, peak=stats.in_use)


@fault("capacity")
class FullMemorySwallowed(Card):
    """Asked for more than there is, it gives what it has."""

    def allocate(self, nbytes, memory, alignment):
        return super().allocate(min(nbytes, 1 << 20), memory, alignment)

    def bytes(self, view):
        end = min(view.offset + view.nbytes, view.handle.nbytes)
        part = view.handle[min(view.offset, end) : end]
        out = np.zeros(view.nbytes, np.uint8)
        out[: part.nbytes] = part
        return part if part.nbytes == view.nbytes else out


@fault("capacity")
class FullMemoryIsAnException(Card):
    """A full memory raises MemoryError."""

    def allocate(self, nbytes, memory, alignment):
        try:
            return super().allocate(nbytes, memory, alignment)
        except OutOfMemory:
            raise MemoryError("full") from None


@fault("capacity")
class FullMemoryIsForGood(Card):
    """After a refusal every allocation is refused."""

    full = False

    def allocate(self, nbytes, memory, alignment):
        if self.full:
            raise OutOfMemory(requested=nbytes, in_use=0, limit=self.shape.capacity)
        try:
            return super().allocate(nbytes, memory, alignment)
        except OutOfMemory:
            self.full = True
            raise


@fault("capacity")
class RefusalsCount(Card):
    """What was refused counts as in use."""

    def allocate(self, nbytes, memory, alignment):
        try:
            return super().allocate(nbytes, memory, alignment)
        except OutOfMemory:
            self._in_use += 64
            raise


@fault("capacity")
class RefusalWithoutNumbers(Card):
    """The error of a full memory holds zeros."""

    def allocate(self, nbytes, memory, alignment):
        try:
            return super().allocate(nbytes, memory, alignment)
        except OutOfMemory:
            raise OutOfMemory(requested=0, in_use=0, limit=0) from None


@fault("mapping")
class MapCopies(Card):
    """A mapping is a copy: what the host writes is lost."""

    @contextmanager
    def map(self, view):
        yield memoryview(bytearray(self.bytes(view)))


@fault("mapping")
class MapIgnoresOffset(Card):
    """A mapping starts at the start of the allocation."""

    @contextmanager
    def map(self, view):
        yield self.bytes(replace(view, offset=0)).data


@fault("mapping")
class MapHollow(Card):
    """Declares map, and raises when it is used."""

    def map(self, view):
        raise NotImplementedError("not in this firmware")


@fault("mapping")
class ImportCopies(Card):
    """Imported memory is copied."""

    def import_host(self, memory):
        handle = np.array(np.frombuffer(memory, np.uint8))
        self.live[id(handle)] = handle
        self.imported.add(id(handle))
        return handle


@fault("mapping")
class ImportHollow(Card):
    """Declares host-import, and raises when it is used."""

    def import_host(self, memory):
        raise RuntimeError("no such ioctl")


@fault("peers")
class PeerCopyBackwards(Card):
    """A copy between cards goes the other way."""

    def copy_from_peer(self, dst, src, peer):
        peer.bytes(src)[:] = self.bytes(dst)


@fault("peers")
class PeerCopyLacksLastByte(Card):
    """A copy between cards leaves the last byte out."""

    def copy_from_peer(self, dst, src, peer):
        self.bytes(dst)[:-1] = peer.bytes(src)[:-1]


@fault("peers")
class PeerCopyIgnoresOffset(Card):
    """A copy between cards takes the start of its source."""

    def copy_from_peer(self, dst, src, peer):
        super().copy_from_peer(dst, replace(src, offset=0), peer)


@fault("peers", cards=3)
class PeerCopyFromTheFirst(Card):
    """A copy between cards takes card 0's memory, whatever the peer."""

    def copy_from_peer(self, dst, src, peer):
        chosen = next(iter(self.shape.fabric.outcome.setdefault("cards", {0: peer}).values()))
        if peer.info.ordinal == 0:
            self.shape.fabric.outcome["cards"] = {0: peer}
        same = [h for h in chosen.live.values() if h.nbytes == src.handle.nbytes]
        super().copy_from_peer(
            dst, replace(src, handle=same[0]) if same else src, chosen if same else peer
        )


@fault("peers")
class PeerCopyHollow(Card):
    """Says that a path exists, and raises when it is used."""

    def copy_from_peer(self, dst, src, peer):
        raise OSError("peer access is not supported")


@fault("peers")
class OneMemoryForAll(Card):
    """Every card counts the memory of all."""

    shared: dict = {}  # noqa: RUF012 # that is the fault

    def memory_stats(self, memory):
        self.shared[(id(self.shape), self.info.id)] = self._in_use
        total = sum(n for (owner, _), n in self.shared.items() if owner == id(self.shape))
        return replace(super().memory_stats(memory), in_use=total)


@fault("faults")
class ResetKeepsMemory(Card):
    """A reset frees nothing."""

    def reset(self):
        pass


@fault("faults")
class ResetOfAll(Card):
    """A reset of one card clears the memory of all."""

    cards: dict = {}  # noqa: RUF012 # that is the fault

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.cards.setdefault(id(shape), []).append(self)

    def reset(self):
        for card in self.cards[id(self.shape)]:
            for handle in card.live.values():
                handle[:] = 0
        super().reset()


@fault("faults")
class ResetBreaks(Card):
    """After a reset the card computes nothing."""

    def reset(self):
        super().reset()
        self.healthy = False


@fault("lifetime")
class CloseOfAll(Card):
    """Closing one client's card clears the memory of every client's."""

    cards: dict = {}  # noqa: RUF012 # that is the fault

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.cards.setdefault((id(shape), info.id), []).append(self)

    def close(self):
        for card in self.cards[(id(self.shape), self.info.id)]:
            for handle in card.live.values():
                handle[:] = 0
        super().close()
