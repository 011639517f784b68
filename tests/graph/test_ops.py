"""The op table: complete, typed, and strict about what it is given."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.errors import GraphError
from accelsdk.graph.families.movement import slice_range
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import NumericsClass, Required
from accelsdk.graph.ops import TABLE, attribute, infer, lookup, work
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.graph.verify import verify
from tests.graph.strategies import RECIPES, Source, add_node


def t(format, *shape):
    return TensorType(format, shape)


@pytest.mark.parametrize("op", TABLE)
def test_row_is_complete(op):
    row = TABLE[op]
    assert row.name == op
    assert row.help
    assert row.formats
    assert row.operands
    assert row.results
    assert len({a.name for a in row.attributes}) == len(row.attributes)
    assert (row.numerics is NumericsClass.COMPOSITE) == row.is_composite
    for definition in row.attributes:
        if definition.choices and not isinstance(definition.default, Required):
            assert definition.default in definition.choices


def test_every_op_has_a_recipe():
    assert set(RECIPES) == set(TABLE)


@pytest.mark.parametrize("op", TABLE)
@given(data=st.data())
@settings(max_examples=12)
def test_any_node_verifies_and_costs_something(op, data):
    source = Source(data.draw, least=0)
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, results)
    verify(graph)
    cost = work(graph.nodes[-1])
    assert cost.operations >= 0
    assert cost.bytes >= sum(v.type.nbytes for v in results)


@pytest.mark.parametrize("op", [name for name, row in TABLE.items() if row.is_composite])
@given(data=st.data())
@settings(max_examples=12)
def test_decomposition_verifies_and_holds_no_composite(op, data):
    source = Source(data.draw)
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, results)
    lowered = apply(graph, decompositions())
    verify(lowered)
    assert not any(lookup(node).is_composite for node in lowered.nodes)
    assert [v.name for v in lowered.outputs] == [v.name for v in graph.outputs]
    assert [v.type for v in lowered.outputs] == [v.type for v in graph.outputs]
    assert {origin for node in lowered.nodes for origin in node.origin} <= {op, *names(graph)}


def names(graph):
    return [v.name for v in graph.outputs]


X, W = t(f.FLOAT32, 2, 4, 5, 6), t(f.FLOAT32, 6, 2, 3, 3)
WINDOW = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "expected"),
    [
        ("MatMul", [t(f.FLOAT32, 7, 2, 3), t(f.FLOAT32, 3, 4)], {}, (7, 2, 4)),
        ("MatMul", [t(f.FLOAT32, 3), t(f.FLOAT32, 3)], {}, ()),
        ("MatMul", [t(f.FLOAT32, 5, 2, 3), t(f.FLOAT32, 3)], {}, (5, 2)),
        ("Conv", [X, W], {**WINDOW, "group": 2}, (2, 6, 3, 4)),
        ("Conv", [X, W], {**WINDOW, "group": 2, "pads": (1, 1, 1, 1)}, (2, 6, 5, 6)),
        ("Conv", [X, W], {**WINDOW, "group": 2, "strides": (2, 3)}, (2, 6, 2, 2)),
        (
            "ConvTranspose",
            [t(f.FLOAT32, 1, 2, 3), t(f.FLOAT32, 2, 4, 3)],
            {"strides": (2,), "pads": (1, 1), "dilations": (1,), "output_padding": (1,)},
            (1, 4, 6),
        ),
        (
            "MaxPool",
            [t(f.FLOAT32, 1, 1, 5)],
            {
                "kernel_shape": (2,),
                "strides": (2,),
                "pads": (0, 0),
                "dilations": (1,),
                "ceil_mode": 1,
            },
            (1, 1, 3),
        ),
        (
            # The third window would start in the end padding: ONNX leaves it out.
            "AveragePool",
            [t(f.FLOAT32, 1, 1, 4)],
            {
                "kernel_shape": (2,),
                "strides": (3,),
                "pads": (0, 2),
                "dilations": (1,),
                "ceil_mode": 1,
            },
            (1, 1, 2),
        ),
        (
            "Slice",
            [t(f.FLOAT32, 10)],
            {"starts": (-1,), "ends": (-100,), "axes": (0,), "steps": (-3,)},
            (4,),
        ),
        ("ReduceSum", [t(f.FLOAT32, 2, 3, 4)], {"axes": (0, -1), "keepdims": 0}, (3,)),
        ("ReduceSum", [t(f.FLOAT32, 2, 3)], {"axes": ()}, (2, 3)),
        ("Expand", [t(f.FLOAT32, 3, 1)], {"shape": (2, 1, 4)}, (2, 3, 4)),
        ("Gather", [t(f.FLOAT32, 4, 5), t(f.INT64, 2, 3)], {"axis": 1}, (4, 2, 3)),
    ],
)
def test_shapes(op, inputs, attributes, expected):
    assert infer(op, inputs, attributes)[0].shape == expected


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "rule"),
    [
        ("Nothing", [], {}, "unknown-op"),
        ("Add", [t(f.FLOAT32)], {}, "operands"),
        ("Add", [t(f.FLOAT32)] * 3, {}, "operands"),
        ("Add", [t(f.FLOAT32), None], {}, "operands"),
        ("Add", [t(f.FLOAT32), t(f.FLOAT16)], {}, "format"),
        ("Add", [t(f.BOOL), t(f.BOOL)], {}, "format"),
        ("Add", [t(f.E4M3), t(f.E4M3)], {}, "format"),
        ("Add", [t(f.FLOAT32, 2), t(f.FLOAT32, 3)], {}, "broadcast"),
        ("Add", [t(f.FLOAT32), t(f.FLOAT32)], {"axis": 1}, "unknown-attribute"),
        ("Transpose", [t(f.FLOAT32, 2)], {}, "missing-attribute"),
        ("Transpose", [t(f.FLOAT32, 2)], {"perm": [0]}, "attribute-kind"),
        ("Transpose", [t(f.FLOAT32, 2)], {"perm": (0.0,)}, "attribute-kind"),
        ("Transpose", [t(f.FLOAT32, 2)], {"perm": (1,)}, "axis"),
        ("ReduceSum", [t(f.FLOAT32, 2)], {"axes": (0,), "keepdims": 2}, "attribute-kind"),
        ("ReduceSum", [t(f.FLOAT32, 2)], {"axes": (0, -1)}, "axis"),
        ("Cast", [t(f.FLOAT32)], {"to": "float9"}, "attribute-choice"),
        ("BitShift", [t(f.UINT8)] * 2, {"direction": "UP"}, "attribute-choice"),
        ("Mod", [t(f.FLOAT32)] * 2, {}, "attribute"),
        ("MatMul", [t(f.FLOAT32, 2, 3), t(f.FLOAT32, 2, 3)], {}, "shape"),
        ("MatMul", [t(f.FLOAT32), t(f.FLOAT32, 2)], {}, "rank"),
        ("Conv", [X, W], WINDOW, "group"),
        ("Conv", [X, W], {**WINDOW, "group": 2, "strides": (1,)}, "window"),
        ("Conv", [X, W], {**WINDOW, "group": 2, "dilations": (9, 9)}, "window"),
        ("Reshape", [t(f.FLOAT32, 6)], {"shape": (2, -1)}, "shape"),
        ("Split", [t(f.FLOAT32, 6)], {"split": (2, 3)}, "shape"),
        (
            "Requantize",
            [t(f.INT32, 2), t(f.FLOAT32), t(f.INT32)],
            {"to": "int8"},
            "operands",
        ),
        ("Quantize", [t(f.FLOAT32, 2), t(f.FLOAT32, 3)], {"to": "int8", "axis": 0}, "shape"),
        (
            "QuantizeBlock",
            [t(f.FLOAT32, 2)],
            {"to": "mxint8", "block_size": 0},
            "block",
        ),
        (
            "LSTM",
            [t(f.FLOAT32, 1, 1, 1), t(f.FLOAT32, 1, 4, 1), t(f.FLOAT32, 1, 4, 1)],
            {"hidden_size": 1, "activations": ("Tanh",)},
            "activations",
        ),
    ],
)
def test_violation_names_rule_and_node(op, inputs, attributes, rule):
    with pytest.raises(GraphError) as caught:
        infer(op, inputs, attributes, 2 if op == "QuantizeBlock" else 1, node="here")
    assert caught.value.rule == rule
    assert caught.value.node == "here" or rule == "unknown-op"


def test_too_many_results_are_refused():
    with pytest.raises(GraphError) as caught:
        infer("Abs", [t(f.FLOAT32)], {}, 2)
    assert caught.value.rule == "results"


def test_attribute_fills_the_default():
    node = Node("Softmax", (), (), {}, name="s")
    assert attribute(node, "axis") == -1
    with pytest.raises(GraphError, match="unknown-attribute"):
        attribute(node, "axes")


def node(op, inputs, outputs, **attributes):
    given = [Value(f"i{i}", kind) if kind else None for i, kind in enumerate(inputs)]
    made = [Value(f"o{i}", kind) for i, kind in enumerate(outputs)]
    return Node(op, tuple(given), tuple(made), attributes, name=op)


@pytest.mark.parametrize(
    ("made", "operations", "nbytes"),
    [
        # 2*M*N*K operations; A, B and Y in float32.
        (
            node("MatMul", [t(f.FLOAT32, 2, 3), t(f.FLOAT32, 3, 4)], [t(f.FLOAT32, 2, 4)]),
            2 * 2 * 3 * 4,
            4 * (6 + 12 + 8),
        ),
        # Each of 2*6*3*4 results sums 2*3*3 products.
        (
            node("Conv", [X, W], [t(f.FLOAT32, 2, 6, 3, 4)], **WINDOW, group=2),
            2 * 144 * 18,
            4 * (240 + 108 + 144),
        ),
        # Five look-ups of 16 float32, one add each; the table of 1000 rows is not read whole.
        (
            node(
                "SparseLengthsSum",
                [t(f.FLOAT32, 1000, 16), t(f.INT64, 5), t(f.INT32, 2)],
                [t(f.FLOAT32, 2, 16)],
            ),
            5 * 16,
            5 * 64 + 5 * 8 + 2 * 4 + 2 * 64,
        ),
        # 4-bit codes are packed two to a byte.
        (node("Reshape", [t(f.E2M1, 6)], [t(f.E2M1, 2, 3)], shape=(2, 3)), 0, 3 + 3),
    ],
)
def test_work(made, operations, nbytes):
    found = work(made)
    assert (found.operations, found.bytes) == (operations, nbytes)


@pytest.mark.parametrize(
    ("extent", "start", "end", "step", "taken"),
    [
        (3, -5, -7, -1, [0]),  # backwards from before the first item: the first (ONNX Slice-13)
        (1, -2, -2, -2, [0]),
        (3, 5, -9, -2, [2, 0]),
        (3, -2, 9, 1, [1, 2]),
        (3, 2, 2, 1, []),
        (0, -1, -5, -1, []),
    ],
)
def test_slice_clamps_as_onnx_does(extent, start, end, step, taken):
    assert list(slice_range(start, end, step, extent)) == taken
