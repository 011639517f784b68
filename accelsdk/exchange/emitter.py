"""Collects ONNX nodes, with their constants, for a graph or for the body of a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from onnx import FunctionProto, NodeProto, TensorProto, helper

from accelsdk.exchange.storage import tensor
from accelsdk.formats import Format, from_dtype

#: The standard opset that exported models import (its IR version is 11).
OPSET: Final = 23
#: Domain of the functions that stand for ops ONNX does not have.
DOMAIN: Final = "accelsdk"


class Functions:
    """The functions of one model, one for each op, attributes and operand types.

    Args:
        detours: Whether nodes that onnxruntime computes wrongly become functions, too.
    """

    def __init__(self, detours: bool = True) -> None:
        self.detours = detours
        self.by_key: dict[tuple[object, ...], FunctionProto] = {}
        self._counts: dict[str, int] = {}

    def name(self, op: str) -> str:
        """Returns an unused name for a function of that op."""
        count = self._counts[op] = self._counts.get(op, 0) + 1
        return op if count == 1 else f"{op}_{count}"


class Emitter:
    """Collects nodes.

    Attributes:
        nodes: Nodes so far, in execution order.
        functions: The functions of the model.

    Args:
        functions: Shared by all emitters of a model.
        taken: Names that fresh ones must avoid.
    """

    def __init__(self, functions: Functions, taken: Sequence[str] = ()) -> None:
        self.nodes: list[NodeProto] = []
        self.functions = functions
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """Returns an unused name, and takes it."""
        while True:
            count = self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}.{count}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 # as onnx.helper takes
        """Emits a standard node with one result, and returns the result's name."""
        result = self.fresh(op)
        self.emit(op, inputs, (result,), attributes)
        return result

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        name: str = "",
    ) -> None:
        """Emits a node with results of given names; an empty name stands for none."""
        given = {k: v for k, v in (attributes or {}).items() if v is not None}
        self.nodes.append(
            helper.make_node(op, _trimmed(inputs), list(outputs), name, domain=domain, **given)
        )

    def constant(self, array: ArrayLike, format: Format | None = None) -> str:
        """Emits a Constant; the dtype gives the format unless it is given."""
        contents = np.asarray(array, dtype=None if format is None else format.dtype)
        value = tensor("", contents, format or from_dtype(contents.dtype))
        return self.node("Constant", value=value)

    def ints(self, numbers: Sequence[int]) -> str:
        """Emits a 1-D int64 Constant."""
        return self.constant(np.array(numbers, np.int64))

    def cast(self, x: str, to: int) -> str:
        """Emits a Cast to an ONNX data type."""
        return self.node("Cast", x, to=to)

    def float32(self, x: str) -> str:
        """Emits a Cast to FLOAT."""
        return self.cast(x, TensorProto.FLOAT)


def _trimmed(inputs: Sequence[str]) -> list[str]:
    """Returns inputs without the empty ones at the end."""
    kept = list(inputs)
    while kept and not kept[-1]:
        kept.pop()
    return kept
