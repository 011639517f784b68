"""Runs one com.microsoft op through onnxruntime, its only other implementation, and here."""

import numpy as np
import onnx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from accelsdk.compiler import pipeline
from accelsdk.kernels.api import evaluate

onnxruntime = pytest.importorskip("onnxruntime")

SMALL = settings(max_examples=25)
SEEDS = st.integers(0, 1 << 16)
BYTES = st.sampled_from([np.uint8, np.int8])


class Data:
    """Contents of operands, from a seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def codes(self, dtype, *shape):
        """All codes of an integer type, alike."""
        info = np.iinfo(dtype)
        return self.rng.integers(info.min, info.max + 1, shape).astype(dtype)

    def zero(self, dtype, *shape):
        """Zero points, not only near the middle."""
        return np.asarray(self.codes(dtype, *shape))

    def reals(self, *shape):
        """Normally distributed float32."""
        return np.asarray(self.rng.standard_normal(shape), np.float32)

    def scale(self, *shape, low=0.01, high=0.1):
        """Positive float32."""
        return np.asarray(self.rng.uniform(low, high, shape), np.float32)

    def indices(self, count, *shape, dtype=np.int32):
        """Indices below ``count``."""
        return self.rng.integers(0, count, shape).astype(dtype)


def scalar(number, dtype=np.float32):
    """A tensor of rank 0."""
    return np.array(number, dtype)


def model(op, operands, *, outputs=1, held=(), domain="com.microsoft", opset_of=18, **attributes):
    """A model of one node.

    Args:
        op: Its name.
        operands: Arrays; None is left out.
        outputs: How many results, or for each whether it is read.
        held: Indices of operands that are initialisers.
        domain: Of the op.
        opset_of: Opset of the model.
        attributes: Of the node.
    """
    names = ["" if a is None else f"x{i}" for i, a in enumerate(operands)]
    wanted = (True,) * outputs if isinstance(outputs, int) else outputs
    results = [f"y{i}" if read else "" for i, read in enumerate(wanted)]
    node = helper.make_node(op, names, results, op, domain=domain, **attributes)
    given, constants = [], []
    for at, (name, array) in enumerate(zip(names, operands, strict=True)):
        if array is None:
            continue
        if at in held:
            constants.append(numpy_helper.from_array(array, name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            given.append(helper.make_tensor_value_info(name, kind, array.shape))
    read = [onnx.ValueInfoProto(name=r) for r in results if r]
    graph = helper.make_graph([node], "g", given, read, constants)
    imports = [helper.make_opsetid("", opset_of), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def peer(made, feeds, *, optimised=True):
    """Results of onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    if not optimised:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=providers)
    return session.run(None, feeds)


def here(made, feeds):
    """Our results, in order."""
    found = evaluate(pipeline.to_core(made), feeds)
    return [found[value.name] for value in made.graph.output]


def both(op, operands, *, held=(), **settings):
    """Pairs of results: onnxruntime's and ours."""
    made = model(op, operands, held=held, **settings)
    feeds = {f"x{i}": a for i, a in enumerate(operands) if a is not None and i not in held}
    pairs = list(zip(peer(made, feeds), here(made, feeds), strict=True))
    for theirs, ours in pairs:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
    return pairs


def check_codes(op, operands, **settings):
    """Quantised results: equal, but for one code in some forty, where a result is a near tie."""
    for theirs, ours in both(op, operands, **settings):
        difference = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        assert difference.max(initial=0) <= 1
        assert np.count_nonzero(difference) <= 1 + difference.size // 40


def check_floats(op, operands, *, terms=1, **settings):
    """Float results: 8 u of the largest magnitude for each of n terms; integers equal."""
    for theirs, ours in both(op, operands, **settings):
        close(ours, theirs, terms)


def close(ours, theirs, terms=1):
    """The comparison of `check_floats`."""
    if theirs.dtype.kind in "iub":
        np.testing.assert_array_equal(ours, theirs)
        return
    unit = 2.0**-11 if theirs.dtype == np.float16 else 2.0**-24
    scale = max(np.abs(theirs.astype(np.float64)).max(initial=0), 1)
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    assert difference.max(initial=0) <= 8 * max(terms, 1) * scale * unit
