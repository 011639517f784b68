"""The backend that runs what another one refuses: asked at once, opened only when needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from accelsdk.backend.ask import ask_all
from accelsdk.backend.backend import Backend
from accelsdk.backend.info import Options, OptionValue, Target
from accelsdk.errors import Unavailable

if TYPE_CHECKING:
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.device import Device


class Fallback:
    """Another backend, and a client of it that is opened when a program is loaded there.

    Attributes:
        backend: What to ask, and to compile with; needs no client.
        options: All its options, resolved.
        targets: What can be compiled for; the first is taken.
    """

    def __init__(self, backend: Backend, options: Options, connect: Callable[[], Client]) -> None:
        self.backend = backend
        self.options: Mapping[str, OptionValue] = backend.info.resolve(options)
        self.targets: tuple[Target, ...] = ask_all(backend, "targets", Target, self.options)
        self._connect = connect
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._owned = True
        if not self.targets:
            raise Unavailable("the fallback has no target", backend=backend.info.name)

    @classmethod
    def to(cls, client: Client) -> Fallback:
        """Returns the fallback to a client that is open, and stays its owner's."""
        made = cls(client.backend, client.options, lambda: client)
        made._owned = False
        return made

    def __repr__(self) -> str:
        return f"<Fallback to {self.backend.info.name}>"

    @property
    def client(self) -> Client:
        """The client; opened now if it was not."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def opened(self) -> bool:
        """Whether there is a client already."""
        return self._client is not None

    def target(self, name: str) -> Target:
        """Returns the target of that name; the first, if there is none."""
        return next((t for t in self.targets if t.name == name), self.targets[0])

    def device(self, target: str) -> Device:
        """Returns the first device for a target; the first of all, if there is none.

        Raises:
            Unavailable: There is no device at all.
        """
        fitting = (d for d in self.client.devices if d.target.name == target)
        return next(fitting, None) or self.client.device(0)

    def close(self, timeout: float | None = None) -> None:
        """Closes the client, if it was opened and is not somebody else's."""
        with self._lock:
            client, self._client = self._client, None
            self._connect = _closed
        if client is not None and self._owned:
            client.close(timeout)


def _closed() -> Client:
    raise Unavailable("the client whose fallback this is was closed", remedy="connect again")
