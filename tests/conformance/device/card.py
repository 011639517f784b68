"""A right card in many shapes: synchronous or queued, any threading, any optional abilities.

Memory and arithmetic are reference_cpu's; what is around them is the shape of the card. Faulty
cards (`faulty`) are subclasses with one thing wrong.
"""

import contextvars
import itertools
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from accelsdk.backend.info import DeviceInfo, Discovery, MemoryInfo, Target, Threading
from accelsdk.backend.optional import Completion, Engine, Health, HealthState, QueueInfo
from accelsdk.errors import Cancelled, FailedPrecondition, Internal
from accelsdk.runtime.worker import run_command
from accelsdk_reference_cpu.backend import ReferenceCpu
from accelsdk_reference_cpu.driver import CpuDriver

FRESH, FREED = 0xCD, 0xDD  # what memory holds before and after it belongs to somebody
SYNC = frozenset({"map", "health", "telemetry", "profiling", "peer-copy", "host-import"})
QUEUED = SYNC | {"queues", "cancel", "partial-tensors"}

BOTH = (
    QueueInfo(name="compute", engines=frozenset({Engine.COMPUTE})),
    QueueInfo(name="copy", engines=frozenset({Engine.COPY})),
)
ONE = (QueueInfo(name="all", engines=frozenset({Engine.COMPUTE, Engine.COPY})),)


class _PerThread:
    """A context of NumPy's error state for each thread: a context is for one at a time."""

    def __init__(self):
        self._local = threading.local()

    def __get__(self, card, owner):
        if not hasattr(self._local, "context"):
            self._local.context = contextvars.copy_context()
            self._local.context.run(np.seterr, all="ignore")
        return self._local.context

    def __set__(self, card, value):
        pass


class Card(CpuDriver):
    """One open card, called by the SDK or by its own queues."""

    _quiet = _PerThread()

    def __init__(self, info, shape):
        super().__init__(info)
        self.info, self.shape = info, shape
        self.lock = threading.RLock()
        self.imported = set()
        self.live = {}
        self.healthy = True

    # -- memory --------------------------------------------------------------------------

    def allocate(self, nbytes, memory, alignment):
        with self.lock:
            handle = super().allocate(nbytes, memory, alignment)
            handle[:] = FRESH
            self.live[id(handle)] = handle
            return handle

    def free(self, handle):
        with self.lock:
            del self.live[id(handle)]
            if id(handle) in self.imported:
                self.imported.discard(id(handle))
                return
            handle[:] = FREED
            super().free(handle)

    def _reserve(self, nbytes):
        with self.lock:
            super()._reserve(nbytes)

    def _release(self, nbytes):
        with self.lock:
            super()._release(nbytes)

    def memory_stats(self, memory):
        return super().memory_stats(memory) if self.shape.counts else None

    def bytes(self, view):
        """The bytes of a view, which must be one that the card takes."""
        if id(view.handle) not in self.live:
            raise Internal("a handle that is not alive", device=self.info.id)
        if view.offset % self.shape.view_alignment:
            raise Internal(f"a view at {view.offset}", device=self.info.id)
        if not 0 <= view.offset <= view.offset + view.nbytes <= view.handle.nbytes:
            raise Internal("a view that leaves its allocation", device=self.info.id)
        return view.handle[view.offset : view.offset + view.nbytes]

    def write(self, dst, source):
        self.bytes(dst)[:] = np.frombuffer(source, np.uint8)

    def read(self, src, destination):
        np.frombuffer(destination, np.uint8)[:] = self.bytes(src)

    def copy(self, dst, src):
        self.bytes(dst)[:] = self.bytes(src)

    def fill(self, dst, pattern):
        self.bytes(dst).reshape(-1, len(pattern))[:] = np.frombuffer(pattern, np.uint8)

    # -- programs ------------------------------------------------------------------------

    def execute(self, loaded, inputs, outputs):
        for view in (*inputs, *outputs):
            self.bytes(view)
        return super().execute(loaded, inputs, outputs)

    # -- optional ------------------------------------------------------------------------

    @contextmanager
    def map(self, view):
        yield self.bytes(view).data

    def import_host(self, memory):
        handle = np.frombuffer(memory, np.uint8)
        self.live[id(handle)] = handle
        self.imported.add(id(handle))
        return handle

    def health(self):
        return Health(state=HealthState.OK if self.healthy else HealthState.FAILED)

    def reset(self):
        with self.lock:
            for handle in list(self.live.values()):
                self.free(handle)

    def telemetry(self):
        return {"temperature_c": 40.0, "power_w": 5, "state": "idle"}

    def can_copy_from(self, peer):
        return peer.id.startswith("card-")

    def copy_from_peer(self, dst, src, peer):
        self.bytes(dst)[:] = peer.bytes(src)

    def close(self):
        with self.lock:
            self.live.clear()


class Fabric:
    """Outcome of every ticket of one domain: None while outstanding, else (error,)."""

    def __init__(self):
        self.changed = threading.Condition(threading.RLock())
        self.tickets = itertools.count(1)
        self.outcome = {}


class QueuedCard(Card):
    """Native queues: eager ones have a thread each, others move when they are polled."""

    def __init__(self, info, shape):
        super().__init__(info, shape)
        self.queues, self.progress = shape.queues, shape.kind
        self.fabric = shape.fabric
        self.pending = [deque() for _ in self.queues]
        self.finished = []
        self.cancelled = set()
        self.closed = False
        self.random = np.random.default_rng(shape.seed)
        self.clock = itertools.count(1)
        if self.progress == "eager":
            for queue in self.pending:
                threading.Thread(target=self._serve, args=(queue,), daemon=True).start()

    def submit(self, queue, commands, after):
        if self.closed:
            raise FailedPrecondition("the card is closed", device=self.info.id)
        with self.fabric.changed:
            ticket = next(self.fabric.tickets)
            if any(t not in self.fabric.outcome for t in after):
                raise Internal("a ticket that nobody submitted", device=self.info.id)
            self.fabric.outcome[ticket] = None
            self.pending[queue].append((ticket, tuple(commands), tuple(after)))
            self.fabric.changed.notify_all()
        return ticket

    def poll(self, timeout):
        if self.progress == "on_wait":
            self._step()
        with self.fabric.changed:
            if not self.finished and self.progress == "eager" and timeout != 0:
                self.fabric.changed.wait(timeout)
            done, self.finished = self.finished, []
            return done

    def cancel(self, ticket):
        self.cancelled.add(ticket)

    def close(self):
        with self.fabric.changed:
            self.closed = True
            self.fabric.changed.notify_all()
        super().close()

    def reset(self):
        with self.fabric.changed:
            for queue in self.pending:
                for ticket, _, _ in queue:
                    self.fabric.outcome[ticket] = (Cancelled("the card was reset"),)
                queue.clear()
            self.finished.clear()
        super().reset()

    # -- inside --------------------------------------------------------------------------

    def ready(self, batch):
        """Says whether all that a batch comes after is over."""
        return all(self.fabric.outcome.get(ticket, ()) is not None for ticket in batch[2])

    def failure(self, batch):
        """Returns the first error among what a batch comes after."""
        outcomes = [self.fabric.outcome.get(ticket) for ticket in batch[2]]
        return next((o[0] for o in outcomes if o and o[0] is not None), None)

    def _serve(self, queue):
        while True:
            with self.fabric.changed:
                while not self.closed and not (queue and self.ready(queue[0])):
                    self.fabric.changed.wait(1)
                if self.closed:
                    return
                batch = self.next_of(queue)
            self.run(batch)
            del batch  # keep no program alive while waiting

    def _step(self):
        """Runs one batch of a queue that is drawn by lot."""
        with self.fabric.changed:
            able = [queue for queue in self.pending if queue and self.ready(queue[0])]
            if not able:
                return
            batch = self.next_of(able[int(self.random.integers(len(able)))])
        self.run(batch)

    def next_of(self, queue):
        return queue.popleft()

    def run(self, batch):
        """Runs a batch and reports its end."""
        ticket, commands, _ = batch
        started = next(self.clock)
        error, shapes, profile = self.failure(batch), None, ()
        try:
            for command in commands if error is None else ():
                if ticket in self.cancelled:
                    raise Cancelled("cancelled on the card", device=self.info.id)
                done = run_command(self, command)
                if done is not None:
                    shapes, profile = done.shapes, done.profile
        except Exception as raised:
            error = raised
        times = [t for entry in profile for t in (entry.started, entry.finished)]
        first, last = (min(times), max(times)) if times else (started, next(self.clock))
        self.report(
            Completion(
                ticket=ticket,
                error=error,
                started=first,
                finished=last,
                profile=profile,
                shapes=shapes,
            )
        )

    def report(self, completion):
        with self.fabric.changed:
            self.fabric.outcome[completion.ticket] = (completion.error,)
            self.finished.append(completion)
            self.fabric.changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a card is like.

    ``kind`` is sync, eager or on_wait; ``counts`` says whether the driver counts memory itself.
    """

    kind: str = "sync"
    cards: int = 2
    capabilities: frozenset = SYNC
    threading: Threading = Threading.SERIAL
    view_alignment: int = 1
    alignment: int = 64
    capacity: int = 96 << 20
    counts: bool = True
    visible: bool = True
    queues: tuple = BOTH
    seed: int = 0
    driver: type = Card
    fabric: Fabric = field(default_factory=Fabric)


class CardBackend(ReferenceCpu):
    """A backend of cards of one shape."""

    def __init__(self, **shape):
        made = Shape(**shape)
        if made.kind != "sync":
            caps = QUEUED if made.capabilities is SYNC else made.capabilities
            driver = QueuedCard if made.driver is Card else made.driver
            made = replace(made, capabilities=caps, driver=driver)
        self.shape = made

    @property
    def info(self):
        return replace(super().info, name=f"card_{self.shape.kind}", options=())

    def targets(self, options):
        shape = self.shape
        return [
            Target(
                name="card",
                capabilities=shape.capabilities,
                alignment=shape.alignment,
                view_alignment=shape.view_alignment,
            )
        ]

    def enumerate_devices(self, options):
        shape = self.shape
        memory = MemoryInfo(capacity=shape.capacity, host_visible=shape.visible)
        return Discovery(
            devices=tuple(
                DeviceInfo(
                    id=f"card-{n}",
                    ordinal=n,
                    kind="Card",
                    target="card",
                    memories=(memory,),
                    threading=shape.threading,
                    ticket_domain="cards",
                )
                for n in range(shape.cards)
            )
        )

    def open(self, device, options):
        return self.shape.driver(device, self.shape)
