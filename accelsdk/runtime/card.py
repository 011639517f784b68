"""An open card: its driver, the discipline of calling it, and the queue in front of it."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Any

from accelsdk.backend.backend import Backend
from accelsdk.backend.driver import Driver
from accelsdk.backend.info import Capability, DeviceInfo, Options, Target
from accelsdk.backend.optional import PROTOCOLS, SupportsProfiling
from accelsdk.errors import AccelError, FailedPrecondition, Internal, PluginError, Unimplemented
from accelsdk.runtime.queues import NativeQueues
from accelsdk.runtime.worker import Gate, SoftwareQueue, Worker

_LOG = logging.getLogger("accelsdk")
#: How long closing waits for a call that does not return, seconds.
_PATIENCE = 5.0
_open_cards: weakref.WeakSet[Card] = weakref.WeakSet()


class Card:
    """One open card. Refers to no device or client, so that it can outlive a forgotten one.

    Attributes:
        driver: What the plugin opened.
        gate: How to call it.
        worker: The SDK's thread for it, started when first needed.
        launcher: What runs its work.
    """

    def __init__(
        self, backend: Backend, info: DeviceInfo, target: Target, options: Options
    ) -> None:
        self._backend = backend.info.name
        self.info = info
        self.target = target
        self.worker = Worker(f"accelsdk-{backend.info.name}-{info.id}")
        self.gate = Gate(info.threading, backend.info.name, self.worker)
        self.closed = False
        self._closing = threading.Lock()
        try:
            self.driver: Driver = self.gate.call(backend.open, info, options)
            if not isinstance(self.driver, Driver):
                raise TypeError(f"open() returned a {type(self.driver).__name__}, not a Driver")
            _check_capabilities(self.driver, target, backend.info.name)
        except AccelError:
            self.worker.stop()
            raise
        except Exception as error:
            self.worker.stop()
            raise Internal(
                f"opening the device raised {type(error).__name__}: {error}",
                backend=backend.info.name,
                device=info.id,
                remedy="report it to the vendor of the plugin",
            ) from error
        self.launcher: SoftwareQueue | NativeQueues
        self.renew_launcher()
        _open_cards.add(self)

    def renew_launcher(self) -> None:
        """Puts a fresh queue in front of the driver, as after opening."""
        if Capability.QUEUES in self.target.capabilities:
            self.launcher = NativeQueues(self.driver, self.gate, self.info.id)
        else:
            self.launcher = SoftwareQueue(self.driver, self.gate, self.worker)

    def ability(self, name: str) -> Any:  # noqa: ANN401 # the protocol of that name
        """Returns the driver, as the protocol behind the optional ability ``name``.

        Raises:
            Unimplemented: The target does not declare it.
        """
        if name not in self.target.capabilities:
            raise lacking(name, self.target, self.info.id)
        return self.driver

    def close(self) -> None:
        """Ends the threads and gives the card back; calling it again does nothing.

        Raises:
            AccelError: The driver failed to; it counts as closed even so.
        """
        with self._closing:
            if self.closed:
                return
            self.closed = True
        self.launcher.stop()
        try:
            if not self.gate.try_call(self.driver.close, _PATIENCE):
                _LOG.error("%s: a call of the driver hangs; the card is left open", self.info.id)
        except AccelError:
            raise
        except Exception as error:
            raise Internal(
                f"closing the device raised {type(error).__name__}: {error}",
                backend=self._backend,
                device=self.info.id,
                remedy="report it to the vendor of the plugin",
            ) from error
        finally:
            self.worker.stop()
            _open_cards.discard(self)


def disown_all() -> None:
    """Forgets every open card without calling its driver: they are the parent process's."""
    for card in tuple(_open_cards):
        card.closed = True
    _open_cards.clear()


def lacking(name: str, target: Target, device: str) -> Unimplemented:
    """Returns the error for an optional ability that a target does not have."""
    has = ", ".join(sorted(target.capabilities)) or "none"
    return Unimplemented(
        f"target {target.name} does not have the optional ability {name!r}",
        device=device,
        remedy=f"it has: {has}; see Device.capabilities",
    )


def refusal(device: str, *, inherited: bool) -> FailedPrecondition:
    """Returns the error for use of a device that its client has given back, or never opened."""
    if inherited:
        return FailedPrecondition(
            "the client was connected before this process was forked",
            device=device,
            remedy="connect in the child with accelsdk.connect(), or start it with 'spawn'",
        )
    return FailedPrecondition(
        "the client is closed", device=device, remedy="connect again with accelsdk.connect()"
    )


def _check_capabilities(driver: Driver, target: Target, backend: str) -> None:
    wanted = [(name, PROTOCOLS[name]) for name in sorted(target.capabilities) if name in PROTOCOLS]
    profiles = Capability.PROFILING in target.capabilities
    if profiles and Capability.QUEUES not in target.capabilities:
        wanted.append((Capability.PROFILING, SupportsProfiling))
    for name, protocol in wanted:
        if not isinstance(driver, protocol):
            raise PluginError(
                f"target {target.name} declares the ability {name!r}, but its driver "
                f"{type(driver).__name__} does not have the methods of {protocol.__name__}",
                backend=backend,
                remedy="implement them, or do not declare it",
            )


def _close_all() -> None:
    for card in tuple(_open_cards):
        try:
            card.close()
        except AccelError as error:
            _LOG.error("%s", error)


atexit.register(_close_all)
