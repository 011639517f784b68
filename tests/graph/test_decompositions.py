"""The kernel of each composite against its decomposition, in every format it takes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.kernels.api import evaluate
from tests.graph.strategies import Source, add_node

COMPOSITES = [name for name, row in TABLE.items() if row.is_composite]
#: Their operands must be positive.
POSITIVE = {"ReduceLogSum", "BatchNormalization"}


def drawn(value, rng, positive):
    if value.format.is_integer:
        return np.asarray(rng.integers(0, 3, value.shape)).astype(value.format.dtype)
    numbers = np.asarray(rng.standard_normal(value.shape))
    numbers = np.abs(numbers) + 0.1 if positive else numbers
    return np.asarray(numbers).astype(value.format.dtype)


@pytest.mark.parametrize("op", COMPOSITES)
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_kernel_and_decomposition_agree(op, data):
    source = Source(data.draw, least=0)  # empty axes, too
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, results)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    feeds = {v.name: drawn(v, rng, op in POSITIVE) for v in graph.inputs}
    lowered = apply(graph, decompositions())
    kept, made = evaluate(graph, feeds), evaluate(lowered, feeds)
    # Every node of the decomposition rounds once in the result's format or a wider one, and so
    # does every term of its sums; the kernel rounds no more often than that. A function of the
    # kernels counts for four roundings (2 ULP), and numbers drawn here stay near 1.
    terms = max((v.type.count for v in graph.values()), default=1)
    roundings = 4 * len(lowered.nodes) + terms
    for value in graph.outputs:
        one, two = (np.asarray(r[value.name]).astype(np.float64) for r in (kept, made))
        assert np.array_equal(np.isnan(one), np.isnan(two))
        step = 2.0**-value.format.precision if value.format.is_float else 0.0
        scale = np.maximum(np.abs(np.nan_to_num(one, posinf=0, neginf=0)), 1)
        with np.errstate(invalid="ignore"):
            off = np.where((one == two) | np.isnan(one), 0, np.abs(one - two))
        assert np.all(off <= 2 * roundings * step * scale)
