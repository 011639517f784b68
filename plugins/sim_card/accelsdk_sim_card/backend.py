"""The backend: targets, devices, compilation, datasheet. Needs no open card."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from functools import cache

from accelsdk.backend.backend import (
    EMULATED,
    NATIVE,
    Backend,
    Claim,
    Refusal,
    Support,
    refuse,
)
from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.driver import Driver
from accelsdk.backend.info import (
    BackendInfo,
    Capability,
    DeviceInfo,
    Discovery,
    MemoryInfo,
    Options,
    OptionScope,
    Roofline,
    Target,
    Threading,
)
from accelsdk.backend.program import ConstantPacker, Program, ProgramHeader
from accelsdk.errors import Unavailable
from accelsdk.formats import FLOAT64
from accelsdk.graph import serialize
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.ops import TABLE
from accelsdk.graph.types import TensorType
from accelsdk.kernels import api as kernels
from accelsdk_sim_card import arithmetic, claims, datasheet, settings
from accelsdk_sim_card.arithmetic import preset_of, variant_of
from accelsdk_sim_card.card import pci_address
from accelsdk_sim_card.driver import SimDriver
from accelsdk_sim_card.host import HOSTS
from accelsdk_sim_card.profile import Profile
from accelsdk_sim_card.workspace import workspace_bytes

_INFO = BackendInfo(
    name="sim_card",
    vendor="accelsdk",
    version="0.1.0",
    description="A simulated host of accelerator cards, in virtual time",
    options=settings.OPTIONS,
)
_TARGET = "sim-card-v1"
_CAPABILITIES = frozenset(
    {
        Capability.QUEUES,
        Capability.PEER_COPY,
        Capability.HEALTH,
        Capability.TELEMETRY,
        Capability.PROFILING,
        Capability.CANCEL,
        Capability.PARTIAL_TENSORS,
    }
)


class SimCard(Backend):
    """The simulated card: hardware behaviour, chosen by options, repeatable to the bit."""

    @property
    def info(self) -> BackendInfo:
        """Who this is, and every option."""
        return _INFO

    def targets(self, options: Options) -> Sequence[Target]:
        """Returns the one instruction set; its options hold the accumulator preset."""
        parsed = settings.parse(options)
        given = {name: options[name] for name in ("preset", "variant")}
        chosen = _INFO.resolve(given, OptionScope.TARGET)
        target, variant = _target(parsed.profile, chosen), variant_of(chosen)
        return [target if variant is None else variant.target(target)]

    def enumerate_devices(self, options: Options) -> Discovery:
        """Returns the cards of the simulated host."""
        parsed = settings.parse(options)
        memory = MemoryInfo(kind="device", capacity=parsed.profile.memory_bytes)
        variant = variant_of(options)
        devices = tuple(
            DeviceInfo(
                id=pci_address(ordinal),
                ordinal=ordinal,
                kind=parsed.profile.kind,
                target=_TARGET,
                memories=(memory,),
                threading=Threading.SERIAL,
                ticket_domain=parsed.domain,
                attributes={"switch": "0000:00:01.0", "link": "PCIe 3.0 x4"},
            )
            for ordinal in range(parsed.count)
        )
        if variant is not None:
            devices = tuple(variant.device(device) for device in devices)
        return Discovery(devices=devices)

    def supports(self, graph: Graph, node: Node, target: Target) -> Support:
        """Says yes to every op of the table; float64 is emulated on the host processor."""
        if node.domain != CORE or node.op not in TABLE:
            return refuse(Refusal.OPERATOR, f"sim_card has no op {node.domain}:{node.op}")
        variant = variant_of(target.options)
        if variant is not None and variant.refuses(node):
            return refuse(Refusal.OPERATOR, f"variant {variant.name} does not claim {node.op}")
        if node.op not in _computed():
            return refuse(Refusal.OPERATOR, f"sim_card has no engine for {node.op}")
        values = (*node.inputs, *node.outputs)
        if any(value is not None and value.format is FLOAT64 for value in values):
            return EMULATED
        return NATIVE

    def claim(self, graph: Graph, target: Target) -> Sequence[Claim]:
        """Returns contractions with what is fused into them, and every other node by itself."""
        verdicts = {node.name: self.supports(graph, node, target) for node in graph.nodes}
        fused = claims.regions(graph, lambda n: verdicts[n.name] == NATIVE, target.roofline)
        taken = {name for claim in fused for name in claim.nodes}
        alone = [
            Claim(nodes=(node.name,), support=verdicts[node.name], name=node.op)
            for node in graph.nodes
            if node.name not in taken and verdicts[node.name]
        ]
        return [*fused, *alone]

    def datasheet(self, target: Target) -> NumericsDatasheet:
        """Returns what the sound arithmetic of the target's preset is; defects lie."""
        sheet, variant = datasheet.of(preset_of(target.options)), variant_of(target.options)
        return sheet if variant is None else variant.declare(sheet)

    def compile(
        self, graph: Graph, target: Target, options: Options, pack: ConstantPacker
    ) -> Program:
        """Compiles a graph: structure in the code, constants in the manifest."""
        aliases = _aliases([v.type for v in graph.inputs], [v.type for v in graph.outputs])
        header = ProgramHeader.of(
            _INFO,
            target,
            graph,
            aliases=aliases,
            workspace=workspace_bytes(graph, target.alignment),
        )
        constants = tuple(pack.graph_constant(constant) for constant in graph.constants)
        return Program(header=header, code=serialize.structure(graph), constants=constants)

    def open(self, device: DeviceInfo, options: Options) -> Driver:
        """Opens a card of the host that these options describe.

        Raises:
            Unavailable: The options describe a host without this card.
        """
        parsed = settings.parse(options)
        if device.ordinal >= parsed.count:
            raise Unavailable(
                f"this host has {parsed.count} cards",
                device=device.id,
                remedy="open one that enumerate_devices returned",
            )
        host = HOSTS.acquire(parsed)
        return SimDriver(host, host.cards[device.ordinal])


@cache
def _computed() -> frozenset[str]:
    return frozenset(kernels.BINDERS) | arithmetic.OWN_OPS


def _target(profile: Profile, chosen: Options) -> Target:
    roofline = Roofline(
        operations={
            "int8": profile.int8_rate,
            "float8_e4m3fn": profile.fp8_rate,
            "float16": profile.fp16_rate,
            "float32": profile.fp32_rate,
        },
        memory_bandwidth=profile.memory_bandwidth,
        scratch_bytes=profile.sram_bytes,
        scratch_bandwidth=profile.sram_bandwidth,
        link_bandwidth=profile.link_bandwidth,
    )
    return Target(
        name=_TARGET,
        options=chosen,
        capabilities=_CAPABILITIES,
        alignment=profile.alignment,
        view_alignment=profile.view_alignment,
        roofline=roofline,
    )


def _aliases(
    inputs: Sequence[TensorType], outputs: Sequence[TensorType]
) -> tuple[tuple[int, int], ...]:
    """Pairs each output with the first free input of its type: a donated one may serve it."""
    free: dict[TensorType, deque[int]] = defaultdict(deque)
    for index, kind in enumerate(inputs):
        free[kind].append(index)
    return tuple(
        (index, free[wanted].popleft()) for index, wanted in enumerate(outputs) if free[wanted]
    )
