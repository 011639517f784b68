"""The links between host and cards: who shares what, and how long a transfer takes.

Every card hangs on the switch by a link of its own; the switch hangs on the host by one
uplink. Both are full duplex. Transfers that are active at the same time share each link by
max-min fairness (progressive filling: Bertsekas and Gallager, *Data Networks*, section 6.5.2),
which is what a credit-based switch with round-robin arbitration tends to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from accelsdk_sim_card.clock import URGENT, Clock

_DONE = 1e-6  # bytes; below this a transfer has ended, the rest is rounding


@dataclass(slots=True, eq=False)
class Flow:
    """One transfer under way."""

    links: tuple[str, ...]
    left: float
    done: Callable[[], None]
    rate: float = 0.0  # bytes per nanosecond


class Fabric:
    """All links of one host.

    Args:
        clock: The host's time.
        links: Bytes per second of each link, by name and direction.
    """

    def __init__(self, clock: Clock, links: Mapping[str, float]) -> None:
        self._clock = clock
        self._capacity = {name: rate * 1e-9 for name, rate in links.items()}
        self._flows: list[Flow] = []
        self._since = 0
        self._epoch = 0

    def transfer(self, links: Iterable[str], nbytes: int, done: Callable[[], None]) -> None:
        """Starts moving ``nbytes`` over ``links`` together; calls ``done`` at the end."""
        self._progress()
        self._flows.append(Flow(tuple(links), float(nbytes), done))
        self._reschedule()

    def _progress(self) -> None:
        elapsed = self._clock.now - self._since
        self._since = self._clock.now
        for flow in self._flows:
            flow.left -= flow.rate * elapsed

    def _reschedule(self) -> None:
        self._epoch += 1
        if not self._flows:
            return
        self._share()
        wait = min(max(flow.left, 0.0) / flow.rate for flow in self._flows)
        epoch = self._epoch
        # Rounded up: a transfer never ends before its last byte.
        self._clock.after(-int(-wait // 1), lambda: self._finish(epoch), URGENT)

    def _finish(self, epoch: int) -> None:
        if epoch != self._epoch:
            return  # another transfer began or ended meanwhile, and rescheduled
        self._progress()
        ended = [flow for flow in self._flows if flow.left <= _DONE]
        self._flows = [flow for flow in self._flows if flow.left > _DONE]
        self._reschedule()
        for flow in ended:
            flow.done()

    def _share(self) -> None:
        if len(self._flows) == 1:
            (flow,) = self._flows
            flow.rate = min(self._capacity[link] for link in flow.links)
            return
        free = dict(self._capacity)
        waiting = list(self._flows)
        while waiting:
            users: dict[str, int] = {}
            for flow in waiting:
                for link in flow.links:
                    users[link] = users.get(link, 0) + 1
            tightest = min(users, key=lambda link: (free[link] / users[link], link))
            rate = free[tightest] / users[tightest]
            for flow in [flow for flow in waiting if tightest in flow.links]:
                flow.rate = rate
                waiting.remove(flow)
                for link in flow.links:
                    free[link] = max(free[link] - rate, 0.0)
