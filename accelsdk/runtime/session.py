"""Inference sessions: arrays in, arrays out, called as ONNX Runtime's are."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsdk.backend.info import Options
from accelsdk.backend.program_file import is_program
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk.formats import BFLOAT16, Format
from accelsdk.graph.graph import Array, Graph
from accelsdk.graph.types import Shape
from accelsdk.runtime.buckets import Buckets
from accelsdk.runtime.client import FALLBACK, Client, connect, open_program
from accelsdk.runtime.executable import FAMILY, Executable
from accelsdk.runtime.program_cache import ProgramCache
from accelsdk.runtime.resident import Resident

if TYPE_CHECKING:
    from accelsdk.compiler.importer_signature import Argument

#: What a session takes: an ONNX model, a compiled program, or a graph.
Source = Graph | Executable | str | os.PathLike[str] | bytes

#: A shape that may have open dimensions.
Declared = tuple[int | str | None, ...]

#: ONNX's own spelling of the types whose name is not NumPy's.
_ONNX_NAMES = {"float32": "float", "float64": "double", BFLOAT16.name: "bfloat16"}


@dataclass(frozen=True, slots=True)
class NodeArg:
    """One input or output of a model.

    Attributes:
        name: As in the model.
        shape: One entry a dimension: an extent, or the name of one that is open, or None.
        type: As ONNX Runtime spells it, such as ``"tensor(float)"``.
        format: Number format of the elements.
    """

    name: str
    shape: list[int | str | None] | None
    type: str
    format: Format

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}: {self.format}"
        extents = ",".join("?" if extent is None else str(extent) for extent in self.shape)
        return f"{self.name}: {self.format}[{extents}]"


class InferenceSession:
    """A model on one device, run with NumPy arrays. Thread-safe: runs are one at a time.

    A model with open dimensions is compiled again for each new set of input shapes; the
    newest few are kept, and share their weights on the device. With ``buckets`` a fixed set of
    programs serves every extent of one dimension.

    Args:
        source: Path or bytes of an ONNX model or of a compiled program; or a graph; or what
            `Client.compile` made.
        backend: Name of the backend; or a client, which the session then does not close.
        options: Options of the backend.
        device: Position or identity of the device.
        input_shapes: Shapes of inputs whose own are not fixed, to compile now rather than
            at the first run.
        input_values: Inputs of an ONNX model to bind to constants, by name; the session does
            not have them as inputs.
        buckets: One open dimension of an ONNX model and the extents to compile it for, as
            in ``{"batch": (1, 4, 16)}``; a dimension without a name is ``"INPUT:AXIS"``.
            A run on any extent is made of runs on these, with rows repeated and dropped, or
            in several passes. The dimension must be one of independent rows, which is
            proven: when the session is made if no other dimension is open, else at the
            first run of each combination of the others.
        fallback: As for `accelsdk.connect`, where ``backend`` is a name.
        cache: As for `accelsdk.connect`, where ``backend`` is a name.

    Raises:
        NotFound: There is no such file, backend, device or option.
        ModelError: The model is corrupt.
        UnsupportedGraph: The backend refuses nodes; every reason is listed. Or the rows of
            ``buckets`` are not proven independent.
        InvalidArgument: A shape, a value or a bucket does not fit the model.
    """

    def __init__(
        self,
        source: Source,
        backend: str | Client = "reference_cpu",
        options: Options | None = None,
        *,
        device: int | str = 0,
        input_shapes: Mapping[str, Shape] | None = None,
        input_values: Mapping[str, ArrayLike] | None = None,
        buckets: Mapping[str, Sequence[int]] | None = None,
        fallback: str | None = FALLBACK,
        cache: bool | ProgramCache = False,
    ) -> None:
        self._lock = threading.Lock()
        self._residents: dict[tuple[Shape, ...], Resident] = {}
        self._root: Executable | None = None
        self._model: Graph | Path | bytes | None = None
        self._values: dict[str, Array] = {}
        self._buckets: Buckets | None = None
        self._closed = False
        self._owned = isinstance(backend, str)
        self._client = (
            connect(backend, options, fallback=fallback, cache=cache)
            if isinstance(backend, str)
            else backend
        )
        try:
            self._device = self._client.device(device)
            self._inputs, self._outputs = self._open(source)
            if input_values is not None or buckets is not None:
                self._check_model()
            self._inputs = self._bind(input_values or {})
            self._dtypes = [(a.name, a.format.dtype) for a in self._inputs]
            self._names = {a.name for a in self._inputs}
            if buckets is not None:
                self._buckets = Buckets(buckets, self._inputs, self._read)
            open_shape = any(_is_open(argument) for argument in self._inputs)
            if input_shapes is not None or not open_shape:
                self._compile_now(input_shapes or {})
            elif self._buckets is not None:
                self._buckets.prove_early(self._declared_shapes())
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<InferenceSession on {self._device!r}>"

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the device memory back, and the client if it is the session's own."""
        with self._lock:
            self._closed = True
            for resident in self._residents.values():
                resident.delete()
            self._residents.clear()
        if self._owned:
            self._client.close()

    # -- what the model takes --------------------------------------------------------------

    def get_inputs(self) -> list[NodeArg]:
        """Returns the inputs, in order."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """Returns the outputs, in order."""
        return list(self._outputs)

    def _open(self, source: Source) -> tuple[list[NodeArg], list[NodeArg]]:
        if isinstance(source, Graph):
            self._model = source
            return (
                [_node_arg(v.name, v.format, v.shape) for v in source.inputs],
                [_node_arg(v.name, v.format, v.shape) for v in source.outputs],
            )
        if isinstance(source, bytearray | memoryview):
            source = bytes(source)
        if not isinstance(source, Executable | str | os.PathLike | bytes):
            raise InvalidArgument(
                f"a model cannot be read from a {type(source).__name__}",
                remedy="pass a path, bytes, a Graph or what Client.compile made",
            )
        if not isinstance(source, Executable):
            if not is_program(source):
                return self._open_model(source if isinstance(source, bytes) else Path(source))
            source = open_program(source)
        self._root = source
        return (
            [_node_arg(s.name, s.type.format, s.type.shape) for s in source.inputs],
            [_node_arg(s.name, s.type.format, s.type.shape) for s in source.outputs],
        )

    def _open_model(self, model: Path | bytes) -> tuple[list[NodeArg], list[NodeArg]]:
        from accelsdk.compiler.importer_signature import signature  # reads ONNX: late

        self._model = model
        inputs, outputs = signature(model)
        return [_declared(a) for a in inputs], [_declared(a) for a in outputs]

    def _check_model(self) -> None:
        if not isinstance(self._model, Path | bytes):
            raise InvalidArgument(
                "input_values and buckets are for ONNX models",
                remedy="make the session from the model file",
            )

    def _bind(self, values: Mapping[str, ArrayLike]) -> list[NodeArg]:
        """Keeps the values of bound inputs, and returns the other inputs."""
        from accelsdk.compiler.importer_bound import bound

        declared = {argument.name: argument for argument in self._inputs}
        for name, given in values.items():
            argument = declared.get(name)
            if argument is None:
                listed = ", ".join(map(str, self._inputs)) or "nothing"
                raise InvalidArgument(
                    f"input_values: no input {name!r}", remedy=f"the model takes {listed}"
                )
            array = bound(name, given, argument.format)
            if not _fits(array.shape, argument.shape):
                raise InvalidArgument(
                    f"input_values: {name!r} is given {list(array.shape)}; the model takes "
                    f"{argument}",
                    remedy="give a value of that shape",
                )
            self._values[name] = array
        return [argument for argument in self._inputs if argument.name not in values]

    # -- running ---------------------------------------------------------------------------

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Runs the model once and returns new arrays.

        Args:
            output_names: Which outputs, in which order; None takes all, in the model's.
            feeds: One array an input, by name.

        Raises:
            InvalidArgument: A feed is missing, unknown, or of a wrong shape or dtype; or there
                is no such output. The message names it and lists what there is.
            FailedPrecondition: The session is closed.
        """
        arrays = self._arrays(feeds)
        wanted = self._positions(output_names)
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the session is closed", remedy="make a new one")
            if self._buckets is None:
                outputs = self._run_exact(arrays)
            else:
                outputs = self._run_bucketed(self._buckets, arrays)
        return outputs if wanted is None else [outputs[index] for index in wanted]

    def _run_exact(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        shapes = tuple([array.shape for array in arrays])
        if shapes not in self._residents:
            self._check_shapes(arrays)
        return self._resident(shapes).run(arrays)

    def _run_bucketed(self, buckets: Buckets, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        self._check_shapes(arrays)
        names = [argument.name for argument in self._inputs]
        shapes = {name: array.shape for name, array in zip(names, arrays, strict=True)}
        return buckets.run(arrays, buckets.prove(shapes), self._run_exact)

    def _arrays(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if not isinstance(feeds, Mapping):
            raise InvalidArgument(
                f"the feeds are a {type(feeds).__name__}", remedy="pass a dict of arrays by name"
            )
        if feeds.keys() != self._names:
            self._refuse_names(feeds)
        arrays = []
        for name, dtype in self._dtypes:
            array = self._array(name, feeds[name])
            if array.dtype != dtype:
                raise self._misfit(name, array)
            arrays.append(array)
        return arrays

    def _array(self, name: str, feed: object) -> NDArray[Any]:
        try:
            return np.asarray(feed)
        except (ValueError, TypeError) as error:
            raise InvalidArgument(
                f"feed {name!r} cannot be made an array: {error}",
                remedy=f"pass a NumPy array; the model takes {self._argument(name)}",
            ) from error

    def _argument(self, name: str) -> NodeArg:
        return next(argument for argument in self._inputs if argument.name == name)

    def _check_shapes(self, arrays: Sequence[NDArray[Any]]) -> None:
        for argument, array in zip(self._inputs, arrays, strict=True):
            if not _fits(array.shape, argument.shape):
                raise self._misfit(argument.name, array)

    def _misfit(self, name: str, array: NDArray[Any]) -> InvalidArgument:
        argument = self._argument(name)
        return InvalidArgument(
            f"feed {name!r} is {array.dtype}[{','.join(map(str, array.shape))}]; "
            f"the model takes {argument}",
            remedy=f"convert it to {argument.format.dtype} of that shape",
        )

    def _refuse_names(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        names = [argument.name for argument in self._inputs]
        unknown = [f"no input {name!r}" for name in feeds if name not in names]
        missing = [f"input {name!r} is missing" for name in names if name not in feeds]
        raise InvalidArgument(
            "; ".join((*unknown, *missing)),
            remedy="the model takes " + (", ".join(map(str, self._inputs)) or "nothing"),
        )

    def _positions(self, output_names: Sequence[str] | None) -> list[int] | None:
        if output_names is None:
            return None
        positions = {argument.name: index for index, argument in enumerate(self._outputs)}
        for name in output_names:
            if name not in positions:
                raise InvalidArgument(
                    f"no output {name!r}", remedy="the model gives " + ", ".join(positions)
                )
        return [positions[name] for name in output_names]

    # -- programs --------------------------------------------------------------------------

    def _compile_now(self, shapes: Mapping[str, Shape]) -> None:
        unknown = [name for name in shapes if name not in self._names]
        if unknown:
            listed = ", ".join(map(str, self._inputs))
            raise InvalidArgument(
                f"input_shapes: no input {unknown[0]!r}", remedy=f"the model takes {listed}"
            )
        wrong = [name for name, shape in shapes.items() if not isinstance(shape, Sequence)]
        if wrong:
            raise InvalidArgument(
                f"input_shapes: {shapes[wrong[0]]!r} for {wrong[0]!r} is no shape",
                remedy="give a tuple of integers",
            )
        given = {name: tuple(shape) for name, shape in shapes.items()}
        known: Mapping[str, Declared] = self._declared_shapes() | given
        buckets = self._buckets
        if buckets is not None:
            known = buckets.at(known, buckets.sizes[0])
        fixed = {name: shape for name, shape in known.items() if _is_fixed(shape)}
        for argument in self._inputs:
            if argument.name not in fixed:
                raise InvalidArgument(
                    f"input {argument} has open dimensions", remedy="give them in input_shapes"
                )
        every = [fixed]
        if buckets is not None:
            buckets.prove(fixed)
            every = [buckets.at(fixed, size) for size in buckets.sizes]
        for one in every:
            self._resident(tuple(one[argument.name] for argument in self._inputs))

    def _declared_shapes(self) -> dict[str, Declared]:
        return {a.name: (None,) if a.shape is None else tuple(a.shape) for a in self._inputs}

    def _read(self, shapes: Mapping[str, Shape]) -> Graph:
        """Returns the core graph for these input shapes."""
        return self._client.core_graph(
            self._model_given(), input_shapes=shapes, input_values=self._values
        )

    def _model_given(self) -> Graph | Path | bytes:
        if self._model is None:
            raise InvalidArgument("the session has no model")
        return self._model

    def _resident(self, shapes: tuple[Shape, ...]) -> Resident:
        """Returns the program for these input shapes, on the device."""
        resident = self._residents.pop(shapes, None)
        if resident is None or not resident.usable:
            named = {a.name: s for a, s in zip(self._inputs, shapes, strict=True)}
            newest = next(reversed(self._residents.values()), None)
            executable = self._executable(named)
            share = newest.loaded if newest is not None and newest.usable else None
            resident = self._client.load(executable, self._device, share=share).resident()
        self._residents[shapes] = resident
        if len(self._residents) > max(FAMILY, len(self._buckets.sizes) if self._buckets else 0):
            self._residents.pop(next(iter(self._residents))).delete()
        return resident

    def _executable(self, shapes: Mapping[str, Shape]) -> Executable:
        if self._root is not None:
            return self._root.specialise(shapes)
        model = self._model_given()
        given = None if isinstance(model, Graph) else shapes
        target = self._device.info.target
        return self._client.compile(
            model, target=target, input_shapes=given, input_values=self._values or None
        )


def _fits(shape: Shape, declared: list[int | str | None] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(
        not isinstance(wanted, int) or wanted == extent
        for extent, wanted in zip(shape, declared, strict=True)
    )


def _is_open(argument: NodeArg) -> bool:
    return argument.shape is None or not _is_fixed(tuple(argument.shape))


def _is_fixed(shape: Declared) -> TypeGuard[Shape]:
    return all(isinstance(extent, int) for extent in shape)


def _declared(argument: Argument) -> NodeArg:
    return _node_arg(argument.name, argument.format, argument.shape)


def _node_arg(name: str, format: Format, shape: Sequence[int | str | None] | None) -> NodeArg:
    spelled = _ONNX_NAMES.get(format.name, format.name.replace("_", ""))
    listed = None if shape is None else list(shape)
    return NodeArg(name, listed, f"tensor({spelled})", format)
