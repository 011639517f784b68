"""What is proven to keep rows apart, and the reason where it is not."""

import numpy as np
import onnx.parser
import pytest

from accelsdk.compiler.independence.proof import RULES, independent_rows
from accelsdk.compiler.independence.rows import Rows
from accelsdk.compiler.passes.catalogue import PASSES
from accelsdk.compiler.pipeline import to_core
from accelsdk.errors import InvalidArgument, UnsupportedGraph
from accelsdk.graph.ops import TABLE
from accelsdk.kernels.api import evaluate


def parsed(body, inputs, outputs, opset=21):
    """A model from lines of ONNX text; names of types as in ``float[n,4] x``."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{{body}}}'
    return onnx.parser.parse_model(text)


def axes_of(model):
    found = {}
    for item in model.graph.input:
        for axis, dim in enumerate(item.type.tensor_type.shape.dim):
            if dim.dim_param == "n":
                found[item.name] = axis
    return found


def shapes_of(model, extent):
    return {
        item.name: [d.dim_value or extent for d in item.type.tensor_type.shape.dim]
        for item in model.graph.input
    }


def graphs_of(model, extents, passes=PASSES[:2]):
    data = model.SerializeToString()
    return {n: to_core(data, input_shapes=shapes_of(model, n), passes=passes) for n in extents}


def rows_of(model, extents=(3, 8, 1), passes=PASSES[:2]):
    return independent_rows(graphs_of(model, extents, passes), axes_of(model))


POSITIVE = {
    "elementwise": ("y = Add(x, x)", "float[n,4] x", "float[n,4] y", Rows(0)),
    "broadcast": ("y = Mul(x, b)", "float[n,4] x, float[4] b", "float[n,4] y", Rows(0)),
    "where": (
        "c = Less(x, x) y = Where(c, x, x)",
        "float[2,n,1] x",
        "float[2,n,1] y",
        Rows(1),
    ),
    "rows of a product": ("y = MatMul(x, w)", "float[n,4] x, float[4,5] w", "", Rows(0)),
    "columns of a product": ("y = MatMul(w, x)", "float[4,n] x, float[3,4] w", "", Rows(1)),
    "batch of a product": ("y = MatMul(x, z)", "float[n,2,4] x, float[n,4,3] z", "", Rows(0)),
    "batch against a matrix": ("y = MatMul(x, w)", "float[n,2,4] x, float[4,3] w", "", Rows(0)),
    "product with a vector": ("y = MatMul(x, w)", "float[n,2,4] x, float[4] w", "", Rows(0)),
    "integer product": (
        "y = MatMulInteger(x, w, z)",
        "uint8[n,4] x, uint8[4,3] w, uint8[n] z",
        "int32[n,3] y",
        Rows(0),
    ),
    "gemm": ("y = Gemm<transB=1>(x, w, b)", "float[n,4] x, float[5,4] w, float[5] b", "", Rows(0)),
    "gemm, a transposed": ("y = Gemm<transA=1>(x, w)", "float[4,n] x, float[4,5] w", "", Rows(0)),
    "convolution": (
        "y = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, w)",
        "float[n,2,5,6] x, float[3,2,3,3] w",
        "",
        Rows(0),
    ),
    "pool": ("y = MaxPool<kernel_shape=[2,2]>(x)", "float[n,2,5,6] x", "", Rows(0)),
    "softmax": ("y = Softmax<axis=1>(x)", "float[n,4] x", "", Rows(0)),
    "mean of another axis": ("y = ReduceMean<keepdims=0>(x, a)", "float[4,n] x", "", Rows(0)),
    "transpose": ("y = Transpose<perm=[1,2,0]>(x)", "float[n,2,3] x", "", Rows(2)),
    "merge": ("y = Reshape(x, s)", "float[n,2,3] x", "", Rows(0, 1, 2)),
    "merge after transpose": (
        "t = Transpose<perm=[1,0,2]>(x) y = Reshape(t, s)",
        "float[n,2,3] x",
        "",
        Rows(0, 2, 1),
    ),
    "twice over": ("y = Concat<axis=0>(x, x)", "float[n,2] x", "", Rows(0, 2)),
    "halves of twice over": (
        "t = Concat<axis=0>(x, x) y, z = Split<num_outputs=2>(t)",
        "float[n,2] x",
        "float[n,2] y",
        Rows(0),
    ),
    "join of other axes": ("y = Concat<axis=1>(x, x)", "float[n,2] x", "", Rows(0)),
    "embedding": ("y = Gather(w, x)", "int64[n,3] x, float[9,4] w", "", Rows(0)),
    "pick of another axis": ("y = Gather<axis=1>(x, i)", "float[n,4] x, int64[2] i", "", Rows(0)),
    "pick by element": (
        "y = GatherElements<axis=1>(x, i)",
        "float[n,4] x, int64[n,2] i",
        "",
        Rows(0),
    ),
    "expansion to the extent": (
        "s = Shape<end=1>(x) o = Constant<value_ints=[4]>() t = Concat<axis=0>(s, o) "
        "e = Expand(w, t) y = Add(x, e)",
        "float[n,4] x, float[1,4] w",
        "",
        Rows(0),
    ),
    "top": (
        "k = Constant<value_ints=[2]>() y, i = TopK<axis=1>(x, k)",
        "float[n,4] x",
        "",
        Rows(0),
    ),
    "dequantised": (
        "y = DequantizeLinear<axis=1>(x, s)",
        "int8[n,4] x, float[4] s",
        "",
        Rows(0),
    ),
    "layer normalisation": (
        "y = LayerNormalization<axis=-1>(x, w)",
        "float[n,2,4] x, float[4] w",
        "",
        Rows(0),
    ),
    "recurrent": (
        "y, h = GRU<hidden_size=2>(x, w, r)",
        "float[5,n,3] x, float[1,6,3] w, float[1,6,2] r",
        "float[5,1,n,2] y, float[1,n,2] h",
        Rows(2),
    ),
    "attention": (
        "y = Attention(x, x, x, m)",
        "float[n,2,3,4] x, bool[n,1,3,3] m",
        "",
        Rows(0),
    ),
    "lstm of states": (
        'y, h, c = LSTM<hidden_size=2,direction="reverse">(x, w, r, , l, i, i)',
        "float[5,n,3] x, float[1,8,3] w, float[1,8,2] r, int32[n] l, float[1,n,2] i",
        "float[5,1,n,2] y, float[1,n,2] h",
        Rows(2),
    ),
    "scatter by element": (
        "y = ScatterElements<axis=1>(x, i, u)",
        "float[n,4] x, int64[n,1] i, float[n,1] u",
        "",
        Rows(0),
    ),
    "scatter within slices": (
        "t = Transpose(x) y = ScatterND(t, i, u)",
        "float[n,4] x, int64[1,1] i, float[1,n] u",
        "",
        Rows(1),
    ),
    "gather within slices": ("y = GatherND(x, i)", "float[4,n] x, int64[3,1] i", "", Rows(1)),
    "gather by batch": (
        "y = GatherND<batch_dims=1>(x, i)",
        "float[n,4,2] x, int64[n,3,1] i",
        "",
        Rows(0),
    ),
    "gather by a row of indices": ("y = GatherND(w, x)", "int64[n,2] x, float[3,4] w", "", Rows(0)),
    "gather across another axis": (
        "y = Gather<axis=0>(x, i)",
        "float[3,4,n] x, int64[2,2] i",
        "",
        Rows(3),
    ),
    "resize": (
        'y = Resize<mode="linear">(x, , f)',
        "float[n,1,3,4] x",
        "",
        Rows(0),
    ),
    "batch normalisation": (
        "y = BatchNormalization(x, w, w, w, v)",
        "float[n,4,2] x, float[4] w, float[4] v",
        "",
        Rows(0),
    ),
    "batch normalisation of places": (
        "y = BatchNormalization(x, w, w, w, v)",
        "float[2,4,n] x, float[4] w, float[4] v",
        "",
        Rows(2),
    ),
    "instance normalisation": (
        "y = InstanceNormalization(x, w, w)",
        "float[n,4,3] x, float[4] w",
        "",
        Rows(0),
    ),
    "group normalisation": (
        "y = GroupNormalization<num_groups=2>(x, w, w)",
        "float[n,4,3] x, float[4] w",
        "",
        Rows(0),
    ),
    "transposed convolution": (
        "y = ConvTranspose(x, w)",
        "float[n,2,5] x, float[2,3,3] w",
        "",
        Rows(0),
    ),
    "integer convolution": (
        "y = ConvInteger(x, w)",
        "uint8[n,2,5] x, int8[3,2,3] w",
        "int32[n,3,3] y",
        Rows(0),
    ),
    "largest": ("y = ArgMax<axis=1,keepdims=0>(x)", "float[2,4,n] x", "int64[2,n] y", Rows(1)),
    "running sum": (
        "a = Constant<value_int=1>() y = CumSum(x, a)",
        "float[n,4] x",
        "",
        Rows(0),
    ),
    "scales of blocks": (
        "y = DequantizeLinear<axis=1,block_size=2>(x, s)",
        "int8[n,4] x, float[n,2] s",
        "",
        Rows(0),
    ),
    "scales of rows": (
        "y = DequantizeLinear<axis=0>(x, s)",
        "int8[n,4] x, float[n] s",
        "",
        Rows(0),
    ),
    "repeated": (
        "r = Constant<value_ints=[3, 2]>() y = Tile(x, r)",
        "float[n,4] x",
        "",
        Rows(0, 3),
    ),
    "padded beside": (
        "p = Constant<value_ints=[0,1,0,2]>() y = Pad(x, p)",
        "float[n,4] x",
        "",
        Rows(0),
    ),
    "every second beside": (
        "a = Constant<value_ints=[-1]>() e = Constant<value_ints=[-9]>() "
        "t = Constant<value_ints=[-2]>() o = Constant<value_ints=[1]>() y = Slice(x, a, e, o, t)",
        "float[n,4] x",
        "",
        Rows(0),
    ),
    "scaled product by columns": (
        "y = Gemm(w, x, b)",
        "float[3,4] w, float[4,n] x, float[n] b",
        "",
        Rows(1),
    ),
    "no rows": ("z = Neg(x) y = Neg(w)", "float[n,4] x, float[2,4] w", "", None),
}
_ADDED = {
    "mean of another axis": "int64[1] a = {0}",
    "merge": "int64[2] s = {-1, 3}",
    "resize": "float[4] f = {1, 1, 2, 2}",
    "merge after transpose": "int64[2] s = {-1, 3}",
}


def model_of(body, inputs, outputs, added=""):
    model = parsed(body, inputs, outputs or "float[a] y")
    if not outputs:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    if added:
        holder = onnx.parser.parse_graph(f"h () => () <{added}> {{}}")
        model.graph.initializer.extend(holder.initializer)
    return model


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("passes", [PASSES[:2], PASSES], ids=["plain", "optimised"])
def test_rows_are_followed(name, passes):
    body, inputs, outputs, wanted = POSITIVE[name]
    model = model_of(body, inputs, outputs, _ADDED.get(name, ""))
    if "Attention" in body:
        model.opset_import[0].version = 23
    graphs = graphs_of(model, (6, 11), passes)
    found = independent_rows(graphs, axes_of(model))
    assert found[0] == wanted
    check_rows(graphs, axes_of(model), found)


def check_rows(graphs, axes, found):
    """Holds what was proven to a run on all rows and one on some of them, in any order."""
    (few, small), (many, large) = graphs.items()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, many, few)
    feeds = {v.name: whole_numbers(rng, v) for v in large.inputs}
    part = {
        name: np.ascontiguousarray(a.take(chosen, axes[name])) if name in axes else a
        for name, a in feeds.items()
    }
    results, of_part = evaluate(large, feeds), evaluate(small, part)
    for one, other, rows in zip(large.outputs, small.outputs, found, strict=True):
        wanted, got = results[one.name], of_part[other.name]
        if rows is not None:
            split = [*wanted.shape]
            split[rows.axis : rows.axis + 1] = [rows.outer, many, rows.inner]
            wanted = wanted.reshape(split).take(chosen, rows.axis + 1).reshape(got.shape)
        np.testing.assert_array_equal(got, wanted)


def whole_numbers(rng, value):
    """Small numbers of 0 or more, which are indices too; sums of them are exact."""
    return rng.integers(0, 2, value.shape).astype(value.format.dtype)


NEGATIVE = {
    "mean": ("y = ReduceMean<keepdims=1>(x)", "float[n,4] x", "takes the rows on axis 0 together"),
    "softmax": ("y = Softmax<axis=0>(x)", "float[n,4] x", "takes the rows on axis 0 together"),
    "running sum": (
        "a = Constant<value_int=0>() y = CumSum(x, a)",
        "float[n,4] x",
        "takes the rows on axis 0 together",
    ),
    "top": (
        "k = Constant<value_ints=[2]>() y, i = TopK<axis=0>(x, k)",
        "float[n,4] x",
        "takes the rows on axis 0 together",
    ),
    "by the number of rows": (
        "s = Shape<end=1>(x) f = Cast<to=1>(s) y = Div(x, f)",
        "float[n,4] x",
        "changes with the extent",
    ),
    "into features": (
        "s = Constant<value_ints=[2, -1]>() y = Reshape(x, s)",
        "float[n,4] x",
        "merges the rows with what is beside them",
    ),
    "pick": (
        "i = Constant<value_int=0>() y = Gather<axis=0>(x, i)",
        "float[n,4] x",
        "picks rows by their position",
    ),
    "backwards": (
        "a = Constant<value_ints=[-1]>() e = Constant<value_ints=[-1000]>() "
        "z = Constant<value_ints=[0]>() y = Slice(x, a, e, z, a)",
        "float[n,4] x",
        "turns them round",
    ),
    "all but the first": (
        "a = Constant<value_ints=[1]>() e = Constant<value_ints=[1000]>() "
        "z = Constant<value_ints=[0]>() y = Slice(x, a, e, z)",
        "float[n,4] x",
        "picks some of the rows",
    ),
    "across the seam": (
        "t = Concat<axis=0>(x, x) a = Constant<value_ints=[1]>() z = Constant<value_ints=[0]>() "
        "s = Shape<end=1>(x) e = Add(s, a) y = Slice(t, a, e, z)",
        "float[n,4] x",
        "picks some of the rows",
    ),
    "shifted by the extent": (
        "z = Constant<value_ints=[0]>() s = Shape<end=1>(x) m = Neg(s) "
        "p = Concat<axis=0>(z, s, z, m) y = Pad(x, p)",
        "float[n,4] x",
        "its pads changes with the extent",
    ),
    "blocks of rows": (
        "y = DequantizeLinear<axis=0,block_size=1>(x, s)",
        "int8[n,4] x, float[n,4] s",
        "its blocks lie along axis 0",
    ),
    "gemm over rows": ("y = Gemm<transA=1>(x, x)", "float[n,4] x", "sums over the rows"),
    "pairs": (
        "t = Transpose(x) y = MatMul(x, t)",
        "float[n,4] x",
        "pairs rows on axis 0 with rows on axis 1",
    ),
    "sum of rows": ("t = Transpose(x) y = MatMul(t, x)", "float[n,4] x", "sums over the rows"),
    "channels": (
        "y = Conv(x, w)",
        "float[2,3,n] x, float[4,3,1] w",
        "takes the rows on axis 2 together",
    ),
    "positions": (
        "s = Shape<end=1>(x) s0 = Squeeze(s) a = Constant<value_int=0>() "
        "b = Constant<value_int=1>() r = Range(a, s0, b) "
        "f = Cast<to=1>(r) u = Unsqueeze(f, o) y = Add(x, u)",
        "float[n,4] x",
        "differs from row to row",
    ),
    "steps in time": (
        "y = LSTM<hidden_size=2>(x, w, r)",
        "float[n,3,3] x, float[1,8,3] w, float[1,8,2] r",
        "its steps in time",
    ),
    "attends": (
        "y = Attention(x, x, x)",
        "float[1,2,n,4] x",
        "lets rows attend to each other",
    ),
    "padding": (
        "p = Constant<value_ints=[1,0,0,0]>() y = Pad(x, p)",
        "float[n,4] x",
        "adds or removes rows",
    ),
    "non-zero": ("y = NonZero(x)", "float[n,4] x", "depends on the data of all rows"),
    "positions in a pool": (
        "y, i = MaxPool<kernel_shape=[2]>(x)",
        "float[n,2,6] x",
        "count positions over all rows",
    ),
    "two orders": (
        "s = Constant<value_ints=[-1]>() a = Reshape(x, s) t = Transpose(x) b = Reshape(t, s) "
        "y = Add(a, b)",
        "float[n,4] x",
        "rows in different orders",
    ),
    "a mask of pairs": (
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, s) y = Expand(x, t)",
        "float[n,1] x",
        "does not scale with the extent",
    ),
    "scale of the whole": (
        "y, s, z = DynamicQuantizeLinear(x)",
        "float[n,4] x",
        "takes the rows on axis 0 together",
    ),
    "branch on the extent": (
        "s = Shape<end=1>(x) k = Constant<value_ints=[5]>() c = Less(s, k) d = Squeeze(c) "
        "y = If(d)<then_branch=t () => (p) {p = Neg(x)}, else_branch=e () => (q) {q = Abs(x)}>",
        "float[n,4] x",
        "another op stands in its place",
    ),
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_what_mixes_rows_is_refused_with_the_reason(name):
    body, inputs, reason = NEGATIVE[name]
    opset = 23 if "Attention" in body else 21
    model = model_of(body, inputs, "", "int64[1] o = {1}" if name == "positions" else "")
    model.opset_import[0].version = opset
    last = next(o for o in ("i", "y") if any(o in node.output for node in model.graph.node))
    if name == "positions in a pool":
        model.graph.output[0].name = last
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    elif name in ("non-zero", "scale of the whole"):
        kind = onnx.TensorProto.INT64 if name == "non-zero" else onnx.TensorProto.UINT8
        model.graph.output[0].type.tensor_type.elem_type = kind
    with pytest.raises(UnsupportedGraph) as caught:
        rows_of(model, extents=(4, 8))
    assert reason in str(caught.value)
    assert "leave the buckets out" in str(caught.value)


def test_an_output_that_broadcasts_at_one_row_is_refused():
    """Squeeze without axes takes the rows' axis away where there is one row."""
    model = model_of("y = Squeeze(x)", "float[n,4] x", "")
    assert rows_of(model, extents=(3, 5)) == (Rows(0),)
    with pytest.raises(UnsupportedGraph, match="does not follow"):
        rows_of(model, extents=(3, 5, 1))


def test_an_input_with_the_dimension_twice_is_refused():
    model = model_of("y = Neg(x)", "float[n,n] x", "")
    with pytest.raises(UnsupportedGraph, match="input 'x'"):
        rows_of(model, extents=(3, 5))


def test_two_extents_are_needed():
    model = model_of("y = Neg(x)", "float[n,4] x", "")
    with pytest.raises(InvalidArgument, match="two extents"):
        rows_of(model, extents=(3, 1))


NUMBERS = (
    "s = Shape<end=1>(x) s0 = Squeeze(s) a = Constant<value_int=0>() "
    "b = Constant<value_int=1>() r = Range(a, s0, b) u = Reshape(r, k) "
    "e = Expand(u, w) z = Sub(e, e) "
)


def numbered(body):
    """``e``: for each row two tuples of its number; ``z``: the same of zeros."""
    added = "int64[3] k = {-1, 1, 1}, int64[3] w = {1, 2, 1}"
    return model_of(NUMBERS + body, "float[n,4] x", "", added)


def test_indices_that_number_the_rows_pick_from_each():
    """As exporters write what picks from each row: tuples of the row's number and a position."""
    model = numbered("t = Concat<axis=2>(e, z) y = GatherND(x, t)")
    assert rows_of(model, extents=(3, 4)) == (Rows(0),)


@pytest.mark.parametrize(
    "body",
    [
        "t = Concat<axis=2>(e, e) y = GatherND(x, t)",
        "t = Concat<axis=2>(z, e) y = GatherND(x, t)",
        "d = Add(e, e) t = Concat<axis=2>(d, z) y = GatherND(x, t)",
        "t = Concat<axis=2>(e, z) q = Transpose(x) y = GatherND(q, t)",
        "t = Concat<axis=2>(e, z) f = Constant<value_ints=[-1, 2, 2]>() c = Cast<to=7>(x) "
        "q = Reshape(c, f) y = Add(t, q)",
        "t = Concat<axis=2>(e, z) y = Identity(t)",
    ],
)
def test_other_numbers_of_rows_are_refused(body):
    model = numbered(body)
    if "GatherND" not in body:
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedGraph, match=r"differs from row to row|numbers of rows"):
        rows_of(model, extents=(3, 4))


def test_every_op_has_a_rule_or_is_known_to_need_all_rows():
    without = set(TABLE) - set(RULES)
    assert without == {
        *("NonZero", "Compress", "Unique", "NonMaxSuppression"),
        *("SparseLengthsSum", "SparseLengthsSumFused"),
    }
