"""Constant folding: what it computes, what it leaves, and what it does not hold."""

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.compiler.passes.constant_folding import CONSTANT_FOLDING
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.pipeline import PASSES
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from tests.compiler.passes.checks import ops, optimised, same_bits


@pytest.mark.parametrize("side", [4, 100])
@pytest.mark.parametrize("stored", [f.INT8, f.UINT8, f.INT4, f.UINT4, f.E4M3, f.E2M1])
@pytest.mark.parametrize("by", ["Cast", "Dequantize"])
def test_low_bit_weights_stay_as_they_are_stored(by, stored, side):
    """The pattern of weight-only quantised transformers, small and large."""
    b = Builder()
    x = b.input("x", f.FLOAT32, (200, side))
    codes = np.arange(side * side).reshape(side, side) % 4
    weights = b.constant(codes.astype(stored.dtype), stored, name="w")
    turned = b.op("Transpose", weights, perm=(1, 0))
    scale = b.constant(np.linspace(0.1, 0.2, side, dtype=np.float32), name="s")
    if by == "Cast":
        wide = b.op("Mul", b.op("Cast", turned, to="float32"), scale)
    else:
        wide = b.op("Dequantize", turned, scale, axis=1)
    after = optimised(b.graph([x], [b.op("MatMul", x, wide)]), *PASSES)
    assert ops(after) == [*(["Cast", "Mul"] if by == "Cast" else [by]), "MatMul"]
    held = {c.value.shape: c.value.format for c in after.constants}
    assert held == {(side, side): stored, (side,): f.FLOAT32}


def test_an_integer_bias_stays_what_it_is():
    b = Builder()
    x, s = b.input("x", f.FLOAT32, (4,)), b.scalar(0.1, f.FLOAT32)
    bias = b.op("Dequantize", b.constant(np.ones(4, np.int32), name="b"), s)
    graph = b.graph([x], [b.op("Add", x, bias)])
    assert CONSTANT_FOLDING.run(graph) is graph


@pytest.mark.parametrize(
    ("stored", "shape"), [(f.INT8, ()), (f.INT8, (1, 1)), (f.BOOL, (2, 3)), (f.INT8, (5,))]
)
def test_scalars_masks_and_lists_are_computed(stored, shape):
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3, 5))
    wide = b.op("Cast", b.constant(np.ones(shape, stored.dtype), stored, name="c"), to="float32")
    wide = wide if shape != (2, 3) else b.op("Reshape", wide, shape=(2, 3, 1))
    after = same_bits(b.graph([x], [b.op("Add", x, wide)]), CONSTANT_FOLDING, DEAD_CODE)
    assert ops(after) == ["Add"]


def test_large_results_are_computed_when_they_are_asked_for():
    loads = []
    source = np.arange(1 << 20, dtype=np.float32).reshape(1 << 10, 1 << 10)

    def load():
        loads.append(1)
        return source

    weights = Constant(Value("w", TensorType(f.FLOAT32, source.shape)), load)
    b = Builder()
    x = b.input("x", f.FLOAT32, (1, 1 << 10))
    y = b.op("MatMul", x, b.op("Transpose", weights.value, perm=(1, 0)))
    after = optimised(Graph((x,), (y,), (weights,), tuple(b.nodes)), *PASSES)
    assert not loads
    (turned,) = after.constants
    np.testing.assert_array_equal(turned.array(), source.T)
    assert len(loads) == 1


def test_what_a_kernel_refuses_stays_for_the_run():
    b = Builder()
    x, index = b.input("x", f.FLOAT32, (3,)), b.constant(np.array([7]), name="i")
    row = b.op("Gather", b.constant(np.ones(3, np.float32), name="c"), index, axis=0)
    graph = b.graph([x], [b.op("Add", x, row)])
    assert CONSTANT_FOLDING.run(graph) is graph
