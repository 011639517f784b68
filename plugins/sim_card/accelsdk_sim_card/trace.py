"""The trace of a simulated host, in the JSON that Perfetto and chrome://tracing open.

The format is the "Trace Event Format" (JSON object form): complete events ``X`` with
microsecond times, one process a card, one thread a queue or engine. Nothing in it depends
on the wall clock, addresses or hash order: equal runs give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from accelsdk.backend.files import written


class Trace:
    """Events of one host, in order of completion."""

    def __init__(self) -> None:
        self._events: list[dict[str, object]] = []
        self._lanes: dict[tuple[int, str], int] = {}
        self._cards: dict[int, str] = {}

    def card(self, ordinal: int, name: str) -> None:
        """Names a card."""
        self._cards[ordinal] = name

    def add(
        self,
        card: int,
        lane: str,
        name: str,
        start: int,
        end: int,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Adds what happened on a lane of a card between two virtual nanoseconds."""
        lanes = [key for key in self._lanes if key[0] == card]
        thread = self._lanes.setdefault((card, lane), len(lanes))
        event: dict[str, object] = {
            "name": name,
            "ph": "X",
            "ts": start / 1000,
            "dur": (end - start) / 1000,
            "pid": card,
            "tid": thread,
        }
        if args:
            event["args"] = dict(args)
        self._events.append(event)

    def to_json(self) -> str:
        """Returns the whole trace."""
        names = [_name("process_name", card, 0, name) for card, name in sorted(self._cards.items())]
        names += [
            _name("thread_name", card, thread, lane) for (card, lane), thread in self._lanes.items()
        ]
        # One event a line, so that two traces can be compared with diff.
        lines = ",\n".join(json.dumps(event, sort_keys=True) for event in names + self._events)
        return f'{{"displayTimeUnit": "ns", "traceEvents": [\n{lines}\n]}}\n'

    def write(self, path: str) -> None:
        """Writes the trace to a file, whole or not at all.

        Raises:
            AccelError: The file cannot be written.
        """
        with written(path) as file:
            file.write(self.to_json().encode())


def _name(kind: str, card: int, thread: int, name: str) -> dict[str, object]:
    return {"name": kind, "ph": "M", "pid": card, "tid": thread, "args": {"name": name}}
