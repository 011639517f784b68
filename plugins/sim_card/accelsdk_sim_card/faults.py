"""Faults that a card can be told to have: how it breaks, not how it computes wrongly.

A fault strikes once, at the n-th event of its kind on each card (``fault_at``), except where
the table says that it lasts. What a wrong *result* looks like is the business of
`accelsdk_sim_card.defects`.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from accelsdk.errors import DeviceFault
from accelsdk_sim_card.memory import Bytes


class Strikes(StrEnum):
    """Which events of a card a fault counts."""

    EXECUTE = "execute"
    TRANSFER = "transfer"
    ALLOCATE = "allocate"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to break.

    Attributes:
        name: As given by ``--option fault=``.
        strikes: The events that are counted.
        summary: What happens.
        lasts: Whether it goes on after the first time.
    """

    name: str
    strikes: Strikes
    summary: str
    lasts: bool = False


NONE = Fault(name="none", strikes=Strikes.NEVER, summary="the card is sound")

FAULTS: tuple[Fault, ...] = (
    NONE,
    Fault(
        name="stall",
        strikes=Strikes.EXECUTE,
        summary="a batch never completes; a synchronous call ends in a watchdog's DeviceFault",
    ),
    Fault(
        name="hang",
        strikes=Strikes.EXECUTE,
        summary="the driver's call never returns, as a driver stuck in its kernel module",
    ),
    Fault(
        name="crash",
        strikes=Strikes.EXECUTE,
        summary="the driver aborts the process, as a defect in vendor code would",
    ),
    Fault(
        name="device_loss",
        strikes=Strikes.EXECUTE,
        summary="the card falls off the bus; a reset does not bring it back",
        lasts=True,
    ),
    Fault(
        name="ecc_error",
        strikes=Strikes.EXECUTE,
        summary="an uncorrectable memory error is detected: DeviceFault until reset",
    ),
    Fault(
        name="ecc_flip",
        strikes=Strikes.EXECUTE,
        summary="one bit of an output flips, undetected (memory without ECC)",
    ),
    Fault(
        name="dma_corruption",
        strikes=Strikes.TRANSFER,
        summary="one byte of every transfer from the n-th on arrives wrong",
        lasts=True,
    ),
    Fault(
        name="link_loss",
        strikes=Strikes.TRANSFER,
        summary="the card's link goes down in the middle of a transfer: DeviceFault until reset",
    ),
    Fault(
        name="out_of_memory",
        strikes=Strikes.ALLOCATE,
        summary="every allocation from the n-th on fails as if the memory were full",
        lasts=True,
    ),
    Fault(
        name="thermal_throttle",
        strikes=Strikes.EXECUTE,
        summary="the card gets too hot: DEGRADED, and slower by the profile's factor",
        lasts=True,
    ),
)

BY_NAME = {fault.name: fault for fault in FAULTS}


class Injector:
    """Counts the events of one card and says when its fault strikes.

    Args:
        fault: Which fault.
        first: The event at which it strikes, counted from 1.
        seed: Where bits flip.
    """

    def __init__(self, fault: Fault, first: int, seed: int) -> None:
        self.fault = fault
        self._first = first
        self._count = 0
        self._random = random.Random(seed)

    def strikes(self, event: Strikes) -> str:
        """Counts one event; returns the name of the fault if it strikes now, else ``""``."""
        if event is not self.fault.strikes:
            return ""
        self._count += 1
        struck = self._count == self._first or (self.fault.lasts and self._count > self._first)
        return self.fault.name if struck else ""

    def corrupt(self, data: Bytes, mask: int = 0) -> None:
        """Flips one bit of ``data``, or the bits of ``mask`` in one of its bytes."""
        if data.size:
            where = self._random.randrange(data.size)
            data[where] ^= mask or 1 << self._random.randrange(8)


def hang() -> NoReturn:
    """Never returns."""
    while True:
        time.sleep(3600)


def crash() -> NoReturn:
    """Ends the process as a crash in vendor code does."""
    os.abort()


def ecc_error(device: str) -> DeviceFault:
    """Returns the error of an uncorrectable memory error."""
    return DeviceFault(
        "uncorrectable ECC error in device memory", device=device, remedy="reset the card"
    )
