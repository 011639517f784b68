"""Transforms, windows, running products, bits and sequences against direct evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.errors import UnsupportedGraph
from tests.compiler.rules.single import close, lowered, uniform

FEW = settings(max_examples=40)
MANY = settings(max_examples=150)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=3)


def int64(*numbers):
    return np.array(numbers, np.int64)


def complexes(x):
    """Pairs along the last axis as complex numbers; single ones as real."""
    wide = x.astype(np.float64)
    return wide[..., 0] + 1j * wide[..., 1] if x.shape[-1] == 2 else wide[..., 0]


def pairs(z):
    return np.stack([z.real, z.imag], axis=-1)


# -- transforms --------------------------------------------------------------------------------


@MANY
@given(data=st.data(), dtype=FLOATS, inverse=st.booleans(), onesided=st.booleans())
def test_dft(data, dtype, inverse, onesided):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    least = 2 if inverse and onesided else 1
    length = data.draw(st.none() | st.integers(1, 12))
    shape[axis] = max(shape[axis], least)
    parts = 1 + inverse if onesided else data.draw(st.integers(1, 2))
    x = uniform(*shape, parts, dtype=dtype)
    signed = data.draw(st.sampled_from([axis, axis - len(shape) - 1]))
    found = lowered(
        "DFT",
        [x, None if length is None else int64(length).reshape(()), int64(signed).reshape(())],
        [2] if length is None else [1, 2],
        inverse=int(inverse),
        onesided=int(onesided),
    )[0]
    z, count = complexes(x), length or (2 * (shape[axis] - 1) if least == 2 else shape[axis])
    if inverse and onesided:
        expected = np.fft.irfft(z, count, axis)[..., None]
    elif onesided:
        expected = pairs(np.fft.rfft(z, count, axis))
    else:
        expected = pairs((np.fft.ifft if inverse else np.fft.fft)(z, count, axis))
    # a sum of 2n products of weights that are rounded themselves, of terms up to 2 in size
    close(found, expected, 8 * count, scale=2 * (1 if inverse else count))


@pytest.mark.parametrize("length", [1023, 1025, 1500, 1537, 2048, 4096, 4099, 6000])
@pytest.mark.parametrize("inverse", [0, 1])
def test_long_dft(length, inverse):
    x = uniform(2, length, 2)
    found = lowered("DFT", [x], inverse=inverse)[0]
    z = complexes(x)
    expected = pairs((np.fft.ifft if inverse else np.fft.fft)(z))
    # root mean square, which a transform keeps but for sqrt(n): log2(n) levels, a few u each
    norm = np.sqrt(np.mean(np.abs(z) ** 2) * (1 / length if inverse else length))
    assert np.sqrt(np.mean((found - expected) ** 2)) <= 4 * np.log2(length) * 2.0**-24 * norm


@pytest.mark.parametrize("length", [1500, 2049, 3001])
def test_long_real_dft(length):
    x = uniform(1, length, 1)
    half = lowered("DFT", [x], onesided=1)[0]
    expected = np.fft.rfft(x[..., 0].astype(np.float64))
    assert half.shape == (1, length // 2 + 1, 2)
    norm = np.sqrt(np.mean(x.astype(np.float64) ** 2) * length)
    assert np.sqrt(np.mean(np.abs(complexes(half) - expected) ** 2)) <= 2.0**-18 * norm
    half[0, 0, 1] += 5  # does not count: that item is its own conjugate
    back = lowered("DFT", [half, int64(length)], [1], onesided=1, inverse=1)[0]
    assert np.abs(back - x).max() <= 2.0**-18


def test_long_transforms_need_no_large_constants():
    from accelsdk.compiler import pipeline
    from tests.compiler.rules.single import model_of

    for length in (4096, 4099):  # the latter is prime
        graph = pipeline.to_core(model_of("DFT", [uniform(1, length, 2)]))
        assert sum(c.value.type.nbytes for c in graph.constants) < 100 * length * 8


@pytest.mark.parametrize(
    ("shape", "attributes", "reason"),
    [
        ((2, 5, 3), {}, "no real or complex"),
        ((2, 5, 2), {"onesided": 1}, "takes real numbers forward"),
        ((2, 5, 1), {"onesided": 1, "inverse": 1}, "takes real numbers forward"),
        ((2, 1, 2), {"onesided": 1, "inverse": 1}, "length 0"),
    ],
)
def test_dft_is_refused(shape, attributes, reason):
    with pytest.raises(UnsupportedGraph, match=reason):
        lowered("DFT", [uniform(*shape)], **attributes)


@FEW
@given(data=st.data(), dtype=FLOATS, windowed=st.sampled_from(["none", "run", "constant"]))
def test_stft(data, dtype, windowed):
    length = data.draw(st.integers(1, 12))
    frame = data.draw(st.integers(1, length))
    step, parts = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 2))
    onesided = data.draw(st.integers(0, 1)) if parts == 1 else 0
    x = uniform(data.draw(st.integers(1, 2)), length, parts, dtype=dtype)
    window = None if windowed == "none" else uniform(frame, seed=1, dtype=dtype)
    given_length = window is None or data.draw(st.booleans())
    operands = [x, int64(step).reshape(()), window]
    operands += [int64(frame).reshape(())] if given_length else []
    constant = [1, *([2] if windowed == "constant" else []), *([3] if given_length else [])]
    found = lowered("STFT", operands, constant, onesided=onesided)[0]
    z = complexes(x)
    frames = [z[:, i : i + frame] for i in range(0, length - frame + 1, step)]
    weights = 1 if window is None else window.astype(np.float64)
    transform = np.fft.rfft if onesided else np.fft.fft
    expected = pairs(np.stack([transform(f * weights) for f in frames], axis=1))
    close(found, expected, 8 * frame + 8, scale=2 * frame)


WINDOWS = {"HannWindow": (0.5, 0.5, 0), "HammingWindow": (25 / 46, 21 / 46, 0)}
WINDOWS["BlackmanWindow"] = (0.42, 0.5, 0.08)


@pytest.mark.parametrize("op", WINDOWS)
@pytest.mark.parametrize("size", [0, 1, 2, 9])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize(("code", "dtype"), [(1, np.float32), (10, np.float16), (11, np.float64)])
def test_windows(op, size, periodic, code, dtype):
    found = lowered(
        op, [np.array(size, np.int32)], [0], periodic=periodic, output_datatype=code, opset=20
    )[0]
    assert found.dtype == dtype
    a, b, c = WINDOWS[op]
    period = size if periodic else size - 1
    at = [0.5 if period == 0 else i / period for i in range(size)]
    expected = [a - b * np.cos(2 * np.pi * t) + c * np.cos(4 * np.pi * t) for t in at]
    close(found, expected, 4 if dtype == np.float64 else 1, scale=1)


@pytest.mark.parametrize("bands", [1, 8, 30])
@pytest.mark.parametrize("length", [16, 33, 400])
def test_mel_weights(bands, length):
    from onnx.reference import ReferenceEvaluator

    from tests.compiler.rules.single import model_of

    operands = [int64(bands), int64(length), int64(16000)]
    operands = [a.reshape(()) for a in operands] + [np.float32(0), np.float32(7900)]
    operands = list(map(np.asarray, operands))
    found = lowered("MelWeightMatrix", operands, range(5))[0]
    model = model_of("MelWeightMatrix", operands)
    expected = ReferenceEvaluator(model).run(None, {f"x{i}": a for i, a in enumerate(operands)})[0]
    np.testing.assert_array_equal(found, expected)


def test_mel_weights_beyond_the_spectrum_are_refused():
    numbers = [int64(8), int64(16), int64(8000), np.float32([0]), np.float32([9000])]
    with pytest.raises(UnsupportedGraph, match="beyond the 9 items"):
        lowered("MelWeightMatrix", [a.reshape(()) for a in numbers], range(5))


# -- running products, sequences ---------------------------------------------------------------


@MANY
@given(
    data=st.data(),
    shape=SHAPES,
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.int32, np.int64, np.uint32]),
    exclusive=st.booleans(),
    reverse=st.booleans(),
)
def test_cumprod(data, shape, dtype, exclusive, reverse):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = (uniform(*shape) * 9).astype(dtype)
    found = lowered(
        "CumProd",
        [x, np.array(axis)],
        [1],
        exclusive=int(exclusive),
        reverse=int(reverse),
        opset=26,
    )[0]
    flipped = np.flip(x, axis) if reverse else x
    with np.errstate(over="ignore"):
        made = np.cumprod(flipped, axis, dtype=dtype)
    if exclusive and x.shape[axis]:
        made = np.roll(made, 1, axis)
        made[tuple(slice(0, 1) if i == axis % x.ndim else slice(None) for i in range(x.ndim))] = 1
    np.testing.assert_array_equal(found, np.flip(made, axis) if reverse else made)


def test_cumprod_does_not_overflow_in_between():
    x = np.array([1e-4, 300, 300, 0.5], np.float16)
    found = lowered("CumProd", [x, np.array(0)], [1], opset=26)[0]
    np.testing.assert_array_equal(found, np.cumprod(x, dtype=np.float16))
    assert np.isfinite(found).all()


@FEW
@given(data=st.data(), rest=st.lists(st.integers(1, 3), max_size=2), time=st.integers(0, 1))
def test_reverse_sequence(data, rest, time):
    shape = [data.draw(st.integers(0, 5)), data.draw(st.integers(0, 4)), *rest]
    x = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    lengths = [data.draw(st.integers(0, shape[time])) for _ in range(shape[1 - time])]
    found = lowered("ReverseSequence", [x, int64(*lengths)], time_axis=time, batch_axis=1 - time)[0]
    expected = x.copy()
    for i, n in enumerate(lengths):
        if time == 0:
            expected[:n, i] = x[:n, i][::-1]
        else:
            expected[i, :n] = x[i, :n][::-1]
    np.testing.assert_array_equal(found, expected)


@FEW
@given(data=st.data(), circular=st.booleans(), given_start=st.booleans())
def test_tensor_scatter(data, circular, given_start):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    axis = data.draw(st.integers(1, len(shape) - 1))
    count = data.draw(st.integers(0, shape[axis]))
    cache = uniform(*shape, dtype=data.draw(FLOATS))
    part = [count if i == axis else n for i, n in enumerate(shape)]
    update = uniform(*part, seed=1, dtype=cache.dtype)
    room = shape[axis] - count
    starts = [data.draw(st.integers(0, 9 if circular else room)) for _ in range(shape[0])]
    found = lowered(
        "TensorScatter",
        [cache, update, *([int64(*starts)] if given_start else [])],
        axis=data.draw(st.sampled_from([axis, axis - len(shape)])),
        mode="circular" if circular else "linear",
        opset=24,
    )[0]
    expected = cache.copy()
    for i in range(shape[0]):
        for s in range(count):
            at = ((starts[i] if given_start else 0) + s) % shape[axis]
            np.moveaxis(expected[i], axis - 1, 0)[at] = np.moveaxis(update[i], axis - 1, 0)[s]
    np.testing.assert_array_equal(found, expected)


# -- bits --------------------------------------------------------------------------------------


@MANY
@given(data=st.data(), bits=st.sampled_from([8, 16, 32, 64]), signed=st.booleans())
def test_bit_shift(data, bits, signed):
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    numbers = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=6))
    near = st.integers(-2 if signed else 0, bits + 2) | st.integers(low, high)
    amounts = data.draw(st.lists(near, min_size=len(numbers), max_size=len(numbers)))
    direction = data.draw(st.sampled_from(["LEFT", "RIGHT"]))
    found = lowered(
        "BitShift",
        [np.array(numbers, dtype), np.array(amounts, dtype)],
        direction=direction,
        opset=26 if signed else 11,
    )[0]

    def shifted(x, y):
        y = y if 0 <= y <= bits else bits
        made = x >> y if direction == "RIGHT" else x << y
        made &= (1 << bits) - 1
        return made - (1 << bits) if signed and made >> (bits - 1) else made

    expected = [shifted(x, y) for x, y in zip(numbers, amounts, strict=True)]
    assert found.dtype == dtype
    assert found.tolist() == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_mod_has_the_sign_of_the_divisor(dtype):
    numbers = np.array([0.0, -0.0, 4.3, -4.3, 7, -7, 1e4, -1e-5, np.inf, np.nan], dtype)
    divisors = np.array([1, -1, 2.1, -2.1, 5, 0.0, np.inf, -np.inf], dtype)
    x, y = numbers[:, None], divisors
    found = lowered("Mod", [x, y])[0]
    with np.errstate(all="ignore"):
        expected = np.mod(x, y)
    np.testing.assert_array_equal(found, expected)
    defined = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[defined], np.signbit(expected)[defined])


BITCASTS = [(np.float32, 6), (np.int32, 1), (np.float64, 7), (np.uint16, 10), (np.bool_, 2)]


@pytest.mark.parametrize(("dtype", "to"), BITCASTS)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_bit_cast_of_constants(dtype, to, shape):
    from onnx import helper

    x = (uniform(*shape) * 100).astype(dtype)
    found = lowered("BitCast", [x], [0], to=to, opset=26)[0]
    np.testing.assert_array_equal(found, x.view(helper.tensor_dtype_to_np_dtype(to)))


def test_bit_cast_at_run_time():
    x = np.array([-1, 5, -128], np.int8)
    np.testing.assert_array_equal(lowered("BitCast", [x], to=2, opset=26)[0], x.view(np.uint8))
    with pytest.raises(UnsupportedGraph, match="reinterprets float32 as int32"):
        lowered("BitCast", [uniform(3)], to=6, opset=26)
    with pytest.raises(UnsupportedGraph, match="differ in width"):
        lowered("BitCast", [uniform(3)], [0], to=7, opset=26)
