"""Plans: a model cut into programs of several backends, compiled, saved and loaded as one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from accelsdk.backend import program_file
from accelsdk.backend.ask import ask
from accelsdk.backend.backend import Compatibility
from accelsdk.backend.info import Options, Target
from accelsdk.backend.program import Program, ProgramHeader, TensorSpec
from accelsdk.backend.program_file import ProgramFile
from accelsdk.backend.program_plan import Crossing, Outline, Piece
from accelsdk.backend.spool import Spool
from accelsdk.errors import DataLoss, IncompatibleProgram, Internal
from accelsdk.graph.serialize import digest, structure
from accelsdk.graph.types import Value
from accelsdk.runtime.compatibility import admit, judge, worst
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import Executable, LoadedExecutable, Specialise
from accelsdk.runtime.program import CompiledProgram, LoadedProgram
from accelsdk.runtime.schedule import schedule

if TYPE_CHECKING:
    from accelsdk.compiler.partition.plan import Part, Place, Plan
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.loaded_plan import LoadedPlan


def compiled(
    plan: Plan, options: Sequence[Options], respecialise: Specialise | None = None
) -> Executable:
    """Compiles each part of a plan with the backend of its place.

    Args:
        plan: What is to run where.
        options: All options of each place's backend, resolved.
        respecialise: Compiles the same model for other input shapes.

    Returns:
        A `CompiledProgram` if the plan is one program on place 0, else a `CompiledPlan`.
    """
    spool = Spool()
    if plan.whole:
        (part,) = plan.parts
        program = _compiled_part(part, plan.places[0], options[0], spool)
        return CompiledProgram(program, spool, respecialise)
    programs = []
    for part in plan.parts:
        spool = Spool(beside=spool)
        program = _compiled_part(part, plan.places[part.place], options[part.place], spool)
        programs.append(CompiledProgram(program, spool, name=part.name))
    return CompiledPlan(_outline(plan, programs), programs, respecialise)


def _compiled_part(part: Part, place: Place, options: Options, spool: Spool) -> Program:
    info = place.backend.info
    program = ask(place.backend, "compile", Program, part.graph, place.target, options, spool)
    header = replace(
        program.header,
        backend=info.name,
        backend_version=info.version,
        api_version=info.api_version,
        target=place.target.name,
        target_options=dict(place.target.options),
        graph_digest=program.header.graph_digest or digest(part.graph),
    )
    return replace(program, header=header)


def _outline(plan: Plan, programs: Sequence[CompiledProgram]) -> Outline:
    info, target = plan.places[0].backend.info, plan.places[0].target
    # The digests of the parts cover the constants, which need not be read once more.
    state = hashlib.sha256(structure(plan.graph))
    for program in programs:
        state.update(program.fingerprint.encode())
    fed, made = _specs(plan, programs)
    header = ProgramHeader(
        backend=info.name,
        backend_version=info.version,
        api_version=info.api_version,
        target=target.name,
        target_options=dict(target.options),
        graph_digest=state.hexdigest(),
        inputs=tuple(fed.get(v.name) or _dense(v) for v in plan.graph.inputs),
        outputs=tuple(made.get(v.name) or fed.get(v.name) or _dense(v) for v in plan.graph.outputs),
        attributes=MappingProxyType({"parts": len(programs)}),
    )
    return Outline(
        header=header,
        places=tuple((place.backend.info.name, place.target.name) for place in plan.places),
        pieces=tuple(Piece(name=part.name, place=part.place) for part in plan.parts),
        crossings=tuple(
            Crossing(
                value=transfer.value,
                source=transfer.source,
                destination=transfer.destination,
                after=transfer.after,
                before=transfer.before,
            )
            for transfer in plan.transfers
        ),
    )


def _specs(
    plan: Plan, programs: Sequence[CompiledProgram]
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Returns what programs on place 0 say of what they take, and all of what they make."""
    fed: dict[str, TensorSpec] = {}
    made: dict[str, TensorSpec] = {}
    for part, program in zip(plan.parts, programs, strict=True):
        if part.place == 0:
            fed |= {spec.name: spec for spec in program.inputs if spec.name not in fed}
            made |= {spec.name: spec for spec in program.outputs}
        else:  # copied to place 0: its memory there is no concern of this program
            made |= {spec.name: replace(spec, memory="device") for spec in program.outputs}
    return fed, made


def _dense(value: Value) -> TensorSpec:
    return TensorSpec(name=value.name, type=value.type)


class CompiledPlan(Executable):
    """A model that is several programs, on more than one place.

    Attributes:
        outline: What runs where, and what is copied.
        schedule: The same as steps.
    """

    def __init__(
        self,
        outline: Outline,
        parts: Sequence[CompiledProgram],
        respecialise: Specialise | None = None,
    ) -> None:
        super().__init__(outline.header, respecialise)
        self.outline = outline
        self._parts = tuple(parts)
        self.schedule = schedule(outline, [part.header for part in parts])

    def __repr__(self) -> str:
        where = ", ".join("/".join(place) for place in self.outline.places)
        return f"<Executable in {len(self._parts)} parts for {where}>"

    @property
    def parts(self) -> tuple[CompiledProgram, ...]:
        """The programs, in the order in which they run."""
        return self._parts

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """What is copied from one place to another between the programs."""
        return self.outline.crossings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a program file that any process can load; see `Executable.save`."""
        constants = chain.from_iterable(part.constants() for part in self._parts)
        programs = [part.program for part in self._parts]
        program_file.save_plan(path, self.outline, programs, constants)

    def judge(self, client: Client, target: Target) -> Compatibility:
        """Says how well the worst of its parts fits a client and one of its targets."""
        found = []
        for piece, part in zip(self.outline.pieces, self._parts, strict=True):
            if piece.place == 0:
                found.append(judge(client.backend, part.header, target))
                continue
            fallback = client.fallback_named(part.header.backend)
            if fallback is None:
                return Compatibility.NOT_APPLICABLE
            there = fallback.target(part.header.target)
            found.append(judge(fallback.backend, part.header, there))
        return worst(found)

    def load_on(self, client: Client, device: Device, share: LoadedExecutable | None) -> LoadedPlan:
        """Loads each part where it runs; see `Client.load`."""
        from accelsdk.runtime.loaded_plan import LoadedPlan

        devices = self._devices(client, device)
        loaded: list[LoadedProgram] = []
        try:
            for piece, part in zip(self.outline.pieces, self._parts, strict=True):
                loaded.append(part.load(devices[piece.place], share))
            return LoadedPlan(self, devices, loaded)
        except BaseException:
            for program in loaded:
                program.delete()
            for place in devices:
                place.pool.collect(wait=True)
            raise

    def _devices(self, client: Client, device: Device) -> tuple[Device, ...]:
        """Returns the device of each place, once every part is known to fit."""
        devices: list[Device | None] = [device, *(None for _ in self.outline.places[1:])]
        for piece, part in zip(self.outline.pieces, self._parts, strict=True):
            there = devices[piece.place]
            if there is None:
                there = devices[piece.place] = self._elsewhere(client, piece, part)
            admit(there.backend, part.header, there.target, piece.name)
        return tuple(there or device for there in devices)

    def _elsewhere(self, client: Client, piece: Piece, part: CompiledProgram) -> Device:
        fallback = client.fallback_named(part.header.backend)
        if fallback is None:
            other = client.fallback
            falls = f"falls back to {other.backend.info.name}" if other else "has no fallback"
            raise IncompatibleProgram(
                f"part {piece.name!r} of the program was compiled by backend "
                f"{part.header.backend}, and this client {falls}",
                backend=client.backend.info.name,
                remedy=f"connect with fallback={part.header.backend!r}",
            )
        return fallback.device(part.header.target)


def opened(file: ProgramFile, respecialise: Specialise | None = None) -> Executable:
    """Returns what a program file holds.

    Raises:
        DataLoss: Its plan makes no sense.
    """
    if file.outline is None:
        return CompiledProgram(file.program, file, respecialise)
    pieces = zip(file.outline.pieces, file.programs, strict=True)
    parts = [CompiledProgram(program, file, name=piece.name) for piece, program in pieces]
    try:
        return CompiledPlan(file.outline, parts, respecialise)
    except (Internal, IndexError) as error:
        raise DataLoss(
            f"the program file is corrupt: {error}", remedy="compile the model again"
        ) from error
