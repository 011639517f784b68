"""Weights with a scale for each block, against onnxruntime."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.compiler import pipeline
from accelsdk.errors import AccelError
from tests.compiler.rules.microsoft_peer import (
    SEEDS,
    SMALL,
    Data,
    check_codes,
    check_floats,
    here,
    model,
)


def _weights(make, rows, depth, bits, block, zeros):
    """Packed codes, scales, and zero points: none, packed, or float."""
    blocks = -(-depth // block)
    codes = make.codes(np.uint8, rows, blocks, block * bits // 8)
    packed = make.codes(np.uint8, rows, -(-blocks * bits // 8))
    given = {"none": None, "packed": packed, "float": make.reals(rows, blocks)}[zeros]
    return codes, make.scale(rows, blocks), given


@SMALL
@given(
    batch=st.sampled_from([(), (2,), (2, 1)]),
    depth=st.sampled_from([16, 33, 64, 100]),
    bits=st.sampled_from([2, 4, 8]),
    block=st.sampled_from([16, 32]),
    zeros=st.sampled_from(["none", "packed", "float"]),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_matmul(batch, depth, bits, block, zeros, bias, seed):
    make, rows = Data(seed), 6
    if bits == 8 and zeros == "float":
        zeros = "packed"  # onnxruntime has no kernel
    codes, scales, zero = _weights(make, rows, depth, bits, block, zeros)
    operands = [make.reals(*batch, 3, depth), codes, scales, zero, None]
    check_floats(
        *("MatMulNBits", [*operands, make.reals(rows) if bias else None]),
        held=(1, 2, 3, 5),
        terms=depth,
        **{"K": depth, "N": rows, "bits": bits, "block_size": block},
    )


def test_matmul_of_half_precision():
    make = Data(1)
    codes, scales, _ = _weights(make, 6, 64, 4, 16, "none")
    a = make.reals(3, 64).astype(np.float16)
    node = {"K": 64, "N": 6, "bits": 4, "block_size": 16}
    operands = [a, codes, scales.astype(np.float16)]
    check_floats("MatMulNBits", operands, held=(1, 2), terms=2, **node)


@pytest.mark.parametrize("zeros", ["none", "float"])
def test_columns_in_groups_of_their_own(zeros):
    make, depth = Data(2), 64
    codes, scales, zero = _weights(make, 6, depth, 4, 16, zeros)
    groups = make.rng.permutation(np.arange(depth) // 16).astype(np.int32)
    node = {"K": depth, "N": 6, "bits": 4, "block_size": 16}
    operands = [make.reals(3, depth), codes, scales, zero, groups]
    check_floats("MatMulNBits", operands, held=(1, 2, 3, 4), terms=depth, **node)


def test_groups_have_their_own_zero_points():
    """onnxruntime passes over packed zero points here: compared with the definition."""
    make, rows, depth = Data(3), 2, 64
    codes, scales, zero = _weights(make, rows, depth, 4, 16, "packed")
    groups = make.rng.permutation(np.arange(depth) // 16).astype(np.int32)
    made = model(
        "MatMulNBits",
        [np.eye(depth, dtype=np.float32), codes, scales, zero, groups],
        held=(1, 2, 3, 4),
        **{"K": depth, "N": rows, "bits": 4, "block_size": 16},
    )
    (found,) = here(made, {"x0": np.eye(depth, dtype=np.float32)})
    whole, zeros = (
        np.stack([x.reshape(rows, -1) & 15, x.reshape(rows, -1) >> 4], -1).reshape(rows, -1)
        for x in (codes, zero)
    )
    expected = (whole.astype(np.float32) - zeros[:, groups]) * scales[:, groups]
    np.testing.assert_array_equal(found, expected.T)


def test_weights_stay_narrow():
    make = Data(4)
    codes, scales, zero = _weights(make, 64, 128, 4, 32, "packed")
    node = {"K": 128, "N": 64, "bits": 4, "block_size": 32}
    made = model("MatMulNBits", [make.reals(2, 128), codes, scales, zero], held=(1, 2, 3), **node)
    graph = pipeline.to_core(made)
    packed = {c.value.format.name: c.value.type.nbytes for c in graph.constants}
    assert packed["uint4"] == codes.nbytes or packed["uint4"] == zero.nbytes
    assert sum(c.value.type.nbytes for c in graph.constants) <= (
        codes.nbytes + scales.nbytes + zero.nbytes + 64
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 3}, "bits 3"),
        ({"weight_prepacked": 1}, "prepacked"),
        ({"N": 7}, "do not hold 7 x 64 codes"),
    ],
)
def test_refusals_say_why(change, words):
    make = Data(5)
    codes, scales, _ = _weights(make, 6, 64, 4, 16, "none")
    node = {"K": 64, "N": 6, "bits": 4, "block_size": 16} | change
    made = model("MatMulNBits", [make.reals(3, 64), codes, scales], held=(1, 2), **node)
    with pytest.raises(AccelError, match=words):
        here(made, {})


def test_weights_made_at_run_time_are_refused():
    make = Data(6)
    codes, scales, _ = _weights(make, 6, 64, 4, 16, "none")
    node = {"K": 64, "N": 6, "bits": 4, "block_size": 16}
    with pytest.raises(AccelError, match=r"packed weights .* must be constant"):
        here(model("MatMulNBits", [make.reals(3, 64), codes, scales], **node), {})


# -- GatherBlockQuantized ----------------------------------------------------------------------


@SMALL
@given(
    signed=st.booleans(),
    axes=st.sampled_from([(0, 1), (1, 0), (0, -1), (0, 2), (2, 0)]),
    shape=st.sampled_from([(), (3,), (2, 2)]),
    zeros=st.booleans(),
    seed=SEEDS,
)
def test_gather(signed, axes, shape, zeros, seed):
    make, block = Data(seed), 16
    gather, along = axes
    extents = [4, 5, 3] if max(axes) > 1 else [4, 5]
    extents[along] = 40
    scales = list(extents)
    scales[along] = 3
    dtype = ml_dtypes.int4 if signed else ml_dtypes.uint4
    low, high = (-8, 8) if signed else (0, 16)
    operands = [
        make.rng.integers(low, high, extents).astype(dtype),
        np.asarray(make.rng.integers(-extents[gather], extents[gather], shape)),
        make.scale(*scales),
        make.rng.integers(low, high, scales).astype(dtype) if zeros else None,
    ]
    node = {"block_size": block, "gather_axis": gather, "quantize_axis": along}
    check_floats("GatherBlockQuantized", operands, held=(0, 2, 3), **node)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_gather_of_packed_codes(bits, zeros):
    make = Data(bits)
    operands = [
        make.codes(np.uint8, 5, 48 * bits // 8),
        make.indices(5, 2, 3),
        make.scale(5, 3),
        make.codes(np.uint8, 5, -(-3 * bits // 8)) if zeros else None,
    ]
    node = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1, "bits": bits}
    check_floats("GatherBlockQuantized", operands, held=(0, 2, 3), **node)


# -- QuantizeLinear and DequantizeLinear -------------------------------------------------------


@SMALL
@given(
    kind=st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
    axis=st.sampled_from([None, 0, 1, -1]),
    zeros=st.booleans(),
    seed=SEEDS,
)
def test_quantize_and_dequantize(kind, axis, zeros, seed):
    make = Data(seed)
    count = () if axis is None else ((3, 7)[axis],)
    node = {} if axis is None else {"axis": axis}
    scale, zero = make.scale(*count), make.zero(kind, *count)
    codes = make.codes(kind, 3, 7)
    check_floats("DequantizeLinear", [codes, scale, *([zero] if zeros else [])], **node)
    check_codes("QuantizeLinear", [make.reals(3, 7) * 50, scale, zero], **node)


def test_dequantize_of_sums():
    make = Data(7)
    check_floats("DequantizeLinear", [make.codes(np.int32, 3, 7), make.scale()])
