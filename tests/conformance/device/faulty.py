"""The catalogue of faulty cards: each is right but for one thing, and must be killed.

``CATALOGUE`` maps a name to a `Fault`; ``Fault.make()`` returns a fresh backend object. ``area``
is the part of the device profile that must see it (`docs/device-profile.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from accelsdk.backend.backend import Backend
from tests.conformance.device.card import CardBackend


@dataclass(frozen=True)
class Fault:
    """One faulty plugin: its name, what is wrong in words, which cases must see it."""

    name: str
    summary: str
    area: str
    make: Callable[[], Backend]


CATALOGUE: dict[str, Fault] = {}


def fault(area, backend=CardBackend, **shape):
    """Registers a driver (or backend) class as a faulty plugin, by its name."""

    def register(cls):
        name = "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")
        whole = issubclass(cls, Backend)
        make = partial(cls, **shape) if whole else partial(backend, driver=cls, **shape)
        assert name not in CATALOGUE, name
        CATALOGUE[name] = Fault(name, cls.__doc__.strip(), area, make)
        return cls

    return register


def load_all():
    """Imports the modules that fill the catalogue; returns it."""
    from tests.conformance.device import (  # noqa: F401 # each registers its faults
        faults_backend,
        faults_many,
        faults_memory,
        faults_program,
        faults_queue,
        faults_sim,
    )

    return CATALOGUE
