"""What a forked child inherits, made safe.

A child has none of its parent's threads, so what waits for one would hang; and the cards are
open in the parent, which goes on using them. In the child every inherited device therefore
refuses work, work in flight counts as failed, and no card is touched; new clients work.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from accelsdk.runtime import card, progress, worker
from accelsdk.runtime.callbacks import CALLBACKS
from accelsdk.runtime.progress import LOCK

if TYPE_CHECKING:
    from accelsdk.runtime.client import Client

#: Every client of this process.
CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _in_child() -> None:
    LOCK.release()  # taken before the fork, so that no other thread held it then
    CALLBACKS.renew()
    progress.forget()
    worker.forget()
    card.disown_all()
    for client in tuple(CLIENTS):
        for device in client.devices:
            device.disown()


os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_in_child)
