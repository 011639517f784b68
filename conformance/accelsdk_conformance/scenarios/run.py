"""Runs one scenario of the device profile, and looks for leaks after it."""

from __future__ import annotations

import gc
import importlib
from typing import Protocol

from accelsdk.errors import AccelError, NotFound, UnsupportedGraph
from accelsdk.runtime.client import Client
from accelsdk.runtime.device import Device
from accelsdk_conformance.case import Case
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.scenarios.lab import PATIENCE, Broken, Lab, Scenario

_PACKAGE = "accelsdk_conformance.scenarios"


class DeviceSubject(Protocol):
    """A client of the plugin, and the device that the scenarios use."""

    @property
    def client(self) -> Client:
        """Opened on the plugin."""

    @property
    def device(self) -> Device:
        """One of its devices."""

    def release(self) -> None:
        """Gives up what the subject itself keeps on the device."""


def scenario(case: Case) -> Scenario:
    """Returns the scenario of a case: ``what`` in the module that its generator names.

    Raises:
        NotFound: There is no such scenario.
    """
    module, what = case.generator, str(case.parameters.get("what", ""))
    if not what:
        module, _, what = case.generator.rpartition("." if ":" not in case.generator else ":")
    path = module if ":" in case.generator else f"{_PACKAGE}.{module}"
    try:
        found: Scenario = getattr(importlib.import_module(path), what)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"no scenario {case.generator!r} {what!r}", remedy="see docs/device-profile.md"
        ) from error
    return found


def run_scenario(
    case: Case, subject: DeviceSubject, seed: int = 0, patience: float = PATIENCE
) -> Result:
    """Runs one scenario on the subject's device and returns its verdict.

    Args:
        case: Which.
        subject: On what.
        seed: Added to the case's own seed.
        patience: Seconds that one wait may take.
    """
    lab = Lab(subject.client, subject.device, case.seed + seed, case.parameters, patience)
    subject.release()
    try:
        before = _Usage.clean(lab)
        try:
            scenario(case)(lab)
        finally:
            lab.let_go()
        _check_leaks(lab, before)
    except NotApplicable as reason:
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=str(reason))
    except UnsupportedGraph as reason:
        text = " ".join(str(reason).split())
        return Result(id=case.id, status=Status.UNSUPPORTED, reason=text)
    except Broken as error:
        return Result(id=case.id, status=Status.FAILED, reason=str(error))
    except AccelError as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Result(id=case.id, status=Status.FAILED, reason=text)
    return Result(id=case.id, status=Status.PASSED, tier="T0", elements=1, digest=lab.digest)


class _Usage:
    """What is in use on every open device: bytes by its driver, allocations by the SDK."""

    def __init__(self, lab: Lab) -> None:
        self.bytes: dict[str, int] = {}
        self.handles: dict[str, int] = {}
        for device in lab.client.devices:
            if device.usable:
                for kind, memory in device.memories.items():
                    self.bytes[f"{device.id} {kind}"] = device.memory_stats(kind).in_use
                    self.handles[f"{device.id} {kind}"] = memory.allocations

    @classmethod
    def clean(cls, lab: Lab) -> _Usage:
        """Returns what is in use after unreachable buffers were collected, if there are any."""
        lab.device.memory_stats()  # opens the device
        usage = cls(lab)
        if any(usage.handles.values()):
            usage = cls._collected(lab)
        return usage

    @classmethod
    def _collected(cls, lab: Lab) -> _Usage:
        gc.collect()
        for device in lab.client.devices:
            if device.usable:
                device.trim()
        return cls(lab)

    def leaked(self, lab: Lab) -> str:
        """Says what is in use now and was not then, or returns an empty text."""
        # A collection takes longer than most scenarios: only where it may change the verdict.
        if not self._more(_Usage(lab)):
            return ""
        return self._more(self._collected(lab))

    def _more(self, now: _Usage) -> str:
        for place, count in now.handles.items():
            if count != self.handles.get(place, 0):
                return f"{count - self.handles.get(place, 0)} allocations leaked on {place}"
        for place, nbytes in now.bytes.items():
            if nbytes != self.bytes.get(place, nbytes):
                return f"{nbytes - self.bytes[place]} bytes of device memory leaked on {place}"
        return ""


def _check_leaks(lab: Lab, before: _Usage) -> None:
    """Waits for all work, and raises if memory, handles or work are left behind."""
    for device in lab.client.devices:
        if device.usable:
            device.synchronize(lab.patience)
            if device.live:
                raise Broken(f"work is still in flight on {device.id} after synchronize()")
    if leaked := before.leaked(lab):
        raise Broken(leaked)
