"""What a scenario of the device profile works with: a device, small programs, and checks."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.observer import Observer
from accelsdk.errors import AccelError, Cancelled, Unavailable, UnsupportedGraph
from accelsdk.formats import FLOAT32, INT8, INT32, UINT8, Format
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.client import Client
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import Executable, ExecuteOptions, LoadedExecutable
from accelsdk.runtime.sync import Event, Semaphore
from accelsdk_conformance.problem import NotApplicable

Array = NDArray[Any]
#: Makes nodes of operands; returns the graph's results.
Body = Callable[..., "Value | Sequence[Value]"]

#: Seconds that a wait may take before the scenario calls the work hung.
PATIENCE = 10.0
#: Shorter than that: what must *not* happen is looked for this long.
MOMENT = 0.01

BLOCK = ExecuteOptions(block=True)

_NOTHING: Mapping[str, Any] = MappingProxyType({})
#: What each client's first target sums in: compiled once, asked of every scenario.
_SUMS: weakref.WeakKeyDictionary[Client, Format] = weakref.WeakKeyDictionary()


class Broken(Exception):
    """The device API broke a rule; the text says which, and what was seen."""


class Lab:
    """A device and the tools of the scenarios.

    Args:
        client: Opened on the plugin.
        device: Its first device.
        seed: For random contents.
        parameters: Of the case.

    Attributes:
        patience: Seconds that a wait may take.
    """

    def __init__(
        self,
        client: Client,
        device: Device,
        seed: int,
        parameters: Mapping[str, Any] = _NOTHING,
        patience: float = PATIENCE,
    ) -> None:
        self.client = client
        self.device = device
        self.seed = seed
        self.parameters = parameters
        self.patience = patience
        self.rng = np.random.default_rng(seed)
        self._semaphores: list[Semaphore] = []
        self._notes = hashlib.sha256()
        self._noted = 0

    # -- contents --------------------------------------------------------------------------

    def noise(self, nbytes: int) -> bytes:
        """Returns random bytes."""
        return self.rng.bytes(nbytes)

    def raw(self, nbytes: int, device: Device | None = None) -> Buffer:
        """Allocates a buffer of bytes."""
        return (device or self.device).empty(UINT8, (nbytes,))

    def fits(self, nbytes: int) -> bool:
        """Says whether the device's memory is large enough for three tensors of these bytes."""
        return 3 * nbytes <= self.device.memories[self.device.default_memory].capacity

    def demand(self, nbytes: int) -> None:
        """Declines where three tensors of these bytes are more than the device has.

        Raises:
            NotApplicable: They are.
        """
        if not self.fits(nbytes):
            raise NotApplicable(
                f"tensors of {nbytes:,} bytes are too large for the device's memory"
            )

    def upload(self, data: bytes, device: Device | None = None) -> Buffer:
        """Returns a buffer that holds these bytes."""
        buffer = self.raw(len(data), device)
        self.finish(buffer.copy_from_host(data, block=False))
        return buffer

    def put(self, values: Array, device: Device | None = None) -> Buffer:
        """Returns a buffer that holds an array."""
        return (device or self.device).put(values)

    def bytes_of(self, buffer: Buffer) -> bytes:
        """Returns the contents of a buffer."""
        out = bytearray(buffer.nbytes)
        self.finish(buffer.copy_to_host(out, block=False))
        return bytes(out)

    def array_of(self, buffer: Buffer) -> Array:
        """Returns the contents of a buffer of elements of whole bytes."""
        return np.frombuffer(self.bytes_of(buffer), buffer.format.dtype).reshape(buffer.shape)

    def finish(self, event: Event) -> None:
        """Waits for work, with patience; raises its error."""
        event.wait(self.patience)

    def semaphore(self, initial: int = 0) -> Semaphore:
        """Returns a timeline; what waits for it when the scenario is over is cancelled."""
        made = self.device.create_semaphore(initial)
        self._semaphores.append(made)
        return made

    def let_go(self) -> None:
        """Ends what a scenario that failed has left waiting."""
        for semaphore in self._semaphores:
            semaphore.fail(Cancelled("the scenario is over"))

    def note(self, data: bytes) -> None:
        """Adds to the digest of the case: what must be equal on every run and card."""
        self._notes.update(data)
        self._noted += len(data)

    @property
    def digest(self) -> str:
        """Of what was noted, or empty."""
        return self._notes.hexdigest()[:16] if self._noted else ""

    # -- programs --------------------------------------------------------------------------

    def graph(self, kinds: Sequence[TensorType], body: Body, name: str = "scenario") -> Graph:
        """Returns the graph that a function makes.

        Args:
            kinds: Types of the inputs ``x0``, ``x1``, ...
            body: Gets a builder and the inputs; returns the results.
            name: Of the graph.
        """
        inputs = tuple(Value(f"x{i}", kind) for i, kind in enumerate(kinds))
        builder = Builder([value.name for value in inputs])
        made = body(builder, *inputs)
        outputs = (made,) if isinstance(made, Value) else tuple(made)
        return Graph(inputs, outputs, builder.constants, tuple(builder.nodes), name)

    def compiled(self, op: str = "", count: int = 64, operands: int = 2) -> Executable:
        """Returns a program of one elementwise node on vectors.

        Args:
            op: On float32; empty is the sum, in a format that the backend sums in.
            count: Elements.
            operands: Number of inputs.

        Raises:
            UnsupportedGraph: The backend does not claim the op.
        """
        kind = TensorType(FLOAT32 if op else self.format, (count,))
        return self.client.compile(
            self.graph([kind] * operands, lambda make, *x: make.op(op or "Add", *x)),
            target=self.device.target.name,
        )

    def program(
        self, op: str = "", count: int = 64, operands: int = 2, device: Device | None = None
    ) -> LoadedExecutable:
        """Returns `compiled`, loaded on the device."""
        return self.client.load(self.compiled(op, count, operands), device or self.device)

    def build(
        self, kinds: Sequence[TensorType], body: Body, share: LoadedExecutable | None = None
    ) -> LoadedExecutable:
        """Returns the program that a function makes, loaded on the device."""
        made = self.client.compile(self.graph(kinds, body), target=self.device.target.name)
        return self.client.load(made, self.device, share=share)

    @property
    def format(self) -> Format:
        """The format that `compiled` sums in: the first of a few that the backend claims.

        Raises:
            UnsupportedGraph: It claims none.
        """
        known = _SUMS.get(self.client)
        if known is None:
            known = _SUMS[self.client] = self._sums_in()
        return known

    def _sums_in(self) -> Format:
        refusal: UnsupportedGraph | None = None
        for format_ in (FLOAT32, INT32, INT8):
            kind = TensorType(format_, (4,))
            try:
                self.client.compile(self.graph([kind, kind], lambda make, *x: make.op("Add", *x)))
                return format_
            except UnsupportedGraph as error:
                refusal = error
        raise refusal or UnsupportedGraph("no format to sum in")

    def values(self, count: int = 64) -> Array:
        """Returns small whole numbers in `format`, whose sums are exact in any arithmetic."""
        return self.rng.integers(-9, 10, count).astype(self.format.dtype)

    def full(self, value: int, count: int = 64) -> Array:
        """Returns equal whole numbers in `format`."""
        return np.full(count, value).astype(self.format.dtype)

    def run(self, loaded: LoadedExecutable, *arguments: Array) -> list[Array]:
        """Runs a program on arrays, blocking, and returns its results."""
        result = loaded.execute([self.put(a) for a in arguments], options=BLOCK)
        return [out.numpy() for out in result.outputs]

    # -- others ----------------------------------------------------------------------------

    @property
    def others(self) -> Sequence[Device]:
        """The other devices of the client.

        Raises:
            NotApplicable: There is none.
        """
        found = [device for device in self.client.devices if device is not self.device]
        if not found:
            raise NotApplicable("there is one device only")
        return found

    @contextmanager
    def another(self, observers: Sequence[Observer] = ()) -> Iterator[Client]:
        """Opens a further client on the same backend.

        Raises:
            NotApplicable: Its devices cannot be opened a second time.
        """
        with Client(self.client.backend, self.client.options, observers=observers) as client:
            try:
                client.device(self.device.id).memory_stats()
            except Unavailable as error:
                raise NotApplicable(f"one client at a time: {error}") from error
            yield client


def check(holds: bool, rule: str) -> None:
    """Raises `Broken` unless the rule holds."""
    if not holds:
        raise Broken(rule)


def equal(actual: object, expected: object, what: str) -> None:
    """Raises `Broken` unless both are equal; long contents are shown where they differ."""
    if isinstance(actual, bytes) and isinstance(expected, bytes):
        if actual != expected:
            raise Broken(f"{what}: {_difference(actual, expected)}")
        return
    if isinstance(actual, np.ndarray):
        wanted = np.asarray(expected)
        if actual.shape != wanted.shape or not np.array_equal(actual, wanted):
            raise Broken(f"{what}: got {actual.flat[:4]}..., expected {wanted.flat[:4]}")
        return
    if actual != expected:
        raise Broken(f"{what}: got {actual!r}, expected {expected!r}")


def _difference(actual: bytes, expected: bytes) -> str:
    if len(actual) != len(expected):
        return f"{len(actual)} bytes, expected {len(expected)}"
    wrong = np.frombuffer(actual, np.uint8) != np.frombuffer(expected, np.uint8)
    first, last = int(wrong.argmax()), len(actual) - 1 - int(wrong[::-1].argmax())
    return (
        f"{int(wrong.sum())} of {len(actual)} bytes differ, from {first} to {last}; "
        f"byte {first} is 0x{actual[first]:02X}, expected 0x{expected[first]:02X}"
    )


@contextmanager
def raises(
    kind: type[AccelError] | tuple[type[AccelError], ...], what: str, text: str = ""
) -> Iterator[None]:
    """Raises `Broken` unless the block raises an error of this kind that contains ``text``."""
    names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
    try:
        yield
    except kind as error:
        check(text in str(error), f"{what}: the error should say {text!r}, got: {error}")
        return
    except AccelError as error:
        raise Broken(f"{what}: expected {names}, got {type(error).__name__}: {error}") from error
    raise Broken(f"{what}: expected {names}, nothing was raised")


def together(functions: Sequence[Callable[[], None]], patience: float) -> None:
    """Runs functions on threads of their own, all at once.

    Raises:
        Broken: One is not over in time, or raised; the first error is told.
    """
    errors: list[Exception] = []
    start = threading.Barrier(len(functions))

    def guarded(function: Callable[[], None]) -> None:
        try:
            start.wait(patience)
            function()
        except Exception as error:  # whatever a plugin raises is told by the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    if errors:
        raise Broken(f"on a thread of its own: {errors[0]}") from errors[0]
    check(not any(thread.is_alive() for thread in threads), "every thread comes to its end")


def need(capability: str, lab: Lab) -> None:
    """Raises `NotApplicable` unless the target has an optional ability."""
    if capability not in lab.device.capabilities:
        raise NotApplicable(f"the target lacks the capability {capability}")


Scenario = Callable[[Lab], None]
