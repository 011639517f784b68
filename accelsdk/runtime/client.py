"""Clients: the connection of a process to one backend."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from accelsdk.backend.ask import ask, ask_all
from accelsdk.backend.backend import Backend, Claim, Compatibility
from accelsdk.backend.info import DeviceInfo, Discovery, Options, OptionValue, Target
from accelsdk.backend.observer import Observer
from accelsdk.backend.program import ProgramHeader
from accelsdk.backend.program_file import ProgramFile
from accelsdk.errors import (
    AccelError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PluginError,
    Unavailable,
)
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Shape
from accelsdk.registry import Registry, registry
from accelsdk.runtime import forked
from accelsdk.runtime.callbacks import CALLBACKS
from accelsdk.runtime.card import Card
from accelsdk.runtime.compatibility import judge
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import Executable, LoadedExecutable, Specialise
from accelsdk.runtime.fallback import Fallback
from accelsdk.runtime.plan import compiled, opened
from accelsdk.runtime.program_cache import ProgramCache, key_of

if TYPE_CHECKING:
    from accelsdk.compiler.partition.plan import Place, Plan
    from accelsdk.graph.opdef import OpDef
    from accelsdk.graph.rewrite import LoweringRule

#: A model: a graph, or the path or bytes of an ONNX file.
Model = Graph | str | os.PathLike[str] | bytes


#: The backend that runs what another one refuses, unless `connect` is told otherwise.
FALLBACK = "reference_cpu"


def connect(
    name: str,
    options: Options | None = None,
    *,
    fallback: str | None = FALLBACK,
    cache: bool | ProgramCache = False,
    **more: OptionValue,
) -> Client:
    """Connects to a backend by its name.

    Args:
        name: Of the backend, as `accelsdk plugins` lists it.
        options: Options of the backend, of any scope.
        fallback: Name of the backend that runs the nodes of a model which this one refuses.
            None refuses such a model, with every reason.
        cache: Where compiled programs are kept; True takes the user's
            (`ProgramCache.of_user`). A library writes nothing to disk unless it is asked to.
        **more: Further options, as keywords.

    Raises:
        NotFound: There is no such backend, or no such option.
        PluginError: Its plugin is quarantined; the message says why.
        InvalidArgument: An option has a wrong value.
    """
    found = registry()
    given = {**(options or {}), **more}
    open_client = partial(Client, observers=found.observers(), plugins=found)
    wanted = None if fallback == name else fallback
    other = None if wanted is None else _fallback(found, wanted, open_client)
    kept = cache if isinstance(cache, ProgramCache) else ProgramCache.of_user() if cache else None
    return open_client(found.backend(name), given, fallback=other, cache=kept)


def _fallback(found: Registry, name: str, open_client: Callable[..., Client]) -> Fallback | None:
    """Returns the fallback; without the default one a backend still serves what it can."""
    try:
        backend = found.backend(name)
    except (NotFound, PluginError):
        if name != FALLBACK:
            raise
        return None
    return Fallback(backend, {}, lambda: open_client(backend))


class Client:
    """A connection to one backend: its devices, targets, compiler. Thread-safe.

    Owns its devices; buffers and programs belong to whoever made them. `close` drains and
    gives all cards back; so do the end of a ``with`` block and the interpreter's exit.

    Args:
        backend: What to connect to.
        options: Options of the backend, of any scope.
        observers: What to tell of the events on its devices.
        plugins: Where lowering rules and composites come from; None uses none.
        fallback: What runs the nodes of a model that the backend refuses. A `Fallback` is
            closed with this client, another client is not. None refuses such a model.
        cache: Where compiled programs are kept; None compiles each time.
    """

    def __init__(
        self,
        backend: Backend,
        options: Options | None = None,
        *,
        observers: Sequence[Observer] = (),
        plugins: Registry | None = None,
        fallback: Client | Fallback | None = None,
        cache: ProgramCache | None = None,
    ) -> None:
        self.backend = backend
        self.fallback = Fallback.to(fallback) if isinstance(fallback, Client) else fallback
        self.cache = cache
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
        if self.fallback is not None:
            try:
                self.fallback.close(timeout)
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
            program: Its header, itself, or the path or bytes of a program file. Of a
                program in several parts, the worst counts.
            target: Name of the target; None takes the first.
        """
        wanted = self.target(target)
        if isinstance(program, ProgramHeader):
            return judge(self.backend, program, wanted)
        return _opened(program).judge(self, wanted)

    def claims(self, model: Model, target: str | None = None) -> Sequence[Claim]:
        """Returns the regions of a model that the backend would run on a target.

        Args:
            model: A graph, or an ONNX file.
            target: Name of the target; None takes the first.
        """
        wanted = self.target(target)
        plan = self._plan(model, self._places(wanted, fallback=False), _Known())
        return ask_all(self.backend, "claim", Claim, plan.graph, wanted)

    # -- programs --------------------------------------------------------------------------

    def compile(
        self,
        model: Model,
        *,
        target: str | None = None,
        input_shapes: Mapping[str, Shape] | None = None,
        input_values: Mapping[str, ArrayLike] | None = None,
    ) -> Executable:
        """Compiles a model; needs no card.

        Nodes that the backend refuses are compiled for the fallback, if there is one; the
        result then runs in parts, with copies in between, behind the same surface.

        Args:
            model: A graph, or the path or bytes of an ONNX file.
            target: Name of the target; None takes the first.
            input_shapes: Shapes of inputs whose own are not fixed, by input name.
            input_values: Inputs to bind to constants, by name; they are inputs no more. For
                ONNX models alone.

        Raises:
            ModelError: The file is corrupt.
            NotFound: There is no such file or input.
            InvalidArgument: A shape or a value does not fit its input.
            UnsupportedGraph: Nodes that the backend refuses, and the fallback too if there is
                one; every reason is listed.
        """
        wanted = self.target(target)

        def again(shapes: Mapping[str, Shape]) -> Executable:
            return self.compile(
                model, target=wanted.name, input_shapes=shapes, input_values=input_values
            )

        if input_values and isinstance(model, Graph):
            raise InvalidArgument(
                "input_values are for ONNX models", remedy="make them constants of the graph"
            )
        known = _Known(input_shapes, input_values)
        if self.cache is None:
            return self._compiled(model, wanted, known, again)
        places, options = self._places(wanted), self._all_options()
        key = key_of(model, input_shapes, places, options, self._plugins, input_values)
        kept = self.cache.get(key, again)
        if kept is not None and kept.judge(self, wanted) is Compatibility.OPTIMAL:
            return kept
        made = self._compiled(model, wanted, known, again)
        self.cache.put(key, made)
        return made

    def _compiled(
        self,
        model: Model,
        target: Target,
        known: _Known,
        again: Specialise,
    ) -> Executable:
        plan = self._plan(model, self._places(target), known)
        return compiled(plan, self._all_options(), again)

    def _all_options(self) -> list[Options]:
        return [self.options, *([self.fallback.options] if self.fallback else [])]

    def _places(self, target: Target, *, fallback: bool = True) -> list[Place]:
        from accelsdk.compiler.partition.plan import Place

        places = [Place(backend=self.backend, target=target)]
        if self.fallback is not None and fallback:
            places.append(Place(backend=self.fallback.backend, target=self.fallback.targets[0]))
        return places

    def _plan(self, model: Model, places: Sequence[Place], known: _Known) -> Plan:
        from accelsdk.compiler.pipeline import plan  # reads ONNX: loaded only when needed

        rules, composites = self._extensions()
        made: Plan = plan(
            model if isinstance(model, Graph | bytes) else Path(model),
            places,
            input_shapes=known.shapes,
            input_values=known.values,
            rules=rules,
            composites=composites,
        )
        return made

    def _extensions(self) -> tuple[Sequence[LoweringRule], Sequence[OpDef]]:
        """Returns the lowering rules and the composites of plugins."""
        if self._plugins is None:
            return (), ()
        return self._plugins.lowering_rules(), self._plugins.composites()

    def core_graph(
        self,
        model: Model,
        *,
        input_shapes: Mapping[str, Shape] | None = None,
        input_values: Mapping[str, ArrayLike] | None = None,
    ) -> Graph:
        """Returns a model as core ops, before it is optimised or any backend is asked.

        Arguments and errors are those of `compile`.
        """
        from accelsdk.compiler.passes.constant_folding import CONSTANT_FOLDING
        from accelsdk.compiler.passes.dead_code import DEAD_CODE
        from accelsdk.compiler.pipeline import to_core

        rules, composites = self._extensions()
        return to_core(
            model if isinstance(model, Graph | bytes) else Path(model),
            input_shapes=input_shapes,
            input_values=input_values,
            rules=rules,
            composites=composites,
            passes=(DEAD_CODE, CONSTANT_FOLDING),
        )

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
        return _opened(program).load_on(self, card, share)

    def fallback_named(self, backend: str) -> Fallback | None:
        """Returns the fallback if it is that backend."""
        found = self.fallback
        return found if found is not None and found.backend.info.name == backend else None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a model's inputs when it is compiled."""

    shapes: Mapping[str, Shape] | None = None
    values: Mapping[str, ArrayLike] | None = None


def open_program(source: str | os.PathLike[str] | bytes) -> Executable:
    """Opens a program file, or its bytes, without loading it on a device.

    Raises:
        NotFound: There is no such file.
        DataLoss: It is corrupt.
        IncompatibleProgram: Its format is newer than this accelsdk.
    """
    return opened(ProgramFile(source))


def _opened(program: Executable | str | os.PathLike[str] | bytes) -> Executable:
    return program if isinstance(program, Executable) else open_program(program)


def _give_back(cards: list[Card]) -> None:
    """Closes the cards of a forgotten client; elsewhere, for this may be a garbage collection."""
    if any(not card.closed for card in cards):
        for card in cards:
            CALLBACKS.post(card.close)
