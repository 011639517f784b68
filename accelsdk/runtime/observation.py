"""Telling observers what happens on a device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from accelsdk.backend.observer import DeviceEvent, EventKind, Observer
from accelsdk.backend.optional import Command, Copy, Execute, Fill, PeerCopy, Read, Write
from accelsdk.errors import AccelError

_LOG = logging.getLogger("accelsdk")


class Observers:
    """The observers of one device; false if there is none, so that asking costs nothing."""

    def __init__(self, device: str, observers: Sequence[Observer]) -> None:
        self._device = device
        self._observers = list(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(
        self, kind: EventKind, nbytes: int = 0, name: str = "", error: AccelError | None = None
    ) -> None:
        """Tells every observer; one that raises is logged and dropped."""
        event = DeviceEvent(kind=kind, device=self._device, nbytes=nbytes, name=name, error=error)
        for observer in tuple(self._observers):
            try:
                observer.event(event)
            except Exception:
                _LOG.exception("an observer raised, and is dropped: %r", observer)
                self._observers.remove(observer)

    def tell_commands(
        self, commands: Sequence[Command], label: str, error: AccelError | None
    ) -> None:
        """Tells of each command of finished work."""
        for command in commands:
            match command:
                case Execute():
                    self.tell(EventKind.EXECUTE, 0, label, error)
                case Write(dst=view):
                    self.tell(EventKind.WRITE, view.nbytes, error=error)
                case Read(src=view):
                    self.tell(EventKind.READ, view.nbytes, error=error)
                case Copy(dst=view) | PeerCopy(dst=view):
                    self.tell(EventKind.COPY, view.nbytes, error=error)
                case Fill(dst=view):
                    self.tell(EventKind.FILL, view.nbytes, error=error)
