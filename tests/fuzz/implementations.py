"""What a case is run on: plugins through the device API, and onnxruntime by itself."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnxruntime

from accelsdk.backend.backend import Refusal, Support, refuse
from accelsdk.compiler.pipeline import plan
from accelsdk.exchange.export import output_names, to_onnx
from accelsdk.exchange.storage import from_storage, to_storage
from accelsdk.formats import BFLOAT16
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import bounded
from accelsdk.graph.types import Value
from accelsdk.registry import registry
from accelsdk.runtime.client import Client
from accelsdk.runtime.plan import compiled
from accelsdk_onnxruntime_cpu import support

Arrays = Mapping[str, np.ndarray]
onnxruntime.set_default_logger_severity(4)


def exposed(graph: Graph) -> Graph:
    """The same graph with every result as an output, once."""
    return replace(graph, outputs=tuple(v for n in graph.nodes for v in n.outputs if v is not None))


class Plugin:
    """A backend's first device, kept open.

    Args:
        client: Owned from now on.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.device = client.device(0)

    def close(self) -> None:
        self.client.close()
        if self.client.fallback is not None and self.client.fallback.opened:
            self.client.fallback.close()

    def run(self, graph: Graph, feeds: Arrays) -> list[np.ndarray]:
        """Compiles, loads and runs a graph; one array an output."""
        return self._run(self.client.compile(graph), graph, feeds)

    def run_planned(self, graph: Graph, feeds: Arrays) -> tuple[Graph, list[np.ndarray]]:
        """The same; returns the lowered graph, too."""
        found = plan(graph, self.client._places(self.client.targets[0]))
        executable = compiled(found, self.client._all_options())
        return found.graph, self._run(executable, graph, feeds)

    def _run(self, executable, graph: Graph, feeds: Arrays) -> list[np.ndarray]:
        with self.client.load(executable, self.device) as loaded:
            given = [self.device.put(feeds[v.name], format=v.format) for v in graph.inputs]
            result = loaded.execute(given).wait()
            found = [output.numpy() for output in result.outputs]
            for buffer in (*given, *result.outputs):
                buffer.delete()
        return found


def reference() -> Plugin:
    """The reference plugin; every graph whole."""
    return Plugin(Client(registry().backend("reference_cpu")))


def card(**options: str) -> Plugin:
    """The simulated card; every graph whole."""
    return Plugin(Client(registry().backend("sim_card"), {"profile": "test", **options}))


def onnxruntime_plugin() -> Plugin:
    """The plugin of onnxruntime, with the reference for what it refuses."""
    fallback = Client(registry().backend("reference_cpu"))
    backend = registry().backend("onnxruntime_cpu")
    return Plugin(Client(backend, {"threads": 1}, fallback=fallback))


class Choosy(Plugin):
    """A backend that refuses a random half of the nodes, and the reference for these.

    Args:
        base: Name of the backend.
        always: Nodes that it refuses anyway.
    """

    def __init__(self, base: str, always: Callable[[Node], bool], **options: str) -> None:
        chooser = self

        class Refusing(type(registry().backend(base))):
            def supports(self, graph, node: Node, target) -> Support:
                found = super().supports(graph, node, target)
                if found and chooser.refuses(node):
                    return refuse(Refusal.OPERATOR, "refused by chance")
                return found

        self.seed = 0
        self._always = always
        fallback = Client(registry().backend("reference_cpu"))
        super().__init__(Client(Refusing(), options, fallback=fallback))

    def refuses(self, node: Node) -> bool:
        """Whether chance, or the rule, is against a node."""
        return self._always(node) or zlib.crc32(f"{self.seed}/{node.name}".encode()) % 2 == 0


# -- onnxruntime by itself -------------------------------------------------------------------


def taken(node: Node) -> bool:
    """Says whether onnxruntime is asked to run a node: see the plugin's measured table.

    Its Python interface takes no bfloat16; the plugin's addresses do.
    """
    formats = {v.format for v in (*node.inputs, *node.outputs) if v is not None}
    return bool(support.supports(node)) and BFLOAT16 not in formats and not bounded(node)


def supported_part(graph: Graph) -> Graph | None:
    """The nodes that onnxruntime runs; what the others make are inputs. None if there are none."""
    nodes = tuple(node for node in graph.nodes if taken(node))
    if not nodes:
        return None
    made = {v.name for node in nodes for v in node.outputs if v is not None}
    read = {v.name: v for node in nodes for v in node.inputs if v is not None}
    known = {constant.name for constant in graph.constants}
    inputs = tuple(v for v in read.values() if v.name not in made and v.name not in known)
    constants = tuple(c for c in graph.constants if c.name in read)
    outputs: list[Value] = [v for n in nodes for v in n.outputs if v is not None]
    return Graph(inputs, tuple(outputs), constants, nodes, graph.name)


def run_onnxruntime(graph: Graph, feeds: Arrays, *, expand: bool = False) -> dict[str, np.ndarray]:
    """Exports a graph and runs it in onnxruntime, as written; one array an output, by name."""
    model = to_onnx(graph, expand=expand)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {
        v.name: to_storage(np.asarray(feeds[v.name], order="C"), v.format) for v in graph.inputs
    }
    found = session.run(output_names(graph), given)
    return {
        value.name: from_storage(np.asarray(array), value.format)
        for value, array in zip(graph.outputs, found, strict=True)
    }
