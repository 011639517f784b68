"""Entry point of the simulated card."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.backend.backend import Backend
from accelsdk.hookspecs import hookimpl
from accelsdk_sim_card.backend import SimCard


@hookimpl
def accelsdk_backends() -> Sequence[Backend]:
    """Returns the one backend."""
    return [SimCard()]
