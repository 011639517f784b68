"""What is compiled for: any host CPU, through the NumPy kernels of accelsdk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.backend.backend import NATIVE, Backend, Refusal, Support, refuse
from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.info import (
    BackendInfo,
    DeviceInfo,
    Discovery,
    MemoryInfo,
    Options,
    OptionSpec,
    Target,
    Threading,
)
from accelsdk.backend.program import ConstantPacker, Program, ProgramHeader
from accelsdk.graph import serialize
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.ops import TABLE

if TYPE_CHECKING:
    from accelsdk.backend.driver import Driver

_CAPACITY = OptionSpec(
    name="memory", default=8 << 30, help="Bytes of device memory; allocating more fails."
)


class ReferenceCpu(Backend):
    """The reference: every core op and composite, plain and right."""

    @property
    def info(self) -> BackendInfo:
        """Who this is."""
        return BackendInfo(
            name="reference_cpu",
            vendor="accelsdk",
            version="0.1.0",
            description="Plain NumPy on the host: right before fast",
            options=(_CAPACITY,),
        )

    def targets(self, options: Options) -> Sequence[Target]:
        """Returns the one target: programs run on any host."""
        return [Target(name="cpu", capabilities=frozenset({"map", "profiling"}))]

    def enumerate_devices(self, options: Options) -> Discovery:
        """Returns the one device, which is always there."""
        memory = MemoryInfo(capacity=int(options[_CAPACITY.name]), host_visible=True)
        device = DeviceInfo(
            id="reference_cpu:0",
            ordinal=0,
            kind="host CPU (NumPy)",
            target="cpu",
            memories=(memory,),
            threading=Threading.SERIAL,
        )
        return Discovery(devices=(device,))

    def supports(self, graph: Graph, node: Node, target: Target) -> Support:
        """Accepts every op of the core table."""
        if node.domain == CORE and node.op in TABLE:
            return NATIVE
        return refuse(Refusal.OPERATOR, f"no kernel for {node.domain}:{node.op}")

    def datasheet(self, target: Target) -> NumericsDatasheet:
        """Returns what the kernels' arithmetic claims to be."""
        from accelsdk_reference_cpu.datasheet import DATASHEET

        return DATASHEET

    def compile(
        self, graph: Graph, target: Target, options: Options, pack: ConstantPacker
    ) -> Program:
        """Keeps the graph as it is: its structure is the code."""
        header = ProgramHeader.of(self.info, target, graph)
        constants = tuple(pack.graph_constant(constant) for constant in graph.constants)
        return Program(header=header, code=serialize.structure(graph), constants=constants)

    def open(self, device: DeviceInfo, options: Options) -> Driver:
        """Opens the host as a device."""
        from accelsdk_reference_cpu.driver import CpuDriver

        return CpuDriver(device)
