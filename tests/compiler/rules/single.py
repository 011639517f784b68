"""One node, lowered and evaluated, or run by onnxruntime."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accelsdk.compiler import pipeline
from accelsdk.kernels.api import evaluate


def model_of(
    op: str,
    operands: Sequence[np.ndarray | None],
    constant: Sequence[int] = (),
    *,
    outputs: int = 1,
    opset: int = 23,
    **attributes,
) -> onnx.ModelProto:
    """A model of one node; operands at ``constant`` are initialisers, None is left out."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, op, **attributes)
    held = [numpy_helper.from_array(operands[i], names[i]) for i in constant]
    inputs = [
        helper.make_tensor_value_info(
            names[i], helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for i, array in enumerate(operands)
        if array is not None and i not in constant
    ]
    graph = helper.make_graph(
        [node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in results], held
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def lowered(op, operands, constant=(), **settings) -> list[np.ndarray]:
    """What the node comes to on the reference kernels."""
    graph = pipeline.to_core(model_of(op, operands, constant, **settings))
    feeds = {value.name: operands[int(value.name[1:])] for value in graph.inputs}
    found = evaluate(graph, feeds)
    return [found[value.name] for value in graph.outputs]


def onnxruntime_of(op, operands, constant=(), **settings) -> list[np.ndarray]:
    """What the node comes to on onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = model_of(op, operands, constant, **settings)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {i.name: operands[int(i.name[1:])] for i in session.get_inputs()})


def close(found, expected, steps: float, scale=None) -> None:
    """Checks shape, dtype and values.

    Args:
        found: Computed, and rounded to its dtype at the end.
        expected: The same in float64, without rounding.
        steps: Roundings, each to 2**-24 (float64: 2**-53) of the scale, in which it may be off.
        scale: Magnitude of the terms; default: of the result.
    """
    expected = np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    finite = np.abs(expected[np.isfinite(expected)])
    largest = finite.max(initial=0) if scale is None else scale
    unit = 2.0**-53 if found.dtype == np.float64 else 2.0**-24
    own = {2: 2.0**-11, 4: 2.0**-24, 8: 2.0**-53}[found.dtype.itemsize]
    atol = steps * unit * largest + own * np.abs(np.where(np.isfinite(expected), expected, 0))
    actual = found.astype(np.float64)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    error = np.abs(np.where(np.isfinite(expected), actual - expected, 0))
    assert (error <= atol).all(), (error.max(initial=0), atol.max(initial=0))


def uniform(*shape, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """Numbers in -1 .. 1."""
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)
