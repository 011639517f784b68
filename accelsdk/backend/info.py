"""What a backend says about itself, its options, its targets and its devices: plain data.

Every record is keyword-only and grows only by appended fields with defaults; what a vendor
wants to say beyond the fields travels in ``attributes``.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from accelsdk.errors import InvalidArgument, NotFound

#: Version of the vendor contract. A plugin fits if the majors are equal.
API_VERSION: Final = (1, 2)

OptionValue = str | int | float | bool
Options = Mapping[str, OptionValue]
_NOTHING: Mapping[str, OptionValue] = MappingProxyType({})
#: More choices than this are not all told in an error.
_LISTED = 12


class Capability(StrEnum):
    """Optional abilities that a target may declare. Unknown names are ignored.

    The methods behind each are the ``Supports*`` protocols of `accelsdk.backend.optional`.
    """

    QUEUES = "queues"
    PEER_COPY = "peer-copy"
    MAP = "map"
    HEALTH = "health"
    TELEMETRY = "telemetry"
    PROFILING = "profiling"
    CANCEL = "cancel"
    PARTIAL_TENSORS = "partial-tensors"
    HOST_IMPORT = "host-import"
    DYNAMIC_SHAPES = "dynamic-shapes"


class OptionScope(StrEnum):
    """When an option takes effect."""

    TARGET = "target"  # what is compiled for: changes programs and cache keys
    DEVICE = "device"  # how a card is opened: changes behaviour, not programs


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option that a backend understands.

    Attributes:
        name: As typed after ``--option``.
        default: Value if not given; its Python type is the option's type.
        help: One sentence for ``accelsdk plugins``.
        scope: When it takes effect.
        choices: Allowed values, if the set is closed.
    """

    name: str
    default: OptionValue
    help: str
    scope: OptionScope = OptionScope.DEVICE
    choices: tuple[OptionValue, ...] = ()

    def parse(self, given: OptionValue) -> OptionValue:
        """Returns ``given`` (text is converted) as a value of this option.

        Raises:
            InvalidArgument: Wrong type, or not among the choices.
        """
        value = _convert(given, type(self.default), self.name)
        if self.choices and value not in self.choices:
            raise InvalidArgument(
                f"option {self.name} has no choice {value!r}", remedy=self._choices_near(value)
            )
        return value

    def _choices_near(self, value: OptionValue) -> str:
        """Returns the choices for people; of a long list, those that look like ``value``."""
        names = [str(choice) for choice in self.choices if choice != ""]
        if len(names) <= _LISTED:
            return "choices: " + ", ".join(names)
        near = difflib.get_close_matches(str(value), names, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{hint}'accelsdk plugins NAME' lists all {len(names)} choices"


def _convert(given: OptionValue, wanted: type, name: str) -> OptionValue:
    truth = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        if wanted is bool:
            return given if isinstance(given, bool) else truth[str(given).lower()]
        converted: OptionValue = wanted(given)
    except (KeyError, ValueError):
        raise InvalidArgument(
            f"option {name} wants {wanted.__name__}, got {given!r}",
            remedy=f"give {name}=<{wanted.__name__}>",
        ) from None
    return converted


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that a backend runs on and that is installed only by whoever wants it.

    Attributes:
        module: Its top module; looked for, never imported.
        install: The command that installs it.
    """

    module: str
    install: str

    @property
    def met(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec(self.module) is not None

    def __str__(self) -> str:
        return f"{self.module} is not installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """Who a backend is.

    Attributes:
        name: What users type: ``accelsdk.connect(name)``. Lower case, unique.
        vendor: Who makes it.
        version: Version of the backend; part of cache keys.
        api_version: Contract version it was written against; take `API_VERSION`.
        description: One sentence.
        options: Every option it understands.
        attributes: Anything else worth showing.
        requires: Packages without which it compiles, but has no device.
    """

    name: str
    vendor: str
    version: str
    api_version: tuple[int, int] = API_VERSION
    description: str = ""
    options: tuple[OptionSpec, ...] = ()
    attributes: Options = field(default_factory=lambda: _NOTHING)
    requires: tuple[Requirement, ...] = ()

    def missing(self) -> tuple[Requirement, ...]:
        """Returns what it requires and is not installed."""
        return tuple(package for package in self.requires if not package.met)

    def resolve(self, given: Options, scope: OptionScope | None = None) -> Options:
        """Returns all options of ``scope`` (None: every scope) with defaults filled in.

        Raises:
            NotFound: ``given`` names an option that the backend does not have.
            InvalidArgument: A value has the wrong type or is not a choice.
        """
        known = {spec.name: spec for spec in self.options}
        for name in given:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise NotFound(
                    f"no option {name!r}", backend=self.name, remedy=f"options: {listed}"
                )
        return MappingProxyType(
            {
                spec.name: spec.parse(given.get(spec.name, spec.default))
                for spec in self.options
                if scope in (None, spec.scope)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Peak rates of a target, for cost models and explanations.

    Attributes:
        operations: Peak operations per second, by format name (multiply and add are two).
        memory_bandwidth: Bytes per second to and from device memory.
        scratch_bytes: On-chip memory, bytes.
        scratch_bandwidth: Bytes per second to and from on-chip memory.
        link_bandwidth: Bytes per second between host and card.
    """

    operations: Mapping[str, float]
    memory_bandwidth: float
    scratch_bytes: int = 0
    scratch_bandwidth: float = 0.0
    link_bandwidth: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a program is compiled for. Exists without a card.

    Attributes:
        name: Unique within the backend.
        options: Resolved options of scope TARGET.
        capabilities: Names from `Capability`; unknown ones are ignored.
        alignment: Bytes to which allocations are aligned. A power of two.
        view_alignment: Bytes to which views that reach the driver are aligned; the SDK
            stages what does not honour it.
        roofline: Peak rates, if the vendor publishes them.
        attributes: Anything else worth showing.
    """

    name: str
    options: Options = field(default_factory=lambda: _NOTHING)
    capabilities: frozenset[str] = frozenset()
    alignment: int = 64
    view_alignment: int = 1
    roofline: Roofline | None = None
    attributes: Options = field(default_factory=lambda: _NOTHING)


class Threading(StrEnum):
    """Which calls of one driver may overlap.

    ``health``, ``telemetry``, ``cancel`` and ``poll`` are never serialised.
    """

    FREE = "free"  # any thread, any time
    SERIAL = "serial"  # one call at a time on one card
    PROCESS = "process"  # one call at a time across all cards of the backend
    AFFINE = "affine"  # one SDK thread makes every call


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInfo:
    """One memory of a device.

    Attributes:
        kind: ``"device"``, ``"pinned_host"`` or a vendor's own kind.
        capacity: Bytes.
        host_visible: Whether the host may read it in place (DLPack, mapping).
    """

    kind: str = "device"
    capacity: int
    host_visible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """One card. Constant for as long as a client lives.

    Attributes:
        id: Stable identity (serial number, PCI address, ...), unique within the backend.
        ordinal: Position in the enumeration.
        kind: Product name.
        target: Name of the `Target` that programs for it are compiled for.
        memories: The first is the default.
        threading: Which driver calls may overlap.
        exclusive: Whether one process at a time may open it.
        ticket_domain: Devices with the same domain understand each other's tickets; None
            keeps tickets within the device.
        attributes: Anything else worth showing.
    """

    id: str
    ordinal: int
    kind: str
    target: str
    memories: tuple[MemoryInfo, ...]
    threading: Threading = Threading.SERIAL
    exclusive: bool = False
    ticket_domain: str | None = None
    attributes: Options = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What an enumeration found.

    Attributes:
        devices: Possibly empty.
        reason: Why there are none, or fewer than expected; shown by ``accelsdk doctor``.
    """

    devices: tuple[DeviceInfo, ...]
    reason: str | None = None
