"""The device under test, behind the SDK that frameworks use.

All operands and results of a case lie in one allocation, each result between guard bytes. The
host writes the whole of it once (results and guards hold a poison byte), runs the program, and
reads the whole of it back: a result that was not written keeps the poison, a write beside a
result shows in the guards, and a damaged operand shows too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import accelsdk
from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.info import OptionValue
from accelsdk.errors import AccelError
from accelsdk.formats import UINT8
from accelsdk.graph import ops
from accelsdk.graph.graph import CORE, Constant, Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.client import Client
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk_conformance.examine import SentinelOverwritten
from accelsdk_conformance.oracles.tensor import Tensor, unpack
from accelsdk_conformance.problem import Problem

_GUARD = 64  # least bytes of poison around every tensor
_BLOCKING = ExecuteOptions(block=True)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one tensor lies in the allocation."""

    type: TensorType
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.type.nbytes


def graph_of(problem: Problem) -> Graph:
    """Returns the problem as a graph of one node.

    Raises:
        GraphError: A defect of the generator: the node breaks a rule of the op table.
    """
    values = [
        None if tensor is None else Value(f"operand{i}", TensorType(tensor.format, tensor.shape))
        for i, tensor in enumerate(problem.operands)
    ]
    types = ops.infer(
        problem.op,
        [None if value is None else value.type for value in values],
        problem.attributes,
        problem.outputs,
    )
    outputs = tuple(Value(f"result{i}", kind) for i, kind in enumerate(types))
    node = Node(
        problem.op,
        tuple(values),
        outputs,
        attributes=problem.attributes,
        domain=CORE,
        name="node",
        origin=("node",),
    )
    constants = tuple(
        _constant(value, tensor)
        for i, (value, tensor) in enumerate(zip(values, problem.operands, strict=True))
        if i in problem.constants and value is not None and tensor is not None
    )
    inputs = tuple(
        value for i, value in enumerate(values) if value is not None and i not in problem.constants
    )
    return Graph(inputs, outputs, constants, (node,), name="case")


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
        executable = self.client.compile(graph_of(problem))
        with self.client.load(executable, self.device) as loaded:
            tensors = _given(problem.operands, problem)
            places, size = self._layout(
                [TensorType(tensor.format, tensor.shape) for tensor in tensors]
                + [spec.type for spec in executable.outputs]
            )
            arena = self._memory(size)
            views = [arena.view(place.offset, place.type) for place in places]
            count = len(tensors)
            # One tensor given for several operands is one buffer for all of them.
            known = {id(tensor): i for i, tensor in reversed([*enumerate(tensors)])}
            inputs = [views[known[id(tensor)]] for tensor in tensors]
            try:
                if problem.before is not None:
                    earlier = _given(problem.before, problem)
                    arena.copy_from_host(_image(earlier, places, size, poison))
                    loaded.execute(inputs, views[count:], _BLOCKING)
                image = _image(tensors, places, size, poison)
                arena.copy_from_host(image)
                for _ in range(problem.runs):
                    loaded.execute(inputs, views[count:], _BLOCKING)
                after = bytearray(size)
                arena.copy_to_host(after)
                results = [
                    _Place(TensorType(view.format, view.valid_shape), view.offset)
                    for view in views[count:]
                ]
            except AccelError:
                # A failed run poisons the memory that it was to fill: later cases get another.
                self._arena = None
                raise
            finally:
                for view in views:
                    view.delete()
        _check_guards(image, after, places[count:])
        return tuple(
            unpack(memoryview(after)[place.offset : place.end], place.type.format, place.type.shape)
            for place in results
        )

    def _layout(self, types: list[TensorType]) -> tuple[list[_Place], int]:
        target = self.device.target
        step = max(target.alignment, target.view_alignment, _GUARD)
        places, offset = [], step
        for kind in types:
            places.append(_Place(kind, offset))
            offset += -(-kind.nbytes // step) * step + step
        return places, offset

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


def _given(operands: Sequence[Tensor | None], problem: Problem) -> list[Tensor]:
    """Returns the operands that are inputs of the program."""
    return [
        tensor
        for i, tensor in enumerate(operands)
        if tensor is not None and i not in problem.constants
    ]


def _image(tensors: list[Tensor], places: list[_Place], size: int, poison: int) -> bytearray:
    """Returns the bytes of the allocation: operands in their places, poison elsewhere."""
    image = bytearray([poison]) * size
    for tensor, place in zip(tensors, places, strict=False):
        image[place.offset : place.end] = tensor.packed()
    return image


def _check_guards(before: bytearray, after: bytearray, outputs: list[_Place]) -> None:
    """Raises if anything but the results has changed."""
    covered = bytearray(after)
    for place in outputs:
        covered[place.offset : place.end] = before[place.offset : place.end]
    if covered == before:
        return
    at = next(i for i, (a, b) in enumerate(zip(before, covered, strict=True)) if a != b)
    near = min(outputs, key=lambda place: min(abs(at - place.offset), abs(at - place.end)))
    raise SentinelOverwritten(
        f"byte {at} of the allocation changed from 0x{before[at]:02X} to 0x{covered[at]:02X}; "
        f"the nearest result, {near.type}, lies at {near.offset} to {near.end}"
    )


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
