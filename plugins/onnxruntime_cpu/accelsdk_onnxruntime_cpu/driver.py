"""The open device: memory is the host's, a program is a session of onnxruntime.

Nothing is copied on the way in or out: a session reads its operands, and writes its results,
where the views lie. Formats of fewer than 8 bits are the exception; onnxruntime takes them one
element a byte, and they are converted in each run. Constants that a kernel reads as they are
stay where they were read to; onnxruntime adds a copy of those that it packs for a kernel.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnxruntime

from accelsdk.backend.driver import Bound, Driver, MemoryStats, View
from accelsdk.backend.info import DeviceInfo, Options
from accelsdk.backend.program import PackedConstant, Program
from accelsdk.exchange.narrow import data_type
from accelsdk.exchange.storage import from_storage, onnx_type, to_storage
from accelsdk.graph.types import Shape, TensorType
from accelsdk.numerics.codec import from_bytes, to_bytes
from accelsdk_onnxruntime_cpu import settings
from accelsdk_onnxruntime_cpu.failures import FAILURES, explained
from accelsdk_onnxruntime_cpu.memory import Account, Array, Block, contents

_ALIGNMENT = 64


@dataclass(slots=True)
class OrtLoaded:
    """A program ready to run.

    Attributes:
        session: onnxruntime's, None once unloaded.
        inputs: Names, in order.
        outputs: Names, in order.
        types: Names for the types of ``inputs`` and ``outputs``, as onnxruntime has them.
        bounded: Which outputs depend on the data in size.
        constants: What the session reads in place, by digest and type; programs share it.
    """

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, str]
    bounded: frozenset[int]
    constants: Mapping[object, Array]


@dataclass(slots=True)
class OrtBound(Bound):
    """A loaded program with its arguments' addresses; sub-byte ones are staged each run."""

    binding: Any
    unpacked: tuple[tuple[View, Array], ...]
    packed: tuple[tuple[View, Array], ...]
    # A binding is one list of values inside onnxruntime: it runs once at a time.
    lock: threading.Lock = field(default_factory=threading.Lock)


class OrtDriver(Driver):
    """The host, as onnxruntime drives it.

    Args:
        device: What is opened.
        options: Resolved options of the backend.
    """

    def __init__(self, device: DeviceInfo, options: Options) -> None:
        self._device, self._options = device, options
        self._account = Account(device.memories[0].capacity, device.id)

    # -- memory --------------------------------------------------------------------------

    def allocate(self, nbytes: int, memory: str, alignment: int) -> Block:
        """Returns bytes of host memory that start at a multiple of ``alignment``."""
        self._account.reserve(nbytes)
        return Block.of(nbytes, alignment)

    def free(self, handle: Block) -> None:
        """Takes the bytes off the account; they go with the last view."""
        if handle.nbytes:
            self._account.release(handle.nbytes)

    def import_host(self, memory: memoryview) -> Block:
        """Uses host memory in place; it is nobody's on the account."""
        array = np.frombuffer(memory, np.uint8)
        return Block(array, array.ctypes.data, 0)

    def memory_stats(self, memory: str) -> MemoryStats:
        """Returns the account of buffers and loaded constants."""
        return self._account.stats()

    def write(self, dst: View, source: memoryview) -> None:
        """Copies host bytes in."""
        contents(dst)[:] = np.frombuffer(source, np.uint8)

    def read(self, src: View, destination: memoryview) -> None:
        """Copies device bytes out."""
        np.frombuffer(destination, np.uint8)[:] = contents(src)

    def copy(self, dst: View, src: View) -> None:
        """Copies without a detour."""
        contents(dst)[:] = contents(src)

    def fill(self, dst: View, pattern: bytes) -> None:
        """Repeats the pattern."""
        contents(dst).reshape(-1, len(pattern))[:] = np.frombuffer(pattern, np.uint8)

    @contextmanager
    def map(self, view: View) -> Iterator[memoryview]:
        """Yields the bytes themselves: the host is the device."""
        yield contents(view).data

    # -- programs ------------------------------------------------------------------------

    def load(
        self,
        program: Program,
        constants: Iterator[PackedConstant],
        share: OrtLoaded | None = None,
    ) -> OrtLoaded:
        """Takes the constants in, or shares them, and makes a session that reads them there."""
        shared = {} if share is None else share.constants
        kept: dict[object, Array] = {}
        values: dict[str, onnxruntime.OrtValue] = {}
        for packed in constants:
            kind = _known(packed.spec.type)
            key = (packed.spec.digest, kind)
            array = kept.get(key)
            if array is None:
                array = shared.get(key)
            if array is None:
                array = self._constant(packed, kind)
            kept[key] = array
            values[packed.spec.name] = _value(array, kind)
        try:
            session = settings.session(program.code, values, self._options)
        except FAILURES as error:
            raise explained(error, "loading", self._device.id, self._account) from error
        return OrtLoaded(
            session=session,
            inputs=tuple(item.name for item in session.get_inputs()),
            outputs=tuple(item.name for item in session.get_outputs()),
            bounded=frozenset(i for i, o in enumerate(program.header.outputs) if o.bounded),
            types={a.name: a.type for a in (*session.get_inputs(), *session.get_outputs())},
            constants=kept,
        )

    def _constant(self, packed: PackedConstant, kind: TensorType) -> Array:
        """Reads a constant to where the session will find it, one chunk at a time."""
        block = Block.of(packed.spec.nbytes, _ALIGNMENT)
        # Programs may share it: its bytes are given back when the last of them is gone.
        self._account.reserve_for(block.array, packed.spec.nbytes)
        start = 0
        for chunk in packed.chunks():
            block.array[start : start + chunk.nbytes] = np.frombuffer(chunk, np.uint8)
            start += chunk.nbytes
        if kind.format.bits >= 8:
            return block.array
        return to_storage(from_bytes(block.array, kind.format, kind.shape), kind.format)

    def unload(self, loaded: OrtLoaded) -> None:
        """Ends the session; constants go with the last program that reads them."""
        loaded.session, loaded.constants = None, {}

    def bind(self, loaded: OrtLoaded, inputs: Sequence[View], outputs: Sequence[View]) -> OrtBound:
        """Hands the addresses of the views to onnxruntime once, so that a run need not."""
        unpacked: list[tuple[View, Array]] = []
        packed: list[tuple[View, Array]] = []
        binding = loaded.session.io_binding()
        try:
            for name, view in zip(loaded.inputs, inputs, strict=True):
                binding.bind_input(name, "cpu", 0, *_place(view, loaded.types[name], unpacked))
            for index, (name, view) in enumerate(zip(loaded.outputs, outputs, strict=True)):
                if index in loaded.bounded:
                    binding.bind_output(name, "cpu")  # wherever onnxruntime puts it
                else:
                    binding.bind_output(name, "cpu", 0, *_place(view, loaded.types[name], packed))
        except FAILURES as error:
            raise explained(error, "binding", self._device.id, self._account) from error
        return OrtBound(
            loaded=loaded,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            binding=binding,
            unpacked=tuple(unpacked),
            packed=tuple(packed),
        )

    def execute(
        self, loaded: OrtLoaded, inputs: Sequence[View], outputs: Sequence[View]
    ) -> Sequence[Shape] | None:
        """Runs a program once."""
        return self.execute_bound(self.bind(loaded, inputs, outputs))

    def execute_bound(self, bound: OrtBound) -> Sequence[Shape] | None:  # type: ignore[override] # what bind made
        """Runs a bound program once."""
        with bound.lock:
            for view, stage in bound.unpacked:
                _unpack(view, stage)
            try:
                bound.loaded.session.run_with_iobinding(bound.binding)
            except FAILURES as error:
                raise explained(error, "running", self._device.id, self._account) from error
            for view, stage in bound.packed:
                _pack(view, stage)
            return _taken(bound) if bound.loaded.bounded else None

    def close(self) -> None:
        """Nothing to give back: memory goes with the handles."""


def _taken(bound: OrtBound) -> list[Shape]:
    """Copies outputs whose size came with the data into their views; returns all shapes."""
    shapes = [_known(view.type).shape for view in bound.outputs]
    values = bound.binding.get_outputs()
    for index in bound.loaded.bounded:
        view, value = bound.outputs[index], values[index]
        kind = TensorType(_known(view.type).format, tuple(value.shape()))
        shapes[index] = kind.shape
        if not kind.count:
            continue
        size = value.tensor_size_in_bytes()
        stored = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(value.data_ptr()))
        if kind.format.bits < 8:
            _pack(replace(view, nbytes=kind.nbytes, type=kind), stored.reshape(kind.shape))
        else:
            contents(view)[:size] = stored
    return shapes


def _known(kind: TensorType | None) -> TensorType:
    if kind is None:
        raise TypeError("a program's argument or constant has no type")
    return kind


def _place(view: View, name: str, staged: list[tuple[View, Array]]) -> tuple[int, Shape, int]:
    """Returns ONNX type, shape and address of an argument; a sub-byte one's is a stage's."""
    kind = _known(view.type)
    address: int = view.handle.address + view.offset
    if kind.format.bits < 8:
        stage = np.empty(kind.shape, np.int8)
        staged.append((view, stage))
        address = stage.ctypes.data
    # Codes of FP8 lie there as they do in its own type.
    own = name.startswith("tensor(float8")
    return (data_type if own else onnx_type)(kind.format), kind.shape, address


def _value(array: Array, kind: TensorType) -> onnxruntime.OrtValue:
    """Returns a value of onnxruntime's that lies where ``array`` does."""
    width = max(kind.format.bits, 8) // 8
    codes = array.reshape(-1).view(f"u{width}").reshape(kind.shape)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(codes, onnx_type(kind.format))


def _unpack(view: View, stage: Array) -> None:
    kind = _known(view.type)
    stored = to_storage(from_bytes(contents(view), kind.format, kind.shape), kind.format)
    stage[...] = stored.view(np.int8)


def _pack(view: View, stage: Array) -> None:
    kind = _known(view.type)
    stored = stage if kind.format.is_signed and kind.format.is_integer else stage.view(np.uint8)
    data = to_bytes(from_storage(stored, kind.format), kind.format)
    contents(view)[:] = np.frombuffer(data, np.uint8)
