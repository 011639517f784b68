"""Fixtures: one-node core graphs, and the same node in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from accelsdk.formats import by_name, from_dtype
from accelsdk.graph.graph import Node
from accelsdk.graph.ops import infer
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run

#: ONNX takes these attributes of the core op as operands, in this order, from that position.
_OPERANDS = {
    "ReduceSum": ["axes"],
    "ReduceProd": ["axes"],
    "ReduceMax": ["axes"],
    "ReduceMin": ["axes"],
    "ReduceMean": ["axes"],
    "ReduceL1": ["axes"],
    "ReduceL2": ["axes"],
    "ReduceSumSquare": ["axes"],
    "ReduceLogSum": ["axes"],
    "ReduceLogSumExp": ["axes"],
    "CumSum": ["axis"],
    "TopK": ["k"],
    "Reshape": ["shape"],
    "Expand": ["shape"],
    "Tile": ["repeats"],
    "Slice": ["starts", "ends", "axes", "steps"],
    "Split": ["split"],
    "Pad": ["pads"],
    "Resize": ["roi", "scales"],
}


def make_node(op: str, operands: Sequence, outputs: int = 1, mx: Sequence[int] = (), **attributes):
    """A node whose types are inferred; operands at positions ``mx`` are MXINT8 codes."""
    types = [
        None
        if array is None
        else TensorType(
            by_name("mxint8") if i in mx else from_dtype(array.dtype), tuple(array.shape)
        )
        for i, array in enumerate(operands)
    ]
    found = infer(op, types, attributes, outputs)
    return Node(
        op,
        tuple(None if t is None else Value(f"in{i}", t) for i, t in enumerate(types)),
        tuple(Value(f"out{i}", t) for i, t in enumerate(found)),
        attributes,
        name="node",
    )


@pytest.fixture
def compute() -> Callable:
    """Runs a core op and checks that results are of the declared types."""

    def call(op: str, *operands, outputs: int = 1, mx: Sequence[int] = (), **attributes):
        arrays = [None if x is None else np.asarray(x) for x in operands]
        before = [None if x is None else x.copy() for x in arrays]
        node = make_node(op, arrays, outputs, mx, **attributes)
        results = run(node, arrays)
        assert len(results) == outputs
        for value, array in zip(node.outputs, results, strict=True):
            assert isinstance(array, np.ndarray)
            assert (array.dtype, array.shape) == (value.format.dtype, value.shape)
        for old, array in zip(before, arrays, strict=True):
            assert old is None or old.tobytes() == array.tobytes(), "an operand was written"
        return results[0] if outputs == 1 else results

    return call


@pytest.fixture
def peer() -> Callable:
    """Runs the same op in onnxruntime: (op, operands, outputs, opset, **core attributes)."""
    ort = pytest.importorskip("onnxruntime")
    import onnx
    from onnx import helper

    def call(op: str, *operands, outputs: int = 1, opset: int = 21, name: str = "", **attributes):
        attributes = dict(attributes)
        operands = list(operands)
        extra: list = []
        for key in _OPERANDS.get(op, []):
            if key not in attributes:
                continue
            value = attributes.pop(key)
            if key in ("roi", "scales"):
                extra.append(np.array(value, np.float32))
            elif key == "k":
                extra.append(np.array([value], np.int64))
            else:
                extra.append(np.array(value, np.int64))
        operands = operands[:1] + extra + operands[1:] if extra else operands
        attributes.pop("output_shape", None)
        names = ["" if x is None else f"i{i}" for i, x in enumerate(operands)]
        node = helper.make_node(name or op, names, [f"o{i}" for i in range(outputs)], **attributes)
        graph = helper.make_graph(
            [node],
            "g",
            [
                helper.make_tensor_value_info(
                    n, helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape)
                )
                for n, x in zip(names, operands, strict=True)
                if x is not None
            ],
            [onnx.ValueInfoProto(name=f"o{i}") for i in range(outputs)],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
        )
        model = onnx.shape_inference.infer_shapes(model)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {n: x for n, x in zip(names, operands, strict=True) if x is not None}
        results = session.run(None, feeds)
        return results[0] if outputs == 1 else results

    return call


def ulp(reference: np.ndarray, dtype=np.float32) -> np.ndarray:
    """Unit in the last place of each reference value, as verdicts define it."""
    info = np.finfo(dtype)
    magnitude = np.maximum(np.abs(reference.astype(np.float64)), float(info.smallest_normal))
    return 2.0 ** (np.floor(np.log2(magnitude)) - info.nmant)


@pytest.fixture
def within_ulp() -> Callable:
    """Asserts |actual - reference| <= limit ulp, elementwise; NaN and Inf must agree."""

    def check(actual: np.ndarray, reference: np.ndarray, limit: float, floor: float = 0.0) -> None:
        assert actual.shape == reference.shape
        special = ~np.isfinite(reference)
        assert np.array_equal(actual[special], reference[special].astype(actual.dtype), True)
        ref, got = reference[~special].astype(np.float64), actual[~special].astype(np.float64)
        bound = np.maximum(limit * ulp(ref, actual.dtype), floor)
        worst = np.abs(got - ref) - bound
        assert worst.size == 0 or worst.max() <= 0, (ref[worst.argmax()], got[worst.argmax()])

    return check


@pytest.fixture
def within_sum() -> Callable:
    """Asserts the any-order bound of sums: |actual - reference| <= gamma_n * sum |terms|.

    Higham, Accuracy and Stability of Numerical Algorithms, section 3.1; two implementations
    compared give twice the bound.
    """

    def check(actual, reference, magnitudes, terms: int, peers: int = 2, eps=2.0**-24) -> None:
        gamma = terms * eps / (1 - terms * eps)
        bound = peers * gamma * np.asarray(magnitudes, np.float64) + 2.0**-140
        assert actual.shape == reference.shape
        error = np.abs(actual.astype(np.float64) - reference.astype(np.float64))
        assert np.all(error <= bound), float((error / bound).max())

    return check
