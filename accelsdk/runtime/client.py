"""Clients: the connection of a process to one backend."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accelsdk.backend.ask import ask, ask_all
from accelsdk.backend.backend import Backend, Claim, Compatibility
from accelsdk.backend.driver import Loaded
from accelsdk.backend.info import DeviceInfo, Discovery, Options, OptionScope, OptionValue, Target
from accelsdk.backend.observer import EventKind, Observer
from accelsdk.backend.program import Program, ProgramHeader
from accelsdk.backend.program_file import ProgramFile, Spool
from accelsdk.errors import (
    AccelError,
    FailedPrecondition,
    IncompatibleProgram,
    Internal,
    NotFound,
    OutOfMemory,
    Unavailable,
)
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Shape
from accelsdk.registry import Registry, registry
from accelsdk.runtime import forked
from accelsdk.runtime.callbacks import CALLBACKS
from accelsdk.runtime.card import Card
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import Executable, LoadedExecutable

if TYPE_CHECKING:
    from accelsdk.graph.opdef import OpDef
    from accelsdk.graph.rewrite import LoweringRule

#: A model: a graph, or the path or bytes of an ONNX file.
Model = Graph | str | os.PathLike[str] | bytes


def connect(name: str, options: Options | None = None, **more: OptionValue) -> Client:
    """Connects to a backend by its name.

    Args:
        name: Of the backend, as `accelsdk plugins` lists it.
        options: Options of the backend, of any scope.
        **more: Further options, as keywords.

    Raises:
        NotFound: There is no such backend, or no such option.
        PluginError: Its plugin is quarantined; the message says why.
        InvalidArgument: An option has a wrong value.
    """
    found = registry()
    given = {**(options or {}), **more}
    return Client(found.backend(name), given, observers=found.observers(), plugins=found)


class Client:
    """A connection to one backend: its devices, targets, compiler. Thread-safe.

    Owns its devices; buffers and programs belong to whoever made them. `close` drains and
    gives all cards back; so do the end of a ``with`` block and the interpreter's exit.

    Args:
        backend: What to connect to.
        options: Options of the backend, of any scope.
        observers: What to tell of the events on its devices.
        plugins: Where lowering rules and composites come from; None uses none.
    """

    def __init__(
        self,
        backend: Backend,
        options: Options | None = None,
        *,
        observers: Sequence[Observer] = (),
        plugins: Registry | None = None,
    ) -> None:
        self.backend = backend
        self.options: Mapping[str, OptionValue] = backend.info.resolve(options or {})
        self.targets: tuple[Target, ...] = ask_all(backend, "targets", Target, self.options)
        self._plugins = plugins
        self._cards: list[Card] = []
        self._closed = False
        self.discovery: Discovery = ask(backend, "enumerate_devices", Discovery, self.options)
        self.devices: tuple[Device, ...] = tuple(
            Device(self, info, self._target_of(info), self.options, observers)
            for info in self.discovery.devices
        )
        forked.CLIENTS.add(self)
        weakref.finalize(self, _give_back, self._cards).atexit = False

    def __repr__(self) -> str:
        return f"<Client of {self.backend.info.name}, {len(self.devices)} devices>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """Waits for the work, then gives the cards back. Calling it again does nothing.

        Args:
            timeout: Seconds to wait for each device. None waits without end, but not for
                work that only a signal from the host could set free. What is not over by
                then fails.

        Raises:
            DeadlineExceeded: Work was not over in time; everything is closed even so.
        """
        if self._closed:
            return
        self._closed = True
        errors: list[AccelError] = []
        for device in self.devices:
            try:
                device.close(timeout)
            except AccelError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def adopt(self, card: Card) -> None:
        """Has the card closed with this client."""
        self._cards.append(card)

    # -- what there is ---------------------------------------------------------------------

    def device(self, which: int | str = 0) -> Device:
        """Returns a device by position or identity.

        Raises:
            Unavailable: There is none at all; the message says why.
            NotFound: There is no such one.
        """
        if not self.devices:
            raise Unavailable(
                f"no device: {self.discovery.reason or 'none was found'}",
                backend=self.backend.info.name,
                remedy="run 'accelsdk doctor'",
            )
        for device in self.devices:
            if which in (device.ordinal, device.id):
                return device
        listed = ", ".join(f"{device.ordinal} ({device.id})" for device in self.devices)
        raise NotFound(
            f"no device {which!r}", backend=self.backend.info.name, remedy=f"devices: {listed}"
        )

    def target(self, name: str | None = None) -> Target:
        """Returns a target by name; None takes the first.

        Raises:
            NotFound: There is no such one.
        """
        for target in self.targets:
            if name in (None, target.name):
                return target
        listed = ", ".join(target.name for target in self.targets) or "none"
        raise NotFound(
            f"no target {name!r}", backend=self.backend.info.name, remedy=f"targets: {listed}"
        )

    def _target_of(self, device: DeviceInfo) -> Target:
        for target in self.targets:
            if target.name == device.target:
                return target
        raise Internal(
            f"the device is for target {device.target!r}, which targets() does not have",
            backend=self.backend.info.name,
            device=device.id,
            remedy="report it to the vendor of the plugin",
        )

    def check(
        self,
        program: ProgramHeader | Executable | str | os.PathLike[str] | bytes,
        target: str | None = None,
    ) -> Compatibility:
        """Judges how well a compiled program fits, without loading it.

        Args:
            program: Its header, itself, or the path or bytes of a program file.
            target: Name of the target; None takes the first.
        """
        return self._compatibility(_header(program), self.target(target))

    def _compatibility(self, header: ProgramHeader, target: Target) -> Compatibility:
        if header.backend != self.backend.info.name:
            return Compatibility.NOT_APPLICABLE
        return ask(self.backend, "check", Compatibility, header, target)

    def claims(self, model: Model, target: str | None = None) -> Sequence[Claim]:
        """Returns the regions of a model that the backend would run on a target.

        Args:
            model: A graph, or an ONNX file.
            target: Name of the target; None takes the first.
        """
        wanted = self.target(target)
        return ask_all(self.backend, "claim", Claim, self._lower(model, wanted, None), wanted)

    # -- programs --------------------------------------------------------------------------

    def compile(
        self,
        model: Model,
        *,
        target: str | None = None,
        input_shapes: Mapping[str, Shape] | None = None,
    ) -> Executable:
        """Compiles a model; needs no card.

        Args:
            model: A graph, or the path or bytes of an ONNX file.
            target: Name of the target; None takes the first.
            input_shapes: Shapes of inputs whose own are not fixed, by input name.

        Raises:
            ModelError: The file is corrupt.
            UnsupportedGraph: The backend refuses nodes; every reason is listed.
        """
        wanted = self.target(target)
        graph = self._lower(model, wanted, input_shapes)
        spool = Spool()
        info = self.backend.info
        program = ask(self.backend, "compile", Program, graph, wanted, self.options, spool)
        header = replace(
            program.header,
            backend=info.name,
            backend_version=info.version,
            api_version=info.api_version,
            target=wanted.name,
            target_options=dict(wanted.options),
            graph_digest=program.header.graph_digest or _digest(graph),
        )

        def again(shapes: Mapping[str, Shape]) -> Executable:
            return self.compile(model, target=wanted.name, input_shapes=shapes)

        return Executable(replace(program, header=header), spool, again)

    def _lower(
        self, model: Model, target: Target, input_shapes: Mapping[str, Shape] | None
    ) -> Graph:
        from accelsdk.compiler.pipeline import lower  # reads ONNX: loaded only when needed

        rules: Sequence[LoweringRule] = ()
        composites: Sequence[OpDef] = ()
        if self._plugins is not None:
            rules, composites = self._plugins.lowering_rules(), self._plugins.composites()
        graph: Graph = lower(
            model if isinstance(model, Graph | bytes) else Path(model),
            self.backend,
            target,
            input_shapes=input_shapes,
            rules=rules,
            composites=composites,
        )
        return graph

    def load(
        self,
        program: Executable | str | os.PathLike[str] | bytes,
        device: Device | int | str = 0,
        *,
        share: LoadedExecutable | None = None,
    ) -> LoadedExecutable:
        """Loads a program on a device.

        Args:
            program: What `compile` made, or the path or bytes of a program file.
            device: The device, its position or its identity.
            share: A program of the same device whose equal constants may be used again.

        Raises:
            IncompatibleProgram: It does not fit the device's target; the message says why.
            DataLoss: The file is corrupt.
            OutOfMemory: With the numbers; nothing stays allocated.
        """
        if self._closed:
            raise FailedPrecondition("the client is closed", backend=self.backend.info.name)
        card = device if isinstance(device, Device) else self.device(device)
        executable = program if isinstance(program, Executable) else open_program(program)
        self._admit(executable.header, card.target)
        other = share.residence.loaded if share is not None and share.device is card else None

        def load() -> Loaded:
            driver = card.driver
            return card.call("load", driver.load, executable.program, executable.constants(), other)

        card.pool.collect()
        try:
            loaded = load()
        except OutOfMemory:
            card.trim()
            loaded = load()
        if card.observers:
            nbytes = sum(spec.nbytes for spec in executable.program.constants)
            card.observers.tell(EventKind.LOAD, nbytes, executable.header.target)
        return LoadedExecutable(executable, card, loaded)

    def _admit(self, header: ProgramHeader, target: Target) -> None:
        match self._compatibility(header, target):
            case Compatibility.OPTIMAL | Compatibility.PREFER_RECOMPILE:
                return
            case Compatibility.NOT_APPLICABLE:
                reason = f"it was compiled by backend {header.backend}"
            case _:
                reason = "; ".join(_differences(header, self.backend, target))
        raise IncompatibleProgram(
            f"the program does not fit target {target.name}: {reason}",
            backend=self.backend.info.name,
            remedy="compile the model again for this target",
        )


def open_program(source: str | os.PathLike[str] | bytes) -> Executable:
    """Opens a program file, or its bytes, without loading it on a device.

    Raises:
        NotFound: There is no such file.
        DataLoss: It is corrupt.
        IncompatibleProgram: Its format is newer than this accelsdk.
    """
    file = ProgramFile(source)
    return Executable(file.program, file)


def _header(program: ProgramHeader | Executable | str | os.PathLike[str] | bytes) -> ProgramHeader:
    if isinstance(program, ProgramHeader):
        return program
    return (program if isinstance(program, Executable) else open_program(program)).header


def _differences(header: ProgramHeader, backend: Backend, target: Target) -> list[str]:
    mine = {
        "target": (header.target, target.name),
        "backend version": (header.backend_version, backend.info.version),
        "contract version": (header.api_version[0], backend.info.api_version[0]),
        **{
            f"option {name}": (header.target_options.get(name), target.options.get(name))
            for name in {*header.target_options, *target.options}
            if name not in {s.name for s in backend.info.options if s.scope is OptionScope.DEVICE}
        },
    }
    found = [f"{what} {was!r}, here {now!r}" for what, (was, now) in mine.items() if was != now]
    return found or ["the backend refuses it"]


def _digest(graph: Graph) -> str:
    from accelsdk.graph.serialize import digest

    return digest(graph)


def _give_back(cards: list[Card]) -> None:
    """Closes the cards of a forgotten client; elsewhere, for this may be a garbage collection."""
    if any(not card.closed for card in cards):
        for card in cards:
            CALLBACKS.post(card.close)
