"""The interface `onnx.backend.base` in front of any plugin.

What speaks to ONNX's backend interface speaks to accelerators through it::

    from accelsdk.frontends import onnx_backend

    rep = onnx_backend.prepare(model, device="sim_card:1")
    outputs = rep.run([array])

A device is written ``PLUGIN``, ``PLUGIN:ORDINAL``, or ``CPU`` for the reference plugin.

Shapes come with the inputs of a run, so that is when a model is compiled; programs for the
newest shapes are kept. Some operators need an operand at compile time that ONNX lets a caller
feed (the shape of a Reshape, say): such inputs are bound to the values that they are fed with,
and no others; another value compiles again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend import base

from accelsdk.backend.info import Options, OptionValue
from accelsdk.compiler.pipeline import to_core
from accelsdk.errors import InvalidArgument, ModelError, NotFound, UnsupportedGraph
from accelsdk.graph.graph import Graph
from accelsdk.registry import registry
from accelsdk.runtime.client import Client, connect
from accelsdk.runtime.executable import FAMILY
from accelsdk.runtime.session import InferenceSession

#: The plugin behind the device name "CPU", which every ONNX backend has.
CPU = "reference_cpu"

_Key = tuple[object, ...]


class AccelRep(base.BackendRep):
    """A model that was prepared for one device. One run at a time.

    Args:
        model: Borrowed until the end.
        client: Where to run it.
        ordinal: On which of the client's devices.

    Raises:
        ModelError: An input or an output is no tensor.

    Attributes:
        static: Names of the inputs that are bound to their values when a program is compiled.
        folded: Whether the newest program was computed while it was compiled: no node was
            left to run.
    """

    def __init__(self, model: onnx.ModelProto, client: Client, ordinal: int) -> None:
        self._model = model
        self._client = client
        self._ordinal = ordinal
        constant = {tensor.name for tensor in model.graph.initializer}
        given = [item for item in model.graph.input if item.name not in constant]
        for what, items in (("input", given), ("output", model.graph.output)):
            for item in items:
                if item.type.WhichOneof("value") not in ("tensor_type", None):
                    raise ModelError(
                        f"{what} {item.name!r} is no tensor",
                        remedy="sequences, maps and optional values stay within a model",
                    )
        self._names = [item.name for item in given]
        self._sessions: dict[_Key, InferenceSession] = {}
        self.static: frozenset[str] = frozenset()
        self.folded = False

    def run(self, inputs: object, **kwargs: object) -> tuple[Any, ...]:
        """Runs the model once.

        Args:
            inputs: Arrays in the order of the model's inputs, or by name; TensorProtos are
                read. One array alone will do for one input.
            kwargs: None is heeded.

        Returns:
            New arrays, one an output.

        Raises:
            InvalidArgument: Number, dtype or shape of the inputs is wrong.
            UnsupportedGraph: The model cannot be lowered, or the plugin refuses it.
        """
        feeds = dict(self._fed(inputs))
        session = self._session(feeds)
        return tuple(session.run(None, {a.name: feeds[a.name] for a in session.get_inputs()}))

    def close(self) -> None:
        """Gives the programs on the device back."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _fed(self, inputs: object) -> Iterator[tuple[str, NDArray[Any]]]:
        given: Mapping[str, object]
        if isinstance(inputs, Mapping):
            given = inputs
        else:
            listed = _listed(inputs)
            if len(listed) > len(self._names):
                names = ", ".join(self._names) or "none"
                raise InvalidArgument(
                    f"{len(listed)} inputs given", remedy=f"the model's inputs are {names}"
                )
            given = dict(zip(self._names, listed, strict=False))
        for name in self._names:
            if name not in given:
                raise InvalidArgument(f"input {name!r} is missing", remedy="feed every input")
            yield name, _array(name, given[name])

    def _session(self, feeds: Mapping[str, NDArray[Any]]) -> InferenceSession:
        key = self._key(feeds)
        if key not in self._sessions:
            graph = self._graph(feeds)
            key = self._key(feeds)  # compiling finds out which inputs are static
            self._sessions[key] = InferenceSession(graph, self._client, device=self._ordinal)
            self.folded = not graph.nodes
            if len(self._sessions) > FAMILY:
                self._sessions.pop(next(iter(self._sessions))).close()
        return self._sessions[key]

    def _key(self, feeds: Mapping[str, NDArray[Any]]) -> _Key:
        return tuple(
            (name, array.shape, array.tobytes() if name in self.static else None)
            for name, array in feeds.items()
        )

    def _graph(self, feeds: Mapping[str, NDArray[Any]]) -> Graph:
        """Returns the core graph for these feeds, with as few inputs bound as will do."""
        shapes = {name: array.shape for name, array in feeds.items()}
        while True:
            values = {name: feeds[name] for name in self.static}
            try:
                return to_core(self._model, input_shapes=shapes, input_values=values)
            except UnsupportedGraph as error:
                sources = _sources(self._model.graph, set(error.not_constant))
                more = sources & feeds.keys() - self.static
                if not more:
                    raise
                # Shapes, sizes and positions are integers: they alone do in most cases.
                whole = {name for name in more if feeds[name].dtype.kind in "iub"}
                self.static |= whole or more


class AccelBackend(base.Backend):
    """ONNX's backend interface over the plugins of accelsdk.

    `backend` returns it for another plugin than the reference.
    """

    plugin = CPU
    options: ClassVar[Options] = {}
    #: What runs the nodes that the plugin refuses; None refuses the model.
    fallback: ClassVar[str | None] = CPU

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: object) -> AccelRep:
        """Makes a model ready for a device.

        Args:
            model: Not changed, and not to be changed until the last run.
            device: ``PLUGIN``, ``PLUGIN:ORDINAL`` or ``CPU``.
            kwargs: None is heeded.

        Raises:
            ModelError: The model is not valid.
            NotFound: There is no such device.
        """
        client, ordinal = cls._open(device)
        return AccelRep(model, client, ordinal)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: object,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,  # noqa: ANN401 # as in the interface
    ) -> tuple[Any, ...]:
        """Runs one node by itself.

        Args:
            node: The node.
            inputs: Arrays, one for each operand that the node names.
            device: As for `prepare`.
            outputs_info: Not needed: types are inferred.
            kwargs: ``opset_version`` says which version of the operator is meant; the newest
                if left out.
        """
        names = [name for name in node.input if name]
        arrays = [_array(name, item) for name, item in zip(names, _listed(inputs), strict=True)]
        given = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in zip(names, arrays, strict=True)
        ]
        made = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", given, made)
        opset = int(kwargs.get("opset_version", 0)) or onnx.defs.onnx_opset_version()
        imports = [onnx.helper.make_opsetid(node.domain, opset)]
        model = onnx.helper.make_model(graph, opset_imports=imports)
        rep = cls.prepare(model, device)
        try:
            return rep.run(arrays)
        finally:
            rep.close()

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Says whether a device of that name is here."""
        try:
            client, ordinal = cls._open(device)
        except NotFound:
            return False
        return ordinal < len(client.devices)

    @classmethod
    def _open(cls, device: str) -> tuple[Client, int]:
        name, _, ordinal = device.partition(":")
        if ordinal and not ordinal.isdecimal():
            raise NotFound(f"no device {device!r}", remedy="write PLUGIN or PLUGIN:ORDINAL")
        plugin = cls.plugin if name == "CPU" else name
        options = cls.options if plugin == cls.plugin else {}
        return _client(plugin, tuple(sorted(options.items())), cls.fallback), int(ordinal or 0)


def backend(
    plugin: str, options: Options | None = None, *, fallback: str | None = CPU
) -> type[AccelBackend]:
    """Returns ONNX's backend interface with ``plugin`` as its device "CPU".

    Args:
        plugin: Name of the plugin's backend.
        options: Its options.
        fallback: Name of the backend that runs the nodes which the plugin refuses; None
            refuses the model, with every reason.

    Raises:
        NotFound: There is no such backend.
    """
    registry().backend(plugin)
    chosen = {"plugin": plugin, "options": dict(options or {}), "fallback": fallback}
    return type(f"AccelBackend_{plugin}", (AccelBackend,), chosen)


@cache
def _client(
    plugin: str, options: tuple[tuple[str, OptionValue], ...], fallback: str | None
) -> Client:
    # One for each plugin, for as long as the process lives: the interface has no close.
    return connect(plugin, dict(options), fallback=fallback)


def _listed(inputs: object) -> Sequence[object]:
    return inputs if isinstance(inputs, list | tuple) else [inputs]


def _array(name: str, item: object) -> NDArray[Any]:
    if isinstance(item, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(item))
    if isinstance(item, np.ndarray | np.generic | int | float):
        return np.asarray(item)
    raise InvalidArgument(
        f"input {name!r} is a {type(item).__name__}",
        remedy="feed an array; sequences, maps and optional values are not supported",
    )


def _sources(graph: onnx.GraphProto, wanted: set[str]) -> set[str]:
    """Returns everything that the wanted values of a graph are computed from, and themselves."""
    found = set(wanted)
    for node in reversed(graph.node):
        # What a node's function body computes is named after the node.
        inside = f"{node.name or next(iter(node.output), '')}/"
        if found.intersection(node.output) or any(name.startswith(inside) for name in wanted):
            found.update(node.input)
    return found


#: The interface as a module has it.
prepare = AccelBackend.prepare
run_model = AccelBackend.run_model
run_node = AccelBackend.run_node
supports_device = AccelBackend.supports_device
is_compatible = AccelBackend.is_compatible
