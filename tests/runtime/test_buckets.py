"""Bucketed sessions: a few compiled sizes serve every extent, and give what the exact shape does.

Models whose sums are exact in any order are compared bit by bit. In others a matrix product of
more rows may add in another order, for a BLAS chooses its kernels by the size: those results lie
within the bound of their sums, twice ``gamma(k)`` times the sum of magnitudes (Higham, Accuracy
and Stability of Numerical Algorithms, 3.5).
"""

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accelsdk
from accelsdk.errors import InvalidArgument, UnsupportedGraph
from accelsdk.runtime.executable import FAMILY

SIZES = (1, 2, 5)


def parsed(body, inputs, outputs, *weights):
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({inputs}) => ({outputs}) {{{body}}}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights)
    return model.SerializeToString()


def small(seed, *shape):
    """Small whole numbers in float32, whose sums and products are exact in any order."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def real(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


MLP = parsed(
    "h = Gemm(x, w, b) r = Relu(h) y = MatMul(r, v)",
    "float[n,6] x",
    "float[n,3] y",
    ("w", small(0, 6, 5)),
    ("b", small(1, 5)),
    ("v", small(2, 5, 3)),
)
CONV = parsed(
    "c = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w) p = GlobalMaxPool(c) s = Shape<end=1>(x) "
    "t = Concat<axis=0>(s, m) y = Reshape(p, t)",
    "float[n,2,7,6] x",
    "float[n,4] y",
    ("w", small(3, 4, 2, 3, 3)),
    ("m", np.array([4], np.int64)),
)
EMBEDDING = parsed(
    "e = Gather(t, i) m = Unsqueeze(k, a) p = Mul(e, m) y = ReduceSum<keepdims=0>(p, o)",
    "int64[n,4] i, float[n,4] k",
    "float[n,3] y",
    ("t", small(4, 9, 3)),
    ("a", np.array([2], np.int64)),
    ("o", np.array([1], np.int64)),
)
INTEGERS = parsed(
    "y = MatMulInteger(x, w, z) q = Concat<axis=0>(x, x) r = Transpose(q)",
    "uint8[n,8] x",
    "int32[n,4] y, uint8[8,m] r",
    ("w", np.random.default_rng(5).integers(-128, 128, (8, 4), np.int8)),
    ("z", np.array(3, np.uint8)),
)
ATTENTION = parsed(
    "q = MatMul(x, w) k = Transpose<perm=[0,2,1]>(x) s = MatMul(q, k) u = Unsqueeze(mask, a) "
    "f = Cast<to=1>(u) g = Sub(one, f) h = Mul(g, low) z = Add(s, h) p = Softmax<axis=-1>(z) "
    "y = MatMul(p, x)",
    "float[n,4,6] x, bool[n,4] mask",
    "float[n,4,6] y",
    ("w", real(6, 6, 6)),
    ("a", np.array([1], np.int64)),
    ("one", np.float32(1)[None]),
    ("low", np.float32(-1e4)[None]),
)
LSTM = parsed(
    "s = Shape<start=1,end=2>(x) d = Concat<axis=0>(one, s, h) i = Expand(zero, d) "
    "q, l, c = LSTM<hidden_size=3>(x, w, r, , , i, i)",
    "float[4,n,2] x",
    "float[4,1,n,3] q, float[1,n,3] l",
    ("w", real(7, 1, 12, 2)),
    ("r", real(8, 1, 12, 3)),
    ("one", np.array([1], np.int64)),
    ("h", np.array([3], np.int64)),
    ("zero", np.zeros(1, np.float32)),
)


def feeds_mlp(n, rng):
    return {"x": rng.integers(-3, 4, (n, 6)).astype(np.float32)}


def feeds_conv(n, rng):
    return {"x": rng.integers(-3, 4, (n, 2, 7, 6)).astype(np.float32)}


def feeds_embedding(n, rng):
    ids = rng.integers(0, 9, (n, 4))
    return {"i": ids, "k": rng.integers(0, 2, (n, 4)).astype(np.float32)}


def feeds_integers(n, rng):
    return {"x": rng.integers(0, 256, (n, 8), np.uint8)}


def feeds_attention(n, rng):
    x = rng.standard_normal((n, 4, 6), np.float32)
    return {"x": x, "mask": rng.integers(0, 2, (n, 4)).astype(bool)}


def feeds_lstm(n, rng):
    return {"x": rng.standard_normal((4, n, 2), np.float32)}


EXACT = {
    "mlp": (MLP, feeds_mlp),
    "conv": (CONV, feeds_conv),
    "embedding": (EMBEDDING, feeds_embedding),
    "integers": (INTEGERS, feeds_integers),
}
#: With the bound of a result: see the head of the file. Values of attention are means of
#: x, of magnitude 5 at most, of scores of magnitude 60 that are sums of 36 products; those of
#: the LSTM lie in (-1, 1) after 4 steps of sums of 5 products of magnitude 20.
ROUNDED = {
    "attention": (ATTENTION, feeds_attention, 5 * 2 * 60 * 36 * 2.0**-24),
    "lstm": (LSTM, feeds_lstm, 4 * 2 * 20 * 5 * 2.0**-24),
}


@pytest.fixture(scope="module", params=["reference_cpu", "sim_card"])
def client(request):
    with accelsdk.connect(request.param) as made:
        yield made


@pytest.fixture(scope="module", params=[*EXACT, *ROUNDED])
def pair(request, client):
    """A bucketed session, an exact one, a maker of feeds, and the bound of a difference."""
    source, feeds, *bound = (EXACT | ROUNDED)[request.param]
    with (
        accelsdk.InferenceSession(source, client, buckets={"n": SIZES}) as bucketed,
        accelsdk.InferenceSession(source, client) as exact,
    ):
        yield bucketed, exact, feeds, bound[0] if bound else 0.0


def test_every_extent_gives_what_its_exact_shape_gives(pair):
    bucketed, exact, feeds, bound = pair

    @settings(max_examples=15)
    @given(n=st.integers(0, 14), seed=st.integers(0, 2**16))
    def check(n, seed):
        fed = feeds(n, np.random.default_rng(seed))
        got, wanted = bucketed.run(None, fed), exact.run(None, fed)
        for mine, theirs in zip(got, wanted, strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            difference = np.abs(mine.astype(np.float64) - theirs.astype(np.float64))
            assert difference.max(initial=0.0) <= bound

    check()


def test_programs_are_those_of_the_sizes(client):
    with accelsdk.InferenceSession(MLP, client, buckets={"n": SIZES}) as session:
        for n in range(13):
            session.run(None, feeds_mlp(n, np.random.default_rng(n)))
        assert sorted(shapes[0][0] for shapes in session._residents) == list(SIZES)


def test_more_sizes_than_a_family_are_all_kept(client):
    sizes = range(1, FAMILY + 4)
    shapes = {"x": (1, 6)}
    with accelsdk.InferenceSession(
        MLP, client, buckets={"n": sizes}, input_shapes=shapes
    ) as session:
        kept = dict(session._residents)
        assert len(kept) == len(sizes)  # compiled when it was made
        for n in (1, 11, 5, 30):
            session.run(None, feeds_mlp(n, np.random.default_rng(n)))
        assert session._residents == kept


def test_rows_that_are_fed_repeated_bring_no_trap():
    """A row of zeros would divide by zero, which is an error for integers."""
    source = parsed("y = Div(a, b)", "int32[n] a, int32[n] b", "int32[n] y")
    with accelsdk.InferenceSession(source, buckets={"n": (8,)}) as session:
        (y,) = session.run(None, {"a": np.int32([9, 8, 7]), "b": np.int32([3, 2, 7])})
    assert y.tolist() == [3, 4, 1]


def test_an_output_without_rows_is_given_as_it_is():
    source = parsed("y = Neg(x) z = Neg(w)", "float[n,2] x, float[2] w", "float[n,2] y, float[2] z")
    with accelsdk.InferenceSession(source, buckets={"n": (2,)}) as session:
        for n in (0, 1, 2, 5):
            x = small(n, n, 2)
            y, z = session.run(None, {"x": x, "w": np.float32([1, 2])})
            assert y.tolist() == (-x).tolist()
            assert z.tolist() == [-1.0, -2.0]


def test_outputs_are_chosen_by_name():
    with accelsdk.InferenceSession(LSTM, buckets={"n": (2,)}) as session:
        (last,) = session.run(["l"], feeds_lstm(3, np.random.default_rng(0)))
    assert last.shape == (1, 3, 3)


def test_a_dimension_without_a_name_is_called_by_its_place():
    source = parsed("y = Neg(x)", "float[?,2] x", "float[?,2] y")
    with accelsdk.InferenceSession(source, buckets={"x:0": (4,)}) as session:
        (y,) = session.run(None, {"x": small(0, 6, 2)})
    assert y.tolist() == (-small(0, 6, 2)).tolist()


TWO_OPEN = parsed("y = Softmax<axis=1>(x)", "float[n,m] x", "float[n,m] y")


def test_another_open_dimension_is_taken_as_it_comes(client):
    with (
        accelsdk.InferenceSession(TWO_OPEN, client, buckets={"n": (4,)}) as session,
        accelsdk.InferenceSession(TWO_OPEN, client) as exact,
    ):
        for n, m in ((3, 2), (5, 7), (4, 2), (0, 3)):
            feeds = {"x": real(n, n, m)}
            assert np.array_equal(session.run(None, feeds)[0], exact.run(None, feeds)[0])


def test_the_other_dimension_is_refused_when_it_is_run():
    """Its rows are in one sum; which shapes it has is not known before."""
    with (
        accelsdk.InferenceSession(TWO_OPEN, buckets={"m": (4,)}) as session,
        pytest.raises(UnsupportedGraph, match="takes the rows on axis 1 together"),
    ):
        session.run(None, {"x": real(0, 2, 3)})


def test_a_model_that_mixes_rows_is_refused_when_it_is_opened(client):
    source = parsed("y = ReduceMax<keepdims=0>(x)", "float[n,2] x", "float y")
    with pytest.raises(UnsupportedGraph, match="ReduceMax") as caught:
        accelsdk.InferenceSession(source, client, buckets={"n": (4,)})
    assert "leave the buckets out" in str(caught.value)


def test_a_model_that_takes_no_other_extent_is_refused():
    source = parsed(
        "y = Reshape(x, s)", "float[n,2] x", "float[2,2] y", ("s", np.array([2, 2], np.int64))
    )
    with pytest.raises(UnsupportedGraph, match="does not take n = 3"):
        accelsdk.InferenceSession(source, buckets={"n": (4,)})


@pytest.mark.parametrize(
    ("buckets", "text"),
    [
        ({"k": (1,)}, "no input has an open dimension 'k'"),
        ({"n": ()}, "are no sizes"),
        ({"n": (0, 4)}, "are no sizes"),
        ({"n": "4"}, "are no sizes"),
        ({"n": 4}, "are no sizes"),
        ({}, "buckets are"),
        ({"n": (1,), "m": (1,)}, "buckets are"),
        ((1, 2), "buckets are"),
    ],
)
def test_wrong_buckets_are_explained(buckets, text):
    with pytest.raises(InvalidArgument, match=text):
        accelsdk.InferenceSession(MLP, buckets=buckets)


def test_a_dimension_on_two_axes_of_an_input_is_refused():
    source = parsed("y = Neg(x)", "float[n,n] x", "float[n,n] y")
    with pytest.raises(InvalidArgument, match="on two axes"):
        accelsdk.InferenceSession(source, buckets={"n": (4,)})


def test_inputs_of_different_extents_are_refused():
    feeds = feeds_embedding(3, np.random.default_rng(0))
    feeds["k"] = feeds["k"][:2]
    with (
        accelsdk.InferenceSession(EMBEDDING, buckets={"n": (4,)}) as session,
        pytest.raises(InvalidArgument, match="'i' has 3, 'k' has 2"),
    ):
        session.run(None, feeds)


def test_wrong_shapes_are_refused_as_without_buckets():
    with (
        accelsdk.InferenceSession(MLP, buckets={"n": (4,)}) as session,
        pytest.raises(InvalidArgument, match="the model takes x"),
    ):
        session.run(None, {"x": small(0, 3, 5)})


@pytest.mark.parametrize("more", [{"buckets": {"n": (4,)}}, {"input_values": {"x": 1}}])
def test_what_is_compiled_has_nothing_open(client, more):
    program = client.compile(MLP, input_shapes={"x": (2, 6)})
    with pytest.raises(InvalidArgument, match="are for ONNX models"):
        accelsdk.InferenceSession(program, client, **more)


# -- bound inputs ------------------------------------------------------------------------------

BRANCH = parsed(
    "c = Equal(sr, k) y = If(c)<then_branch=t () => (p) {p = Neg(x)}, "
    "else_branch=e () => (q) {q = Abs(x)}>",
    "float[n,2] x, int64 sr",
    "float[n,2] y",
    ("k", np.array(16000, np.int64)),
)


@pytest.mark.parametrize(("rate", "sign"), [(16000, -1), (8000, 1)])
def test_a_bound_input_is_none_of_the_session(client, rate, sign):
    with accelsdk.InferenceSession(
        BRANCH, client, input_values={"sr": rate}, buckets={"n": (2,)}
    ) as session:
        assert [argument.name for argument in session.get_inputs()] == ["x"]
        x = np.abs(small(0, 3, 2))
        assert session.run(None, {"x": x})[0].tolist() == (sign * x).tolist()


def test_bound_values_are_part_of_what_a_cache_finds(tmp_path):
    from accelsdk.runtime.program_cache import ProgramCache

    x = np.float32([[1, 2]])
    cache = ProgramCache(tmp_path)
    for rate, sign in ((16000, -1), (8000, 1), (16000, -1)):
        with accelsdk.InferenceSession(BRANCH, cache=cache, input_values={"sr": rate}) as session:
            assert session.run(None, {"x": x})[0].tolist() == (sign * x).tolist()
    assert len(list(tmp_path.glob("*.accel"))) == 2


def test_a_program_with_bound_inputs_specialises_with_them(client):
    program = client.compile(BRANCH, input_shapes={"x": (1, 2)}, input_values={"sr": 8000})
    assert [spec.name for spec in program.specialise({"x": (3, 2)}).inputs] == ["x"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rate": 1}, "no input 'rate'"),
        ({"sr": 0.5}, "has items that do not fit"),
        ({"sr": "16000"}, "is of <U5"),
        ({"sr": [1, 2]}, "is given"),
        ({"sr": [[1], [1, 2]]}, "cannot be made an array"),
    ],
)
def test_wrong_values_are_explained(values, text):
    with pytest.raises(InvalidArgument, match=text):
        accelsdk.InferenceSession(BRANCH, input_values=values)


def test_a_graph_has_no_inputs_to_bind(client):
    graph = client.core_graph(MLP, input_shapes={"x": (2, 6)})
    with pytest.raises(InvalidArgument, match="are for ONNX models"):
        client.compile(graph, input_values={"x": 1})
