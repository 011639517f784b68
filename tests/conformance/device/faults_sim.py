"""Faulty simulated cards: the same kinds of faults behind a driver that is not ours alone."""

from dataclasses import replace

from accelsdk.backend.optional import Copy, Execute, Fill, PeerCopy, Read, Write
from accelsdk_sim_card import settings
from accelsdk_sim_card.backend import SimCard
from accelsdk_sim_card.driver import SimDriver
from accelsdk_sim_card.host import HOSTS
from tests.conformance.device.faulty import fault


class SimBackend(SimCard):
    """The simulated card with another driver."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, device, options):
        parsed = settings.parse(options)
        host = HOSTS.acquire(parsed)
        return self.driver(host, host.cards[device.ordinal])


class Changed(SimDriver):
    """Changes every command on its way into a queue."""

    def change(self, command):
        return command

    def submit(self, queue, commands, after):
        changed = [self.change(command) for command in commands]
        return super().submit(queue, [c for c in changed if c is not None], after)


@fault("", backend=SimBackend)
class SimIgnoresAfter(SimDriver):
    """Tickets to come after are ignored."""

    def submit(self, queue, commands, after):
        return super().submit(queue, commands, ())


@fault("order", backend=SimBackend)
class SimSpreadsWork(SimDriver):
    """Work goes to whatever queue is next, so that no queue keeps an order."""

    turn = 0

    def submit(self, queue, commands, after):
        self.turn += 1
        free = not any(isinstance(command, Execute) for command in commands)
        return super().submit(self.turn % 3 if free else queue, commands, after)


@fault("transfers", backend=SimBackend)
class SimFillsTooMuch(Changed):
    """A fill covers one pattern more than its range, where there is room."""

    def change(self, command):
        if isinstance(command, Fill) and command.dst.offset >= len(command.pattern):
            size = len(command.pattern)
            dst = replace(
                command.dst,
                offset=command.dst.offset - size,
                nbytes=command.dst.nbytes + size,
                valid_nbytes=command.dst.valid_nbytes + size,
            )
            return replace(command, dst=dst)
        return command


@fault("transfers", backend=SimBackend)
class SimDropsCopies(Changed):
    """Copies of fewer than four bytes are not made."""

    def change(self, command):
        return None if isinstance(command, Copy) and command.dst.nbytes < 4 else command


@fault("peers", backend=SimBackend)
class SimPeerCopyShort(Changed):
    """Copies between cards leave the last byte out."""

    def change(self, command):
        if not isinstance(command, PeerCopy) or command.dst.nbytes < 2:
            return command
        ends = (
            replace(view, nbytes=view.nbytes - 1, valid_nbytes=view.nbytes - 1)
            for view in (command.dst, command.src)
        )
        return PeerCopy(*ends, command.peer)


@fault("shapes", backend=SimBackend)
class SimPartialIsGarbage(SimDriver):
    """Partial tensors lose half of their valid bytes."""

    def write(self, dst, source):
        super().write(replace(dst, valid_nbytes=dst.valid_nbytes // 2), source)


@fault("memory", backend=SimBackend)
class SimWritesLate(Changed):
    """Each write takes the host's bytes of the write before it, if they are as many."""

    before = b""

    def change(self, command):
        if not isinstance(command, Write):
            return command
        data = bytes(command.source)
        old, self.before = self.before, data
        return Write(command.dst, memoryview(old if len(old) == len(data) else data))


@fault("memory", backend=SimBackend)
class SimReadsZeros(Changed):
    """Reads of exactly one page give zeros."""

    def change(self, command):
        if isinstance(command, Read) and command.src.nbytes == 4096:
            return Read(command.src, memoryview(bytearray(4096)))
        return command


@fault("memory", backend=SimBackend)
class SimNeverFrees(SimDriver):
    """What is freed stays allocated."""

    def free(self, handle):
        self._handles.discard(handle)


@fault("faults", backend=SimBackend)
class SimResetDoesNothing(SimDriver):
    """A reset leaves everything as it is."""

    def reset(self):
        self._open()


@fault("cancellation", backend=SimBackend)
class SimCancelSwallowed(SimDriver):
    """Cancelled batches are reported as a success."""

    def poll(self, timeout):
        return tuple(replace(completion, error=None) for completion in super().poll(timeout))


@fault("", backend=SimBackend)
class SimLosesCompletions(SimDriver):
    """Every fortieth completion is lost."""

    count = 0

    def poll(self, timeout):
        kept = []
        for completion in super().poll(timeout):
            self.count += 1
            if self.count % 40:
                kept.append(completion)
        return tuple(kept)


@fault("programs", backend=SimBackend)
class SimUnloadsTwice(SimDriver):
    """Unloading a program unloads the one loaded after it, too."""

    def unload(self, loaded):
        super().unload(loaded)
        for other in list(self._programs)[:1]:
            super().unload(other)
