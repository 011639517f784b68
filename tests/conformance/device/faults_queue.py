"""Faulty queues: order, completions, tickets, failure."""

import threading
import time
from dataclasses import replace

from accelsdk.backend.optional import Completion, Execute, Fill
from accelsdk.runtime.worker import run_command
from tests.conformance.device.card import QueuedCard
from tests.conformance.device.faulty import fault


@fault("", kind="eager")
class IgnoresAfter(QueuedCard):
    """A batch starts before what it comes after is over."""

    def ready(self, batch):
        return True

    def run(self, batch):
        if any(isinstance(command, Execute) for command in batch[1]):
            time.sleep(0.001)
        super().run(batch)


@fault("", kind="on_wait", seed=3)
class IgnoresAfterOnWait(QueuedCard):
    """The same, on a card that moves when it is polled."""

    def ready(self, batch):
        return True


@fault("order", kind="eager")
class OutOfOrder(QueuedCard):
    """Batches of one queue run from last to first."""

    def next_of(self, queue):
        able = [batch for batch in queue if self.ready(batch)]
        queue.remove(able[-1])
        return able[-1]


@fault("order", kind="on_wait")
class OutOfOrderOnWait(QueuedCard):
    """The same, on a card that moves when it is polled."""

    def next_of(self, queue):
        able = [batch for batch in queue if self.ready(batch)]
        queue.remove(able[-1])
        return able[-1]


@fault("", kind="eager")
class CompletesEarly(QueuedCard):
    """The end of a batch is reported before its effect."""

    def run(self, batch):
        if self.failure(batch) is not None:
            super().run(batch)
            return
        moment = next(self.clock)
        self.report(Completion(ticket=batch[0], started=moment, finished=moment))
        time.sleep(0.0005)
        for command in batch[1]:
            run_command(self, command)


@fault("", kind="eager")
class LosesCompletions(QueuedCard):
    """Every fiftieth completion is never reported."""

    count = 0

    def report(self, completion):
        self.count += 1
        if self.count % 50:
            super().report(completion)
            return
        with self.fabric.changed:
            self.fabric.outcome[completion.ticket] = (completion.error,)
            self.fabric.changed.notify_all()


@fault("", kind="on_wait")
class LosesCompletionsOnWait(QueuedCard):
    """The same, on a card that moves when it is polled."""

    count = 0

    def report(self, completion):
        self.count += 1
        super().report(completion)
        if self.count % 50 == 0:
            self.finished.remove(completion)


@fault("", kind="eager")
class MixesTickets(QueuedCard):
    """Now and then the completions of two batches are exchanged."""

    held = None
    count = 0

    def report(self, completion):
        self.count += 1
        if self.count % 7 == 0 and self.held is None and completion.ticket > 3:
            wrong = replace(completion, ticket=completion.ticket - 1, finished=0)
            super().report(wrong)
            return
        super().report(completion)


@fault("order", kind="on_wait")
class RunsCommandsTwice(QueuedCard):
    """Each fill runs once more, after the batch that follows it."""

    before = ()

    def run(self, batch):
        super().run(batch)
        for command in self.before:
            if self.live.get(id(command.dst.handle)) is command.dst.handle:
                run_command(self, command)
        self.before = [command for command in batch[1] if isinstance(command, Fill)]


@fault("cancellation", kind="on_wait")
class CancelledIsSuccess(QueuedCard):
    """A cancelled batch does nothing, and says that all is well."""

    def run(self, batch):
        if batch[0] in self.cancelled:
            self.report(Completion(ticket=batch[0], started=1, finished=2))
            return
        super().run(batch)


@fault("cancellation", kind="on_wait")
class FailureStaysBehind(QueuedCard):
    """A batch runs though what it comes after has failed."""

    def failure(self, batch):
        return None


@fault("cancellation", kind="on_wait")
class CancelsAll(QueuedCard):
    """Cancelling one batch cancels every one that is queued."""

    def cancel(self, ticket):
        for queue in self.pending:
            self.cancelled.update(batch[0] for batch in queue)


@fault("order", kind="eager")
class TimesRunBackwards(QueuedCard):
    """Work ends before it starts."""

    def report(self, completion):
        super().report(
            replace(completion, started=completion.finished, finished=completion.started)
        )


@fault("", kind="eager")
class ForgetsShapes(QueuedCard):
    """Completions have no shapes of data-dependent results."""

    def report(self, completion):
        super().report(replace(completion, shapes=None))


@fault("cancellation", kind="on_wait")
class StopsAfterFailure(QueuedCard):
    """A queue takes nothing more once a batch in it was refused by the card."""

    stopped = False

    def run(self, batch):
        if self.failure(batch) is not None or batch[0] in self.cancelled:
            self.stopped = True
        if not self.stopped:
            super().run(batch)


@fault("", kind="eager")
class DropsTheLastCommand(QueuedCard):
    """Every twentieth batch is reported, and not run."""

    count = 0

    def run(self, batch):
        self.count += 1
        super().run((batch[0], () if self.count % 20 == 0 else batch[1], batch[2]))


@fault("", kind="eager")
class HangsAfterManyTickets(QueuedCard):
    """After three hundred batches nothing moves any more."""

    def run(self, batch):
        if batch[0] > 300:
            threading.Event().wait(30)
        super().run(batch)


@fault("faults", kind="eager")
class ResetLosesTheQueues(QueuedCard):
    """After a reset the queues take nothing."""

    dead = False

    def reset(self):
        super().reset()
        self.dead = True

    def run(self, batch):
        if not self.dead:
            super().run(batch)


@fault("faults", kind="on_wait")
class ResetKeepsTheQueues(QueuedCard):
    """What was queued before a reset runs after it, in memory that has other owners."""

    def reset(self):
        for handle in list(self.live.values()):
            self.free(handle)
        self.dirty = True

    def run(self, batch):
        super().run(batch)
        if getattr(self, "dirty", False):
            for handle in list(self.live.values()):
                handle[:1] ^= 1


@fault("programs", kind="on_wait", seed=5)
class FourDependencies(QueuedCard):
    """A batch comes after four others at most."""

    def ready(self, batch):
        ticket, commands, after = batch
        return super().ready((ticket, commands, after[:4]))


@fault("programs", kind="eager")
class FirstDependency(QueuedCard):
    """Of several batches to come after, the first counts alone."""

    def ready(self, batch):
        ticket, commands, after = batch
        return super().ready((ticket, commands, after[:1]))
