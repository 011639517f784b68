"""What is compiled for: any host CPU, through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.backend.backend import NATIVE, Backend, Claim, Support
from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.info import (
    BackendInfo,
    DeviceInfo,
    Discovery,
    MemoryInfo,
    Options,
    Requirement,
    Target,
    Threading,
)
from accelsdk.backend.program import ConstantPacker, Program, ProgramHeader
from accelsdk.errors import Unavailable
from accelsdk.graph.graph import Graph, Node
from accelsdk_onnxruntime_cpu import settings

if TYPE_CHECKING:
    from accelsdk.backend.driver import Driver

_ONNXRUNTIME = Requirement(module="onnxruntime", install="pip install 'accelsdk[onnxruntime]'")


class OnnxruntimeCpu(Backend):
    """onnxruntime on the host: a runtime that accelsdk did not write."""

    @property
    def info(self) -> BackendInfo:
        """Who this is."""
        return BackendInfo(
            name="onnxruntime_cpu",
            vendor="accelsdk",
            version="0.1.0",
            description="onnxruntime on the host, fed the lowered graph as ONNX",
            options=settings.OPTIONS,
            requires=(_ONNXRUNTIME,),
        )

    def targets(self, options: Options) -> Sequence[Target]:
        """Returns the one target: programs run on any host."""
        chosen = {settings.KERNELS.name: options[settings.KERNELS.name]}
        capabilities = frozenset({"map", "host-import"})
        return [Target(name="cpu", options=chosen, capabilities=capabilities)]

    def enumerate_devices(self, options: Options) -> Discovery:
        """Returns the host, or the command that installs onnxruntime."""
        for package in self.info.missing():
            return Discovery(devices=(), reason=f"{package}: {package.install}")
        memory = MemoryInfo(capacity=int(options[settings.MEMORY.name]), host_visible=True)
        device = DeviceInfo(
            id="onnxruntime_cpu:0",
            ordinal=0,
            kind="host CPU (onnxruntime)",
            target="cpu",
            memories=(memory,),
            threading=Threading.FREE,
        )
        return Discovery(devices=(device,))

    def supports(self, graph: Graph, node: Node, target: Target) -> Support:
        """Accepts what onnxruntime was measured to run right; see `support`."""
        from accelsdk_onnxruntime_cpu.support import supports

        return supports(node, _every(target))

    def claim(self, graph: Graph, target: Target) -> Sequence[Claim]:
        """Takes what becomes one op of ONNX as one region, the rest node by node."""
        from accelsdk.exchange.export import groups

        alone = {claim.nodes[0]: claim for claim in super().claim(graph, target)}
        regions = [
            Claim(nodes=tuple(sorted(group.nodes)), support=NATIVE, name=group.name)
            for group in groups(graph)
            if group.nodes <= alone.keys()
        ]
        inside = {name for region in regions for name in region.nodes}
        return [*regions, *(claim for name, claim in alone.items() if name not in inside)]

    def datasheet(self, target: Target) -> NumericsDatasheet:
        """Returns what onnxruntime's arithmetic was measured to be."""
        from accelsdk_onnxruntime_cpu.datasheet import DATASHEET

        return DATASHEET

    def compile(
        self, graph: Graph, target: Target, options: Options, pack: ConstantPacker
    ) -> Program:
        """Exports the graph; the model without its constants is the code."""
        from accelsdk.exchange.export import to_onnx

        header = ProgramHeader.of(self.info, target, graph)
        model = to_onnx(graph, contents=False, detours=not _every(target))
        known = graph.constant_by_name
        constants = tuple(pack.graph_constant(known[kept.name]) for kept in model.graph.initializer)
        code = model.SerializeToString(deterministic=True)
        return Program(header=header, code=code, constants=constants)

    def open(self, device: DeviceInfo, options: Options) -> Driver:
        """Opens the host as a device.

        Raises:
            Unavailable: onnxruntime is not installed, or cannot be imported.
        """
        try:
            from accelsdk_onnxruntime_cpu.driver import OrtDriver
        except ImportError as error:
            raise Unavailable(
                f"onnxruntime cannot be imported: {error}",
                remedy=_ONNXRUNTIME.install,
                backend=self.info.name,
            ) from error
        return OrtDriver(device, options)


def _every(target: Target) -> bool:
    """Says whether kernels are used that were measured to go wrong."""
    return target.options[settings.KERNELS.name] == settings.EVERY
