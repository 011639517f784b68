"""The device under test, behind the SDK that frameworks use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import accelsdk
from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.info import OptionValue
from accelsdk.errors import AccelError
from accelsdk.formats import UINT8
from accelsdk.graph import ops
from accelsdk.graph.graph import CORE, Attribute, Constant, Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.client import Client
from accelsdk.runtime.executable import ExecuteOptions, LoadedExecutable
from accelsdk_conformance.arena import Part, Place, check_guards, image, inputs_of, lay_out, result
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Problem

_GUARD = 64  # least bytes of poison around every tensor
_BLOCKING = ExecuteOptions(block=True)


def graph_of(*problems: Problem) -> Graph:
    """Returns problems as one graph, in which they have nothing to do with each other.

    Raises:
        GraphError: A defect of the generator: a node breaks a rule of the op table.
    """
    nodes: list[Node] = []
    inputs: list[Value] = []
    constants: list[Constant] = []
    outputs: list[Value] = []
    for number, problem in enumerate(problems):
        operands = _operands(problem, number)
        for i, (value, tensor) in enumerate(zip(operands, problem.operands, strict=True)):
            if value is None or tensor is None:
                continue
            if i in problem.constants:
                constants.append(_constant(value, tensor))
            else:
                inputs.append(value)
        nodes += _nodes(problem, number, operands)
        outputs += [value for value in nodes[-1].outputs if value is not None]
    return Graph(tuple(inputs), tuple(outputs), tuple(constants), tuple(nodes), name="case")


def _operands(problem: Problem, number: int) -> list[Value | None]:
    return [
        None
        if tensor is None
        else Value(f"operand{number}.{i}", TensorType(tensor.format, tensor.shape))
        for i, tensor in enumerate(problem.operands)
    ]


def _nodes(problem: Problem, number: int, operands: Sequence[Value | None]) -> Iterator[Node]:
    """Yields the node of a problem, and those behind it."""
    inputs = operands[: len(problem.own)]
    node = _node(f"{number}", problem.op, inputs, problem.attributes, problem.outputs)
    yield node
    for index, step in enumerate(problem.then):
        inputs = [node.result, *(operands[i] for i in step.operands)]
        node = _node(f"{number}.then{index}", step.op, inputs, step.attributes)
        yield node


def _node(
    number: str,
    op: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Attribute],
    outputs: int = 1,
) -> Node:
    types = ops.infer(op, [None if v is None else v.type for v in inputs], attributes, outputs)
    results = tuple(Value(f"result{number}.{i}", kind) for i, kind in enumerate(types))
    name = f"node{number}"
    return Node(
        op, tuple(inputs), results, attributes=attributes, domain=CORE, name=name, origin=(name,)
    )


def _constant(value: Value, tensor: Tensor) -> Constant:
    """Wraps codes as the host array that the graph keeps (one element an item)."""
    codes = tensor.codes
    if tensor.format.bits < 8 and tensor.format.is_signed and tensor.format.is_integer:
        codes = tensor.integers.astype("int8").view("uint8")
    array = codes.view(tensor.format.dtype)
    return Constant(value, lambda: array)


class ClientSubject:
    """One device of a plugin, opened through the SDK.

    Args:
        plugin: Name of the backend.
        options: Its options.
        index: Of the device.

    Raises:
        NotFound: There is no such backend or option.
        Unavailable: It has no device.
    """

    def __init__(self, plugin: str, options: Mapping[str, OptionValue], index: int = 0) -> None:
        # Without a fallback: what another backend computed would say nothing of this one.
        self.client: Client = accelsdk.connect(plugin, dict(options), fallback=None)
        self.device = self.client.device(index)
        self._datasheet = self.client.backend.datasheet(self.device.target)
        self._arena: Buffer | None = None

    @property
    def datasheet(self) -> NumericsDatasheet:
        """What the plugin claims its arithmetic to be."""
        return self._datasheet

    def describe(self) -> dict[str, Any]:
        """Returns backend, device and claims, for the report."""
        info = self.client.backend.info
        return {
            "backend": info.name,
            "vendor": info.vendor,
            "version": info.version,
            "description": info.description,
            "device": self.device.id,
            "kind": self.device.kind,
            "target": self.device.target.name,
            "capabilities": sorted(self.device.capabilities),
            "options": {key: str(value) for key, value in sorted(self.client.options.items())},
            "claims": _claims(self._datasheet),
        }

    def run(self, problem: Problem, poison: int) -> tuple[Tensor, ...]:
        """Runs one problem; see `examine.Subject.run`."""
        (outputs,) = self.run_together([replace(problem, poison=poison)])
        return outputs

    def run_together(self, problems: Sequence[Problem]) -> list[tuple[Tensor, ...]]:
        """Runs problems as one program; see `together.Company.run_together`."""
        executable = self.client.compile(graph_of(*problems))
        with self.client.load(executable, self.device) as loaded:
            target = self.device.target
            step = max(target.alignment, target.view_alignment, _GUARD)
            parts = lay_out(problems, [spec.type for spec in executable.outputs], step)
            try:
                return self._executed(loaded, parts, problems[0])
            except AccelError:
                # A failed run poisons the memory that it was to fill: later cases get another.
                self._arena = None
                raise

    def _executed(
        self, loaded: LoadedExecutable, parts: Sequence[Part], first: Problem
    ) -> list[tuple[Tensor, ...]]:
        """Fills the memory, runs the program, reads the memory; ``first`` says how often."""
        arena = self._memory(parts[-1].end)
        with ExitStack() as views:

            def view(place: Place) -> Buffer:
                return views.enter_context(arena.view(place.offset, place.type))

            inputs = [one for part in parts for one in _inputs(part, view)]
            results = [[view(place) for place in part.results] for part in parts]
            outputs = [one for own in results for one in own]
            if first.before is not None:
                earlier = replace(parts[0], given=inputs_of(first, first.before))
                arena.copy_from_host(image([earlier]))
                loaded.execute(inputs, outputs, _BLOCKING)
            before = image(parts)
            arena.copy_from_host(before)
            for _ in range(first.runs):
                loaded.execute(inputs, outputs, _BLOCKING)
            after = bytearray(len(before))
            arena.copy_to_host(after)
            shapes = [[one.valid_shape for one in own] for own in results]
        check_guards(before, after, parts)
        return [
            tuple(result(after, *pair) for pair in zip(part.results, own, strict=True))
            for part, own in zip(parts, shapes, strict=True)
        ]

    def _memory(self, size: int) -> Buffer:
        """Returns an allocation of at least ``size`` bytes, kept from case to case."""
        if self._arena is None or self._arena.is_deleted() or self._arena.nbytes < size:
            if self._arena is not None:
                self._arena.delete()
            self._arena = self.device.empty(UINT8, (max(size, 1 << 20),))
        return self._arena

    def release(self) -> None:
        """Gives up the allocation that is kept from case to case."""
        if self._arena is not None:
            self._arena.delete()
            self._arena = None

    def recover(self) -> None:
        """Resets a device that has failed, so that one fault costs one case.

        Raises:
            DeviceFault: It does not come back.
        """
        if self.device.fault is not None:
            self._arena = None  # it did not survive
            self.device.reset()

    def close(self) -> None:
        """Gives the device back."""
        self.release()
        self.client.close()


def _inputs(part: Part, view: Callable[[Place], Buffer]) -> list[Buffer]:
    """Returns views of the inputs: one for all operands that are one tensor."""
    known: dict[int, Buffer] = {}
    for tensor, place in zip(part.given, part.operands, strict=True):
        if id(tensor) not in known:
            known[id(tensor)] = view(place)
    return [known[id(tensor)] for tensor in part.given]


def _claims(datasheet: NumericsDatasheet) -> list[list[str]]:
    """Returns every claim as (field, entry, value), for the report."""
    found: list[list[str]] = []
    for name in ("contractions", "integers", "casts", "mx", "functions", "reductions"):
        for key, value in sorted(getattr(datasheet, name).items()):
            found.append([name, ", ".join(key), _brief(value)])
    for name in ("quantize", "requantize"):
        value = getattr(datasheet, name)
        if value is not None:
            found.append([name, "", _brief(value)])
    return found


def _brief(spec: object) -> str:
    text = repr(spec)
    return text[text.index("(") + 1 : -1] if "(" in text else text
