"""What every test of a pass asserts."""

import numpy as np

from accelsdk.compiler.passes.manager import run_passes
from accelsdk.formats import BOOL
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate


def ops(graph):
    return [node.op for node in graph.nodes]


def feeds(graph, seed=0):
    """Small numbers of every input's format: signs, fractions where there are any."""
    random = np.random.default_rng(seed)

    def numbers(value):
        if value.format is BOOL:
            return random.integers(0, 2, value.shape).astype(bool)
        low = -4 if value.format.is_signed else 0
        if value.format.is_integer:
            return random.integers(low, 5, value.shape).astype(value.format.dtype)
        return (random.standard_normal(value.shape) * 2).astype(value.format.dtype)

    return {value.name: numbers(value) for value in graph.inputs}


def bits(arrays):
    """Contents that tell -0.0 from 0.0; every NaN is the same."""
    found = {}
    for name, array in arrays.items():
        whole = np.ascontiguousarray(array)
        if whole.dtype.kind == "f":
            whole = np.where(np.isnan(whole), np.nan, whole).astype(whole.dtype)
        found[name] = whole.tobytes()
    return found


def optimised(graph, *passes, given=None):
    """Runs passes; the result is valid, at a fix-point, and names no origin of its own."""
    after = run_passes(graph, passes)
    verify(after)
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
    assert all(step.run(after) is after for step in passes)
    named = {name for node in graph.nodes for name in node.origin}
    named |= {value.name for value in graph.outputs}
    assert {name for node in after.nodes for name in node.origin} <= named
    assert all(node.origin for node in after.nodes)
    return after


def same_bits(graph, *passes, given=None):
    """`optimised`, for passes that keep every bit."""
    after = optimised(graph, *passes)
    fed = feeds(graph) if given is None else given
    with np.errstate(all="ignore"):
        assert bits(evaluate(after, fed)) == bits(evaluate(graph, fed))
    return after
