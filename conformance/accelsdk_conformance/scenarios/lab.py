"""What a scenario of the device profile works with: a device, small programs, and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import AccelError
from accelsdk.formats import FLOAT32, UINT8
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.client import Client
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import Executable, LoadedExecutable
from accelsdk_conformance.problem import NotApplicable

Array = NDArray[Any]


class Broken(Exception):
    """The device API broke a rule; the text says which, and what was seen."""


class Lab:
    """A device and the tools of the scenarios.

    Args:
        client: Opened on the plugin.
        device: Its first device.
        seed: For random contents.
    """

    def __init__(self, client: Client, device: Device, seed: int) -> None:
        self.client = client
        self.device = device
        self.rng = np.random.default_rng(seed)

    def noise(self, nbytes: int) -> bytes:
        """Returns random bytes."""
        return self.rng.bytes(nbytes)

    def raw(self, nbytes: int) -> Buffer:
        """Allocates a buffer of bytes."""
        return self.device.empty(UINT8, (nbytes,))

    def upload(self, data: bytes) -> Buffer:
        """Returns a buffer that holds these bytes."""
        buffer = self.raw(len(data))
        buffer.copy_from_host(data)
        return buffer

    def put(self, values: Array) -> Buffer:
        """Returns a buffer that holds an array."""
        return self.device.put(values)

    def bytes_of(self, buffer: Buffer) -> bytes:
        """Returns the contents of a buffer."""
        out = bytearray(buffer.nbytes)
        buffer.copy_to_host(out)
        return bytes(out)

    def compiled(self, op: str = "Add", count: int = 64, operands: int = 2) -> Executable:
        """Returns a program of one elementwise node on float32 vectors.

        Raises:
            UnsupportedGraph: The backend does not claim the op.
        """
        kind = TensorType(FLOAT32, (count,))
        inputs = tuple(Value(f"x{i}", kind) for i in range(operands))
        result = Value("y", kind)
        node = Node(op, inputs, (result,), domain=CORE, name="node", origin=("node",))
        return self.client.compile(Graph(inputs, (result,), (), (node,), name="scenario"))

    def program(self, op: str = "Add", count: int = 64, operands: int = 2) -> LoadedExecutable:
        """Returns `compiled`, loaded on the device."""
        return self.client.load(self.compiled(op, count, operands), self.device)


def check(holds: bool, rule: str) -> None:
    """Raises `Broken` unless the rule holds."""
    if not holds:
        raise Broken(rule)


def equal(actual: object, expected: object, what: str) -> None:
    """Raises `Broken` unless both are equal; long contents are shown where they differ."""
    if isinstance(actual, bytes) and isinstance(expected, bytes):
        if actual != expected:
            pairs = zip(actual, expected, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), len(actual))
            raise Broken(f"{what}: {len(actual)} bytes differ from byte {at} on")
        return
    if isinstance(actual, np.ndarray):
        if not np.array_equal(actual, np.asarray(expected)):
            raise Broken(
                f"{what}: got {actual.flat[:4]}..., expected {np.asarray(expected).flat[:4]}"
            )
        return
    if actual != expected:
        raise Broken(f"{what}: got {actual!r}, expected {expected!r}")


@contextmanager
def raises(kind: type[AccelError], what: str) -> Iterator[None]:
    """Raises `Broken` unless the block raises an error of this kind."""
    try:
        yield
    except kind:
        return
    except AccelError as error:
        text = f"{what}: expected {kind.__name__}, got {type(error).__name__}: {error}"
        raise Broken(text) from error
    raise Broken(f"{what}: expected {kind.__name__}, nothing was raised")


def need(capability: str, lab: Lab) -> None:
    """Raises `NotApplicable` unless the target has an optional ability."""
    if capability not in lab.device.capabilities:
        raise NotApplicable(f"the target lacks the capability {capability}")


Scenario = Callable[[Lab], None]
