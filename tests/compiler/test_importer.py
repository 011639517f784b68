import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from accelsdk.compiler import importer, pipeline
from accelsdk.compiler.importer_tensors import Origin, tensor_constant
from accelsdk.errors import InvalidArgument, ModelError, NotFound, UnsupportedGraph
from accelsdk.formats import from_dtype
from accelsdk.graph.rewrite import LoweringRule
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate
from accelsdk.numerics.codec import to_bytes


def model(body: str, opset: int = 21, imports: str = "") -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{imports}]>\n{body}')


def run(source, feeds, **options):
    return evaluate(pipeline.to_core(source, **options), feeds)


MLP = """
g (float[2,3] x) => (float[2,4] y)
<float[3,5] W = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}, float[5] b = {-30,-20,-10,0,1},
 float[5,4] V = {1,0,0,2,0,1,0,3,0,0,1,4,1,1,1,5,2,2,2,6}>
{ h = MatMul(x, W)  s = Add(h, b)  r = Relu(s)  y = MatMul(r, V) }
"""


def test_mlp_from_file_bytes_and_proto(tmp_path):
    made = model(MLP)
    path = tmp_path / "mlp.onnx"
    onnx.save(made, path)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    w = np.arange(1, 16, dtype=np.float32).reshape(3, 5)
    v = numpy_helper.to_array(made.graph.initializer[2])
    expected = np.maximum(x @ w + np.array([-30, -20, -10, 0, 1], np.float32), 0) @ v
    for source in (path, str(path), path.read_bytes(), made):
        np.testing.assert_array_equal(run(source, {"x": x})["y"], expected)


#: What ONNX has besides types that accelsdk has a format for.
OTHERS = {TensorProto.UNDEFINED, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128}


@pytest.mark.parametrize(
    "number", sorted({*TensorProto.DataType.values()} - OTHERS), ids=TensorProto.DataType.Name
)
def test_initialisers_of_every_type_are_read_from_bytes_and_items(number):
    items = np.array([1, 0, 1, 1, 0]).astype(helper.tensor_dtype_to_np_dtype(number))
    row = from_dtype(items.dtype)
    data = bytes(to_bytes(items, row))
    packed = helper.make_tensor("packed", number, [5], data, raw=True)
    listed = helper.make_tensor("listed", number, [5], items)
    assert not listed.raw_data
    for tensor in (packed, listed):
        found = tensor_constant(tensor, tensor.name, Origin(None, None))
        assert found.value.format is row
        assert found.array().dtype == row.dtype
        assert found.array().tobytes() == items.tobytes()


def test_imported_graph_is_typed_and_keeps_names():
    graph = importer.read(model(MLP))
    verify(graph, level="imported")
    assert [node.op for node in graph.nodes] == ["MatMul", "Add", "Relu", "MatMul"]
    assert all(node.domain == "ai.onnx" and node.origin for node in graph.nodes)
    assert [str(v.type) for v in (*graph.inputs, *graph.outputs)] == [
        "float32[2,3]",
        "float32[2,4]",
    ]


def test_origin_survives_lowering_and_passes():
    graph = pipeline.to_core(model(MLP))
    source = {node.name for node in importer.read(model(MLP)).nodes}
    assert {name for node in graph.nodes for name in node.origin} == source


def test_outputs_that_share_a_value_keep_their_names():
    source = model(
        "g (float[2] x) => (float[2] a, float[2] b, float[2] c) "
        "{ a = Neg(x)  b = Identity(a)  c = Identity(x) }"
    )
    found = run(source, {"x": np.float32([1, 2])})
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [-1, -2],
        "b": [-1, -2],
        "c": [1, 2],
    }


# -- shapes ------------------------------------------------------------------------------------

DYNAMIC = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def test_open_dimension_names_input_and_remedy():
    with pytest.raises(
        InvalidArgument, match=r"'x' has dynamic dimensions \[N, 3\].*--shape x=1,3"
    ):
        importer.read(model(DYNAMIC))


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, -3), (1, 2, 3)])
def test_shape_that_does_not_fit(shape):
    with pytest.raises(InvalidArgument, match=r"'x' is \[N, 3\]; the shape .* does not fit"):
        importer.read(model(DYNAMIC), input_shapes={"x": shape})


@pytest.mark.parametrize("key", ["input_shapes", "input_values"])
def test_unknown_input_lists_the_known(key):
    with pytest.raises(NotFound, match=r"no input 'z' \(its inputs are x\)"):
        importer.read(model(DYNAMIC), **{key: {"z": (2, 3)}})


def test_shape_arithmetic_becomes_a_static_reshape():
    graph = importer.read(
        model(
            """
            g (float[N,C,H,W] x) => (float[N,M] y) <int64 zero = {0}, int64[1] rest = {-1}>
            { s = Shape(x)  n = Gather(s, zero)  k = Constant<value_ints = [0]>()
              u = Unsqueeze(n, k)  t = Concat<axis=0>(u, rest)  y = Reshape(x, t) }
            """
        ),
        input_shapes={"x": (2, 3, 4, 5)},
    )
    assert [node.op for node in graph.nodes] == ["Reshape"]
    assert graph.outputs[0].shape == (2, 60)


def test_bound_input_disappears():
    source = model("g (float[2] x, int64[K] axes) => (float[2,1] y) { y = Unsqueeze(x, axes) }")
    graph = importer.read(source, input_values={"axes": [1]})
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.outputs[0].shape == (2, 1)


# -- opsets ------------------------------------------------------------------------------------


def test_old_softmax_flattens():
    # Until opset 12 Softmax normalised over all axes from `axis` on.
    source = model("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }", 11)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    found = run(source, {"x": x})["y"]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=1e-6)


def test_old_batch_normalisation_with_momentum_is_inference():
    source = model(
        """
        g (float[1,2,2] x) => (float[1,2,2] y)
        <float[2] s = {1, 2}, float[2] b = {0, 1}, float[2] m = {1, 2}, float[2] v = {1, 4}>
        { y = BatchNormalization<momentum=0.9, epsilon=0.0>(x, s, b, m, v) }
        """,
        9,
    )
    x = np.array([[[1, 2], [4, 6]]], np.float32)
    np.testing.assert_array_equal(run(source, {"x": x})["y"], [[[0, 1], [3, 5]]])


def test_opset_newer_than_onnx():
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(ModelError, match=f"opset {newest + 1}; onnx .* knows up to {newest}"):
        importer.read(model(MLP, newest + 1))


def test_missing_opset():
    made = model(MLP)
    del made.opset_import[:]
    with pytest.raises(ModelError, match=r"does not say which ai\.onnx opset"):
        importer.read(made)


# -- control flow and functions ----------------------------------------------------------------

BRANCH = """
g (float[2] x, bool flag) => (float[2] y)
{ y = If(flag) <then_branch = a () => (float[2] p) { p = Neg(x) },
                else_branch = b () => (float[2] q) { t = Exp(x) q = Log(t) }> }
"""


@pytest.mark.parametrize(("flag", "ops"), [(True, ["Neg"]), (False, ["Exp", "Log"])])
def test_if_with_a_known_condition_is_inlined(flag, ops):
    graph = importer.read(model(BRANCH), input_values={"flag": flag})
    assert [node.op for node in graph.nodes if node.op != "Identity"] == ops
    assert graph.outputs[0].name == "y"


def test_if_with_an_open_condition_computes_both_branches():
    graph = importer.read(model(BRANCH))
    ops = [node.op for node in graph.nodes if node.op != "Identity"]
    assert ops == ["Neg", "Exp", "Log", "Where"]


def test_own_functions_are_expanded():
    source = parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        g (float[2] x) => (float[2] y) { y = own.scaled<by = 3.0>(x) }
        <domain: "own", opset_import: ["" : 18]>
        scaled <by> (a) => (b) { c = Constant<value_float : float = @by>()  b = Mul(a, c) }
        """
    )
    np.testing.assert_array_equal(run(source, {"x": np.float32([1, 2])})["y"], [3, 6])


def test_onnx_function_bodies_fill_in_for_missing_rules():
    source = model(
        "g (float[2,3,4] x) => (float[2,3,4] y) { y = MeanVarianceNormalization<axes=[0,2]>(x) }"
    )
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    y = run(source, {"x": x})["y"]
    np.testing.assert_allclose(y.mean(axis=(0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 2)), 1, atol=1e-5)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "g (float[2] x) => (float[2] y) { [n] y = RandomNormalLike(x) }",
            r"'n' \(RandomNormalLike\): no lowering",
        ),
        ("g (float[2] x) => (float[2] y) { [n] y = Relu<beta=1>(x) }", r"attribute 'beta' is not"),
        (
            "g (float[6] x, int64[2] s) => (float[2,3] y) { [n] y = Reshape(x, s) }",
            r"'n' \(Reshape\): its shape \(operand 1\) is computed at run time",
        ),
        (
            "g (float[2] x) => (float[2] y) { [n] y = com.acme.Warp(x) }",
            r"'n' \(Warp\): no lowering rule for com.acme:Warp",
        ),
    ],
)
def test_what_cannot_be_lowered_is_named(body, reason):
    with pytest.raises(UnsupportedGraph, match=reason):
        importer.read(model(body, 23, ', "com.acme" : 1'))


def test_unknown_onnx_op():
    with pytest.raises((ModelError, UnsupportedGraph), match="Frobnicate"):
        importer.read(model("g (float[2] x) => (float[2] y) { y = Frobnicate(x) }", 23))


def test_shape_mismatch_names_node_and_rule():
    with pytest.raises(ModelError, match=r"MatMul is not valid here: .*shape.*\[node n\]"):
        importer.read(
            model("g (float[2,3] x, float[4,5] w) => (float[2,5] y) { [n] y = MatMul(x, w) }", 23)
        )


def test_a_vendors_rule_comes_first():
    def doubled(b, node):
        return [b.op("Add", node.inputs[0], node.inputs[0])]

    source = model(
        "g (float[2] x) => (float[2] y) { y = com.acme.Warp(x) }", 23, ', "com.acme" : 1'
    )
    rule = LoweringRule(domain="com.acme", op="Warp", rewrite=doubled)
    found = run(source, {"x": np.float32([1, 2])}, rules=(rule,))
    np.testing.assert_array_equal(found["y"], [2, 4])


# -- weights -----------------------------------------------------------------------------------


def _weighted(path, **save):
    weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "mm")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    onnx.save(made, path, **save)
    return weights


EXTERNAL = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}


@pytest.mark.parametrize("save", [{}, EXTERNAL], ids=["inside", "external"])
def test_weights_stay_in_their_file(tmp_path, save):
    path = tmp_path / "m.onnx"
    weights = _weighted(path, **save)
    (constant,) = importer.read(path).constants
    where, offset, length = constant.location
    with open(where, "rb") as stream:
        stream.seek(offset)
        assert stream.read(length) == weights.tobytes()
    np.testing.assert_array_equal(constant.array(), weights)
    assert not constant.array().flags.writeable


def test_weights_of_bytes_are_a_view(tmp_path):
    path = tmp_path / "m.onnx"
    weights = _weighted(path)
    data = path.read_bytes()
    (constant,) = importer.read(data).constants
    np.testing.assert_array_equal(constant.array(), weights)
    assert np.shares_memory(constant.array(), np.frombuffer(data, np.uint8))


def test_external_data_must_be_there(tmp_path):
    path = tmp_path / "m.onnx"
    _weighted(path, **EXTERNAL)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(NotFound, match=r"'w' lies in .*w\.bin.*does not exist"):
        importer.read(path)


def test_external_data_must_be_whole(tmp_path):
    path = tmp_path / "m.onnx"
    _weighted(path, **EXTERNAL)
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"'w' takes bytes .* of w\.bin, which has 5"):
        importer.read(path)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "", "a/../../w.bin"])
def test_external_data_stays_in_the_folder(tmp_path, location):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "m.onnx"
    _weighted(path, **EXTERNAL)
    made = onnx.load(path, load_external_data=False)
    entry = next(e for e in made.graph.initializer[0].external_data if e.key == "location")
    entry.value = location
    path.write_bytes(made.SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(16384))
    with pytest.raises(ModelError, match="outside the model's folder"):
        importer.read(path)


def test_external_data_needs_a_path(tmp_path):
    path = tmp_path / "m.onnx"
    _weighted(path, **EXTERNAL)
    with pytest.raises(ModelError, match="pass the path of the model file"):
        importer.read(path.read_bytes())
