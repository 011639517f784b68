"""Faulty backends: what they say of devices, targets, programs and themselves."""

import itertools
import secrets
from dataclasses import replace

from accelsdk.backend.backend import Compatibility
from accelsdk.errors import Internal
from tests.conformance.device.card import Card, CardBackend
from tests.conformance.device.faulty import fault


@fault("honesty")
class IdentitiesChange(CardBackend):
    """Each enumeration gives the devices other identities."""

    def enumerate_devices(self, options):
        found = super().enumerate_devices(options)
        self.turn = getattr(self, "turn", 0) + 1
        devices = tuple(replace(d, id=f"card-{self.turn}-{d.ordinal}") for d in found.devices)
        return replace(found, devices=devices)


@fault("honesty")
class AttributesChange(CardBackend):
    """The attributes of a device have the temperature among them."""

    degrees = itertools.count(40)

    def enumerate_devices(self, options):
        found = super().enumerate_devices(options)
        now = {"temperature": next(self.degrees)}
        return replace(found, devices=tuple(replace(d, attributes=now) for d in found.devices))


@fault("honesty")
class CapabilitiesChange(CardBackend):
    """The target declares profiling only the first time it is asked."""

    asked = 0

    def targets(self, options):
        self.asked += 1
        (target,) = super().targets(options)
        if self.asked > 1:
            target = replace(target, capabilities=target.capabilities - {"profiling"})
        return [target]


@fault("honesty")
class TwinDevices(CardBackend):
    """All devices have one identity."""

    def enumerate_devices(self, options):
        found = super().enumerate_devices(options)
        return replace(found, devices=tuple(replace(d, id="card-0") for d in found.devices))


@fault("honesty")
class OrdinalsFromOne(CardBackend):
    """Positions of devices start at 1."""

    def enumerate_devices(self, options):
        found = super().enumerate_devices(options)
        return replace(
            found, devices=tuple(replace(d, ordinal=d.ordinal + 1) for d in found.devices)
        )


@fault("honesty", capabilities=frozenset({"peer-copy", "queues"}))
class DeclaresQueues(CardBackend):
    """Declares queues, and its driver has none."""


@fault("peers")
class OpensTheFirst(CardBackend):
    """Whatever device is named, its memory is counted on the first."""

    def open(self, device, options):
        first = getattr(self, "first", None)
        if first is None:
            self.first = first = super().open(device, options)
            return first
        card = super().open(device, options)
        card._reserve, card._release = first._reserve, first._release
        card.memory_stats = first.memory_stats
        return card


@fault("programs")
class CheckAcceptsAll(CardBackend):
    """Every program fits every target and version."""

    def check(self, header, target):
        return Compatibility.OPTIMAL


@fault("programs")
class CheckRefusesItsOwn(CardBackend):
    """Its own programs do not fit."""

    def check(self, header, target):
        return Compatibility.UNSUPPORTED


@fault("programs")
class CompilesByChance(CardBackend):
    """Compiling one graph twice gives different code."""

    def compile(self, graph, target, options, pack):
        made = super().compile(graph, target, options, pack)
        noise = secrets.token_hex(4)
        named = replace(graph, name=f"{graph.name}-{noise}")
        return replace(made, code=super().compile(named, target, options, _Nothing(pack)).code)


class _Nothing:
    """Takes no constant a second time."""

    def __init__(self, pack):
        self.pack = pack

    def graph_constant(self, constant):
        return None


@fault("programs")
class CompilesWithAMemory(CardBackend):
    """A graph of one name is compiled once, whatever it holds."""

    def compile(self, graph, target, options, pack):
        made = super().compile(graph, target, options, pack)
        if not hasattr(self, "codes"):
            self.codes = {}
        key = (graph.name, len(graph.inputs), len(graph.nodes), len(graph.constants))
        old = self.codes.setdefault(key, made)
        return replace(old, constants=made.constants)


@fault("programs")
class CompilesByShape(CardBackend):
    """A kernel is compiled once for its op and its shapes, whatever the attributes."""

    def compile(self, graph, target, options, pack):
        made = super().compile(graph, target, options, pack)
        if not hasattr(self, "codes"):
            self.codes = {}
        kinds = tuple(value.type for value in (*graph.inputs, *graph.outputs))
        key = (tuple(node.op for node in graph.nodes), kinds, len(graph.constants))
        return replace(made, code=self.codes.setdefault(key, made.code))


@fault("lifetime")
class AliasesWithoutCare(CardBackend):
    """Says that results may take the operand's memory, and then works in place, in order."""

    def __init__(self):
        super().__init__(driver=InPlace)

    def compile(self, graph, target, options, pack):
        made = super().compile(graph, target, options, pack)
        same = [
            (o, i)
            for o, out in enumerate(graph.outputs)
            for i, value in enumerate(graph.inputs)
            if value.type == out.type
        ][:1]
        return replace(made, header=replace(made.header, aliases=tuple(same)))


class InPlace(Card):
    """Clears the result before it computes, whoever else has that memory."""

    def execute(self, loaded, inputs, outputs):
        for view in outputs:
            self.bytes(view)[:] = 0
        return super().execute(loaded, inputs, outputs)


@fault("honesty")
class SupportsByMood(CardBackend):
    """Says yes to an op at first, and no when it is asked again."""

    def supports(self, graph, node, target):
        answer = super().supports(graph, node, target)
        self.moods = getattr(self, "moods", 0) + 1
        if node.op in ("MatMul", "Max") and self.moods % 2:
            return replace(answer, text=f"mood {self.moods}")
        return answer


@fault("honesty")
class SupportsMore(CardBackend):
    """Says yes to an op that its driver then refuses."""

    def __init__(self):
        super().__init__(driver=NoExp)


class NoExp(Card):
    """Has no kernel for Exp."""

    def load(self, program, constants, share=None):
        if b'"Exp"' in program.code or b"Exp" in program.code:
            raise Internal("no kernel for Exp")
        return super().load(program, constants, share)
