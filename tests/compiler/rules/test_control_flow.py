"""If, Loop, Scan, sequences and optionals: worked out while a model is read."""

import cProfile

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from accelsdk.compiler import pipeline
from accelsdk.compiler.importer import read
from accelsdk.errors import ModelError, UnsupportedGraph
from accelsdk.kernels.api import evaluate

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]>\n'


def text(body, opset=18):
    return parser.parse_model(HEAD.replace("{opset}", str(opset)) + body)


def ours(model, feeds, **bound):
    graph = pipeline.to_core(model, input_values=bound)
    return list(evaluate(graph, {v.name: feeds[v.name] for v in graph.inputs}).values())


def elsewhere(model, feeds):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def agree(model, feeds, *names):
    """``names`` are bound to constants; onnxruntime is fed them."""
    bound = {name: feeds[name] for name in names}
    for found, wanted in zip(ours(model, feeds, **bound), elsewhere(model, feeds), strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


X = np.arange(12, dtype=np.float32).reshape(4, 3)

# -- If --------------------------------------------------------------------------------------

CHOICE = """g (float[4,3] x, bool c) => (float[4,3] y) {
    k = Constant<value: tensor = float[1] {2}>()
    y = If (c) <
        then_branch = t () => (float[4,3] a) { d = Mul(x, k) a = Neg(d) },
        else_branch = e () => (float[4,3] b) { b = Add(x, k) }
    >
}"""


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("names", [("c",), ()])
def test_if_takes_one_branch_or_selects(condition, names):
    model = text(CHOICE)
    agree(model, {"x": X, "c": np.array(condition)}, *names)
    graph = pipeline.to_core(model, input_values={n: np.array(condition) for n in names})
    ops = {node.op for node in graph.nodes}
    assert ("Where" in ops) is not bool(names)


def test_if_whose_condition_is_known_after_folding():
    model = text("""g (float[4,3] x) => (float[12] y) {
        shape = Shape(x)
        four = Constant<value: tensor = int64[2] {4, 3}>()
        same = Equal(shape, four)
        wide = Cast<to: int = 7>(same)
        both = ReduceMin<keepdims = 0>(wide)
        c = Cast<to: int = 9>(both)
        y = If (c) <
            then_branch = t () => (float[12] a) {
                n = Constant<value: tensor = int64[1] {-1}>() a = Reshape(x, n) },
            else_branch = e () => (float[4,3] b) { b = Identity(x) }
        >
    }""")
    agree(model, {"x": X})


def test_branches_of_different_types_need_a_constant_condition():
    model = text("""g (float[4,3] x, bool c) => (float[A,B] y) {
        y = If (c) <
            then_branch = t () => (float[3,4] a) { a = Transpose(x) },
            else_branch = e () => (float[4,3] b) { b = Identity(x) }
        >
    }""")
    with pytest.raises(UnsupportedGraph, match=r"\(If\).*run time.*float32\[3,4\] and") as caught:
        pipeline.to_core(model)
    assert "bind the condition" in str(caught.value)
    agree(model, {"x": X, "c": np.array(True)}, "c")


# -- Loop ------------------------------------------------------------------------------------

COUNTED = """g (int64 m, bool c, float[3] v, float[3] w) => (float[3] last, float[N,3] all) {
    last, all = Loop (m, c, v) <body = b (int64 i, bool k, float[3] a)
            => (bool k2, float[3] a2, float[3] s) {
        f = Cast<to: int = 1>(i)
        t = Mul(w, f)
        a2 = Add(a, t)
        s = Neg(a2)
        k2 = Identity(k)
    }>
}"""


@pytest.mark.parametrize("turns", [0, 1, 2, 7])
@pytest.mark.parametrize("goes", [False, True])
def test_loop_of_a_known_number_of_turns(turns, goes):
    rng = np.random.default_rng(0)
    feeds = {"v": rng.normal(size=3).astype(np.float32), "w": rng.normal(size=3).astype(np.float32)}
    feeds |= {"m": np.array(turns), "c": np.array(goes)}
    agree(text(COUNTED), feeds, "m", "c")


WHILE = """g (float[3] x) => (float[3] y, int64 n) {
    zero = Constant<value_int: int = 0>()
    yes = Constant<value: tensor = bool {1}>()
    most = Constant<value_int: int = MOST>()
    n, y = Loop (most, yes, zero, x) <body = b (int64 i, bool k, int64 n0, float[3] a)
            => (bool k2, int64 n1, float[3] a2) {
        two = Constant<value_int: int = 2>()
        n1 = Add(n0, two)
        a2 = Add(a, x)
        nine = Constant<value_int: int = 9>()
        k2 = Less(n1, nine)
    }>
}"""


@pytest.mark.parametrize("most", [9223372036854775807, 3, 0])
def test_loop_whose_condition_folds_in_every_turn(most):
    agree(text(WHILE.replace("MOST", str(most))), {"x": X[0]})


def test_loop_without_a_trip_count():
    model = text(WHILE.replace("MOST", "1"))
    model.graph.node[3].input[0] = ""
    agree(model, {"x": X[0]})


def test_shapes_may_change_from_turn_to_turn():
    model = text("""g (float[2] x, int64 m) => (float[N] y) {
        y = Loop (m, , x) <body = b (int64 i, bool k, float[L] a) => (bool k2, float[M] a2) {
            a2 = Concat<axis = 0>(a, x)
            k2 = Identity(k)
        }>
    }""")
    agree(model, {"x": X[0, :2], "m": np.array(3)}, "m")


def test_loops_in_loops_and_branches():
    model = text(
        """g (float[2] x, int64 m) => (float[2] y, float[N,P,2] s) {
        y, s = Loop (m, , x) <body = b (int64 i, bool k, float[2] a)
                => (bool k2, float[2] a2, float[P,2] s2) {
            k2 = Identity(k)
            three = Constant<value_int: int = 3>()
            a3, s2 = Loop (three, , a) <body = c (int64 j, bool l, float[2] d)
                    => (bool l2, float[2] d2, float[2] d3) {
                l2 = Identity(l)
                ij = Add(i, j)
                two = Constant<value_int: int = 2>()
                rest = Mod(ij, two)
                even = Not(odd)
                d2 = If (even) <
                    then_branch = t () => (float[2] e) { e = Add(d, x) },
                    else_branch = f () => (float[2] h) { h = Sub(d, x) }
                >
                d3 = Identity(d2)
            }>
            a2 = Identity(a3)
        }>
    }""".replace("even = Not(odd)", "odd = Cast<to: int = 9>(rest) even = Not(odd)")
    )
    agree(model, {"x": X[1, :2], "m": np.array(4)}, "m")


def test_old_bodies_are_brought_to_the_pinned_opset():
    model = text(
        """g (float[1,3] x) => (float[1,3] y) {
        m = Constant<value: tensor = int64 {3}>()
        y = Loop (m, , x) <body = b (int64 i, bool k, float[1,3] a) => (bool k2, float[1,3] a2) {
            d = Squeeze<axes = [0]>(a)
            e = Add(d, d)
            a2 = Unsqueeze<axes = [0]>(e)
            k2 = Identity(k)
        }>
    }""",
        opset=11,
    )
    agree(model, {"x": X[:1]})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("c",), r"\(Loop\): its trip count is computed at run time"),
        (("m",), r"\(Loop\): its condition is computed at run time"),
    ],
)
def test_what_is_not_known_is_named(names, reason):
    bound = {"m": np.array(2), "c": np.array(True)}
    with pytest.raises(UnsupportedGraph, match=reason):
        pipeline.to_core(text(COUNTED), input_values={name: bound[name] for name in names})


def test_a_condition_that_depends_on_the_data_is_refused():
    model = text("""g (float x, int64 m) => (float y) {
        y = Loop (m, , x) <body = b (int64 i, bool k, float a) => (bool k2, float a2) {
            a2 = Add(a, a)
            k2 = Less(a2, x)
        }>
    }""")
    bound = {"m": np.array(2)}
    with pytest.raises(UnsupportedGraph, match="goes on after turn 1 is computed at run time"):
        pipeline.to_core(model, input_values=bound)
    # After the only turn nobody asks.
    (found,) = ours(model, {"x": np.float32(3) * np.ones((), np.float32)}, m=np.array(1))
    assert found == 6


@pytest.mark.parametrize("turns", [100_001, 2**62])
def test_loops_are_bounded(turns):
    model = text("""g (float x, int64 m) => (float y) {
        y = Loop (m, , x) <body = b (int64 i, bool k, float a) => (bool k2, float a2) {
            a2 = Identity(a)
            k2 = Identity(k)
        }>
    }""")
    with pytest.raises(UnsupportedGraph, match=r"\(Loop\).*more than 100,000 nodes"):
        pipeline.to_core(model, input_values={"m": np.array(turns)})


def test_unrolling_makes_constants_of_the_body_once():
    weight = np.ones((64, 64), np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("MatMul", ["b", "v"], ["a2"]),
            helper.make_node("Identity", ["k"], ["k2"]),
        ],
        "body",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (
            ("i", TensorProto.INT64, []), ("k", TensorProto.BOOL, []),
            ("a", TensorProto.FLOAT, [1, 64]),
        )],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (
            ("k2", TensorProto.BOOL, []), ("a2", TensorProto.FLOAT, [1, 64]),
        )],
        [numpy_helper.from_array(weight * 2, "v")],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(np.array(9), "m")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = read(model)
    assert sum(node.op == "MatMul" for node in made.nodes) == 18
    assert sum(c.value.type.nbytes >= weight.nbytes for c in made.constants) == 2
    assert {node.origin for node in made.nodes if node.op == "MatMul"} == {("y",)}


# -- Scan ------------------------------------------------------------------------------------


def scan(axes, directions, out_axes, out_directions, shape, opset=18):
    inner = [extent for axis, extent in enumerate(shape) if axis != axes % len(shape)]
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "p"], ["t"]),
            helper.make_node("Add", ["t", "q"], ["s2"]),
            helper.make_node("Mul", ["s2", "p"], ["o"]),
            helper.make_node("Identity", ["s2"], ["o2"]),
        ],
        "body",
        [info(n, TensorProto.FLOAT, inner) for n in ("s", "p", "q")],
        [info(n, TensorProto.FLOAT, inner) for n in ("s2", "o", "o2")],
    )
    node = helper.make_node(
        "Scan",
        ["s0", "x", "z"],
        ["last", "a", "b"],
        body=body,
        num_scan_inputs=2,
        scan_input_axes=[axes, axes],
        scan_input_directions=directions,
        scan_output_axes=out_axes,
        scan_output_directions=out_directions,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            info("s0", TensorProto.FLOAT, inner),
            info("x", TensorProto.FLOAT, shape),
            info("z", TensorProto.FLOAT, shape),
        ],
        [info(n, TensorProto.FLOAT, None) for n in ("last", "a", "b")],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), inner


@given(data=st.data())
@settings(max_examples=40)
def test_scan_over_every_axis_in_every_direction(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rank = len(shape)
    flags = st.lists(st.integers(0, 1), min_size=2, max_size=2)
    out_axes = data.draw(st.lists(st.integers(-rank, rank - 1), min_size=2, max_size=2))
    model, inner = scan(
        data.draw(st.integers(-rank, rank - 1)), data.draw(flags), out_axes, data.draw(flags), shape
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    feeds = {"s0": rng.normal(size=inner), "x": rng.normal(size=shape), "z": rng.normal(size=shape)}
    agree(model, {name: array.astype(np.float32) for name, array in feeds.items()})


def test_scan_over_nothing_gives_its_first_states():
    model, inner = scan(0, [0, 0], [0, 1], [0, 0], [0, 3])
    shapes = {"s0": inner, "x": (0, 3), "z": (0, 3)}
    feeds = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    graph = pipeline.to_core(model, input_shapes=shapes)
    last, a, b = evaluate(graph, feeds).values()
    assert last.tolist() == [1, 1, 1]
    assert (a.shape, b.shape) == ((0, 3), (3, 0))


def scan_8(lengths=None):
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "p"], ["s2"]), helper.make_node("Mul", ["s2", "p"], ["o"])],
        "body",
        [info(n, TensorProto.FLOAT, [2]) for n in ("s", "p")],
        [info(n, TensorProto.FLOAT, [2]) for n in ("s2", "o")],
    )
    node = helper.make_node(
        "Scan", ["lengths" if lengths else "", "s0", "x"], ["last", "a"], body=body,
        num_scan_inputs=1, directions=[1],
    )  # fmt: skip
    graph = helper.make_graph(
        [node, helper.make_node("Softmax", ["a"], ["soft"], axis=2)],
        "g",
        [info("s0", TensorProto.FLOAT, [3, 2]), info("x", TensorProto.FLOAT, [3, 4, 2])],
        [info(n, TensorProto.FLOAT, None) for n in ("last", "a", "soft")],
        [numpy_helper.from_array(np.array(lengths), "lengths")] if lengths else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)


@pytest.mark.parametrize("lengths", [None, [4, 1, 3]])
def test_scan_of_opset_8_runs_each_item_of_the_batch(lengths):
    rng = np.random.default_rng(1)
    feeds = {"s0": rng.normal(size=(3, 2)), "x": rng.normal(size=(3, 4, 2))}
    model = scan_8(lengths)
    if lengths:  # from IR 4 on initialisers need not be inputs
        model.ir_version = 4
    agree(model, {name: array.astype(np.float32) for name, array in feeds.items()})


# -- sequences and optionals -----------------------------------------------------------------


def test_sequences_inside_a_model():
    model = text("""g (float[5,3] x) => (float[A,3] y, float[B,5,3] z, int64 n, float[2,3] w) {
        two = Constant<value_int: int = 2>()
        s = SplitToSequence<axis = 0>(x, two)
        back = Constant<value_int: int = -1>()
        one = Constant<value_int: int = 1>()
        w = SequenceAt(s, one)
        short = SequenceErase(s, back)
        more = SequenceInsert(short, x, one)
        even = SequenceInsert(more, w)
        y = ConcatFromSequence<axis = 0>(even)
        n = SequenceLength(even)
        e = SequenceEmpty<dtype = 1>()
        f = SequenceInsert(e, x)
        pair = SequenceConstruct(x, x)
        copy = Identity(pair)
        z = ConcatFromSequence<axis = 0, new_axis = 1>(copy)
    }""")
    agree(model, {"x": np.arange(15, dtype=np.float32).reshape(5, 3)})


@pytest.mark.parametrize("attributes", ["keepdims = 0", "keepdims = 1", "axis = -1, keepdims = 0"])
def test_split_to_sequence_of_ones(attributes):
    model = text(f"""g (float[4,3] x) => (float[A] y) {{
        two = Constant<value_int: int = 2>()
        s = SplitToSequence<{attributes}>(x)
        part = SequenceAt(s, two)
        shape = Constant<value: tensor = int64[1] {{-1}}>()
        y = Reshape(part, shape)
    }}""")
    agree(model, {"x": X})


def test_a_sequence_grows_in_a_loop():
    model = text("""g (float[4,3] x, int64 m) => (float[N,3] y) {
        empty = SequenceEmpty<dtype = 1>()
        s = Loop (m, , empty) <body = b (int64 i, bool k, seq(float[3]) a)
                => (bool k2, seq(float[3]) a2) {
            k2 = Identity(k)
            row = Gather(x, i)
            a2 = SequenceInsert(a, row)
        }>
        y = ConcatFromSequence<axis = 0, new_axis = 1>(s)
    }""")
    agree(model, {"x": X, "m": np.array(3)}, "m")


def test_sequence_map():
    model = text("""g (float[4,3] x, float[3] w) => (float[4,3] y) {
        s = SplitToSequence<axis = 0>(x)
        t = SequenceMap (s, w) <body = b (float[1,3] a, float[3] v) => (float[1,3] c) {
            c = Mul(a, v)
        }>
        y = ConcatFromSequence<axis = 0>(t)
    }""")
    feeds = {"x": X, "w": X[1]}
    (found,) = ours(model, feeds)
    np.testing.assert_array_equal(found, X * X[1])


def test_optionals_inside_a_model():
    model = text("""g (float[4,3] x) => (bool a, bool b, float[4,3] y) {
        some = Optional(x)
        none = Optional<type = float[4,3]>()
        a = OptionalHasElement(some)
        b = OptionalHasElement(none)
        got = OptionalGetElement(some)
        y = Neg(got)
    }""")
    has, lacks, found = ours(model, {"x": X})
    assert (bool(has), bool(lacks)) == (True, False)
    np.testing.assert_array_equal(found, -X)


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        ("y = SequenceAt(s, p)", UnsupportedGraph, r"\(SequenceAt\): its position is computed"),
        ("nine = Constant<value_int: int = 9>() y = SequenceAt(s, nine)", ModelError, "position 9"),
        ("y = Neg(s)", UnsupportedGraph, r"\(Neg\): operand 's' is a sequence"),
        ("y = Identity(s)", UnsupportedGraph, "output 'y' is a sequence; sequences and maps"),
        ("y = Optional(x)", UnsupportedGraph, "output 'y' is an optional"),
        ("e = SequenceEmpty() y = ConcatFromSequence<axis = 0>(e)", UnsupportedGraph, "empty"),
    ],
)
def test_what_a_static_graph_cannot_hold_is_named(body, error, reason):
    model = text(f"""g (float[4,3] x, int64 p) => (float[A,B] y) {{
        s = SequenceConstruct(x, x)
        {body}
    }}""")
    with pytest.raises(error, match=reason):
        read(model)


def test_inputs_that_are_no_tensors_are_refused_by_name():
    model = text("g (seq(float[3]) s) => (float[3] y) { p = Constant<value_int: int = 0>() "
                 "y = SequenceAt(s, p) }")  # fmt: skip
    with pytest.raises((UnsupportedGraph, ModelError), match="input 's' is no tensor"):
        read(model)


# -- constants and functions -----------------------------------------------------------------


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("as_node", [True, False])
def test_sparse_constants(linear, as_node):
    full = np.zeros((3, 4, 2), np.float32)
    full[1, 2, 0], full[0, 3, 1], full[2, 0, 0] = 1, -2, 3
    at = np.flatnonzero(full) if linear else np.argwhere(full)
    values = numpy_helper.from_array(full[full != 0], "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(at, "at"), full.shape)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, full.shape) for n in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", infos[:1], infos[1:], sparse_initializer=[] if as_node else [sparse]
    )
    for opset in (13, 23):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        (found,) = ours(model, {"x": np.ones(full.shape, np.float32)})
        np.testing.assert_array_equal(found, full + 1)


@pytest.mark.parametrize(
    ("dims", "indices", "reason"),
    [
        ((4,), [7], "out of range"),
        ((4,), [-1], "out of range"),
        ((1 << 40, 1 << 20), [3], "would not be dense in memory"),
        ((4,), [0, 1], "has indices of shape"),
    ],
)
def test_broken_sparse_constants_are_named(dims, indices, reason):
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    sparse = onnx.SparseTensorProto(dims=dims)
    sparse.values.CopyFrom(values)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices), "at"))
    infos = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    nodes = [helper.make_node("Constant", [], ["y"], sparse_value=sparse)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [], infos), opset_imports=[helper.make_opsetid("", 23)]
    )
    with pytest.raises(ModelError, match=reason):
        read(model)


@pytest.mark.parametrize("attributes", [{"value_string": "a"}, {"value_strings": ["a", "b"]}])
def test_strings_are_refused_by_name(attributes):
    node = helper.make_node("Constant", [], ["y"], **attributes)
    infos = [helper.make_tensor_value_info("y", TensorProto.STRING, None)]
    model = helper.make_model(helper.make_graph([node], "g", [], infos))
    with pytest.raises(UnsupportedGraph, match=rf"'{next(iter(attributes))}': strings"):
        read(model)


@pytest.mark.parametrize("opset", [21, 23])
def test_functions_are_told_apart_by_overload(opset):
    imports = [helper.make_opsetid("", opset)]

    def function(op, overload):
        node = helper.make_node(op, ["a"], ["b"])
        made = helper.make_function("mine", "F", ["a"], ["b"], [node], imports)
        made.overload = overload
        return made

    nodes = [
        helper.make_node("F", ["x"], ["t"], domain="mine", overload="first"),
        helper.make_node("F", ["t"], ["y"], domain="mine", overload="second"),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 3]) for n in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", infos[:1], infos[1:]),
        functions=[function("Neg", "first"), function("Exp", "second")],
        opset_imports=[*imports, helper.make_opsetid("mine", 1)],
        ir_version=10,
    )
    (found,) = ours(model, {"x": X})
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": X}) if opset == 0 else (np.exp(-X),)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_unrolled_names_are_distinct_and_calls_grow_with_the_turns():
    model = text("""g (float[2] x, float[N,2] z) => (float[2] y, float[N,2] s) {
        y, s = Scan <num_scan_inputs = 1, body = b (float[2] a, float[2] p)
                => (float[2] a2, float[2] o) { a2 = Add(a, p) o = Neg(a2) }> (x, z)
    }""")
    calls = []
    for turns in (100, 400):
        graph = read(model, input_shapes={"z": (turns, 2)})
        assert len({node.name for node in graph.nodes}) == len(graph.nodes)
        calls.append(_calls(lambda turns=turns: read(model, input_shapes={"z": (turns, 2)})))
    assert calls[1] < 5 * calls[0]


def _calls(action):
    """Python function calls that an action makes: work counted, not timed."""
    profile = cProfile.Profile()
    profile.runcall(action)
    return sum(entry.callcount for entry in profile.getstats())
