"""The exception tree of accelsdk.

    AccelError
    ├── InvalidArgument         the caller passed something wrong
    │   ├── GraphError          a graph breaks a rule of the IR (names node and rule)
    │   └── ModelError          a model file is corrupt or cannot be read as a graph
    ├── NotFound                a plugin, device, input, file or option does not exist
    ├── FailedPrecondition      right call, wrong moment: deleted, closed, mapped, not ready
    │   └── IncompatibleProgram a compiled program does not fit this backend or target
    ├── Unimplemented           an optional ability that this plugin does not have
    │   └── UnsupportedGraph    a backend refuses nodes; carries every reason
    ├── OutOfMemory             a memory is full; carries the numbers            [retryable]
    ├── DeadlineExceeded        a wait timed out; the work goes on               [retryable]
    ├── Cancelled               the work was cancelled on request
    ├── DataLoss                stored or transferred bytes are corrupt
    ├── Unavailable             a device is absent or gone                       [retryable]
    ├── DeviceFault             the device failed; it stays FAILED until reset
    ├── PluginError             a plugin was quarantined (cause and remedy)
    └── Internal                a defect in a plugin or in accelsdk

Each class has one status code. ``retryable`` says whether the same call may succeed
later without a change by the caller. Every message says what happened, where, and
what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """Status codes, after the canonical set of absl::Status."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    DATA_LOSS = "DATA_LOSS"
    UNAVAILABLE = "UNAVAILABLE"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"


class AccelError(Exception):
    """Base of every error that accelsdk and its plugins raise on purpose.

    Args:
        message: What happened.
        remedy: What the reader can do about it; appended to the text.
        backend: Name of the backend concerned, where there is one.
        device: Identity of the device concerned, where there is one.
        node: Name of the graph node concerned, where there is one.

    Attributes:
        part: Name of the part of a partitioned model that failed, where there is one.
    """

    code: ClassVar[Code] = Code.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        backend: str | None = None,
        device: str | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.backend = backend
        self.device = device
        self.node = node
        self.part: str | None = None

    def __str__(self) -> str:
        places = {
            "backend": self.backend,
            "device": self.device,
            "part": self.part,
            "node": self.node,
        }
        where = ", ".join(f"{kind} {name}" for kind, name in places.items() if name)
        text = f"{self.message} [{where}]" if where else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class InvalidArgument(AccelError):
    """The caller passed something wrong; the same call can never succeed."""

    code = Code.INVALID_ARGUMENT


class GraphError(InvalidArgument):
    """A graph breaks a rule of the IR.

    Attributes:
        rule: Short name of the broken rule, such as ``"single-assignment"``.
    """

    def __init__(self, message: str, *, rule: str, node: str | None = None) -> None:
        super().__init__(f"{rule}: {message}", node=node)
        self.rule = rule


class ModelError(InvalidArgument):
    """A model file is corrupt, or cannot be read as an accelsdk graph."""


class NotFound(AccelError):
    """A named thing (plugin, device, input, file, option) does not exist."""

    code = Code.NOT_FOUND


class FailedPrecondition(AccelError):
    """The object is not in a state that allows this call (deleted, closed, mapped)."""

    code = Code.FAILED_PRECONDITION


class IncompatibleProgram(FailedPrecondition):
    """A compiled program does not fit this backend, version, target or format."""


class Unimplemented(AccelError):
    """An optional ability that this plugin does not have, by its name."""

    code = Code.UNIMPLEMENTED


class UnsupportedGraph(Unimplemented):
    """A backend refuses nodes of a graph.

    Attributes:
        reasons: One line for each refused node: its name, its op, and why.
        not_constant: Values that are computed at run time and would have to be constant,
            where that is the reason.
    """

    def __init__(
        self,
        message: str,
        *,
        reasons: Sequence[str] = (),
        not_constant: Sequence[str] = (),
        backend: str | None = None,
        remedy: str | None = None,
    ) -> None:
        listed = "".join(f"\n  - {reason}" for reason in reasons)
        super().__init__(message + listed, backend=backend, remedy=remedy)
        self.reasons = tuple(reasons)
        self.not_constant = tuple(not_constant)


class OutOfMemory(AccelError):
    """A memory is full.

    Attributes:
        requested: Bytes asked for.
        in_use: Bytes already allocated in that memory.
        limit: Bytes that the memory holds.
    """

    code = Code.RESOURCE_EXHAUSTED
    retryable = True

    def __init__(
        self,
        *,
        requested: int,
        in_use: int,
        limit: int,
        memory: str = "device",
        device: str | None = None,
    ) -> None:
        super().__init__(
            f"out of {memory} memory: {requested:,} bytes requested, "
            f"{in_use:,} of {limit:,} in use, {max(limit - in_use, 0):,} free",
            device=device,
            remedy="delete buffers or programs, or use a device with more memory",
        )
        self.requested = requested
        self.in_use = in_use
        self.limit = limit


class DeadlineExceeded(AccelError):
    """A wait timed out. The work itself goes on."""

    code = Code.DEADLINE_EXCEEDED
    retryable = True


class Cancelled(AccelError):
    """The work was cancelled on request."""

    code = Code.CANCELLED


class DataLoss(AccelError):
    """Stored or transferred bytes are corrupt (a digest or a header disagrees)."""

    code = Code.DATA_LOSS


class Unavailable(AccelError):
    """A device is absent, busy in another process, or gone."""

    code = Code.UNAVAILABLE
    retryable = True


class DeviceFault(AccelError):
    """The device failed. It stays FAILED, and refuses work, until ``reset()``."""

    code = Code.ABORTED


class PluginError(AccelError):
    """A plugin cannot be used; the cause and the remedy are in the message."""

    code = Code.FAILED_PRECONDITION


class Internal(AccelError):
    """A defect in a plugin or in accelsdk; the foreign exception is chained."""

    code = Code.INTERNAL
